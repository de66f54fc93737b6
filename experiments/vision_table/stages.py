"""The table as stages: the teacher, trials of every loss, its runs, and what they get wrong."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import kd
from experiments.hinton2015.parts import finished, of_this_data, plain
from experiments.vision_table.protocol import (
    Numbers,
    Protocol,
    arm_spec,
    check,
    located,
    make_arms,
    trial_spec,
    tuned,
)
from experiments.vision_table.tuning import Tuned, choose
from kd.config import TeacherSpec, build
from kd.runs import Computation, Done, Stage, run_stages

_HERE = "experiments.vision_table"


def run(
    config: Mapping[str, Any], folder: pathlib.Path, say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Run or resume every stage, and measure: the results, as JSON will hold them.

    Raises:
      KdError: a config that is not well-formed, a teacher or images that are not there, and what
        training raises.
    """
    protocol = build(Protocol, config, "config")
    check(protocol)
    config = of_this_data(config, protocol.run["data"])
    teacher = located(protocol)
    first = run_stages(first_stages(protocol, teacher), folder, say)
    tuning = choose(protocol, first)
    done = run_stages(later_stages(protocol, teacher, numbers(protocol, tuning)), folder, say)
    return {
        "report": f"{_HERE}.page:page",
        "protocol": plain(config),
        "stages": finished({**first, **done}.values()),
        "seeds": list(protocol.seeds),
        **collect(protocol, {**first, **done}),
        "tuning": {name: vars(chosen) for name, chosen in tuning.items()},
        "numbers": plain(numbers(protocol, tuning)),
    }


def first_stages(protocol: Protocol, teacher: TeacherSpec) -> list[Stage | Computation]:
    """What depends on no choice: the teacher's errors, the trials, and the arms that have none."""
    untuned = [name for name in make_arms(protocol) if name not in tuned(protocol)]
    runs = [_arm(protocol, name, teacher, protocol.numbers.get(name, {})) for name in untuned]
    trials = [
        Stage(f"trials-{name}", trial_spec(protocol, name, teacher)) for name in tuned(protocol)
    ]
    return [_teacher(protocol, teacher), *runs, *trials]


def later_stages(
    protocol: Protocol, teacher: TeacherSpec, chosen: Mapping[str, Numbers]
) -> list[Stage | Computation]:
    """Every arm with the numbers that were chosen for it, and what its students get wrong."""
    data, splits = protocol.run["data"], _splits(protocol)
    stages: list[Stage | Computation] = []
    for name in make_arms(protocol):
        stages += [
            _arm(protocol, name, teacher, chosen.get(name, {})),
            Computation(
                f"errors-{name}",
                f"{_HERE}.measure:students",
                {"run": name, "data": data["source"], "splits": splits},
                needs=(name,),
                places={"data_dir": data["data_dir"]},
            ),
        ]
    return stages


def numbers(protocol: Protocol, tuning: Mapping[str, Tuned]) -> dict[str, Numbers]:
    """The numbers of every arm that has any: chosen here, or said by the config."""
    return {**protocol.numbers, **{name: chosen.numbers for name, chosen in tuning.items()}}


def collect(protocol: Protocol, done: Mapping[str, Done]) -> dict[str, Any]:
    """Errors of the teacher and of every arm on both splits, and how long each arm's run took."""
    return {
        "teacher": done["teacher"].evaluation,
        "arms": {
            name: {**done[f"errors-{name}"].evaluation, "seconds": round(done[name].seconds, 1)}
            for name in make_arms(protocol)
        },
    }


def _arm(protocol: Protocol, name: str, teacher: TeacherSpec, chosen: Numbers) -> Stage:
    return Stage(name, arm_spec(protocol, name, teacher, chosen))


def _teacher(protocol: Protocol, teacher: TeacherSpec) -> Computation:
    data = protocol.run["data"]
    who = kd.load(teacher.source or "", model=teacher.model).fingerprint
    return Computation(
        "teacher",
        f"{_HERE}.measure:teacher",
        {
            "fingerprint": who,
            "model": dict(teacher.model or {}),
            "data": data["source"],
            "splits": _splits(protocol),
        },
        places={"file": teacher.source, "data_dir": data["data_dir"]},
    )


def _splits(protocol: Protocol) -> dict[str, str]:
    """What is measured on, by what the page calls it: ``val`` is what numbers were chosen on."""
    return {"val": protocol.run["data"]["eval"], "test": protocol.test}
