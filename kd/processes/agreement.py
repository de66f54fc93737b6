"""One decision of all processes at every dispatch, for the price of a word now and then."""

from __future__ import annotations

import json
import time
from typing import Any

from kd.errors import KdError
from kd.processes import group
from kd.processes.peers import Peers

PERIOD = 0.2
"""Seconds from one word of process 0 to the next, where dispatches take less."""
MOST = 16
"""Dispatches that go by without a word, at most: they may become slower than they were."""
_BLOCK = 16  # words that are removed together


def next_word(dispatches: int, seconds: float) -> int:
    """How many dispatches after this word the next one comes, when the last so many `dispatches`
    took so many `seconds`: as many as fit into `PERIOD` at that pace, at most twice as many as
    those, and at most `MOST`.
    """
    fit = MOST if seconds <= 0 else int(min(PERIOD * dispatches / seconds, MOST))
    return max(1, min(fit, 2 * dispatches))


class Agreement:
    """All processes take the same decision at each dispatch of a loop: go on, or stop because one
    got a signal.

    Process 0 publishes a word, for which the others wait: the signal, and after how many
    dispatches its next word comes. Until then all go on, and nobody asks. One that got a signal
    tells process 0, which puts it into its next word. Words lie in blocks, which process 0 removes
    when all others have read them. Make one per loop, in the same order in all processes.
    """

    def __init__(self, timeout: float = 1800) -> None:
        self._peers = peers = group.peers()
        self._timeout, self._read, self._removed = timeout, 0, 0
        self._folder = "" if peers is None else f"kd/agree/{peers.number('agree')}"
        self._since, self._pace = 0, 1  # dispatches since the last word, and until the next
        self._moment, self._told = time.monotonic(), False

    def agreed(self, step: int, received: int | None, at_once: bool = False) -> int | None:
        """The signal for which all stop at `step`, or None to go on; `received` is what this
        process got. `at_once`, in all processes alike, does not wait for the next word's turn.

        Raises:
          KdError: process 0 does not come to this step in time.
        """
        peers = self._peers
        if peers is None:
            return received
        if received is not None and not self._told and peers.place.index:
            self._told = True
            self._tell(peers, received)
        self._since += 1
        if self._since < self._pace and not at_once:
            return None
        key = f"{self._folder}/word/{self._read // _BLOCK}/{step}"
        lead = peers.place.index == 0
        word = self._lead(peers, key, received) if lead else self._follow(peers, key, step)
        self._since, self._pace, self._read = 0, word["next"], self._read + 1
        if not lead and self._read % _BLOCK == 0:
            self._tell(peers, received)
        return word["signal"]

    def _lead(self, peers: Peers, key: str, received: int | None) -> dict[str, Any]:
        told = [json.loads(text) for text in peers.folder(f"{self._folder}/from").values()]
        signals = [received, *(of_one["signal"] for of_one in told)]
        signal = next((signum for signum in signals if signum is not None), None)
        now = time.monotonic()
        word = {"signal": signal, "next": next_word(self._since, now - self._moment)}
        self._moment = now
        peers.put(key, json.dumps(word))
        if len(told) == peers.place.count - 1:
            read = min(of_one["read"] for of_one in told)
            for block in range(self._removed, read):
                peers.delete(f"{self._folder}/word/{block}")
            self._removed = max(self._removed, read)
        return word

    def _follow(self, peers: Peers, key: str, step: int) -> dict[str, Any]:
        try:
            return json.loads(peers.wait(key, self._timeout))
        except TimeoutError:
            raise KdError(
                f"process 0 did not come to step {step} within {self._timeout:g} s; look at its "
                "log, and start all of them again"
            ) from None

    def _tell(self, peers: Peers, received: int | None) -> None:
        """How many whole blocks this process has read, and the signal that it got."""
        told = {"read": self._read // _BLOCK, "signal": received}
        peers.put(f"{self._folder}/from/{peers.place.index}", json.dumps(told))
