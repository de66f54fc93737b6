"""kd: knowledge distillation in JAX and Flax.

The names in `__all__` are the library. Each is imported when it is first used, so ``import kd``
costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kd import evals, evidence
    from kd.answers import soft_labels
    from kd.api import fit
    from kd.auditing import audit
    from kd.build import load_trained
    from kd.data import Dataset, arrays, jitter, load, of_classes
    from kd.errors import KdError
    from kd.limits import high_temperature_limit
    from kd.mesh import MeshSpec
    from kd.models import linen
    from kd.objective import term
    from kd.population import product
    from kd.run import train_workdir
    from kd.schedules import Schedule
    from kd.sharding import Rule, Sharding
    from kd.trained import Trained, precompute

__all__ = [
    "Dataset",
    "KdError",
    "MeshSpec",
    "Rule",
    "Schedule",
    "Sharding",
    "Trained",
    "arrays",
    "audit",
    "evals",
    "evidence",
    "fit",
    "high_temperature_limit",
    "jitter",
    "linen",
    "load",
    "load_trained",
    "of_classes",
    "precompute",
    "product",
    "soft_labels",
    "term",
    "train_workdir",
]

_HOME = {
    "Dataset": "kd.data",
    "KdError": "kd.errors",
    "MeshSpec": "kd.mesh",
    "Rule": "kd.sharding",
    "Schedule": "kd.schedules",
    "Sharding": "kd.sharding",
    "Trained": "kd.trained",
    "arrays": "kd.data",
    "audit": "kd.auditing",
    "fit": "kd.api",
    "high_temperature_limit": "kd.limits",
    "jitter": "kd.data",
    "linen": "kd.models",
    "load": "kd.data",
    "load_trained": "kd.build",
    "of_classes": "kd.data",
    "precompute": "kd.trained",
    "product": "kd.population",
    "soft_labels": "kd.answers",
    "term": "kd.objective",
    "train_workdir": "kd.run",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    if name in ("evals", "evidence"):
        return importlib.import_module(f"kd.{name}")
    raise AttributeError(f"module 'kd' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
