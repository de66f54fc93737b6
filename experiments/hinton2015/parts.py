"""What the pages of this paper's experiments share: how a run is described, where results come
from, empty figures.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from kd.config import Spec, beyond_defaults, resolve
from kd.data import Dataset
from kd.errors import KdError
from kd.pages import Table
from kd.runs import Done


def choices(run: Mapping[str, Any]) -> dict[str, str]:
    """What a run's config says, in words for a table."""
    student, optim = run["student"], run["optim"]
    rate = f"{optim['learning_rate']:g}, {optim['learning_rate_schedule']['shape']}"
    terms = {loss: numbers for loss, numbers in run["objective"].items() if numbers is not None}
    return {
        "hidden units": " × ".join(map(str, student.get("widths", [student["name"]]))),
        "dropout, inputs / hidden": f"{student.get('input_dropout', 0):g} / "
        f"{student.get('hidden_dropout', 0):g}",
        "epochs": f"{run['total_epochs']:g}"
        if run["total_steps"] is None
        else f"{run['total_steps']} steps",
        "batch": str(run["data"]["batch_size"]),
        "optimiser, momentum": f"{optim['name']}, {optim['momentum']:g}",
        "learning rate, shape": rate,
        "max-norm": f"{optim['max_norm']:g}" if optim["max_norm"] else "–",
        "jitter, pixels": str(run["data"]["jitter_pixels"]),
        "objective": " + ".join(
            f"{n.get('weight', 1):g} {loss}{_numbers(n)}" for loss, n in terms.items()
        ),
    }


def making(results: Mapping[str, Any]) -> str:
    """How the results were made: the provenance, and every stage with its time."""
    stages = [
        [s["name"], f"{s['seconds']:,.0f} s", f"`{s['fingerprint']}`"] for s in results["stages"]
    ]
    return "\n\n".join(
        [provenance(results), Table("", ["stage", "time", "fingerprint"], stages).markdown()]
    )


def provenance(results: Mapping[str, Any]) -> str:
    """Command, fingerprint, seeds, machine, versions and time, in a line."""
    machine = results["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        f"Command: `{results['command']}`; config fingerprint `{results['fingerprint']}`; seeds "
        f"{_seeds(results['seeds'])}; {machine['cpu']}, {machine['cores']} cores, "
        f"{machine['devices']}; "
        f"Python {machine['python']}, {versions}; "
        f"{sum(s['seconds'] for s in results['stages']):,.0f} s in all."
    )


def _numbers(numbers: Mapping[str, Any]) -> str:
    shown = [
        f"{'T' if key == 'temperature' else key} = {value:g}"
        for key, value in numbers.items()
        if key != "weight" and isinstance(value, (int, float))
    ]
    return f" ({', '.join(shown)})" if shown else ""


def _seeds(seeds: Sequence[int]) -> str:
    if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]} to {seeds[-1]}"
    return ", ".join(map(str, seeds))


def finished(done: Iterable[Done]) -> list[dict[str, Any]]:
    """The stages of an experiment as its results name them."""
    return [
        {"name": d.name, "fingerprint": d.fingerprint, "seconds": round(d.seconds, 1)} for d in done
    ]


def plain(config: Any) -> Any:
    """A config as results hold it: what JSON knows, and no folder of this machine."""
    if isinstance(config, Mapping):
        return {key: plain(value) for key, value in config.items() if key != "data_dir"}
    return list(config) if isinstance(config, tuple) else config


def run_of(config: Mapping[str, Any]) -> Any:
    """The config of a run as an option of a computation: what it says beyond the defaults, so that
    a key that kd has later renames no computation.
    """
    return plain(beyond_defaults(Spec, config))


def of_this_data(config: Mapping[str, Any], data: Mapping[str, Any]) -> Mapping[str, Any]:
    """`config` without the paper's numbers and the bands where `data` is not the data that they are
    about, `numbers_of`.
    """
    about = config.get("numbers_of") or {}
    if all(data.get(key) == value for key, value in about.items()):
        return config
    return {**config, "paper": {}, "bands": {}}


def resolved(name: str, run: Mapping[str, Any]) -> Spec:
    """A run's spec; what is wrong with it is said of that run.

    Raises:
      KdError: it is not well-formed, sets what the experiment sets, or is stopped by the examples
        that judge it.
    """
    try:
        spec = resolve(run)
    except KdError as error:
        raise KdError(f"in config.{name}: {error}") from error
    if spec.population or spec.teacher.origin is not None:
        raise KdError(
            f"config.{name}.population and config.{name}.teacher.workdir are set by the "
            "experiment; leave them out "
            "and set config.seeds, config.ensemble, or what else the experiment varies"
        )
    if spec.early_stopping is not None and _split(spec.early_stopping) == _split(spec.data.eval):
        raise KdError(
            f"config.{name}.early_stopping must be a split apart from the test examples, got "
            f"{spec.early_stopping!r}; "
            "name training examples that it is not trained on"
        )
    return spec


def _split(name: str) -> str:
    return name.partition("[")[0]


def check_distinct(name: str, values: Sequence[Any]) -> None:
    """Raise a `KdError` where a value of ``config.name`` comes twice."""
    if len(set(values)) < len(values):
        raise KdError(
            f"config.{name} must hold each value once, got {values}: a copy is no second "
            "measurement"
        )


def check_same_test(specs: Mapping[str, Spec], judge: str) -> None:
    """Raise a `KdError` unless every run is evaluated on the examples that the run `judge` is
    evaluated on.
    """
    for name, spec in specs.items():
        if (spec.data.source, spec.data.eval) != (specs[judge].data.source, specs[judge].data.eval):
            raise KdError(
                f"config.{name}.data and config.{judge}.data have different source or eval; judge "
                "every run on the "
                "same test examples"
            )


def labels_of(data: Dataset) -> np.ndarray:
    """Labels of a split. Raises a `KdError` if it has none."""
    if data.labels is None:
        raise KdError(
            "errors cannot be counted: a split has no labels; set data.eval to a labelled one"
        )
    return data.labels


def curve(metrics: pathlib.Path) -> list[dict[str, Any]]:
    """Test errors against steps, per member.

    Raises a `KdError` where the file is gone or damaged.
    """
    try:
        lines = [json.loads(line) for line in metrics.read_text("utf-8").splitlines()]
        return [
            {"step": line["step"], "errors": line["eval/errors"]}
            for line in lines
            if "eval/errors" in line
        ]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise KdError(
            f"cannot read {metrics}: {error}; remove the stage's folder, and the same command "
            "trains it again"
        ) from error
