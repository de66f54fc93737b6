"""Multilayer perceptron with dropout: teacher and student of the MNIST experiments."""

from __future__ import annotations

import flax.linen as nn
import jax

from kd.core.types import Model
from kd.errors import KdError
from kd.models.dense import Dense
from kd.models.linen import linen
from kd.models.made import named
from kd.placement.mesh import over_batch


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
            x = over_batch(x)
            x = nn.relu(Dense(width, kernel_init=nn.initializers.he_normal())(x))
            x = nn.Dropout(self.hidden_dropout, deterministic=not train)(x)
        return Dense(self.classes)(x)


@named
def mlp(
    classes: int,
    widths: tuple[int, ...] = (800, 800),
    input_dropout: float = 0.0,
    hidden_dropout: float = 0.0,
) -> Model:
    """Fully connected ReLU network with dropout on inputs and hidden units (probabilities of
    dropping).

    Raises:
      KdError: a width below 1, or a probability outside [0, 1).

    Source: Hinton, Vinyals & Dean (2015), section 3; Srivastava et al. (2014) for dropout.
    """
    if classes < 1 or any(width < 1 for width in widths):
        raise KdError(
            f"an mlp needs widths and classes of 1 or more, got widths {widths} and {classes} "
            "classes"
        )
    if not (0 <= input_dropout < 1 and 0 <= hidden_dropout < 1):
        raise KdError(
            f"dropout must lie in [0, 1), got input {input_dropout} and hidden {hidden_dropout}"
        )
    return linen(MLP(classes, widths, input_dropout, hidden_dropout), mixed=True)
