"""Files from one process of a run to another, over a connection of their own.

What processes say to each other goes through the coordinator's store; files are too large for that.
"""

from __future__ import annotations

import contextlib
import http.client
import http.server
import pathlib
import secrets
import shutil
import socket
import threading
from collections.abc import Iterator, Sequence

_SECONDS = 60  # without a byte


@contextlib.contextmanager
def offered(files: Sequence[pathlib.Path], host: str) -> Iterator[str]:
    """While inside, whoever knows the address that this yields can fetch these files by name.

    It listens on the interface by which `host`, another machine, is reached.
    """
    secret = secrets.token_hex(16)
    server = _Server((_interface(host), 0), _Handler)
    server.files = {f"/{secret}/{file.name}": file for file in files}
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="kd-handover")
    thread.start()
    try:
        yield f"{server.server_address[0]}:{server.server_address[1]}/{secret}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def fetch(address: str, name: str, folder: pathlib.Path) -> None:
    """Write the file `name` of an offer into `folder`, whole or not at all.

    Raises OSError where it does not come.
    """
    place, _, secret = address.partition("/")
    connection = http.client.HTTPConnection(place, timeout=_SECONDS)
    unfinished = folder / f"{name}.unfinished"
    try:
        connection.request("GET", f"/{secret}/{name}")
        answer = connection.getresponse()
        if answer.status != 200:
            raise OSError(f"{place} has no {name}")
        with unfinished.open("wb") as file:
            shutil.copyfileobj(answer, file)
        if unfinished.stat().st_size != int(answer.headers["Content-Length"]):
            raise OSError(f"{place} broke off in {name}")
    except http.client.HTTPException as error:
        raise OSError(f"{place} broke off in {name}") from error
    finally:
        connection.close()
    unfinished.replace(folder / name)


def _interface(host: str) -> str:
    """The address of this machine by which it reaches `host`; nothing is sent."""
    family, kind, protocol, _, target = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.connect(target)
        return probe.getsockname()[0]


class _Server(http.server.ThreadingHTTPServer):
    files: dict[str, pathlib.Path]


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, _Server)
        path = self.server.files.get(self.path)
        if path is None:
            self.send_error(404)
            return
        with path.open("rb") as file:
            self.send_response(200)
            self.send_header("Content-Length", str(path.stat().st_size))
            self.end_headers()
            shutil.copyfileobj(file, self.wfile)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""
