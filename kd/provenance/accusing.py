"""Whether a suspect is closer to a teacher than independent models are: a rank among controls."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kd.errors import KdError
from kd.hints import checked
from kd.provenance.answers import Answers, answers_of, mixed
from kd.provenance.closeness import STATISTICS, Access, Closeness, Truth, chosen
from kd.provenance.ranks import check_enough, holm, rank_p

SHARES = (0.02, 0.05, 0.1, 0.2, 0.5)
"""Of the queries that a simulated student answers as its teacher does."""
_SIMULATED = 100  # students for an estimate of power, at most


@dataclasses.dataclass(frozen=True)
class Against:
    """The suspect against one teacher.

    `score` is its closeness and `null` that of the controls that rank it; `p` is its rank among
    them, and `adjusted` the same adjusted for all teachers (Holm). `statistic` is the one that
    counted. `power` maps a share of queries to the share of simulated students that the test finds
    at its level: a student answers that share as the teacher does, and the rest as an independent
    model.
    """

    teacher: str
    statistic: str
    score: float
    null: tuple[float, ...]
    p: float
    adjusted: float
    power: Mapping[float, float]


@dataclasses.dataclass(frozen=True)
class Accusation:
    """What a suspect's closeness to one teacher or several says, at a level of false accusations.

    `controls` were compared on `queries` examples; of them `ranking` gave the ranks: half of them
    where several statistics were tried, else all.
    """

    suspect: str
    against: tuple[Against, ...]
    access: Access
    statistics: tuple[str, ...]
    level: float
    controls: int
    ranking: int
    queries: int
    warnings: tuple[str, ...] = ()

    @property
    def accused(self) -> tuple[str, ...]:
        """The teachers from which independence is rejected at the level."""
        return tuple(model.teacher for model in self.against if model.adjusted <= self.level)

    def to_json(self) -> dict[str, Any]:
        """As dictionaries and lists."""
        return dataclasses.asdict(self)


@checked
def accuse(
    suspect: Any,
    teachers: Any,
    controls: Any,
    *,
    truth: np.ndarray | None = None,
    access: Access = "logits",
    statistics: Sequence[str] = (),
    level: float = 0.01,
    suspect_name: str = "the suspect",
    power: bool = True,
    warnings: Sequence[str] = (),
) -> Accusation:
    """Whether `suspect` is closer to a teacher than models are that nobody taught: its rank among
    `controls` (see `kd.provenance.rank_p`), adjusted over the teachers (`kd.provenance.holm`).

    It is exact, in finite samples, where a suspect that was not taught is one more draw of what the
    controls are drawn from. Where several statistics are tried, one half of the controls says how
    large each one usually is, and the largest excess of the suspect is ranked among the largest
    excess of each model of the other half. To choose by the suspect and rank by that choice alone
    would accuse too often.

    Args:
      suspect: answers to the probe set, in order: logits ``[n v]`` or labels ``[n]``.
      teachers: the same of one teacher, or a mapping from names to them.
      controls: logits ``[m n v]`` or labels ``[m n]``, or a sequence of models' answers.
      truth: labels ``[n]`` of the probe set, for statistics that count mistakes.
      access: what is seen of the suspect: with "labels" logits are not looked at.
      statistics: names of `kd.provenance.STATISTICS`; by default one that the access allows.
      level: the largest share of independent models that may be accused.
      suspect_name: what the answer calls the suspect.
      power: whether power is estimated too.
      warnings: what the answer must say besides.

    Raises:
      KdError: fewer controls than the level takes, answers to other queries or of other classes,
        a suspect or teacher among the controls, or a statistic that cannot be computed.
    """
    named = _named(teachers)
    suspected = answers_of(suspect, suspect_name)
    taught = {name: answers_of(values, name) for name, values in named.items()}
    pool = [answers_of(values, f"control {i}") for i, values in enumerate(controls)]
    labelled = truth is not None
    names = chosen(statistics, access, labelled=labelled)
    check_enough(level, len(pool), len(taught), split=len(names) > 1)
    check_alike(suspect_name, suspected, taught, pool)
    if access == "labels":
        suspected, pool = _labels_only(suspected), [_labels_only(model) for model in pool]
        taught = {name: _labels_only(model) for name, model in taught.items()}
    trials = {
        name: _trial(suspected, model, pool, truth, names, level / len(taught), power)
        for name, model in taught.items()
    }
    adjusted = holm([trial.p for trial in trials.values()])
    against = tuple(
        dataclasses.replace(trial, teacher=name, adjusted=value)
        for (name, trial), value in zip(trials.items(), adjusted, strict=True)
    )
    return Accusation(
        suspect_name,
        against,
        access,
        names,
        level,
        len(pool),
        len(against[0].null),
        len(suspected.labels),
        tuple(warnings),
    )


def check_alike(
    suspect_name: str,
    suspect: Answers,
    teachers: Mapping[str, Answers],
    controls: Sequence[Answers],
) -> None:
    """Raise a `KdError` unless all answered the same queries with the same classes, and no control
    is the suspect or a teacher.
    """
    everyone = {
        suspect_name: suspect,
        **teachers,
        **{f"control {i}": model for i, model in enumerate(controls)},
    }
    first_name, first = next(iter(everyone.items()))
    for name, answers in everyone.items():
        if len(answers.labels) != len(first.labels):
            raise KdError(
                f"{first_name} answers {len(first.labels):,} queries and {name} "
                f"{len(answers.labels):,}; give answers to the same probe set"
            )
    widths = {
        name: model.log_probs.shape[1]
        for name, model in everyone.items()
        if model.log_probs is not None
    }
    others = [name for name in widths if widths[name] != next(iter(widths.values()))]
    if others:
        usual = next(iter(widths))
        raise KdError(
            f"{usual} answers with {widths[usual]} classes and {others[0]} with "
            f"{widths[others[0]]}; only models of the same classes can be compared"
        )
    whose = {
        model.digest: name for name, model in everyone.items() if name in (suspect_name, *teachers)
    }
    for i, model in enumerate(controls):
        if model.log_probs is not None and model.digest in whose:
            raise KdError(
                f"control {i} answers as {whose[model.digest]} does, to the last bit: it is no "
                "control; leave it out"
            )


def _trial(
    suspect: Answers,
    teacher: Answers,
    controls: Sequence[Answers],
    truth: Truth,
    names: Sequence[str],
    level: float,
    power: bool,
) -> Against:
    """One teacher: the suspect's rank, and the power of such ranks."""
    if len(names) == 1:
        ranking, statistic = controls, names[0]
        closeness = STATISTICS[statistic][1](teacher, [suspect, *controls], truth)
    else:
        learning, ranking = halves(controls)
        excesses = {name: _excess(name, teacher, learning, truth) for name in names}
        statistic = max(names, key=lambda name: excesses[name](suspect))
        closeness = _largest(list(excesses.values()))

    null = np.array([closeness(control) for control in ranking])
    score = closeness(suspect)
    caught = _power(closeness, null, ranking, teacher, level) if power else {}
    p = rank_p(score, null)
    return Against("", statistic, score, tuple(null.tolist()), p, p, caught)


def halves(controls: Sequence[Answers]) -> tuple[list[Answers], list[Answers]]:
    """Two halves of the controls, whatever their order: by the digest of their answers."""
    ordered = sorted(controls, key=lambda model: model.digest)
    return ordered[1::2], ordered[::2]


def _largest(excesses: Sequence[Closeness]) -> Closeness:
    return lambda who: max(excess(who) for excess in excesses)


def _excess(name: str, teacher: Answers, learning: Sequence[Answers], truth: Truth) -> Closeness:
    """Closeness above the mean of some controls, in their standard deviations."""
    closeness = STATISTICS[name][1](teacher, learning, truth)
    usual = np.array([closeness(model) for model in learning])
    mean, spread = usual.mean(), usual.std(ddof=1)
    return lambda who: float((closeness(who) - mean) / spread) if spread > 0 else 0.0


def _power(
    closeness: Closeness,
    null: np.ndarray,
    controls: Sequence[Answers],
    teacher: Answers,
    level: float,
) -> dict[float, float]:
    """For each share of queries, the share of simulated students with ``p <= level``; each is made
    of one control and ranked among all.
    """
    rng = np.random.default_rng(0)
    picked = np.linspace(0, len(controls) - 1, min(_SIMULATED, len(controls))).astype(int)
    caught: dict[float, float] = {}
    for share in SHARES:
        p_values = []
        for i in picked:
            copied = rng.random(len(teacher.labels)) < share
            student = mixed(controls[i], teacher, copied)
            p_values.append(rank_p(closeness(student), null))
        caught[share] = float(np.mean(np.array(p_values) <= level))
    return caught


def _named(teachers: Any) -> dict[str, Any]:
    named = dict(teachers) if isinstance(teachers, Mapping) else {"the teacher": teachers}
    if not named:
        raise KdError("somebody must be the teacher; name one or more")
    return named


def _labels_only(answers: Answers) -> Answers:
    return Answers(answers.labels)
