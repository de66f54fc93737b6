"""A notice that the machine will be taken away counts as a SIGTERM: the run saves and ends, and
goes on to the bytes of one that heard nothing.
"""

import contextlib
import http.server
import signal
import threading
import time
import urllib.parse

import pytest

import runs
from kd.processes.preemption import Metadata, heeded, notice_here
from kd.processes.signals import StopSignals
from kd.training import writers

PATH = "/computeMetadata/v1/instance/preempted"


class Server(http.server.ThreadingHTTPServer):
    """A metadata server: it answers when its state is another one than the asker knows, or when the
    asker's time is over.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.text, self.state, self.asked = b"FALSE", 1, 0
        self.changed = threading.Condition()
        self.address = f"127.0.0.1:{self.server_port}"

    def preempt(self):
        with self.changed:
            self.text, self.state = b"TRUE", self.state + 1
            self.changed.notify_all()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        if url.path != PATH or self.headers["Metadata-Flavor"] != "Google":
            self.send_error(404)
            return
        server = self.server
        with server.changed:
            server.asked += 1
            known = query["last_etag"]
            server.changed.wait_for(
                lambda: str(server.state) != known, timeout=float(query["timeout_sec"])
            )
            text, state = server.text, server.state
        self.send_response(200)
        self.send_header("ETag", str(state))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(text + b"\n")

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setenv("GCE_METADATA_HOST", server.address)
        monkeypatch.delenv("NO_GCE_CHECK", raising=False)
        yield server
        server.preempt()
        server.shutdown()
        thread.join()


def test_the_server_is_asked_once_for_each_change(server):
    notice = Metadata(server.address)
    assert not notice.wait(1)  # what it says now
    assert not notice.wait(1)  # and a second later still
    threading.Timer(0.05, server.preempt).start()
    begun = time.monotonic()
    assert notice.wait(30)
    assert time.monotonic() - begun < 20
    assert server.asked == 3
    assert Metadata(server.address).wait(30)  # who comes late hears it too


def test_who_is_asked(server):
    assert notice_here({"NO_GCE_CHECK": "true", "GCE_METADATA_HOST": "x"}) is None
    assert isinstance(notice_here({"GCE_METADATA_HOST": server.address}), Metadata)


class Played:
    """A notice that tests play: answers in a row, an error where nobody answers."""

    def __init__(self, *answers):
        self.answers, self.over = list(answers), threading.Event()

    def wait(self, _):
        if not self.answers:
            self.over.wait(5)
            return False
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def heard(stop, seconds=5.0):
    end = time.monotonic() + seconds
    while stop.received is None and time.monotonic() < end:
        time.sleep(0.005)
    return stop.received


def test_a_server_that_does_not_answer_is_asked_again(monkeypatch):
    monkeypatch.setattr("kd.processes.preemption._PAUSE", 0.01)
    stop = StopSignals()
    with heeded(stop, Played(OSError(), False, OSError(), True)):
        assert heard(stop) == signal.SIGTERM


def test_a_run_that_has_nowhere_to_save_hears_nothing():
    stop, played = StopSignals(noting=False), Played(True)
    with heeded(stop, played):
        assert heard(stop, 0.1) is None
    assert played.answers == [True]


def test_a_preempted_run_goes_on_to_the_same_bytes(server, tmp_path, monkeypatch, capfd):
    """The notice comes while the line of step 2 is written: the dispatch under way is finished."""
    original, noted, note = writers.jsonl, threading.Event(), StopSignals.note
    monkeypatch.setattr(StopSignals, "note", lambda *told: (note(*told), noted.set()))

    def jsonl(path, *options):
        write = original(path, *options)

        def noticed(at, values):
            if at == 2:
                server.preempt()
                assert noted.wait(30)
            write(at, values)

        return noticed

    monkeypatch.setattr(writers, "jsonl", jsonl)
    workdir = tmp_path / "run"
    assert runs.train(workdir, checkpoint_epochs=1) == 128 + signal.SIGTERM
    err = capfd.readouterr().err
    assert "kd: stopped by SIGTERM after step 3; the same command continues" in err
    monkeypatch.setattr(writers, "jsonl", original)
    monkeypatch.setenv("NO_GCE_CHECK", "true")  # another machine
    assert runs.train(workdir, checkpoint_epochs=1) == 0
    runs.same_bytes(workdir, runs.finished())
