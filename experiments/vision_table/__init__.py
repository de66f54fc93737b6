"""Losses of distillation at equal compute, tuned alike, plain distillation included."""
