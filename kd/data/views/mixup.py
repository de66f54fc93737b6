"""Images mixed in pairs, and several views in a row."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from kd.core.step import View
from kd.core.types import Batch
from kd.errors import KdError


def mixup() -> View:
    """Mix every example with the one before it in the batch: ``x' = lam x + (1 - lam) x_partner``,
    ``lam ~ U[0, 1)``.

    `lam` is drawn from the run's key, the step and ``batch["index"]`` alone; the partner is the
    batch rolled by one. A mixed image has no label, so ``labels`` are dropped: what is learnt is
    the teacher's function. Its weight is that of the example that it is made for.
    ``teacher_inputs``, where there are any, are mixed alike. Shapes: ``inputs[b ...]`` stay what
    they are; whole numbers become float32.

    Raises:
      KdError: inputs without an axis beyond the batch.

    Source: Beyer et al. (2022), "Knowledge distillation: a good teacher is patient and consistent";
    Zhang et al. (2018), "mixup".
    """

    def view(key: jax.Array, batch: Batch) -> Batch:
        if batch["inputs"].ndim < 2:
            raise KdError(
                f"mixup needs inputs [b ...], got shape {batch['inputs'].shape}; set "
                "data.mixup=false"
            )
        keys = jax.vmap(lambda index: jax.random.fold_in(key, index))(batch["index"])
        share = jax.vmap(jax.random.uniform)(keys)
        mixed = {
            name: _mix(batch[name], share) for name in ("inputs", "teacher_inputs") if name in batch
        }
        dropped = ("labels", "labelled")
        return {name: value for name, value in {**batch, **mixed}.items() if name not in dropped}

    return view


def chain(*views: View | None) -> View | None:
    """Apply `views` in order, each with a key of its own; None among them is skipped.

    View i draws from ``fold_in(key, i)``, where skipped ones count, so that switching one off
    changes nothing for the rest. A chain of one is that view itself, and a chain of none is None.
    """
    kept = [(place, view) for place, view in enumerate(views) if view is not None]
    if len(kept) < 2:
        return kept[0][1] if kept else None

    def view(key: jax.Array, batch: Batch) -> Batch:
        for place, part in kept:
            batch = part(jax.random.fold_in(key, place), batch)
        return batch

    return view


def _mix(x: jax.Array, share: jax.Array) -> jax.Array:
    dtype = x.dtype if jnp.issubdtype(x.dtype, jnp.floating) else jnp.float32
    x, share = x.astype(dtype), share.astype(dtype).reshape(-1, *[1] * (x.ndim - 1))
    return share * x + (1 - share) * jnp.roll(x, 1, axis=0)
