"""Laws of a fixed set of views, and of a teacher's answers to all of them, which are kept."""

import dataclasses
import functools
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kd
import runs
import tiny
from kd import data as kd_data
from kd.errors import KdError
from kd.placement.mesh import MeshSpec
from kd.system import kept
from kd.teachers import viewed
from kd.teachers.trained import Trained
from kd.training import loop
from kd.training.checkpoint import Checkpoints

VIEWS = kd.fixed_views(kd.jitter(2), kd.flip(), count=3)
TERMS = (
    kd.term("soft_targets", temperature=3.0),
    kd.term("hidden_mse", 0.5, taps={"hidden": "Dense_0"}),
)


def shown(key=0, views=VIEWS, rows=16):
    return views(jax.random.key(key), tiny.batch(rows))


def test_a_view_is_a_function_of_seed_example_and_number_alone():
    """Another key chooses other views, and each is the same wherever the example stands."""
    every = [shown(key) for key in range(12)]
    seen = {}
    for batch in every:
        for index, number, image in zip(
            *map(np.asarray, (batch["index"], batch["view"], batch["inputs"])), strict=True
        ):
            first = seen.setdefault((int(index), int(number)), image)
            np.testing.assert_array_equal(image, first)
    assert {number for _, number in seen} == {0, 1, 2}
    assert len(seen) > 40  # of 48
    turned = jax.tree.map(lambda leaf: leaf[::-1], tiny.batch())
    backwards = VIEWS.shown(turned, jnp.zeros(16, jnp.int32))["inputs"][::-1]
    np.testing.assert_array_equal(
        backwards, VIEWS.shown(tiny.batch(), jnp.zeros(16, jnp.int32))["inputs"]
    )
    other = kd.fixed_views(kd.jitter(2), kd.flip(), count=3, seed=1)
    assert tiny.differ(shown()["inputs"], shown(views=other)["inputs"])
    np.testing.assert_array_equal(shown()["view"], shown(views=other)["view"])


def test_a_view_is_what_its_parts_make_of_an_example():
    """A shift and perhaps a turn: every view is found among all of them."""
    batch = shown(rows=4)
    for image, original in zip(batch["inputs"], tiny.batch(4)["inputs"], strict=True):
        padded = np.pad(original, 2)
        parts = [padded[y : y + 4, x : x + 4] for y in range(5) for x in range(5)]
        possible = [*parts, *(part[:, ::-1] for part in parts)]
        assert any(np.array_equal(image, part) for part in possible)


def test_half_of_the_images_are_turned_round():
    images = jnp.arange(2000 * 6, dtype=jnp.float32).reshape(2000, 2, 3)
    batch = {"inputs": images, "index": jnp.arange(2000)}
    seen = np.asarray(kd.flip()(jax.random.key(0), batch)["inputs"])
    turned = (seen == np.asarray(images)[:, :, ::-1]).all(axis=(1, 2))
    assert ((seen == images).all(axis=(1, 2)) | turned).all()
    assert 0.46 < turned.mean() < 0.54
    with pytest.raises(KdError, match="flip needs images"):
        kd.flip()(jax.random.key(0), {"inputs": images[:, 0], "index": jnp.arange(2000)})


KINDS = ("one", "arithmetic", "per_member", "pairs")


@functools.cache
def live(kind):
    params = tiny.members() if kind != "one" else tiny.take(tiny.members(), 0)
    trained = Trained(tiny.WIDE, params, {}, kind != "one")
    if kind == "pairs":
        return trained.teacher(pairs=(2, 0))
    return trained.teacher("arithmetic" if kind == "one" else kind)


@functools.cache
def table(kind, **options):
    taps = ("Dense_0",) if kind != "arithmetic" else ()
    return kd.precompute(live(kind), tiny.dataset(), taps=taps, views=VIEWS, **options)


def answer(teacher, batch, taps):
    teacher = teacher.tapped(taps)
    apply = teacher.apply if teacher.pairs is None else jax.vmap(teacher.apply, (0, None))
    return apply(teacher.variables, batch)


@pytest.mark.parametrize("kind", KINDS)
def test_a_live_teacher_and_its_table_answer_alike_to_every_view(kind):
    taps = ("Dense_0",) if kind != "arithmetic" else ()
    for key in range(3):
        ours, theirs = (answer(taught, shown(key), taps) for taught in (live(kind), table(kind)))
        assert ours.average == theirs.average
        tiny.close(ours, theirs, rtol=1e-4, atol=1e-5)
    manifest = table(kind).manifest
    assert (manifest.rows, manifest.views, manifest.view) == (64, 3, VIEWS.identity)
    assert manifest.positions == ()


def run(teacher, **options):
    terms = TERMS if "terms" not in options else options.pop("terms")
    usual = {"members": tiny.members_of(terms), "mesh": MeshSpec(devices=1), "view": VIEWS}
    return loop.run(tiny.task(terms=terms, teacher=teacher, **{**usual, **options}))


def test_live_and_kept_teach_alike():
    ends = [run(teacher) for teacher in (live("one"), table("one"))]
    tiny.close(ends[1].params, ends[0].params, rtol=1e-4, atol=1e-5)
    other = run(table("one"), members=tiny.members_of(TERMS, seed=4))
    assert tiny.differ(other.params, ends[1].params)


def test_one_device_is_eight():
    alone, spread = (run(table("one"), mesh=MeshSpec(devices=n)) for n in (1, 8))
    tiny.close(spread.params, alone.params, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("by", ["vmap", "loop"])
def test_members_see_their_own_choice_of_the_same_views(by):
    members = tiny.members_of(TERMS, seed=(3, 5))
    together = run(table("one"), members=members, members_by=by, steps=4)
    for i in range(2):
        alone = run(table("one"), members=members.member(i), steps=4)
        tiny.close(tiny.take(together.params, i), alone.params, rtol=1e-4, atol=1e-5)


def test_a_run_that_was_stopped_ends_with_the_same_bytes(tmp_path):
    ends = []
    for _ in range(2):
        checkpoints = Checkpoints(tmp_path)
        task = tiny.task(
            terms=TERMS,
            members=tiny.members_of(TERMS),
            teacher=table("one"),
            view=VIEWS,
            steps=6,
            mesh=MeshSpec(devices=1),
        )
        ends.append(loop.run(task, cadence=loop.Cadence(2, checkpoint=2), checkpoints=checkpoints))
        checkpoints.close()
        shutil.rmtree(tmp_path / "steps" / "6")
    tiny.close(ends[1], ends[0], rtol=0, atol=0)


def test_float16_takes_half_the_room_and_says_its_error():
    wide, few = table("one"), table("one", kept_as="float16")
    assert few.manifest.bytes * 2 == wide.manifest.bytes
    errors = [
        np.abs(np.asarray(a, np.float32) - b).max()
        for a, b in zip(*(jax.tree.leaves(taught.variables) for taught in (few, wide)), strict=True)
    ]
    assert few.manifest.rounding == pytest.approx(max(errors))
    assert few.manifest.rounding > 0 == wide.manifest.rounding
    assert f"off by {few.manifest.rounding:.2g} at most" in viewed.said(few)
    tiny.close(run(few).params, run(wide).params, rtol=0.02, atol=0.01)
    with pytest.raises(KdError, match=r"answers with 1e\+05, and float16 ends at 6\.55e\+04"):
        viewed.rounded(kd.Outputs(np.float32([[1e5, -np.inf]])), "float16")
    ruled_out, error = viewed.rounded(kd.Outputs(np.float32([[1, -np.inf]])), "float16")
    assert error == 0
    assert np.isneginf(ruled_out.logits[0, 1])


def test_views_fit_the_same_views_alone():
    for view in (None, kd.jitter(2), dataclasses.replace(VIEWS, count=4)):
        with pytest.raises(KdError, match=r"kept for 3 views by jitter 2, flip of seed 0 and view"):
            run(table("one"), view=view)
    with pytest.raises(KdError, match="kept for examples as they are and view"):
        run(kd.precompute(live("one"), tiny.dataset(), taps=("Dense_0",)))
    assert kd.precompute(table("one"), tiny.dataset(), views=VIEWS) is table("one")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: kd.fixed_views(kd.jitter(2), count=0), "data.views must be a whole number of 1"),
        (lambda: kd.fixed_views(kd.jitter(2), count=2.5), "data.views must be a whole number of 1"),
        (lambda: kd.fixed_views(kd.jitter(2), count=2, seed=-1), "seed of views must be"),
        (lambda: kd.fixed_views(kd.jitter(0), count=2), "needs a view to draw"),
        (lambda: kd.fixed_views(kd_data.mixup(), count=2), "is no view of one example at a time"),
    ],
)
def test_what_is_no_set_of_views_is_refused(make, said):
    with pytest.raises(KdError, match=said):
        make()


def test_memory_and_disk_are_looked_at_before_anything_is_answered(monkeypatch, tmp_path):
    many = dataclasses.replace(VIEWS, count=10**9)
    with pytest.raises(KdError, match=r"64 examples in 1,000,000,000 views takes .* are free"):
        kd.precompute(live("one"), tiny.dataset(), views=many)
    monkeypatch.setenv("KD_CACHE_DIR", str(tmp_path))
    usage = shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(viewed.shutil, "disk_usage", lambda _: usage)
    monkeypatch.setattr(viewed, "answers", None)
    with pytest.raises(KdError, match=r"takes 3\.8 kB and 100 B are free .*KD_CACHE_DIR"):
        kd.precompute(live("one"), tiny.dataset(), views=VIEWS, on_disk=True)


def test_a_stream_has_no_fixed_views():
    images = np.zeros((8, 4, 4, 1), np.uint8)
    stream = kd_data.as_stream(kd.arrays(images, np.arange(8) % 5, num_classes=5))
    with pytest.raises(KdError, match="these are streamed"):
        kd.precompute(live("one"), stream, views=VIEWS)


@pytest.fixture
def answered(monkeypatch, tmp_path):
    """A cache of its own, and how often a teacher was asked about the data."""
    monkeypatch.setenv("KD_CACHE_DIR", str(tmp_path))
    asked, ask = [], viewed.answers
    monkeypatch.setattr(viewed, "answers", lambda *a, **k: asked.append(1) or ask(*a, **k))
    return asked


@pytest.mark.parametrize("kept_as", ["float32", "float16"])
def test_answers_to_views_are_kept_on_disk(answered, kept_as):
    options = {"views": VIEWS, "kept_as": kept_as, "on_disk": True}
    first = kd.precompute(live("one"), tiny.dataset(), **options)
    assert len(answered) == 3
    again = kd.precompute(live("one"), tiny.dataset(), **options)
    assert len(answered) == 3
    assert again.manifest == first.manifest
    kd.precompute(
        live("one"), tiny.dataset(), **{**options, "views": dataclasses.replace(VIEWS, seed=1)}
    )
    assert len(answered) == 6
    assert len(list(kept.folder("answers").iterdir())) == 2


KEYS = {"data__jitter_pixels": 1, "data__flip": "true", "data__views": 4}


def test_from_the_command_line_live_and_kept(tmp_path, capsys):
    assert runs.train(tmp_path / "teacher", student__widths=(16,)) == 0
    taught = {"arg": "distilled", "teacher__workdir": tmp_path / "teacher", **KEYS}
    capsys.readouterr()
    assert runs.train(tmp_path / "table", **taught) == 0
    said = capsys.readouterr()
    assert "answers to 4 views by jitter 1, flip of seed 0 are kept: 19.2 kB" in said.out + said.err
    assert runs.train(tmp_path / "live", teacher__precompute="false", **taught) == 0
    kept_run = runs.restored(tmp_path / "table")
    for path, value in runs.restored(tmp_path / "live").items():
        np.testing.assert_allclose(value, kept_run[path], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"data__views": 0}, "config.data.views must be 1 or more, or none, got 0"),
        ({"data__views": -3}, "config.data.views must be 1 or more, or none, got -3"),
        ({"data__stream": "true"}, "config.data.stream reads others in every epoch"),
        ({"data__mixup": "true"}, "config.data.mixup mixes it with others in every step"),
        ({"data__jitter_pixels": 0, "data__flip": "false"}, "config.data.views=4 changes nothing"),
        ({"teacher__source": "table:soft.csv"}, "answers once for each example"),
    ],
)
def test_bad_input_is_one_line(keys, said, tmp_path, capsys):
    assert runs.train(tmp_path / "run", arg="distilled", **{**KEYS, **keys}) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert said in lines[0]
