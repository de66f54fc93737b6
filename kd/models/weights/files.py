"""Arrays with names, from whichever file holds them. Pickles are not read."""

from __future__ import annotations

import pathlib

import numpy as np

from kd.data.npz import read_array, stored_arrays
from kd.errors import KdError, reading
from kd.models.weights import tensors

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
_CONVERT = (
    "in PyTorch: numpy.savez(FILE, **{name: array.numpy() for name, array in "
    "model.state_dict().items()})"
)
_PARALLEL = "module."  # PyTorch's DataParallel writes it before every name


def of_file(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The arrays of a .npz or .safetensors file by name.

    Raises:
      KdError: another file, or one that is damaged.
    """
    ending = path.suffix.lower()
    if ending not in (".npz", ".safetensors"):
        raise KdError(f"{path} is no .npz and no .safetensors file; write one, {_CONVERT}")
    arrays = tensors.stored(path) if ending == ".safetensors" else _of_npz(path)
    if arrays and all(name.startswith(_PARALLEL) for name in arrays):
        return {name.removeprefix(_PARALLEL): array for name, array in arrays.items()}
    return arrays


def of_folder(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """The arrays of a Hugging Face folder: one file, or several and their index.

    Raises:
      KdError: neither is there, or a file that is damaged.
    """
    if (folder / WEIGHTS).exists():
        return tensors.stored(folder / WEIGHTS)
    if (folder / INDEX).exists():
        return tensors.index(folder, INDEX)
    raise KdError(
        f"{folder} holds no {WEIGHTS} and no {INDEX}; with transformers, "
        "model.save_pretrained(DIR) writes one"
    )


def _of_npz(path: pathlib.Path) -> dict[str, np.ndarray]:
    stored = stored_arrays(path)
    with reading(path):
        tensors.check_names(stored)
    return {name: read_array(member) for name, member in stored.items()}
