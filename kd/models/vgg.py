"""VGG for small images: convolutions 3x3 in a row, with batch normalisation, and pooling."""

from __future__ import annotations

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from kd.core.types import Model
from kd.errors import KdError, unknown
from kd.models.conv import Conv, Stage, images, pooled
from kd.models.dense import Dense
from kd.models.linen import linen
from kd.models.made import named
from kd.models.norm import BatchNorm

WIDTHS = (64, 128, 256, 512, 512)
BLOCKS = {8: 1, 13: 2}
"""Convolutions of a stage, by the depth of the network."""
_POOLED_TWICE_AS_LARGE = 64  # pixels from which on the fourth stage is pooled too


class Block(nn.Module):
    """``relu(norm(conv(x)))``. Shapes: ``[b h w c] -> [b h/stride w/stride width]``."""

    width: int
    stride: int
    train: bool

    @nn.compact
    def __call__(self, x: jax.Array, weight: jax.Array | None = None) -> jax.Array:
        x = Conv(self.width, stride=self.stride, name="conv")(x)
        return nn.relu(BatchNorm(self.train, name="norm")(x, weight))


class VGG(nn.Module):
    """Five stages of blocks with pooling between, the mean over pixels, one linear head.

    Shapes: ``[b h w]`` or ``[b h w c] -> [b v]``. Modules: ``stages_0/blocks_0/conv``, ``norm``,
    ..., ``head``.
    """

    classes: int
    blocks: int
    widths: tuple[int, ...]
    remat: bool

    @nn.compact
    def __call__(
        self, inputs: jax.Array, train: bool = False, weight: jax.Array | None = None
    ) -> jax.Array:
        x = images(inputs, 8, "a vgg")
        halvings = 4 if min(x.shape[1:3]) >= _POOLED_TWICE_AS_LARGE else 3
        for i, width in enumerate(self.widths):
            options = {"width": width, "train": train}
            x = Stage(Block, self.blocks, 1, self.remat, options, name=f"stages_{i}")(x, weight)
            x = halved(x) if i < halvings else x
        return Dense(self.classes, name="head")(pooled(x))


def halved(x: Float[Array, "b h w c"]) -> Float[Array, "b p q c"]:
    """The largest of every 2x2 pixels; a last odd row or column is left out."""
    b, h, w, c = x.shape
    pairs = x[:, : h // 2 * 2, : w // 2 * 2].reshape(b, h // 2, 2, w // 2, 2, c)
    return pairs.max(axis=(2, 4))


@named
def vgg(classes: int, depth: int = 8, *, width: float = 1.0, remat: bool = False) -> Model:
    """VGG-8 or VGG-13 for small images, as in the CIFAR benchmark of distillation: five stages of
    64, 128, 256, 512 and 512 channels, batch normalisation, one linear head.

    The first three stages are pooled, and of images of 64 pixels or more the fourth. `width`
    multiplies the channels. Convolutions have no bias: it would be subtracted with the mean. With
    `remat` a block's inner activations are computed anew in the backward pass. Computes in the type
    that parameters and inputs have, with statistics in float32.

    Raises:
      KdError: a depth that there is not, sizes of less than one channel; when it is applied, images
        of fewer than 8 pixels.

    Source: Simonyan & Zisserman (2015), "Very deep convolutional networks for large-scale image
    recognition"; Tian, Krishnan & Isola (2020), "Contrastive representation distillation", for the
    form.
    """
    if depth not in BLOCKS:
        raise unknown("depth of a vgg", str(depth), [str(known) for known in BLOCKS])
    widths = tuple(round(channels * width) for channels in WIDTHS)
    if min(classes, *widths) < 1:
        raise KdError(
            "a vgg needs one class and one channel or more everywhere, got "
            f"{classes} classes and widths {widths}"
        )
    return linen(VGG(classes, BLOCKS[depth], widths, remat), mixed=True)
