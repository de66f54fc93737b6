"""Models: a plain table from name to a function ``(classes, **options) -> Model``."""

from __future__ import annotations

from collections.abc import Callable

from kd.core.types import Model
from kd.models.bilstm import bilstm
from kd.models.encoder import encoder
from kd.models.linen import as_model, linen
from kd.models.made import made_again
from kd.models.mlp import mlp
from kd.models.mobilenetv2 import mobilenetv2
from kd.models.resnet import resnet
from kd.models.token_vit import token_vit
from kd.models.vgg import vgg
from kd.models.vit import vit
from kd.models.wrn import wrn

__all__ = [
    "MODELS",
    "as_model",
    "bilstm",
    "encoder",
    "linen",
    "made_again",
    "mlp",
    "mobilenetv2",
    "resnet",
    "token_vit",
    "vgg",
    "vit",
    "wrn",
]

MODELS: dict[str, Callable[..., Model]] = {
    "bilstm": bilstm,
    "encoder": encoder,
    "mlp": mlp,
    "mobilenetv2": mobilenetv2,
    "resnet": resnet,
    "token_vit": token_vit,
    "vgg": vgg,
    "vit": vit,
    "wrn": wrn,
}
