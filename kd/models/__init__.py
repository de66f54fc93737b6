"""Models: a plain table from name to a function ``(classes, **options) -> Model``."""

from __future__ import annotations

from collections.abc import Callable

from kd.core.types import Model
from kd.models.linen import as_model, linen
from kd.models.made import made_again
from kd.models.mlp import mlp
from kd.models.resnet import resnet
from kd.models.token_vit import token_vit
from kd.models.vit import vit

__all__ = ["MODELS", "as_model", "linen", "made_again", "mlp", "resnet", "token_vit", "vit"]

MODELS: dict[str, Callable[..., Model]] = {
    "mlp": mlp,
    "resnet": resnet,
    "token_vit": token_vit,
    "vit": vit,
}
