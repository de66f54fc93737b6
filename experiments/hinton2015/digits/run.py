"""Section 3, from an ensemble to one model: the stages, and what is measured of them."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from experiments.hinton2015.parts import (
    check_distinct,
    check_same_test,
    curve,
    finished,
    labels_of,
    plain,
    resolved,
)
from kd import evals
from kd.config import Spec, build
from kd.core import Average, Outputs, product
from kd.data import Dataset, load
from kd.errors import KdError, unknown
from kd.runs import Done, Stage, run_stages
from kd.teachers import member_evaluation, predicts_by


@dataclasses.dataclass(frozen=True)
class Protocol:
    """The experiment's config: three runs, and what is varied over them.

    `seeds` are those of both student arms and of every temperature; `ensemble` is the number of
    teachers, with seeds 1000, 1001, ...; `temperatures` are tried besides the main one of
    `distilled`; `paper` holds the paper's test errors by arm, where the data is the paper's;
    `notes` say how the choices were made, for the page.
    """

    seeds: tuple[int, ...]
    ensemble: int
    temperatures: tuple[float, ...]
    teachers: Mapping[str, Any]
    baseline: Mapping[str, Any]
    distilled: Mapping[str, Any]
    paper: Mapping[str, int] = dataclasses.field(default_factory=dict)
    notes: str = ""


def run(
    config: Mapping[str, Any], folder: pathlib.Path, say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Run or resume every stage, and measure: the results, as JSON will hold them.

    Raises:
      KdError: a config that is not well-formed, fewer than two seeds, a seed or temperature twice,
        arms of different compute, runs that are judged on other examples, and what training raises.
    """
    protocol = build(Protocol, config, "config")
    stages = make_stages(protocol)
    done = run_stages(stages, folder, say)
    return {
        "report": "experiments.hinton2015.digits.page:page",
        "protocol": plain(config),
        "stages": finished(done.values()),
        **measure(protocol, stages, done),
    }


def make_stages(protocol: Protocol) -> list[Stage]:
    """Teachers as one population, both student arms over the seeds, and the temperature sweep as
    one population.
    """
    if len(protocol.seeds) < 2 or protocol.ensemble < 2:
        raise KdError(
            "config.seeds and config.ensemble must hold at least 2, or there is no spread and no "
            "ensemble"
        )
    specs = {
        name: resolved(name, getattr(protocol, name))
        for name in ("teachers", "baseline", "distilled")
    }
    _check(protocol, specs)
    teachers = _with(specs["teachers"], seed=range(1000, 1000 + protocol.ensemble))
    baseline = _with(specs["baseline"], seed=protocol.seeds)
    distilled = _with(specs["distilled"], seed=protocol.seeds)
    stages = [
        Stage("teachers", teachers),
        Stage("baseline", baseline),
        Stage("distilled", distilled, teacher="teachers"),
    ]
    if protocol.temperatures:
        sweep = _with(
            distilled, soft_targets__temperature=protocol.temperatures, seed=protocol.seeds
        )
        stages.append(Stage("temperatures", sweep, teacher="teachers"))
    return stages


def _check(protocol: Protocol, specs: Mapping[str, Spec]) -> None:
    check_distinct("seeds", protocol.seeds)
    check_distinct("temperatures", protocol.temperatures)
    check_same_test(specs, "distilled")
    if _compute(specs["baseline"]) != _compute(specs["distilled"]):
        raise KdError(
            "config.baseline and config.distilled must train the same student on the same data "
            "equally long"
        )
    if specs["distilled"].objective.get("soft_targets") is None:
        raise KdError(
            "config.distilled.objective has no soft_targets, which that run is about; give it the "
            "term"
        )
    for arm in protocol.paper:
        if arm not in (arms := ("teachers", "ensemble", "baseline", "distilled")):
            raise unknown("key in config.paper:", arm, arms)


def measure(protocol: Protocol, stages: list[Stage], done: Mapping[str, Done]) -> dict[str, Any]:
    """Everything that the report shows: errors and calibration of each arm, the pair, the sweep,
    curves.
    """
    specs = {stage.name: stage.spec for stage in stages}
    test = load(
        specs["baseline"].data.source, specs["baseline"].data.eval, specs["baseline"].data.data_dir
    )
    ensemble = _ensemble(done["teachers"], specs["distilled"].teacher.average, test)
    main = next(t for t in specs["distilled"].terms if t.name == "soft_targets").numbers[
        "temperature"
    ]
    by_temperature = {main: [m["errors"] for m in done["distilled"].evaluation["members"]]}
    if "temperatures" in done:
        counts = [m["errors"] for m in done["temperatures"].evaluation["members"]]
        for i, temperature in enumerate(protocol.temperatures):
            by_temperature[temperature] = counts[
                i * len(protocol.seeds) : (i + 1) * len(protocol.seeds)
            ]
    return {
        "test_examples": len(test),
        "seeds": list(protocol.seeds),
        "arms": {
            "teachers": _arm(done["teachers"]),
            "ensemble": {"members": [member_evaluation(ensemble, labels_of(test))]},
            "baseline": _arm(done["baseline"]),
            "distilled": _arm(done["distilled"]),
        },
        "pair": {name: _pair(done[name], ensemble, test) for name in ("baseline", "distilled")},
        "temperatures": [
            {"temperature": t, "errors": by_temperature[t]} for t in sorted(by_temperature)
        ],
        "main_temperature": main,
        "curves": {
            name: curve(done[name].workdir / "metrics.jsonl")
            for name in ("teachers", "baseline", "distilled")
        },
    }


def _with(spec: Spec, **columns: Any) -> Spec:
    return dataclasses.replace(spec, population=product(**columns))


def _compute(spec: Spec) -> tuple[Any, ...]:
    return spec.student, spec.data, spec.total_epochs, spec.total_steps, spec.early_stopping


def _arm(done: Done) -> dict[str, Any]:
    return {"members": done.evaluation["members"]}


def _ensemble(teachers: Done, average: Average, test: Dataset) -> np.ndarray:
    logits = teachers.trained().logits(test)
    return np.asarray(Outputs(jnp.asarray(logits), predicts_by(average)).log_probs())


def _pair(student: Done, ensemble: np.ndarray, test: Dataset) -> list[dict[str, Any]]:
    return [evals.compare(one, ensemble, labels_of(test)) for one in student.trained().logits(test)]
