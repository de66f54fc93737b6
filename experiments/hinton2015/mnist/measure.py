"""What is measured of the MNIST experiment's finished stages: results as JSON holds them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

import kd
from experiments.hinton2015.mnist.protocol import Protocol, sweep_stage
from experiments.hinton2015.mnist.rows import check_names
from experiments.hinton2015.parts import curve, labels_of
from kd import evals
from kd.config import Spec, resolve
from kd.core import Average, Outputs
from kd.data import Dataset, load, parse_split, split_rows
from kd.errors import KdError
from kd.runs import Done
from kd.teachers import member_evaluation

TEMPERATURES = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)  # of section 2.1
OFFSETS = tuple(float(x) for x in np.arange(0, 12.25, 0.25))  # of a bias curve, in size


def measure(protocol: Protocol, done: Mapping[str, Done]) -> dict[str, Any]:
    """Everything that the page shows, by its section."""
    data = resolve(protocol.distilled).data
    train, test = (load(data.source, split, data.data_dir) for split in (data.train, data.eval))
    teachers = done["teachers"].trained()
    logits = teachers.logits(test)
    arms = {name: arm(done[name]) for name in ("teachers", "baseline", "distilled")}
    arms |= {name: arm(done[name]) for name in ("ensemble-arithmetic", "ensemble-geometric")}
    for average in ("arithmetic", "geometric"):
        arms[f"ensemble, {average}"] = {
            "members": [member_evaluation(_merged(logits, average), labels_of(test))]
        }
    return {
        "test_examples": len(test),
        "seeds": list(protocol.seeds),
        "arms": arms,
        "sweep": [row for width in protocol.widths for row in _sweep(width, protocol, done)],
        "omitted": _bias(protocol.omitted, done["omitted"], train, test, sign=+1),
        "only": _bias(protocol.only, done["only"], train, test, sign=-1),
        "limit": _limit(done, logits[0], test),
        "small": {
            "hard": _small(protocol.small_hard, done["small-hard"]),
            "soft": _small(protocol.small_soft, done["small-soft"]),
            "full": _small(protocol.baseline, done["baseline"]),
        },
        "hypotheses": {name: _errors(done[f"hypothesis-{name}"]) for name in protocol.hypotheses},
        "population": done["population-ratio"].evaluation["rows"],
        "curves": _curves(done.values()),
    }


def check(protocol: Protocol) -> None:
    """Raise a `KdError` for what could not be measured once everything is trained."""
    check_names(protocol.paper, protocol.bands)
    data = resolve(protocol.distilled).data
    train, test = (load(data.source, split, data.data_dir) for split in (data.train, data.eval))
    _check_apart(resolve(protocol.small_hard))
    for name in ("omitted", "only"):
        kept = getattr(protocol, name)["data"].get("classes")
        if (
            kept is None
            or set(kept) >= set(labels_of(train).tolist())
            or set(kept) >= set(labels_of(test).tolist())
        ):
            raise KdError(
                f"config.{name}.data.classes must leave out a class, got {kept}; name the classes "
                "that stay"
            )


def _check_apart(spec: Spec) -> None:
    """Early stopping that looks at what is trained on never stops, and the page says that it looks
    elsewhere.
    """
    watched = spec.early_stopping or ""
    if parse_split(watched)[0] != parse_split(spec.data.train)[0]:
        return
    whole = len(load(spec.data.source, parse_split(watched)[0], spec.data.data_dir))
    try:
        seen, looked = (split_rows(split, whole) for split in (spec.data.train, watched))
    except KdError as error:
        raise KdError(f"stage 'small-hard': {error}") from error
    if max(seen.start, looked.start) < min(seen.stop, looked.stop):
        raise KdError(
            f"config.small_hard.early_stopping, {watched}, shares examples with its data.train, "
            f"{spec.data.train}; "
            "name training images that it is not trained on"
        )


def arm(done: Done) -> dict[str, Any]:
    """A finished population as the tables read it."""
    return {"members": done.evaluation["members"]}


def _curves(done: Iterable[Done]) -> dict[str, list[dict[str, Any]]]:
    """Test errors against steps of every training run, per member."""
    files = {one.name: one.workdir / "metrics.jsonl" for one in done}
    return {name: curve(file) for name, file in files.items() if file.exists()}


def _errors(done: Done) -> list[int]:
    return [member["errors"] for member in done.evaluation["members"]]


def _merged(logits: np.ndarray, average: Average) -> np.ndarray:
    return np.asarray(Outputs(jnp.asarray(logits), average).log_probs())


def _sweep(width: int, protocol: Protocol, done: Mapping[str, Done]) -> list[dict[str, Any]]:
    counts = _errors(done[sweep_stage(width)])
    n = len(counts) // len(protocol.temperatures)
    return [
        {"width": width, "temperature": temperature, "errors": counts[i * n : (i + 1) * n]}
        for i, temperature in enumerate(protocol.temperatures)
    ]


def _bias(
    run: Mapping[str, Any], done: Done, train: Dataset, test: Dataset, sign: int
) -> dict[str, Any]:
    """A transfer set without some classes: errors as trained, with the bias that matches
    frequencies, with the best.

    The bias moved is that of the classes that the paper moves: of the omitted ones up (`sign` +1),
    or of the only ones down (-1). Frequencies are matched on all training images, whose labels
    serve to count classes and nothing else.
    """
    kept = set(run["data"]["classes"])
    moved = tuple(sorted(kept if sign < 0 else set(range(train.num_classes)) - kept))
    trained = done.trained()
    pairs = zip(trained.each(train), trained.each(test), strict=True)
    return {
        "kept": sorted(kept),
        "moved": list(moved),
        "examples": int(np.isin(labels_of(test), moved).sum()),
        "offsets": [sign * offset for offset in OFFSETS],
        "members": [_bias_member(*pair, train, test, moved, sign) for pair in pairs],
    }


def _bias_member(
    on_train: np.ndarray,
    on_test: np.ndarray,
    train: Dataset,
    test: Dataset,
    moved: Sequence[int],
    sign: int,
) -> dict[str, Any]:
    labels = labels_of(test)
    share = float(np.isin(labels_of(train), moved).mean())
    offsets = {
        "as trained": 0.0,
        "frequency": evals.match_frequency(on_train, moved, share),
        "best": evals.best_offset(on_test, labels, moved),
    }
    curve = evals.bias_curve(on_test, labels, moved, [sign * offset for offset in OFFSETS])
    return {
        **{name: _at(on_test, labels, moved, offset) for name, offset in offsets.items()},
        "curve": curve,
    }


def _at(
    on_test: np.ndarray, labels: np.ndarray, moved: Sequence[int], offset: float
) -> dict[str, float]:
    counts = evals.bias_curve(on_test, labels, moved, [offset])
    return {"offset": offset, **{name: values[0] for name, values in counts.items()}}


def _limit(done: Mapping[str, Done], teacher: np.ndarray, test: Dataset) -> dict[str, Any]:
    student = done["baseline"].trained().logits(test)[0]
    errors = kd.high_temperature_limit(student, teacher, TEMPERATURES)
    return {"temperatures": list(TEMPERATURES), "errors": np.median(errors, axis=-1).tolist()}


def _small(run: Mapping[str, Any], done: Done) -> dict[str, Any]:
    """Accuracy on the examples that a run was trained on, and on the test set, per member."""
    spec = resolve(run)
    seen = load(spec.data.source, spec.data.train, spec.data.data_dir)
    on_train = [evals.accuracy(one, labels_of(seen)) for one in done.trained().each(seen)]
    return {
        "examples": len(seen),
        "train": on_train,
        "test": [member["accuracy"] for member in done.evaluation["members"]],
        "best_step": done.evaluation.get("best_step"),
    }
