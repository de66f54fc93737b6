"""Crops and flips of images on the host: pure functions of the image and of a stream of random
numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from kd.errors import KdError

Crop = Literal["none", "random"]
Box = tuple[float, float, float, float]
"""Left, top, right and bottom edge in pixels, as Pillow has them."""

CENTRAL = 0.875
"""The part of the short side that a central crop keeps: 224 of 256 pixels."""


def draws(seed: int, step: int, index: int) -> np.random.Generator:
    """The random numbers of one example in one step of one run; of its place in the batch or its
    process, nothing.

    Philox is a hash of key and counter. The key is (seed, step); `index` is the third word of the
    counter, so that examples never share numbers (the first two count what is drawn), and the
    fourth is 1, so that none are shared with the order of examples, whose key is (seed, epoch).
    """
    return np.random.Generator(np.random.Philox(key=[seed, step], counter=[0, 0, index, 1]))


def central_box(height: int, width: int) -> Box:
    """The square in the middle, with sides of `CENTRAL` times the short side of the image.

    Cutting it out and resizing it to `size` is resizing the short side to ``size / CENTRAL`` and
    cutting out the middle, in one interpolation.
    """
    side = CENTRAL * min(height, width)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def random_box(rng: np.random.Generator, height: int, width: int) -> Box:
    """A box of 5% to 100% of the area with an aspect ratio of 3/4 to 4/3, in whole pixels, anywhere
    inside.

    Formula: area uniform, log of the aspect ratio (width over height) uniform; what does not fit is
    drawn again, up to ten times, and then the largest box in the middle with an allowed aspect
    ratio is taken.

    Source: Szegedy et al. (2015), Going deeper with convolutions, section 6, but for the area's 5%
    (theirs is 8%).
    """
    for _ in range(10):
        area = height * width * rng.uniform(0.05, 1.0)
        aspect = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            return left, top, left + w, top + h
    w, h = min(width, max(1, round(height * 4 / 3))), min(height, max(1, round(width * 4 / 3)))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def resized(image: np.ndarray, box: Box, height: int, width: int) -> np.ndarray:
    """The inside of `box` at another size, bilinear with antialiasing.

    Shapes: ``[h w] -> [height width]``, ``[h w c] -> [height width c]``, bytes. Channels are
    independent: an alpha channel is a channel like the others.

    Raises:
      KdError: what is not an image of bytes.
    """
    from PIL import Image

    if image.dtype != np.uint8 or image.ndim not in (2, 3):
        raise KdError(
            f"images are resized as bytes [h w] or [h w c], got {image.dtype}{list(image.shape)}; "
            "set data.image_size "
            "to none and data.crop to 'none'"
        )

    def resize(part: np.ndarray) -> np.ndarray:
        picture = Image.fromarray(np.ascontiguousarray(part))
        return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR, box=box))

    if image.ndim == 2 or image.shape[2] == 3:  # three channels are what Pillow resizes as they are
        return resize(image)
    return np.stack([resize(image[:, :, c]) for c in range(image.shape[2])], axis=-1)


def viewed(
    image: np.ndarray,
    size: Sequence[int] | None,
    crop: Crop = "none",
    flip: bool = False,
    rng: np.random.Generator | None = None,
) -> np.ndarray:
    """An image as a model sees it. Shapes: ``[h w ...] -> [*size ...]``, or what it was if `size`
    is None.

    With `rng`, as in training: mirrored half of the time if `flip`, and a random box of it if
    `crop` is "random". Otherwise the middle of it if `size` is given. The flip is drawn first, so
    that it does not depend on `crop`.

    Raises:
      KdError: see `resized`; a flip of what has no width.
    """
    mirrored = rng is not None and flip and rng.random() < 0.5
    if rng is not None and crop == "random":
        image = resized(image, random_box(rng, *image.shape[:2]), *(size or image.shape)[:2])
    elif size is not None:
        image = resized(image, central_box(*image.shape[:2]), *size)
    if mirrored:
        image = image[:, ::-1]
    return image
