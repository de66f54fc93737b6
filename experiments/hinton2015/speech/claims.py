"""What the results claim: accuracies, error rates, shares of a gain, each with an interval, against
its band.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from experiments.hinton2015.bands import Claim
from kd.evidence import Comparison, compare_counts, interval

Kind = Literal["frame_errors", "word_errors"]
Members = Sequence[Mapping[str, Any]]


def accuracies(results: Mapping[str, Any], members: Members) -> list[float]:
    """Frame accuracy of each member in per cent."""
    return [100 * (1 - float(counts(m, "frame_errors").sum()) / results["frames"]) for m in members]


def word_error_rates(members: Members) -> list[float]:
    """WER of each member in per cent: substitutions, deletions and insertions over the words said,
    one an utterance.
    """
    return [100 * float(counts(m, "word_errors").mean()) for m in members]


def counts(member: Mapping[str, Any], kind: Kind) -> np.ndarray:
    """Errors of one system in every utterance."""
    return np.array(member[kind].split(), int)


def by_speaker(results: Mapping[str, Any], members: Members, kind: Kind) -> np.ndarray:
    """Errors of every member in all that each speaker says, ``[m speakers]``: a speaker's
    utterances are alike.
    """
    speakers, places = np.unique(results["speakers"].split(), return_inverse=True)
    return np.stack([np.bincount(places, counts(m, kind), len(speakers)) for m in members])


def chosen(results: Mapping[str, Any]) -> str:
    """Name of the distilled system whose temperature did best on the validation speakers."""
    return f"distilled T={results['protocol']['temperatures'][results['chosen']]:g}"


def verdict(results: Mapping[str, Any], kind: Kind = "frame_errors") -> Comparison:
    """The distilled model against the baseline that starts with the same weights, paired by seed
    and speaker.
    """
    baselines = results["systems"]["baseline"][: len(results["seeds"])]
    return against(results, results["systems"][chosen(results)], baselines, kind)


def against(
    results: Mapping[str, Any], treatment: Members, control: Members, kind: Kind = "frame_errors"
) -> Comparison:
    """Errors of one system minus those of another, paired by seed and speaker."""
    return compare_counts(
        *(by_speaker(results, arm, kind).tolist() for arm in (treatment, control))
    )


def share_of_gain(results: Mapping[str, Any], members: Members) -> tuple[float, float, float]:
    """Share of the ensemble's gain in frame accuracy over the baselines that models have: value,
    and 95% interval.
    """
    arms = [results["systems"]["baseline"], results["systems"]["ensemble"], members]
    return _bootstrap(
        results, arms, "frame_errors", lambda base, best, model: _share(base - model, base - best)
    )


def share_of_way(results: Mapping[str, Any], members: Members) -> tuple[float, float, float]:
    """Share of the way from hard 3% to hard 100% in frame accuracy that models go: value, and 95%
    interval.
    """
    arms = [results["small"]["hard 3%"], results["small"]["hard 100%"], members]
    return _bootstrap(
        results, arms, "frame_errors", lambda hard, whole, model: _share(hard - model, hard - whole)
    )


def claims(results: Mapping[str, Any]) -> list[Claim]:
    """Every measure that has a band, beside the paper's."""
    systems, small, best = results["systems"], results["small"], chosen(results)
    percent = 100 / results["frames"]
    words = 100 / len(results["speakers"].split())
    measured = {
        "ensemble_gain": (
            "points of frame accuracy, ensemble - baseline",
            _bootstrap(
                results,
                [systems["baseline"], systems["ensemble"]],
                "frame_errors",
                lambda base, model: percent * (base - model),
            ),
        ),
        "share_of_gain": (
            f"share of that gain that {best} has",
            share_of_gain(results, systems[best]),
        ),
        "distilled_wer": (
            f"points of WER, {best} - baseline",
            _bootstrap(
                results,
                [systems["baseline"], systems[best]],
                "word_errors",
                lambda base, model: words * (model - base),
            ),
        ),
        "small_gain": (
            "points of frame accuracy, soft 3% - hard 3%",
            _bootstrap(
                results,
                [small["hard 3%"], small["soft 3%"]],
                "frame_errors",
                lambda hard, soft: percent * (hard - soft),
            ),
        ),
        "small_share": (
            "share of the way from hard 3% to hard 100% that soft 3% goes",
            share_of_way(results, small["soft 3%"]),
        ),
    }
    paper, bands = _paper(results["protocol"]["paper"]), results["protocol"]["bands"]
    return [
        Claim(name, about, paper.get(name), *values, tuple(bands[name]))
        for name, (about, values) in measured.items()
        if name in bands
    ]


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """``part / whole``, and NaN where there is no gain to have a share of."""
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1), np.nan)


def _bootstrap(
    results: Mapping[str, Any],
    arms: Sequence[Any],
    kind: Kind,
    statistic: Callable[..., np.ndarray],
) -> tuple[float, float, float]:
    return interval([by_speaker(results, arm, kind).tolist() for arm in arms], statistic)


def _paper(paper: Mapping[str, Sequence[float]]) -> dict[str, float]:
    if not paper:
        return {}
    (base, base_wer), (best, _), (distilled, distilled_wer) = (
        paper[name] for name in ("baseline", "ensemble", "distilled")
    )
    whole, hard, soft = (paper[name][1] for name in ("hard 100%", "hard 3%", "soft 3%"))
    return {
        "ensemble_gain": best - base,
        "share_of_gain": (distilled - base) / (best - base),
        "distilled_wer": distilled_wer - base_wer,
        "small_gain": soft - hard,
        "small_share": (soft - hard) / (whole - hard),
    }
