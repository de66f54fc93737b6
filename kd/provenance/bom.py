"""A bill of materials of a model: CycloneDX 1.6, a machine-learning model with its ancestors."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

from kd.provenance.facts import Ancestor, Facts

_NAMESPACE = uuid.UUID("9f3c6b0e-5c1c-5e0e-9a53-0b9d6a1c7f11")


def bom(facts: Facts) -> dict[str, Any]:
    """The bill of a run, the same for the same run.

    Digests of kd that are shorter than a hash of the standard are properties.

    Source: ECMA-424, CycloneDX 1.6, ``machine-learning-model`` with ``pedigree`` and ``modelCard``.
    """
    serial = uuid.uuid5(_NAMESPACE, f"{facts.fingerprint} {facts.weights}")
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {"component": _model(facts)},
        "components": [*_data(facts), *_libraries(facts)],
    }


def bom_text(told: dict[str, Any]) -> str:
    """The bill as JSON."""
    return json.dumps(told, indent=1, ensure_ascii=False) + "\n"


def _model(facts: Facts) -> dict[str, Any]:
    model: dict[str, Any] = {
        "type": "machine-learning-model",
        "bom-ref": "model",
        "name": facts.name,
        "version": facts.fingerprint,
        "hashes": [{"alg": "SHA-256", "content": facts.weights}],
        "modelCard": _card(facts),
        "properties": _properties(run_json=facts.record, licence_override=facts.override),
    }
    if facts.licence:
        model["licenses"] = [{"license": {"name": facts.licence}}]
    if facts.ancestors:
        model["pedigree"] = {
            "ancestors": [_ancestor(higher, f"a{i}") for i, higher in enumerate(facts.ancestors)],
            "notes": "; ".join(debt.text for debt in facts.debts) or "no licences are recorded",
        }
    return model


def _card(facts: Facts) -> dict[str, Any]:
    metrics = []
    for result in facts.results:
        metric: dict[str, Any] = {"type": result.metric, "value": f"{result.value:.6g}"}
        if result.interval is not None:
            low, high = (f"{end:.6g}" for end in result.interval)
            metric["confidenceInterval"] = {"lowerBound": low, "upperBound": high}
        metrics.append(metric)
    taught = any(ancestor.role == "teacher" for ancestor in facts.ancestors)
    sources = () if facts.lineage is None else range(len(facts.lineage.data))
    return {
        "modelParameters": {
            "approach": {"type": "supervised"},
            "task": "distillation" if taught else "training",
            "architectureFamily": str(facts.spec.student.get("name")),
            "datasets": [{"ref": f"data-{i}"} for i in sources],
        },
        "quantitativeAnalysis": {"performanceMetrics": metrics},
    }


def _ancestor(ancestor: Ancestor, ref: str) -> dict[str, Any]:
    weights = ancestor.weights
    told: dict[str, Any] = {
        "type": "machine-learning-model",
        "bom-ref": ref,
        "name": weights.name,
        "version": weights.fingerprint or "unknown",
        "description": ancestor.role if ancestor.there else f"{ancestor.role}, not there any more",
        "licenses": [{"license": {"name": weights.licence}}],
        "properties": _properties(digest=weights.digest),
    }
    if ancestor.above:
        above = [_ancestor(higher, f"{ref}-{i}") for i, higher in enumerate(ancestor.above)]
        told["pedigree"] = {"ancestors": above}
    return told


def _data(facts: Facts) -> Iterator[dict[str, Any]]:
    for i, data in enumerate(() if facts.lineage is None else facts.lineage.data):
        splits = {f"split {name}": seen for name, seen in data.splits.items()}
        yield {
            "type": "data",
            "bom-ref": f"data-{i}",
            "name": data.source,
            "licenses": [{"license": {"name": data.licence}}],
            "properties": _properties(train=data.train, **splits),
        }


def _libraries(facts: Facts) -> Iterator[dict[str, Any]]:
    stack = {} if facts.lineage is None else facts.lineage.stack
    for name, version in stack.items():
        if name != "backend":
            yield {"type": "library", "bom-ref": f"lib-{name}", "name": name, "version": version}


def _properties(**values: str) -> list[dict[str, str]]:
    return [{"name": f"kd:{key}", "value": value} for key, value in values.items() if value]
