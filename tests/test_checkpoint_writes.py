"""Checkpoints are written beside the steps; what cannot be written leaves the last good one."""

import asyncio
import contextlib
import gc
import resource
import shutil
import sys
import threading
import types

import pytest
import tensorstore

import faulty
import runs
from checkpoints import Folder, bits, tree
from kd.errors import KdError
from kd.training import writers
from kd.training.checkpoint import Checkpoints


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path / "checkpoints")


def test_save_returns_before_it_is_written_and_wait_after(folder, monkeypatch):
    held, written = threading.Event(), Checkpoints._write_sums
    monkeypatch.setattr(
        Checkpoints, "_write_sums", lambda self, step: (held.wait(20), written(self, step))
    )
    with folder.open() as checkpoints:
        checkpoints.save(2, tree(2))
        assert not (folder.path / "checksums" / "2.json").exists()
        held.set()
        checkpoints.wait()
        assert (folder.path / "checksums" / "2.json").exists()


@pytest.mark.parametrize("then", ["save", "wait", "close", "restore"])
def test_what_goes_wrong_in_the_background_is_raised_at_the_next_call(folder, monkeypatch, then):
    def full(self, step):
        raise OSError(28, "No space left on device")

    folder.save(2)
    monkeypatch.setattr(Checkpoints, "_write_sums", full)
    checkpoints = Checkpoints(folder.path, folder.said.append)
    checkpoints.save(4, tree(4))
    arguments = {"save": (6, tree(6)), "restore": (tree(0),)}.get(then, ())
    with pytest.raises(
        KdError, match=r"step 4 in .*: No space left on device; the one of step 2 stays"
    ):
        getattr(checkpoints, then)(*arguments)
    checkpoints.close()
    monkeypatch.undo()
    assert bits(folder.restore()) == bits(tree(2))


@contextlib.contextmanager
def no_file_larger_than(size):
    """What a full disk does to a write, for files above `size` bytes (Python ignores SIGXFSZ)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_cannot_be_written_leaves_the_last_good_one(folder):
    folder.save(2)
    message = (
        r"cannot save the checkpoint of step 4 in .*: File too large; the one of step 2 stays; "
        r"free some space"
    )
    with (
        folder.open() as checkpoints,
        no_file_larger_than(200),
        pytest.raises(KdError, match=message),
    ):
        checkpoints.save(4, tree(4))
    assert bits(folder.restore()) == bits(tree(2))
    folder.save(4)
    assert bits(folder.restore()) == bits(tree(4))


@pytest.mark.parametrize("error", [None, "Event loop is closed", "anything else"])
def test_a_write_that_ends_after_another_one_failed_is_not_heard_and_all_else_is(
    folder, monkeypatch, error
):
    """TensorStore calls into the event loop that Orbax closed; with no checkpoints open (None)
    Python prints that.
    """
    heard = []
    monkeypatch.setattr(sys, "unraisablehook", heard.append)
    if error is not None:
        with folder.open():
            pass
    if error == "anything else":
        sys.unraisablehook(types.SimpleNamespace(exc_value=RuntimeError(error)))
    else:
        promise, future = tensorstore.Promise.new()
        loop = asyncio.new_event_loop()
        with pytest.raises(OSError, match="no space"):
            loop.run_until_complete(one_fails(future))
        loop.close()
        late = threading.Thread(target=promise.set_result, args=(None,))
        late.start()
        late.join()
    assert len(heard) == (error != "Event loop is closed")


@pytest.mark.parametrize(
    ("error", "news"),
    [
        (OSError(28, "No space left on device"), False),
        (ValueError("Error writing x/0.0 [os_error_code='28']"), False),
        (ValueError("anything else"), True),
    ],
    ids=str,
)
def test_of_writes_that_nobody_waits_for_the_first_error_is_enough(folder, caplog, error, news):
    """Orbax waits for the first write that fails; asyncio logs each of the others."""

    async def fails():
        raise error

    async def leaves():
        task = asyncio.ensure_future(fails())
        await asyncio.wait([task])

    with folder.open():
        pass
    asyncio.run(leaves())
    gc.collect()
    heard = [record for record in caplog.records if record.name == "asyncio"]
    assert len(heard) == news


async def one_fails(other):
    async def fails():
        await asyncio.sleep(0.01)
        raise OSError("no space")

    async def ends():
        await other

    await asyncio.gather(ends(), fails())


@pytest.fixture
def small_disk(tmp_path):
    with runs.small_disk(tmp_path / "disk") as disk:
        yield disk


@pytest.mark.parametrize("left", [0, 8192])
def test_a_full_disk_is_one_line_and_the_run_goes_on_when_there_is_room(
    small_disk, left, monkeypatch, capfd
):
    workdir, filler = small_disk / "run", small_disk / "filler"
    monkeypatch.setattr(writers, "jsonl", writers.jsonl)  # restores it afterwards
    faulty.at_line(3, "SIGTERM")
    assert runs.train(workdir, checkpoint_epochs=1) > 128
    monkeypatch.undo()
    capfd.readouterr()

    free = shutil.disk_usage(small_disk).free
    filler.write_bytes(b"x" * (free - left))
    assert runs.train(workdir, checkpoint_epochs=1) == 2
    said = [
        line for line in capfd.readouterr().err.splitlines() if not line.startswith("train: ")
    ]  # progress
    assert len(said) == 1
    assert said[0].startswith("kd: cannot ")
    assert "o space" in said[0]
    assert runs.restored(workdir)["['step']"] == 4

    filler.unlink()
    assert runs.train(workdir, checkpoint_epochs=1) == 0
    runs.same_bytes(workdir, runs.finished())
