"""Laws of streams: the batches of an in-memory run, whatever the processes; resumes exactly; reads
nothing in vain.
"""

import itertools
import json
import threading
import time

import hypothesis
import hypothesis.strategies as st
import jax.numpy as jnp
import numpy as np
import pytest

import runs
from kd import data as kd_data
from kd.data.described import described
from kd.data.held import as_stream
from kd.data.pipeline import batches, in_order
from kd.errors import KdError
from streams import DATA, PIXELS, Counted, counted, same, taken

# --- the same batches as in memory ---


@pytest.mark.parametrize("seeds", [3, (3,), (3, 0, 3)])
@pytest.mark.parametrize("threads", [0, 3])
def test_a_stream_gives_the_batches_of_the_data_in_memory(seeds, threads):
    table = kd_data.to_device(DATA)
    # three steps an epoch
    streamed = taken(batches(as_stream(DATA), seeds, 12, start=1, threads=threads), 7)
    for step, batch in enumerate(streamed, start=1):
        each = [kd_data.rows(seed, step, 40, 12) for seed in np.atleast_1d(seeds).tolist()]
        want = kd_data.gather(
            table, jnp.asarray(each[0] if isinstance(seeds, int) else np.stack(each))
        )
        assert batch["inputs"].dtype == np.uint8
        assert np.array_equal(
            batch["inputs"].astype(np.float32) * np.float32(1 / 255), want["inputs"]
        )
        for key in ("labels", "index", "weight"):
            assert np.array_equal(batch[key], want[key])
            assert batch[key].dtype == want[key].dtype


@pytest.mark.parametrize(
    "data",
    [
        kd_data.arrays(np.arange(40.0).reshape(10, 4), np.arange(10) % 3, scale=0.5),
        kd_data.arrays(np.arange(10, dtype=np.int64), num_classes=3),
        kd_data.arrays(
            np.arange(60.0).reshape(30, 2), np.arange(10) % 3, starts=np.arange(10) * 2, window=5
        ),
    ],
)
def test_any_shape_and_type_is_kept(data):
    stream, rows = as_stream(data), jnp.asarray(kd_data.rows(0, 0, 10, 4))
    (batch,) = taken(batches(stream, 0, 4, stop=1), 2)
    want = kd_data.gather(kd_data.to_device(data), rows)
    assert batch["inputs"].dtype == data.inputs.dtype == stream.dtype
    assert np.array_equal(
        batch["inputs"].astype(np.float32) * np.float32(data.scale), want["inputs"]
    )
    assert ("labels" in batch) == stream.labelled == ("labels" in want)
    assert stream.fingerprint == data.fingerprint
    assert stream.first.shape == data.first.shape
    assert stream.first.dtype == data.first.dtype


@hypothesis.given(
    st.integers(1, 12), st.integers(0, 6), st.sampled_from([7, (1, 2)]), st.booleans()
)
@hypothesis.settings(max_examples=12)
def test_the_shares_of_all_processes_are_the_batch_and_each_reads_its_own_alone(
    processes, start, seeds, augmented
):
    view = {"size": 4, "crop": "random", "flip": True} if augmented else {}
    cuts = np.linspace(0, 12, processes + 1).astype(int)
    (whole,) = taken(batches(counted(**view), seeds, 12, start=start, stop=start + 1, threads=0), 1)
    parts = []
    for a, b in itertools.pairwise(cuts):
        stream = counted(Counted(), record_shape=(6, 5, 3), **view)
        (part,) = taken(
            batches(stream, seeds, 12, slice(int(a), int(b)), start, stop=start + 1, threads=0), 1
        )
        assert sorted(stream.source.reads) == sorted(part["index"].reshape(-1).tolist())
        parts.append(part)
    axis = 0 if isinstance(seeds, int) else 1
    assert same([whole], [{key: np.concatenate([p[key] for p in parts], axis) for key in whole}])


@pytest.mark.parametrize(
    "share", [slice(0, 0), slice(4, 13), slice(-2, 12), slice(0, 12, 2), slice(5, 3)]
)
def test_a_share_outside_the_batch_is_refused(share):
    with pytest.raises(KdError, match="part of the 12 examples"):
        batches(counted(), 0, 12, share)


def test_batches_that_do_not_fit_are_refused():
    with pytest.raises(KdError, match="batch_size must lie between 1 and the 40"):
        batches(counted(), 0, 41)
    with pytest.raises(KdError, match="1 example or more"):
        in_order(counted(), 0)


def test_the_end_is_the_end():
    with batches(counted(), 0, 12, stop=2) as iterator:
        assert len(list(iterator)) == 2
        assert list(iterator) == []


# --- crops and flips ---


VIEW = {"size": 4, "crop": "random", "flip": True}


def test_an_example_looks_the_same_wherever_it_stands_in_the_batch():
    stream = counted(**VIEW)
    (batch,) = taken(batches(stream, 5, 40, stop=1), 1)
    (members,) = taken(batches(stream, (9, 5), 40, stop=1), 1)
    assert np.array_equal(batch["inputs"], members["inputs"][1])
    here, there = (
        batch["inputs"][np.argsort(batch["index"])],
        members["inputs"][0][np.argsort(members["index"][0])],
    )
    assert (here != there).any(axis=(1, 2, 3)).mean() > 0.8  # another seed, other crops


def test_every_step_has_crops_of_its_own_and_evaluation_has_none():
    stream = counted(**VIEW)
    seen = [b["inputs"][np.argsort(b["index"])] for b in taken(batches(stream, 0, 40, stop=3), 3)]
    assert not np.array_equal(seen[0], seen[1])
    assert not np.array_equal(seen[1], seen[2])
    (still,) = taken(in_order(stream, 40), 2)
    (plain,) = taken(in_order(counted(size=4), 40), 2)
    assert same([still], [plain])
    middle = kd_data.gather(kd_data.to_device(DATA), jnp.arange(3))["inputs"]
    (first,) = taken(in_order(as_stream(DATA), 3), 1)
    assert np.array_equal(first["inputs"] * np.float32(1 / 255), middle)


def test_no_two_examples_share_a_crop():
    class Same(Counted):
        def __getitem__(self, index):
            return {"image": PIXELS[0], "label": 0}

    (batch,) = taken(batches(counted(Same(), **VIEW), 0, 40, stop=1), 1)
    # a few boxes of so small an image are equal
    assert len(np.unique(batch["inputs"].reshape(40, -1), axis=0)) > 30


def test_images_of_several_sizes_need_one_to_be_brought_to():
    several = Counted(sizes=((6, 5), (9, 30), (40, 3)))
    (batch,) = taken(batches(counted(several, size=4), 0, 40, stop=1), 1)
    assert batch["inputs"].shape == (40, 4, 4, 3)
    with pytest.raises(KdError, match=r"image \d+ is uint8\[.*set data.image_size"):
        taken(batches(counted(several), 0, 40, stop=1), 1)


# --- in order ---


@hypothesis.given(st.integers(1, 60), st.sampled_from([0, 2]))
def test_in_order_gives_every_example_once_and_fills_up_with_weight_0(batch_size, threads):
    stream = counted(Counted(), record_shape=(6, 5, 3))
    batches_taken = taken(in_order(stream, batch_size, threads=threads), 100)
    flat = {key: np.concatenate([b[key] for b in batches_taken]) for key in batches_taken[0]}
    assert all(b["inputs"].shape == (batch_size, 6, 5, 3) for b in batches_taken)
    assert flat["index"][:40].tolist() == list(range(40))
    assert flat["weight"].tolist() == [1.0] * 40 + [0.0] * (len(batches_taken) * batch_size - 40)
    assert not flat["inputs"][40:].any()
    assert not flat["index"][40:].any()
    assert flat["labels"][:40].tolist() == stream.labels.tolist()
    assert sorted(stream.source.reads[:40]) == list(range(40))


def test_shares_of_an_evaluation_make_the_whole():
    whole = taken(in_order(counted(), 12), 9)
    parts = [taken(in_order(counted(), 12, share), 9) for share in (slice(0, 5), slice(5, 12))]
    joined = [
        {key: np.concatenate([a[key], b[key]]) for key in a} for a, b in zip(*parts, strict=True)
    ]
    assert same(whole, joined)


# --- resume ---


@pytest.mark.parametrize(
    ("stopped_at", "seeds", "threads"), [(0, 3, 0), (1, (1, 2), 3), (4, 3, 3), (9, (1, 2), 0)]
)
def test_resumed_is_uninterrupted_is_started_there(stopped_at, seeds, threads):
    stream = counted(**VIEW)
    whole = taken(batches(stream, seeds, 4, threads=threads), 10)
    with batches(stream, seeds, 4, threads=threads) as first:
        before = list(itertools.islice(first, stopped_at))
        state = json.loads(json.dumps(first.get_state()))
    with batches(stream, seeds, 4, slice(0, 4), 77, threads=2) as second:
        next(second)  # somewhere else, and reading ahead
        second.set_state(state)
        assert second.get_state() == state
        after = list(itertools.islice(second, 10 - stopped_at))
    assert same(whole, before + after)
    assert same(
        whole[stopped_at:], taken(batches(stream, seeds, 4, start=stopped_at), 10 - stopped_at)
    )


def test_a_state_fits_another_number_of_processes():
    stream = counted()
    with batches(stream, 0, 8, slice(0, 4)) as half:
        next(half)
        state = half.get_state()
    with batches(stream, 0, 8) as whole:
        whole.set_state(state)
        assert next(whole)["index"].tolist() == kd_data.rows(0, 1, 40, 8).tolist()


def test_a_closed_iterator_goes_on_from_a_state():
    iterator = batches(counted(), 0, 8)
    first = taken(iterator, 1)
    assert list(iterator) == []
    iterator.set_state({**iterator.get_state(), "grain": {"next_index": 0}})
    assert same(first, taken(iterator, 1))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda: batches(counted(size=4), 0, 8), "another data set"),
        (lambda: batches(counted().take("all[:39]"), 0, 8), "another data set"),
        (lambda: batches(counted(), 1, 8), "other seeds|another seeds"),
        (lambda: batches(counted(), (0, 0), 8), "seeds"),
        (lambda: batches(counted(), 0, 9), "another batch size"),
        (lambda: in_order(counted(), 8), "seeds"),
    ],
)
def test_a_state_of_something_else_is_refused_in_one_line(other, message):
    with batches(counted(), 0, 8) as mine, other() as theirs:
        with pytest.raises(KdError, match=message) as caught:
            mine.set_state(theirs.get_state())
        assert "\n" not in str(caught.value)
        next(mine)  # and nothing has changed


@pytest.mark.parametrize("state", [{}, {"grain": {}}, {"grain": 3}, {"grain": {"next_index": "x"}}])
def test_what_is_no_state_is_refused(state):
    with batches(counted(), 0, 8) as iterator, pytest.raises(KdError, match="cannot be read"):
        iterator.set_state(state)


@pytest.mark.parametrize("step", [-1, 2**31])
def test_a_position_outside_is_refused(step):
    with batches(counted(), 0, 8) as iterator, pytest.raises(KdError, match="lies outside"):
        iterator.set_state({**iterator.get_state(), "grain": {"next_index": step}})


# --- threads ---


def prefetching():
    return [thread for thread in threading.enumerate() if thread.name.startswith("grain-prefetch")]


@pytest.mark.parametrize("how", ["closed", "deleted", "failed"])
def test_ending_an_iterator_ends_its_threads(how):
    iterator = batches(counted(Counted(bad=(3,) if how == "failed" else ())), 0, 8, threads=3)
    if how == "failed":
        with pytest.raises(KdError):
            list(iterator)
    else:
        next(iterator)
        assert prefetching()
    if how == "closed":
        iterator.close()
        iterator.close()
    del iterator
    deadline = time.monotonic() + 20
    while prefetching() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not prefetching()


def test_a_batch_under_way_is_given_up(monkeypatch):
    class Slow(Counted):
        def __getitem__(self, index):
            time.sleep(0.01)
            return super().__getitem__(index)

    monkeypatch.setattr("kd.data.pipeline._BLOCK", 1)  # one example at a time
    stream = counted(Slow(), record_shape=(6, 5, 3))
    iterator = batches(stream, 0, 40, threads=2)
    next(iterator)
    iterator.close()
    at_once = len(stream.source.reads)
    while prefetching():
        time.sleep(0.01)
    assert len(stream.source.reads) - at_once <= 4


ENDINGS = """
import sys, time
import numpy as np
from kd.data.pipeline import batches
from kd.data.stream import Stream

class Slow:
    def __len__(self):
        return 64
    def __getitem__(self, index):
        time.sleep(0.002)
        return {"image": np.zeros((2, 2, 1), np.uint8), "label": 0}

iterator = batches(Stream(Slow(), 1, "slow"), 0, 16, threads=2)
next(iterator)
if "error" in sys.argv:
    raise SystemExit(3)
if "close" in sys.argv:
    iterator.close()
print("done")
"""


@pytest.mark.parametrize("how", ["close", "leave", "error"])
def test_a_process_ends_with_an_iterator_open_and_nothing_is_said(how):
    start = time.monotonic()
    done = runs.python("-W", "error", "-c", ENDINGS, how)
    assert done.returncode == (3 if how == "error" else 0)
    assert done.stdout == ("" if how == "error" else "done\n")
    assert done.stderr == ""
    assert time.monotonic() - start < 60


def test_memory_limits_what_is_read_ahead():
    from kd.data.pipeline import _read_options

    small, large = described(10, (28, 28, 1), 10), described(10, (1024, 1024, 3), 10)
    assert _read_options(small, 8, 4) == {"num_threads": 4, "prefetch_buffer_size": 8}
    assert _read_options(large, 256, 16) == {
        "num_threads": 2,
        "prefetch_buffer_size": 2,
    }  # 768 MiB a batch, 2 GiB
    assert _read_options(large, 4096, 16) == {"num_threads": 1, "prefetch_buffer_size": 1}
    assert _read_options(small, 8, 0)["num_threads"] == 0
