"""Models with weights that somebody else trained, ``hf:DIR`` and ``weights:FILE``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from kd.config import Source, check_options
from kd.config.typed import plain
from kd.core.types import Model
from kd.data.seen import Seen
from kd.errors import KdError
from kd.models import MODELS
from kd.models.weights import from_file, from_folder
from kd.placement.ambient import pinned
from kd.runs.models import make_model
from kd.system.copies import brought
from kd.system.paths import anywhere
from kd.system.records import digest_of
from kd.teachers.make import digest
from kd.teachers.trained import Trained


@pinned()
def load_pretrained(source: Source, model: Mapping[str, Any] | None, key: str) -> Trained:
    """The model that `source` holds: of a Hugging Face folder what its config says, of a file of
    weights the network `model`, spelled as `student` is in a config, which `key` named. It has as
    many classes as the file, unless `model` says otherwise.

    Its fingerprint is of the weights and of all that is done with them.

    Raises:
      KdError: no such folder or file, a damaged one, a network that kd does not have, weights of
        another one; a `model` for a folder, or none for a file.
    """
    if source.scheme == "hf":
        if model is not None:
            raise KdError(f"{source.text} says which network it is; leave {key} out")
        told = from_folder(brought(anywhere(source.place)), MODELS)
    else:
        if model is None:
            raise KdError(
                f"{source.text} holds arrays alone; name their network in {key}, e.g. "
                "{'name': 'resnet', 'depth': 20}"
            )
        told = from_file(brought(anywhere(source.place)), lambda classes: _made(model, classes))
    seen = Seen(told.inputs, "uint8", told.scale, 0.0, 255 * told.scale, image=True)
    if told.ids:
        seen = Seen(told.inputs, "int32", ids=True)
    who = dataclasses.asdict(told.model.made) if told.model.made else {}
    weights = {"params": told.params, "extra": told.extra}
    return Trained(
        told.model,
        told.params,
        told.extra,
        fingerprint=digest_of(plain([digest(weights), who, told.scale])),
        seen=seen,
        class_names=told.class_names,
    )


def checked_model(model: Any) -> dict[str, Any] | None:
    """`model` of a caller of the library. Raises a `KdError` unless it is spelled as `student` is
    in a config.
    """
    if model is None:
        return None
    if not isinstance(model, Mapping):
        raise KdError(
            f"model must name a network of weights from outside, got {model!r:.80}; e.g. "
            "{'name': 'resnet', 'depth': 20}"
        )
    told = {key: tuple(v) if isinstance(v, list) else v for key, v in model.items()}
    check_options(told, "model")
    return told


def _made(model: Mapping[str, Any], classes: int) -> Model:
    return make_model(model, classes, compute="float32", remat=False)
