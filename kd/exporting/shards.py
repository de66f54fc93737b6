"""Arrays as safetensors files that Hugging Face reads: one, or several and their index."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping

import numpy as np
import safetensors.numpy

from kd.models.weights.files import INDEX, WEIGHTS

LARGEST = 5_000_000_000
"""Bytes of arrays in one file."""
_METADATA = {"format": "pt"}


def write_shards(
    folder: pathlib.Path, arrays: Mapping[str, np.ndarray], largest: int = LARGEST
) -> None:
    """Write `arrays` into files of at most `largest` bytes of arrays each, in their order; an array
    that is larger has a file of its own. Of several files an index says where each array lies.
    """
    parts = _parts(arrays, largest)
    if len(parts) == 1:
        (folder / WEIGHTS).write_bytes(safetensors.numpy.save(parts[0], _METADATA))
        return
    stem, places = pathlib.Path(WEIGHTS).stem, {}
    for number, part in enumerate(parts, start=1):
        file = f"{stem}-{number:05}-of-{len(parts):05}.safetensors"
        (folder / file).write_bytes(safetensors.numpy.save(part, _METADATA))
        places |= dict.fromkeys(part, file)
    total = sum(array.nbytes for array in arrays.values())
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", "utf-8")


def _parts(arrays: Mapping[str, np.ndarray], largest: int) -> list[dict[str, np.ndarray]]:
    parts: list[dict[str, np.ndarray]] = [{}]
    for name, array in arrays.items():
        held = sum(other.nbytes for other in parts[-1].values())
        if parts[-1] and held + array.nbytes > largest:
            parts.append({})
        parts[-1][name] = array
    return parts
