"""kd: knowledge distillation in JAX and Flax.

The names in `__all__` are the library. Each is imported when it is first used, so ``import kd``
costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kd import evals, evidence, provenance, specialists
    from kd.auditing.limits import high_temperature_limit
    from kd.auditing.measures import audit
    from kd.core import Heads, LossInfo, Model, Number, Outputs, Schedule, Teacher, product, term
    from kd.data import (
        Dataset,
        Text,
        arrays,
        fixed_views,
        flip,
        from_texts,
        jitter,
        masking,
        of_classes,
        weigh_classes,
    )
    from kd.errors import KdError
    from kd.models import linen
    from kd.placement.mesh import MeshSpec
    from kd.placement.sharding import Rule, Sharding
    from kd.runs.load import load_trained
    from kd.runs.loading import load
    from kd.runs.run import train_workdir
    from kd.runs.teachers import teacher
    from kd.teachers.mixture import mixture
    from kd.teachers.soft_labels import soft_labels
    from kd.teachers.trained import Trained, precompute
    from kd.training.fit import fit

__all__ = [
    "Dataset",
    "Heads",
    "KdError",
    "LossInfo",
    "MeshSpec",
    "Model",
    "Number",
    "Outputs",
    "Rule",
    "Schedule",
    "Sharding",
    "Teacher",
    "Text",
    "Trained",
    "arrays",
    "audit",
    "evals",
    "evidence",
    "fit",
    "fixed_views",
    "flip",
    "from_texts",
    "high_temperature_limit",
    "jitter",
    "linen",
    "load",
    "load_trained",
    "masking",
    "mixture",
    "of_classes",
    "precompute",
    "product",
    "provenance",
    "soft_labels",
    "specialists",
    "teacher",
    "term",
    "train_workdir",
    "weigh_classes",
]

_HOME = {
    "Dataset": "kd.data",
    "Heads": "kd.core",
    "KdError": "kd.errors",
    "LossInfo": "kd.core",
    "MeshSpec": "kd.placement.mesh",
    "Model": "kd.core",
    "Number": "kd.core",
    "Outputs": "kd.core",
    "Rule": "kd.placement.sharding",
    "Schedule": "kd.core",
    "Sharding": "kd.placement.sharding",
    "Teacher": "kd.core",
    "Text": "kd.data",
    "Trained": "kd.teachers",
    "arrays": "kd.data",
    "audit": "kd.auditing.measures",
    "fit": "kd.training.fit",
    "fixed_views": "kd.data",
    "flip": "kd.data",
    "from_texts": "kd.data",
    "high_temperature_limit": "kd.auditing.limits",
    "jitter": "kd.data",
    "linen": "kd.models",
    "load": "kd.runs.loading",
    "load_trained": "kd.runs",
    "masking": "kd.data",
    "mixture": "kd.teachers.mixture",
    "of_classes": "kd.data",
    "precompute": "kd.teachers",
    "product": "kd.core",
    "soft_labels": "kd.teachers.soft_labels",
    "teacher": "kd.runs.teachers",
    "term": "kd.core",
    "train_workdir": "kd.runs",
    "weigh_classes": "kd.data",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    if name in ("evals", "evidence", "provenance", "specialists"):
        return importlib.import_module(f"kd.{name}")
    raise AttributeError(f"module 'kd' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
