"""What a finished run trained, read from its work directory."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kd.config import Spec
from kd.data.seen import from_record
from kd.errors import KdError
from kd.lineage import despite
from kd.runs.models import build_model
from kd.runs.reading import verify
from kd.runs.workdir import Workdir, find
from kd.storage import BucketError
from kd.system import words
from kd.teachers.trained import Trained

_TRIES = 5  # to read a checkpoint beside a run that removes old ones


def load_trained(
    path: str | pathlib.Path,
    *,
    allow_code: str | Iterable[str] = (),
    despite_changes: bool = False,
) -> Trained:
    """The newest whole checkpoint of a work directory, with the model it belongs to.

    Of a finished run that is its last: where that one is damaged or gone, the one before is
    another model under the same name.

    Where the run names code of its own, ``package.module:name``, `allow_code` says which packages
    are trusted, beside those of the environment variable ``KD_ALLOW_CODE``. With `despite_changes`
    it is read although its code is not what was recorded, and its `changes` say what is different.

    Raises:
      KdError: no work directory, one without a checkpoint, a finished one without its last, one
        that names code that is not allowed, or one whose code has changed since.
    """
    workdir = find(path, allow_code)
    spec, changes = workdir.spec, verify(workdir, despite_changes=despite_changes)
    restored, evaluation = _newest(path), workdir.evaluation
    if evaluation is not None:
        _check_last(path, "the run", restored, evaluation)
    return _trained(workdir, spec, restored, changes)


def load_finished(
    path: str | pathlib.Path,
    who: str = "the run",
    *,
    allow_code: str | Iterable[str] = (),
    despite_changes: bool = False,
) -> Trained:
    """`load_trained` of a run that has arrived at its last step. Raises a `KdError` of one that has
    not.
    """
    workdir = find(path, allow_code)
    spec, changes = workdir.spec, verify(workdir, despite_changes=despite_changes)
    restored, evaluation = _newest(path), workdir.evaluation
    if evaluation is None:
        raise KdError(f"{who} in {path} has not finished training; finish that run first")
    _check_last(path, who, restored, evaluation)
    return _trained(workdir, spec, restored, changes)


def _check_last(
    path: str | pathlib.Path, who: str, restored: Mapping[str, Any], evaluation: Mapping[str, Any]
) -> None:
    last, step = evaluation.get("step"), int(np.max(restored["step"]))
    if last != step:
        raise KdError(
            f"{who} in {path} ended at step {last} and its newest whole checkpoint is of step "
            f"{step}; the same "
            "'kd train' command trains what is missing"
        )


def _newest(path: str | pathlib.Path) -> Mapping[str, Any]:
    """What the newest whole checkpoint holds.

    The run may still train, and take away what is being read: then again.
    """
    words.say(f"reading {path}")
    restored = None
    for tries_left in reversed(range(_TRIES)):
        try:
            checkpoints = find(path).checkpoints(read_only=True)
            restored = checkpoints.restore()
            checkpoints.close()
            break
        except BucketError:  # it was asked long enough
            raise
        except (OSError, ValueError):  # Orbax and TensorStore raise either
            if not tries_left:
                raise
    if restored is None:
        raise KdError(f"{path} holds no whole checkpoint; finish that run first with 'kd train'")
    return restored


def _trained(
    workdir: Workdir, spec: Spec, restored: Mapping[str, Any], changes: tuple[str, ...]
) -> Trained:
    average = restored.get("ema")
    # a model may have one array and no names
    params = average if jax.tree.leaves(average) else restored["params"]
    heads = {
        name: own["exported"]
        for name, own in (restored.get("heads") or {}).items()
        if own.get("exported")
    }
    kept = {"params": params, "extra": restored.get("extra") or {}, "heads": heads}
    if restored.get(
        "best"
    ):  # with early stopping the result is the best state, not the last, once there is a best one
        seen = np.isfinite(restored["best"]["errors"])
        best = {
            "params": restored["best"]["params"],
            "extra": restored["best"].get("extra") or {},
            "heads": restored["best"].get("heads") or {},
        }
        kept = jax.tree.map(
            lambda b, n: np.where(seen.reshape(seen.shape + (1,) * (n.ndim - seen.ndim)), b, n),
            best,
            kept,
        )
    arrays = jax.tree.map(jnp.asarray, kept)
    model = build_model(spec, workdir.owner["num_classes"])
    members = spec.members.size is not None
    return Trained(
        model,
        arrays["params"],
        arrays["extra"],
        members,
        despite(workdir.fingerprint, changes),
        seen=from_record(workdir.owner.get("inputs"), workdir.path / "run.json"),
        changes=changes,
        class_names=_class_names(workdir),
        lineage=workdir.lineage,
        heads=arrays["heads"],
    )


def _class_names(workdir: Workdir) -> tuple[str, ...] | None:
    names = workdir.owner.get("class_names")
    return None if names is None else tuple(map(str, names))
