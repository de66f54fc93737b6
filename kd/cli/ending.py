"""How a command ends: what its exit code and its last line say."""

from __future__ import annotations

import errno
import os
import select
import signal
import sys
from types import TracebackType
from typing import Any

from kd.errors import KdError

_OF_DISKS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES)
_JAX_READS = os.path.join("jax", "_src", "config.py")
"""The file in which JAX reads its environment."""


def complain(message: str) -> int:
    """Say the one line of a refusal."""
    print(f"kd: {message}", file=sys.stderr)
    return 2


def ended(error: BaseException) -> int:
    """Say in one line what has ended the command; its exit code.

    What is neither the user's nor the machine's, and so kd's own fault, is raised again.
    """
    from kd.processes.signals import Interrupted

    if isinstance(error, KdError):
        return complain(str(error))
    if isinstance(error, Interrupted):
        complain(str(error))
        return 128 + error.signum
    if isinstance(error, KeyboardInterrupt):  # outside the steps: what was saved stays
        complain("stopped by SIGINT; the same command continues")
        return 128 + signal.SIGINT
    code = _unforeseen(error)
    if code is None:
        raise error
    return code


def _unforeseen(error: BaseException) -> int | None:
    """The exit code of what somebody else has raised; None: it is a fault of kd."""
    from kd.calling import is_users, raised

    if is_users(error):
        return complain(f"your code {raised(error)}; mend it there")
    if _reader_has_gone(error):  # as in `kd list | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    if isinstance(error, OSError) and error.errno in _OF_DISKS:
        place = error.filename or "a file"
        return complain(
            f"cannot write {place}: {error.strerror}; free some space or choose another folder"
        )
    if isinstance(error, ValueError) and _is_of_environment(error.__traceback__):
        return complain(f"JAX cannot start: {error}; unset that variable of the environment")
    return None


def _reader_has_gone(error: BaseException) -> bool:
    if isinstance(error, SystemExit):  # so rich ends a program whose reader has gone
        return isinstance(error.__context__, BrokenPipeError)
    if not isinstance(error, BrokenPipeError):
        return False
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _is_of_environment(trace: TracebackType | None) -> bool:
    while trace is not None:
        if trace.tb_frame.f_code.co_filename.endswith(_JAX_READS):
            return True
        trace = trace.tb_next
    return False


def leave(signum: int, _frame: Any) -> None:
    """End at once, on a signal outside the steps.

    Not by an exception: raised inside a compiler's callback it is lost, or takes the interpreter
    down with it.
    """
    show_cursor = "\x1b[?25h" if sys.stderr.isatty() else ""
    print(
        f"{show_cursor}kd: stopped by {signal.Signals(signum).name}; the same command continues",
        file=sys.stderr,
    )
    sys.stderr.flush()
    os._exit(128 + signum)
