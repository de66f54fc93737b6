"""From the `student` of a config to a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kd.calling import call, parameters
from kd.config import Spec, options_of
from kd.core.types import Model
from kd.models import MODELS, as_model
from kd.models.normalised import normalised
from kd.models.precision import in_bfloat16, rematerialised
from kd.names import lookup


def build_model(spec: Spec, num_classes: int) -> Model:
    """The student of a config, as wide as the data has classes unless ``student.classes`` says
    otherwise.
    """
    return make_model(spec.student, num_classes, compute=spec.compute, remat=spec.remat)


def make_model(named: Mapping[str, Any], num_classes: int, *, compute: str, remat: bool) -> Model:
    """The model that a student, or what is spelled like one, names."""
    options = options_of(named)
    classes = options.pop("classes", None)
    function = lookup("model", named["name"], MODELS)
    by_layer = remat and "remat" in parameters(function)
    if by_layer:
        options["remat"] = True
    options["classes"] = num_classes if classes is None else classes
    if named["name"] in MODELS:
        model = function(**options)
    else:
        words = f"({', '.join(f'{key}={value!r}' for key, value in options.items())})"
        model = as_model(call(f"model '{named['name']}'", function, words, **options))
    model = rematerialised(model) if remat and not by_layer else model
    model = in_bfloat16(model) if compute == "bfloat16" else model
    if named.get("mean") is None:
        return model
    return normalised(model, named["mean"], named["deviation"])
