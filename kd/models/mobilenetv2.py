"""MobileNetV2: inverted residuals, whose convolutions 3x3 are of one channel each."""

from __future__ import annotations

from typing import Literal, get_args

import flax.linen as nn
import jax

from kd.core.types import Model
from kd.errors import KdError, unknown
from kd.models.conv import Conv, Stage, images, pooled
from kd.models.dense import Dense
from kd.models.linen import linen
from kd.models.made import named
from kd.models.norm import BatchNorm
from kd.placement.mesh import over_batch

Form = Literal["cifar", "imagenet"]

STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Expansion, channels, blocks and stride of each stage: table 2 of the paper."""
_STEM, _LAST = 32, 1280


class Inverted(nn.Module):
    """Convolutions 1x1 to `expansion` times the channels, 3x3 channel by channel, 1x1 back; then
    ``x +`` that, where the shape stays.

    There is no ReLU after the last, and no first one where `expansion` is 1. Shapes:
    ``[b h w c] -> [b h/stride w/stride width]``.
    """

    width: int
    stride: int
    expansion: int
    train: bool

    @nn.compact
    def __call__(self, x: jax.Array, weight: jax.Array | None = None) -> jax.Array:
        y, wide = x, x.shape[-1] * self.expansion
        if self.expansion != 1:
            y = Conv(wide, 1, name="expand")(y)
            y = nn.relu6(BatchNorm(self.train, name="expand_norm")(y, weight))
        y = Conv(wide, stride=self.stride, groups=wide, name="depthwise")(y)
        y = nn.relu6(BatchNorm(self.train, name="depthwise_norm")(y, weight))
        y = Conv(self.width, 1, name="project")(y)
        y = BatchNorm(self.train, name="project_norm")(y, weight)
        return x + y if y.shape == x.shape else y


class MobileNetV2(nn.Module):
    """A convolution, seven stages of blocks, a convolution 1x1, the mean over pixels, one linear
    head.

    Shapes: ``[b h w]`` or ``[b h w c] -> [b v]``. Modules: ``stem``, ``stem_norm``,
    ``stages_0/blocks_0/expand``, ``expand_norm``, ``depthwise``, ``depthwise_norm``, ``project``,
    ``project_norm``, ..., ``last``, ``last_norm``, ``head``.
    """

    classes: int
    width: float
    form: Form
    dropout: float
    remat: bool

    @nn.compact
    def __call__(
        self, inputs: jax.Array, train: bool = False, weight: jax.Array | None = None
    ) -> jax.Array:
        small = self.form == "cifar"
        x = images(inputs, 16 if small else 32, "a mobilenetv2")
        x = over_batch(Conv(round(_STEM * self.width), stride=2, name="stem")(x))
        x = nn.relu6(BatchNorm(train, name="stem_norm")(x, weight))
        for i, (expansion, channels, blocks, stride) in enumerate(STAGES):
            width = round(channels * self.width)
            stride = 1 if small and i == 1 else stride
            options = {"width": width, "expansion": expansion, "train": train}
            x = Stage(Inverted, blocks, stride, self.remat, options, name=f"stages_{i}")(x, weight)
        last = round(_LAST * max(self.width, 1))
        x = Conv(last, 1, name="last")(x)
        x = nn.relu6(BatchNorm(train, name="last_norm")(x, weight))
        x = nn.Dropout(self.dropout, deterministic=not train)(pooled(x))
        return Dense(self.classes, name="head")(x)


@named
def mobilenetv2(
    classes: int,
    width: float = 1.0,
    form: Form = "cifar",
    *,
    dropout: float = 0.0,
    remat: bool = False,
) -> Model:
    """MobileNetV2 for small images (CIFAR: an image is halved four times) or large ones (ImageNet:
    five times).

    `width` multiplies the channels, but the last 1280 where it is below 1; 0.5 is the student of
    the CIFAR benchmark of distillation. `dropout` is a probability, before the head. With `remat` a
    block's inner activations are computed anew in the backward pass. Computes in the type that
    parameters and inputs have, with statistics in float32.

    Raises:
      KdError: an unknown form, a width that leaves no channel, a dropout outside [0, 1); when it is
        applied, images of fewer than 16 pixels (CIFAR) or 32 (ImageNet).

    Source: Sandler et al. (2018), "MobileNetV2: inverted residuals and linear bottlenecks"; Tian,
    Krishnan & Isola (2020), "Contrastive representation distillation", for the strides of the small
    form.
    """
    if form not in get_args(Form):
        raise unknown("mobilenetv2 form", str(form), get_args(Form))
    if classes < 1 or round(width * STAGES[0][1]) < 1:
        raise KdError(
            "a mobilenetv2 needs one class and one channel or more everywhere, got "
            f"{classes} classes and a width of {width}"
        )
    if not 0 <= dropout < 1:
        raise KdError(f"dropout must lie in [0, 1), got {dropout}")
    return linen(MobileNetV2(classes, width, form, dropout, remat), mixed=True)
