"""kd: knowledge distillation in JAX and Flax."""
