"""Networks with weights that somebody else trained, and the way back: ours as others have them."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from kd.core.leaves import by_name
from kd.core.types import Made, Model, PyTree
from kd.errors import KdError
from kd.models.abstract import shapes
from kd.models.made import made_again
from kd.models.repeated import unrolled
from kd.models.weights import files, hugging_face, names
from kd.models.weights.families import FAMILIES
from kd.models.weights.hugging_face import CONFIG
from kd.models.weights.names import Naming
from kd.models.weights.preprocessing import PREPROCESSOR, Preprocessing, preprocessing
from kd.models.weights.preprocessing import telling as telling_preprocessing
from kd.placement.ambient import pinned
from kd.system.records import read_json

_BYTES = 1 / 255  # images of bytes, seen from 0 to 1
_HEAD = "params/head/kernel"
Table = Mapping[str, Callable[..., Model]]


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A network and its weights; `inputs` are the images ``[h w c]`` of bytes that it sees, times
    `scale`, or with `ids` the texts ``[l 2]`` of tokens and segments, at most so long; and
    `class_names` the words for its classes, where they are known.
    """

    model: Model
    params: PyTree
    extra: PyTree
    inputs: tuple[int, ...]
    scale: float = _BYTES
    class_names: tuple[str, ...] | None = None
    ids: bool = False


@pinned()
def from_folder(folder: pathlib.Path, table: Table) -> Pretrained:
    """The network of a Hugging Face folder, one of `table`, with its preprocessing.

    Raises:
      KdError: no such folder, a file that is missing or damaged, a network that kd does not
        compute, weights of another one.
    """
    if not folder.is_dir():
        raise KdError(f"there is no folder {folder}; name one of Hugging Face, hf:DIR")
    file = folder / CONFIG
    told = hugging_face.described(read_json(file, "name a Hugging Face folder"), file)
    if told.ids:
        return _of_texts(told, folder, table)
    page = folder / PREPROCESSOR
    seen = preprocessing(read_json(page, "it says how images are normalised; get it anew"), page)
    height, width, channels = told.inputs
    if seen.size not in (None, height) and told.model == "token_vit":
        raise KdError(
            f"{page} makes images of {seen.size} pixels and {file} has positions for {height}; "
            "positions are not interpolated"
        )
    inputs = (seen.size or height, seen.size or width, channels)
    made = Made(
        told.model,
        {"classes": told.classes, **told.options},
        mean=seen.mean,
        deviation=seen.deviation,
    )
    model = made_again(made, table, file)
    arrays = files.of_folder(folder)
    naming = FAMILIES[told.model].namings(told.options)[0]
    params, extra = names.read(arrays, _form(model, inputs), naming, folder)
    return Pretrained(model, params, extra, inputs, seen.scale, told.class_names)


def _of_texts(told: hugging_face.Described, folder: pathlib.Path, table: Table) -> Pretrained:
    """An encoder; what makes tokens of a text is no part of it."""
    arrays, family = files.of_folder(folder), FAMILIES[told.model]
    options = {**told.options, **family.held(told.options, arrays)}
    model = made_again(
        Made(told.model, {"classes": told.classes, **options}), table, folder / CONFIG
    )
    wanted = shapes(model, jax.ShapeDtypeStruct((1, 1, 2), np.int32))
    params, extra = names.read(arrays, wanted, family.namings(options)[0], folder)
    return Pretrained(model, params, extra, told.inputs, 1.0, told.class_names, ids=True)


@pinned()
def from_file(path: pathlib.Path, make: Callable[[int], Model]) -> Pretrained:
    """The network of ``make(classes)`` with the weights of a .npz or .safetensors file, which has
    PyTorch's names.

    Raises:
      KdError: a file that is missing or damaged, a network whose names in PyTorch are not known,
        weights of another one.
    """
    made = _told(make(1))
    family = FAMILIES[made.name]
    if family.inputs is None:
        raise KdError(
            f"the arrays of {path} alone do not say what an encoder of texts computes; name a "
            "Hugging Face folder, hf:DIR"
        )
    arrays = files.of_file(path)
    naming = _naming(arrays, family.namings(made.options), path, made.name)

    def shape(leaf: str, count: int) -> tuple[int, ...]:
        return names.shape_of(leaf, count, arrays, naming, path)

    model, inputs = make(shape(_HEAD, 2)[1]), family.inputs(made.options, shape)
    params, extra = names.read(arrays, _form(model, inputs), naming, path)
    return Pretrained(model, params, extra, inputs)


def to_folder(told: Pretrained) -> dict[str, Any]:
    """What `from_folder` reads, by the names of the files: JSON as text, and the arrays.

    Raises:
      KdError: a network that Hugging Face does not have.
    """
    told = dataclasses.replace(told, params=unrolled(told.params))
    own = (told.params, told.extra)
    made = _told(told.model)
    config, naming = _huggingly(made, told)
    page, weights = json.dumps(config, indent=2) + "\n", names.written(*own, naming)
    if told.ids:
        return {CONFIG: page, files.WEIGHTS: weights}
    seen = Preprocessing(told.inputs[0], told.scale, made.mean, made.deviation)
    return {
        CONFIG: page,
        PREPROCESSOR: json.dumps(telling_preprocessing(seen), indent=2) + "\n",
        files.WEIGHTS: weights,
    }


def _huggingly(made: Made, told: Pretrained) -> tuple[dict[str, Any], Naming]:
    sizes = {name: tuple(leaf.shape) for name, leaf in by_name({"params": told.params}).items()}
    config = hugging_face.telling(made.name, made.options, sizes, told.inputs, told.class_names)
    return config, FAMILIES[made.name].namings(made.options)[0]


def _told(model: Model) -> Made:
    """What a model is made of, if weights from outside are known for it."""
    name = None if model.made is None else model.made.name
    if model.made is None or name not in FAMILIES:
        raise KdError(
            f"no names of weights from outside are known for {name or 'a model of your own'}; "
            f"they are for {', '.join(FAMILIES)}"
        )
    return model.made


def _naming(
    arrays: Mapping[str, np.ndarray], namings: Sequence[Naming], path: pathlib.Path, network: str
) -> Naming:
    """The table of names by which a file has the head of the network."""
    heads = [naming.theirs(_HEAD) for naming in namings]
    for naming, head in zip(namings, heads, strict=True):
        if head in arrays:
            return naming
    raise KdError(
        f"{path} is of another network: it holds {names.some(list(arrays))}, and a {network} has "
        f"{' or '.join(heads)}; name the network whose weights these are"
    )


def _form(model: Model, inputs: tuple[int, ...]) -> Any:
    return shapes(model, jax.ShapeDtypeStruct((1, *inputs), np.float32))
