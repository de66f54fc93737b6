"""Vision Transformers that answer by a class token, with learnt positions: the ViT of the paper,
and DeiT with its distillation token.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Literal, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp

from kd.core.types import Model
from kd.errors import KdError, unknown
from kd.models.attention import attend
from kd.models.dense import Dense, affine
from kd.models.linen import linen
from kd.models.made import named
from kd.models.vit import Size, check_sizes, patches, sized
from kd.placement.mesh import over_batch

Distillation = Literal["none", "token", "head"]
"""Whether there is a distillation token, and a head that reads it."""

_drawn = nn.initializers.truncated_normal(0.02)
_dense = functools.partial(Dense, kernel_init=_drawn)


@dataclasses.dataclass(frozen=True)
class Form:
    """What all blocks are told."""

    size: Size
    epsilon: float
    qkv_bias: bool

    def norm(self, x: jax.Array, name: str) -> jax.Array:
        """Layer normalisation: sums are float32 whatever the type of `x` is, and the type stays."""
        layer = nn.LayerNorm(self.epsilon, dtype=x.dtype, use_fast_variance=False, name=name)
        return layer(x)


class Patches(nn.Module):
    """Every patch of an image as a token. Its parameter is ``kernel[size size c width]``, that of a
    convolution in steps of its own size. Shapes: ``[b h w c] -> [b l width]``.
    """

    size: int
    width: int

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        shape = (self.size, self.size, images.shape[-1], self.width)
        kernel = self.param("kernel", _drawn, shape).reshape(-1, self.width)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.width,))
        return affine(patches(images, self.size), kernel, bias)


class Attention(nn.Module):
    """Every token looks at every token. Shapes: ``[b l d] -> [b l d]``."""

    form: Form

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        width, heads = x.shape[-1], self.form.size.heads

        def project(name: str) -> jax.Array:
            projected = _dense(width, use_bias=self.form.qkv_bias, name=name)(x)
            return projected.reshape(*x.shape[:-1], heads, width // heads)

        seen = attend(project("query"), project("key"), project("value"))
        return _dense(width, name="out")(seen.reshape(x.shape))


class Block(nn.Module):
    """A pre-norm block with an exact GELU. Shapes: ``[b l d] -> [b l d]``."""

    form: Form

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        form, width = self.form, x.shape[-1]
        x = over_batch(x + Attention(form, name="attention")(form.norm(x, "attention_norm")))
        hidden = _dense(form.size.mlp, name="up")(form.norm(x, "mlp_norm"))
        hidden = jax.nn.gelu(hidden, approximate=False)
        return over_batch(x + _dense(width, name="down")(hidden))


class TokenViT(nn.Module):
    """Tokens before the patches, positions, blocks, and a head on each token that is read.

    Shapes: ``[b h w]`` or ``[b h w c] -> [b v]``. Modules: ``patches``, ``blocks_0/attention``,
    ``blocks_0/up``, ..., ``norm``, ``head``, ``distillation_head``.
    """

    classes: int
    form: Form
    patch: int
    distillation: Distillation
    remat: bool

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        if inputs.ndim not in (3, 4):
            raise KdError(
                f"a vit needs images [b h w] or [b h w c], got inputs of shape {inputs.shape}"
            )
        images = inputs if inputs.ndim == 4 else inputs[..., None]
        x = Patches(self.patch, self.form.size.width, name="patches")(images)
        x = self._placed(x, images.shape[1:3])
        block: Any = nn.remat(Block) if self.remat else Block
        for i in range(self.form.size.depth):
            x = block(self.form, name=f"blocks_{i}")(x)
        x = self.form.norm(x, "norm")
        answer = Dense(self.classes, name="head")(x[:, 0])
        if self.distillation != "head":
            return answer
        return (answer + Dense(self.classes, name="distillation_head")(x[:, 1])) / 2

    def _placed(self, x: jax.Array, pixels: tuple[int, ...]) -> jax.Array:
        """The patches with the tokens before them, each with its position."""
        width = x.shape[-1]
        names = ["class_token"] + ["distillation_token"] * (self.distillation != "none")
        tokens = [self.param(name, _drawn, (1, 1, width)) for name in names]
        length = len(tokens) + x.shape[1]
        if self.has_variable("params", "positions"):
            _check_positions(self.variables["params"]["positions"], length, pixels)
        place = self.param("positions", _drawn, (1, length, width))
        rows = [jnp.broadcast_to(token, (x.shape[0], 1, width)) for token in tokens]
        whole = jnp.concatenate([*rows, x.astype(place.dtype)], axis=1) + place
        return over_batch(whole.astype(x.dtype))


def _check_positions(learnt: jax.Array, length: int, pixels: tuple[int, ...]) -> None:
    if learnt.shape[1] != length:
        height, width = pixels
        raise KdError(
            f"this vit has learnt {learnt.shape[1]} positions and images of {height}x{width} have "
            f"{length}; show it images of the size that it was trained on (data.image_size, or of "
            "a teacher teacher.image_size)"
        )


@named
def token_vit(
    classes: int,
    variant: str = "S/16",
    *,
    width: int | None = None,
    depth: int | None = None,
    mlp: int | None = None,
    heads: int | None = None,
    patch: int | None = None,
    distillation: Distillation = "none",
    epsilon: float = 1e-12,
    qkv_bias: bool = True,
    remat: bool = False,
) -> Model:
    """Vision Transformer that answers by a class token, with learnt positions, as ViT and DeiT were
    published; sizes as in `vit`.

    Pre-norm blocks with an exact GELU. Its positions are those of the images that it is made for.
    With a `distillation` token ("token") a second one stands beside the class token; with a "head"
    of its own the answer is the mean of both heads' logits. `epsilon` is that of the norms,
    `qkv_bias` says whether queries, keys and values have biases. With `remat` a block's inner
    activations are computed anew in the backward pass. Computes in the type that parameters and
    inputs have, with softmax and norms in float32.

    Raises:
      KdError: an unknown variant (nearest shown) or distillation, sizes below 1, heads that do not
        divide the width, an epsilon below 0; when it is applied, images that the patch does not
        divide, or of another size than the positions are of.

    Source: Dosovitskiy et al. (2021), "An image is worth 16x16 words", section 3.1; Touvron et al.
    (2021), "Training data-efficient image transformers & distillation through attention",
    section 4.
    """
    size, pixels = sized(variant, width, depth, mlp, heads, patch)
    _check(classes, size, pixels, distillation, epsilon)
    form = Form(size, float(epsilon), qkv_bias)
    return linen(TokenViT(classes, form, pixels, distillation, remat), mixed=True)


def _check(
    classes: int, size: Size, patch: int, distillation: Distillation, epsilon: float
) -> None:
    check_sizes(size, classes=classes, patch=patch)
    if distillation not in get_args(Distillation):
        raise unknown("distillation of a vit", str(distillation), get_args(Distillation))
    if not 0 <= epsilon < 1:
        raise KdError(f"epsilon of a vit's norms must lie in [0, 1), got {epsilon}")
