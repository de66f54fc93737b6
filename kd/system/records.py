"""JSON files that are written whole or not at all, with a digest by which an edit is noticed."""

from __future__ import annotations

import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from kd.errors import KdError
from kd.storage import BucketError, write_whole
from kd.system.paths import check_ordinary

_DIGEST = "digest"  # of what else a record says


def digest_of(content: Any) -> str:
    """Hash of anything JSON can hold: 12 hexadecimal digits."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def read_json(path: pathlib.Path, fix: str) -> dict[str, Any]:
    """The object that a JSON file holds. Raises a `KdError` with that `fix` where it is damaged or
    not there.
    """
    check_ordinary(path)
    try:
        content = json.loads(path.read_text("utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it holds no object")
    except BucketError:  # nothing is known of the file
        raise
    except FileNotFoundError as error:
        raise KdError(f"there is no {path}; {fix}") from error
    except (OSError, ValueError, RecursionError) as error:
        cause = getattr(error, "strerror", None) or error
        raise KdError(f"{path} is damaged: {cause}; {fix}") from error
    return content


def write_json(path: pathlib.Path, content: Mapping[str, Any]) -> None:
    """Write JSON whole or not at all."""
    write_whole(path, json.dumps(content, indent=1) + "\n")


def read_record(path: pathlib.Path, fix: str) -> dict[str, Any]:
    """The content of a JSON file as it was written; files of earlier versions hold no digest to
    compare.

    Raises:
      KdError: it is damaged, or was edited.
    """
    content = read_json(path, fix)
    digest = content.pop(_DIGEST, None)
    if digest not in (None, digest_of(content)):
        raise KdError(f"{path} is damaged: it was edited; {fix}")
    return content


def write_record(path: pathlib.Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file whole or not at all, with a digest of its content."""
    plain = {key: value for key, value in content.items() if key != _DIGEST}
    write_json(path, {**plain, _DIGEST: digest_of(plain)})
