"""What a Hugging Face folder says of the images that its network sees, in both directions:
``preprocessor_config.json``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from kd.errors import KdError
from kd.models.normalised import check_normalisation

PREPROCESSOR = "preprocessor_config.json"


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Images of bytes are brought to `size` pixels a side, multiplied by `scale`, and then
    normalised, see `kd.models.normalised`; None: they are not.
    """

    size: int | None
    scale: float
    mean: tuple[float, ...] | None = None
    deviation: tuple[float, ...] | None = None


def preprocessing(told: Mapping[str, Any], file: object) -> Preprocessing:
    """What a ``preprocessor_config.json`` tells. How an image is cut and which pixels are averaged
    is not read: images come to a network as the data has them.

    Raises:
      KdError: numbers that cannot be.
    """
    mean = deviation = None
    if _switch(told, "do_normalize", file):
        mean, deviation = (_numbers(told.get(key)) for key in ("image_mean", "image_std"))
        check_normalisation(mean, deviation, f"{file}: image_")
    scale = told.get("rescale_factor", 1 / 255) if _switch(told, "do_rescale", file) else 1.0
    if type(scale) is not float or not 0 < scale <= 1:
        raise KdError(f"{file}: rescale_factor must be a number up to 1, got {scale!r:.40}")
    return Preprocessing(_size(told, file), scale, mean, deviation)


def telling(told: Preprocessing) -> dict[str, Any]:
    """The ``preprocessor_config.json`` of it."""
    side = {"height": told.size, "width": told.size}
    return {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": side,
        "resample": 2,
        "do_rescale": True,
        "rescale_factor": told.scale,
        "do_normalize": told.mean is not None,
        "image_mean": None if told.mean is None else list(told.mean),
        "image_std": None if told.deviation is None else list(told.deviation),
    }


def _switch(told: Mapping[str, Any], key: str, file: object) -> bool:
    value = told.get(key, True)
    if not isinstance(value, bool):
        raise KdError(f"{file}: {key} must be true or false, got {value!r:.40}; get it anew")
    return value


def _numbers(value: Any) -> tuple[Any, ...] | None:
    return tuple(value) if isinstance(value, list) else None


def _size(told: Mapping[str, Any], file: object) -> int | None:
    """The side of what is left in the end; None where images stay as they are."""
    crops, resizes = told.get("do_center_crop", False), told.get("do_resize", True)
    key = "crop_size" if crops else "size"
    value = told.get(key)
    if (not crops and not resizes) or value is None:
        return None
    sides = list(value.values()) if isinstance(value, Mapping) else [value]
    whole = bool(sides) and all(type(side) is int and side > 0 for side in sides)
    if not whole or min(sides) != max(sides):
        raise KdError(f"{file}: {key} must be that of a square, got {value!r:.80}; get it anew")
    return sides[0]
