"""What is known of a finished run, for its card: results, ancestors, licences, hashes."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np

from kd.errors import KdError
from kd.evidence import interval
from kd.lineage import DataSet, FirstWeights, Lineage, Weights
from kd.provenance.gate import Debt, check_export, debts_of, override_of
from kd.provenance.licences import load_rules
from kd.runs.load import load_finished
from kd.runs.workdir import Workdir, find
from kd.system.paths import anywhere
from kd.teachers.trained import Trained

_RESAMPLES = 1000
_SHOWN = ("accuracy", "nll", "ece", "brier", "rmse", "mae", "f1", "auroc")


@dataclasses.dataclass(frozen=True)
class Result:
    """A metric on held-out data: its mean over the members, and a 95% interval where what each one
    got wrong was recorded.
    """

    metric: str
    value: float
    interval: tuple[float, float] | None


@dataclasses.dataclass(frozen=True)
class Ancestor:
    """Weights or answers that a run learned from, or began with, and what is above them.

    `there` is whether they lie where the run found them; what is above one that is gone nobody
    knows.
    """

    role: str
    weights: Weights
    there: bool
    above: tuple[Ancestor, ...] = ()
    data: tuple[DataSet, ...] = ()


@dataclasses.dataclass(frozen=True)
class Facts:
    """All of it. `weights` is the SHA-256 of the trained arrays, `record` that of ``run.json``."""

    name: str
    fingerprint: str
    spec: Any
    lineage: Lineage | None
    ancestors: tuple[Ancestor, ...]
    results: tuple[Result, ...]
    members: int
    step: int
    debts: tuple[Debt, ...]
    licence: str
    override: str
    weights: str
    record: str
    changes: tuple[str, ...] = ()


def facts_of(
    path: str | pathlib.Path,
    *,
    licence: str = "",
    licence_override: str = "",
    allow_code: str | Iterable[str] = (),
    despite_changes: bool = False,
) -> Facts:
    """What is known of the finished run in a work directory, exported under `licence`.

    Raises:
      KdError: no finished run there, or its licences stop that: see `kd.provenance.gate`.
    """
    workdir = find(path, allow_code)
    doors = {"allow_code": allow_code, "despite_changes": despite_changes}
    trained = load_finished(workdir.path, "the run", **doors)
    evaluation, lineage = workdir.evaluation or {}, workdir.lineage
    debts = debts_of(workdir, load_rules(), datetime.date.today())
    allowed = allowed_licence(workdir, debts, licence, licence_override)
    return Facts(
        name=workdir.path.resolve().name,
        fingerprint=trained.fingerprint,
        spec=workdir.spec,
        lineage=lineage,
        ancestors=() if lineage is None else _ancestors(lineage, (str(workdir.path.resolve()),)),
        results=results_of(evaluation),
        members=trained.count or 1,
        step=int(evaluation.get("step", 0)),
        debts=tuple(debts),
        licence=allowed,
        override=licence_override or override_of(workdir),
        weights=weights_digest(trained),
        record=hashlib.sha256((workdir.path / "run.json").read_bytes()).hexdigest(),
        changes=trained.changes,
    )


def allowed_licence(workdir: Workdir, debts: list[Debt], licence: str, override: str) -> str:
    """The licence of an export: see `kd.provenance.gate.check_export`. A reason that the run
    recorded lets its training pass, and no other licence.
    """
    stopping = [debt for debt in debts if debt.stops]
    passing = [debt for debt in debts if not debt.stops]
    check_export(stopping, "", override or override_of(workdir))
    return check_export(passing, licence, override)


def weights_digest(trained: Trained) -> str:
    """SHA-256 of the trained arrays: their names, types, shapes and bytes."""
    total = hashlib.sha256()
    arrays = {"params": trained.params, "extra": trained.extra, "heads": dict(trained.heads)}
    for path, leaf in jax.tree_util.tree_leaves_with_path(jax.device_get(arrays)):
        array = np.ascontiguousarray(leaf)
        total.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        total.update(array.tobytes())
    return total.hexdigest()


def results_of(evaluation: Mapping[str, Any]) -> tuple[Result, ...]:
    """The metrics of an evaluation."""
    members = evaluation.get("members") or []
    told = []
    for metric in _SHOWN:
        values = [member[metric] for member in members if isinstance(member.get(metric), float)]
        if not values or len(values) < len(members):
            continue
        spread = _of_accuracy(members) if metric == "accuracy" else None
        told.append(Result(metric, float(np.mean(values)), spread))
    return tuple(told)


def _of_accuracy(members: list[Mapping[str, Any]]) -> tuple[float, float] | None:
    """Over test examples, and over members where there are several."""
    sizes = [
        round(member["errors"] / (1 - member["accuracy"]))
        for member in members
        if member.get("errors") and member["accuracy"] < 1
    ]
    if not sizes or any("wrong" not in member for member in members):
        return None
    wrong = np.zeros((len(members), sizes[0]))
    places = sorted({row for member in members for row in member["wrong"]})
    column = {row: i for i, row in enumerate(places)}  # rows without a label are left out
    for i, member in enumerate(members):
        wrong[i, [column[row] for row in member["wrong"]]] = 1
    examples = wrong.shape[1]
    _, low, high = interval([wrong], lambda errors: 1 - errors / examples, resamples=_RESAMPLES)
    return max(0.0, low), min(1.0, high)


def _ancestors(lineage: Lineage, above: tuple[str, ...]) -> tuple[Ancestor, ...]:
    taught = [_ancestor("teacher", weights, above) for weights in lineage.taught_by]
    first = [] if lineage.init is None else [_ancestor("first weights", lineage.init, above)]
    return (*taught, *first)


def _ancestor(role: str, weights: Weights | FirstWeights, above: tuple[str, ...]) -> Ancestor:
    scheme, _, place = weights.source.partition(":")
    if scheme not in ("run", "hf", "weights", "table"):
        return Ancestor(role, weights, there=True)
    if place in above or not anywhere(place).exists():
        return Ancestor(role, weights, there=False)
    if scheme != "run":
        return Ancestor(role, weights, there=True)
    try:
        workdir = find(place)
        lineage = workdir.lineage
        same = _is(workdir, weights.fingerprint)
    except KdError:  # it is damaged, or another kind of folder now
        return Ancestor(role, weights, there=False)
    if lineage is None or not same:
        return Ancestor(role, weights, there=same)
    return Ancestor(role, weights, True, _ancestors(lineage, (*above, place)), lineage.data)


def _is(workdir: Workdir, fingerprint: str) -> bool:
    """Whether the run there is still the one of that fingerprint, or a member of it."""
    return fingerprint.startswith(workdir.fingerprint)
