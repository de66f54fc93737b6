"""Divergences between categorical distributions, on log-probabilities, one value per position.

`p` is the reference (the teacher), `q` the approximation (the student). Everything is computed in
float32.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

LogProbs = Float[Array, "*b v"]
PerPosition = Float[Array, "*b"]


def _expectation(log_p: LogProbs, value: LogProbs) -> PerPosition:
    # 0 log 0 = 0: a class of probability zero must contribute neither value nor a NaN gradient. NaN
    # is not zero, and stays: a teacher that answers NaN would else teach nothing, without a word.
    possible = log_p != -jnp.inf
    safe = jnp.where(possible, log_p, 0.0)
    return jnp.sum(
        jnp.where(possible, jnp.exp(safe) * jnp.where(possible, value, 0.0), 0.0), axis=-1
    )


def cross_entropy(log_p: LogProbs, log_q: LogProbs) -> PerPosition:
    """Cross-entropy ``H(p, q) = -sum_i p_i log q_i``, in nats. Shapes: ``[*b v], [*b v] ->
    [*b]``.
    """
    return -_expectation(log_p, log_q)


def entropy(log_p: LogProbs) -> PerPosition:
    """Entropy ``H(p) = -sum_i p_i log p_i``, in nats. Shapes: ``[*b v] -> [*b]``."""
    return cross_entropy(log_p, log_p)


def kl(log_p: LogProbs, log_q: LogProbs) -> PerPosition:
    """Kullback-Leibler divergence ``KL(p || q) = sum_i p_i (log p_i - log q_i)``, in nats.

    Zero exactly where p = q, with zero gradient. Shapes: ``[*b v], [*b v] -> [*b]``.

    Source: Kullback & Leibler (1951).
    """
    return _expectation(log_p, log_p - log_q)


def jsd(log_p: LogProbs, log_q: LogProbs, beta: Float[Array, ""] | float = 0.5) -> PerPosition:
    """Generalised Jensen-Shannon divergence, in nats.

    ``beta KL(p || m) + (1 - beta) KL(q || m)`` with ``m = beta p + (1 - beta) q``. Symmetric at
    beta = 0.5, where it is at most log 2; divided by beta it tends to KL(p || q) as beta goes to 0,
    divided by 1 - beta to KL(q || p) as beta goes to 1. Shapes: ``[*b v], [*b v], [] -> [*b]``.

    Source: Agarwal et al. (2024), "On-policy distillation of language models", eq. 1.
    """
    beta = jnp.asarray(beta, jnp.float32)
    # a class that neither allows must not give a NaN gradient
    possible = jnp.maximum(log_p, log_q) != -jnp.inf
    safe_p, safe_q = jnp.where(possible, log_p, 0.0), jnp.where(possible, log_q, 0.0)
    log_m = jnp.where(
        possible, jnp.logaddexp(safe_p + jnp.log(beta), safe_q + jnp.log1p(-beta)), -jnp.inf
    )
    return beta * kl(log_p, log_m) + (1.0 - beta) * kl(log_q, log_m)


def total_variation(log_p: LogProbs, log_q: LogProbs) -> PerPosition:
    """Total variation distance ``1/2 sum_i |p_i - q_i|``, between 0 and 1. Shapes:
    ``[*b v], [*b v] -> [*b]``.
    """
    return 0.5 * jnp.sum(jnp.abs(jnp.exp(log_p) - jnp.exp(log_q)), axis=-1)
