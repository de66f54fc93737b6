"""Losses that bring a student's layer to a teacher's, feature by feature, through a learnt head.

Each returns one value per position, as those on logits do. Shapes, if not said otherwise: taps
``hidden`` ``[*b *g s]`` of the student and ``[*b *g t]`` of the teacher, ``*g`` a grid of any
number of axes (a map, tokens, none) -> ``[*b]``.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kd.core import rng
from kd.core.losses import maps
from kd.core.types import Batch, Heads, Hparams, Outputs
from kd.errors import KdError

PerPosition = Float[Array, "*b"]


def hidden_mse(
    student: Outputs, teacher: Outputs, batch: Batch, hparams: Hparams, heads: Heads
) -> PerPosition:
    """Squared distance of a hidden layer from the teacher's, after a learnt projection.

    Formula: ``mean_d (W h_s + c - h_t)_d^2`` over all features d of a position, without those of
    padding; W and c are trained with the student and dropped with the run. Shapes: taps ``hidden``
    ``[*b ... s]`` of the student and ``[*b ... t]`` of the teacher, whose axes between must be the
    same -> ``[*b]``.

    Source: Romero et al. (2015), "FitNets", eq. 3, as a mean and without its factor of 1/2.
    """
    del batch, hparams
    projected = maps.through(maps.hidden(student), heads.dropped, maps.ahead(student))
    difference = projected - maps.hidden(teacher)
    return maps.mean_place(student, jnp.mean(difference**2, axis=-1))


def projection(key: jax.Array, student: Outputs, teacher: Outputs, examples: int) -> Heads:
    """First weights of the projection of `hidden_mse`: ``kernel[s t]`` and ``bias[t]``.

    Raises:
      KdError: hidden layers whose axes before the last are not the same.
    """
    del examples
    maps.check_same_grid(student, teacher)
    return Heads(dropped=maps.head(key, _width(student), _width(teacher)))


def hidden_cosine(
    student: Outputs, teacher: Outputs, batch: Batch, hparams: Hparams, heads: Heads
) -> PerPosition:
    """The angle between hidden layers, place by place.

    Formula: ``mean_g (1 - cos(h_s, h_t))`` over the places g of the grid that hold something,
    ``W h_s + c`` in the place of ``h_s`` where the widths differ; W and c are trained and dropped.
    Between 0 and 2.
    Shapes: taps ``hidden`` ``[*b *g s]`` and ``[*b *g t]``, of one grid -> ``[*b]``.

    Source: Sanh et al. (2019), "DistilBERT", section 2, the cosine embedding loss, there of equal
    widths.
    """
    del batch, hparams
    own = maps.hidden(student)
    if heads.dropped:
        own = maps.through(own, heads.dropped, maps.ahead(student))
    own, wanted = maps.unit(own, -1), maps.unit(maps.hidden(teacher), -1)
    return maps.mean_place(student, 1.0 - jnp.sum(own * wanted, axis=-1))


def projection_where_widths_differ(
    key: jax.Array, student: Outputs, teacher: Outputs, examples: int
) -> Heads:
    """What `hidden_cosine` owns: a projection, or nothing where the widths are the same.

    Raises:
      KdError: hidden layers whose axes before the last are not the same.
    """
    maps.check_same_grid(student, teacher)
    if _width(student) == _width(teacher):
        return Heads()
    return projection(key, student, teacher, examples)


def hint(
    student: Outputs, teacher: Outputs, batch: Batch, hparams: Hparams, heads: Heads
) -> PerPosition:
    """Squared distance of the teacher's hint from the student's guided layer, after a regressor.

    Formula: ``1/2 |h_t - r(h_s)|^2`` summed over places and features; r is a convolution without
    padding whose kernel is as much larger than 1 as the student's grid is larger than the
    teacher's, so on one grid a linear map of each place; it is trained and dropped. Shapes: taps
    ``hidden`` ``[*b *g s]`` and ``[*b *g t]`` -> ``[*b]``.

    Source: Romero et al. (2015), "FitNets", eq. 3 and section 2.2.
    """
    del batch, hparams
    ahead = maps.ahead(student)
    regressed = maps.through(maps.hidden(student), heads.dropped, ahead, "VALID")
    difference = regressed - maps.hidden(teacher)
    return 0.5 * jnp.sum(difference**2, axis=maps.inner(student, difference))


def regressor(key: jax.Array, student: Outputs, teacher: Outputs, examples: int) -> Heads:
    """First weights of the regressor of `hint`: ``kernel[*k s t]`` and ``bias[t]``.

    Raises:
      KdError: a student's grid that is smaller than the teacher's, or of other axes.
    """
    del examples
    own, wanted = maps.grid(student), maps.grid(teacher)
    if maps.common_grid(student, teacher) != wanted:
        raise KdError(
            f"the student's layer has a grid of {list(own)} and the teacher's hint one of "
            f"{list(wanted)}: a hint may not be larger than the layer that learns it; name a layer "
            "of the student nearer to its input, or take hidden_mse"
        )
    kernel = tuple(n - m + 1 for n, m in zip(own, wanted, strict=True))
    return Heads(dropped=maps.head(key, _width(student), _width(teacher), kernel))


def simkd(
    student: Outputs, teacher: Outputs, batch: Batch, hparams: Hparams, heads: Heads
) -> PerPosition:
    """Squared distance of the teacher's last features from the student's, through a projector that
    stays with the student: it answers through the projector and the teacher's own classifier.

    Formula: ``|h_t - P(h_s)|^2`` summed over places and features, both at the mean over cells of
    the smaller grid; P is the exported head, see `projected`. Shapes: taps ``hidden`` ``[*b *g s]``
    and ``[*b *g t]``, of grids that may differ -> ``[*b]``.

    Source: Chen et al. (2022), "Knowledge distillation with the reused teacher classifier", eq. 3.
    """
    del batch, hparams
    ahead, size = maps.ahead(student), maps.common_grid(student, teacher)
    own = projected(heads.exported, maps.pooled(maps.hidden(student), ahead, size), ahead)
    difference = own - maps.pooled(maps.hidden(teacher), ahead, size)
    return jnp.sum(difference**2, axis=maps.inner(student, difference))


def projected(projector: dict[str, maps.Head], hidden: Array, ahead: int = 1) -> Array:
    """A student's features in the teacher's space, by the projector that `simkd` exports.

    Formula: ``W_3 r(W_2 * r(W_1 h))``, r the rectifier and W_2 a convolution over 3 places along
    each axis of the grid. Shapes: ``[*b *g s] -> [*b *g t]``, `ahead` the number of positions'
    axes. The mean over the grid, through the teacher's classifier, is the student's answer.
    """
    inside = jax.nn.relu(maps.through(hidden, projector["reduce"], ahead))
    inside = jax.nn.relu(maps.through(inside, projector["mix"], ahead))
    return maps.through(inside, projector["expand"], ahead)


def projector(key: jax.Array, student: Outputs, teacher: Outputs, examples: int) -> Heads:
    """First weights of the projector of `simkd`, half as wide inside as the teacher's features.

    Raises:
      KdError: grids of different numbers of axes.
    """
    del examples
    around = (3,) * len(maps.common_grid(student, teacher))
    middle, target = max(1, _width(teacher) // 2), _width(teacher)
    return Heads(
        exported={
            "reduce": maps.head(rng.named(key, "reduce"), _width(student), middle),
            "mix": maps.head(rng.named(key, "mix"), middle, middle, around),
            "expand": maps.head(rng.named(key, "expand"), middle, target),
        }
    )


def _width(outputs: Outputs) -> int:
    return outputs.taps["hidden"].shape[-1]
