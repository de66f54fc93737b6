"""Run an experiment, show its table and verdict, and keep the record."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

from kd.config import fingerprint_of
from kd.errors import KdError
from kd.evidence import machine
from kd.names import lookup
from kd.pages.report import Page, build_page, load_results, write_report
from kd.system import words
from kd.system.records import write_json

_WIDE = 160


def reproduce(
    name: str, function: str, config: Mapping[str, Any], folder: pathlib.Path, command: str
) -> pathlib.Path:
    """Run or resume an experiment into `folder`, print its page's summary, and return the HTML
    page's path.

    `function` is ``package.module:run``; it takes (config, folder) and returns results that JSON
    can hold.

    Raises:
      KdError: what the experiment raises, or a folder that cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise KdError(
            f"cannot write {folder}: {error.strerror}; choose another --workdir"
        ) from error
    measured = lookup("experiment", function, {})(config, folder)
    results = {
        "experiment": name,
        "command": command,
        "fingerprint": fingerprint_of([stage["fingerprint"] for stage in measured["stages"]]),
        "machine": machine(),
        **measured,
    }
    try:
        write_json(folder / "results.json", results)
    except OSError as error:
        raise KdError(
            f"cannot write {folder / 'results.json'}: {error.strerror}; move what is there away"
        ) from error
    with words.doing("writing the report"):
        html = write_report(folder)
    _show(build_page(results))
    return html


def record(name: str, folder: pathlib.Path, into: pathlib.Path, whole: str = "") -> None:
    """Keep the results of `folder` in the repository, and rebuild their page.

    With `whole`, ``package.module:page``, they become one part of the results that are kept there,
    and the page is that of all parts.
    """
    results = load_results(folder)
    kept = results
    if whole:
        parts: dict[str, Any] = {"report": whole, "parts": {}}
        kept = load_results(into) if (into / "results.json").exists() else parts
        kept["parts"][name] = results
    into.mkdir(parents=True, exist_ok=True)
    write_json(into / "results.json", kept)
    write_report(into)


def _show(page: Page) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:  # a file has no width, and would be given 80 columns
        console = Console(highlight=False, width=_WIDE)
    console.print(page.table.rich(), soft_wrap=True)
    for text in (page.verdict, page.provenance):
        console.print(
            text.replace("**", "").replace("`", ""), markup=False, soft_wrap=not console.is_terminal
        )
