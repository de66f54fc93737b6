"""Laws of files with arrays: what the safetensors package writes is read bit for bit, and what is
damaged is one line.
"""

import json

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from damage import damaged
from kd.errors import KdError
from kd.models.weights import files, tensors

TYPES = [dtype for dtype in tensors.TYPES.values() if dtype != np.complex64]


def drawn(shape, dtype, seed=0):
    """Any bits, but those of truth values."""
    random = np.random.default_rng(seed)
    if dtype == np.bool_:
        return np.asarray(random.random(shape) < 0.5)
    size = int(np.prod(shape)) * dtype.itemsize
    return np.frombuffer(random.bytes(size), dtype).reshape(shape)


def same(arrays, other):
    assert arrays.keys() == other.keys()
    for name, array in arrays.items():
        assert (array.dtype, array.shape) == (other[name].dtype, other[name].shape)
        assert array.tobytes() == other[name].tobytes()


ARRAYS = st.dictionaries(
    st.text("abc._/é", min_size=1, max_size=6).filter(lambda n: ".." not in n and n[0] != "/"),
    st.tuples(st.lists(st.integers(0, 3), max_size=4).map(tuple), st.sampled_from(TYPES)),
    max_size=5,
)


@given(ARRAYS)
def test_what_the_package_writes_is_read_bit_for_bit(forms):
    told = {name: drawn(*form) for name, form in forms.items()}
    same(tensors.arrays(safetensors.numpy.save(told, {"format": "pt"})), told)


def test_a_file_is_read_where_it_lies(tmp_path):
    told = {"a": drawn((3, 2), np.dtype(np.float32)), "b": drawn((), np.dtype(jnp.bfloat16))}
    (tmp_path / "x.safetensors").write_bytes(safetensors.numpy.save(told))
    read = tensors.stored(tmp_path / "x.safetensors")
    same(read, told)
    assert isinstance(read["a"].base, np.memmap)


def packed(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def entry(begin=0, end=8, dtype="F32", shape=(2,)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


TWICE = b'{"a": %s, "a": %s}' % ((json.dumps(entry()).encode(),) * 2)
WHOLE = packed({"a": entry()}, bytes(8))
BAD = {
    "empty": (b"", "too few"),
    "a word": (b"no tensors at all, but text", "declares a header of"),
    "cut in the header": (WHOLE[:20], "declares a header of"),
    "cut in the numbers": (WHOLE[:-1], "holds .* bytes and declares"),
    "longer than it says": (WHOLE + b"x", "holds .* bytes and declares"),
    "an absurd header": (packed({"a": entry()}, bytes(8), 2**63), "declares a header of 9,223"),
    "no JSON": (packed(b"{nothing}"), "cannot read"),
    "no text": (packed(b"\xff\xfe{}"), "cannot read"),
    "nested": (packed(b"[" * 100_000), "cannot read"),
    "a list": (packed([]), "no object"),
    "a number": (packed({"a": 5}), "does not say where 'a' lies"),
    "no offsets": (packed({"a": {"dtype": "F32", "shape": [2]}}), "does not say where"),
    "offsets that turn back": (packed({"a": entry(8, 0)}, bytes(8)), "does not say where"),
    "offsets below 0": (packed({"a": entry(-8, 0)}, bytes(8)), "does not say where"),
    "offsets beyond the end": (
        packed({"a": entry(0, 80, shape=(20,))}, bytes(8)),
        "bytes and declares .* or more",
    ),
    "overlapping": (packed({"a": entry(), "b": entry(4, 12)}, bytes(12)), "overlap or leave"),
    "the same bytes": (packed({"a": entry(), "b": entry()}, bytes(8)), "overlap or leave"),
    "a gap": (packed({"a": entry(), "b": entry(12, 20)}, bytes(20)), "overlap or leave"),
    "an unknown type": (packed({"a": entry(dtype="F31")}, bytes(8)), "unknown type 'F31'"),
    "no type": (packed({"a": entry(dtype=None)}, bytes(8)), "unknown type None"),
    "another size": (packed({"a": entry(shape=(3,))}, bytes(8)), r"declared as F32\[3\] in 8"),
    "too large": (packed({"a": entry(shape=(2**40, 2**40))}, bytes(8)), "declared as"),
    "below 0": (packed({"a": entry(shape=(-2, -1))}, bytes(8)), r"the shape of 'a' is"),
    "half a row": (packed({"a": entry(shape=(2.0,))}, bytes(8)), "the shape of"),
    "yes": (packed({"a": entry(shape=(True, 2))}, bytes(8)), "the shape of"),
    "nothing, often": (packed({"a": entry(0, 0, shape=(0, 2**70))}), "cannot read"),
    "a name twice": (packed(TWICE, bytes(8)), "names 'a' twice"),
    "a way out": (packed({"../../a": entry()}, bytes(8)), "no safe one"),
    "a root": (packed({"/etc/a": entry()}, bytes(8)), "no safe one"),
    "no name": (packed({"": entry()}, bytes(8)), "no safe one"),
    "a bell": (packed({"a\a": entry()}, bytes(8)), "no safe one"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_one_line(name, tmp_path):
    content, words = BAD[name]
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(KdError, match=words) as error:
        tensors.stored(path)
    assert str(path) in str(error.value)


def test_any_damage_is_read_as_something_whole_or_is_one_line(tmp_path):
    """Damage to the numbers is not noticed: the format has no checksum."""
    told = {"a.weight": drawn((3, 2), np.dtype(np.float32)), "b": drawn((2,), np.dtype(np.int8))}
    path = tmp_path / "x.safetensors"
    refused = 0
    for _, content in damaged(safetensors.numpy.save(told)):
        path.write_bytes(content)
        try:
            read = tensors.stored(path)
        except KdError:
            refused += 1
        else:
            assert sum(array.nbytes for array in read.values()) <= len(content)
    assert refused > 100


def sharded(folder, parts, listed=None):
    """A folder of several files and its index."""
    for file, arrays in parts.items():
        (folder / file).write_bytes(safetensors.numpy.save(arrays))
    places = {name: file for file, arrays in parts.items() for name in arrays}
    told = {"metadata": {}, "weight_map": places if listed is None else listed}
    (folder / files.INDEX).write_text(json.dumps(told))


ONE, TWO = {"a": np.ones(2, np.float32)}, {"b": np.zeros((1, 3), np.float32)}


def test_several_files_are_one(tmp_path):
    sharded(tmp_path, {"1.safetensors": ONE, "2.safetensors": TWO})
    same(files.of_folder(tmp_path), {**ONE, **TWO})


@pytest.mark.parametrize(
    ("listed", "words"),
    [
        ({"a": "../1.safetensors", "b": "2.safetensors"}, "no file of this folder"),
        ({"a": "/1.safetensors"}, "no file of this folder"),
        ({"a": "deeper/1.safetensors"}, "no file of this folder"),
        ({"a": ".."}, "no file of this folder|no safe one"),
        ({"a": 5}, "no file of this folder"),
        ({"a": "1.safetensors", "b": "3.safetensors"}, "3.safetensors"),
        ({"a": "1.safetensors", "b": "1.safetensors"}, "do not agree on 'b'"),
        ({"b": "2.safetensors", "c": "2.safetensors"}, "do not agree on 'c'"),
        ({"../a": "1.safetensors"}, "no safe one"),
        ({}, "lists no arrays"),
        ([], "lists no arrays"),
    ],
)
def test_a_bad_index_is_one_line(listed, words, tmp_path):
    sharded(tmp_path, {"1.safetensors": ONE, "2.safetensors": TWO}, listed)
    with pytest.raises(KdError, match=words):
        files.of_folder(tmp_path)


def test_a_folder_without_arrays_is_one_line(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(KdError, match=r"no model\.safetensors"):
        files.of_folder(tmp_path)


def test_an_npz_is_read_and_what_is_none_is_one_line(tmp_path):
    np.savez(tmp_path / "x.npz", **{"module.a.weight": ONE["a"], "module.b": TWO["b"]})
    same(files.of_file(tmp_path / "x.npz"), {"a.weight": ONE["a"], "b": TWO["b"]})
    np.savez(tmp_path / "objects.npz", a=np.array([{}], object))
    with pytest.raises(KdError, match="Python objects"):
        files.of_file(tmp_path / "objects.npz")
    np.savez(tmp_path / "names.npz", **{"a..b": ONE["a"]})
    with pytest.raises(KdError, match="no safe one"):
        files.of_file(tmp_path / "names.npz")
    (tmp_path / "x.pt").write_bytes(b"pickle")
    with pytest.raises(KdError, match=r"no \.npz and no \.safetensors"):
        files.of_file(tmp_path / "x.pt")
    with pytest.raises(KdError, match="nowhere"):
        files.of_file(tmp_path / "nowhere.npz")
