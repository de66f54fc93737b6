"""A model by its shapes alone: what it holds and answers, and whether a step can train it."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax

from kd.calling import raised
from kd.core import rng
from kd.core.types import Model, Outputs, PyTree
from kd.errors import KdError


@dataclasses.dataclass(frozen=True)
class Shapes:
    """Parameters, untrained variables and answers of a model, as ``jax.ShapeDtypeStruct``."""

    params: PyTree
    extra: PyTree
    outputs: Outputs


def shapes(model: Model, inputs: Any) -> Shapes:
    """What a model is for a batch of `inputs`, arrays or shapes; nothing is computed."""
    # the key is traced too: a device that is described alone computes nothing
    params, extra = jax.eval_shape(lambda x: model.init(rng.key(0), x), inputs)
    outputs, _ = jax.eval_shape(lambda *variables: model.apply(*variables), params, extra, inputs)
    return Shapes(params, extra, outputs)


def convolves(function: Any, *arguments: Any) -> bool:
    """Whether a function of such arguments, arrays or shapes, convolves; nothing is computed."""
    return "conv_general_dilated" in str(jax.make_jaxpr(function)(*arguments))


def check_model(model: Model, inputs: Any) -> Shapes:
    """`shapes` of a student, in training too.

    Raises:
      KdError: a model that cannot be applied to such inputs, in its own words; one without
        parameters, or whose untrained variables do not keep their form from step to step; what
        `kd.linen` refuses.
    """
    try:
        student = shapes(model, inputs)
        updated = jax.eval_shape(
            lambda params, extra, x: model.apply(params, extra, x, train=True, key=rng.key(0))[1],
            student.params,
            student.extra,
            inputs,
        )
    except KdError:
        raise
    except Exception as error:  # the module of others fails in its own words
        raise KdError(
            f"the student cannot be applied to inputs of shape {inputs.shape[1:]}: it "
            f"{raised(error)}; a module takes one array [b ...]"
        ) from error
    if not jax.tree.leaves(student.params):
        raise KdError(
            "the student has no parameters, so there is nothing to train; give it a layer"
        )
    changed = _form(student.extra) ^ _form(updated)
    if changed:
        raise KdError(
            f"the student's variables {min(changed)[0]} change their shape or type in a "
            "training step, as what is sown does; keep both, and sow into 'intermediates' only"
        )
    return student


def _form(variables: PyTree) -> set[tuple[str, tuple[int, ...], str]]:
    leaves = jax.tree_util.tree_leaves_with_path(variables)
    return {
        (jax.tree_util.keystr(path, simple=True, separator="/"), leaf.shape, str(leaf.dtype))
        for path, leaf in leaves
    }
