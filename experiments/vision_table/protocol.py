"""What the table compares: arms, how each is tuned, and the training runs that this makes."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import Any, Literal

from experiments.hinton2015.parts import check_distinct, resolved
from kd.config import Spec, TeacherSpec, build
from kd.core import product
from kd.errors import KdError, unknown

Numbers = Mapping[str, Mapping[str, float]]
"""Values of an arm's numbers, ``{term: {number: value}}``."""
Grid = Mapping[str, Mapping[str, tuple[float, ...]]]
"""Columns of an arm's trials, a value for each."""

CONTROL, BASELINE, LONGER = "kd", "hard", "longer"
"""Arms by what they are for: tuned plain distillation, hard labels, hard labels for longer."""
MEASURES = ("teacher", "hard", "kd_gain", "kd_over_longer", "published_gain", "best_gain")
"""What a band may be for."""
FAMILIES = ("labels", "logits", "features", "relations")


@dataclasses.dataclass(frozen=True)
class Arm:
    """A loss of the table.

    `objective` is what it adds to the objective of all arms; `trials` are the columns of its
    trials, without any it is not tuned; its run is `length` times as long as the others.
    """

    family: Literal["labels", "logits", "features", "relations"]
    objective: Mapping[str, Any]
    trials: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    length: float = 1.0


@dataclasses.dataclass(frozen=True)
class Published:
    """The teacher: a file of weights, ``weights:FILE``, of the network `model`."""

    source: str
    model: Mapping[str, Any]
    kept_as: Literal["float32", "float16"] = "float32"
    licence: str = "own"


@dataclasses.dataclass(frozen=True)
class Protocol:
    """The experiment's config: one run, the arms that vary it, and how they are tuned.

    Every arm with trials trains each of them for `trial_epochs` with the seed `trial_seed`; the one
    with the fewest errors on ``run.data.eval`` gives the numbers of its run over the `seeds`,
    unless `numbers` says them. `test` is the split that nothing was chosen on. `paper` holds
    published accuracies by pair of networks, `pair` is the one that is compared with; `bands` are
    what each measure must lie in, written before the run; both are left out on other data than
    `numbers_of` names.
    """

    seeds: tuple[int, ...]
    trial_seed: int
    trial_epochs: float
    test: str
    teacher: Published
    run: Mapping[str, Any]
    arms: Mapping[str, Any]
    numbers: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    paper: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    pair: str = ""
    bands: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    numbers_of: Mapping[str, str] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()


def make_arms(protocol: Protocol) -> dict[str, Arm]:
    """The arms by name, without those that are none.

    Raises a `KdError` for one that is not well-formed.
    """
    told = {name: arm for name, arm in protocol.arms.items() if arm is not None}
    return {name: build(Arm, arm, f"config.arms.{name}") for name, arm in told.items()}


def tuned(protocol: Protocol) -> dict[str, Arm]:
    """The arms whose numbers are chosen by trials."""
    return {
        name: arm
        for name, arm in make_arms(protocol).items()
        if arm.trials and name not in protocol.numbers
    }


def check(protocol: Protocol) -> None:
    """Raise a `KdError` unless the numbers make a fair table."""
    arms = make_arms(protocol)
    if len(protocol.seeds) < 2:
        raise KdError("config.seeds must hold at least 2, or there is no spread")
    check_distinct("seeds", protocol.seeds)
    if protocol.trial_seed in protocol.seeds:
        raise KdError(
            f"config.trial_seed={protocol.trial_seed} is one of config.seeds: an arm would be "
            "judged on a run that chose its numbers; take another"
        )
    for name in (CONTROL, BASELINE):
        if name not in arms:
            raise KdError(f"config.arms has no '{name}', which others are held against; add it")
    _check_names(protocol, arms)
    counts = {name: trials_of(arm) for name, arm in tuned(protocol).items()}
    if len(set(counts.values())) > 1:
        raise KdError(f"every loss is tuned by as many trials, and config.arms have {counts}")
    data = protocol.run["data"]
    if data["eval"] == protocol.test:
        raise KdError(
            f"config.run.data.eval and config.test are both '{protocol.test}': numbers would be "
            "chosen on the test images"
        )


def _check_names(protocol: Protocol, arms: Mapping[str, Arm]) -> None:
    for name in (name for name in protocol.numbers if name not in arms):
        raise unknown("arm in config.numbers:", name, arms)
    for name, (low, high) in protocol.bands.items():
        if name not in MEASURES:
            raise unknown("measure in config.bands:", name, MEASURES)
        if not low <= high:
            raise KdError(f"config.bands.{name} must be (least, most), got {(low, high)}")
    if protocol.paper and protocol.pair not in protocol.paper:
        raise unknown("config.pair", protocol.pair, protocol.paper)
    needs = {"kd_over_longer": LONGER}
    for measure in (m for m, arm in needs.items() if m in protocol.bands and arm not in arms):
        raise KdError(f"config.bands.{measure} is about the arm '{needs[measure]}': add it")


def trials_of(arm: Arm) -> int:
    """How many trials an arm has."""
    return len(next(iter(next(iter(arm.trials.values())).values())))


def trial_spec(protocol: Protocol, name: str, teacher: TeacherSpec) -> Spec:
    """All trials of an arm, as one population."""
    spec = _spec(protocol, name, teacher, {})
    columns = make_arms(protocol)[name].trials
    return dataclasses.replace(
        spec, seed=protocol.trial_seed, total_epochs=protocol.trial_epochs, population=columns
    )


def arm_spec(protocol: Protocol, name: str, teacher: TeacherSpec, numbers: Numbers) -> Spec:
    """An arm's run over all seeds, as one population."""
    spec = _spec(protocol, name, teacher, numbers)
    return dataclasses.replace(spec, population=product(seed=protocol.seeds))


def _spec(protocol: Protocol, name: str, teacher: TeacherSpec, numbers: Numbers) -> Spec:
    arm = make_arms(protocol)[name]
    objective = {**protocol.run["objective"], **arm.objective}
    objective |= {term: {**objective[term], **values} for term, values in numbers.items()}
    length = protocol.run["total_epochs"] * arm.length
    spec = resolved(
        f"arms.{name}", {**protocol.run, "objective": objective, "total_epochs": length}
    )
    if not any(term.info.teacher for term in spec.terms):
        return spec
    return dataclasses.replace(spec, teacher=teacher)


def located(protocol: Protocol) -> TeacherSpec:
    """The teacher with the whole path of its file: here, in the folder of the data
    (``run.data.data_dir``, ``KD_DATA_DIR``), or in a folder ``models`` beside that.

    Raises:
      KdError: it is in none of them, or no file of weights.
    """
    teacher = protocol.teacher
    scheme, _, name = teacher.source.partition(":")
    if scheme != "weights":
        raise KdError(f"config.teacher.source must be weights:FILE, got {teacher.source}")
    folders = [pathlib.Path()]
    told = protocol.run["data"].get("data_dir") or os.environ.get("KD_DATA_DIR")
    if told:
        data = pathlib.Path(told).expanduser()
        folders += [data, data.parent / "models"]
    for path in (folder / name for folder in folders):
        if path.is_file():
            return TeacherSpec(
                source=f"weights:{path.resolve()}",
                model=teacher.model,
                kept_as=teacher.kept_as,
                licence=teacher.licence,
            )
    raise KdError(
        f"no {name} here, in KD_DATA_DIR or in a folder models beside it; say where it lies with "
        "--config.teacher.source=weights:FILE"
    )
