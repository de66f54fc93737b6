"""Logits of a model, or of every member of a population, for a whole data set."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from kd.core.manifest import check_answers
from kd.core.types import Answer, Batch, Model, Outputs, PyTree, Teacher
from kd.data import (
    Dataset,
    Stream,
    as_seen,
    by_length,
    example_batch,
    gather,
    in_order,
    padded_rows,
    to_device,
)
from kd.data.examples import Examples
from kd.data.seen import scale_for
from kd.errors import KdError
from kd.placement.ambient import pinned
from kd.placement.mesh import BATCH, batch_parts, mesh_of, put, replicated, sharding
from kd.system import words
from kd.teachers.each import of_each
from kd.teachers.make import unpaired_answer
from kd.teachers.mixture import Mixture

_LOGITS = 2**27  # numbers that are there at once


@pinned()
def predict(
    model: Model,
    params: PyTree,
    extra: PyTree,
    data: Examples,
    *,
    members: bool,
    batch_size: int,
) -> np.ndarray:
    """Logits in evaluation mode. Shapes: ``[n *p v]``, or ``[m n *p v]`` when every leaf of
    `params` has a member axis; ``*p`` are the positions of one example, often none.

    Where the parameters live on a mesh, batches are split over it.
    """
    outputs = _by_length(_apply(model, members), (params, extra), data, batch_size, members)
    return np.asarray(outputs.logits)


@pinned()
def word_scores(
    model: Model, params: PyTree, extra: PyTree, data: Examples, *, members: bool, batch_size: int
) -> np.ndarray:
    """What is judged of words that were hidden: of each position the negative log-likelihood of its
    label, and 1 where that is the most probable word. Shapes: ``[n l 2]``, or ``[m n l 2]``.

    The logits of a few rows are computed at a time, and none are kept.
    """
    wide = data.num_classes * int(np.prod(data.positions))
    size = max(1, min(batch_size, _LOGITS // wide))
    told = _answer(_scored(model, members), (params, extra), data, size, members)
    return np.asarray(told.logits)


@pinned()
def answers(teacher: Teacher, data: Examples, *, batch_size: int = 500) -> Outputs:
    """A teacher's outputs for every example of `data`, in order: what `kd.teachers.make.kept`
    wants.

    Shapes: logits ``[n *p v]`` and taps ``[n ...]``; before that an axis ``e`` for an ensemble,
    and before that one of several teachers that are to be paired with students.

    Raises:
      KdError: answers that were kept for other examples.
    """
    check_answers(teacher.manifest, data)
    several = teacher.pairs is not None
    answer = _by_length if teacher.manifest is None else _answer
    return answer(applied(teacher), teacher.variables, data, batch_size, several)


@pinned()
def program_of(teacher: Teacher, data: Dataset, *, batch_size: int = 500) -> tuple[str, Outputs]:
    """The program of `answers`, as text, and the shapes of what it answers; nothing is computed.

    The text is the same wherever and whenever the same code is lowered for the same devices.
    """
    mesh = mesh_of(teacher.variables)
    with contextlib.nullcontext() if mesh is None else jax.set_mesh(mesh):
        size = _batch_size(data, batch_size, mesh)
        lowered = _all.lower(*_arguments(applied(teacher), teacher.variables, data, size, mesh))
    return lowered.as_text(), lowered.out_info


def applied(teacher: Teacher) -> Callable[[PyTree, Batch], Outputs]:
    """What a teacher's variables answer, of several teachers that are paired all of them."""
    return teacher.apply if teacher.pairs is None else _paired(teacher.apply)


def check_data(data: Any) -> None:
    """Raise a `KdError` unless `data` is a data set."""
    if not isinstance(data, (Dataset, Stream)):
        raise KdError(
            f"data must be a Dataset, got {type(data).__name__}; make one with kd.arrays(inputs, "
            "num_classes=v)"
        )


@pinned()
def check_inputs(model: Teacher, data: Examples, who: str = "the teacher") -> None:
    """Raise a `KdError` unless a model reads the inputs of `data`. Nothing is computed."""

    def answer(variables: PyTree) -> Outputs:
        batch = {**example_batch(data, 1), "view": jnp.zeros(1, jnp.int32)}
        return unpaired_answer(model)(variables, batch)

    try:
        jax.eval_shape(answer, model.variables)
    except KdError:
        raise
    except Exception as error:  # a model that was built for other inputs fails in its own words
        cause = str(error).strip().splitlines()[0]
        raise KdError(
            f"{who} cannot read inputs of shape {data.taught.first.shape[1:]}; it was made for "
            "others, and the data of both must have one shape, but for images whose size "
            f"teacher.image_size says ({cause})"
        ) from error


def reading(model: Teacher, data: Examples, who: str = "the teacher") -> Teacher:
    """A teacher beside a student of `data`: it sees the student's inputs, or the data's
    `teacher_inputs`, in the unit of those that it was trained on.

    Views of the student's inputs are the teacher's too: they are made before the unit is changed.

    Raises:
      KdError: a teacher that cannot read these inputs, see `check_inputs` and
        `kd.data.seen.scale_for`.
    """
    if isinstance(model, Mixture):
        return model.of([reading(part, data, who) for part in model.parts])
    check_inputs(model, data, who)
    shown = data.taught
    factor = scale_for(model.seen, shown.seen, who) / shown.scale
    if factor == 1.0:
        return dataclasses.replace(model, seen=None)

    def in_its_unit(apply: Answer) -> Answer:
        def answer(variables: PyTree, batch: Batch) -> Outputs:
            name = "teacher_inputs" if "teacher_inputs" in batch else "inputs"
            return apply(variables, {**batch, name: batch[name] * factor})

        return answer

    return dataclasses.replace(model, seen=None).wrapped(in_its_unit)


@functools.lru_cache(
    maxsize=64
)  # one function per model, so that what was compiled for it is found again
def _apply(model: Model, members: bool) -> Callable[[PyTree, Batch], Outputs]:
    def answer(variables: PyTree, batch: Batch) -> Outputs:
        params, extra = variables
        return model.apply(params, extra, batch["inputs"], train=False)[0]

    return of_each(answer, "member") if members else answer


@functools.lru_cache(maxsize=64)
def _scored(model: Model, members: bool) -> Callable[[PyTree, Batch], Outputs]:
    def answer(variables: PyTree, batch: Batch) -> Outputs:
        params, extra = variables
        outputs = model.apply(params, extra, batch["inputs"], train=False)[0]
        log_probs, labels = outputs.log_probs(), batch["labels"]
        nll = -jnp.take_along_axis(log_probs, labels[..., None], axis=-1)[..., 0]
        right = jnp.argmax(log_probs, axis=-1) == labels
        return Outputs(jnp.stack([nll, right.astype(nll.dtype)], axis=-1))

    return of_each(answer, "member") if members else answer


@functools.lru_cache(maxsize=64)
def _paired(apply: Callable[[PyTree, Batch], Outputs]) -> Callable[[PyTree, Batch], Outputs]:
    return of_each(apply, "member")


def _by_length(
    apply: Callable[[PyTree, Batch], Outputs],
    variables: PyTree,
    data: Examples,
    batch_size: int,
    members: bool,
) -> Outputs:
    """`_answer` of who answers live: texts of about one length together, with little padding."""
    if not isinstance(data, Dataset) or len(parts := by_length(data)) < 2:
        return _answer(apply, variables, data, batch_size, members)
    if jax.eval_shape(apply, variables, example_batch(data, 1)).taps:  # they may be as long
        return _answer(apply, variables, data, batch_size, members)
    told, none = [], {"labels": None, "weights": None, "named": None}
    for rows, length in parts:
        short = dataclasses.replace(data, inputs=data.inputs[rows, :length], **none)
        told.append(_answer(apply, variables, short, batch_size, members))
    back, ahead = np.argsort(np.concatenate([rows for rows, _ in parts])), int(members)
    ahead += told[0].average is not None
    return jax.tree.map(
        lambda *leaves: np.take(np.concatenate(leaves, axis=ahead), back, axis=ahead), *told
    )


def _answer(
    apply: Callable[[PyTree, Batch], Outputs],
    variables: PyTree,
    data: Examples,
    batch_size: int,
    members: bool,
) -> Outputs:
    """Outputs for all examples, on the host; with `members` every array has a leading axis of
    them.
    """
    mesh = mesh_of(variables)
    batch_size = _batch_size(data, batch_size, mesh)
    on_mesh = contextlib.nullcontext() if mesh is None else jax.set_mesh(mesh)
    with on_mesh, words.doing("compiling what answers, and answering"):
        outputs = _batches(apply, variables, data, batch_size, mesh)
    ahead = members + (outputs.average is not None)
    return jax.tree.map(lambda leaf: _examples(leaf, ahead, len(data)), outputs)


def _batch_size(data: Examples, most: int, mesh: Mesh | None) -> int:
    """A batch that the data fills and that divides over the mesh."""
    parts = 1 if mesh is None else batch_parts(mesh)
    return -(-min(most, len(data)) // parts) * parts


def _batches(
    apply: Callable[[PyTree, Batch], Outputs],
    variables: PyTree,
    data: Examples,
    batch_size: int,
    mesh: Any,
) -> Outputs:
    if isinstance(data, Stream):
        with in_order(data, batch_size) as batches:
            parts = [
                _one(apply, mesh, variables, *_streamed(batch, data, mesh)) for batch in batches
            ]
        return jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *parts)
    outputs = _all(*_arguments(apply, variables, data, batch_size, mesh))
    return jax.tree.map(np.asarray, outputs)


def _arguments(
    apply: Callable[[PyTree, Batch], Outputs],
    variables: PyTree,
    data: Dataset,
    batch_size: int,
    mesh: Mesh | None,
) -> tuple[Any, ...]:
    """Those of `_all`."""
    rows = padded_rows(len(data), batch_size)
    if mesh is None:
        return apply, None, variables, to_device(data), jnp.asarray(rows)
    table = to_device(data, lambda array: put(array, replicated(mesh)))
    return apply, mesh, variables, table, put(rows, sharding(mesh, None, BATCH))


@functools.partial(jax.jit, static_argnames=("apply", "mesh"))
def _all(
    apply: Any, mesh: Mesh | None, variables: PyTree, table: PyTree, rows: jax.Array
) -> Outputs:
    return _fetchable(
        jax.lax.map(lambda of_batch: apply(variables, gather(table, of_batch)), rows), mesh
    )


@functools.partial(jax.jit, static_argnames=("apply", "mesh"))
def _one(apply: Any, mesh: Mesh | None, variables: PyTree, batch: Batch, unit: Any) -> Outputs:
    return _fetchable(apply(variables, as_seen(batch, unit)), mesh)


def _streamed(batch: Batch, data: Stream, mesh: Mesh | None) -> tuple[Batch, np.float32 | None]:
    arrays = dict(batch) if mesh is None else put(dict(batch), sharding(mesh, BATCH))
    return arrays, data.unit


def _fetchable(outputs: Outputs, mesh: Mesh | None) -> Outputs:
    """In float32, and whole on every device: each process can fetch all of it."""
    outputs = outputs.astype(jnp.float32)
    return outputs if mesh is None else jax.lax.with_sharding_constraint(outputs, replicated(mesh))


def _examples(values: np.ndarray, ahead: int, examples: int) -> np.ndarray:
    """``[batches *a b ...] -> [*a n ...]``, where ``*a`` are `ahead` axes: batches in a row,
    without the padding of the last.
    """
    values = np.moveaxis(values, 0, ahead)
    first, rest = values.shape[:ahead], values.shape[ahead + 2 :]
    return values.reshape(*first, -1, *rest)[(slice(None),) * ahead + (slice(examples),)]
