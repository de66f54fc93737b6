"""A door between a process and its coordinator that stays open when the coordinator dies.

JAX's client ends its process with a C++ stack trace in the moment in which its connection breaks.
Through a relay on the same machine it does not see that: the near side stays open and silent, and
`Relay.broken` tells who watches.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time


class Relay:
    """Forwards ``127.0.0.1:port`` of this machine to `host`, `port`.

    Runs in daemon threads until the process ends.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        self._door = socket.create_server(("127.0.0.1", 0))
        self.broken = threading.Event()
        """Set when a connection that stood was ended by the far side."""
        _start(self._accept)

    @property
    def address(self) -> str:
        """Where to connect instead."""
        return f"127.0.0.1:{self._door.getsockname()[1]}"

    def _accept(self) -> None:
        while True:
            near, _ = self._door.accept()
            try:
                far = _dial(self._target, 5)
            except OSError:  # not there yet: whoever knocks tries again
                near.close()
                continue
            near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _start(self._outward, near, far)
            _start(self._inward, near, far)

    def _outward(self, near: socket.socket, far: socket.socket) -> None:
        if _pump(near, far):  # this side has hung up: nothing is broken
            near.close()
            with contextlib.suppress(OSError):
                far.shutdown(socket.SHUT_RDWR)
        else:
            self.broken.set()

    def _inward(self, near: socket.socket, far: socket.socket) -> None:
        if _pump(far, near) and near.fileno() != -1:
            self.broken.set()


def answers(host: str, port: int, seconds: float) -> bool:
    """Whether somebody listens at `host`, `port`; knocks until then, or for so many seconds."""
    end = time.monotonic() + seconds
    while True:
        try:
            _dial((host, port), max(0.1, min(5, end - time.monotonic()))).close()
        except OSError:
            if time.monotonic() >= end:
                return False
            time.sleep(0.2)
        else:
            return True


def _dial(target: tuple[str, int], seconds: float) -> socket.socket:
    far = socket.create_connection(target, timeout=seconds)
    far.settimeout(None)
    far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return far


def _pump(source: socket.socket, target: socket.socket) -> bool:
    """Copy until one side ends; whether that was the source."""
    while True:
        try:
            data = source.recv(1 << 16)
        except OSError:
            return True
        if not data:
            return True
        try:
            target.sendall(data)
        except OSError:
            return False


def _start(function: object, *arguments: object) -> None:
    threading.Thread(target=function, args=arguments, daemon=True, name="kd-relay").start()  # type: ignore[arg-type]
