"""The index of experiments: question, status and headline of each, from what is recorded.

``python -m experiments.index`` writes all that shows what is recorded: every page, the index, and
the verdicts in the README.
"""

from __future__ import annotations

import pathlib

from experiments import EXPERIMENTS, Experiment
from kd.pages import Table, build_page, fill_file, load_results, write_report

HERE = pathlib.Path(__file__).parent


README = HERE.parent / "README.md"
FIRST = "hinton2015-digits"  # what ``make reproduce`` runs


def index() -> str:
    """``experiments/README.md``, a row per experiment."""
    rows = [
        [f"`{name}`", experiment.about, *_recorded(name, experiment)]
        for name, experiment in EXPERIMENTS.items()
    ]
    table = Table("", ["experiment", "question", "status", "headline"], rows)
    return f"# Experiments\n\n`kd reproduce NAME` runs or resumes one.\n\n{table.markdown()}\n"


def verdicts() -> str:
    """The README's lines: what each recorded experiment found, with a link to its page."""
    lines = []
    for name, experiment in EXPERIMENTS.items():
        verdict = _verdict(name, experiment)
        if verdict is not None:
            lines.append(f"- [`{name}`](experiments/{experiment.record}/README.md) {verdict}")
    return "\n".join(lines)


def _recorded(name: str, experiment: Experiment) -> list[str]:
    verdict = _verdict(name, experiment)
    if verdict is None:
        return ["not recorded", "–"]
    return [f"[recorded]({experiment.record}/README.md)", verdict]


def _verdict(name: str, experiment: Experiment) -> str | None:
    folder = HERE / experiment.record
    if not (folder / "results.json").exists():
        return None
    results = load_results(folder)
    results = results.get("parts", {name: results}).get(name)
    return None if results is None else build_page(results).verdict


def prints() -> str:
    """The table that ``make reproduce`` prints, from what is recorded of it."""
    return build_page(load_results(HERE / EXPERIMENTS[FIRST].record)).table.markdown()


def write_index() -> None:
    """The index and what the README shows, from what is recorded."""
    (HERE / "README.md").write_text(index(), "utf-8")
    fill_file(README, "results", verdicts())
    fill_file(README, "prints", prints())


def write() -> None:
    """All pages anew, from results alone."""
    for folder in sorted(path.parent for path in HERE.rglob("results.json")):
        write_report(folder)
    write_index()


if __name__ == "__main__":
    write()
