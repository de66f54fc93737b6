"""A model card: what a model is and where it comes from, from what its run recorded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kd.lineage import DataSet, Lineage, Weights

CARD = "README.md"


def card(
    config: Mapping[str, Any],
    parameters: int,
    lineage: Lineage | None,
    fingerprint: str = "",
    class_names: tuple[str, ...] | None = None,
) -> str:
    """The page of an exported model, in Markdown: its network, its classes, its teachers, its first
    weights, its data with their licences, and what computed it. What was not recorded is not said.
    """
    what = config["architectures"][0]
    lines = [
        "---",
        "library_name: transformers",
        "tags:",
        "- knowledge-distillation",
        "---",
        "",
        f"# {what}",
        "",
        f"{parameters:,} parameters, written by kd. `config.json` says what it computes.",
    ]
    if class_names:
        lines += ["", f"Classes: {', '.join(class_names)}."]
    if fingerprint:
        lines += ["", f"Run: `{fingerprint}`."]
    if lineage is None:
        lines += ["", "Where it comes from was not recorded."]
        return "\n".join(lines) + "\n"
    lines += _rows("Teacher", map(_weights, lineage.taught_by))
    if lineage.init is not None:
        copied, fresh = len(lineage.init.copied), len(lineage.init.fresh)
        taken = f"{copied} arrays taken, {fresh} drawn"
        lines += _rows("First weights", [f"{_weights(lineage.init)}; {taken}"])
    lines += _rows("Data", map(_data, lineage.data))
    lines += _rows(
        "Computed with", (f"{name} {version}" for name, version in lineage.stack.items())
    )
    return "\n".join(lines) + "\n"


def _rows(title: str, rows: Iterable[str]) -> list[str]:
    listed = [f"* {row}" for row in rows]
    return ["", f"## {title}", "", *listed] if listed else []


def _weights(weights: Weights) -> str:
    """A place of the machine that trained says nothing elsewhere: the last part of it does."""
    scheme, colon, place = weights.source.partition(":")
    name = f"{scheme}{colon}{place.rstrip('/').rpartition('/')[2]}"
    line = f"`{name}`, fingerprint `{weights.fingerprint}`, licence {weights.licence}"
    return line + (f"; changed since: {', '.join(weights.changes)}" if weights.changes else "")


def _data(data: DataSet) -> str:
    return f"`{data.source}`, trained on `{data.train}`, licence {data.licence}"
