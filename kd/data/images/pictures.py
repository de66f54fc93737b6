"""Image files as arrays: upright, without palette, in as many channels as the data set has."""

from __future__ import annotations

import io
import math
from typing import Any, Literal

import numpy as np

from kd.errors import KdError, reading
from kd.system.memory import check_fits

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
_ORIENTATION = 0x0112  # of EXIF
_UPRIGHT = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # what undoes each, in Pillow's numbers
_TURNED = (5, 6, 7, 8)
_LITTLE = 2**26  # bytes
_DEEP = ("I;16", "I;16B", "I;16L", "I")

Kind = Literal["grey", "deep grey", "colour"]
"""One channel of bytes, one of 16 bits, or three of bytes."""


def glance(content: bytes, location: str) -> tuple[Kind, tuple[int, int]]:
    """The kind of an image and its height and width, from its header alone.

    Raises:
      KdError: no image, an animation, or one of a kind that cannot be kept as it is.
    """
    with reading(location, "remove it, or get it anew"), _opened(content) as image:
        kind = _kind(image, content, location)
        width, height = image.size
        turned = image.getexif().get(_ORIENTATION) in _TURNED
        return kind, (width, height) if turned else (height, width)


def decoded(content: bytes, location: str, kind: Kind) -> np.ndarray:
    """An image file as an array, turned as its camera was held.

    Shapes: ``[h w 1]`` uint8 or uint16 for the grey kinds, ``[h w 3]`` uint8 for colour, to which
    grey images are converted.

    Raises:
      KdError: damaged bytes, an image of another kind, or one with transparent pixels.
    """
    with reading(location, "remove it, or get it anew"), _opened(content) as image:
        own = _kind(image, content, location)
        if own != kind and (own, kind) != ("grey", "colour"):
            raise KdError(f"{location} is a {own} image among {kind} ones; convert it")
        _check_fits(image.size, location)
        orientation = image.getexif().get(_ORIENTATION)
        image = _without_alpha(image, location)
        if kind == "colour":
            image = image.convert("RGB")
        elif kind == "grey":
            image = image.convert("L")
        if orientation in _UPRIGHT:
            image = image.transpose(_UPRIGHT[orientation])
        pixels = np.asarray(image)
    if kind == "deep grey":
        pixels = pixels.astype(np.uint16)
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _check_fits(size: tuple[int, int], location: str) -> None:
    needed = 8 * math.prod(size)
    if needed > _LITTLE:  # to ask what is free takes as long as to decode a photograph
        check_fits(needed, location, "remove it")


def _opened(content: bytes) -> Any:
    from PIL import Image

    return Image.open(io.BytesIO(content), formats=_FORMATS)


def _kind(image: Any, content: bytes, location: str) -> Kind:
    if image.format in ("PNG", "WEBP", "GIF") and getattr(image, "is_animated", False):
        raise KdError(f"{location} is an animation; keep one of its pictures")
    if image.format == "PNG" and content[24] == 16 and image.mode not in _DEEP:
        raise KdError(
            f"{location} has 16 bits in each of several channels; save it with 8, or as grey alone"
        )
    if image.mode in _DEEP:
        return "deep grey"
    return "grey" if image.mode in ("1", "L", "LA") else "colour"


def _without_alpha(image: Any, location: str) -> Any:
    """The image, if nothing of it is transparent: what shines through is not there."""
    if not image.has_transparency_data:
        return image
    if image.mode in ("LA", "La"):
        alpha, plain = image.getchannel("A"), image.convert("L")
    else:
        whole = image.convert("RGBA")
        alpha, plain = whole.getchannel("A"), whole.convert("RGB")
    if alpha.getextrema()[0] < 255:
        raise KdError(f"{location} has transparent pixels; put it on a background")
    return plain
