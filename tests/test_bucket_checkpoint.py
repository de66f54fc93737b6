"""Checkpoints in a bucket: what was saved comes back bit for bit on any devices, and a damaged one
costs one checkpoint, never the run.
"""

import contextlib
import json
import pathlib
import tempfile

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import stores
from checkpoints import Folder as OnDisk
from checkpoints import bits, tree
from kd.errors import KdError
from kd.training import bucket_checkpoint, chunks
from kd.training.bucket_checkpoint import BucketCheckpoints, checkpoints_in
from kd.training.checkpoint import Checkpoints

BOTH = pytest.mark.parametrize("scheme", stores.SCHEMES)


class Folder(OnDisk):
    """Checkpoints in a bucket, with a position each."""

    opened = staticmethod(checkpoints_in)

    def __init__(self, scheme):
        super().__init__(stores.fresh(scheme) / "checkpoints")

    def save(self, *steps):
        with self.open() as checkpoints:
            for step in steps:
                checkpoints.save(step, tree(step), {"at": step})
        return self

    def restore(self):
        with self.open() as checkpoints:
            state = checkpoints.restore(tree(0))
            assert (checkpoints.last_position or {}).get("at") == (state and int(state["step"]))
            return state

    def steps(self):
        return sorted(int(path.stem) for path in (self.path / "checksums").glob("*.json"))

    def files(self, step):
        return sorted((self.path / "steps" / str(step)).rglob("*"))


@BOTH
def test_round_trip_is_bitwise(scheme):
    folder = Folder(scheme)
    with folder.open(read_only=True) as checkpoints:
        assert checkpoints.restore() is None
    assert not folder.path.exists()
    folder.save(3)
    assert bits(folder.restore()) == bits(tree(3))
    before = sorted(folder.path.rglob("*"))
    folder.save(3)  # it is there
    assert sorted(folder.path.rglob("*")) == before
    assert folder.said == []


def test_without_an_example_it_is_what_a_disk_gives(tmp_path):
    """So that whoever reads a run need not know where it lies."""
    folder = Folder("gs").save(3)
    disk = Checkpoints(tmp_path / "checkpoints")
    disk.save(3, tree(3))
    disk.close()
    with folder.open(read_only=True) as checkpoints:
        there = checkpoints.restore()
    here = Checkpoints(tmp_path / "checkpoints", read_only=True).restore()
    full = {name: value for name, value in here.items() if jax.tree.leaves(value)}
    pairs = zip(
        jax.tree_util.tree_leaves_with_path(there),
        jax.tree_util.tree_leaves_with_path(full),
        strict=True,
    )
    for (path, mine), (other_path, other) in pairs:
        assert jax.tree_util.keystr(path) == jax.tree_util.keystr(other_path)
        assert (mine.dtype, mine.tobytes()) == (other.dtype, np.asarray(other).tobytes())


@BOTH
def test_the_two_newest_are_kept_and_nothing_else(scheme):
    folder = Folder(scheme).save(2)
    (folder.path / "steps" / "9" / "broken-off" / "x" / "0").write_text("", "utf-8")
    folder.save(4, 6)
    assert folder.steps() == [4, 6]
    assert {path.name for path in (folder.path / "steps").iterdir()} == {"4", "6"}
    assert bits(folder.restore()) == bits(tree(6))


def truncated(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def flipped(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def missing(path):
    path.unlink()


@pytest.mark.parametrize("damage", [truncated, flipped, missing])
@BOTH
def test_each_object_of_a_checkpoint_is_checked(scheme, damage):
    """A damaged one is named, the one before is taken, and the damaged one is kept."""
    folder = Folder(scheme).save(2, 4)
    every = [folder.path / "checksums" / "4.json", *folder.files(4)]
    for path in every if (scheme, damage) == ("gs", flipped) else every[::4]:
        if path.suffix == ".json" and path.parent.name == "checksums" and damage is missing:
            continue  # without its marker it was never saved: below
        content = path.read_bytes()
        damage(path)
        folder.said.clear()
        assert bits(folder.restore()) == bits(tree(2)), path
        assert len(folder.said) == 1
        assert "the checkpoint of step 4 in" in folder.said[0]
        assert "is damaged" in folder.said[0]
        path.write_bytes(content)
    assert bits(folder.restore()) == bits(tree(4))
    damage(folder.files(4)[0])
    there = {path: path.read_bytes() for path in folder.files(4)}
    with folder.open() as checkpoints:
        checkpoints.restore(tree(0))
        checkpoints.save(4, tree(4))
        checkpoints.save(5, tree(5))
        checkpoints.save(6, tree(6))
    assert folder.steps() == [5, 6]
    assert {path: path.read_bytes() for path in there} == there
    assert [path.name for path in (folder.path / "set-aside").iterdir()] == ["4.1.json"]


@BOTH
def test_without_its_marker_it_was_never_saved(scheme):
    folder = Folder(scheme).save(2, 4)
    (folder.path / "checksums" / "4.json").unlink()
    assert bits(folder.restore()) == bits(tree(2))
    assert folder.said == []
    folder.save(4)
    assert bits(folder.restore()) == bits(tree(4))


def sharded(spec, shape=(8, 6)):
    devices = np.array(jax.devices()[:8]).reshape(4, 2)
    mesh = jax.sharding.Mesh(devices, ("data", "fsdp"))
    values = jnp.arange(np.prod(shape, dtype=int), dtype=jnp.float32).reshape(shape)
    return jax.device_put(values, NamedSharding(mesh, PartitionSpec(*spec)))


SPECS = [(), ("data",), (None, "fsdp"), ("data", "fsdp"), (("data", "fsdp"),)]


@pytest.mark.parametrize("saved", SPECS)
@pytest.mark.parametrize("largest", [1 << 26, 16])
def test_any_layout_is_read_in_any_other(saved, largest, monkeypatch):
    monkeypatch.setattr(chunks, "_LARGEST", largest)  # pieces of part of a shard
    folder = Folder("gs")
    with folder.open() as checkpoints:
        checkpoints.save(1, {"x": sharded(saved), "none": jnp.zeros((0, 3)), "one": jnp.int8(7)})
    for spec in SPECS:
        like = {"x": sharded(spec) * 0, "none": jnp.ones((0, 3)), "one": jnp.int8(0)}
        with folder.open() as checkpoints:
            state = checkpoints.restore(like)
        assert state["x"].sharding == like["x"].sharding
        assert np.array_equal(state["x"], sharded(()))
        assert (state["none"].shape, int(state["one"])) == ((0, 3), 7)


@hypothesis.settings(max_examples=15)
@hypothesis.given(
    st.lists(st.integers(0, 7), max_size=3),
    st.sampled_from([(), ("fsdp",), (None, "fsdp")]),
    st.integers(1, 200),
)
def test_any_cut_has_the_same_bytes_and_no_piece_is_too_large(lengths, spec, largest):
    spec = spec if len(lengths) >= len(spec) else ()
    split = [n * 2 if axis else n for n, axis in zip(lengths, (*spec, *[None] * 3), strict=False)]
    x = sharded(spec, tuple(split))
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(chunks, "_LARGEST", largest)
        form = chunks.form_of((jax.tree_util.DictKey("x"),), x)
        pieces = chunks.owned(form, x)
        pathlib.Path(folder, form.name).mkdir(exist_ok=True)
        sums = chunks.written(pathlib.Path(folder), pieces)
        patch.undo()  # a reader takes them as they were cut
        reader = chunks.Reader(pathlib.Path(folder), sums)
        [whole], [placed] = reader.arrays([form], [None]), reader.arrays([form], [x * 0])
    assert all(piece.nbytes <= max(largest, 4) for piece in pieces.values())
    assert sum(piece.size for piece in pieces.values()) == x.size
    assert np.array_equal(whole, x)
    assert np.array_equal(placed, x)


def test_each_piece_is_read_once():
    folder = Folder("gs")
    with folder.open() as checkpoints:
        checkpoints.save(1, {"x": sharded(("data",))})
    pieces = [path for path in folder.files(1) if path.name != "index.json"]
    assert len(pieces) == 4
    read = []
    with stores.refusing("gs", lambda request: read.append(request.place)):
        for spec in ((), ("data", "fsdp")):
            read.clear()
            with folder.open() as checkpoints:
                checkpoints.restore({"x": sharded(spec)})
            assert [sum(path.key in place for place in read) for path in pieces] == [1] * 4


def test_other_arrays_than_the_run_has_are_refused():
    folder = Folder("gs").save(2)
    for wrong in ({**tree(0), "more": jnp.zeros(2)}, {**tree(0), "step": jnp.float32(0)}):
        with folder.open() as checkpoints, pytest.raises(KdError, match="holds other arrays"):
            checkpoints.restore(wrong)


@BOTH
def test_a_bucket_that_fails_costs_this_checkpoint_alone(scheme, monkeypatch):
    stores.patient(monkeypatch, 1.0)
    folder = Folder(scheme).save(2)
    last = r"step 4 in .*: it answers 503, .*; the one of step 2 stays; start again"
    with contextlib.suppress(KdError), folder.open() as checkpoints:
        checkpoints.restore(tree(0))
        with stores.refusing(
            scheme, lambda r: 503 if "/steps/" in _named(r) and r.writes else None
        ):
            checkpoints.save(4, tree(4))
            with pytest.raises(KdError, match=last):
                checkpoints.wait()
    assert bits(folder.restore()) == bits(tree(2))
    folder.save(4)
    assert bits(folder.restore()) == bits(tree(4))


def _no_steps(request):
    """Nothing can be written into the folder of a step."""
    named = request.place + request.query.get("name", "")
    return 503 if request.writes and "/steps/" in named else None


def test_the_marker_comes_last():
    """Whatever is broken off before it leaves the checkpoint before."""
    folder, written = Folder("gs").save(2), []

    def note(request):
        if request.writes and request.method == "POST":
            written.append(request.query["name"].removeprefix(f"{folder.path.key}/"))

    with stores.refusing("gs", note):
        folder.save(4)
    assert written[-1] == "checksums/4.json"
    assert len(written) == len(folder.files(4)) + 1
    assert isinstance(checkpoints_in(folder.path), BucketCheckpoints)
    marker = json.loads((folder.path / "checksums" / "4.json").read_text("utf-8"))
    assert len(marker["sums"]) == len(folder.files(4))


def test_a_run_that_was_copied_is_read_as_it_is(tmp_path):
    """From a disk into a bucket and back, with whatever copies folders."""
    disk, bucket = Checkpoints(tmp_path / "checkpoints"), Folder("gs").save(2)
    disk.save(2, tree(2))
    disk.close()
    there = stores.fresh("gs") / "checkpoints"
    for source, target in ((tmp_path / "checkpoints", there), (bucket.path, tmp_path / "copy")):
        for path in sorted(source.rglob("*")):
            if path.is_file():
                copy = target / path.relative_to(source)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(path.read_bytes())
    for folder in (there, tmp_path / "copy"):
        kept = checkpoints_in(folder, read_only=True)
        assert kept.restore()["params"]["kernel"].tobytes() == tree(2)["params"]["kernel"].tobytes()
        kept.close()
        with pytest.raises(KdError, match="it can be read, and goes on where it was"):
            checkpoints_in(folder)


def test_process_0_says_where_checkpoints_lie(monkeypatch):
    """It may make the folder while another process looks."""
    folder = stores.fresh("gs") / "checkpoints"
    (folder / "half").write_text("made", "utf-8")
    monkeypatch.setattr(bucket_checkpoint.group, "first_does", lambda *_: (True, True))
    assert isinstance(checkpoints_in(folder), BucketCheckpoints)
