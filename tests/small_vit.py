"""A small Vision Transformer, as test_vit.py and test_vit_sizes.py have it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from kd.models import vit

SMALL = {"width": 16, "depth": 3, "heads": 2, "patch": 4}
IMAGES = jnp.asarray(np.random.default_rng(0).normal(size=(6, 8, 12, 3)), jnp.float32)
KEY = jax.random.key(0)


def small(**options):
    return vit(5, **{**SMALL, **options})


@functools.cache
def params():
    """Drawn by NumPy: biases and scales too differ from what they start as."""
    random, shapes = np.random.default_rng(1), jax.eval_shape(small().init, KEY, IMAGES)[0]
    return jax.tree.map(
        lambda leaf: jnp.asarray(random.normal(0, 0.4, leaf.shape), jnp.float32), shapes
    )


def shapes_of(model, pixels, channels=3):
    return jax.eval_shape(
        model.init, KEY, jax.ShapeDtypeStruct((1, pixels, pixels, channels), jnp.float32)
    )[0]
