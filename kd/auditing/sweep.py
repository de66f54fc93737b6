"""An audit of a sweep: a row for each setting, since a mean over settings is a mean over nothing
that anybody drew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kd.auditing.missing import probe_title
from kd.pages.tables import Table, plus_minus

Audited = Mapping[str, Any]
_MOST_CLASSES = 8


def settings(audited: Audited) -> dict[str, list[int]]:
    """The members of each setting, by what sets it apart; empty where the members differ in seeds
    alone.
    """
    members: dict[str, list[int]] = {}
    for number, setting in enumerate(audited.get("settings") or ()):
        members.setdefault(setting, []).append(number)
    return members if len(members) > 1 else {}


def tables(audited: Audited) -> list[Table]:
    """Every table of a sweep, in the order of the page."""
    probe = [] if audited["missing"] is None else [_missing(audited)]
    return [_quality(audited), _agreement(audited), _entropy(audited), _classes(audited), *probe]


def _rows(
    audited: Audited, members: Sequence[Any], columns: Sequence[Callable[[list[Any]], str]]
) -> list[list[str]]:
    """A row for each setting: its name, what each column says of its members, and their number."""
    rows = []
    for setting, numbers in settings(audited).items():
        alike = [members[number] for number in numbers]
        rows.append([setting, *(column(alike) for column in columns), str(len(alike))])
    return rows


def _mean(key: str, digits: int, factor: float = 1.0) -> Callable[[list[Any]], str]:
    def told(members: list[Any]) -> str:
        values = [factor * member[key] for member in members if member[key] is not None]
        return plus_minus(values, digits) if values else "–"

    return told


def _item(index: int, digits: int) -> Callable[[list[Any]], str]:
    def told(members: list[Any]) -> str:
        values = [member[index] for member in members if member[index] is not None]
        return plus_minus(values, digits) if values else "–"

    return told


def _quality(audited: Audited) -> Table:
    members = audited["student"]["members"]
    error_rates = [{**member, "error_rate": 1 - member["accuracy"]} for member in members]
    columns = [
        _mean("errors", 1),
        _mean("error_rate", 2, 100),
        *(_mean(key, 3) for key in ("nll", "ece", "brier")),
    ]
    title = f"Students on {audited['examples']:,} examples, by setting"
    names = ["", "errors", "error rate, %", "NLL", "ECE", "Brier", "n"]
    return Table(title, names, _rows(audited, error_rates, columns))


def _agreement(audited: Audited) -> Table:
    members = audited["pair"]["members"]
    agreed = [{**member, "top": member["agreement_at_k"][0]} for member in members]
    columns = [_mean("top", 3), _mean("agreement_on_errors", 3), _mean("held_out_kl", 4)]
    names = ["", "agreement of the top 1", "on the teacher's errors", "held-out KL, nats", "n"]
    return Table("The teacher in the students, by setting", names, _rows(audited, agreed, columns))


def _entropy(audited: Audited) -> Table:
    temperatures, members = audited["entropy"]["temperatures"], audited["entropy"]["student"]
    teacher = ["teacher", *(f"{value:.3f}" for value in audited["entropy"]["teacher"]), ""]
    columns = [_item(index, 3) for index in range(len(temperatures))]
    names = ["T", *(f"{temperature:g}" for temperature in temperatures), "n"]
    title = "Entropy of the softened answers, nats, by setting"
    return Table(title, names, [teacher, *_rows(audited, members, columns)])


def _classes(audited: Audited) -> Table:
    members = [member["kl_per_class"] for member in audited["pair"]["members"]]
    held = [label for label, count in enumerate(audited["examples_per_class"]) if count]
    kl = {label: sum(member[label] for member in members) for label in held}
    worst = sorted(held, key=lambda label: -kl[label])[:_MOST_CLASSES]
    words = audited.get("class_names")
    names = ["", *(str(c) if words is None else words[c] for c in sorted(worst)), "n"]
    title = "KL(teacher || student) by class, nats, by setting"
    title += f", {_MOST_CLASSES} worst" if len(held) > len(worst) else ""
    columns = [_item(label, 4) for label in sorted(worst)]
    return Table(title, names, _rows(audited, members, columns))


def _missing(audited: Audited) -> Table:
    members = audited["missing"]["members"]
    rules = list(members[0])
    flat = [
        {f"{rule}/{key}": value for rule in rules for key, value in member[rule].items()}
        for member in members
    ]
    columns, names = [], [""]
    for rule in rules:
        columns += [_mean(f"{rule}/errors", 1), _mean(f"{rule}/errors_on_classes", 1)]
        names += [f"errors, bias {rule}", "on these"]
    title = f"{probe_title(audited['missing'])}, by setting"
    return Table(title, [*names, "n"], _rows(audited, flat, columns))
