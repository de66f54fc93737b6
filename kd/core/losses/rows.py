"""What losses of relations are made of: a batch as rows, and the share of each in a relation."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from kd.core.types import Batch, Outputs
from kd.errors import KdError


def rows(outputs: Outputs, tap: str, batch: Batch) -> Float[Array, "n d"]:
    """A tap of every position as one vector, in float32: ``[*b ...] -> [n d]``.

    Raises:
      KdError: a tap without the positions of the batch.
    """
    values = maps(outputs, tap, batch)
    return values.reshape(len(values), -1)


def maps(outputs: Outputs, tap: str, batch: Batch) -> Float[Array, "n ..."]:
    """A tap with its positions in one axis, in float32: ``[*b ...] -> [n ...]``.

    Raises:
      KdError: a tap without the positions of the batch.
    """
    values, positions = outputs.taps[tap], batch["weight"].shape
    if values.shape[: len(positions)] != positions or values.ndim == len(positions):
        raise KdError(
            f"the inner features '{tap}' are {list(values.shape)} and the positions of the batch "
            f"{list(positions)}: a relation needs a vector or a map of each; name another layer"
        )
    return values.astype(jnp.float32).reshape(-1, *values.shape[len(positions) :])


def weights(batch: Batch) -> Float[Array, " n"]:
    """The weights of the rows: an example of weight 0 takes no part in any relation."""
    return batch["weight"].astype(jnp.float32).reshape(-1)


def products(left: Float[Array, "*n i d"], right: Float[Array, "*n j d"]) -> Float[Array, "*n i j"]:
    """Inner products of the vectors of both, in full float32 on every device."""
    return jnp.einsum("...id,...jd->...ij", left, right, precision="highest")


def lengths(vectors: Float[Array, "*n d"]) -> Float[Array, "*n"]:
    """Euclidean lengths; that of a zero has the gradient zero."""
    squares = jnp.sum(vectors**2, axis=-1)
    return jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1.0)), 0.0)


def unit(vectors: Float[Array, "*n d"]) -> Float[Array, "*n d"]:
    """Vectors of length 1 in the same direction; zeros stay, with a gradient of zero."""
    return over(vectors, lengths(vectors)[..., None])


def over(numerator: Array, denominator: Array) -> Array:
    """The ratio, and the numerator itself where the denominator is 0."""
    return numerator / jnp.where(denominator == 0, 1.0, denominator)


def distinct(weight: Float[Array, " n"]) -> Float[Array, "n n"]:
    """The weight of j beside i in every pair of two examples; an example with itself is no pair."""
    return weight[None, :] * (1.0 - jnp.eye(len(weight), dtype=jnp.float32))


def mean(
    values: Float[Array, "n ..."], others: Float[Array, "n ..."], weight: Float[Array, " n"]
) -> Float[Array, ""]:
    """The mean over tuples: ``sum_i w_i sum_... o_i... x_i... / sum_i w_i sum_... o_i...``.

    `others` weigh the rest of a tuple that begins with i. Without any tuple it is 0.
    """
    inner = tuple(range(1, values.ndim))
    total = jnp.sum(weight * jnp.sum(others, axis=inner))
    return over(jnp.sum(weight * jnp.sum(others * values, axis=inner)), total)


def shares(
    values: Float[Array, "n ..."], others: Float[Array, "n ..."], weight: Float[Array, " n"]
) -> Float[Array, " n"]:
    """The share of each row in `mean`: its weighted mean over the rows is the mean over tuples."""
    inner = tuple(range(1, values.ndim))
    total = jnp.sum(weight * jnp.sum(others, axis=inner))
    return jnp.sum(others * values, axis=inner) * over(jnp.sum(weight), total)


def like(values: Float[Array, " n"], batch: Batch) -> Float[Array, "*b"]:
    """Values of rows by the positions of the batch."""
    return values.reshape(batch["weight"].shape)
