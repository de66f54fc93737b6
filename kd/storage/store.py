"""The objects of a bucket through TensorStore's drivers: asked again where it may help, refused in
one line where it does not.

TensorStore reads the credentials that the tools of either cloud leave, and has preconditions on
both: a generation on Google's, an ETag on S3.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import errno
import functools
import math
import os
import random
import time
from collections.abc import Callable, Iterable
from typing import Any

from kd.errors import KdError
from kd.storage.faults import Fault, fault_of

_BRIEF = 3.0  # seconds for which what asking again hardly mends is asked again
_ATTEMPT, _SLOWEST = 30.0, 1e6  # seconds for one answer, and bytes in each second more
_PAUSE, _LONGEST_PAUSE = 0.25, 8.0  # seconds, doubled from one try to the next
_AT_ONCE = 16  # requests
_jitter = random.Random()  # not the caller's


class BucketError(KdError, OSError):
    """A bucket that refuses, or has not answered for as long as kd waits. ``strerror`` is the
    cause.
    """

    def __init__(self, message: str, number: int, cause: str, place: str) -> None:
        super().__init__(message)
        self.errno, self.strerror, self.filename = number, cause, place

    def __str__(self) -> str:
        return str(self.args[0])


class BucketRefused(BucketError):
    """These credentials may not do that, or there are none."""


@dataclasses.dataclass(frozen=True)
class Object:
    """What lies under a name: its `content`, None where there is nothing, and the mark of this
    version of it, on which a later `put` may depend.
    """

    content: bytes | None
    version: bytes


NOTHING = b""
"""The version of what is not there."""

guards: list[Callable[[str], None]] = []
"""Called with the address of whatever is about to be changed: a lease that was lost raises."""


def patience() -> float:
    """For how many seconds a bucket that does not answer, or answers that it cannot, is asked."""
    return seconds_of("KD_BUCKET_SECONDS", 300.0)


def seconds_of(variable: str, default: float) -> float:
    """What a variable of the environment says. Raises a `KdError` where that is no time."""
    text = os.environ.get(variable, "")
    try:
        seconds = float(text or default)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise KdError(f"{variable} must be a number of seconds above 0, got {text!r}; unset it")
    return seconds


def get(bucket: str, key: str, seconds: float = math.inf) -> Object:
    """The object of that name, for which is asked so many `seconds` at most."""
    return _object(_asked(bucket, key, "read", lambda store: store.read(key), 0, seconds))


def get_changed(bucket: str, key: str, version: bytes) -> Object | None:
    """The object of that name unless it is still of that `version`: then None."""
    told = _asked(bucket, key, "read", lambda store: store.read(key, if_not_equal=version))
    return None if told.state == "unspecified" else _object(told)


def _object(told: Any) -> Object:
    content = bytes(told.value) if told.state == "value" else None
    return Object(content, bytes(told.stamp.generation))


def has(bucket: str, key: str) -> bool:
    """Whether there is an object of that name, without its content."""
    return key in names(bucket, key, exactly=True)


def put(
    bucket: str,
    key: str,
    content: bytes | None,
    version: bytes | None = None,
    seconds: float = math.inf,
) -> bytes | None:
    """Write an object whole, None to remove it; with a `version` only where that is what is there,
    with `NOTHING` where nothing is. It is tried for so many `seconds` at most.

    The new version; None where another one was there.
    """
    for guard in guards:
        guard(f"{bucket}/{key}")
    verb = "write" if content is not None else "remove"
    before = _nothing() if version == NOTHING else version
    told = _asked(
        bucket,
        key,
        verb,
        lambda store: store.write(key, content, if_equal=before),
        len(content or b""),
        seconds,
    )
    return bytes(told.generation) or None


def remove_all(bucket: str, keys: Iterable[str]) -> None:
    """Remove the objects of these names."""
    each(lambda key: put(bucket, key, None), list(keys))


def names(bucket: str, prefix: str, *, exactly: bool = False) -> list[str]:
    """The names of all objects that begin with `prefix`, or that alone, in order."""
    import tensorstore as ts

    start = prefix.encode()
    end = start + b"\0" if exactly else start[:-1] + bytes(byte + 1 for byte in start[-1:])
    range_of = ts.KvStore.KeyRange(start, end)
    told = _asked(bucket, prefix, "list", lambda store: store.list(range_of))
    keys = sorted(bytes(key) for key in told)
    return [key.decode() for key in keys if start <= key and (key < end or not end)]


def each(function: Callable[[Any], Any], items: list[Any]) -> list[Any]:
    """`function` of each item, several at once. Raises what the first to fail raised."""
    if len(items) < 2:
        return [function(item) for item in items]
    with concurrent.futures.ThreadPoolExecutor(min(_AT_ONCE, len(items))) as pool:
        return list(pool.map(function, items))


def _asked(
    bucket: str,
    key: str,
    verb: str,
    ask: Callable[[Any], Any],
    size: int = 0,
    seconds: float = math.inf,
) -> Any:
    """The answer of the bucket; where there is none asked again, at growing distances."""
    seconds = min(seconds, patience())
    begun, pause = time.monotonic(), _PAUSE
    while True:
        try:
            return ask(_opened(bucket)).result(timeout=_ATTEMPT + size / _SLOWEST)
        except (ValueError, RuntimeError, OSError) as error:  # as TensorStore tells all of it
            fault = fault_of(error, bucket, verb)
            tried = time.monotonic() - begun
            if tried + pause > (seconds if fault.passing else min(_BRIEF, seconds)):
                raise _refused(bucket, key, verb, fault, tried) from error
        time.sleep(pause * (0.5 + _jitter.random()))
        pause = min(2 * pause, _LONGEST_PAUSE)


def _refused(bucket: str, key: str, verb: str, fault: Fault, seconds: float) -> BucketError:
    place = f"{bucket}/{key}"
    cause = f"{fault.cause}, for {seconds:.0f} s now" if fault.passing else fault.cause
    message = f"cannot {verb} {place}: {cause}; {fault.fix}"
    kind = BucketRefused if fault.errno == errno.EACCES else BucketError
    return kind(message, fault.errno, cause, place)


@functools.cache
def _nothing() -> bytes:
    """What TensorStore calls it."""
    import tensorstore as ts

    store = ts.KvStore.open({"driver": "memory"}).result()
    return bytes(store.read("nothing").result().stamp.generation)


@functools.cache
def _opened(bucket: str) -> Any:
    """TensorStore's view of a bucket. It is to try once: here is asked again, for both alike."""
    import tensorstore as ts

    scheme, _, name = bucket.partition("://")
    spec: dict[str, Any] = {"driver": "gcs", "bucket": name}
    once = {"max_retries": 1, "initial_delay": "10ms", "max_delay": "10ms"}
    if scheme == "s3":
        spec = {"driver": "s3", "bucket": name, "use_conditional_write": True, **_s3()}
    context = ts.Context({"gcs_request_retries": once, "s3_request_retries": once})
    return ts.KvStore.open(spec, context=context).result()


def _s3() -> dict[str, Any]:
    """Where S3 is, by the variables that Amazon's own tools read."""
    told: dict[str, Any] = {
        "aws_region": os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"),
        "endpoint": os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"),
    }
    told = {key: value for key, value in told.items() if value}
    if "AWS_ACCESS_KEY_ID" in os.environ:  # else its library looks for files, and says so
        told["aws_credentials"] = {"type": "environment"}
    return told
