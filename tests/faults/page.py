"""The results as the table in docs/scaling.md. Run: ``python -m tests.faults.page``."""

import fcntl
import json
import pathlib

from kd.pages.report import fill_file
from kd.pages.tables import Table

RESULTS = pathlib.Path(__file__).with_name("results.json")
PAGE = pathlib.Path(__file__).parents[2] / "docs" / "scaling.md"
MARKER = "faults"
COLUMNS = ("fault", "where", "times tried", "times exact", "slowest end")


def table(results):
    """A row per fault and place."""
    return Table("faults", COLUMNS, [_cells(row) for row in results["rows"]])


def markdown(results):
    """The table, with what it was measured on underneath."""
    machine, tried = results["machine"], sum(row["tried"] for row in results["rows"])
    exact, seconds = (
        sum(row["exact"] for row in results["rows"]),
        sum(row["seconds"] for row in results["rows"]),
    )
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    parts = [
        table(results).markdown(),
        f"{exact} of {tried} exact. " + " ".join(EXPLAINED),
        *(
            f"- {row['fault']}, {row['place']}: {wrong}"
            for row in results["rows"]
            for wrong in row["wrong"]
        ),
        f"{machine['cpu']}, {machine['cores']} cores; Python {machine['python']}, {versions}; "
        f"{seconds:,.0f} s. To repeat it: {_commands(results['rows'])}.",
    ]
    return "\n\n".join(parts)


def _commands(rows):
    return ", ".join(f"`{command}`" for command in dict.fromkeys(row["command"] for row in rows))


EXPLAINED = (
    "Exact: the run, started again, ends with the parameters, optimiser state, metrics and "
    "evaluation of one that",
    "nobody disturbed, bit for bit, and what the fault must say was said. Runs are of 30 steps "
    "with a checkpoint every",
    "3; the moment of a fault is uniform over a whole run from the first step of a start on, by "
    "file-system events and",
    "by seconds in turns, so that a run is killed again and again until a moment comes too late "
    "for it. With 8 devices",
    "the mesh is data 4 x fsdp 2. Logits that were cached cannot answer for streamed data, and "
    "are refused. Slowest",
    "end: the longest from the fault to the end of the process that must save, or must notice. "
    "Buckets are emulators",
    "behind a proxy that knows preconditions; there the events are requests, a tenth of which "
    "fail at random in one",
    "row, and a run must hold the bytes of the run on a disk.",
)


def record(machine, rows, order):
    """Put rows of this machine into results.json, in place of those of the same name and in this
    `order`, and write the page.
    """
    with open(__file__, encoding="utf-8") as lock:  # two of these may run side by side
        fcntl.flock(lock, fcntl.LOCK_EX)
        _record(machine, rows, order)


def _record(machine, rows, order):
    before = json.loads(RESULTS.read_text("utf-8"))["rows"] if RESULTS.exists() else []
    merged = {row["name"]: row for row in [*before, *rows]}
    kept = [merged[name] for name in order if name in merged]
    results = {"machine": machine, "rows": kept}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    fill_file(PAGE, MARKER, markdown(results))


def _cells(row):
    if row["skipped"]:
        return [row["fault"], row["place"], f"skipped: {row['skipped']}", "", ""]
    slowest = "" if row["slowest"] is None else f"{row['slowest']:.1f} s"
    return [row["fault"], row["place"], str(row["tried"]), str(row["exact"]), slowest]


if __name__ == "__main__":
    fill_file(PAGE, MARKER, markdown(json.loads(RESULTS.read_text("utf-8"))))
