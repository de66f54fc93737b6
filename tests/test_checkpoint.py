"""Checkpoints: what was saved comes back bit for bit, and a damaged one costs one checkpoint, never
the run.
"""

import asyncio
import contextlib
import resource
import shutil
import sys
import threading
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorstore
from jax.sharding import NamedSharding, PartitionSpec

import faulty
import processes
import runs
from kd.errors import KdError
from kd.training import writers
from kd.training.checkpoint import Checkpoints


def tree(step):
    """Every kind of leaf that a state holds."""
    random = np.random.default_rng(step)
    kernel = jnp.asarray(random.normal(size=(3, 4)), jnp.float32)
    return {
        "step": jnp.int32(step),
        "params": {
            "kernel": kernel,
            "half": kernel.astype(jnp.bfloat16),
            "odd": jnp.asarray([0.0, -0.0, jnp.inf]),
        },
        "extra": {},
        "opt_state": (kernel * 2, ()),
        "key": jax.random.split(jax.random.key(step), 2),
    }


def bits(value):
    def raw(leaf):
        return (
            jax.random.key_data(leaf)
            if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
            else leaf
        )

    leaves, structure = jax.tree.flatten(value)
    return structure, [(leaf.dtype, leaf.shape, np.asarray(raw(leaf)).tobytes()) for leaf in leaves]


class Folder:
    """Checkpoints in a folder, opened anew for every call, as a restarted run does; what they say
    is in `said`.
    """

    def __init__(self, path):
        self.path, self.said = path, []

    @contextlib.contextmanager
    def open(self, **options):
        checkpoints = Checkpoints(self.path, self.said.append, **options)
        yield checkpoints
        checkpoints.close()

    def save(self, *steps):
        with self.open() as checkpoints:
            for step in steps:
                checkpoints.save(step, tree(step))
        return self

    def restore(self):
        with self.open() as checkpoints:
            return checkpoints.restore(tree(0))

    def steps(self):
        return sorted(int(path.name) for path in (self.path / "steps").iterdir())


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path / "checkpoints")


def test_round_trip_is_bitwise(folder):
    folder.save(3)
    assert bits(folder.restore()) == bits(tree(3))
    assert folder.said == []
    with folder.open(read_only=True) as checkpoints:  # and without an example to shape it
        kernel = checkpoints.restore()["params"]["kernel"]
    assert np.asarray(kernel).tobytes() == np.asarray(tree(3)["params"]["kernel"]).tobytes()


def test_the_two_newest_are_kept(folder):
    folder.save(2, 4, 6)
    assert folder.steps() == [4, 6]
    assert sorted(path.name for path in (folder.path / "checksums").iterdir()) == [
        "4.json",
        "6.json",
    ]
    assert bits(folder.restore()) == bits(tree(6))


def test_a_step_that_is_there_is_not_written_again(folder):
    folder.save(2)
    before = runs.hashes(folder.path)
    folder.save(2)
    assert runs.hashes(folder.path) == before


def test_nothing_there_is_none_and_reading_leaves_no_trace(folder):
    with folder.open(read_only=True) as checkpoints:
        assert checkpoints.restore() is None
    assert not folder.path.exists()


def files(step_folder):
    """Files whose loss matters: the largest holds the arrays."""
    return sorted(
        (p for p in step_folder.rglob("*") if p.is_file()),
        key=lambda p: p.stat().st_size,
        reverse=True,
    )


def truncated(folder):
    path = files(folder.path / "steps" / "4")[0]
    path.write_bytes(path.read_bytes()[:-7])


def flipped(folder):
    path = files(folder.path / "steps" / "4")[0]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def missing_file(folder):
    files(folder.path / "steps" / "4")[0].unlink()


def missing_arrays(folder):
    shutil.rmtree(folder.path / "steps" / "4" / "state")


def empty(folder):
    shutil.rmtree(folder.path / "steps" / "4")
    (folder.path / "steps" / "4").mkdir()


def no_checksums(folder):
    (folder.path / "checksums" / "4.json").unlink()


def half_checksums(folder):
    path = folder.path / "checksums" / "4.json"
    path.write_bytes(path.read_bytes()[:20])


@pytest.mark.parametrize(
    "damage",
    [truncated, flipped, missing_file, missing_arrays, empty, no_checksums, half_checksums],
)
def test_a_damaged_one_is_named_and_the_one_before_is_taken(folder, damage):
    folder.save(2, 4)
    damage(folder)
    assert bits(folder.restore()) == bits(tree(2))
    assert len(folder.said) == 1
    assert "step 4" in folder.said[0]
    assert "damaged" in folder.said[0]
    for later in (4, 3):  # the same step again, or a stop before it
        copy = Folder(folder.path.with_name(f"copy{later}"))
        shutil.copytree(folder.path, copy.path)
        with copy.open() as checkpoints:
            checkpoints.restore(tree(0))
            checkpoints.save(later, tree(later))
        assert copy.steps() == [2, later]
        copy.said.clear()
        assert bits(copy.restore()) == bits(tree(later))
        assert copy.said == []


def test_every_bit_of_every_file_is_watched(folder):
    folder.save(2, 4)
    for path in files(folder.path / "steps" / "4"):
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 128]) if content else b"x")
        assert bits(folder.restore()) == bits(tree(2)), path
        path.write_bytes(content)
    assert bits(folder.restore()) == bits(tree(4))


def test_none_whole_is_none(folder):
    folder.save(2, 4)
    for path in (folder.path / "checksums").iterdir():
        path.unlink()
    assert folder.restore() is None
    assert len(folder.said) == 2
    with folder.open() as checkpoints:  # the run starts from nothing
        checkpoints.restore(tree(0))
        checkpoints.save(1, tree(1))
    assert bits(folder.restore()) == bits(tree(1))


def test_a_half_written_folder_is_no_checkpoint(folder):
    folder.save(2, 4)
    shutil.copytree(folder.path / "steps" / "4", folder.path / "steps" / "6.orbax-checkpoint-tmp")
    assert bits(folder.restore()) == bits(tree(4))
    folder.save(6)
    assert folder.steps() == [4, 6]
    assert bits(folder.restore()) == bits(tree(6))


def place(value, devices):
    """Arrays split over so many devices where they can be, whole on each otherwise."""
    over = jax.make_mesh(
        (devices,), ("fsdp",), (jax.sharding.AxisType.Auto,), devices=jax.devices()[:devices]
    )

    def sharding(leaf):
        split = leaf.ndim > 0 and leaf.shape[0] % devices == 0
        return NamedSharding(over, PartitionSpec("fsdp") if split else PartitionSpec())

    return jax.tree.map(lambda leaf: jax.device_put(leaf, sharding(leaf)), value)


def wide(step):
    return {**tree(step), "wide": jnp.arange(16.0).reshape(8, 2) * step}


@pytest.mark.parametrize(("saved_on", "restored_on"), [(4, 1), (4, 2), (4, 8), (1, 8)])
@pytest.mark.parametrize("shapes_only", [False, True])
def test_a_checkpoint_moves_between_meshes(folder, saved_on, restored_on, shapes_only):
    example = place(wide(0), restored_on)
    if shapes_only:
        example = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), example
        )
    with folder.open() as checkpoints:
        checkpoints.save(5, place(wide(5), saved_on))
        found = checkpoints.restore(example)
        plain = checkpoints.restore()
    assert bits(found) == bits(wide(5))
    for leaf, wanted in zip(jax.tree.leaves(found), jax.tree.leaves(example), strict=True):
        assert leaf.sharding.is_equivalent_to(wanted.sharding, leaf.ndim)
    assert {type(leaf) for leaf in jax.tree.leaves(plain)} == {np.ndarray}
    np.testing.assert_array_equal(plain["wide"], wide(5)["wide"])


def test_the_position_in_the_data_belongs_to_the_checkpoint(folder):
    positions = {2: {"worker": [1, 2], "seed": 7}, 4: None}
    with folder.open() as checkpoints:
        for step, position in positions.items():
            checkpoints.save(step, tree(step), position=position)
        assert checkpoints.restore(tree(0)) is not None
        assert checkpoints.last_position is None
        assert {step: checkpoints.position(step) for step in positions} == positions
    flipped(folder)
    with folder.open() as checkpoints:
        checkpoints.restore(tree(0))
        assert checkpoints.last_position == positions[2]


def test_what_happens_to_the_arrays_after_save_does_not_matter(folder):
    """The next step donates them while they are written."""
    overwrite = jax.jit(lambda x: x * 0 - 1, donate_argnums=0)
    with folder.open() as checkpoints:
        for step in range(1, 4):
            large = {
                "large": jax.device_put(jnp.full((1000, 1000), step, jnp.float32), jax.devices()[0])
            }
            checkpoints.save(step, large)
            large["large"] = overwrite(large["large"]).block_until_ready()
            found = checkpoints.restore()["large"]
            assert (found == step).all()
            assert (large["large"] == -1).all()


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


def test_checkpoints_of_an_earlier_version_are_named(folder):
    folder.save(2)
    (folder.path / "steps" / "2" / "state").rename(folder.path / "steps" / "2" / "default")
    with pytest.raises(
        KdError, match=r"written by an earlier version of kd.*; choose another --workdir"
    ):
        folder.restore()


def test_several_processes_save_and_restore_together(folder):
    """Each its own shards; a damaged one is passed over by all; alone and together they read the
    same.
    """
    for said in ("None", "2", "damaged 2"):
        ended = processes.together("checkpoints", folder.path, count=2, devices=2)
        assert [code for code, _, _ in ended] == [0, 0], ended
        assert [out.splitlines()[-1] for _, out, _ in ended] == [
            f"restored {said.split()[-1]}"
        ] * 2, ended
        assert [("damaged" in out) for _, out, _ in ended] == [
            said.startswith("damaged"),
            False,
        ]  # process 0 says it
        if said == "2":
            flipped(folder)
    with folder.open() as checkpoints:
        plain = checkpoints.restore()
        assert checkpoints.last_position == {"next": 4}
    np.testing.assert_array_equal(plain["wide"], np.arange(8.0) * 4)


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
