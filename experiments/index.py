"""The index of experiments: question, status and headline of each, from what is recorded.

``python -m experiments.index`` writes all that shows what is recorded: every page, the README's
tables, the index.
"""

from __future__ import annotations

import pathlib

from experiments import EXPERIMENTS, Experiment
from kd.report import build_page, fill_file, load_results, write_report
from kd.tables import Table

HERE = pathlib.Path(__file__).parent


def index() -> str:
    """``experiments/README.md``, a row per experiment."""
    rows = [[f"`{name}`", one.about, *_found(name, one)] for name, one in EXPERIMENTS.items()]
    table = Table("", ["experiment", "question", "status", "headline"], rows)
    return f"# Experiments\n\n`kd reproduce NAME` runs or resumes one.\n\n{table.markdown()}\n"


def _found(name: str, experiment: Experiment) -> list[str]:
    folder = HERE / experiment.record
    if not (folder / "results.json").exists():
        return ["not recorded", "–"]
    results = load_results(folder)
    results = results.get("parts", {name: results}).get(name)
    if results is None:
        return ["not recorded", "–"]
    return [f"[recorded]({experiment.record}/README.md)", build_page(results).verdict]


def write() -> None:
    """All pages anew, from results alone."""
    for folder in sorted(path.parent for path in HERE.rglob("results.json")):
        write_report(folder)
        kept = load_results(folder)
        for results in kept.get("parts", {"": kept}).values():
            fill_file(HERE.parent / "README.md", results["experiment"], build_page(results).summary)
    (HERE / "README.md").write_text(index(), "utf-8")


if __name__ == "__main__":
    write()
