"""Augmentation as a pure function of (seed, step, example)."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from kd.core.step import View
from kd.core.types import Batch
from kd.errors import KdError
from kd.hints import checked


@checked
def jitter(pixels: int) -> View | None:
    """Shift every image by up to `pixels` in both directions, uniformly, filling with zeros.

    The shift is drawn from the run's key, the step and ``batch["index"]`` alone: the place in the
    batch and the other examples do not matter. Shapes: ``inputs[b h w ...]`` stay what they are.
    None when `pixels` is 0.

    Raises:
      KdError: a negative number of pixels, or as many as an image has in either direction.

    Source: Hinton, Vinyals & Dean (2015), section 3.
    """
    if pixels < 0:
        raise KdError(f"data.jitter_pixels must be 0 or more, got {pixels}")
    if pixels == 0:
        return None

    def view(key: jax.Array, batch: Batch) -> Batch:
        images = batch["inputs"]
        if "teacher_inputs" in batch:
            raise KdError(
                "jitter shifts what the student sees and not teacher_inputs (teacher.image_size); "
                "set data.jitter_pixels=0, or stream the images and take data.crop"
            )
        if images.ndim < 3:
            raise KdError(
                f"jitter needs images [b h w ...], got inputs of shape {images.shape}; set "
                "data.jitter_pixels=0"
            )
        if pixels >= min(images.shape[1:3]):
            raise KdError(
                f"data.jitter_pixels is {pixels}, and images of {images.shape[1]} x "
                f"{images.shape[2]} pixels would be shifted out of sight; set a smaller one"
            )
        padded = jnp.pad(
            images, [(0, 0), (pixels, pixels), (pixels, pixels), *[(0, 0)] * (images.ndim - 3)]
        )

        def shift(index: jax.Array, image: jax.Array) -> jax.Array:
            corner = jax.random.randint(jax.random.fold_in(key, index), (2,), 0, 2 * pixels + 1)
            start = (corner[0], corner[1], *[0] * (image.ndim - 2))
            return jax.lax.dynamic_slice(image, start, images.shape[1:])

        return {**batch, "inputs": jax.vmap(shift)(batch["index"], padded)}

    return view
