"""Checkpoints: what was saved comes back bit for bit, and a damaged one costs one checkpoint, never
the run.
"""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import processes
import runs
from checkpoints import Folder, bits, tree
from kd.errors import KdError


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
        restored = checkpoints.restore(example)
        plain = checkpoints.restore()
    assert bits(restored) == bits(wide(5))
    for leaf, wanted in zip(jax.tree.leaves(restored), jax.tree.leaves(example), strict=True):
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
            restored = checkpoints.restore()["large"]
            assert (restored == step).all()
            assert (large["large"] == -1).all()


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
