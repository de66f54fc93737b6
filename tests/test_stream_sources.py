"""What a stream reads: slices, labels, fingerprints, TFDS, JPEGs; and what is refused."""

import io

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from kd import data as kd_data
from kd.data.described import described
from kd.data.held import as_stream
from kd.data.images.tfds import stream_tfds
from kd.data.opening import open_stream
from kd.data.pipeline import batches
from kd.data.stream import Stream
from kd.errors import KdError
from streams import DATA, PIXELS, Counted, counted, same, taken

# --- slices, labels, fingerprints ---


@hypothesis.given(st.integers(0, 39), st.integers(0, 100))
def test_a_slice_is_that_of_the_data_in_memory_and_is_not_read(start, percent):
    split = f"train[{start}:{percent}%]"
    stream = counted(Counted())
    stop = round(40 * percent / 100)
    if start >= stop:
        with pytest.raises(KdError, match="is empty"):
            stream.take(split)
        return
    part = kd_data.take(DATA, split)
    short = stream.take(split)
    assert stream.source.reads == []
    assert len(short) == len(part)
    assert short.labels.tolist() == part.labels.tolist()
    cut = as_stream(DATA).take(split)
    assert np.array_equal(cut.read(range(len(cut)))[0], part.inputs)
    again = short.take("train[:50%]") if len(short) > 1 else short
    assert again.labels.tolist() == short.labels.tolist()[: len(again)]


def test_classes_are_chosen_as_in_memory():
    part, want = counted().of_classes((1, 3)), kd_data.of_classes(DATA, (1, 3))
    assert part.labels.tolist() == want.labels.tolist()
    assert part.num_classes == 4
    with pytest.raises(KdError, match=r"data\.classes must name classes"):
        counted().of_classes((9,))


def test_the_fingerprint_is_of_all_that_decides_what_is_read():
    base = counted()
    others = [
        base.take("all[:20]"),
        base.take("all[20:]"),
        base.take("all[1:]"),
        base.take("all[:20]").take("all[:10]"),
        counted(size=4),
        counted(size=5),
        counted(size=4, crop="random"),
        counted(size=4, flip=True),
        Stream(Counted(), 4, "another"),
    ]
    assert len({base.fingerprint, *(other.fingerprint for other in others)}) == 1 + len(others)
    assert base.take("all[:]").fingerprint == base.fingerprint == counted().fingerprint
    assert base.take("all[:20]").take("all[5:]").fingerprint == base.take("all[5:20]").fingerprint


def test_labels_are_read_without_images_where_the_source_can():
    class Labels(Counted):
        def labels(self, rows):
            return rows % 4

    stream = counted(Labels()).take("all[3:]")
    assert stream.labels.tolist() == (np.arange(3, 40) % 4).tolist()
    assert stream.labels.dtype == np.int32
    assert stream.source.reads == []


def test_several_records_are_asked_for_at_once_where_the_source_can():
    class Several(Counted):
        def __getitems__(self, rows):
            self.blocks = [*getattr(self, "blocks", []), len(rows)]
            return [self[row] for row in rows]

    together = counted(Several())
    assert same(taken(batches(together, 0, 8), 3), taken(batches(counted(), 0, 8), 3))
    assert set(together.source.blocks) == {8}


@pytest.mark.parametrize("classes", [3, 2])
def test_a_label_out_of_range_is_refused(classes):
    stream = Stream(Counted(), classes, "few")
    with pytest.raises(
        KdError, match=rf"label \d of example \d+ is out of range: there are {classes}"
    ):
        taken(batches(stream, 0, 40), 1)
    with pytest.raises(KdError, match=f"label {classes} of example {classes} is out of range"):
        stream.labels  # noqa: B018


@pytest.mark.parametrize("several", [False, True])
def test_an_example_that_cannot_be_read_is_named_in_one_line(several):
    source = Counted(bad=(17,))
    if several:
        type_ = type(
            "Several", (Counted,), {"__getitems__": lambda self, rows: [self[row] for row in rows]}
        )
        source = type_(bad=(17,))
    stream = counted(source).take("all[10:]")
    with (
        batches(stream, 0, 30) as iterator,
        pytest.raises(
            KdError, match="example 7, row 17 of the source: truncated file; prepare"
        ) as caught,
    ):
        next(iterator)
    assert "\n" not in str(caught.value)


def test_what_makes_no_stream_is_refused():
    with pytest.raises(KdError, match="empty"):
        counted(Counted(examples=0))
    with pytest.raises(KdError, match="image_size must be 1 or more"):
        counted(size=0)
    misspelt = counted()
    # past the checks of types, which users do not have
    object.__setattr__(misspelt, "crop", "centre")
    with pytest.raises(KdError, match="'none' or 'random'"):
        misspelt.__post_init__()
    rows = kd_data.arrays(np.zeros((4, 3)), num_classes=2)
    for view in ({"size": 2}, {"crop": "random"}, {"flip": True}):
        with pytest.raises(KdError, match=r"data\."):
            as_stream(rows, **view)


# --- a described stream ---


def test_a_described_stream_has_a_size_and_nothing_to_read():
    stream = described(1000, (224, 224, 3), 10)
    assert len(stream) == 1000
    assert len(stream.take("train[:10%]")) == 100
    assert stream.first.shape == (1, 224, 224, 3)
    assert (stream.num_classes, stream.labelled, stream.dtype) == (10, True, np.uint8)
    assert stream.fingerprint != described(999, (224, 224, 3), 10).fingerprint
    for read in (
        lambda: stream.labels,
        lambda: stream.read([0]),
        lambda: taken(batches(stream, 0, 8), 1),
    ):
        with pytest.raises(KdError, match="only described"):
            read()


# --- TFDS ---


@pytest.fixture(scope="module")
def mnist(mnist_dir):
    return kd_data.load("tfds:mnist", "test[:400]", mnist_dir), open_stream(
        "tfds:mnist", "test[:400]", mnist_dir
    )


def test_tfds_streams_what_it_loads(mnist):
    data, stream = mnist
    assert (len(stream), stream.num_classes, stream.scale) == (400, 10, data.scale)
    assert stream.shape == (28, 28, 1)
    assert np.array_equal(stream.labels, data.labels)
    for step, batch in enumerate(taken(batches(stream, 4, 32), 14)):  # into the second epoch
        rows = kd_data.rows(4, step, 400, 32)
        assert np.array_equal(batch["inputs"], data.inputs[rows])
        assert np.array_equal(batch["labels"], data.labels[rows])


def test_one_data_source_may_be_read_by_many_threads(mnist):
    _, stream = mnist
    assert same(
        taken(batches(stream, 0, 16, threads=8), 20), taken(batches(stream, 0, 16, threads=0), 20)
    )


def test_a_tfds_fingerprint_tells_splits_apart(mnist, mnist_dir):
    prints = {
        stream_tfds("mnist", split, mnist_dir).fingerprint
        for split in ("train", "test", "train[:10]")
    }
    assert len({*prints, mnist[1].fingerprint}) == 4
    assert stream_tfds("mnist", "test[:400]", mnist_dir).fingerprint == mnist[1].fingerprint


@pytest.mark.parametrize(
    ("source", "split", "message"),
    [
        ("tfds:mnist", "tset", "did you mean 'test'"),
        ("tfds:mnisst", "test", "did you mean 'mnist'"),
        ("tfds:mnist", "test[5:5]", "is empty"),
        ("tfds:mnist", "test[", "not of the form"),
        ("digitz", "test", "did you mean 'digits'"),
    ],
)
def test_what_cannot_be_opened_is_refused(source, split, message, mnist_dir):
    with pytest.raises(KdError, match=message):
        open_stream(source, split, mnist_dir)


def test_every_other_source_can_be_streamed(tmp_path):
    np.savez(tmp_path / "a.npz", train_inputs=PIXELS, train_labels=np.arange(40) % 4)
    for name, split, folder in (
        ("digits", "test[:50]", None),
        ("npz:a.npz", "train[:50%]", str(tmp_path)),
    ):
        data, stream = kd_data.load(name, split, folder), open_stream(name, split, folder)
        assert np.array_equal(stream.read(range(len(stream)))[0], data.inputs)
        assert stream.fingerprint == data.fingerprint
    small = open_stream("npz:a.npz", "train", str(tmp_path), size=4, crop="random", flip=True)
    assert small.shape == (4, 4, 3)


def test_jpegs_are_read_and_cropped():
    from PIL import Image

    class Jpegs(Counted):
        def __getitem__(self, index):
            buffer = io.BytesIO()
            Image.fromarray(super().__getitem__(index)["image"]).save(buffer, "JPEG", quality=95)
            with Image.open(buffer) as image:
                return {"image": np.asarray(image), "label": index % 4}

    stream = counted(Jpegs(sizes=((60, 40), (33, 50))), size=16, crop="random", flip=True)
    assert same(
        taken(batches(stream, 0, 8, threads=3), 5), taken(batches(stream, 0, 8, threads=0), 5)
    )
