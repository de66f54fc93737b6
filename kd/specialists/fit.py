"""Train specialists, all of them as one population."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp

from kd.core.terms import Term, term
from kd.data import Dataset
from kd.errors import KdError
from kd.placement.ambient import pinned
from kd.specialists.enriched import Enriched, enriched
from kd.specialists.model import begun
from kd.teachers import Trained, precompute
from kd.training.fit import fit as fit_model


@pinned()
def fit(
    generalist: Trained,
    data: Dataset,
    classes: Sequence[Sequence[int]],
    terms: Sequence[Term] | None = None,
    *,
    network: Callable[[int], Any] | None = None,
    epochs: float = 10,
    batch_size: int = 100,
    seeds: Sequence[int] | None = None,
    **options: Any,
) -> Trained:
    """Specialists of a generalist, one for each set of `classes`, trained as one population.

    Each begins with the generalist's weights, sees its own classes half of the time, and knows all
    others as a dustbin, whose logit is corrected for that in the end. What it answers has a logit
    for every class: those in its dustbin share the dustbin's evenly.

    Args:
      generalist: a single trained model.
      data: labelled examples in memory.
      classes: the special classes of each, which may overlap: `kd.specialists.clusters` makes them.
      terms: the objective. Without it the labels, and beside them the generalist's soft targets,
        which hold a specialist back from learning its few examples by heart.
      network: ``network(w)`` makes the generalist's network with w outputs, a Flax Linen module or
        a `Model`. Models that kd ships need none.
      epochs: passes over the special examples of the average specialist.
      batch_size: examples in a step, an even number: half of them are special.
      seeds: of every specialist; 0, 1, 2, ... by default.
      **options: the other arguments of `kd.fit`.

    Raises:
      KdError: sets of classes that cannot be, a network or a generalist that does not fit, and all
        that `kd.fit` raises.

    Source: Hinton, Vinyals & Dean (2015), sections 5.2 and 6.1.
    """
    if not isinstance(generalist, Trained):
        raise KdError(
            f"generalist must be a trained model, got {type(generalist).__name__}; kd.fit gives one"
        )
    if terms is None:
        terms = [term("hard"), term("soft_targets")]
    own = enriched(data, classes)
    members = tuple(range(len(own.special)) if seeds is None else seeds)
    if len(members) != len(own.special):
        raise KdError(
            f"{len(own.special)} specialists need a seed each, got {len(members)}; leave seeds "
            "out, or give one for every set of classes"
        )
    first = begun(generalist, network, data, own.special)
    teacher = generalist.teacher() if any(t.info.teacher for t in terms) else None
    if teacher is not None and options.get("view") is None:
        teacher = precompute(teacher, data)
    trained = fit_model(
        first.model,
        own,
        terms,
        teacher=teacher,
        init=first,
        epochs=_whole_epochs(own, epochs, batch_size),
        batch_size=batch_size,
        population={"seed": members},
        **options,
    )
    extra = {**trained.extra, "correction": jnp.asarray(own.corrections)}
    return dataclasses.replace(trained, extra=extra, fingerprint=first.fingerprint)


def _whole_epochs(own: Enriched, epochs: float, batch_size: int) -> float:
    """Passes over special examples as passes over the whole data, which `kd.fit` counts in."""
    special = sum(len(rows) for rows, _ in own.rows_of) / len(own.special)
    steps = max(round(epochs * 2 * special / batch_size), 1)
    return steps / max(len(own) // batch_size, 1)
