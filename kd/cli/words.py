"""What is typed beside an option, read."""

from __future__ import annotations

from kd.errors import KdError


def whole(option: str, text: str, what: str = "a class") -> int:
    """A whole number of 0 or more. Raises a `KdError` for anything else."""
    if not text.isdecimal() or len(text) > 9:
        raise KdError(
            f"{option} must be {what}, a whole number of 0 or more, got '{text}'; e.g. {option}=3"
        )
    return int(text)
