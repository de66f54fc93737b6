"""The losses of the catalogue on logits, as the laws of test_losses.py and test_each_loss.py call
them.
"""

import functools

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np

from kd.core.losses import LOSSES
from kd.core.types import Outputs

ON_LOGITS = sorted(name for name, info in LOSSES.items() if not info.taps)
ALONE = {"bce", "mse", "soft_bce", "soft_mse"}  # each output is an answer of its own
RANGES = {"temperature": (0.5, 8.0), "beta": (0.05, 0.95), "smoothing": (0.01, 0.9)}
NEAR = {"rtol": 2e-4, "atol": 2e-5}


def numbers(name):
    return st.fixed_dictionaries({key: st.floats(*RANGES[key]) for key in LOSSES[name].numbers})


def middle(name):
    return {key: np.float32(sum(RANGES[key]) / 2) for key in LOSSES[name].numbers}


def value(name, zs, zt, labels, hparams):
    info = LOSSES[name]
    hparams = {key: jnp.asarray(number, jnp.float32) for key, number in hparams.items()}
    batch = {"labels": jnp.asarray(labels)} if info.labels else {}
    return info.loss(
        Outputs(jnp.asarray(zs)), Outputs(jnp.asarray(zt)) if info.teacher else None, batch, hparams
    )


@functools.cache
def compiled(name):
    return jax.jit(functools.partial(value, name))


@functools.cache
def gradient(name):
    return jax.jit(jax.grad(lambda *arguments: jnp.sum(value(name, *arguments))))


def sample(shape=(8, 6), seed=0, scale=3.0, name="hard"):
    random = np.random.default_rng(seed)
    zs, zt = scale * random.normal(size=(2, *shape)).astype(np.float32)
    if LOSSES[name].targets in ("binary", "numbers"):
        return zs, zt, random.integers(0, 2, shape).astype(np.float32)
    return zs, zt, random.integers(0, shape[-1], shape[:-1]).astype(np.int32)
