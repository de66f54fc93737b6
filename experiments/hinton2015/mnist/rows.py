"""The rows of the MNIST table: each of the paper's numbers, ours, and the band written down before
the run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kd.errors import unknown
from kd.evidence import mean_sd
from kd.pages import Table, plus_minus

Results = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Row:
    """A quantity, its name in the config's `paper` and `bands`, and where its values over seeds lie
    in the results.
    """

    key: str
    name: str
    values: Callable[[Results], Sequence[float]]
    percent: bool = False


def _arm(name: str) -> Callable[[Results], list[float]]:
    return lambda results: [member["errors"] for member in results["arms"][name]["members"]]


def _bias(section: str, offset: str, count: str) -> Callable[[Results], list[float]]:
    return lambda results: [member[offset][count] for member in results[section]["members"]]


def _rate(section: str, offset: str) -> Callable[[Results], list[float]]:
    count = _bias(section, offset, "errors")
    return lambda results: [100 * errors / results["test_examples"] for errors in count(results)]


ROWS = (
    Row("teachers", "teacher, {widths}", _arm("teachers")),
    Row("baseline", "student, hard labels", _arm("baseline")),
    Row("distilled", "student, soft targets at T = {temperature:g}", _arm("distilled")),
    Row("omitted", "no {omitted} in the transfer set", _bias("omitted", "as trained", "errors")),
    Row(
        "omitted_on",
        "… errors on the {omitted}",
        _bias("omitted", "as trained", "errors_on_classes"),
    ),
    Row(
        "omitted_frequency",
        "… bias of {omitted} matched to their frequency",
        _bias("omitted", "frequency", "errors"),
    ),
    Row(
        "omitted_frequency_on",
        "… … errors on the {omitted}",
        _bias("omitted", "frequency", "errors_on_classes"),
    ),
    Row(
        "omitted_best",
        "… bias of {omitted} chosen on the test set",
        _bias("omitted", "best", "errors"),
    ),
    Row(
        "omitted_best_on",
        "… … errors on the {omitted}",
        _bias("omitted", "best", "errors_on_classes"),
    ),
    Row("only", "{only} only", _rate("only", "as trained"), percent=True),
    Row(
        "only_frequency",
        "… biases matched to their frequency",
        _rate("only", "frequency"),
        percent=True,
    ),
    Row("only_best", "… biases chosen on the test set", _rate("only", "best"), percent=True),
    Row("ensemble", "ensemble of teachers", _arm("ensemble, arithmetic")),
    Row(
        "ensemble_arithmetic",
        "student of the ensemble, arithmetic mean",
        _arm("ensemble-arithmetic"),
    ),
    Row(
        "ensemble_geometric", "student of the ensemble, geometric mean", _arm("ensemble-geometric")
    ),
)


def check_names(*tables: Mapping[str, Any]) -> None:
    """Raise a `KdError` for a number or a band of no row: a band that nothing is held against."""
    known = [*(row.key for row in ROWS), "alike"]
    for name in (name for table in tables for name in table if name not in known):
        raise unknown("row of config.paper or config.bands:", name, known)


def main_table(results: Results) -> Table:
    """Ours of every row, beside the paper's, the band and its verdict where there are any."""
    paper, bands = results["protocol"]["paper"], results["protocol"]["bands"]
    rows = [
        [name_of(row, results), *_cells(row, row.values(results), paper, bands)] for row in ROWS
    ]
    theirs, held = (["paper"] if paper else []), (["band", "verdict"] if bands else [])
    title = f"Errors on {results['test_examples']:,} test examples"
    return Table(title, ["", *theirs, "ours", "n", *held], rows)


def missed(results: Results) -> list[str]:
    """Names of the rows whose mean lies outside their band."""
    bands = results["protocol"]["bands"]
    outside = [
        row for row in ROWS if row.key in bands and not within(row.values(results), bands[row.key])
    ]
    return [name_of(row, results).lstrip("… ") for row in outside]


def name_of(row: Row, results: Results) -> str:
    """A row's name, with the sizes, classes and temperature that the config chose."""
    protocol = results["protocol"]
    return row.name.format(
        widths=" × ".join(map(str, protocol["teachers"]["student"].get("widths", ["?"]))),
        temperature=protocol["distilled"]["objective"]["soft_targets"].get("temperature", 1.0),
        omitted=plural(results["omitted"]["moved"]),
        only=plural(results["only"]["kept"]),
    )


def plural(classes: Sequence[int]) -> str:
    """Classes in words: ``7s and 8s``."""
    return " and ".join(f"{c}s" for c in classes)


def within(values: Sequence[float], band: Sequence[float]) -> bool:
    """Whether the mean lies in the band, ends included."""
    return band[0] <= mean_sd(values)[0] <= band[1]


def band_text(band: Sequence[float], unit: str = "") -> str:
    """A band in words: ``60 to 80``, or ``at most 90`` where it starts at 0."""
    low, high = band
    return f"at most {high:g}{unit}" if low <= 0 else f"{low:g} to {high:g}{unit}"


def _cells(
    row: Row, values: Sequence[float], paper: Mapping[str, float], bands: Mapping[str, Any]
) -> list[str]:
    unit = "%" if row.percent else ""
    theirs = f"{paper[row.key]:g}{unit}" if row.key in paper else "–"
    ours = [plus_minus(values) + unit, str(len(values))]
    held = _held(values, bands.get(row.key), unit)
    return [*([theirs] if paper else []), *ours, *(held if bands else [])]


def _held(values: Sequence[float], band: Sequence[float] | None, unit: str) -> list[str]:
    if band is None:
        return ["–", "–"]
    return [band_text(band, unit), "met" if within(values, band) else "missed"]
