"""Generalist and specialists together: asked about an example, and as a teacher."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kd.core import specialists as core
from kd.core.specialists import Joint
from kd.core.types import Answer, Batch, Outputs, PyTree, Teacher
from kd.errors import KdError
from kd.placement.ambient import pinned
from kd.placement.mesh import is_whole
from kd.specialists.clusters import check_classes
from kd.teachers import Trained

_CHUNK = 1000  # examples that are solved at once


@pinned()
def joint(general: np.ndarray, special: np.ndarray, classes: Any, *, top: int = 1) -> Joint:
    """The joint distribution of a generalist and its specialists, example by example: see
    `kd.core.specialists.joint`.

    Shapes: logits ``general[n v]`` of the generalist and ``special[m n v]`` of the specialists,
    whose special classes are `classes`; ``joint.log_probs[n v]``, in float32 on the host.

    Raises:
      KdError: logits that are not finite or do not fit together, sets of classes that cannot be,
        or a `top` that is no number of classes.
    """
    general, special = np.asarray(general, np.float32), np.asarray(special, np.float32)
    if general.ndim != 2 or special.shape[1:] != general.shape:
        raise KdError(
            f"the generalist answers with shape {general.shape} and the specialists with "
            f"{special.shape}; they must be [n v] and [m n v], of the same classes"
        )
    own = check_classes(classes, general.shape[-1])
    if len(own) != len(special):
        raise KdError(f"there are {len(special)} specialists and {len(own)} sets of classes")
    if not (np.isfinite(general).all() and np.isfinite(special).all()):
        raise KdError("the answers of generalist and specialists must be finite, and some are not")
    check_top(top, general.shape[-1])
    table = np.zeros((len(own), general.shape[-1]), bool)
    for row, chosen in zip(table, own, strict=True):
        row[list(chosen)] = True
    parts = [
        jax.tree.map(np.asarray, _solved(general[rows], special[:, rows], table, top))
        for rows in (slice(i, i + _CHUNK) for i in range(0, len(general), _CHUNK))
    ]
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)


def team(generalist: Trained, specialists: Trained, *, top: int = 1) -> Teacher:
    """Generalist and specialists as one teacher, live: it answers what eq. 5 says of every example.

    Asked are the specialists that have one of the generalist's `top` most probable classes. Where
    none has, the answer is the generalist's.

    Raises:
      KdError: what is no trained model, specialists that `kd.specialists.fit` did not train, a
        generalist of other classes, or a `top` that is no number of classes.

    Source: Hinton, Vinyals & Dean (2015), section 5.4.
    """
    for name, model in (("generalist", generalist), ("specialists", specialists)):
        if not isinstance(model, Trained):
            raise KdError(f"{name} must be a trained model, got {type(model).__name__}")
    class_map = specialists.extra.get("class_map") if specialists.members else None
    if class_map is None:
        raise KdError("these are no specialists; kd.specialists.fit trains some")
    check_top(top, class_map.shape[-1])
    who = [generalist.fingerprint, specialists.fingerprint, str(top)]
    parts = {"generalist": generalist.teacher(), "specialists": specialists.teacher("per_member")}
    return Teacher(
        {name: part.variables for name, part in parts.items()},
        _answering(parts["generalist"].apply, parts["specialists"].apply, top),
        hashlib.sha256(" ".join(who).encode()).hexdigest()[:16] if all(who) else "",
        seen=generalist.seen,
    )


def check_top(top: Any, num_classes: int) -> None:
    """Raise a `KdError` unless `top` is a number of the generalist's most probable classes."""
    if not is_whole(top) or not 1 <= top <= num_classes:
        raise KdError(f"top must be 1 or more of {num_classes} classes, got {top!r}")


def _answering(generalist: Answer, specialists: Answer, top: int) -> Answer:
    def answer(variables: PyTree, batch: Batch) -> Outputs:
        general = generalist(variables["generalist"], batch).log_probs()
        special = specialists(variables["specialists"], batch)
        class_map = variables["specialists"]["extra"]["class_map"]
        if class_map.shape[-1] != general.shape[-1]:
            raise KdError(
                f"the generalist answers with {general.shape[-1]} classes and the specialists "
                f"with {class_map.shape[-1]}; they must be of the same"
            )
        own = class_map < class_map.max(axis=-1, keepdims=True)
        each = dataclasses.replace(special, average=None).log_probs()
        return Outputs(core.joint(general, each, own, top).log_probs)

    return answer


@functools.partial(jax.jit, static_argnames="top")
def _solved(general: Any, special: Any, classes: Any, top: int) -> Joint:
    mine, theirs = (jax.nn.log_softmax(jnp.asarray(x), axis=-1) for x in (general, special))
    return core.joint(mine, theirs, jnp.asarray(classes), top)
