"""From results.json to what people read: Markdown, figures, one self-contained HTML page."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import pathlib
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kd.config.allowed import packages, stored_object
from kd.errors import KdError
from kd.pages.tables import Table
from kd.system.paths import check_ordinary

if TYPE_CHECKING:
    from matplotlib.figure import Figure


PAGES = (
    "experiments.hinton2015.page:page",
    "experiments.hinton2015.digits.page:page",
    "experiments.hinton2015.mnist.page:page",
    "experiments.hinton2015.speech.page:page",
    "experiments.hinton2015.specialists.page:page",
    "experiments.hinton2015.speech_chosen.page:page",
    "experiments.vision_table.page:page",
)
"""The pages that ship with kd, by the names that results.json has for them."""


@dataclasses.dataclass(frozen=True)
class Page:
    """What an experiment's results say: a text in Markdown, figures by file name, and the short
    version of it.

    The short version, for the terminal and the README, is a table, the verdict in a sentence, and
    the provenance.
    """

    markdown: str
    table: Table
    verdict: str
    provenance: str
    figures: Mapping[str, Figure]


def load_results(folder: pathlib.Path) -> dict[str, Any]:
    """The results.json of a folder. Raises a `KdError` if there is none or it is not whole."""
    path = folder / "results.json"
    check_ordinary(path)
    try:
        results = json.loads(path.read_text("utf-8"))
        if not isinstance(results, dict):
            raise ValueError("it holds no object")
        return results
    except OSError as error:
        raise KdError(
            f"{folder} has no results.json ({error.strerror}); run 'kd reproduce' first"
        ) from error
    except ValueError as error:
        raise KdError(f"{path} is damaged: {error}; run 'kd reproduce' again") from error


def build_page(
    results: Mapping[str, Any],
    allow_code: str | Iterable[str] = (),
    file: str | pathlib.Path = "results.json",
) -> Page:
    """The page of an experiment's results, by the function that the results name: one of `PAGES`,
    or one of a package in `allow_code` (see `kd.config.allowed`). Errors call the results `file`.

    Raises:
      KdError: the results name no such function, or lack what it reads.
    """
    if not isinstance(results.get("report"), str):
        raise KdError(
            "results.json does not say which function reports it (key 'report'); is it from 'kd "
            "reproduce'?"
        )
    allowed = [*PAGES, *packages(allow_code)]
    page = stored_object(results["report"], file, allowed)
    try:
        return page(results)
    except LookupError as error:
        raise KdError(
            f"results.json lacks {error}, which {results['report']} reads; run 'kd reproduce' again"
        ) from error
    except (
        TypeError,
        ValueError,
        AttributeError,
    ) as error:  # values of another kind than the page reads
        raise KdError(
            f"results.json is not what {results['report']} reads: {error}; run 'kd reproduce' again"
        ) from error


def write_report(folder: pathlib.Path, allow_code: str | Iterable[str] = ()) -> pathlib.Path:
    """Write README.md, figures/ and report.html beside a results.json, and return the HTML page's
    path.

    Raises:
      KdError: no results, none that `build_page` can show, or files that cannot be written.
    """
    from rich.console import Console
    from rich.progress import track

    page = build_page(load_results(folder), allow_code, folder / "results.json")
    silent = {
        "disable": not sys.stderr.isatty(),
        "transient": True,
        "console": Console(stderr=True),
    }
    drawings = {name: svg(page.figures[name]) for name in track(page.figures, "drawing", **silent)}
    html, text = folder / "report.html", render(page.markdown, drawings)
    try:
        (folder / "figures").mkdir(exist_ok=True)
        for name, drawing in drawings.items():
            (folder / "figures" / name).write_text(drawing, "utf-8")
        (folder / "README.md").write_text(_without_markup(page.markdown), "utf-8")
        html.write_text(text, "utf-8")
    except OSError as error:
        raise KdError(
            f"cannot write {error.filename or folder}: {error.strerror}; move it away, or free it"
        ) from error
    return html


def plain_axes(width: float, height: float, xlabel: str, ylabel: str) -> tuple[Figure, Any]:
    """A figure of so many inches, and its axes, as every page draws them: horizontal lines and no
    frame.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e3e3e3", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    return figure, axes


def demoted(markdown: str, prefix: str) -> str:
    """A page as a part of another one: its headings a level lower, its figures' file names after
    `prefix`.
    """
    lowered = re.sub(r"^(#+ )", r"#\1", markdown, flags=re.MULTILINE)
    return re.sub(r"\(figures/", f"(figures/{prefix}", lowered)


def svg(figure: Figure) -> str:
    """A figure as SVG text; the same figure gives the same bytes."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context(
        {"svg.hashsalt": "kd", "svg.fonttype": "none", "font.family": "sans-serif"}
    ):
        figure.savefig(buffer, format="svg", metadata={"Date": None}, bbox_inches="tight")
    return re.sub(r"[ \t]+$", "", buffer.getvalue(), flags=re.MULTILINE)


def render(markdown: str, drawings: Mapping[str, str]) -> str:
    """Markdown as one self-contained HTML page, its figures inlined.

    It loads nothing: HTML in the text stays text, and so does an image that is not in `drawings`.
    """
    import jinja2
    from markdown_it import MarkdownIt
    from markupsafe import Markup, escape

    sources = {
        f"figures/{name}": "data:image/svg+xml;base64," + base64.b64encode(text.encode()).decode()
        for name, text in drawings.items()
    }

    def image(renderer: Any, tokens: Sequence[Any], index: int, options: Any, env: Any) -> str:
        token = tokens[index]
        if token.attrs["src"] not in sources:
            return str(escape(token.content))
        token.attrs["src"] = sources[token.attrs["src"]]
        return renderer.image(tokens, index, options, env)

    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    parser.add_render_rule("image", image)
    body = parser.render(markdown)
    template = (pathlib.Path(__file__).parent / "report.html").read_text("utf-8")
    title = markdown.partition("\n")[0].lstrip("# ")
    return jinja2.Template(template, autoescape=True).render(title=title, body=Markup(body))


def _without_markup(markdown: str) -> str:
    """Markdown in which HTML is text, and so is an image that is not among the page's figures."""
    text = re.sub(r"<(?=[A-Za-z/!?])", "&lt;", markdown)
    return re.sub(r"!\[(?![^\]\n]*\]\(figures/)", r"!\\[", text)


def fill(text: str, marker: str, content: str) -> str:
    """`text` with everything between ``<!-- marker -->`` and ``<!-- /marker -->`` replaced by
    `content`.

    Raises:
      KdError: the markers are not there.
    """
    pattern = re.compile(
        rf"(<!-- {re.escape(marker)} -->\n).*?(<!-- /{re.escape(marker)} -->)", re.DOTALL
    )
    if not pattern.search(text):
        raise KdError(
            f"no markers <!-- {marker} --> and <!-- /{marker} --> to write between; add both lines"
        )
    return pattern.sub(lambda match: f"{match[1]}{content.strip()}\n{match[2]}", text)


def fill_file(path: pathlib.Path, marker: str, content: str) -> None:
    """`fill` on a file."""
    path.write_text(fill(path.read_text("utf-8"), marker, content), "utf-8")
