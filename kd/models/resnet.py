"""Residual networks: of 3 stages for small images (CIFAR) and of 4 for large ones (ImageNet)."""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from kd.core.types import Model
from kd.errors import KdError, unknown
from kd.models.conv import Conv, Stage, images, pooled
from kd.models.dense import Dense
from kd.models.linen import linen
from kd.models.made import named
from kd.models.norm import BatchNorm
from kd.placement.mesh import over_batch

FORMS = ("cifar", "imagenet")
SHORTCUTS = ("A", "B")

_AROUND: Any = ((1, 1), (1, 1))  # Flax's signature knows names of paddings alone
BEFORE_RELU = "before_relu"
"""What a block sows: its answer before the last ReLU, as a tap ``stages_0/blocks_0/before_relu``.
"""
POOLED = "pooled"
"""What the network sows: the mean over pixels that its head reads, as a tap ``pooled``."""


@dataclasses.dataclass(frozen=True)
class Size:
    """Blocks and channels of each stage, channels of the first layer, and the kind of blocks."""

    blocks: tuple[int, ...]
    widths: tuple[int, ...]
    stem: int
    bottleneck: bool = False


LARGE = {
    18: Size((2, 2, 2, 2), (64, 128, 256, 512), 64),
    34: Size((3, 4, 6, 3), (64, 128, 256, 512), 64),
    50: Size((3, 4, 6, 3), (64, 128, 256, 512), 64, bottleneck=True),
}
"""The networks for ImageNet by their depth."""


class Basic(nn.Module):
    """``relu(shortcut(x) + norm(conv(relu(norm(conv(x))))))``, both convolutions 3x3.

    Shapes: ``[b h w c] -> [b h/stride w/stride width]``.
    """

    width: int
    stride: int
    shortcut: str
    train: bool

    @nn.compact
    def __call__(self, x: jax.Array, weight: jax.Array | None = None) -> jax.Array:
        y = Conv(self.width, stride=self.stride, name="conv1")(x)
        y = nn.relu(BatchNorm(self.train, name="norm1")(y, weight))
        y = Conv(self.width, name="conv2")(y)
        y = BatchNorm(self.train, name="norm2")(y, weight)
        y += _shortcut(self, x, self.width, weight)
        self.sow("intermediates", BEFORE_RELU, y)
        return nn.relu(y)


class Bottleneck(nn.Module):
    """Convolutions 1x1, 3x3, 1x1, the last of four times the width; the stride is in the second
    ("v1.5"). Shapes: ``[b h w c] -> [b h/stride w/stride 4width]``.
    """

    width: int
    stride: int
    shortcut: str
    train: bool

    @nn.compact
    def __call__(self, x: jax.Array, weight: jax.Array | None = None) -> jax.Array:
        wide = 4 * self.width
        y = Conv(self.width, 1, name="conv1")(x)
        y = nn.relu(BatchNorm(self.train, name="norm1")(y, weight))
        y = Conv(self.width, stride=self.stride, name="conv2")(y)
        y = nn.relu(BatchNorm(self.train, name="norm2")(y, weight))
        y = Conv(wide, 1, name="conv3")(y)
        y = BatchNorm(self.train, name="norm3")(y, weight)
        y += _shortcut(self, x, wide, weight)
        self.sow("intermediates", BEFORE_RELU, y)
        return nn.relu(y)


def _shortcut(
    block: Basic | Bottleneck, x: jax.Array, width: int, weight: jax.Array | None
) -> jax.Array:
    """`x` itself where its shape stays; else every pixel that the stride leaves, with channels of
    zeros on both sides (A), or a convolution 1x1 with normalisation (B).
    """
    more = width - x.shape[-1]
    if block.stride == 1 and more == 0:
        return x
    if block.shortcut == "B":
        x = Conv(width, 1, block.stride, name="shortcut")(x)
        return BatchNorm(block.train, name="shortcut_norm")(x, weight)
    sides = (more // 2, more - more // 2)
    return jnp.pad(x[:, :: block.stride, :: block.stride], ((0, 0), (0, 0), (0, 0), sides))


class ResNet(nn.Module):
    """A convolution, stages of blocks, the mean over pixels, one linear head.

    Shapes: ``[b h w]`` or ``[b h w c] -> [b v]``. Modules: ``stem``, ``stem_norm``,
    ``stages_0/blocks_0/conv1``, ``norm1``, ..., ``shortcut``, ``shortcut_norm``, ``head``.
    """

    classes: int
    size: Size
    form: str
    shortcut: str
    remat: bool

    @nn.compact
    def __call__(
        self, inputs: jax.Array, train: bool = False, weight: jax.Array | None = None
    ) -> jax.Array:
        large = self.form == "imagenet"
        x = images(inputs, 32 if large else 4, "a resnet")
        pixels, stride = (7, 2) if large else (3, 1)
        x = over_batch(Conv(self.size.stem, pixels, stride, name="stem")(x))
        x = nn.relu(BatchNorm(train, name="stem_norm")(x, weight))
        if large:
            x = nn.max_pool(x, (3, 3), (2, 2), _AROUND)
        kind = Bottleneck if self.size.bottleneck else Basic
        for i, (blocks, width) in enumerate(zip(self.size.blocks, self.size.widths, strict=True)):
            options = {"width": width, "shortcut": self.shortcut, "train": train}
            stride = 2 if i else 1
            x = Stage(kind, blocks, stride, self.remat, options, name=f"stages_{i}")(x, weight)
        x = pooled(x)
        self.sow("intermediates", POOLED, x)
        return Dense(self.classes, name="head")(x)


@named
def resnet(
    classes: int,
    depth: int = 20,
    form: str = "cifar",
    *,
    width: float = 1.0,
    stem: int | None = None,
    shortcut: str | None = None,
    remat: bool = False,
) -> Model:
    """Residual network for small images (CIFAR: 3 stages of 16, 32 and 64 channels, a depth of
    6n + 2) or large ones (ImageNet: 18, 34, 50).

    `width` multiplies the channels of all stages; ``depth=8, width=4`` is the ResNet-8x4 of the
    literature. `stem` are the channels of the first layer: by default 64 of a large network, and of
    a small one 16, or 32 from twice the width on. Where a block changes the shape, its `shortcut`
    is every second pixel with channels of zeros on both sides (A, as small networks have by
    default) or a convolution 1x1 with batch normalisation (B, as large ones have). ResNet-50 has
    its strides in the convolutions 3x3 ("v1.5"). With `remat` a block's inner activations are
    computed anew in the backward pass. Computes in the type that parameters and inputs have, with
    statistics in float32.

    Raises:
      KdError: a depth that there is not, an unknown form or shortcut, sizes of less than one
        channel; when it is applied, images of fewer than 4 pixels (CIFAR) or 32 (ImageNet).

    Source: He et al. (2016), "Deep residual learning for image recognition", sections 3.3, 4.1 and
    4.2; Tian, Krishnan & Isola (2020), "Contrastive representation distillation", for the widths of
    8x4 and 32x4.
    """
    for what, name, known in (("form", form, FORMS), ("shortcut", shortcut, SHORTCUTS)):
        if name is not None and name not in known:
            raise unknown(f"resnet {what}", name, known)
    size = _sized(_large(depth) if form == "imagenet" else _small(depth), width, form)
    size = size if stem is None else dataclasses.replace(size, stem=stem)
    if min(classes, size.stem, *size.widths) < 1:
        raise KdError(
            f"a resnet needs one class and one channel or more everywhere, got {classes} classes, "
            f"a stem of {size.stem} and widths {size.widths}"
        )
    kind: str = shortcut or ("B" if form == "imagenet" else "A")
    if kind == "A" and size.stem > size.widths[0]:
        raise KdError(
            f"a shortcut A adds channels and takes none away: a stem of {size.stem} needs a first "
            f"stage as wide, not {size.widths[0]}; lower stem, or take shortcut='B'"
        )
    return linen(ResNet(classes, size, form, kind, remat), mixed=True)


def _small(depth: int) -> Size:
    if depth < 8 or (depth - 2) % 6:
        below = max(8, depth - (depth - 2) % 6)
        raise KdError(
            f"a resnet for small images has a depth of 6n + 2, got {depth}; take {below} or "
            f"{below + 6}, or form='imagenet' with one of {', '.join(map(str, LARGE))}"
        )
    return Size(((depth - 2) // 6,) * 3, (16, 32, 64), 16)


def _large(depth: int) -> Size:
    if depth not in LARGE:
        raise unknown("depth of a resnet for ImageNet", str(depth), [str(known) for known in LARGE])
    return LARGE[depth]


def _sized(size: Size, width: float, form: str) -> Size:
    """`size` with its channels times `width`."""
    widths = tuple(round(channels * width) for channels in size.widths)
    if form == "imagenet":
        return dataclasses.replace(size, widths=widths)
    return dataclasses.replace(size, widths=widths, stem=min(widths[0], 2 * size.stem))
