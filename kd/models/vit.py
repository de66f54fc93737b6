"""Vision Transformer: teacher and student of distillation on images."""

from __future__ import annotations

import dataclasses
import functools
import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kd.core.types import Model
from kd.errors import KdError, unknown
from kd.models.attention import attend
from kd.models.dense import Dense, by_rows
from kd.models.linen import linen
from kd.models.made import named
from kd.placement.mesh import over_batch


@dataclasses.dataclass(frozen=True)
class Size:
    """Width of a token, number of blocks, width of a block's hidden layer, attention heads."""

    width: int
    depth: int
    mlp: int
    heads: int


SIZES = {
    "Ti": Size(192, 12, 768, 3),
    "S": Size(384, 12, 1536, 6),
    "B": Size(768, 12, 3072, 12),
    "L": Size(1024, 24, 4096, 16),
    "H": Size(1280, 32, 5120, 16),
    "g": Size(1408, 40, 6144, 16),
}
_IN_A_ROW = 12  # blocks that are compiled one after another: faster, and compiled in seconds still
_dense = functools.partial(Dense, kernel_init=nn.initializers.xavier_uniform())
# Its inside is computed anew in the backward pass, behind a barrier, or the compiler would keep it
# after all: on a CPU a hidden layer takes a sixth less time so.
_gelu = jax.checkpoint(jax.nn.gelu)


def _norm(x: jax.Array, name: str) -> jax.Array:
    """Sums are float32 whatever the type of `x` is, and the type stays."""
    return nn.LayerNorm(epsilon=1e-6, dtype=x.dtype, name=name)(x)


def patches(images: Float[Array, "b h w c"], size: int) -> Float[Array, "b l p"]:
    """Images cut into squares of `size` pixels, row by row, each a flat vector.

    Shapes: ``l = (h / size)(w / size)`` and ``p = size² c``.

    Raises:
      KdError: a height or a width that `size` does not divide.
    """
    b, h, w, c = images.shape
    if h % size or w % size or not h or not w:
        raise KdError(
            f"images of {h}x{w} pixels cannot be cut into patches of {size}x{size}; choose a "
            "patch size that divides "
            f"{h} and {w}, or another data.image_size"
        )
    grid = images.reshape(b, h // size, size, w // size, size, c)
    return grid.transpose(0, 1, 3, 2, 4, 5).reshape(b, (h // size) * (w // size), size * size * c)


def positions(rows: int, columns: int, width: int) -> np.ndarray:
    """Fixed 2D sine and cosine position of every patch: ``sin x w, cos x w, sin y w, cos y w``.

    The frequencies are ``w_i = 10000^(-i / (width/4 - 1))``. Shape: ``[rows * columns, width]``,
    float32.

    Source: Beyer, Zhai & Kolesnikov (2022), "Better plain ViT baselines for ImageNet-1k".
    """
    y, x = np.mgrid[:rows, :columns].reshape(2, -1, 1)
    frequency = 10000.0 ** -np.linspace(0, 1, width // 4)
    angles = x * frequency, y * frequency
    return np.concatenate([f(angle) for angle in angles for f in (np.sin, np.cos)], axis=1).astype(
        np.float32
    )


class Attention(nn.Module):
    """Every token looks at every token. Shapes: ``[b l d] -> [b l d]``."""

    heads: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        width = x.shape[-1]

        def project(name: str) -> jax.Array:
            return _dense(width, name=name)(x).reshape(
                *x.shape[:-1], self.heads, width // self.heads
            )

        seen = attend(project("query"), project("key"), project("value"))
        return _dense(width, name="out")(seen.reshape(x.shape))


class MLP(nn.Module):
    """Two layers with a GELU between, token by token. Shapes: ``[b l d] -> [b l d]``."""

    hidden: int
    dropout: float

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        hidden = by_rows(_gelu, _dense(self.hidden, name="up")(x))
        hidden = nn.Dropout(self.dropout, deterministic=not train)(hidden)
        return _dense(x.shape[-1], name="down")(hidden)


class Block(nn.Module):
    """A pre-norm block: ``x += attention(norm(x)); x += mlp(norm(x))``. Shapes:
    ``[b l d] -> [b l d]``.

    It answers (x, None), as a body of `nn.scan` does.
    """

    size: Size
    dropout: float
    train: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, None]:
        drop = nn.Dropout(self.dropout, deterministic=not self.train)
        x = over_batch(x)
        x += drop(Attention(self.size.heads, name="attention")(_norm(x, "attention_norm")))
        x = over_batch(x)
        x += drop(MLP(self.size.mlp, self.dropout, name="mlp")(_norm(x, "mlp_norm"), self.train))
        return over_batch(x), None


class ViT(nn.Module):
    """Patches, positions, blocks, mean over tokens, one linear head. Shapes: ``[b h w]`` or
    ``[b h w c] -> [b v]``.

    The blocks are one compiled block that a scan repeats: its parameters have a leading axis, one
    entry per block.
    """

    classes: int
    size: Size
    patch: int
    dropout: float
    remat: bool
    unroll: int

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool = False) -> jax.Array:
        if inputs.ndim not in (3, 4):
            raise KdError(
                f"a vit needs images [b h w] or [b h w c], got inputs of shape {inputs.shape}"
            )
        images = inputs if inputs.ndim == 4 else inputs[..., None]
        x = Dense(self.size.width, name="patches")(patches(images, self.patch))
        place = positions(
            images.shape[1] // self.patch, images.shape[2] // self.patch, self.size.width
        )
        x = nn.Dropout(self.dropout, deterministic=not train)(x + jnp.asarray(place, x.dtype)[None])
        x, _ = self._blocks(train)(x)
        x = _norm(x, "norm").mean(axis=1)
        return Dense(self.classes, name="head")(x)

    def _blocks(self, train: bool) -> nn.Module:
        # Within a scan nothing can be merged across the barrier anyway, so CSE needs no prevention.
        block: Any = nn.remat(Block, prevent_cse=False) if self.remat else Block
        scanned = nn.scan(
            block,
            variable_axes={"params": 0, "intermediates": 0},
            split_rngs={"params": True, "dropout": True},
            length=self.size.depth,
            unroll=self.unroll,
        )
        return scanned(self.size, self.dropout, train, name="blocks")


@named
def vit(
    classes: int,
    variant: str = "S/16",
    *,
    width: int | None = None,
    depth: int | None = None,
    mlp: int | None = None,
    heads: int | None = None,
    patch: int | None = None,
    dropout: float = 0.0,
    remat: bool = False,
    unroll: int | None = None,
) -> Model:
    """Vision Transformer on patches of an image: sizes Ti, S, B, L, H and g, each with any patch
    size, as in ``S/16``.

    Pre-norm blocks, fixed 2D sine-cosine positions, no class token: the head reads the mean over
    tokens. Width, depth, mlp (a block's hidden layer; 4 width where only the width is given), heads
    and patch (pixels) replace those of `variant`. `dropout` is a probability, after the positions
    and in both halves of every block. With `remat` a block's inner activations are computed anew in
    the backward pass. `unroll` blocks are compiled in a row within the loop over blocks: by default
    all of them where there are 12 or fewer and nothing is computed anew, else one. Computes in the
    type that parameters and inputs have, with softmax and norms in float32.

    Raises:
      KdError: an unknown variant (nearest shown), sizes below 1, heads that do not divide the
        width, a width that positions cannot fill, a dropout outside [0, 1); when it is applied,
        images that the patch does not divide.

    Source: Dosovitskiy et al. (2021), "An image is worth 16x16 words"; Beyer, Zhai & Kolesnikov
    (2022), "Better plain ViT baselines for ImageNet-1k"; Zhai et al. (2022), "Scaling vision
    transformers", for g.
    """
    size, pixels = sized(variant, width, depth, mlp, heads, patch)
    if unroll is None:
        unroll = size.depth if size.depth <= _IN_A_ROW and not remat else 1
    _check(classes, size, pixels, dropout, unroll)
    return linen(ViT(classes, size, pixels, dropout, remat, unroll), mixed=True)


def sized(
    variant: str,
    width: int | None = None,
    depth: int | None = None,
    mlp: int | None = None,
    heads: int | None = None,
    patch: int | None = None,
) -> tuple[Size, int]:
    """The sizes of a ViT by its options, and the pixels of a patch.

    Raises a `KdError` for an unknown variant.
    """
    named, pixels = parse_variant(variant)
    if mlp is None and width is not None:
        mlp = 4 * width
    numbers = {"width": width, "depth": depth, "mlp": mlp, "heads": heads}
    own = {name: number for name, number in numbers.items() if number is not None}
    return dataclasses.replace(named, **own), pixels if patch is None else patch


def parse_variant(variant: str) -> tuple[Size, int]:
    """``"S/16"`` as (size, pixels of a patch).

    Raises a `KdError` for a name that is not there (nearest shown).
    """
    match = re.fullmatch(r"(?P<name>\w+)/(?P<patch>[1-9]\d*)", variant)
    if match is None or match["name"] not in SIZES:
        pixels = match["patch"] if match else "16"
        known = [f"{name}/{pixels}" for name in SIZES]
        raise unknown(
            "vit variant",
            variant,
            [name for name in known if name.lower() == variant.lower()] or known,
        )
    return SIZES[match["name"]], int(match["patch"])


def check_sizes(size: Size, **numbers: int) -> None:
    """Raise a `KdError` for a size, or a number beside, below 1, or heads that do not divide the
    width.
    """
    for name, value in {**dataclasses.asdict(size), **numbers}.items():
        if value < 1:
            raise KdError(f"a vit needs {name} of 1 or more, got {value}")
    if size.width % size.heads:
        raise KdError(
            f"{size.heads} heads do not divide a vit's width of {size.width}; choose one that does"
        )


def _check(classes: int, size: Size, patch: int, dropout: float, unroll: int) -> None:
    check_sizes(size, classes=classes, patch=patch, unroll=unroll)
    if size.width % 4 or size.width < 8:
        raise KdError(
            f"a vit's width must be a multiple of 4, from 8 on, for its positions; got {size.width}"
        )
    if not 0 <= dropout < 1:
        raise KdError(f"dropout must lie in [0, 1), got {dropout}")
