"""Laws of the optimisers and of max-norm."""

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd.core.optim import Optim, make_optimizer, max_norm
from kd.errors import KdError
from kd.models.vit import vit

kernels = hnp.arrays(np.float32, (5, 3), elements=st.floats(-10, 10, width=32))
PARAMS = {"dense": {"kernel": np.float32([[1, -2], [3, 4], [0.5, 0]]), "bias": np.float32([7, -8])}}
GRADIENTS = jax.tree.map(lambda leaf: 0.1 * leaf - 0.25, PARAMS)
CLIP = jax.jit(max_norm(2.0))


def updates(spec, steps=1, gradients=GRADIENTS):
    """What the optimiser adds to PARAMS at unit rate, in each of `steps` steps."""
    optimizer = make_optimizer(spec)
    state, taken = optimizer.init(PARAMS), []
    for _ in range(steps):
        update, state = optimizer.update(gradients, state, PARAMS)
        taken.append(update)
    return taken


def close(got, wanted):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), got, wanted)


@pytest.mark.parametrize("rate", [0.01, 0.5, 3.0])
def test_the_optimiser_runs_at_unit_rate_whatever_the_rate_of_the_run(rate):
    close(
        updates(Optim("sgd", learning_rate=rate, momentum=0.0))[0],
        jax.tree.map(jnp.negative, GRADIENTS),
    )
    close(
        updates(Optim("adam", learning_rate=rate))[0],
        jax.tree.map(lambda g: -jnp.sign(g), GRADIENTS),
    )


def test_momentum_adds_up_a_geometric_series():
    taken = updates(Optim("sgd", momentum=0.5), steps=3)
    for update, factor in zip(taken, (1, 1.5, 1.75), strict=True):
        close(update, jax.tree.map(lambda g, f=factor: -f * g, GRADIENTS))


def test_nesterov_looks_one_step_ahead():
    plain, ahead = (
        updates(Optim("sgd", momentum=0.5), steps=2),
        updates(Optim("sgd", momentum=0.5, nesterov=True)),
    )
    close(ahead[0], plain[1])


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_weight_decay_is_decoupled_and_spares_biases(name):
    without, decayed = updates(Optim(name))[0], updates(Optim(name, weight_decay=0.1))[0]
    close(decayed["dense"]["bias"], without["dense"]["bias"])
    close(decayed["dense"]["kernel"], without["dense"]["kernel"] - 0.1 * PARAMS["dense"]["kernel"])


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_an_optimiser_of_a_population_is_one_per_member(name):
    optimizer = make_optimizer(Optim(name, weight_decay=0.1))
    params, gradients = (
        jax.tree.map(lambda leaf: jnp.stack([leaf, -2 * leaf]), t) for t in (PARAMS, GRADIENTS)
    )

    def first(p, g):
        return optimizer.update(g, optimizer.init(p), p)[0]

    together = jax.vmap(first)(params, gradients)
    for member in range(2):
        alone = first(
            *(jax.tree.map(lambda leaf, m=member: leaf[m], tree) for tree in (params, gradients))
        )
        close(jax.tree.map(lambda leaf, m=member: leaf[m], together), alone)


@pytest.mark.parametrize(
    "change",
    [
        {"momentum": 1.0},
        {"momentum": -0.1},
        {"learning_rate": -1.0},
        {"weight_decay": -1.0},
        {"max_norm": -1.0},
    ],
)
def test_numbers_out_of_range_are_refused_by_name(change):
    with pytest.raises(KdError, match=rf"optim\.{next(iter(change))}"):
        make_optimizer(Optim(**change))


@hypothesis.given(kernels)
def test_max_norm_is_a_projection_that_keeps_directions(kernel):
    norms = np.linalg.norm(kernel, axis=0)
    clipped = np.asarray(CLIP({"kernel": kernel})["kernel"])
    np.testing.assert_allclose(
        np.linalg.norm(clipped, axis=0), np.minimum(norms, 2.0), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(
        clipped * norms, kernel * np.minimum(norms, 2.0), rtol=1e-4, atol=1e-4
    )
    # twice is once
    np.testing.assert_allclose(CLIP({"kernel": clipped})["kernel"], clipped, rtol=1e-6)


@hypothesis.given(kernels)
def test_max_norm_leaves_what_lies_inside_alone(kernel):
    inside = kernel / 25.0  # every column shorter than 2
    np.testing.assert_allclose(CLIP({"kernel": inside})["kernel"], inside, rtol=0, atol=1e-30)


def test_max_norm_bounds_each_units_incoming_weights_and_no_bias():
    clipped = jax.jit(max_norm(1.0))(PARAMS)["dense"]
    # by unit, not by input
    np.testing.assert_allclose(np.linalg.norm(clipped["kernel"], axis=0), [1, 1], rtol=1e-6)
    np.testing.assert_array_equal(clipped["bias"], PARAMS["dense"]["bias"])


def test_max_norm_of_a_convolution_runs_over_everything_but_the_unit():
    kernel = jnp.ones((3, 3, 4, 2))
    clipped = max_norm(1.0)({"kernel": kernel})["kernel"]
    np.testing.assert_allclose(np.sqrt((clipped**2).sum((0, 1, 2))), 1, rtol=1e-5)


def test_max_norm_of_a_population_is_that_of_its_members():
    members = jax.tree.map(lambda leaf: jnp.stack([leaf, 0.1 * leaf]), PARAMS)
    together = jax.vmap(max_norm(1.0))(members)
    for member in range(2):
        close(
            jax.tree.map(lambda leaf, m=member: leaf[m], together),
            max_norm(1.0)(jax.tree.map(lambda leaf, m=member: leaf[m], members)),
        )


def test_max_norm_zero_is_off_and_zero_weights_stay_zero():
    assert max_norm(0.0) is None
    np.testing.assert_array_equal(CLIP({"kernel": np.zeros((5, 3), np.float32)})["kernel"], 0)


def test_a_module_named_blocks_may_be_one_layer():
    kernel = jnp.full((4, 2), 0.9)
    first, other = (
        max_norm(1.0)({name: {"kernel": kernel}})[name]["kernel"] for name in ("blocks", "dense")
    )
    np.testing.assert_array_equal(first, other)


def test_max_norm_of_stacked_layers_is_that_of_each():
    """The ViT keeps its blocks in one array; its biases have two dimensions there and stay."""
    model = vit(5, "S/4", width=24, heads=2, depth=3)
    params, _ = model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    params = jax.tree.map(lambda leaf: leaf + 0.5, params)
    clip, clipped = max_norm(0.7), max_norm(0.7)(params)

    def layer(tree, number):
        return {"layer": jax.tree.map(lambda leaf: leaf[number], tree["blocks"])}

    for number in range(3):
        alone, together = clip(layer(params, number)), layer(clipped, number)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), alone, together)
    up = clipped["blocks"]["mlp"]["up"]
    np.testing.assert_allclose(np.linalg.norm(up["kernel"], axis=1), 0.7, rtol=1e-5)
    np.testing.assert_array_equal(up["bias"], params["blocks"]["mlp"]["up"]["bias"])
