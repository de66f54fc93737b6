"""What the MNIST experiment varies, and the training runs that this makes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.hinton2015.parts import check_distinct, check_same_test, resolved, run_of
from kd.config import Spec
from kd.core import product
from kd.errors import KdError
from kd.runs import Computation, Stage

Run = Mapping[str, Any]
RUNS = ("teachers", "baseline", "distilled", "sweep", "omitted", "only", "small_hard", "small_soft")


@dataclasses.dataclass(frozen=True)
class Protocol:
    """The experiment's config: training runs, and what is varied over them.

    `seeds` are those of every student; student i learns from teacher i. `ensemble` is the number of
    teachers, with seeds 1000, 1001, ... . `sweep` runs at every width and temperature, with so many
    `sweep_seeds` at each width. `omitted` is a transfer set without some classes, `only` one of a
    few classes, by their `data.classes`. `hypotheses` are variants of `distilled`, by name. `paper`
    and `bands` hold a number, and a range written down before the run, by row of the table, both
    for the data that `numbers_of` names; on other data they are left out.
    """

    seeds: tuple[int, ...]
    sweep_seeds: tuple[int, ...]
    ensemble: int
    temperatures: tuple[float, ...]
    widths: tuple[int, ...]
    teachers: Run
    baseline: Run
    distilled: Run
    sweep: Run
    omitted: Run
    only: Run
    small_hard: Run
    small_soft: Run
    hypotheses: Mapping[str, Run] = dataclasses.field(default_factory=dict)
    paper: Mapping[str, float] = dataclasses.field(default_factory=dict)
    bands: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    numbers_of: Mapping[str, str] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()


def make_stages(protocol: Protocol) -> list[Stage | Computation]:
    """Every training run, each a population over its seeds: teachers, students, and what is asked
    of them.

    Raises:
      KdError: fewer than two seeds or teachers, more seeds than teachers, arms of different
        compute, runs that are evaluated on different ones, or a run that sets what the experiment
        sets.
    """
    _check_numbers(protocol)
    seeds, specs = protocol.seeds, {name: resolved(name, getattr(protocol, name)) for name in RUNS}
    variants = {
        name: resolved(f"hypotheses.{name}", run) for name, run in protocol.hypotheses.items()
    }
    baseline, distilled = specs["baseline"], specs["distilled"]
    _check_arms(specs)
    check_same_test(
        {**specs, **{f"hypotheses.{name}": spec for name, spec in variants.items()}}, "distilled"
    )
    if _compute(baseline) != _compute(distilled):
        raise KdError(
            "config.baseline and config.distilled must train one student on the same batches "
            "equally long"
        )
    teachers = product(seed=range(1000, 1000 + protocol.ensemble))
    return [
        Stage("teachers", dataclasses.replace(specs["teachers"], population=teachers)),
        Stage("baseline", dataclasses.replace(baseline, population=product(seed=seeds))),
        _taught("distilled", distilled, seeds),
        *(_ensemble_student(average, distilled, seeds) for average in ("arithmetic", "geometric")),
        _taught("omitted", specs["omitted"], seeds),
        _taught("only", specs["only"], seeds),
        Stage(
            "small-hard", dataclasses.replace(specs["small_hard"], population=product(seed=seeds))
        ),
        _taught("small-soft", specs["small_soft"], seeds),
        *(_taught(f"hypothesis-{name}", spec, seeds) for name, spec in variants.items()),
        *(
            _sweep(width, count, specs["sweep"], protocol.temperatures)
            for width, count in zip(protocol.widths, protocol.sweep_seeds, strict=True)
        ),
        _ratio(protocol),
    ]


def _check_numbers(protocol: Protocol) -> None:
    seeds = (len(protocol.seeds), *protocol.sweep_seeds)
    if min(seeds) < 2 or protocol.ensemble < max(seeds):
        raise KdError(
            "config.seeds and config.sweep_seeds need 2 seeds or more, and config.ensemble as "
            "many teachers"
        )
    for name in ("seeds", "temperatures", "widths"):
        check_distinct(name, getattr(protocol, name))
    for name, (low, high) in protocol.bands.items():
        if not low <= high:
            raise KdError(
                f"config.bands.{name} must be (least, most), got {(low, high)}; swap them"
            )
    if not protocol.widths or len(protocol.widths) != len(protocol.sweep_seeds):
        raise KdError(
            "config.sweep_seeds must say how many seeds each of config.widths has; make them "
            "equally long"
        )


def _check_arms(specs: Mapping[str, Spec]) -> None:
    """Raise a `KdError` where a run is not what the page calls it."""
    for name in ("distilled", "sweep", "omitted", "only", "small_soft"):
        if specs[name].objective.get("soft_targets") is None:
            raise KdError(
                f"config.{name}.objective has no soft_targets, which that run is about; give it "
                "the term"
            )
    if specs["small_hard"].early_stopping is None:
        raise KdError(
            "config.small_hard.early_stopping is none; name training images that it is not "
            "trained on"
        )


def _compute(spec: Spec) -> tuple[Any, ...]:
    return spec.student, spec.data, spec.total_epochs, spec.total_steps, spec.early_stopping


def _ratio(protocol: Protocol) -> Computation:
    members = len(protocol.temperatures) * min(protocol.sweep_seeds)
    run, data_dir = run_of(protocol.sweep), protocol.sweep["data"]["data_dir"]
    return Computation(
        "population-ratio",
        "experiments.hinton2015.mnist.ratio:measure_ratio",
        options={"run": run, "members": members, "widths": protocol.widths},
        needs=("teachers",),
        places={"data_dir": data_dir},
    )


def sweep_stage(width: int) -> str:
    """Name of the stage that trains every temperature at this width."""
    return f"width-{width}"


def _taught(name: str, spec: Spec, seeds: Sequence[int], **columns: Any) -> Stage:
    """A population in which student i learns from teacher i; `columns` vary besides the seed."""
    population = product(**columns, seed=seeds)
    population["teacher"] = tuple(list(seeds).index(seed) for seed in population["seed"])
    return Stage(name, dataclasses.replace(spec, population=population), teacher="teachers")


def _ensemble_student(average: Any, distilled: Spec, seeds: Sequence[int]) -> Stage:
    teacher = dataclasses.replace(distilled.teacher, average=average)
    spec = dataclasses.replace(distilled, teacher=teacher, population=product(seed=seeds))
    return Stage(f"ensemble-{average}", spec, teacher="teachers")


def _sweep(width: int, seeds: int, spec: Spec, temperatures: Sequence[float]) -> Stage:
    layers = len(spec.student.get("widths", (0, 0)))
    spec = dataclasses.replace(spec, student={**spec.student, "widths": (width,) * layers})
    return _taught(sweep_stage(width), spec, range(seeds), soft_targets__temperature=temperatures)
