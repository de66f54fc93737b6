"""Config files, and the ``--config.key=value`` overrides of the command line."""

from __future__ import annotations

import ast
import pathlib
import warnings
from collections.abc import Iterable
from typing import Any

from ml_collections import ConfigDict

from kd.calling import call, running
from kd.errors import KdError, unknown
from kd.hints import check_plain
from kd.system.paths import local


def load_config(
    path: str | pathlib.Path, argument: str = "", overrides: Iterable[str] = ()
) -> ConfigDict:
    """``get_config(argument)`` of a Python file, with ``key.subkey=value`` overrides applied.

    Values are Python literals; what is not a literal is text. An override may name any key that
    `resolve` knows.

    Raises:
      KdError: no such file, one that is not Python or has no ``get_config``, an argument it does
        not take, an unknown key on the way. What the file itself raises is its own.
    """
    path = local(path, "config file")
    if not path.is_file():
        raise KdError(f"no config file {path}; the ones that ship are in configs/")
    module: dict[str, Any] = {"__name__": path.stem, "__file__": str(path)}
    try:
        code = compile(path.read_text("utf-8"), str(path), "exec")
    except SyntaxError as error:
        raise KdError(
            f"config file {path} is not Python: line {error.lineno}: {error.msg}; mend that line"
        ) from error
    except (OSError, ValueError) as error:  # not readable, or bytes that are not text
        raise KdError(f"cannot read config file {path}: {error}; give a Python file") from error
    with running(f"config file {path}"):
        exec(code, module)
    if "get_config" not in module:
        raise KdError(f"{path} has no function get_config(arg); see configs/ for examples")
    config = call(f"get_config of {path}", module["get_config"], "(arg)", argument)
    if not isinstance(config, ConfigDict):
        raise KdError(
            f"get_config of {path} returned {type(config).__name__}; return a ConfigDict, see "
            "configs/"
        )
    overrides = list(overrides)
    keys = {override.partition("=")[0] for override in overrides}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise KdError(f"--config.{key} needs a value: --config.{key}=VALUE")
        _override(config, key, text)
        if (other := _other_name(key)) and other not in keys:
            _override(config, other, "none")
    return config


def _other_name(key: str) -> str:
    """Of where a teacher comes from, which has two: the one that is typed takes the place of what
    the config file said by the other.
    """
    for name, other in (("workdir", "source"), ("source", "workdir")):
        if key == f"teacher.{name}" or key.endswith(f".teacher.{name}"):
            return f"{key.removesuffix(name)}{other}"
    return ""


def choose(argument: str, *known: str) -> str:
    """`argument` if it is one of `known`, which a config's ``get_config`` understands; a `KdError`
    otherwise.
    """
    if argument not in known:
        raise unknown("config argument", argument, [name for name in known if name])
    return argument


# Terms, columns and parameters have names of their own.
_OPEN = ("objective", "population", "paths")
_SEVERAL = "config.teachers"  # of a run; in an experiment's config that is a run of its own


def _is_open(config: ConfigDict, path: str) -> bool:
    several = path == _SEVERAL and "objective" in config
    return several or path.rpartition(".")[2] in _OPEN


def _override(config: ConfigDict, key: str, text: str) -> None:
    *parents, leaf = key.split(".")
    here, path = config, "config"
    for parent in parents:
        if isinstance(here, ConfigDict) and _is_open(config, path) and parent not in here:
            here[parent] = ConfigDict()
        if not isinstance(here, ConfigDict) or parent not in here:
            raise unknown(
                f"key in {path}:", parent, here.keys() if isinstance(here, ConfigDict) else ()
            )
        if here[parent] is None and f"{path}.{parent}" in ("config.teacher.model", _SEVERAL):
            with here.unlocked(), here.ignore_type():
                here[parent] = ConfigDict()
        here, path = here[parent], f"{path}.{parent}"
    if not isinstance(here, ConfigDict):
        raise KdError(f"{path} is a value and has no key '{leaf}'; set {path} itself")
    with here.unlocked(), here.ignore_type():  # `resolve` checks types, and says which one it wants
        if (
            path in ("config.student", "config.teacher.model")
            and leaf == "name"
            and here.get("name") != text
        ):
            for option in list(
                here
            ):  # another model: the options of the one before are not its own
                del here[option]
        value = check_plain(_literal(text), f"{path}.{leaf}")
        if value is None and leaf not in here and _is_open(config, path):
            raise unknown(f"key in {path}:", leaf, here.keys())
        if isinstance(value, bool) and isinstance(here.get(leaf), float):
            del here[leaf]  # a ConfigDict would make 1.0 of True in the place of a float
        here[leaf] = value


def _literal(text: str) -> Any:
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    with warnings.catch_warnings(action="ignore"):  # of odd escapes, in what may be plain text
        try:
            return ast.literal_eval(text)
        # the last three: keys that cannot be keys, and more brackets than the parser takes
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return text
