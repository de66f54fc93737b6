"""Options that several commands take, and what is typed beside them, read.

Nothing heavy is imported here.
"""

from __future__ import annotations

import argparse
import sys

from kd.errors import KdError
from kd.system.paths import anywhere, local

_SCHEMES = ("hf:", "run:", "table:", "weights:")


def whole(option: str, text: str, what: str = "a class") -> int:
    """A whole number of 0 or more. Raises a `KdError` for anything else."""
    if not text.isdecimal() or len(text) > 9:
        raise KdError(
            f"{option} must be {what}, a whole number of 0 or more, got '{text}'; e.g. {option}=3"
        )
    return int(text)


def path(text: str) -> str:
    """Empty, as an unset variable of the shell is, stays so: nothing was said."""
    return str(anywhere(text)) if text else text


def file(text: str) -> str:
    """The same, of this machine alone."""
    return str(local(text)) if text else text


def source(text: str) -> str:
    """A path, or one with a scheme, which whoever reads it looks at."""
    return text if text.startswith(_SCHEMES) else path(text)


def data_dir(command: argparse.ArgumentParser) -> None:
    """Where data lies."""
    command.add_argument(
        "--data_dir",
        type=path,
        metavar="DIR",
        help="where data lies; default: TFDS_DATA_DIR for tfds:, KD_DATA_DIR for files and folders",
    )


def despite_changes(command: argparse.ArgumentParser) -> None:
    """Whether runs are read although something has changed."""
    command.add_argument(
        "--despite_changes",
        action="store_true",
        help="read runs although their code or data are not what was recorded, and say so",
    )


def allow_code(command: argparse.ArgumentParser) -> None:
    """Whose code may run."""
    command.add_argument(
        "--allow_code",
        metavar="A,B",
        default="",
        help="packages of your own whose code a file that is read may name; KD_ALLOW_CODE too",
    )


def licence_override(command: argparse.ArgumentParser) -> None:
    """The reason to go on where the licence gate stops."""
    command.add_argument(
        "--licence_override",
        metavar="REASON",
        default="",
        help="go on where the licence gate stops, and record why; no legal advice",
    )


def say(text: str) -> None:
    """A line that is no result."""
    print(text, file=sys.stderr, flush=True)
