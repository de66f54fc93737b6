"""The page of section 5: every word and number of it comes from results.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.hinton2015.parts import choices, making, provenance
from experiments.hinton2015.specialists import claims, tested
from experiments.hinton2015.specialists.figures import coverage_figure, systems_figure
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
        "Summed over the seeds. The paper: the more specialists have the right class, the more is "
        "gained."
        if results["protocol"]["paper"]
        else "Summed over the seeds.",
        "![Relative gain against the number of specialists](figures/coverage.svg)",
        "## The step back",
        main.markdown(),
        _how_back(results),
        "![Test accuracy of every model](figures/systems.svg)",
        *_bands(results),
        *tested.section(results),
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
        f"{_change(results, ours)}, a relative gain in accuracy of {claims.shown(*relative)}%: "
        f"{ours.meaning}. **The step back: {back.verdict}.** A student of generalist and "
        f"specialists makes {_change(results, back)} against a student of the generalist alone, "
        f"the same network, steps and batches: {back.meaning}.{_missed(results)}"
    )


def _change(results: Results, change: Comparison) -> str:
    return (
        f"{change.difference:+.1f} of {results['examples']['test']:,} (95% interval "
        f"{change.low:+.1f} to {change.high:+.1f}, paired bootstrap over {change.seeds} seeds and "
        "the test examples)"
    )


def _missed(results: Results) -> str:
    found = claims.claims(results)
    missed = [claim.missed for claim in found if claim.missed]
    if not found:
        return ""
    if not missed:
        return f" All {len(found)} bands are met."
    return f" **Missed: {len(missed)} of {len(found)} bands**: {'; '.join(missed)}."


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
                claims.shown(*claims.gain(results, wrong, claims.alone(results))) + "%",
                f"{_mean(results, top, 'asked'):.2f}",
                str(len(results["seeds"])),
            ]
        )
    theirs = ["paper: conditional", "paper: overall"] if paper else []
    columns = ["", *theirs, "conditional accuracy", "accuracy", "relative gain", "asked", "n"]
    return Table("Generalist and specialists on the test examples", columns, rows)


def coverage_table(results: Results) -> Table:
    """Relative gain in accuracy by the number of specialists that have the right class."""
    rows = []
    for number, examples, before, after in claims.by_coverage(results, results["protocol"]["top"]):
        rows.append(
            [
                str(number),
                f"{examples:,}",
                f"{before:,}",
                f"{after - before:+,}",
                f"{100 * (after - before) / max(before, 1):+.2f}%",
            ]
        )
    columns = ["specialists", "test examples", "generalist right", "change", "relative gain"]
    return Table("By coverage", columns, rows)


def systems_table(results: Results) -> Table:
    """Every system's accuracy, and how much of the specialists' gain it has."""
    protocol, rows = results["protocol"], []
    for name, text in NAMES.items():
        chosen = name in claims.TAUGHT
        temperature = protocol["temperatures"][claims.temperature(results, name)] if chosen else 0
        wrong = claims.wrong(results, name)
        rows.append(
            [
                text.format(temperature=temperature, ensemble=protocol["ensemble"]),
                _percent(claims.accuracies(results, wrong)),
                plus_minus([member["nll"] for member in claims.members(results, name)], 3),
                "–" if name == "generalist" else claims.shown(*claims.kept(results, name)),
                str(len(wrong)),
            ]
        )
        if name == "generalist":
            rows.append(_team_row(results))
    columns = ["", "accuracy", "NLL", "share of the specialists' gain", "n"]
    title = f"Test accuracy on {results['examples']['test']:,} examples"
    return Table(title, columns, rows)


def _team_row(results: Results) -> list[str]:
    top = str(results["protocol"]["top"])
    losses = [one["test"]["tops"][top]["nll"] for one in results["teams"]]
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
            *(["–" if claim.paper is None else f"{claim.paper:g}"] if paper else []),
            claims.shown(claim.value, claim.low, claim.high),
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


def protocol_table(results: Results) -> Table:
    """What was trained, as the config says."""
    names = ("generalist", "longer", "specialist", "distilled")
    runs = {name: choices(results["protocol"][name]) for name in names}
    unused = {"jitter, pixels", "max-norm"}
    rows = [
        [choice, *(run[choice] for run in runs.values())]
        for choice in runs["generalist"]
        if choice not in unused
    ]
    return Table("The protocol", ["", *runs], rows)


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
    lines = "\n".join(f"- {', '.join(names[c] for c in special)}" for special in first)
    told = results["protocol"]["clustering"]
    size = "a cluster" if told["size"] is None else f"the {told['size']} nearest to a centre"
    how = (
        f"K-means on the columns of the covariance of the generalist's predictions on "
        f"`{told['split']}` (T = {told['temperature']:g}); no label is looked at. Each of the "
        f"{told['count']} specialists has the classes of {size}. Those of generalist 0:"
    )
    return [how, lines, _groups(results)]


def _groups(results: Results) -> str:
    found = results["groups"]
    if found is None:
        return ""
    teams = found["teams"]
    rand, purity, chance = (
        mean_sd([one[key] for one in teams]) for key in ("rand", "purity", "chance")
    )
    return (
        f"Nobody showed the method the {len(found['names'])} domains of these classes. The "
        f"clusters agree with them by an adjusted Rand index of {rand[0]:.2f} ± {rand[1]:.2f} "
        f"(chance is 0, the same partition 1); of a specialist's classes {100 * purity[0]:.0f}% "
        f"are of its most common domain, and {100 * chance[0]:.0f}% where domains are dealt out at "
        "random."
    )


def _solved(results: Results) -> str:
    lines = []
    for top in results["protocol"]["tops"]:
        found = [one["test"]["tops"][str(top)] for one in results["teams"]]
        most = max(one["iterations"][1] for one in found)
        mean = mean_sd([one["iterations"][0] for one in found])[0]
        seconds = max(one["seconds"] for one in found)
        lines.append(
            f"- n = {top}: {mean:.1f} iterations an example, {most} at most; the largest norm of a "
            f"gradient that is left {max(one['gradient'] for one in found):.1e}; "
            f"{results['examples']['test']:,} examples in {seconds:.1f} s at most, compilation "
            "included."
        )
    return "\n".join(lines)


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


def _how_back(results: Results) -> str:
    protocol = results["protocol"]
    tried = ", ".join(f"{one:g}" for one in protocol["temperatures"])
    return (
        "All but the ensemble and the row with specialists are one network of the generalist's "
        f"size. The three kinds of students train alike, at the temperatures {tried}, of which the "
        "validation examples choose one for each kind. Last epoch, always."
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
    return mean_sd([one["test"]["tops"][str(top)][key] for one in results["teams"]])[0]


def _percent(values: Sequence[float]) -> str:
    return f"{plus_minus(values, 2)}%"
