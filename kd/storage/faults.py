"""What a bucket answered in place of an answer, in words: TensorStore's long texts read once."""

from __future__ import annotations

import dataclasses
import errno
import os
import re

_CODE = re.compile(r"http_response_code='(\d+)'|HTTP response code: (\d+)|HTTP (\d{3})")
_KEYS = ("ExpiredToken", "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken")
_STATUS = {
    "NOT_FOUND": 404,
    "PERMISSION_DENIED": 403,
    "UNAUTHENTICATED": 401,
    "INVALID_ARGUMENT": 400,
}
_CREDENTIALS = {
    "gs": "type 'gcloud auth application-default login', or point GOOGLE_APPLICATION_CREDENTIALS "
    "at a key file",
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
}


@dataclasses.dataclass(frozen=True)
class Fault:
    """Why a bucket did not do what it was asked: the operating system's nearest number, the cause
    in a few words, what to do about it, and whether asking again soon may help.
    """

    errno: int
    cause: str
    fix: str
    passing: bool


def fault_of(error: Exception, bucket: str, verb: str) -> Fault:
    """What `error`, raised where `bucket` was asked to `verb` something, says."""
    scheme, text = bucket.partition(":")[0], str(error)
    code = _code(text)
    if isinstance(error, TimeoutError):
        return _passing("it does not answer", bucket)
    if code == 401 or any(key in text for key in _KEYS) or "redential" in text:
        cause = "there are no credentials for it, or they have expired"
        return Fault(errno.EACCES, cause, _CREDENTIALS[scheme], passing=False)
    if code == 403:
        cause = f"these credentials may not {verb} there (403)"
        fix = f"ask for the right to {verb} in {bucket}, or {_CREDENTIALS[scheme]}"
        return Fault(errno.EACCES, cause, fix, passing=False)
    if code == 404:
        cause = f"there is no bucket {bucket} (404)"
        return Fault(errno.ENOENT, cause, "make it, or choose another bucket", passing=False)
    if code == 400:
        cause = f"the bucket does not understand it: {_short(text)}"
        return Fault(errno.EINVAL, cause, "check the name of the bucket", passing=False)
    return _passing("it does not answer" if code is None else f"it answers {code}", bucket)


def _passing(cause: str, bucket: str) -> Fault:
    fix = f"check the network and the state of {bucket}, and start again"
    return Fault(errno.EIO, cause, fix, passing=True)


def _code(text: str) -> int | None:
    match = _CODE.search(text)
    if match is not None:
        return int(next(filter(None, match.groups())))
    return _STATUS.get(text.partition(":")[0].strip())


def _short(text: str) -> str:
    return " ".join(text.split())[:120] or os.strerror(errno.EINVAL)
