"""Section 2.1 of Hinton et al. (2015) as a measurement: how close distillation at T is to matching
logits.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kd.core.losses import logit_mse, soft_targets
from kd.core.types import Loss, of_logits
from kd.errors import KdError

Logits = Float[np.ndarray, "..."]  # [n v]; what is not is refused below, with a word on ensembles


def high_temperature_limit(
    student_logits: Logits, teacher_logits: Logits, temperatures: Sequence[float]
) -> Float[np.ndarray, "t n"]:
    """How far the gradient of `soft_targets` at each temperature is from its limit, example by
    example.

    Formula: ``|g_T - g_inf| / |g_inf|`` with ``g_T`` the gradient of `soft_targets` at T and
    ``g_inf`` that of `logit_mse`, both with respect to the student's logits; ``g_inf`` is the
    centred difference of the logits divided by the number of classes. It falls as 1/T. Where
    teacher and student agree up to a constant both gradients are zero, and so is the error. Shapes:
    ``[n v], [n v] -> [t n]``; take the mean or the median over examples.

    The losses are those that train, differentiated by `jax.grad`; in float64, because at high
    temperatures the gradient is a difference of nearly equal probabilities.

    Raises:
      KdError: logits of different shapes, not ``[n v]`` or not finite, or a temperature that is not
        a positive number.

    Source: Hinton, Vinyals & Dean (2015), section 2.1, eq. 2 to 4.
    """
    if np.ndim(student_logits) != 2 or np.shape(student_logits) != np.shape(teacher_logits):
        raise KdError(
            f"student and teacher logits must both be [n v], got {np.shape(student_logits)} and "
            f"{np.shape(teacher_logits)}; for an ensemble give the mean of its members' logits"
        )
    if not (np.isfinite(student_logits).all() and np.isfinite(teacher_logits).all()):
        raise KdError("logits must be finite numbers, got NaN or infinity: that training diverged")
    if not len(temperatures):
        raise KdError(
            "a limit is looked at along temperatures and there are none; give e.g. (1.0, 10.0, "
            "100.0)"
        )
    for temperature in temperatures:
        if not isinstance(temperature, (int, float, np.number)) or not 0.0 < temperature < np.inf:
            raise KdError(f"a temperature must be a positive number, got {temperature!r}")
    with jax.enable_x64(True):
        pair = jnp.asarray(student_logits, jnp.float64), jnp.asarray(teacher_logits, jnp.float64)
        limit = np.asarray(_gradient(logit_mse, *pair, 1.0))
        gradients = [
            np.asarray(_gradient(soft_targets, *pair, float(temperature)))
            for temperature in temperatures
        ]
    size = np.linalg.norm(limit, axis=-1)
    off = np.linalg.norm(np.stack(gradients) - limit, axis=-1)
    return np.divide(off, size, out=np.zeros_like(off), where=size > 0)


def _gradient(
    loss: Loss, student: Float[Array, "n v"], teacher: Float[Array, "n v"], temperature: float
) -> Float[Array, "n v"]:
    value = of_logits(loss, {"temperature": temperature})
    return jax.grad(lambda logits: value(logits, teacher).sum())(student)
