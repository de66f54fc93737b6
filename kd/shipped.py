"""What ships with kd and is not the library: the configs and the experiments.

In a clone they lie beside ``kd/``. Installed, they lie inside of it, so that kd is the only package
that an installation adds; ``setup.py`` puts them there.
"""

from __future__ import annotations

import pathlib
import sys

PACKAGES = ("configs", "experiments")
_KD = pathlib.Path(__file__).resolve().parent
_INSIDE = _KD / "repository"


def installed() -> bool:
    """Whether this is an installation, and no clone."""
    return _INSIDE.is_dir()


def folder() -> pathlib.Path:
    """The folder that holds ``configs/`` and ``experiments/``."""
    return _INSIDE if installed() else _KD.parent


def holds(path: pathlib.Path) -> bool:
    """Whether a resolved path is one of theirs."""
    return any(path.is_relative_to(folder() / package) for package in PACKAGES)


def importable(module: str) -> None:
    """Let ``import experiments`` find the one that ships, where no other is found before it.

    Other modules than these are none of its business.
    """
    path = str(folder())
    if module.partition(".")[0] in PACKAGES and path not in sys.path:
        sys.path.append(path)


def config_file(file: str) -> str:
    """A config file as it was typed, or the one that ships by that name, ``configs/digits.py``,
    where here is none.
    """
    shipped = folder() / file
    own = pathlib.Path(file).expanduser().exists()
    return str(shipped) if not own and shipped.is_file() and holds(shipped.resolve()) else file
