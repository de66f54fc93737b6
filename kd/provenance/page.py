"""What a test of provenance says, for people: a sentence with its assumption, tables, a page."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING

from kd.errors import KdError
from kd.pages import Table, plain_axes
from kd.pages.report import render, svg
from kd.provenance.accusing import Accusation, Against
from kd.system.records import write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SUSPECT, _NULL = "#c2543a", "#2b6cb0"
_INVALID = (
    "**The suspect is no draw like the controls.** Another architecture, recipe, length of "
    "training or data set than theirs makes a model closer to the teacher, or further from it, "
    "without any teaching. Train controls as the suspect says that it was trained.",
    "**Controls from other data than the teacher's.** They share less with it than an independent "
    "model of the same data does: nearly every such model then looks taught.",
    "**Another common source.** A suspect that shares first weights, a third teacher, a pretrained "
    "body or machine-made labels with the teacher is not independent of it, and was not taught by "
    "it.",
    "**Queries that somebody has trained on.** What is memorised says little of who taught.",
    "**Looking more than once.** The level holds for one suspect and the teachers named here; "
    "suspects, probe sets or statistics that were tried and left out count too.",
    "**A small p is no size.** It says how unusual the closeness is, not how much was taken.",
    "**A large p clears nobody.** It says that this test at this number of queries saw nothing: "
    "see its power.",
)


def sentence(told: Accusation, against: Against) -> str:
    """What was seen of one teacher, with its assumption."""
    models = told.ranking + 1
    close = round(against.p * models)
    several = "" if len(told.against) == 1 else f", {against.adjusted:.4g} over all teachers (Holm)"
    verdict = "is rejected" if against.adjusted <= told.level else "is not rejected"
    return (
        f"Under independence, of {models:,} models like these, {close:,} would look as close to "
        f"{against.teacher} as {told.suspect} does: p = {against.p:.4g}{several}; at a level of "
        f"{told.level:g} independence {verdict}."
    )


def assumption() -> str:
    """What all of it rests on."""
    return (
        "It rests on one assumption: a suspect that was not taught is one more draw of what the "
        "controls are drawn from."
    )


def table(told: Accusation) -> Table:
    """A row for each teacher."""
    rows = [
        [
            against.teacher,
            against.statistic,
            f"{against.score:.4f}",
            f"{max(against.null):.4f}",
            f"{against.p:.4g}",
            f"{against.adjusted:.4g}",
        ]
        for against in told.against
    ]
    columns = ["teacher", "closeness", "suspect", "closest control", "p", "p, Holm"]
    title = f"{told.suspect}: {told.queries:,} queries, {told.access}, {told.controls:,} controls"
    return Table(title, columns, rows)


def power_table(told: Accusation) -> Table:
    """How often this test finds a student that copies a share of its answers."""
    shares = list(told.against[0].power)
    rows = [
        [against.teacher, *(f"{against.power[share]:.0%}" for share in shares)]
        for against in told.against
    ]
    title = f"Power at a level of {told.level:g} and {told.queries:,} queries"
    return Table(title, ["teacher", *(f"{share:.0%} copied" for share in shares)], rows)


def histogram(against: Against) -> Figure:
    """The closeness of the controls, and the suspect's."""
    figure, axes = plain_axes(
        6.4, 3.2, f"closeness to {against.teacher} ({against.statistic})", "controls"
    )
    bins = min(40, max(8, len(against.null) // 12))
    axes.hist(against.null, bins=bins, color=_NULL, alpha=0.75, label="controls")
    axes.axvline(against.score, color=_SUSPECT, linewidth=2, label="suspect")
    axes.legend(frameon=False, fontsize=9)
    return figure


def figures(told: Accusation) -> dict[str, Figure]:
    """A histogram for each teacher, by file name."""
    return {f"null-{i}.svg": histogram(against) for i, against in enumerate(told.against)}


def markdown(told: Accusation) -> str:
    """The page in Markdown, its figures named ``figures/NAME.svg``."""
    parts = [f"# Was {told.suspect} taught by {_teachers(told)}?"]
    parts += [sentence(told, against) for against in told.against]
    parts += [assumption(), *(f"**Warning:** {warning}." for warning in told.warnings)]
    parts += [f"## {table(told).title}", table(told).markdown(), _how(told)]
    for i, against in enumerate(told.against):
        parts.append(f"![Closeness to {against.teacher}](figures/null-{i}.svg)")
    if told.against[0].power:
        parts += [f"## {power_table(told).title}", power_table(told).markdown(), _power()]
    parts += ["## What would make this invalid", "\n".join(f"- {why}" for why in _INVALID)]
    return "\n\n".join(parts) + "\n"


def write_accusation(told: Accusation, folder: pathlib.Path) -> pathlib.Path:
    """Write accusation.json and accusation.html into `folder`, and return the page's path.

    Raises a `KdError` where it cannot.
    """
    drawings = {name: svg(figure) for name, figure in figures(told).items()}
    text, html = render(markdown(told), drawings), folder / "accusation.html"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "accusation.json", told.to_json())
        html.write_text(text, "utf-8")
    except OSError as error:
        raise KdError(
            f"cannot write into {folder}: {error.strerror}; choose another --out"
        ) from error
    return html


def _teachers(told: Accusation) -> str:
    return " or ".join(against.teacher for against in told.against)


def _how(told: Accusation) -> str:
    tried = ", ".join(told.statistics)
    if len(told.statistics) == 1:
        return (
            f"Closeness is {tried}. p is the suspect's rank among {told.ranking:,} controls and "
            "itself, exact in finite samples."
        )
    return (
        f"Closeness is the largest excess over what half of the controls usually have, of {tried}; "
        f"p is the suspect's rank in it among the other {told.ranking:,} controls and itself."
    )


def _power() -> str:
    return (
        "The share of simulated students that this test finds. A student answers the share of the "
        "queries in the column as the teacher does, and the rest as one of the controls does. No "
        "real student is so simple: the table says what the number of queries and controls can "
        "show, not what teaching does."
    )
