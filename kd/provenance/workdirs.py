"""`accuse` for what lies on disk: work directories, weights from outside, tables of answers."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from kd.data.examples import Examples
from kd.errors import KdError
from kd.placement.ambient import pinned
from kd.provenance.accusing import Accusation, accuse
from kd.provenance.closeness import Access, chosen
from kd.provenance.ranks import check_enough
from kd.provenance.witnesses import (
    Witness,
    check_controls,
    controls,
    folders,
    overlap,
    witness,
)
from kd.runs.reading import look
from kd.runs.workdir import Workdir, find


@pinned()
def accuse_workdirs(
    suspect: str,
    teachers: Sequence[str],
    control_sources: Sequence[str],
    *,
    split: str | None = None,
    queries: int | None = None,
    access: Access | None = None,
    statistics: Sequence[str] = (),
    level: float = 0.01,
    member: int | None = None,
    model: Mapping[str, Any] | None = None,
    data_dir: str | None = None,
    despite_changes: bool = False,
    allow_code: str | Iterable[str] = (),
) -> Accusation:
    """`accuse` of a suspect, teachers and controls by name.

    Each is a folder or ``run:DIR``, ``hf:DIR``, ``weights:FILE`` of the network `model`, or
    ``table:FILE`` of answers to the probe set. Controls are a population, or a folder of several.
    The probe set is `split` of the controls' data, by default the one that they are evaluated on,
    or of the teacher's where the controls are a table; `queries` takes so many examples of it, by a
    fixed draw. `access` is "logits" where all of them are known. A population that is suspected
    needs a `member`; one that teaches is an ensemble.

    Raises:
      KdError: as `accuse`, and for models that cannot be read, that have other classes, or controls
        that hold the suspect or the teacher, or were trained on other data than it.
    """
    if not teachers or not control_sources:
        raise KdError("name who may have taught, --teacher, and models that it did not, --controls")
    doors = {"allow_code": allow_code, "despite_changes": despite_changes}
    runs = [find(folder, allow_code) for text in control_sources for folder in folders(text)]
    probing = runs[0] if runs else _teacher_run(teachers, allow_code)
    split = split or probing.spec.data.eval
    data, changes = look(probing, split, data_dir, despite_changes=despite_changes)
    _check_probe(data, split)
    rows = _queries(len(data), queries)
    suspected = witness(suspect, data, doors, member=member, model=_for(suspect, model))
    taught = [
        witness(text, data, doors, ensemble=True, model=_for(text, model)) for text in teachers
    ]
    pool = [who for text in control_sources for who in controls(text, data, doors)]
    silent = check_controls(pool, suspected, taught)
    truth = data.labels if data.labelled and data.has_label.all() else None
    everyone = [suspected, *taught, *pool]
    access = access or _access(everyone)
    names = chosen(statistics, access, labelled=truth is not None)
    check_enough(level, len(pool), len(taught), split=len(names) > 1)
    warnings = [*changes, *silent]
    warnings += [
        f"{run.path} was trained on examples of the probe set {split}; ask about examples that "
        "neither controls nor teacher have seen"
        for run in runs
        if overlap(run, split)
    ][:1]
    return accuse(
        suspected.answers.of(rows),
        {who.name: who.answers.of(rows) for who in taught},
        [who.answers.of(rows) for who in pool],
        truth=None if truth is None else truth[rows],
        access=access,
        statistics=names,
        level=level,
        suspect_name=suspect if member is None else f"member {member} of {suspect}",
        warnings=warnings,
    )


def _teacher_run(teachers: Sequence[str], allow_code: str | Iterable[str]) -> Workdir:
    places = [folder for text in teachers for folder in folders(text)]
    if not places:
        raise KdError(
            "nothing says what the probe set is: neither a teacher nor a control is a work "
            "directory; name one of them as a run"
        )
    return find(places[0], allow_code)


def _check_probe(data: Examples, split: str) -> None:
    if data.targets != "classes" or data.positions:
        raise KdError(
            f"closeness is of one class for each example, and those of {split} have "
            f"{'several answers' if data.positions else data.targets}; take another split"
        )


def _queries(examples: int, wanted: int | None) -> np.ndarray:
    """Which examples are asked about, in rising order: the same for the same numbers."""
    if wanted is None:
        return np.arange(examples)
    if not 0 < wanted <= examples:
        raise KdError(
            f"--queries must be 1 or more, and no more than the probe set has, {examples:,}; got "
            f"{wanted:,}"
        )
    return np.sort(np.random.default_rng(0).permutation(examples)[:wanted])


def _access(everyone: Sequence[Witness]) -> Access:
    seen = all(who.answers.log_probs is not None for who in everyone)
    return "logits" if seen else "labels"


def _for(text: str, model: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    return model if text.startswith("weights:") else None


def default_folder(suspect: str) -> pathlib.Path:
    """Where the page goes: into a suspect's own work directory, else here."""
    own = folders(suspect) if not suspect.startswith(("table:", "hf:", "weights:")) else []
    return own[0] / "accusation" if len(own) == 1 else pathlib.Path("accusation")
