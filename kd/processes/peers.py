"""The processes of a run and their words to each other, through the store of JAX's coordinator."""

from __future__ import annotations

import itertools
import socket
import time
from collections.abc import Iterator
from typing import Any

from kd.errors import KdError
from kd.processes.launcher import Place
from kd.processes.relay import Relay
from kd.processes.watchdog import Watchdog

_CHUNK = 5  # seconds that one question to the store may take


class Peers:
    """The processes that this one belongs to."""

    def __init__(self, place: Place, client: Any, relay: Relay | None) -> None:
        self.place, self.client, self.relay = place, client, relay
        self.numbers: dict[str, Iterator[int]] = {}
        self.dog: Watchdog | None = None
        self.put(f"kd/host/{place.index}", socket.gethostname())
        self.hosts = [self.wait(f"kd/host/{i}") for i in range(place.count)]

    def put(self, key: str, value: str) -> None:
        self.client.key_value_set(key, value, allow_overwrite=True)

    def folder(self, key: str) -> dict[str, str]:
        return {
            name.rpartition("/")[2]: value for name, value in self.client.key_value_dir_get(key)
        }

    def delete(self, key: str) -> None:
        self.client.key_value_delete(key)

    def wait(self, key: str, seconds: float = float("inf")) -> str:
        """The value of `key` as soon as there is one.

        Raises TimeoutError, or a `KdError` if process 0 is gone.
        """
        end = time.monotonic() + seconds
        while True:
            if self.relay is not None and self.relay.broken.is_set():
                self.wait_for_watchdog()
                raise KdError(
                    "process 0, the coordinator, is lost; start all processes again with the same "
                    "command"
                )
            try:
                return self.client.blocking_key_value_get(
                    key, int(1000 * max(0.001, min(_CHUNK, seconds)))
                )
            except Exception as error:
                if not _timed_out(error):
                    raise
            if time.monotonic() >= end:
                raise TimeoutError(key)

    def wait_for_watchdog(self) -> None:
        """Give it the time to name who is lost and to end this process; without one there is
        nothing to wait for.
        """
        if self.dog is not None:
            time.sleep(self.dog.patience.lost + 10)

    def number(self, name: str) -> int:
        """0, 1, 2, ...: how often `name` was asked for, the same in all processes."""
        return next(self.numbers.setdefault(name, itertools.count()))


def _timed_out(error: Exception) -> bool:
    return "DEADLINE_EXCEEDED" in str(error) or "NOT_FOUND" in str(error)
