"""Two processes never write one folder: a lease in a bucket, as a file lock on a disk."""

import concurrent.futures
import dataclasses
import json
import os
import threading
import time

import pytest

import stores
from kd.errors import KdError
from kd.storage import BucketError, claimed
from kd.storage.lease import LEASE, Holder, Lease

BOTH = pytest.mark.parametrize("scheme", stores.SCHEMES)


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setenv("KD_LEASE_SECONDS", "4")


def held(folder, **more):
    """The lease of a process on another machine."""
    told = {
        "token": "theirs",
        "machine": "another",
        "host": "worker-7",
        "process": 12,
        "born": 3,
        "since": "2026-01-02 03:04:05 UTC",
        "renewed": time.time(),
        "seconds": 1.0,
        **more,
    }
    (folder / LEASE).write_text(json.dumps(told), "utf-8")


@BOTH
def test_a_folder_is_claimed_by_one_at_a_time(scheme):
    folder = stores.fresh(scheme)
    for _ in range(2):
        with claimed(folder):
            (folder / "x").write_text("", "utf-8")
            with pytest.raises(KdError, match="another process is training in") as refused:
                claimed(folder).__enter__()
    said = str(refused.value)
    assert f"process {os.getpid()} on " in said
    assert "since 2" in said
    assert "wait for it, or stop it" in said


@BOTH
def test_who_renews_its_lease_is_named_at_once(scheme):
    folder, over = stores.fresh(scheme), threading.Event()
    held(folder)

    def renew():
        while not over.wait(0.2):
            held(folder)

    thread = threading.Thread(target=renew)
    thread.start()
    with pytest.raises(KdError, match="process 12 on worker-7, since 2026-01-02 03:04:05 UTC"):
        claimed(folder).__enter__()
    over.set()
    thread.join()


@pytest.mark.parametrize("wrong", [-1e6, 1e6])
def test_a_clock_that_is_wrong_takes_no_lease(wrong, monkeypatch):
    folder, now = stores.fresh("gs"), time.time
    with claimed(folder), monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: now() + wrong)
        with pytest.raises(KdError, match="another process is training in"):
            claimed(folder).__enter__()
    held(folder, renewed=now() + wrong, seconds=0.5)
    begun = time.monotonic()
    with claimed(folder):
        assert time.monotonic() - begun > 0.5


@BOTH
def test_of_two_that_take_an_expired_lease_exactly_one_does(scheme):
    folder, taken, done = stores.fresh(scheme), [], threading.Event()
    held(folder)
    begun = time.monotonic()

    def take(number):
        try:
            with claimed(folder):
                taken.append(number)
                assert time.monotonic() - begun > 1.0  # it held until it had run out
                done.wait(10)
        except KdError:
            done.set()

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(take, range(2)))
    assert len(taken) == 1


@BOTH
@pytest.mark.parametrize(
    "gone",
    [{"seconds": 0.0}, {"token": None, "extra": 1}, "ended here"],
    ids=["given back", "no lease", "ended"],
)
def test_whose_holder_is_known_to_be_gone_is_taken_at_once(scheme, gone, monkeypatch):
    monkeypatch.setenv("KD_LEASE_SECONDS", "60")
    folder = stores.fresh(scheme)
    if gone == "ended here":
        mine = Lease(folder)._holder(60.0)
        held(folder, **{**dataclasses.asdict(mine), "process": 2**22 + 1})
    else:
        held(folder, **{"seconds": 60.0, **gone})
    begun = time.monotonic()
    with claimed(folder):
        assert time.monotonic() - begun < 5
        assert Holder.read((folder / LEASE).read_bytes()).process == os.getpid()
    assert Holder.read((folder / LEASE).read_bytes()) is None


@BOTH
def test_a_lease_that_was_taken_away_stops_every_write(scheme):
    folder, elsewhere = stores.fresh(scheme), stores.fresh(scheme)
    with claimed(folder):
        (folder / "x").write_text("1", "utf-8")
        held(folder, seconds=60.0)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                (folder / "x").write_text("1", "utf-8")
            except BucketError as error:
                said = str(error)
                break
        (elsewhere / "x").write_text("", "utf-8")
    assert "another process has taken the work directory: process 12 on worker-7" in said
    assert Holder.read((folder / LEASE).read_bytes()).token == "theirs"


@BOTH
def test_a_lease_that_cannot_be_renewed_stops_every_write(scheme, monkeypatch):
    monkeypatch.setenv("KD_LEASE_SECONDS", "1")
    stores.patient(monkeypatch, 0.5, 0.3)
    folder = stores.fresh(scheme)
    with claimed(folder):
        with stores.refusing(scheme, lambda r: 500 if LEASE in r.path else None):
            time.sleep(1.6)
            with pytest.raises(BucketError, match="the lease could not be renewed for 1 s"):
                (folder / "x").write_text("", "utf-8")
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:  # nobody has taken it: it is renewed after all
            try:
                (folder / "x").write_text("2", "utf-8")
                break
            except BucketError:
                time.sleep(0.1)
        assert (folder / "x").read_text("utf-8") == "2"


def test_on_a_disk_it_is_a_file_lock(tmp_path):
    with claimed(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]
        with pytest.raises(KdError, match="another process is training in"):
            claimed(tmp_path).__enter__()
    with claimed(tmp_path):
        pass
