"""A generalist and its specialists as one distribution: eq. 5 of Hinton, Vinyals & Dean (2015)."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

TOLERANCE = 1e-6
MOST = 50
"""Iterations, at which an example is left as it is."""
_LEAST = 1e-30
"""Of a probability: a class that nobody believes in keeps a logarithm."""
_SMALLEST = 1e-5
"""Of the dual variables that are divided by, against their sum: float32 resolves no more."""
_RIDGE = 1e-7
_INSIDE = 0.9
"""Of the way to the boundary that one step may go."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Joint:
    """What generalist and specialists say together, and how well eq. 5 is solved.

    Shapes: ``log_probs[*b v]``; the norm of the gradient ``gradient[*b]`` and the `iterations`
    ``[*b]`` of each example; ``asked[*b m]``, the specialists whose classes were in question.
    """

    log_probs: Float[Array, "*b v"] | Any  # in a pytree JAX also puts shapes and axis numbers here
    gradient: Float[Array, "*b"] | Any
    iterations: Int[Array, "*b"] | Any
    asked: Bool[Array, "*b m"] | Any


def spread(
    logits: Float[Array, "*b w"], class_map: Int[Array, " v"], correction: Float[Array, ""]
) -> Float[Array, "*b v"]:
    """A specialist's logits over all classes: those of its own, and the dustbin's for every other.

    ``z_c = logits[class_map[c]]``, where the last column is the dustbin's and `correction` is added
    to it. The dustbin's column is thus the logit of one average class in it, and cross-entropy,
    divergence and gradient are those of a softmax over own classes and dustbin, up to constants.

    Source: Hinton, Vinyals & Dean (2015), section 5.2, on the dustbin class.
    """
    chosen = logits[..., class_map]
    added = jnp.where(class_map == logits.shape[-1] - 1, correction, 0.0)
    return chosen + jnp.broadcast_to(added, chosen.shape)


def joint(
    general: Float[Array, "*b v"],
    special: Float[Array, "m *b v"],
    classes: Bool[Array, "m v"],
    top: int = 1,
) -> Joint:
    """The distribution that comes nearest to the generalist's and to those of the specialists whose
    classes are in question.

    ``q = argmin KL(p_g, q) + sum_{m in A} KL(p_m, q)``, where A are the specialists whose `classes`
    hold one of the generalist's `top` most probable ones, and p_m knows the other classes as one,
    the dustbin: there it is compared with the sum of q. The problem is convex in q, and its minimum
    is unique where p_g is positive. It is found by a primal-dual interior-point method, which ends
    where the norm of the gradient by the logits of q is below `TOLERANCE`, or after `MOST` steps.

    Arguments are log-probabilities over all classes; of the specialists' the sum over the classes
    that are not their own counts.

    Source: Hinton, Vinyals & Dean (2015), section 5.4, eq. 5; Wright (1997), "Primal-dual
    interior-point methods".
    """
    leading, width = general.shape[:-1], general.shape[-1]
    _, best = jax.lax.top_k(general, top)
    asked = jnp.moveaxis(jnp.any(classes[:, best], axis=-1), 0, -1)  # [*b m]
    rows = general.reshape(-1, width)
    answers = jnp.moveaxis(special, 0, -2).reshape(-1, len(classes), width)

    def solved(general: Array, answers: Array, asked: Array) -> tuple[Array, Array, Array]:
        told = jnp.exp(answers) * asked[:, None]
        known = jnp.exp(general) + jnp.sum(told * classes, axis=0)
        dustbins = jnp.sum(told * ~classes, axis=-1)
        return _solve(jnp.maximum(general, jnp.log(_LEAST)), known, dustbins, ~classes)

    log_q, gradient, iterations = jax.vmap(solved)(rows, answers, asked.reshape(-1, len(classes)))
    return Joint(
        log_q.reshape(general.shape), gradient.reshape(leading), iterations.reshape(leading), asked
    )


def _solve(
    start: Float[Array, " v"],
    known: Float[Array, " v"],
    dustbins: Float[Array, " m"],
    outside: Bool[Array, "m v"],
) -> tuple[Float[Array, " v"], Float[Array, ""], Int[Array, ""]]:
    """The q that minimises ``-sum_c known_c log q_c - sum_m dustbins_m log (B q)_m``, B = outside.

    At the minimum ``q w = known`` and ``u (B q) = dustbins``, where ``w = total - B^T u`` are the
    duals of the classes and u those of the dustbins. Newton's steps on these equations, whose third
    stays true, keep q, w and u positive.
    """
    dustbins, sums = jnp.maximum(dustbins, _LEAST), outside.astype(known.dtype)
    known = jnp.maximum(known, _LEAST)
    total = known.sum() + dustbins.sum()

    def gradient(q: Array) -> Array:
        return total * q - known - q * _times(dustbins / _times(sums, q), sums)

    def advance(carry: tuple[Array, ...]) -> tuple[Array, ...]:
        q, dual, w, _, count = carry
        steps = _newton(q, dual, w, known, dustbins, sums)
        shorter = _within(steps[0] / q), _within(jnp.append(steps[1] / dual, steps[2] / w))
        q, dual = q + shorter[0] * steps[0], dual + shorter[1] * steps[1]
        w = w + shorter[1] * steps[2]
        return q, dual, w, jnp.linalg.norm(gradient(q / q.sum())), count + 1

    def unsolved(carry: tuple[Array, ...]) -> Array:
        return (carry[3] >= TOLERANCE) & (carry[4] < MOST)

    q, w = jax.nn.softmax(start), total - _times(dustbins, sums)
    first = (q, dustbins, w, jnp.linalg.norm(gradient(q)), jnp.int32(0))
    q, _, _, norm, count = jax.lax.while_loop(unsolved, advance, first)
    return jnp.log(q / q.sum()), norm, count


def _newton(
    q: Float[Array, " v"],
    dual: Float[Array, " m"],
    w: Float[Array, " v"],
    known: Float[Array, " v"],
    dustbins: Float[Array, " m"],
    sums: Float[Array, "m v"],
) -> tuple[Float[Array, " v"], Float[Array, " m"], Float[Array, " v"]]:
    """Newton's step of q, u and w: the changes of q and w are put into the equations of u, which
    are m, positive definite, and scaled to a diagonal of ones.
    """
    divisor = jnp.maximum(w, _SMALLEST * w.max())
    lacking, mass = known - q * w, _times(sums, q)
    matrix = jnp.diag(mass / dual) + _times(sums * (q / divisor)[None], sums.T)
    scale = jnp.sqrt(jnp.diag(matrix))
    matrix = matrix / jnp.outer(scale, scale) + _RIDGE * jnp.eye(len(dual), dtype=q.dtype)
    wanted = (dustbins - dual * mass) / dual - _times(sums, lacking / divisor)
    step = jax.scipy.linalg.solve(matrix, wanted / scale, assume_a="pos") / scale
    back = _times(step, sums)
    return (lacking + q * back) / divisor, step, -back


def _within(relative: Float[Array, " n"]) -> Float[Array, ""]:
    """How much of a step may be taken, of which these are the changes against what they change."""
    return jnp.minimum(1.0, _INSIDE / jnp.maximum(-relative.min(), 1e-9))


def _times(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision="highest")
