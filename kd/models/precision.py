"""Models that compute in bfloat16, or that recompute their activations: the same model, cheaper in
memory.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from kd.core.types import Apply, Model, Outputs, PyTree


def in_bfloat16(model: Model) -> Model:
    """`model` with parameters and inputs rounded to bfloat16 when it is applied, and logits
    and taps in float32.

    What is kept, differentiated and updated stays float32: the gradient of the rounding is the
    identity. `extra`, such as batch statistics, is not rounded. A model that is `mixed` rounds its
    parameters itself, so that their gradients are added up in float32 over examples and devices;
    those of others are rounded on every device first. One that is `typed` is told the type.

    Source: Micikevicius et al. (2018), "Mixed precision training", section 3.1, on master weights.
    """

    def before(params: PyTree, extra: PyTree, inputs: Any) -> tuple[PyTree, PyTree, Any]:
        return params if model.mixed else _rounded(params), extra, _rounded(inputs)

    def after(outputs: Outputs, updated: PyTree, extra: PyTree) -> tuple[Outputs, PyTree]:
        updated = jax.tree.map(lambda new, old: new.astype(old.dtype), updated, extra)
        return outputs.astype(jnp.float32), updated

    made = model.made and dataclasses.replace(model.made, compute="bfloat16")
    if model.typed:
        model = model.wrapped(_told_bfloat16)
    return dataclasses.replace(model.between(before, after), made=made)


def rematerialised(model: Model) -> Model:
    """`model` that keeps none of its activations and computes them again in the backward pass.

    Models that can do so layer by layer have an option of their own for it, which saves more.

    Source: Chen et al. (2016), "Training deep nets with sublinear memory cost".
    """

    def computed_again(apply: Any) -> Apply:
        def keeping_nothing(
            params: PyTree,
            extra: PyTree,
            inputs: Any,
            train: bool = False,
            key: jax.Array | None = None,
            **more: Any,
        ) -> tuple[Outputs, PyTree]:
            def run(
                params: PyTree, extra: PyTree, inputs: Any, key: jax.Array | None, more: Any
            ) -> tuple[Outputs, PyTree]:
                return apply(params, extra, inputs, train=train, key=key, **more)

            return jax.checkpoint(run)(params, extra, inputs, key, more)

        return keeping_nothing

    return model.wrapped(computed_again)


def _told_bfloat16(apply: Any) -> Apply:
    return functools.partial(apply, dtype=jnp.bfloat16)


def _rounded(tree: Any) -> Any:
    def rounded(leaf: jax.Array) -> jax.Array:
        return leaf.astype(jnp.bfloat16) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(rounded, tree)
