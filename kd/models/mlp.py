"""Multilayer perceptron with dropout: teacher and student of the MNIST experiments."""

from __future__ import annotations

import flax.linen as nn
import jax

from kd.models.linen import linen
from kd.types import Model


class MLP(nn.Module):
    """Fully connected ReLU layers on flattened inputs. Shapes: ``[b ...] -> [b v]``."""

    classes: int
    widths: tuple[int, ...]
    input_dropout: float
    hidden_dropout: float

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool = False) -> jax.Array:
        x = inputs.reshape(inputs.shape[0], -1)
        x = nn.Dropout(self.input_dropout, deterministic=not train)(x)
        for width in self.widths:
            x = nn.relu(nn.Dense(width, kernel_init=nn.initializers.he_normal())(x))
            x = nn.Dropout(self.hidden_dropout, deterministic=not train)(x)
        return nn.Dense(self.classes)(x)


def mlp(
    classes: int, widths: tuple[int, ...] = (800, 800), input_dropout: float = 0.0, hidden_dropout: float = 0.0
) -> Model:
    """Fully connected ReLU network with dropout on inputs and hidden units (probabilities of dropping).

    Source: Hinton, Vinyals & Dean (2015), section 3; Srivastava et al. (2014) for dropout.
    """
    return linen(MLP(classes, widths, input_dropout, hidden_dropout))
