"""Who a run is: what of its config makes it this run, and the fingerprint of that."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

from kd.config.spec import Spec
from kd.config.typed import plain
from kd.fields import in_identity
from kd.registry import source_fingerprint


def fingerprint_of(value: Any) -> str:
    """Hash of anything JSON can hold: 12 hexadecimal digits."""
    text = json.dumps(plain(value), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def identity(spec: Spec, teacher_fingerprint: str = "") -> dict[str, Any]:
    """What makes this run this run: its settings, and the code that they name."""
    told = settings(spec, teacher_fingerprint)
    names = [
        spec.student.get("name"),
        spec.data.source,
        *((term or {}).get("loss") for term in spec.objective.values()),
    ]
    told["code"] = {name: source_fingerprint(name) for name in names if isinstance(name, str)}
    return told


def settings(spec: Spec, teacher_fingerprint: str = "") -> dict[str, Any]:
    """What the config says of the run, with its teacher by fingerprint.

    Each field of the config says for itself whether it belongs here: see `kd.fields`.
    """
    told = _told(spec)
    told["teacher"]["workdir"] = teacher_fingerprint
    if spec.early_stopping is not None:  # when it looks is part of what it selects
        told["eval_epochs"] = spec.eval_epochs
    return told


def _told(value: Any) -> Any:
    if not dataclasses.is_dataclass(value):
        return plain(value)
    fields = dataclasses.fields(value)
    values = {field.name: getattr(value, field.name) for field in fields}
    return {f.name: _told(values[f.name]) for f in fields if in_identity(f, values[f.name])}
