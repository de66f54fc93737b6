"""Notice that this machine is about to be taken away, from whoever lends it."""

from __future__ import annotations

import contextlib
import http.client
import os
import pathlib
import signal
import threading
from collections.abc import Iterator, Mapping
from typing import Protocol, runtime_checkable

from kd.processes.signals import StopSignals

_HOST = "metadata.google.internal"
_PRODUCT = pathlib.Path("/sys/class/dmi/id/product_name")
_ASKED = 10  # seconds that one question waits for an answer
_PAUSE = 5.0  # seconds before the next question, where nobody answers


@runtime_checkable
class Notice(Protocol):
    """Who would tell."""

    def wait(self, seconds: int) -> bool:
        """Whether the machine will be taken away; waits for that as long as this, at most.

        Raises OSError where nobody answers.
        """
        ...


class Metadata:
    """The metadata server of Google Compute Engine: ``instance/preempted`` becomes TRUE when the
    machine has some 30 seconds left.

    Source: https://docs.cloud.google.com/compute/docs/instances/preemptible, and for the long poll
    https://docs.cloud.google.com/compute/docs/metadata/querying-metadata.
    """

    def __init__(self, host: str = _HOST) -> None:
        self._host, self._etag = host, "0"  # no state of the server: it answers the first at once

    def wait(self, seconds: int) -> bool:
        """See `Notice`."""
        try:
            connection = http.client.HTTPConnection(self._host, timeout=seconds + 5)
        except http.client.HTTPException as error:
            raise OSError(f"{self._host} is no host") from error
        query = f"wait_for_change=true&last_etag={self._etag}&timeout_sec={seconds}"
        path = f"/computeMetadata/v1/instance/preempted?{query}"
        try:
            connection.request("GET", path, headers={"Metadata-Flavor": "Google"})
            answer = connection.getresponse()
            text = answer.read().strip()
        except http.client.HTTPException as error:
            raise OSError(f"{self._host} does not speak HTTP") from error
        finally:
            connection.close()
        if answer.status != 200:
            raise OSError(f"{self._host} answers {answer.status}")
        self._etag = answer.headers.get("ETag", "0")
        return text == b"TRUE"


def notice_here(environment: Mapping[str, str] = os.environ) -> Notice | None:
    """Who would tell this machine; None where nobody does.

    On Google Compute Engine its metadata server. ``GCE_METADATA_HOST`` names another one, and with
    ``NO_GCE_CHECK=true`` none is asked, as for Google's own libraries.
    """
    if environment.get("NO_GCE_CHECK", "").lower() == "true":
        return None
    host = environment.get("GCE_METADATA_HOST") or (_HOST if _is_google() else "")
    return Metadata(host) if host else None


def _is_google() -> bool:
    try:
        return _PRODUCT.read_text("utf-8").startswith("Google")
    except OSError:
        return False


@contextlib.contextmanager
def heeded(stop: StopSignals, notice: Notice | None = None) -> Iterator[None]:
    """While inside, a notice counts as a SIGTERM that `stop` has received; by default the one of
    `notice_here`.
    """
    notice = notice_here() if notice is None else notice
    if notice is None or not stop.noting:
        yield
        return
    over = threading.Event()
    listener = threading.Thread(
        target=_listen, args=(notice, stop, over), daemon=True, name="kd-preemption"
    )
    listener.start()
    try:
        yield
    finally:
        over.set()  # it may still wait for an answer, which nobody needs


def _listen(notice: Notice, stop: StopSignals, over: threading.Event) -> None:
    while not over.is_set():
        try:
            told = notice.wait(_ASKED)
        except OSError:
            over.wait(_PAUSE)
            continue
        if told and not over.is_set():
            stop.note(signal.SIGTERM)
            return
