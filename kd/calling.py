"""Code of the user's own, called: what does not fit it and what it raises are one line each."""

from __future__ import annotations

import contextlib
import functools
import inspect
import pathlib
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from kd import shipped
from kd.errors import KdError, cause
from kd.user_code import is_installed

_KD = pathlib.Path(__file__).resolve().parent


def check_takes(what: str, function: Any, told: str, *arguments: Any, **options: Any) -> None:
    """Raise a `KdError` unless `function`, which `what` names, is one and takes what kd calls it
    with; `told` says what that is, ``(split, argument, data_dir)``.
    """
    if not callable(function):
        raise KdError(f"{what} is no function, but {function!r:.80}; name one that takes {told}")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return  # of some built-in functions nothing is known
    try:
        signature.bind(*arguments, **options)
    except TypeError as error:
        raise KdError(
            f"{what} is called with {told}, and it takes {signature} ({error}); write a function "
            "that takes what it is called with"
        ) from error


def parameters(function: Any) -> Mapping[str, inspect.Parameter]:
    """What a function takes, by name; nothing where it does not say."""
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):  # no function, or some that are built in
        return {}


def call(what: str, function: Any, told: str, *arguments: Any, **options: Any) -> Any:
    """What `function` answers.

    Raises:
      KdError: as `check_takes` does, and whatever the function raises.
    """
    check_takes(what, function, told, *arguments, **options)
    with running(what):
        return function(*arguments, **options)


def guarded(what: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, whose errors are a `KdError` that names `what`."""

    @functools.wraps(function)
    def guard(*arguments: Any, **options: Any) -> Any:
        with running(what):
            return function(*arguments, **options)

    return guard


@contextlib.contextmanager
def running(what: str) -> Iterator[None]:
    """Whatever the user's code raises inside, an exit too, becomes one line that names `what` and
    the line of code.

    Raises:
      KdError: anything was raised inside.
    """
    try:
        yield
    except KdError:
        raise
    except (Exception, SystemExit) as error:  # whatever is in the user's mind
        raise KdError(f"{what} {raised(error)}; mend it there") from error


def raised(error: BaseException) -> str:
    """What an error says, and the line of the user's own code that it comes from."""
    if isinstance(error, SystemExit):
        said = f"asks to exit, with {error.code!r}"
    else:
        name, words = type(error).__name__, cause(error)
        said = f"raises {name}" if words == name else f"raises {name}: {words}"
    if isinstance(error, SyntaxError):
        return f"raises SyntaxError: {error.msg} ({error.filename}:{error.lineno})"
    own = [frame for frame in _frames(error) if _is_users(frame.filename)]
    return said + (f" ({own[-1].filename}:{own[-1].lineno}, in {own[-1].name})" if own else "")


def is_users(error: BaseException) -> bool:
    """Whether an error comes from the user's own code, and not from kd: whose line is the last one,
    those of Python and of libraries left out.
    """
    places = [frame.filename for frame in _frames(error)]
    return next((_is_users(name) for name in reversed(places) if _is_somebodys(name)), False)


def _frames(error: BaseException) -> traceback.StackSummary:
    return traceback.extract_tb(error.__traceback__)


def _is_users(file: str) -> bool:
    return _is_somebodys(file) and not _is_kds(file)


def _is_kds(file: str) -> bool:
    path = pathlib.Path(file).resolve()
    return path.is_relative_to(_KD) or shipped.holds(path)


@functools.lru_cache(maxsize=1024)
def _is_somebodys(file: str) -> bool:
    """Whether a file is kd's or the user's, and no library's."""
    return not file.startswith("<") and (_is_kds(file) or not is_installed(pathlib.Path(file)))
