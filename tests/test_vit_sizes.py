"""The sizes of the Vision Transformer: those of the papers, those of one's own, those refused."""

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kd.errors import KdError
from kd.models import vit
from kd.models.vit import SIZES, Size
from small_vit import KEY, shapes_of, small


def count(classes, size, patch, channels):
    d, m = size.width, size.mlp
    block = 4 * (d * d + d) + (d * m + m) + (m * d + d) + 2 * 2 * d
    return (patch**2 * channels * d + d) + size.depth * block + 2 * d + (d * classes + classes)


def parameters(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    (
        "variant",
        "millions",
    ),  # of the papers: Steiner et al. (2022), Dosovitskiy et al. (2021), Zhai et al. (2022)
    [("Ti/16", 5.7), ("S/16", 22), ("B/16", 86), ("L/16", 307), ("H/14", 632), ("g/14", 1011)],
)
def test_named_sizes_have_as_many_parameters_as_their_papers_say(variant, millions):
    name, _, patch = variant.partition("/")
    number = parameters(shapes_of(vit(1000, variant), 224))
    assert number == count(1000, SIZES[name], int(patch), 3)
    assert number / 1e6 == pytest.approx(millions, rel=0.015)


@settings(max_examples=10)
@given(
    st.integers(1, 3),
    st.integers(2, 5),
    st.integers(1, 3),
    st.integers(1, 40),
    st.integers(1, 5),
    st.integers(1, 4),
)
def test_overrides_have_as_many_parameters_as_the_formula_says(
    heads, quarter, depth, mlp, patch, channels
):
    model = vit(
        7, "g/14", width=4 * quarter * heads, depth=depth, mlp=mlp, heads=heads, patch=patch
    )
    number = parameters(shapes_of(model, 2 * patch, channels))
    assert number == count(7, Size(4 * quarter * heads, depth, mlp, heads), patch, channels)


def test_the_patch_of_a_name_and_the_hidden_layer_of_a_width():
    tree = shapes_of(vit(3, "S/4", width=24, heads=2, depth=2), 8)
    assert tree["patches"]["kernel"].shape == (4 * 4 * 3, 24)
    assert tree["blocks"]["mlp"]["up"]["kernel"].shape == (2, 24, 4 * 24)
    assert shapes_of(vit(3, "g/14", depth=1), 14)["blocks"]["mlp"]["up"]["kernel"].shape == (
        1,
        1408,
        6144,
    )


@pytest.mark.parametrize(
    ("shape", "said"), [((1, 10, 8, 3), "10x8"), ((1, 8, 9, 3), "8x9"), ((2, 3, 3), "3x3")]
)
def test_an_image_that_the_patch_does_not_divide_is_refused(shape, said):
    with pytest.raises(KdError, match=rf"{said} pixels.*4x4"):
        jax.eval_shape(small().init, KEY, jnp.zeros(shape))


def test_inputs_that_are_no_images_are_refused():
    with pytest.raises(KdError, match=r"\[b h w c\], got inputs of shape \(6, 784\)"):
        jax.eval_shape(small().init, KEY, jnp.zeros((6, 784)))


@pytest.mark.parametrize(
    ("variant", "near"),
    [("s/16", "S/16"), ("T/8", "Ti/8"), ("G/14", "g/14"), ("S16", "S/16"), ("S/0", "S/16")],
)
def test_an_unknown_variant_is_refused_with_the_nearest_name(variant, near):
    with pytest.raises(KdError, match=rf"unknown vit variant '{variant}'; .*({near})"):
        vit(10, variant)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"heads": 3}, "3 heads do not divide a vit's width of 16"),
        ({"width": 18}, "multiple of 4"),
        ({"width": 4}, "from 8 on"),
        ({"depth": 0}, "depth of 1 or more, got 0"),
        ({"patch": -1}, "patch of 1 or more, got -1"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\), got 1.0"),
        ({"unroll": 0}, "unroll of 1 or more"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(options, said):
    with pytest.raises(KdError, match=said):
        small(**options)
