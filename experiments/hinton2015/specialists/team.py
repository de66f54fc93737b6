"""Stages that train specialists and their students, and measure every system."""

from __future__ import annotations

import dataclasses
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

import kd
from experiments.hinton2015.parts import labels_of
from experiments.hinton2015.specialists.lines import line, marks, numbers
from experiments.hinton2015.specialists.protocol import Clustering
from kd import evals, specialists
from kd.config import Spec, build, resolve
from kd.core import Outputs, make_optimizer
from kd.data import Dataset, load
from kd.errors import KdError
from kd.runs import Done
from kd.teachers import Trained

Run = Mapping[str, Any]


def specialise(
    folder: pathlib.Path,
    done: Mapping[str, Done],
    *,
    generalists: str,
    member: int,
    run: Run,
    clustering: Mapping[str, Any],
    correction: float,
    tops: Sequence[int],
    split: str,
    data_dir: str | None = None,
) -> dict[str, Any]:
    """Stage: the specialists of one generalist, and what the two answer together.

    The answers for the training examples are kept in ``answers.npz``, for students.
    """
    spec, generalist = resolve(run), done[generalists].trained().member(member)
    train, validation, test = (
        examples(spec, name, done, data_dir) for name in (spec.data.train, spec.data.eval, split)
    )
    how = build(Clustering, clustering, "clustering")
    seen = generalist.logits(examples(spec, how.split, done, data_dir))
    columns = specialists.covariance(seen, temperature=how.temperature)
    partition = specialists.clusters(columns, how.count, seed=member)
    classes = specialists.clusters(columns, how.count, size=how.size, seed=member)
    if how.groups:
        classes = _grouped(done)
    trained = specialists.fit(
        generalist,
        train,
        classes,
        spec.terms,
        epochs=spec.total_epochs or 1,
        **_training(spec),
        mesh=spec.mesh,
        title=f"{len(classes)} specialists of generalist {member}",
    )
    extra = {**trained.extra, "correction": correction * trained.extra["correction"]}
    trained = dataclasses.replace(trained, extra=extra)
    general, own = generalist.logits(train), trained.logits(train)
    answers: dict[str, Any] = {
        f"top{top}": specialists.joint(general, own, classes, top=top).log_probs for top in tops
    }
    np.savez(folder / "answers.npz", **answers)
    return {
        "classes": [line(special) for special in classes],
        "clusters": line(_cluster_of(partition, train.num_classes)),
        "validation": judged(generalist, trained, validation, classes, tops),
        "test": judged(generalist, trained, test, classes, tops),
    }


def judged(
    generalist: Trained,
    trained: Trained,
    data: Dataset,
    classes: specialists.Classes,
    tops: Sequence[int],
) -> dict[str, Any]:
    """The generalist by itself, and with its specialists at each number of top classes."""
    labels = labels_of(data)
    general, own = generalist.logits(data), trained.logits(data)
    return {
        "generalist": _wrong(general, labels),
        "conditional": _conditional(general, own, labels, classes),
        "tops": {str(top): _together(general, own, labels, classes, top) for top in tops},
    }


def _together(
    general: np.ndarray,
    own: np.ndarray,
    labels: np.ndarray,
    classes: specialists.Classes,
    top: int,
) -> dict[str, Any]:
    """What generalist and specialists get wrong together, and how eq. 5 was solved."""
    start = time.perf_counter()
    joint = specialists.joint(general, own, classes, top=top)
    seconds, answers = time.perf_counter() - start, np.asarray(joint.log_probs)
    return {
        "wrong": _wrong(answers, labels),
        "nll": evals.nll(answers, labels),
        "asked": float(joint.asked.sum(axis=-1).mean()),
        "iterations": {
            "mean": float(joint.iterations.mean()),
            "most": int(joint.iterations.max()),
        },
        "gradient": float(joint.gradient.max()),
        "seconds": seconds,
    }


def students(
    folder: pathlib.Path,
    done: Mapping[str, Done],
    *,
    network: str,
    team: str,
    run: Run,
    seed: int,
    temperatures: Sequence[float],
    top: int,
    split: str,
    data_dir: str | None = None,
) -> dict[str, Any]:
    """Stage: the step back, one network like that of the stage `network` from what generalist and
    specialists answer together, at every temperature.
    """
    del folder
    spec, model = resolve(run), done[network].trained().model
    train = examples(spec, spec.data.train, done, data_dir)
    with np.load(done[team].workdir / "answers.npz") as stored:
        teacher = kd.soft_labels(logits=stored[f"top{top}"], data=train)
    columns = kd.product(soft_targets__temperature=temperatures, seed=(seed,))
    trained = kd.fit(
        model,
        train,
        spec.terms,
        teacher=teacher,
        epochs=spec.total_epochs or 1,
        population=columns,
        **_training(spec),
        mesh=spec.mesh,
        title=f"students of {team}",
    )
    both = [examples(spec, name, done, data_dir) for name in (spec.data.eval, split)]
    return {"members": _members(trained, *both)}


def measure(
    folder: pathlib.Path,
    done: Mapping[str, Done],
    *,
    run: Run,
    systems: Sequence[str],
    teams: Sequence[str],
    split: str,
    data_dir: str | None = None,
) -> dict[str, Any]:
    """Stage: what every other system gets wrong, and how the clusters agree with groups that
    nobody was shown.
    """
    del folder
    spec = resolve(run)
    both = [examples(spec, name, done, data_dir) for name in (spec.data.eval, split)]
    generalists = done["generalists"].trained()
    whole = [
        np.asarray(Outputs(jnp.asarray(generalists.logits(data)), "arithmetic").log_probs())
        for data in both
    ]
    train = examples(spec, spec.data.train, done, data_dir)
    return {
        "examples": {
            "train": len(train),
            **{name: len(data) for name, data in zip(("validation", "test"), both, strict=True)},
        },
        "labels": line(labels_of(both[1])),
        "class_names": list(train.class_names or map(str, range(train.num_classes))),
        "systems": {
            "generalist": _members(generalists, *both),
            "ensemble": [_member(whole[0], whole[1], *both)],
            **{name: _members(done[name].trained(), *both) for name in systems},
        },
        "groups": _agreement(done, [done[team].evaluation for team in teams]),
    }


def examples(spec: Spec, split: str, done: Mapping[str, Done], data_dir: str | None) -> Dataset:
    """A split of what a run reads: features that an earlier stage made, or its own source."""
    place = done["features"].workdir if "features" in done else data_dir
    return load(spec.data.source, split, place)


def _training(spec: Spec) -> dict[str, Any]:
    """How a run's config trains, as the library is told."""
    return {
        "batch_size": spec.data.batch_size,
        "optimizer": make_optimizer(spec.optim),
        "learning_rate": spec.optim.learning_rate,
        "learning_rate_schedule": spec.optim.learning_rate_schedule,
    }


def _cluster_of(partition: specialists.Classes, num_classes: int) -> np.ndarray:
    """The number of every class's cluster."""
    cluster = np.zeros(num_classes, int)
    for number, members in enumerate(partition):
        cluster[list(members)] = number
    return cluster


def _grouped(done: Mapping[str, Done]) -> specialists.Classes:
    """The groups of the data as sets of classes."""
    groups = _groups(done)
    if groups is None:
        raise KdError("this data has no groups of classes; leave clustering.groups off")
    return tuple(
        tuple(i for i, group in enumerate(groups) if group == name) for name in sorted(set(groups))
    )


def _groups(done: Mapping[str, Done]) -> list[str] | None:
    return done["features"].evaluation["groups"] if "features" in done else None


def _agreement(done: Mapping[str, Done], teams: Sequence[Mapping[str, Any]]) -> Any:
    """For each team the adjusted Rand index of its clusters and the groups, and the mean share of
    the most common group among a specialist's classes, beside that of groups dealt out at random.
    """
    groups = _groups(done)
    if groups is None:
        return None
    names, places = np.unique(groups, return_inverse=True)
    return {"names": names.tolist(), "teams": [_beside(places, team) for team in teams]}


def _beside(places: np.ndarray, team: Mapping[str, Any]) -> dict[str, float]:
    from sklearn.metrics import adjusted_rand_score

    classes = [numbers(special) for special in team["classes"]]
    random = np.random.default_rng(0)
    chance = [_purity(random.permutation(places), classes) for _ in range(200)]
    return {
        "rand": float(adjusted_rand_score(places, numbers(team["clusters"]))),
        "purity": _purity(places, classes),
        "chance": float(np.mean(chance)),
    }


def _purity(places: np.ndarray, classes: Sequence[np.ndarray]) -> float:
    shares = [np.bincount(places[special]).max() / len(special) for special in classes]
    return float(np.mean(shares))


def _conditional(
    general: np.ndarray, own: np.ndarray, labels: np.ndarray, classes: specialists.Classes
) -> dict[str, int]:
    """Examples of each specialist's classes, and how many of them the generalist and the specialist
    get right when they may answer with these alone; summed over the specialists.
    """
    counts = {"examples": 0, "generalist": 0, "specialists": 0}
    for special, answers in zip(classes, own, strict=True):
        columns = np.asarray(special)
        rows = np.isin(labels, columns)
        counts["examples"] += int(rows.sum())
        for system, logits in (("generalist", general), ("specialists", answers)):
            chosen = columns[logits[rows][:, columns].argmax(axis=-1)]
            counts[system] += int((chosen == labels[rows]).sum())
    return counts


def _members(trained: Trained, validation: Dataset, test: Dataset) -> list[dict[str, Any]]:
    return [
        _member(*logits, validation, test)
        for logits in zip(trained.each(validation), trained.each(test), strict=True)
    ]


def _member(seen: np.ndarray, logits: np.ndarray, validation: Dataset, test: Dataset) -> Any:
    """Errors on validation, and the rows of the test set that are wrong."""
    labels = labels_of(test)
    return {
        "validation": evals.errors(seen, labels_of(validation)),
        "wrong": _wrong(logits, labels),
        "nll": evals.nll(logits, labels),
    }


def _wrong(logits: np.ndarray, labels: np.ndarray) -> str:
    return marks(evals.wrong(logits, labels), len(labels))
