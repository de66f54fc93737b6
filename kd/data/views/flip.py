"""Images seen in a mirror, as a pure function of (seed, step, example)."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from kd.core.step import View
from kd.core.types import Batch
from kd.errors import KdError


def flip() -> View:
    """Turn half of the images round, left to right.

    Which ones is drawn from the run's key, the step and ``batch["index"]`` alone. Shapes:
    ``inputs[b h w ...]`` stay what they are.

    Raises:
      KdError: inputs that are no images.

    Source: Krizhevsky et al. (2012), "ImageNet classification with deep convolutional neural
    networks", section 4.1.
    """
    return Flip()


@dataclasses.dataclass(frozen=True)
class Flip:
    """The view of `flip`."""

    @property
    def identity(self) -> str:
        """What it does to an example."""
        return "flip"

    def __call__(self, key: jax.Array, batch: Batch) -> Batch:
        """The batch with half of its images turned round."""
        images = batch["inputs"]
        if images.ndim < 3:
            raise KdError(
                f"flip needs images [b h w ...], got inputs of shape {images.shape}; set "
                "data.flip=false"
            )
        keys = jax.vmap(lambda index: jax.random.fold_in(key, index))(batch["index"])
        turned = jax.vmap(jax.random.bernoulli)(keys)
        turned = turned.reshape(-1, *[1] * (images.ndim - 1))
        return {**batch, "inputs": jnp.where(turned, jnp.flip(images, axis=2), images)}
