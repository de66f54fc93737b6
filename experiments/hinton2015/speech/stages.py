"""Sections 4 and 6 as stages: features, alignments, baselines, ensemble, students, and what is
measured of them.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from experiments.hinton2015.parts import finished, of_this_data, plain
from experiments.hinton2015.speech.corpus import read
from experiments.hinton2015.speech.protocol import Protocol, check, hypotheses
from kd.config import Spec, build, resolve
from kd.core import product
from kd.data.audio import speech_fingerprint
from kd.runs import Computation, Done, Stage, run_stages

_HERE = "experiments.hinton2015.speech"
_AUDIO = ("kd.data.audio.speech",)
_HMM = (f"{_HERE}.hmm", f"{_HERE}.corpus", f"{_HERE}.align")


def run(
    config: Mapping[str, Any], folder: pathlib.Path, say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Run or resume every stage: the results, as JSON will hold them.

    Raises:
      KdError: a config that is not well-formed, audio that is not there or not well-formed, what
        training raises.
    """
    protocol = build(Protocol, config, "config")
    archive = pathlib.PurePath(protocol.speech.data.source).name
    config = of_this_data(config, {"source": archive, "split": protocol.split})
    done = run_stages(make_stages(protocol), folder, say)
    return {
        "report": f"{_HERE}.page:page",
        "protocol": plain(config),
        "stages": finished(done.values()),
        "seeds": list(protocol.seeds),
        **collect(protocol, done),
    }


def make_stages(protocol: Protocol) -> list[Stage | Computation]:
    """Features, flat start, rounds of training and realigning, the systems of sections 4 and 6,
    hypotheses.
    """
    check(protocol)
    labels, last = _labels(protocol)
    taught = product(
        soft_targets__temperature=protocol.temperatures, init_seed=protocol.seeds
    )  # temperature after temperature, the seeds of each in a row
    baseline, seeds = resolve(protocol.baseline), product(init_seed=protocol.seeds)
    runs = [
        Stage("baseline", _with(baseline, product(init_seed=range(protocol.ensemble))), data=last),
        Stage("reference", baseline, data=last),
        Stage(
            "distilled", _with(resolve(protocol.distilled), taught), teacher="baseline", data=last
        ),
        Stage("small_hard", _with(resolve(protocol.small_hard), seeds), data=last),
        Stage(
            "small_soft", _with(resolve(protocol.small_soft), seeds), teacher="reference", data=last
        ),
    ]
    tune = _measuring("tune", "tune", "baseline", last, penalties=protocol.penalties)
    tested = _hypotheses(protocol, last)
    return [*labels, *runs, *tested, tune, *_measurements(protocol, [*runs, *tested], last)]


def collect(protocol: Protocol, done: Mapping[str, Done]) -> dict[str, Any]:
    """Everything that the page shows: the corpus, the alignments, and the errors of every system in
    every utterance.
    """
    spoken = read(done["features"])[protocol.split]
    distilled, each = done["measure_distilled"].evaluation["members"], len(protocol.seeds)
    watched = [member["accuracy"] for member in done["distilled"].evaluation["members"]]
    baseline = done["measure_baseline"].evaluation
    return {
        "corpus": done["features"].evaluation,
        "alignments": [d.evaluation for name, d in done.items() if name.startswith("alignment")],
        "tuned": done["tune"].evaluation,
        "speakers": " ".join(
            speaker or f"utterance-{i}" for i, speaker in enumerate(spoken.speakers)
        ),
        "chosen": max(
            range(len(protocol.temperatures)), key=lambda i: sum(watched[i * each : (i + 1) * each])
        ),  # of the temperatures: the one with the best frame accuracy on the validation speakers
        "frames": int(spoken.lengths.sum()),
        "systems": {
            "baseline": baseline["members"],
            "ensemble": [baseline["ensemble"]],
            **{
                f"distilled T={temperature:g}": distilled[i * each : (i + 1) * each]
                for i, temperature in enumerate(protocol.temperatures)
            },
        },
        "small": {
            "hard 100%": baseline["members"][:each],
            "hard 3%": done["measure_small_hard"].evaluation["members"],
            "soft 3%": done["measure_small_soft"].evaluation["members"],
        },
        "teachers": {
            name: done[f"measure_teacher_{name}"].evaluation for name in protocol.teachers
        },
        "hypotheses": {
            name: done[f"measure_hypothesis_{name}"].evaluation["members"]
            for name in protocol.hypotheses
        },
    }


def _labels(protocol: Protocol) -> tuple[list[Stage | Computation], str]:
    """The stages that label the frames, and the name of the last alignment."""
    speech, aligner = protocol.speech, resolve(protocol.aligner)
    frame = {"window": speech.window, "target": speech.target}
    stages: list[Stage | Computation] = [
        Computation(
            "features",
            f"{_HERE}.corpus:features",
            {
                "source": speech.data.source,
                "fingerprint": speech_fingerprint(speech.data.source, speech.data.data_dir),
                "bins": speech.bins,
                "utterances": speech.utterances,
            },
            code=_AUDIO,
            places={"data_dir": speech.data.data_dir},
        ),
        Computation(
            "alignment0",
            f"{_HERE}.align:flat",
            {"per_word": speech.per_word, "silence": speech.silence, **frame},
            needs=("features",),
            code=_HMM,
        ),
    ]
    for i in range(protocol.realignments):
        before, model = f"alignment{i}", f"aligner{i}"
        stages += [
            Stage(model, aligner, data=before),
            Computation(
                f"alignment{i + 1}",
                f"{_HERE}.align:realign",
                {"before": before, "model": model, **frame},
                needs=("features", before, model),
                code=_HMM,
            ),
        ]
    return stages, f"alignment{protocol.realignments}"


def _hypotheses(protocol: Protocol, last: str) -> list[Stage]:
    """What the hypotheses train: further ensembles, then for each a population over the seeds."""
    ensemble, seeds = product(init_seed=range(protocol.ensemble)), product(init_seed=protocol.seeds)
    named = {name: f"teacher_{name}" for name in protocol.teachers} | {
        "baseline": "baseline",
        "reference": "reference",
    }
    teachers = [
        Stage(named[name], _with(resolve(run), ensemble), data=last)
        for name, run in protocol.teachers.items()
    ]
    students = [
        Stage(
            f"hypothesis_{name}",
            _with(resolve(one.run), seeds),
            teacher=None if one.taught_by is None else named[one.taught_by],
            data=last,
        )
        for name, one in hypotheses(protocol).items()
    ]
    return [*teachers, *students]


def _measurements(protocol: Protocol, runs: list[Stage], last: str) -> list[Computation]:
    """What every system gets wrong; of the many distilled models not on the training data too."""
    return [
        _measuring(
            f"measure_{run.name}",
            "measure",
            run.name,
            last,
            ("tune",),
            split=protocol.split,
            train=None if run.name == "distilled" else run.spec.data.train,
            ensemble=run.name == "baseline" or run.name.startswith("teacher_"),
        )
        for run in runs
        if run.name != "reference"  # the first of the baselines
    ]


def _measuring(
    name: str, function: str, run: str, alignment: str, needs: tuple[str, ...] = (), **options: Any
) -> Computation:
    options = {"alignment": alignment, "run": run, **options}
    return Computation(
        name,
        f"{_HERE}.measure:{function}",
        options,
        needs=("features", alignment, run, *needs),
        code=_HMM,
    )


def _with(spec: Spec, population: Mapping[str, Any]) -> Spec:
    return dataclasses.replace(spec, population=population)
