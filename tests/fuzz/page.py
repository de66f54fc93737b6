"""The results as the table of docs/fuzz.md. Run: ``python -m tests.fuzz.page``."""

import collections
import json
import pathlib

from fuzz.oracle import KINDS
from kd.evidence import machine
from kd.pages.report import fill_file
from kd.pages.tables import Table

RESULTS = pathlib.Path(__file__).with_name("results.json")
PAGE = pathlib.Path(__file__).parents[2] / "docs" / "fuzz.md"
MARKER = "fuzz"
FAMILIES = {
    "commands": "mutated commands",
    "workdirs": "damaged work directories",
    "files": "damaged data files",
    "library": "library calls",
}


def rows(outcomes):
    """How many cases of each family ended how."""
    counts = collections.Counter((outcome.family, outcome.kind) for outcome in outcomes)
    return [
        {"family": family, **{kind: counts[family, kind] for kind in KINDS}}
        for family in FAMILIES
        if any(counts[family, kind] for kind in KINDS)
    ]


def table(rows):
    """A row per family."""
    cells = [
        [FAMILIES[row["family"]], *(f"{n:,}" for n in [tried(row), *(row[k] for k in KINDS)])]
        for row in rows
    ]
    return Table("fuzz", ("family", "tried", *KINDS), cells)


def markdown(results):
    """The table, with what it was measured on underneath."""
    about = results["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    return (
        f"{table(results['rows']).markdown()}\n\n"
        f"{about['cpu']}, {about['cores']} cores; Python {about['python']}, {versions}. "
        f"To repeat it: `{results['command']}`."
    )


def record(command, rows):
    """Put rows into results.json, in place of those of the same families, and write the page."""
    before = json.loads(RESULTS.read_text("utf-8"))["rows"] if RESULTS.exists() else []
    merged = {row["family"]: row for row in [*before, *rows]}
    kept = [merged[family] for family in FAMILIES if family in merged]
    results = {"command": command, "machine": machine(), "rows": kept}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    fill_file(PAGE, MARKER, markdown(results))


def tried(row):
    """How many cases that were."""
    return sum(row[kind] for kind in KINDS)


if __name__ == "__main__":
    fill_file(PAGE, MARKER, markdown(json.loads(RESULTS.read_text("utf-8"))))
