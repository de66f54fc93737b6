"""Wide residual networks: few layers, many channels, normalisation before each convolution."""

from __future__ import annotations

import flax.linen as nn
import jax

from kd.core.types import Model
from kd.errors import KdError
from kd.models.conv import Conv, Stage, images, pooled
from kd.models.dense import Dense
from kd.models.linen import linen
from kd.models.made import named
from kd.models.norm import BatchNorm
from kd.placement.mesh import over_batch

_STAGES = (16, 32, 64)  # channels where the network is as wide as 1


class Block(nn.Module):
    """``shortcut(x) + conv(dropout(relu(norm(conv(relu(norm(x)))))))``.

    Where the shape changes the shortcut is a convolution 1x1 of ``relu(norm(x))``. Shapes:
    ``[b h w c] -> [b h/stride w/stride width]``.
    """

    width: int
    stride: int
    dropout: float
    train: bool

    @nn.compact
    def __call__(self, x: jax.Array, weight: jax.Array | None = None) -> jax.Array:
        y = nn.relu(BatchNorm(self.train, name="norm1")(x, weight))
        if self.stride != 1 or x.shape[-1] != self.width:
            x = Conv(self.width, 1, self.stride, name="shortcut")(y)
        y = Conv(self.width, stride=self.stride, name="conv1")(y)
        y = nn.relu(BatchNorm(self.train, name="norm2")(y, weight))
        y = nn.Dropout(self.dropout, deterministic=not self.train)(y)
        return x + Conv(self.width, name="conv2")(y)


class WRN(nn.Module):
    """A convolution, three stages of blocks, normalisation, the mean over pixels, one linear head.

    Shapes: ``[b h w]`` or ``[b h w c] -> [b v]``. Modules: ``stem``, ``stages_0/blocks_0/norm1``,
    ``conv1``, ``norm2``, ``conv2``, ``shortcut``, ..., ``norm``, ``head``.
    """

    classes: int
    blocks: int
    widths: tuple[int, ...]
    dropout: float
    remat: bool

    @nn.compact
    def __call__(
        self, inputs: jax.Array, train: bool = False, weight: jax.Array | None = None
    ) -> jax.Array:
        x = over_batch(Conv(_STAGES[0], name="stem")(images(inputs, 4, "a wrn")))
        for i, width in enumerate(self.widths):
            options = {"width": width, "dropout": self.dropout, "train": train}
            stride = 2 if i else 1
            x = Stage(Block, self.blocks, stride, self.remat, options, name=f"stages_{i}")(
                x, weight
            )
        x = nn.relu(BatchNorm(train, name="norm")(x, weight))
        return Dense(self.classes, name="head")(pooled(x))


@named
def wrn(
    classes: int,
    depth: int = 16,
    width: int = 2,
    *,
    dropout: float = 0.0,
    remat: bool = False,
) -> Model:
    """Wide residual network WRN-`depth`-`width` for small images: a depth of 6n + 4, and 16, 32 and
    64 channels times `width`.

    `dropout` is a probability, between the convolutions of a block. With `remat` a block's inner
    activations are computed anew in the backward pass. Computes in the type that parameters and
    inputs have, with statistics in float32.

    Raises:
      KdError: a depth that is not 6n + 4, a width below 1, a dropout outside [0, 1); when it is
        applied, images of fewer than 4 pixels.

    Source: Zagoruyko & Komodakis (2016), "Wide residual networks".
    """
    if depth < 10 or (depth - 4) % 6:
        below = max(10, depth - (depth - 4) % 6)
        raise KdError(f"a wrn has a depth of 6n + 4, got {depth}; take {below} or {below + 6}")
    if min(classes, width) < 1:
        raise KdError(
            f"a wrn needs classes and a width of 1 or more, got {classes} and a width of {width}"
        )
    if not 0 <= dropout < 1:
        raise KdError(f"dropout must lie in [0, 1), got {dropout}")
    widths = tuple(channels * width for channels in _STAGES)
    return linen(WRN(classes, (depth - 4) // 6, widths, dropout, remat), mixed=True)
