"""The page of the paper: its experiments one after another, each from its own results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kd.errors import KdError
from kd.pages import Page, build_page, demoted

ORDER = ("hinton2015-mnist", "hinton2015-speech", "hinton2015-specialists")
TITLE = "Distilling the Knowledge in a Neural Network (Hinton, Vinyals & Dean, 2015), reproduced"
INTRO = """\
Every table shows the paper's number, ours as mean ± standard deviation over n seeds, the band that
was written down before the run, and a verdict. Everything on this page is written from
`results.json` by `kd report experiments/hinton2015`; each part names the command that makes its
results, and how long that took on which hardware. Not reproduced: the
paper's private data of sections 4 and 5, in whose place stand public speech and sentences."""

_ABSENT = "implemented, and not recorded here yet: no numbers of it are on this page."


def page(results: Mapping[str, Any]) -> Page:
    """One page of all parts that have been run; its short version is that of the first."""
    pages = {name: build_page(results["parts"][name]) for name in ORDER if name in results["parts"]}
    if not pages:
        raise KdError(
            f"results.json holds no part that this page knows ({', '.join(ORDER)}); run 'kd "
            "reproduce' first"
        )
    figures = {
        f"{_short(name)}-{file}": figure
        for name, page in pages.items()
        for file, figure in page.figures.items()
    }
    verdicts = "\n".join(
        f"- {_short(name)}: {pages[name].verdict if name in pages else _ABSENT}" for name in ORDER
    )
    parts = [demoted(page.markdown, f"{_short(name)}-") for name, page in pages.items()]
    first = next(iter(pages.values()))
    text = "\n\n".join([f"# {TITLE}", INTRO, verdicts, *parts])
    return Page(text, first.table, first.verdict, first.provenance, figures)


def _short(name: str) -> str:
    return name.removeprefix("hinton2015-")
