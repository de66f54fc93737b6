"""What ``kd list`` shows of models, losses and sources: a line about each."""

from __future__ import annotations

from kd.core.losses import FAMILIES, LOSSES, LossInfo
from kd.data import SOURCES
from kd.models import MODELS
from kd.names import first_line


def listing() -> dict[str, dict[str, str]]:
    """Titles, and below each the names with a line about it; losses by family, with their taps."""
    losses = {f"losses: {family}": _of_family(family) for family in FAMILIES}
    return {
        "models": {name: first_line(model) for name, model in MODELS.items()},
        **losses,
        "sources": {name: first_line(source) for name, source in SOURCES.items()},
    }


def _of_family(family: str) -> dict[str, str]:
    return {name: _about(info) for name, info in LOSSES.items() if info.family == family}


def _about(info: LossInfo) -> str:
    taps = f" (taps: {', '.join(info.taps)})" if info.taps else ""
    return first_line(info.loss) + taps
