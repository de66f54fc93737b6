"""A specialist as a model: the generalist's network with a narrower head, and a map of classes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kd.core.specialists import spread
from kd.core.types import Model, Outputs, PyTree
from kd.data import Dataset
from kd.errors import KdError
from kd.models import MODELS, as_model, made_again
from kd.models.abstract import shapes
from kd.placement.ambient import pinned
from kd.specialists.clusters import Classes
from kd.teachers import Trained


def width(classes: Classes) -> int:
    """Outputs of the specialists' networks: the classes of the largest, and the dustbin."""
    return max(map(len, classes)) + 1


def specialist(network: Model, num_classes: int) -> Model:
    """`network`, whose last output is the dustbin, as a model of all classes: see
    `kd.core.specialists.spread`.

    Beside what the network does not train, its `extra` holds ``class_map[v]``, the output that
    answers for each class, and ``correction``, which is added to the dustbin's logit.
    """

    def init(key: jax.Array, inputs: Any) -> tuple[PyTree, PyTree]:
        params, extra = network.init(key, inputs)
        class_map = jnp.zeros(num_classes, jnp.int32)
        return params, {"network": extra, "class_map": class_map, "correction": jnp.float32(0)}

    def before(params: PyTree, extra: PyTree, inputs: Any) -> tuple[PyTree, PyTree, Any]:
        return params, extra["network"], inputs

    def after(outputs: Outputs, updated: PyTree, extra: PyTree) -> tuple[Outputs, PyTree]:
        logits = spread(outputs.logits, extra["class_map"], extra["correction"])
        return dataclasses.replace(outputs, logits=logits), {**extra, "network": updated}

    return dataclasses.replace(network.between(before, after), init=init, made=None)


@pinned()
def begun(
    generalist: Trained,
    network: Callable[[int], Any] | None,
    data: Dataset,
    classes: Classes,
) -> Trained:
    """The specialists before their training: a population with the generalist's weights.

    ``network(w)`` makes the generalist's network with w outputs; None makes that of a model that
    kd ships. The arrays whose last axis counts the outputs are the head: of its columns the special
    ones are kept, and the dustbin's is the mean of the others. All else is the generalist's own.

    Raises:
      KdError: a generalist of several members or of other classes than the data, or a network that
        differs from the generalist's in more than its head.

    Source: Hinton, Vinyals & Dean (2015), section 5.2.
    """
    if generalist.members:
        raise KdError(
            "specialists begin with one generalist and this is a population; choose a member: "
            "generalist.member(0)"
        )
    whole = shapes(generalist.model, data.first)
    count = whole.outputs.width
    if count != data.num_classes:
        raise KdError(
            f"the generalist answers with {count} classes and the data has {data.num_classes}; "
            "specialists share the generalist's classes"
        )
    made = _again(generalist.model) if network is None else network
    narrow = as_model(made(width(classes)))
    other = shapes(as_model(made(count + 1)), data.first)
    trees = [(net.params, net.extra) for net in (whole, other, shapes(narrow, data.first))]
    if len({jax.tree.structure(tree) for tree in trees}) > 1:
        raise _other_network()

    def stacked(array: Any, mine: Any, wider: Any, wanted: Any) -> jax.Array:
        if mine.shape == wider.shape == wanted.shape:
            return jnp.repeat(jnp.asarray(array)[None], len(classes), axis=0)
        rest = {mine.shape[:-1], wider.shape[:-1], wanted.shape[:-1]}
        widths = [head.shape[-1:] for head in (mine, wider, wanted)]
        if len(rest) > 1 or widths != [(count,), (count + 1,), (width(classes),)]:
            raise _other_network()
        return jnp.asarray(_head(np.asarray(array), classes))

    params, extra = jax.tree.map(stacked, (generalist.params, generalist.extra), *trees)
    extra = {
        "network": extra,
        "class_map": jnp.asarray(_maps(classes, count)),
        "correction": jnp.zeros(len(classes), jnp.float32),
    }
    name = f"{generalist.fingerprint}-specialists" if generalist.fingerprint else ""
    return Trained(specialist(narrow, count), params, extra, True, name, generalist.seen)


def _again(model: Model) -> Callable[[int], Model]:
    """A model that kd ships, with another number of outputs."""
    made = model.made
    if made is None or made.name not in MODELS:
        raise KdError(
            "nothing says how the generalist's network is made with other outputs; pass network, a "
            "function of their number"
        )

    def again(outputs: int) -> Model:
        options = {**made.options, "classes": outputs}
        return made_again(dataclasses.replace(made, options=options), MODELS, "the generalist")

    return again


def _maps(classes: Classes, num_classes: int) -> np.ndarray:
    """The output that answers for each class, ``[m v]``: the last for every class that is not
    special.
    """
    maps = np.full((len(classes), num_classes), width(classes) - 1, np.int32)
    for row, special in zip(maps, classes, strict=True):
        row[list(special)] = np.arange(len(special))
    return maps


def _head(array: np.ndarray, classes: Classes) -> np.ndarray:
    """The head of every specialist, ``[m ... w]``, of the generalist's ``[... v]``; a column that
    a smaller specialist has no class for is 0, and never asked.
    """
    head = np.zeros((len(classes), *array.shape[:-1], width(classes)), array.dtype)
    for row, special in zip(head, classes, strict=True):
        others = np.setdiff1d(np.arange(array.shape[-1]), special)
        row[..., : len(special)] = array[..., list(special)]
        row[..., -1] = array[..., others].mean(axis=-1)
    return head


def _other_network() -> KdError:
    return KdError(
        "the specialists' network differs from the generalist's in more than its head; network(w) "
        "must make the generalist's network with w outputs"
    )
