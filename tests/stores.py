"""Both kinds of buckets on loopback: emulators, and a proxy before each that can say no.

Google's emulator has no preconditions and one thread: its proxy keeps the generation of every
object, asks one thing at a time, and answers 412.
"""

import contextlib
import dataclasses
import functools
import http.client
import http.server
import itertools
import json
import logging
import os
import threading
import time
import urllib.parse
import uuid

import pytest

from kd.storage import BucketPath
from kd.storage import store as client

SCHEMES = ("gs", "s3")
BUCKET = "kd-tests"
_TOKEN = "Using GOOGLE_AUTH_TOKEN_FOR_TESTING"
_CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "GOOGLE_AUTH_TOKEN_FOR_TESTING": "x",
}


@dataclasses.dataclass
class Request:
    """What is asked of a bucket."""

    method: str
    path: str
    body: bytes
    headers: dict

    @functools.cached_property
    def query(self):
        return dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))

    @property
    def place(self):
        return urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)

    @property
    def writes(self):
        return self.method in ("POST", "PUT", "DELETE")


class Proxy:
    """A server before an emulator; `refuse` gives the status that a request is answered with, None
    to pass it on, or waits.
    """

    def __init__(self, host, port):
        self.upstream, self.refuse = (host, port), lambda _: None
        self.asked, self.sent = 0, 0
        """Requests so far, and bytes of the objects that were read."""
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # or every answer takes 40 ms
            wbufsize = -1  # head and body go together

            def _serve(self):
                size = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(size)
                proxy.asked += 1
                request = Request(self.command, self.path, body, dict(self.headers.items()))
                status = proxy.refuse(request)
                status, headers, content = (
                    proxy.answer(request) if status is None else (status, {}, b"refused")
                )
                proxy.sent += len(content) if "alt=media" in self.path else 0
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if self.command != "HEAD":
                    self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_PATCH = _serve

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, *_):
                """Whoever asked is killed at times."""

        self.server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, request):
        return self.forward(request)

    def forward(self, request):
        """(status, headers, content) of the emulator."""
        connection = http.client.HTTPConnection(*self.upstream, timeout=60)
        try:
            headers = {k: v for k, v in request.headers.items() if k.lower() != "connection"}
            connection.request(request.method, request.path, request.body, headers)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        dropped = ("transfer-encoding", "content-length", "connection", "date", "server")
        kept = {k: v for k, v in response.getheaders() if k.lower() not in dropped}
        return response.status, kept, content


class Generations(Proxy):
    """Google's emulator with the preconditions of Google's storage."""

    def __init__(self, host, port):
        super().__init__(host, port)
        self.lock, self.counter = threading.Lock(), itertools.count(int(time.time() * 1e6))
        self.generations, self.empty = {}, set()

    def answer(self, request):
        with self.lock:
            return self._answer(request)

    def _answer(self, request):
        if f"/b/{BUCKET}/" not in f"{request.place}/":
            return 404, {}, b"{}"  # the emulator trips over it
        name = self._name(request)
        if name is None:
            return self.forward(request)
        now = self.generations.get(name, 0)
        wanted, unwanted = (request.query.get(f"ifGeneration{kind}Match") for kind in ("", "Not"))
        if wanted is not None and int(wanted) != now:
            return 412, {}, b"{}"
        if unwanted is not None and int(unwanted) == now:
            return 304 if now else 404, {}, b""
        status, headers, content = self.forward(self._never_empty(request, name))
        if request.method == "GET" and name in self.empty:
            content = b""
        if status == 200 and request.method == "POST":
            now = self.generations[name] = next(self.counter)
            content = json.dumps({**json.loads(content), "generation": str(now)}).encode()
        if request.method == "DELETE" and status < 300:
            self.generations.pop(name, None)
        return status, {**headers, "x-goog-generation": str(now)}, content

    def _never_empty(self, request, name):
        """The emulator trips over an object of no bytes."""
        if request.method != "POST":
            return request
        self.empty.discard(name)
        if request.body:
            return request
        self.empty.add(name)
        headers = {k: v for k, v in request.headers.items() if k.lower() != "content-length"}
        return dataclasses.replace(request, body=b"-", headers=headers)

    def _name(self, request):
        """Bucket and key of what is asked for; None of a list."""
        parts = request.place.split("/")
        if parts[1:2] == ["upload"]:
            return parts[5], request.query["name"]
        return (parts[4], "/".join(parts[6:])) if len(parts) > 6 else None


@functools.cache
def google():
    """Google's emulator, in this process."""
    server = pytest.importorskip("gcp_storage_emulator.server", reason="no gcp-storage-emulator")
    logging.getLogger("gcp").setLevel(logging.CRITICAL)
    logging.getLogger("gcp_storage_emulator").setLevel(logging.CRITICAL)
    emulator = server.create_server("127.0.0.1", 0, in_memory=True, default_bucket=BUCKET)
    emulator._api.daemon = True  # or this process would never end
    emulator.start()
    return Generations("127.0.0.1", emulator._api._httpd.server_port)


@functools.cache
def amazon():
    """moto, in this process."""
    server = pytest.importorskip("moto.server", reason="no moto")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    emulator = server.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    emulator.start()
    proxy = Proxy(*emulator.get_host_and_port())
    status, _, content = proxy.forward(Request("PUT", f"/{BUCKET}", b"", {"Host": "127.0.0.1"}))
    assert status == 200, content
    return proxy


def variables(scheme):
    """What leads a process to the proxy before that kind of bucket."""
    name = {"gs": "TENSORSTORE_GCS_HTTP_URL", "s3": "AWS_ENDPOINT_URL"}[scheme]
    patience = {"KD_BUCKET_SECONDS": os.environ.get("KD_BUCKET_SECONDS", "20")}
    return {**_CREDENTIALS, **patience, name: proxy_of(scheme).url}


def without_its_line(said):
    """What a process says but for what TensorStore says of the emulator's credentials."""
    return "".join(line for line in said.splitlines(True) if _TOKEN not in line)


def proxy_of(scheme):
    """The proxy before that kind of bucket."""
    return google() if scheme == "gs" else amazon()


def fresh(scheme):
    """A folder of that kind of bucket in which nothing is."""
    os.environ.update(variables(scheme))
    return BucketPath(f"{scheme}://{BUCKET}/{uuid.uuid4().hex[:12]}")


@contextlib.contextmanager
def refusing(scheme, refuse):
    """Answer requests as `refuse` says: see `Proxy`."""
    proxy = proxy_of(scheme)
    proxy.refuse = refuse
    try:
        yield proxy
    finally:
        proxy.refuse = lambda _: None


def patient(monkeypatch, seconds=2.0, attempt=1.0):
    """A client that gives up soon."""
    monkeypatch.setenv("KD_BUCKET_SECONDS", str(seconds))
    monkeypatch.setattr(client, "_ATTEMPT", attempt)
    monkeypatch.setattr(client, "_BRIEF", min(seconds, 1.0))
