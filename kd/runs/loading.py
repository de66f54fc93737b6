"""What has been trained or stored, by one name."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterable
from typing import Any, overload

from kd import data as kd_data
from kd.config import parse
from kd.core.types import Targets
from kd.data import Dataset, Text
from kd.errors import KdError
from kd.runs.load import load_finished, load_trained
from kd.runs.pretrained import checked_model, load_pretrained
from kd.system.paths import anywhere
from kd.teachers.trained import Trained, load_saved

Path = str | os.PathLike[str]


@overload
def load(
    source: Path,
    *,
    model: Any = None,
    allow_code: str | Iterable[str] = (),
    despite_changes: bool = False,
) -> Trained: ...
@overload
def load(
    source: str,
    split: str,
    data_dir: Path | None = None,
    scale: float | None = None,
    targets: Targets | None = None,
    text: Text | None = None,
) -> Dataset: ...
def load(
    source: Any,
    split: str | None = None,
    data_dir: Path | None = None,
    scale: float | None = None,
    targets: Targets | None = None,
    text: Text | None = None,
    *,
    model: Any = None,
    allow_code: str | Iterable[str] = (),
    despite_changes: bool = False,
) -> Trained | Dataset:
    """``load(DIR)`` is a trained model, ``load(source, split)`` a data set.

    A folder is one that `Trained.save` or ``kd export`` wrote, or a work directory, which
    `kd.load_trained` reads. `model` is the module that was trained, where a saved model is of the
    user's own; `allow_code` and `despite_changes` are for work directories. ``hf:DIR`` is a folder
    of Hugging Face, ``weights:FILE`` arrays with PyTorch's names, of the network that `model` names
    as a config does: ``{"name": "resnet", "depth": 20}``. With a split it is `kd.data.load`.

    Raises:
      KdError: no model there, see `kd.teachers.trained.load_saved`, `kd.load_trained` and
        `kd.runs.pretrained.load_pretrained`, or no such data.
    """
    if split is not None:
        return kd_data.load(source, split, data_dir, scale, targets, text)
    if _is_outside(source):
        return load_pretrained(parse(str(source), "source"), checked_model(model), "model")
    folder: pathlib.Path = anywhere(source, "a folder")
    if str(source).partition(":")[0] in kd_data.SOURCES and not folder.exists():
        raise KdError(f"'{source}' is data, and kd.load needs a split of it, e.g. 'train'")
    if _is_saved(folder):
        return load_saved(folder, model)
    if model is not None:
        raise KdError(f"{folder} says which model its run is of; leave model out")
    return load_trained(folder, allow_code=allow_code, despite_changes=despite_changes)


def load_whole(
    path: Path, *, allow_code: str | Iterable[str] = (), despite_changes: bool = False
) -> Trained:
    """A saved model, ``hf:DIR``, or the model of a run that has arrived at its last step.

    Raises:
      KdError: as `load`, or the run has not finished.
    """
    if _is_outside(path):
        return load_pretrained(parse(str(path), "source"), None, "model")
    folder = anywhere(path, "a folder")
    if _is_saved(folder):
        return load_saved(folder)
    return load_finished(folder, allow_code=allow_code, despite_changes=despite_changes)


def _is_saved(folder: pathlib.Path) -> bool:
    return folder.is_dir() and not (folder / "run.json").exists()


def _is_outside(source: Any) -> bool:
    """Whether it is spelled as weights from outside are, and is no folder of that name."""
    scheme = str(source).partition(":")[0]
    return scheme in ("hf", "weights") and not os.path.exists(source)
