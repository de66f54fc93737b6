"""A folder that holds a trained model: its arrays as safetensors, a program, and one page of JSON
that says what they are. Reading it runs no code.
"""

from __future__ import annotations

import dataclasses
import hashlib
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import safetensors.numpy

from kd.core.types import Made
from kd.data.seen import Seen, from_record
from kd.errors import KdError, reading
from kd.lineage import Lineage
from kd.models.weights import tensors
from kd.storage import is_there
from kd.system.records import read_record, write_record

CONFIG, WEIGHTS, PROGRAM = "config.json", "model.safetensors", "model.stablehlo"
_FIX = "save that model again"


@dataclasses.dataclass(frozen=True)
class Kept:
    """All that is known of a trained model besides its arrays.

    `made` is None of a `Model` that was written by hand, `members` None of a single model. `width`
    is the number of classes that it answers with.
    """

    made: Made | None
    seen: Seen
    width: int
    members: int | None = None
    fingerprint: str = ""
    changes: tuple[str, ...] = ()
    class_names: tuple[str, ...] | None = None
    lineage: Lineage | None = None


def write(
    folder: pathlib.Path,
    kept: Kept,
    arrays: Mapping[str, np.ndarray] | None,
    program: tuple[bytes, tuple[str, ...]] | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Write a model into `folder`; `program` is serialised, with the platforms that it is for.

    What was there is removed first and ``config.json`` comes last: a folder without it is not
    finished.

    Raises:
      KdError: a model is there already and `overwrite` is off, the folder holds a run, or cannot
        be written.
    """
    if (folder / "run.json").exists():
        raise KdError(f"{folder} is the work directory of a run; choose another folder")
    there = in_the_way(folder, (CONFIG, WEIGHTS, PROGRAM), overwrite)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in there:
            (folder / name).unlink()
        contents = {} if program is None else {PROGRAM: program[0]}
        if arrays is not None:
            contents[WEIGHTS] = safetensors.numpy.save(dict(arrays))
        for name, content in contents.items():
            (folder / name).write_bytes(content)
        digests = {name: _digest(content) for name, content in contents.items()}
        platforms = None if program is None else program[1]
        write_record(folder / CONFIG, _told(kept, arrays, digests, platforms))
    except OSError as error:
        raise KdError(f"cannot write {folder}: {error.strerror}; choose another folder") from error


def in_the_way(folder: pathlib.Path, names: Iterable[str], overwrite: bool) -> list[str]:
    """Those of these files that the folder holds. Raises a `KdError` where there are some and
    `overwrite` is off.
    """
    there = [name for name in names if is_there(folder / name)]
    if there and not overwrite:
        raise KdError(
            f"{folder} holds {', '.join(there)} already; choose another folder, or remove them (in "
            "Python overwrite=True)"
        )
    return there


def read(folder: pathlib.Path) -> tuple[Kept, dict[str, np.ndarray]]:
    """What `write` wrote: a model and its arrays by name.

    Raises:
      KdError: no such folder, one without arrays, or a file in it that is not as it was written.
    """
    file = folder / CONFIG
    if not file.is_file():
        raise KdError(
            f"{folder} holds no trained model: there is no {CONFIG} and no run.json; name a folder "
            "that was saved, or a work directory"
        )
    told = read_record(file, _FIX)
    if "architectures" in told:
        raise KdError(f"{folder} is a folder of Hugging Face; name it hf:{folder}")
    kept = _kept(told, file)
    path, digest = folder / WEIGHTS, told["files"].get(WEIGHTS)
    if digest is None:
        raise KdError(
            f"{folder} holds a program and no arrays; export it with --format=safetensors too"
        )
    with reading(path, _FIX):
        content = path.read_bytes()
        if _digest(content) != digest:
            raise ValueError("its bytes are not what was written")
        return kept, tensors.arrays(content)


def _told(
    kept: Kept,
    arrays: Mapping[str, np.ndarray] | None,
    digests: Mapping[str, str],
    platforms: tuple[str, ...] | None,
) -> dict[str, Any]:
    told: dict[str, Any] = {
        "model": None if kept.made is None else dataclasses.asdict(kept.made),
        "inputs": dataclasses.asdict(kept.seen),
        "num_classes": kept.width,
        "class_names": kept.class_names,
        "members": kept.members,
        "fingerprint": kept.fingerprint,
        "changes": kept.changes,
        "lineage": None if kept.lineage is None else kept.lineage.to_json(),
        "files": digests,
    }
    if arrays is not None:
        told["arrays"] = {
            name: {"shape": array.shape, "dtype": str(array.dtype)}
            for name, array in arrays.items()
        }
    if platforms is not None:
        told["platforms"] = platforms
    return told


def _kept(told: Mapping[str, Any], file: pathlib.Path) -> Kept:
    """What `_told` told. Anything else is damaged, whatever it is."""
    seen = from_record(told.get("inputs"), file)
    with reading(file, _FIX):
        if seen is None or not isinstance(told["files"], Mapping):
            raise ValueError("it names no inputs or no files")
        model, lineage, names = told["model"], told["lineage"], told["class_names"]
        members = told["members"]
        return Kept(
            made=None if model is None else _made(model),
            seen=seen,
            width=int(told["num_classes"]),
            members=None if members is None else int(members),
            fingerprint=str(told["fingerprint"]),
            changes=tuple(map(str, told["changes"])),
            class_names=None if names is None else tuple(map(str, names)),
            lineage=None if lineage is None else Lineage.from_json(lineage),
        )


def _made(told: Mapping[str, Any]) -> Made:
    """JSON has lists in the place of tuples."""
    pair = {key: told.get(key) for key in ("mean", "deviation")}
    pair = {key: None if value is None else tuple(value) for key, value in pair.items()}
    return Made(**{**told, **pair})


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
