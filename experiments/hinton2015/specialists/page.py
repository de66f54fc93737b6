"""The page of section 5: every word and number of it comes from results.json."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.hinton2015.bands import missed_line, shown
from experiments.hinton2015.parts import choices, making, provenance
from experiments.hinton2015.specialists import claims, tested
from experiments.hinton2015.specialists.figures import coverage_figure, systems_figure
from experiments.hinton2015.specialists.lines import numbers
from kd.evidence import Comparison, mean_sd
from kd.pages import Page, Table, plus_minus

Results = Mapping[str, Any]
NAMES = {
    "generalist": "generalist",
    "longer": "generalist, trained as long in all",
    "ensemble": "ensemble of {ensemble} generalists",
    "self": "student of the generalist, T = {temperature:g}",
    "of_ensemble": "student of the ensemble, T = {temperature:g}",
    "of_specialists": "student of generalist and specialists, T = {temperature:g}",
}
_OF_UNITS = ("hidden units", "dropout, inputs / hidden")


def page(results: Results) -> Page:
    """Markdown, summary and figures."""
    main = systems_table(results)
    parts = [
        f"# {results['experiment']}: specialists, and the step back into one network",
        verdict_line(results),
        "## Specialists",
        specialists_table(results).markdown(),
        _how_conditional(results),
        "## By how many specialists have the right class",
        coverage_table(results).markdown(),
        _how_covered(results),
        "![Relative gain against the number of specialists](figures/coverage.svg)",
        "## The step back",
        main.markdown(),
        _how_back(results),
        "![Test accuracy of every model](figures/systems.svg)",
        *_bands(results),
        *tested.about_gain(results),
        *tested.about_student(results),
        "## The clusters",
        *_clusters(results),
        "## The joint distribution",
        _solved(results),
        "## The choices that the paper leaves open",
        protocol_table(results).markdown(),
        _notes(results),
        "## How this was made",
        making(results),
    ]
    figures = {"systems.svg": systems_figure(results), "coverage.svg": coverage_figure(results)}
    text = "\n\n".join(part for part in parts if part)
    return Page(text + "\n", main, verdict_line(results), provenance(results), figures)


def verdict_line(results: Results) -> str:
    """Both claims in a sentence each, with intervals."""
    ours = claims.compare(results, claims.team(results), claims.alone(results))
    back = claims.compare(
        results, claims.wrong(results, "of_specialists"), claims.wrong(results, "self")
    )
    relative = claims.gain(results, claims.team(results), claims.alone(results))
    return (
        f"**Verdict: {ours.verdict}.** Specialists change the generalist's test errors by "
        f"{_change(results, ours)}, a relative gain in accuracy of {shown(*relative)}%: "
        f"{ours.meaning}. **The step back: {back.verdict}.** A student of generalist and "
        f"specialists makes {_change(results, back)} against a student of the generalist alone, "
        f"the same network, steps and batches: {back.meaning}.{missed_line(claims.claims(results))}"
    )


def _change(results: Results, change: Comparison) -> str:
    return (
        f"{change.difference:+.1f} of {results['examples']['test']:,} (95% interval "
        f"{change.low:+.1f} to {change.high:+.1f}, paired bootstrap over {change.seeds} seeds and "
        "the test examples)"
    )


def specialists_table(results: Results) -> Table:
    """The paper's table: conditional and overall accuracy, generalist and with specialists."""
    paper, conditional = results["protocol"]["paper"], claims.conditional(results["teams"])
    rows = [
        [
            "generalist",
            *_theirs(paper, "generalist"),
            _percent(conditional[0]),
            _percent(claims.accuracies(results, claims.alone(results))),
            "–",
            "–",
            str(len(results["seeds"])),
        ]
    ]
    for top in results["protocol"]["tops"]:
        wrong = claims.team(results, top)
        chosen = " (taught)" if top == results["protocol"]["top"] else ""
        rows.append(
            [
                f"with specialists, n = {top}{chosen}",
                *_theirs(paper, "specialists" if top == 1 else ""),
                _percent(conditional[1]),
                _percent(claims.accuracies(results, wrong)),
                shown(*claims.gain(results, wrong, claims.alone(results))) + "%",
                f"{_mean(results, top, 'asked'):.2f}",
                str(len(results["seeds"])),
            ]
        )
    theirs = ["paper: conditional", "paper: overall"] if paper else []
    columns = ["", *theirs, "conditional accuracy", "accuracy", "relative gain", "asked", "n"]
    return Table("Generalist and specialists on the test examples", columns, rows)


def coverage_table(results: Results) -> Table:
    """The paper's table: change in right answers, and relative gain in accuracy, by the number of
    specialists that have the right class.
    """
    theirs = results["protocol"]["paper"].get("coverage")
    rows = []
    for number, examples, before, *after in claims.by_coverage(results):
        gains = [f"{a - before:+,} ({100 * (a - before) / max(before, 1):+.2f}%)" for a in after]
        paper = [_gained(theirs.get(str(number)))] if theirs else []
        rows.append([str(number), f"{examples:,}", f"{before:,}", *paper, *gains])
    tops = [f"n = {top}" for top in results["protocol"]["tops"]]
    paper = ["paper"] if theirs else []
    columns = ["specialists", "test examples", "generalist right", *paper, *tops]
    return Table("By coverage", columns, rows)


def systems_table(results: Results) -> Table:
    """Every system's accuracy, and how much of the specialists' gain it has."""
    protocol, rows = results["protocol"], []
    for name, text in NAMES.items():
        wrong = claims.wrong(results, name)
        rows.append(
            [
                text.format(temperature=_temperature(results, name), ensemble=protocol["ensemble"]),
                _percent(claims.accuracies(results, wrong)),
                plus_minus([member["nll"] for member in claims.members(results, name)], 3),
                "–" if name == "generalist" else shown(*claims.kept(results, name)),
                str(len(wrong)),
            ]
        )
        if name == "generalist":
            rows.append(_team_row(results))
    columns = ["", "accuracy", "NLL", "share of the specialists' gain", "n"]
    title = f"Test accuracy on {results['examples']['test']:,} examples"
    return Table(title, columns, rows)


def _temperature(results: Results, system: str) -> float:
    """What validation chose; 1 for a system that learns from labels."""
    if system in claims.FROM_LABELS:
        return 1.0
    return results["protocol"]["temperatures"][claims.temperature(results, system)]


def _team_row(results: Results) -> list[str]:
    top = str(results["protocol"]["top"])
    losses = [team["test"]["tops"][top]["nll"] for team in results["teams"]]
    return [
        f"with specialists, n = {top}",
        _percent(claims.accuracies(results, claims.team(results))),
        plus_minus(losses, 3),
        "1",
        str(len(losses)),
    ]


def bands_table(results: Results) -> Table:
    """Every measure against the band that was written before the run."""
    paper = results["protocol"]["paper"]
    rows = [
        [
            claim.about,
            *([_or_dash(claim.paper)] if paper else []),
            shown(claim.value, claim.low, claim.high),
            f"{claim.band[0]:g} to {claim.band[1]:g}".replace(" ", "\N{NO-BREAK SPACE}"),
            "inside" if claim.met else "**outside**",
        ]
        for claim in claims.claims(results)
    ]
    return Table(
        "Against the bands",
        ["", *(["paper"] if paper else []), "ours (95% interval)", "band", ""],
        rows,
    )


def _or_dash(value: float | None) -> str:
    return "–" if value is None else f"{value:g}"


def protocol_table(results: Results) -> Table:
    """What was trained, as the config says."""
    names = ("generalist", "longer", "specialist", "distilled")
    runs = {name: _choices(results["protocol"][name]) for name in names}
    unused = {"jitter, pixels", "max-norm"}
    if all(run["weight decay"] == "0" for run in runs.values()):
        unused.add("weight decay")
    rows = [
        [choice, *(run[choice] for run in runs.values())]
        for choice in runs["generalist"]
        if choice not in unused
    ]
    return Table("The protocol", ["", *runs], rows)


def _choices(run: Mapping[str, Any]) -> dict[str, str]:
    """What a run's config says: of a network without hidden units its options in their place."""
    told = {**choices(run), "weight decay": f"{run['optim']['weight_decay']:g}"}
    if "widths" in run["student"]:
        return told
    others = {choice: text for choice, text in told.items() if choice not in _OF_UNITS}
    return {"network": _network(run["student"]), **others}


def _network(student: Mapping[str, Any]) -> str:
    options = [f"{key} {value:g}" for key, value in student.items() if key in ("depth", "width")]
    return ", ".join([student["name"], *options])


def _bands(results: Results) -> list[str]:
    if not results["protocol"]["bands"]:
        return []
    return [
        "## Paper, ours, band",
        bands_table(results).markdown(),
        "The bands were written down before the run; a missed one stays missed. Intervals: "
        "bootstrap over seeds and test examples.",
    ]


def _clusters(results: Results) -> list[str]:
    names, first = results["class_names"], results["teams"][0]["classes"]
    listed = "\n".join(f"- {', '.join(names[c] for c in numbers(special))}" for special in first)
    how = results["protocol"]["clustering"]
    size = "a cluster" if how["size"] is None else f"the {how['size']} nearest to a centre"
    intro = (
        f"K-means on the columns of the covariance of the generalist's predictions on "
        f"`{how['split']}` (T = {how['temperature']:g}); no label is looked at. Each of the "
        f"{how['count']} specialists has the classes of {size}. Those of generalist 0:"
    )
    return [intro, listed, _groups(results)]


def _groups(results: Results) -> str:
    groups = results["groups"]
    if groups is None:
        return ""
    rand, purity, chance = (
        mean_sd([team[key] for team in groups["teams"]]) for key in ("rand", "purity", "chance")
    )
    return (
        f"Nobody showed the method the {len(groups['names'])} domains of these classes. The "
        f"clusters agree with them by an adjusted Rand index of {rand[0]:.2f} ± {rand[1]:.2f} "
        f"(chance is 0, the same partition 1); of a specialist's classes {100 * purity[0]:.0f}% "
        f"are of its most common domain, and {100 * chance[0]:.0f}% where domains are dealt out at "
        "random."
    )


def _solved(results: Results) -> str:
    lines = "\n".join(_solved_at(results, top) for top in results["protocol"]["tops"])
    return (
        "Eq. 5 is solved for each example until the norm of the gradient is below 1e-6; one that "
        f"is not there after 50 iterations, in float32, is left as it is.\n\n{lines}"
    )


def _solved_at(results: Results, top: int) -> str:
    solved = [team["test"]["tops"][str(top)] for team in results["teams"]]
    mean = mean_sd([joint["iterations"]["mean"] for joint in solved])[0]
    most = max(joint["iterations"]["most"] for joint in solved)
    gradient = max(joint["gradient"] for joint in solved)
    seconds = max(joint["seconds"] for joint in solved)
    return (
        f"- n = {top}: {mean:.1f} iterations an example, {most} at most; the largest norm of a "
        f"gradient that is left {gradient:.1e}; {results['examples']['test']:,} examples in "
        f"{seconds:.1f} s at most, compilation included."
    )


def _how_conditional(results: Results) -> str:
    return (
        f"Mean ± standard deviation over {len(results['seeds'])} generalists, each with "
        "specialists of its own. Conditional: on the examples of each specialist's classes, where "
        "only these may be answered, over all specialists. Asked: specialists per example. "
        + (
            "The paper's data is another, and private: its numbers stand here for the differences "
            "between rows."
            if results["protocol"]["paper"]
            else ""
        )
    )


def _how_covered(results: Results) -> str:
    theirs = results["protocol"]["paper"].get("coverage")
    few, many = (
        claims.gain_where(results, covered)
        for covered in (lambda number: number < 3, lambda number: number >= 3)
    )
    text = (
        "Change in right answers against the generalist, summed over the seeds. At n = "
        f"{results['protocol']['top']} the gain is {few:+.2f}% where fewer than three specialists "
        "have the right class"
    )
    text += "." if math.isnan(many) else f", and {many:+.2f}% where three or more have it."
    if not theirs:
        return text
    ordered = sorted(theirs.items(), key=lambda pair: int(pair[0].split()[0]))
    gains = ", ".join(f"{number}: {_gained(gain)}" for number, gain in ordered)
    return f"{text} The paper's gain grows with their number ({gains})."


def _gained(gain: float | None) -> str:
    return "–" if gain is None else f"{gain:+g}%"


def _how_back(results: Results) -> str:
    tried = [f"{temperature:g}" for temperature in results["protocol"]["temperatures"]]
    at = f"the temperature {tried[0]}"
    if len(tried) > 1:
        at = (
            f"the temperatures {', '.join(tried)}, of which the validation examples choose one for "
            "each kind"
        )
    return (
        "All but the ensemble and the row with specialists are one network of the generalist's "
        f"size. The three kinds of students train alike, at {at}. Last epoch, always."
    )


def _notes(results: Results) -> str:
    sizes = results["examples"]
    data = (
        f"{sizes['train']:,} training, {sizes['validation']:,} validation and {sizes['test']:,} "
        "test examples. A specialist's epochs are passes over its special examples; as many others "
        "come with them."
    )
    return "\n\n".join(text for text in (data, results["protocol"]["notes"]) if text)


def _theirs(paper: Mapping[str, Sequence[float]], row: str) -> list[str]:
    if not paper:
        return []
    return [f"{value:g}%" for value in paper[row]] if row else ["–", "–"]


def _mean(results: Results, top: int, key: str) -> float:
    return mean_sd([team["test"]["tops"][str(top)][key] for team in results["teams"]])[0]


def _percent(values: Sequence[float]) -> str:
    return f"{plus_minus(values, 2)}%"
