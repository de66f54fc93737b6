"""The second protocol as stages: those of the first that teach and judge, trials on the validation
speakers, the chosen arms, and hypotheses about what is missed.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from experiments.hinton2015.parts import finished, of_this_data, plain
from experiments.hinton2015.speech import stages as first
from experiments.hinton2015.speech.claims import claims
from experiments.hinton2015.speech.corpus import read
from experiments.hinton2015.speech.protocol import hypotheses
from experiments.hinton2015.speech_chosen.protocol import ARMS, BANDS, JUDGE, Protocol, check
from experiments.hinton2015.speech_chosen.trials import (
    Trial,
    as_long,
    best,
    temperatures,
    trial_name,
    tried,
)
from kd.config import build, resolve
from kd.core import product
from kd.runs import Computation, Done, Stage, run_stages

_HERE = "experiments.hinton2015.speech_chosen"
_FIRST = "experiments.hinton2015.speech"
_CODE = (f"{_FIRST}.hmm", f"{_FIRST}.corpus", f"{_FIRST}.align")
_SHARED = ("features", "alignment", "aligner", "baseline", "reference", "tune", "measure_baseline")
Stages = list[Stage | Computation]
Chosen = Mapping[str, Trial]


def run(
    config: Mapping[str, Any], folder: pathlib.Path, say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Run or resume every stage: the results, as JSON will hold them.

    Raises:
      KdError: a config that is not well-formed, audio that is not there or not well-formed, what
        training raises.
    """
    protocol = build(Protocol, config, "config")
    stages: Stages = [*shared(protocol), *trials(protocol)]
    done = run_stages(stages, folder, say)
    chosen = {arm: best(tried(protocol, arm, done)) for arm in ARMS}
    stages += arms(protocol, chosen)
    done = run_stages(stages, folder, _news(say))
    archive = pathlib.PurePath(protocol.speech.data.source).name
    config = of_this_data(config, {"source": archive, "split": protocol.split})
    results = {
        "report": f"{_HERE}.page:page",
        "protocol": plain({**config, **_as_trained(protocol, chosen)}),
        "members_epochs": protocol.baseline["total_epochs"],
        "seeds": list(protocol.seeds),
        **collect(protocol, chosen, done),
    }
    missed = {claim.name for claim in claims(results) if not claim.met}
    further = explanations(protocol, chosen, missed)
    if further:
        done = run_stages([*stages, *further], folder, _news(say))
    return {
        **results,
        "stages": finished(done.values()),
        "hypotheses": {
            name: done[f"measure_hypothesis_{name}"].evaluation["members"]
            for name in protocol.hypotheses
            if f"measure_hypothesis_{name}" in done
        },
    }


def shared(protocol: Protocol) -> Stages:
    """The first protocol's own stages as far as the ensemble: of equal identity, so that in its
    folder they are done.
    """
    check(protocol)
    return [s for s in first.make_stages(protocol) if s.name.rstrip("0123456789") in _SHARED]


def trials(protocol: Protocol) -> Stages:
    """A run for every arm and length, at all its temperatures at once: one seed, judged on the
    validation speakers.
    """
    stages: Stages = []
    for arm, teacher in ARMS.items():
        run, at = getattr(protocol, arm), temperatures(protocol, arm)
        members = product(soft_targets__temperature=at) if at else {}
        for length in protocol.lengths[arm]:
            spec = resolve({**as_long(run, run, length, None), "population": members})
            stages.append(Stage(trial_name(arm, length), spec, teacher, data=_labels(protocol)))
    return stages


def arms(protocol: Protocol, chosen: Chosen) -> Stages:
    """The chosen arms over all seeds, and what they get wrong on the test speakers."""
    return [
        stage
        for arm, config in _chosen_runs(protocol, chosen).items()
        for stage in _measured(protocol, f"chosen_{arm}", config, ARMS[arm])
    ]


def explanations(protocol: Protocol, chosen: Chosen, missed: set[str]) -> Stages:
    """The hypotheses about the bands that are missed, over all seeds, and what they get wrong."""
    configs = _hypothetical_runs(protocol, chosen)
    return [
        stage
        for name, hypothesis in hypotheses(protocol).items()
        if BANDS[hypothesis.of] in missed
        for stage in _measured(protocol, f"hypothesis_{name}", configs[name], hypothesis.taught_by)
    ]


def collect(protocol: Protocol, chosen: Chosen, done: Mapping[str, Done]) -> dict[str, Any]:
    """Everything that the page shows, by the names of the first protocol's results: there
    ``baseline`` is now the chosen arm on hard labels.
    """
    spoken = read(done["features"])
    measured = {arm: done[f"measure_chosen_{arm}"].evaluation["members"] for arm in ARMS}
    ensemble, student = done["measure_baseline"].evaluation, chosen["distilled"]
    assert student.temperature is not None
    return {
        "corpus": done["features"].evaluation,
        "tuned": done["tune"].evaluation,
        "speakers": " ".join(
            speaker or f"utterance-{i}" for i, speaker in enumerate(spoken[protocol.split].speakers)
        ),
        "frames": int(spoken[protocol.split].lengths.sum()),
        "judged": {
            "frames": int(spoken[JUDGE].lengths.sum()),
            "speakers": len({*spoken[JUDGE].speakers.tolist()}),
        },
        "trials": {
            arm: [dataclasses.asdict(trial) for trial in tried(protocol, arm, done)] for arm in ARMS
        },
        "best": {arm: dataclasses.asdict(trial) for arm, trial in chosen.items()},
        "chosen": protocol.temperatures.index(student.temperature),
        "members": ensemble["members"],
        "systems": {
            "baseline": measured["baseline"],
            "ensemble": [ensemble["ensemble"]],
            f"distilled T={student.temperature:g}": measured["distilled"],
        },
        "small": {
            "hard 100%": measured["baseline"],
            "hard 3%": measured["small_hard"],
            "soft 3%": measured["small_soft"],
        },
        "teachers": {},
    }


def _as_trained(protocol: Protocol, chosen: Chosen) -> dict[str, Any]:
    """What the config says of the arms and hypotheses, as long and as hot as they were trained."""
    configs = _hypothetical_runs(protocol, chosen)
    return {
        **_chosen_runs(protocol, chosen),
        "hypotheses": {
            name: {**told, "run": configs[name]} for name, told in protocol.hypotheses.items()
        },
    }


def _chosen_runs(protocol: Protocol, chosen: Chosen) -> dict[str, dict[str, Any]]:
    runs = {arm: getattr(protocol, arm) for arm in ARMS}
    return {
        arm: as_long(run, run, chosen[arm].epochs, chosen[arm].temperature)
        for arm, run in runs.items()
    }


def _hypothetical_runs(protocol: Protocol, chosen: Chosen) -> dict[str, dict[str, Any]]:
    return {
        name: as_long(
            hypothesis.run,
            getattr(protocol, hypothesis.of),
            chosen[hypothesis.of].epochs,
            chosen[hypothesis.of].temperature,
        )
        for name, hypothesis in hypotheses(protocol).items()
    }


def _measured(
    protocol: Protocol, name: str, config: Mapping[str, Any], teacher: str | None
) -> Sequence[Stage | Computation]:
    """A run over all seeds, and the stage that measures it as the first protocol does."""
    spec = resolve({**config, "population": product(init_seed=protocol.seeds)})
    labels = _labels(protocol)
    options = {
        "alignment": labels,
        "run": name,
        "split": protocol.split,
        "train": spec.data.train,
        "ensemble": False,
    }
    needs = ("features", labels, name, "tune")
    return (
        Stage(name, spec, teacher, data=labels),
        Computation(f"measure_{name}", f"{_FIRST}.measure:measure", options, needs, _CODE),
    )


def _labels(protocol: Protocol) -> str:
    """The stage that says which state every frame is in."""
    return f"alignment{protocol.realignments}"


def _news(say: Callable[[str], None]) -> Callable[[str], None]:
    """`say` without what an earlier part of the same call has said or done."""
    return lambda line: None if line.endswith("skipped") else say(line)
