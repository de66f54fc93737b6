"""What the files of a prepared TFDS set may say, checked before TFDS reads them: TFDS imports the
classes that they name, and opens the files.
"""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Iterator
from typing import Any

from kd.errors import KdError
from kd.storage import is_address
from kd.system.copies import brought
from kd.system.paths import anywhere

Path = Any  # of pathlib, or what TFDS has for a bucket
_NAME = r"[A-Za-z]\w*(/\w[\w.+-]*)?(:(\d+|\*)(\.(\d+|\*)){2})?"  # name/config:version
_PLAIN = r"(?!\.)[^/\\]*"  # no way into another folder


def check_name(dataset: str) -> None:
    """Raise a `KdError` unless `dataset` is the name of a set.

    A namespace is refused: TFDS imports code from elsewhere for it.
    """
    if not re.fullmatch(_NAME, dataset):
        raise KdError(f"'{dataset}' is no name of a TFDS data set; give e.g. tfds:mnist")


def home_of(dataset: str, data_dir: str | None) -> str:
    """The folder of prepared sets that holds `dataset`: `data_dir`, else ``TFDS_DATA_DIR``, else
    ``~/tensorflow_datasets``; where that is in a bucket, a copy of the set here.

    Raises:
      KdError: a bucket that cannot be read, or no name of a set.
    """
    home = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    if not is_address(home):
        return os.path.expanduser(home)
    check_name(dataset)
    folder = anywhere(home, "data_dir") / re.split("[/:]", dataset, maxsplit=1)[0]
    return str(brought(folder).parent)


def check_files(dataset: str, folder: str) -> None:
    """Raise a `KdError` unless the description of every version of a set in `folder`
    names TFDS's own features, and files beside it.
    """
    from tensorflow_datasets.core import as_path, naming

    home = as_path(folder) / str(naming.parse_builder_name_kwargs(dataset)[0])
    for version in ("*", "*/*"):  # or a config, and its versions
        for file in ("features.json", "dataset_info.json"):
            for path in sorted(home.glob(f"{version}/{file}")):
                _check_file(path)
    _check_plain(home / ".config" / "metadata.json", ("default_config_name",))


def _check_file(path: Path) -> None:
    for name in _classes(_content(path)):
        if not isinstance(name, str) or name not in _known():
            raise KdError(
                f"{path} names code of its own, {name!r:.80}; kd reads the features that TFDS "
                "ships: prepare the set with those"
            )
    if path.name == "dataset_info.json":
        _check_plain(path, ("name", "configName", "config_name", "version"))


def _check_plain(path: Path, keys: tuple[str, ...]) -> None:
    if not path.is_file():
        return
    content = _content(path)
    splits = content.get("splits")
    values = [content.get(key) for key in keys]
    for split in splits if isinstance(splits, list) else []:
        if isinstance(split, dict):
            template = split.get("filepathTemplate"), split.get("filepath_template")
            values += [split.get("name"), *template]
    for value in values:
        if value is not None and not (isinstance(value, str) and re.fullmatch(_PLAIN, value)):
            raise KdError(f"{path} leads out of its folder, with {value!r:.80}; restore that file")


def _content(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it holds no object")
    except (OSError, ValueError, RecursionError) as error:
        raise KdError(f"cannot read {path}: {error}; prepare the set again") from error
    return content


def _classes(description: Any) -> Iterator[Any]:
    """Every class that a description names, in JSON within JSON too."""
    waiting = [description]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
            value = _embedded(value)
        if isinstance(value, list):
            waiting += value
        if isinstance(value, dict):
            waiting += value.values()
            legacy = ("type",) if "content" in value else ()
            named = [value.get(key) for key in ("pythonClassName", "python_class_name", *legacy)]
            # a feature may have such a name itself, and is then a description of its own
            yield from (name for name in named if not isinstance(name, (type(None), dict)))


def _embedded(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # a text that begins like JSON
        return None


@functools.cache
def _known() -> frozenset[str]:
    from tensorflow_datasets import features

    own = [getattr(features, name) for name in features.__all__]
    classes = [c for c in own if isinstance(c, type) and issubclass(c, features.FeatureConnector)]
    older = "tensorflow_datasets.core.features.feature.Tensor"  # as TFDS called it once
    return frozenset([older, *(f"{c.__module__}.{c.__name__}" for c in classes)])
