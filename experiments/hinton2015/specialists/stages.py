"""Section 5 as stages: generalists, their specialists, students of both, and what is measured."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from experiments.hinton2015.parts import finished, of_this_data, plain, run_of
from experiments.hinton2015.specialists.data import MADE, Protocol, made, needs, source
from experiments.hinton2015.specialists.protocol import (
    STUDENTS,
    Hypothesis,
    StepBack,
    check,
    clustering_of,
    hypotheses,
    steps_back,
)
from kd.config import Spec, build
from kd.core import product
from kd.runs import Computation, Done, Stage, run_stages

_HERE = "experiments.hinton2015.specialists"
_LIBRARY = ("kd.core.specialists", "kd.specialists.clusters", "kd.specialists.fit")
SYSTEMS = ("longer", "self", "of_ensemble")


def run(
    config: Mapping[str, Any], folder: pathlib.Path, say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Run or resume every stage: the results, as JSON will hold them.

    Raises:
      KdError: a config that is not well-formed, data that is not there, what training raises.
    """
    protocol = build(Protocol, config, "config")
    done = run_stages(make_stages(protocol), folder, say)
    about = {"source": source(protocol), "split": protocol.split}
    return {
        "report": f"{_HERE}.page:page",
        "protocol": plain(of_this_data(config, about)),
        "stages": finished(done.values()),
        "seeds": list(protocol.seeds),
        **collect(protocol, done),
    }


def make_stages(protocol: Protocol) -> list[Stage | Computation]:
    """The examples where an earlier stage makes them, generalists, specialists of each, students of
    each teacher, hypotheses, measurements.
    """
    specs = check(protocol)
    data = MADE if needs(protocol) else None
    stages: list[Stage | Computation] = [*made(protocol)]
    seeds = tuple(STUDENTS + seed for seed in protocol.seeds)
    taught = product(soft_targets__temperature=protocol.temperatures, seed=seeds)
    own = {**taught, "teacher": protocol.seeds * len(protocol.temperatures)}
    pool = product(seed=range(protocol.ensemble))
    stages += [
        Stage("generalists", _with(specs["generalist"], pool), data=data),
        Stage("longer", _with(specs["longer"], product(seed=seeds)), data=data),
        Stage("self", _with(specs["distilled"], own), teacher="generalists", data=data),
        Stage("of_ensemble", _with(specs["distilled"], taught), teacher="generalists", data=data),
    ]
    unchanged, back = Hypothesis(""), StepBack("")
    for seed in protocol.seeds:
        stages += [_specialists(protocol, f"specialists{seed}", unchanged, "generalists", seed)]
        stages += [_students(protocol, f"of_specialists{seed}", back, seed)]
    stages += _hypotheses(protocol, specs, data)
    stages += [
        _students(protocol, f"back_{name}_{seed}", step, seed)
        for name, step in steps_back(protocol).items()
        for seed in protocol.seeds
    ]
    return [*stages, _measure(protocol)]


def collect(protocol: Protocol, done: Mapping[str, Done]) -> dict[str, Any]:
    """Everything that the page shows."""
    measured = done["measure"].evaluation
    teams = [done[f"specialists{seed}"].evaluation for seed in protocol.seeds]
    names = {"of_specialists": "of_specialists"}
    names |= {f"back_{name}": f"back_{name}_" for name in protocol.steps_back}
    students = {
        system: [done[f"{stage}{seed}"].evaluation["members"] for seed in protocol.seeds]
        for system, stage in names.items()
    }
    taught = {system: _by_temperature(each) for system, each in students.items()}
    return {
        **measured,
        "teams": teams,
        "systems": {**measured["systems"], **taught},
        "hypotheses": {
            name: [done[f"hypothesis_{name}_{seed}"].evaluation for seed in protocol.seeds]
            for name in protocol.hypotheses
        },
    }


def _by_temperature(students: list[list[Any]]) -> list[Any]:
    """Temperature after temperature, the seeds of each in a row, as the other systems have them."""
    return [student for members in zip(*students, strict=True) for student in members]


def _specialists(
    protocol: Protocol, name: str, hypothesis: Hypothesis, generalists: str, seed: int
) -> Computation:
    return _computed(
        protocol,
        name,
        "specialise",
        (generalists,),
        generalists=generalists,
        member=seed,
        run=run_of(hypothesis.specialist or protocol.specialist),
        clustering=dataclasses.asdict(clustering_of(protocol, hypothesis)),
        correction=hypothesis.correction,
        tops=list(protocol.tops),
        split=protocol.split,
    )


def _students(protocol: Protocol, name: str, step: StepBack, seed: int) -> Computation:
    network = f"generalists_{step.network}" if step.network else "generalists"
    team = f"hypothesis_{step.team}_{seed}" if step.team else f"specialists{seed}"
    return _computed(
        protocol,
        name,
        "students",
        (network, team),
        network=network,
        team=team,
        run=run_of(step.run or protocol.distilled),
        seed=STUDENTS + seed,
        temperatures=list(protocol.temperatures),
        top=step.top or protocol.top,
        split=protocol.split,
    )


def _measure(protocol: Protocol) -> Computation:
    teams = tuple(f"specialists{seed}" for seed in protocol.seeds)
    return _computed(
        protocol,
        "measure",
        "measure",
        ("generalists", *SYSTEMS, *teams),
        run=run_of(protocol.generalist),
        systems=list(SYSTEMS),
        teams=list(teams),
        split=protocol.split,
    )


def _computed(
    protocol: Protocol, name: str, function: str, on: tuple[str, ...], **options: Any
) -> Computation:
    return Computation(
        name,
        f"{_HERE}.team:{function}",
        options,
        needs=(*needs(protocol), *on),
        code=_LIBRARY,
        places={"data_dir": protocol.generalist["data"].get("data_dir")},
    )


def _hypotheses(
    protocol: Protocol, specs: Mapping[str, Spec], data: str | None
) -> list[Stage | Computation]:
    """What the hypotheses train: generalists where they have others, and specialists of each."""
    stages: list[Stage | Computation] = []
    seeds = product(seed=protocol.seeds)
    for name, hypothesis in hypotheses(protocol).items():
        generalists = "generalists"
        if hypothesis.generalist is not None:
            generalists = f"generalists_{name}"
            spec = specs[f"hypotheses.{name}.generalist"]
            stages.append(Stage(generalists, _with(spec, seeds), data=data))
        stages += [
            _specialists(protocol, f"hypothesis_{name}_{seed}", hypothesis, generalists, seed)
            for seed in protocol.seeds
        ]
    return stages


def _with(spec: Spec, population: Mapping[str, Any]) -> Spec:
    return dataclasses.replace(spec, population=population)
