"""The page of sections 4 and 6: every word and number of it comes from results.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from experiments.hinton2015.bands import missed_line, shown
from experiments.hinton2015.parts import choices, making, provenance
from experiments.hinton2015.speech import hypotheses
from experiments.hinton2015.speech.claims import (
    accuracies,
    chosen,
    claims,
    share_of_gain,
    verdict,
    word_error_rates,
)
from experiments.hinton2015.speech.figures import small_figure, systems_figure
from kd.pages import Page, Table, plus_minus


def page(results: Mapping[str, Any]) -> Page:
    """The section alone on a page."""
    text, figures = section(results)
    heading = (
        f"# {results['experiment']}: acoustic models, their ensemble, and soft targets as "
        "regularisers"
    )
    text = "\n\n".join([heading, text, "## How this was made", making(results)])
    return Page(
        text + "\n", systems_table(results), verdict_line(results), provenance(results), figures
    )


def section(results: Mapping[str, Any]) -> tuple[str, dict[str, Figure]]:
    """Sections 4 and 6 in Markdown, to stand under a heading, and their figures by file name."""
    parts = [
        verdict_line(results),
        "## Section 4: an ensemble of acoustic models into one",
        systems_table(results).markdown(),
        f"On the {results['protocol']['split']} speakers: {results['frames']:,} frames, "
        f"{len(results['speakers'].split()):,} utterances. Mean ± standard deviation over n "
        "models that differ in "
        "their first weights alone. WER: words and silences decoded in a free loop, edit distance "
        "over the words said. "
        "The paper's data is another, and private: its numbers stand here for the differences "
        "between rows.",
        "![Frame accuracy of every model](figures/systems.svg)",
        "## Section 6: soft targets as regularisers",
        small_table(results).markdown(),
        "![Frame accuracy on training and test data](figures/small.svg)",
        *_bands(results),
        *hypotheses.section(results),
        "## The choices that the paper leaves open",
        _open_choices(results),
        protocol_table(results).markdown(),
    ]
    figures = {"systems.svg": systems_figure(results), "small.svg": small_figure(results)}
    return "\n\n".join(parts), figures


def verdict_line(results: Mapping[str, Any]) -> str:
    """The claim in one sentence, with its interval."""
    change = verdict(results)
    speakers = len({*results["speakers"].split()})
    return (
        f"**Verdict: {change.verdict}.** Distilling the ensemble ({chosen(results)}, the "
        "temperature chosen on the "
        f"validation speakers) changes the model's wrong frames by {change.difference:+,.0f} of "
        f"{results['frames']:,} "
        f"(95% interval {change.low:+,.0f} to {change.high:+,.0f}, paired bootstrap over "
        f"{change.seeds} seeds and "
        f"{speakers} speakers) against the baselines that start with the same weights: "
        f"{change.meaning}."
        f"{missed_line(claims(results))}"
    )


def systems_table(results: Mapping[str, Any]) -> Table:
    """Section 4: the paper's numbers beside ours."""
    paper, rows = results["protocol"]["paper"], []
    for name, members in results["systems"].items():
        theirs = _of_paper(paper, name.partition(" T")[0])
        share = "–" if name in ("baseline", "ensemble") else shown(*share_of_gain(results, members))
        rows.append(
            [
                name + (" (chosen)" if name == chosen(results) else ""),
                *theirs[:1],
                _percent(accuracies(results, members)),
                *theirs[1:],
                _percent(word_error_rates(members)),
                share,
                str(len(members)),
            ]
        )
    theirs = ["paper"] if paper else []
    columns = [
        "",
        *theirs,
        "frame accuracy",
        *[f"{name} " for name in theirs],
        "WER",
        "share of the gain",
        "n",
    ]
    return Table(f"Acoustic models on the {results['protocol']['split']} speakers", columns, rows)


def _of_paper(paper: Mapping[str, Sequence[float]], name: str) -> list[str]:
    """The paper's two numbers for a model, a dash for each that it lacks; none on other data."""
    if not paper:
        return []
    return [f"{value:g}%" for value in paper[name]] if name in paper else ["–", "–"]


def small_table(results: Mapping[str, Any]) -> Table:
    """Section 6: frame accuracy on the training data and on test, the paper's beside ours."""
    paper, rows = results["protocol"]["paper"], []
    for name, members in results["small"].items():
        theirs = _of_paper(paper, name)
        rows.append(
            [
                name,
                *theirs[:1],
                _percent([100 * m["train_accuracy"] for m in members]),
                *theirs[1:],
                _percent(accuracies(results, members)),
                _percent(word_error_rates(members)),
                str(len(members)),
            ]
        )
    theirs = ["paper"] if paper else []
    columns = [
        "training set",
        *theirs,
        "train",
        *[f"{name} " for name in theirs],
        "test",
        "WER",
        "n",
    ]
    return Table("Frame accuracy on training and test data", columns, rows)


def bands_table(results: Mapping[str, Any]) -> Table:
    """Every measure against the band that was written before the run."""
    rows = [
        [
            claim.about,
            "–" if claim.paper is None else f"{claim.paper:.2f}",
            shown(claim.value, claim.low, claim.high),
            f"{claim.band[0]:g} to {claim.band[1]:g}".replace(" ", "\N{NO-BREAK SPACE}"),
            "inside" if claim.met else "**outside**",
        ]
        for claim in claims(results)
    ]
    return Table("Against the bands", ["", "paper", "ours (95% interval)", "band", ""], rows)


def protocol_table(results: Mapping[str, Any]) -> Table:
    """What was trained, as the config says."""
    names = ("aligner", "baseline", "distilled", "small_hard", "small_soft")
    runs = {name: choices(results["protocol"][name]) for name in names}
    unused = {"jitter, pixels", "max-norm", "dropout, inputs / hidden"}
    rows = [
        [choice, *(run[choice] for run in runs.values())]
        for choice in runs["baseline"]
        if choice not in unused
    ]
    return Table("The protocol", ["", *runs], rows)


def _bands(results: Mapping[str, Any]) -> list[str]:
    if not results["protocol"]["bands"]:
        return []
    return [
        "## Paper, ours, band",
        bands_table(results).markdown(),
        "The bands were written down before the run; a missed one stays missed. Intervals: "
        "bootstrap over seeds and "
        "speakers.",
    ]


def _open_choices(results: Mapping[str, Any]) -> str:
    speech, corpus, alignments = (
        results["protocol"]["speech"],
        results["corpus"],
        results["alignments"],
    )
    sizes = corpus["splits"]
    split = ", ".join(
        f"{s['utterances']:,} utterances ({s['frames']:,} frames) of {s['speakers']} speakers for "
        f"{name}"
        for name, s in sizes.items()
    )
    changes = (
        ", ".join(f"{100 * a['changed']['train']:.1f}%" for a in alignments if "changed" in a)
        or "none"
    )
    lines = [
        f"Data: `{speech['data']['source']}`, {len(corpus['words'])} words; {split}; no speaker "
        "in two splits.",
        f"Features: {speech['bins']} log-mel energies, 25 ms windows every 10 ms, no dither, each "
        "dimension to mean 0 "
        "and variance 1 over all training frames; an utterance's end frames are repeated where a "
        "window leaves it.",
        f"States: {speech['per_word']} from left to right for every word and {speech['silence']} "
        "for silence, "
        f"{alignments[-1]['states']} in all (the paper has 14,000).",
        "Alignment: a flat start cuts the energetic part of every clip into equal states; then "
        f"{len(alignments) - 1} rounds of training and Viterbi with posteriors over priors, which "
        f"changed {changes} of "
        "the training frames. The test frames are aligned by the same models.",
        "Decoding: any words and silences in any order, all words equally probable; "
        + _penalty(results["tuned"]),
        f"The {results['protocol']['ensemble']} baselines share the order of batches and differ "
        "in their first "
        "weights; students pair with them, seed by seed. The 3% are the first 3% of the training "
        "frames, whose "
        "utterances lie in random order; their teacher is a single model trained on all.",
        results["protocol"]["notes"],
    ]
    return "\n".join(f"- {line}" for line in lines if line)


def _penalty(tuned: Mapping[str, Any]) -> str:
    """Which word penalty was chosen, and whether the grid was wide enough to say so."""
    rates = dict(sorted((penalty, wer) for penalty, wer in tuned["wer"]))
    tried = ", ".join(f"{penalty:g} ({100 * wer:.2f}%)" for penalty, wer in rates.items())
    place = "at the edge of" if tuned["penalty"] in (min(rates), max(rates)) else "inside"
    return (
        f"the word penalty, {tuned['penalty']:g} nats, has the fewest word errors of the "
        "baselines on the validation "
        f"speakers, and lies {place} the grid that was tried (with their WER): {tried}."
    )


def _percent(values: Sequence[float]) -> str:
    return f"{plus_minus(values, 2)}%"
