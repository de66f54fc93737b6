"""A fixed set of views of every example, so that a teacher's answers to all of them can be kept."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax

from kd.core import rng
from kd.core.types import Batch
from kd.data.views.mixup import chain
from kd.errors import KdError
from kd.placement.mesh import is_whole


def fixed_views(*views: Any, count: Any, seed: Any = 0) -> FixedViews:
    """`count` views of every example, drawn once: what `views` in a row make of it.

    A view is a function of (`seed`, example, number of the view) alone, the same in every run and
    for every member of a population. Which of them a step shows is drawn from the run's key, the
    step and the example, and stands in the batch as ``view[b]``. So a teacher answers for each of
    them once: ``kd.precompute(teacher, data, views=...)``. None among the views is skipped.

    Raises:
      KdError: no view, one that does not look at one example at a time, or a count or seed that is
        no such whole number.
    """
    if not is_whole(count) or count < 1:
        raise KdError(f"data.views must be a whole number of 1 or more, or none, got {count!r}")
    if not is_whole(seed) or not 0 <= seed < 2**31:
        raise KdError(f"the seed of views must be a whole number in [0, 2^31), got {seed!r}")
    kept = tuple(view for view in views if view is not None)
    if not kept:
        raise KdError("a fixed set of views needs a view to draw; e.g. kd.jitter(2) or kd.flip()")
    for view in kept:
        if getattr(view, "identity", None) is None:
            raise KdError(
                f"{view!r:.80} is no view of one example at a time with an identity, as kd.jitter "
                "and kd.flip are: what it shows of an example cannot be fixed; leave it out"
            )
    return FixedViews(kept, count, seed)


@dataclasses.dataclass(frozen=True)
class FixedViews:
    """The view of `fixed_views`."""

    views: tuple[Any, ...]
    count: int
    seed: int = 0

    @property
    def identity(self) -> str:
        """What it does to an example: two of one identity show the same."""
        parts = ", ".join(view.identity for view in self.views)
        return f"{self.count} views by {parts} of seed {self.seed}"

    def __call__(self, key: jax.Array, batch: Batch) -> Batch:
        """The batch with one of the views of each example."""

        def choose(index: jax.Array) -> jax.Array:
            return jax.random.randint(jax.random.fold_in(key, index), (), 0, self.count)

        return self.shown(batch, jax.vmap(choose)(batch["index"]))

    def shown(self, batch: Batch, numbers: jax.Array) -> Batch:
        """The batch with view ``numbers[b]`` of each example."""
        key, view = rng.named(rng.key(self.seed), "views"), chain(*self.views)
        assert view is not None

        def shown(number: jax.Array, index: jax.Array, inputs: jax.Array) -> jax.Array:
            alone = {"inputs": inputs[None], "index": index[None]}
            return view(jax.random.fold_in(key, number), alone)["inputs"][0]

        seen = jax.vmap(shown)(numbers, batch["index"], batch["inputs"])
        return {**batch, "inputs": seen, "view": numbers}
