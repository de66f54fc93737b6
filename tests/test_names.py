"""Laws of the tables of names: writing is the inverse of reading, whatever the sizes, and a file of
another network is one line that shows both sides.
"""

import flax.linen as nn
import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny
from kd.core.leaves import by_name
from kd.errors import KdError
from kd.models import MODELS, linen
from kd.models.abstract import shapes
from kd.models.weights import FAMILIES, from_file
from kd.models.weights.names import read, written

CIFAR = st.fixed_dictionaries(
    {"depth": st.sampled_from([8, 14]), "width": st.sampled_from([0.25, 0.5])},
    optional={"shortcut": st.sampled_from(["A", "B"]), "stem": st.integers(1, 5)},
)
LARGE = st.fixed_dictionaries(
    {
        "form": st.just("imagenet"),
        "depth": st.sampled_from([18, 50]),
        "width": st.sampled_from([1 / 32, 1 / 16]),
    },
)
VIT = st.fixed_dictionaries(
    {
        "width": st.sampled_from([4, 8]),
        "depth": st.integers(1, 3),
        "heads": st.sampled_from([1, 2]),
        "patch": st.sampled_from([2, 4]),
        "distillation": st.sampled_from(["none", "token", "head"]),
    },
    optional={"mlp": st.integers(1, 9), "qkv_bias": st.booleans()},
)
WRN = st.fixed_dictionaries({"depth": st.sampled_from([10, 16]), "width": st.integers(1, 2)})
NETWORKS = st.one_of(
    st.tuples(st.just("resnet"), CIFAR, st.just(8)),
    st.tuples(st.just("resnet"), LARGE, st.just(32)),
    st.tuples(st.just("token_vit"), VIT, st.just(8)),
    st.tuples(st.just("wrn"), WRN, st.just(8)),
)


def form(name, options, side, classes=3):
    model = MODELS[name](classes, **options)
    return model, shapes(model, jax.ShapeDtypeStruct((1, side, side, 3), np.float32))


def filled(wanted, seed=0):
    random = np.random.default_rng(seed)
    tree = {"params": wanted.params, "extra": wanted.extra}
    drawn = jax.tree.map(lambda leaf: random.normal(size=leaf.shape).astype(np.float32), tree)
    return drawn["params"], drawn["extra"]


@settings(max_examples=10)
@given(NETWORKS)
def test_writing_is_the_inverse_of_reading(network):
    name, options, side = network
    _, wanted = form(name, options, side)
    params, extra = filled(wanted)
    for naming in FAMILIES[name].namings(options):
        theirs = written(params, extra, naming)
        assert len(theirs) == len(jax.tree.leaves((params, extra)))  # no two have one name
        again = read(theirs, wanted, naming, "file")
        tiny.close(again, (params, extra), 0, 0)
        back = written(*again, naming)
        assert list(back) == list(theirs)
        assert all(back[key].tobytes() == theirs[key].tobytes() for key in theirs)


def test_kernels_are_turned_as_pytorch_has_them():
    """``y = x W'`` of a linear layer, and the pixels of a convolution where they are."""
    _, wanted = form("resnet", {"depth": 8}, 8)
    params, extra = filled(wanted)
    theirs = written(params, extra, FAMILIES["resnet"].namings({})[0])
    x = np.random.default_rng(1).normal(size=(4, 64))
    tiny.close(x @ theirs["fc.weight"].T, x @ params["head"]["kernel"])
    kernel = params["stages_0"]["blocks_0"]["conv1"]["kernel"]
    turned = theirs["layer1.0.conv1.weight"]
    assert turned.shape == (16, 16, 3, 3)
    assert turned[5, 3, 1, 2] == kernel[1, 2, 3, 5]


SMALL = {"name": "resnet", "depth": 8, "width": 0.25}


@pytest.fixture
def arrays():
    """A small ResNet as PyTorch has it."""
    _, wanted = form("resnet", {"depth": 8, "width": 0.25}, 8)
    return written(*filled(wanted), FAMILIES["resnet"].namings({})[1])


def loaded(path, arrays, **options):
    np.savez(path, **arrays)
    return from_file(path, lambda classes: MODELS["resnet"](classes, **{"depth": 8, **options}))


def test_a_file_says_how_many_classes_and_which_images(arrays, tmp_path):
    told = loaded(tmp_path / "x.npz", arrays, width=0.25)
    assert told.model.made.options["classes"] == 3
    assert told.inputs == (32, 32, 3)


def test_what_pytorch_counts_and_writes_before_names_is_nothing(arrays, tmp_path):
    plain = loaded(tmp_path / "plain.npz", arrays, width=0.25)
    counted = {**arrays, "bn1.num_batches_tracked": np.array(7)}
    parallel = {f"module.{name}": array for name, array in counted.items()}
    tiny.close(loaded(tmp_path / "x.npz", parallel, width=0.25).params, plain.params, 0, 0)


def test_half_precision_is_read_as_it_is_and_double_is_rounded(arrays, tmp_path):
    for dtype in (np.float16, np.float64):
        other = {name: array.astype(dtype) for name, array in arrays.items()}
        told = loaded(tmp_path / "x.npz", other, width=0.25)
        head = np.asarray(told.params["head"]["kernel"])
        assert head.dtype == np.float32
        assert head.tobytes() == other["linear.weight"].T.astype(np.float32).tobytes()


def without(arrays, name):
    return {key: array for key, array in arrays.items() if key != name}


def test_another_network_is_one_line_that_shows_both_sides(arrays, tmp_path):
    """An array that is missing, one that is too much, one of another shape."""
    cases = {
        "missing": (without(arrays, "bn1.bias"), ["nothing else", r"bn1.bias \[4\]"]),
        "too much": ({**arrays, "bn9.bias": arrays["bn1.bias"]}, [r"holds bn9.bias \[4\]"]),
        "another shape": (
            {**arrays, "bn1.bias": np.zeros(5, np.float32)},
            [r"holds bn1.bias \[5\]", r"has bn1.bias \[4\]"],
        ),
        "another name": (
            {**without(arrays, "bn1.bias"), "norm.bias": arrays["bn1.bias"]},
            [r"holds norm.bias \[4\]", r"has bn1.bias \[4\]"],
        ),
    }
    for name, (told, words) in cases.items():
        for word in words:
            with pytest.raises(KdError, match=word) as error:
                loaded(tmp_path / f"{name}.npz", told, width=0.25)
            assert "another network" in str(error.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: without(a, "linear.weight"), "a resnet has fc.weight or linear.weight"),
        (lambda _: {}, "holds nothing else, and a resnet has"),
        (lambda a: {**a, "linear.weight": np.zeros(3, np.float32)}, r"linear.weight \[3\], where"),
        (lambda a: without(a, "conv1.weight"), "where this one has conv1.weight of 4 axes"),
        (lambda a: {**a, "bn1.bias": np.zeros(4, int)}, "bn1.bias as int64; weights are floating"),
    ],
)
def test_what_cannot_be_weights_is_one_line(change, words, arrays, tmp_path):
    with pytest.raises(KdError, match=words):
        loaded(tmp_path / "x.npz", change(arrays), width=0.25)


def test_a_network_of_another_depth_or_width_or_kind_is_refused(arrays, tmp_path):
    for options in ({"width": 0.5}, {"width": 0.25, "depth": 14}, {"width": 0.25, "shortcut": "B"}):
        with pytest.raises(KdError, match="another network"):
            loaded(tmp_path / "x.npz", arrays, **options)


def test_a_network_without_a_table_is_refused(arrays, tmp_path):
    np.savez(tmp_path / "x.npz", **arrays)
    for make in (MODELS["mlp"], lambda _: linen(nn.Dense(3))):
        with pytest.raises(KdError, match="they are for encoder, resnet, token_vit, wrn"):
            from_file(tmp_path / "x.npz", make)


def test_every_leaf_has_a_name():
    """A leaf that a table forgets is a fault of the table, and not of the file."""
    _, wanted = form("token_vit", {"width": 4, "depth": 1, "heads": 1, "patch": 4}, 8)
    leaves = by_name({"params": {**wanted.params, "extra_norm": {"scale": 0}}})
    [naming] = FAMILIES["token_vit"].namings({})
    with pytest.raises(ValueError, match="extra_norm"):
        [naming.theirs(leaf) for leaf in leaves]
