"""Teachers: live, ensemble, kept answers.

All of them are ``Teacher(variables, apply)`` and look alike to the step.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from kd.core.manifest import Kind, Manifest
from kd.core.types import Answer, Apply, Average, Batch, Model, Outputs, PyTree, Teacher
from kd.data import FixedViews
from kd.errors import KdError, unknown
from kd.placement.ambient import pinned
from kd.teachers.each import of_each

AVERAGES: tuple[Average, ...] = ("arithmetic", "geometric", "per_member")


def live(
    model: Model, params: PyTree, extra: PyTree | None = None, *, fingerprint: str = ""
) -> Teacher:
    """One model, run in evaluation mode on whatever the student sees.

    Sees ``batch["teacher_inputs"]`` where the batch has them, else ``batch["inputs"]``.
    """
    model_extra = {} if extra is None else extra

    def answering(apply: Apply) -> Answer:
        def answer(variables: PyTree, batch: Batch) -> Outputs:
            inputs = batch["teacher_inputs"] if "teacher_inputs" in batch else batch["inputs"]
            return apply(variables["params"], variables["extra"], inputs, train=False)[0]

        return answer

    variables = {"params": params, "extra": model_extra}
    taps = model.with_taps
    return Teacher(
        variables,
        answering(model.apply),
        fingerprint,
        with_taps=None if taps is None else lambda paths: answering(taps(paths)),
    )


def ensemble(
    model: Model,
    params: PyTree,
    extra: PyTree | None = None,
    *,
    average: Average = "arithmetic",
    fingerprint: str = "",
) -> Teacher:
    """The members of a population as one teacher: every leaf of `params` has a leading axis ``e``.

    `average`: arithmetic or geometric mean of the members' softened distributions, or
    ``per_member``: the loss is computed against each member and averaged.

    Raises:
      KdError: an unknown averaging rule.

    Source: Hinton, Vinyals & Dean (2015), section 2, on ensembles.
    """
    check_average(average)
    alone = live(model, params, extra, fingerprint=fingerprint)

    def together(apply: Answer) -> Answer:
        each = of_each(apply)

        def answer(variables: PyTree, batch: Batch) -> Outputs:
            members = each(variables, batch)
            return dataclasses.replace(members, average=average)

        return answer

    return dataclasses.replace(alone, stacked=1).wrapped(together)


@pinned()
def precomputed(
    logits: np.ndarray, *, average: Average | None = None, fingerprint: str = ""
) -> Teacher:
    """Logits computed beforehand for a transfer set that nobody knows more of than its length.

    Shapes: ``logits[n *p v]``, or ``logits[e n *p v]`` with `average`: members are kept apart, so
    that any temperature and any averaging rule can still be asked of them.

    Raises:
      KdError: an unknown averaging rule.
    """
    if average is not None:
        check_average(average)
    return kept(Outputs(np.asarray(logits, np.float32), average), teacher=fingerprint)


def kept(
    answers: Outputs,
    *,
    teacher: str = "",
    data: str = "",
    pairs: tuple[int, ...] | None = None,
    kind: Kind = "logits",
    temperature: float = 1.0,
    views: FixedViews | None = None,
    rounding: float = 0.0,
) -> Teacher:
    """A teacher that answers from a table, gathered by ``batch["index"]``, with its manifest.

    Shapes: logits and taps ``[n ...]``; before that an axis ``e`` where `answers` are an
    ensemble's, and before that an axis of several teachers where there are `pairs`.

    Of answers to `views` the axis of examples is followed by theirs, ``[n k ...]``, and
    ``batch["view"]`` says which one is seen; `rounding` is their error: see `Manifest`.

    Raises:
      KdError: answers that are not finite. A class may be ruled out, by minus infinity.
    """
    if not np.isfinite(np.max(answers.logits, axis=-1)).all():
        raise KdError(
            "the teacher's answers are not finite: its training diverged, or these inputs are too "
            "large"
        )
    table = _laid_out(answers, pairs, views)
    paired = int(pairs is not None)
    first = paired + 1 + (views is not None)
    ensemble = table.average is not None
    digest = _digest(table)
    manifest = Manifest(
        rows=table.logits.shape[paired],
        classes=table.width,
        positions=tuple(table.logits.shape[first + ensemble : -1]),
        teacher=teacher or digest,
        data=data,
        view="" if views is None else views.identity,
        kind=kind,
        temperature=temperature,
        members=table.logits.shape[first] if ensemble else None,
        zeros=kind == "probabilities" and bool(np.isneginf(table.logits).any()),
        bytes=sum(leaf.nbytes for leaf in jax.tree.leaves(table)),
        digest=digest,
        views=0 if views is None else views.count,
        rounding=rounding,
    )
    return _gathered(jax.tree.map(jnp.asarray, table), manifest, pairs)


def kept_shapes(
    answers: Outputs,
    rows: int,
    pairs: tuple[int, ...] | None = None,
    views: FixedViews | None = None,
) -> Teacher:
    """`kept` of the shapes of answers alone: for planning, before anything was computed."""
    table = jax.eval_shape(lambda answers: _laid_out(answers, pairs, views), answers)
    manifest = Manifest(rows, answers.width)
    if views is not None:
        manifest = dataclasses.replace(manifest, view=views.identity, views=views.count)
    return _gathered(table, manifest, pairs)


def table_shapes(*shape: int) -> Teacher:
    """`kept_shapes` of a table of logits, ``[n *p v]``: one answer for each of n examples."""
    return kept_shapes(Outputs(jax.ShapeDtypeStruct(shape, np.float32)), shape[0])


def _laid_out(answers: Outputs, pairs: tuple[int, ...] | None, views: FixedViews | None) -> Outputs:
    """Members behind rows, ``[n e ...]`` or ``[n k e ...]``: an example's answers lie together and
    are read in one go.
    """
    if answers.average is None:
        return answers
    members = int(pairs is not None)
    behind = members + 1 + (views is not None)
    return jax.tree.map(lambda leaf: np.moveaxis(leaf, members, behind), answers)


def _gathered(table: Outputs, manifest: Manifest, pairs: tuple[int, ...] | None) -> Teacher:
    def apply(table: Outputs, batch: Batch) -> Outputs:
        index = batch["index"]
        place = (index, batch["view"]) if manifest.views else index
        answers = jax.tree.map(lambda leaf: leaf[place], table)
        if table.average is None:
            return answers
        return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, index.ndim, 0), answers)

    def with_taps(paths: tuple[str, ...]) -> Answer:
        for path in paths:
            if path not in table.taps:
                raise KdError(
                    f"a term reads the inner features {path!r} of the teacher, and its kept "
                    f"answers have {', '.join(table.taps) or 'none'}; keep them too: "
                    "kd.precompute(teacher, data, taps=...)"
                )
        return apply

    return Teacher(
        table, apply, manifest.teacher, manifest=manifest, pairs=pairs, with_taps=with_taps
    )


def _digest(table: Outputs) -> str:
    digest = hashlib.sha256(b"" if table.weights is None else repr(table.weights).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(table):
        digest.update(f"{jax.tree_util.keystr(path)} {leaf.shape} {leaf.dtype}".encode())
        digest.update(np.ascontiguousarray(leaf).data)
    return digest.hexdigest()[:16]


def unpaired_answer(teacher: Teacher) -> Callable[[PyTree, Batch], Outputs]:
    """``answer(variables, batch)`` of the first of several paired teachers, or of any other teacher
    as it is.
    """
    if teacher.pairs is None:
        return teacher.apply
    return lambda variables, batch: teacher.apply(
        jax.tree.map(lambda leaf: leaf[0], variables), batch
    )


def digest(arrays: PyTree) -> str:
    """Hash of every array of a tree: its names, types, shapes and bytes."""
    total = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(arrays):
        array = np.ascontiguousarray(leaf)
        total.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        total.update(array.tobytes())
    return total.hexdigest()[:16]


def predicts_by(average: Average) -> Literal["arithmetic", "geometric"]:
    """The rule by which an ensemble predicts: its own, or arithmetic where the losses are taken
    member by member.
    """
    return "arithmetic" if average == "per_member" else average


def check_average(average: str | None) -> None:
    """Raise a `KdError` unless `average` is an averaging rule."""
    if not isinstance(average, str | None) or average not in AVERAGES:
        raise unknown("teacher.average", average, AVERAGES)
