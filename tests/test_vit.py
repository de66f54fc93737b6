"""Laws of the Vision Transformer: its scan, its memory option, its types, where it runs."""

import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import tiny
from kd.models import vit
from kd.models.attention import attend
from kd.models.vit import Block, Size, patches, positions
from small_vit import IMAGES, KEY, SMALL, params, shapes_of, small

LABELS = jnp.arange(6) % 5


def logits(model, tree=None, images=IMAGES, **options):
    return model.apply(params() if tree is None else tree, {}, images, **options)[0].logits


def gradients(model, tree=None):
    def loss(tree):
        return optax.softmax_cross_entropy_with_integer_labels(
            logits(model, tree, train=True), LABELS
        ).mean()

    return jax.jit(jax.value_and_grad(loss))(params() if tree is None else tree)


def test_paths_that_sharding_rules_name():
    paths = {
        jax.tree_util.keystr(p, simple=True, separator="/")
        for p, _ in jax.tree_util.tree_leaves_with_path(params())
    }
    dense = [
        "patches",
        "head",
        *(f"blocks/attention/{n}" for n in ("query", "key", "value", "out")),
    ]
    norms = ["norm", "blocks/attention_norm", "blocks/mlp_norm"]
    wanted = {
        f"{n}/{leaf}"
        for n in [*dense, "blocks/mlp/up", "blocks/mlp/down"]
        for leaf in ("kernel", "bias")
    }
    assert paths == wanted | {f"{n}/{leaf}" for n in norms for leaf in ("scale", "bias")}


# --- what it computes ---


def reference(tree, images, heads):
    """The same network in NumPy, in float64, block after block."""
    t = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)

    def dense(x, layer):
        return x @ layer["kernel"] + layer["bias"]

    def norm(x, layer):
        x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * layer["scale"] + layer["bias"]

    def attention(x, layer):
        out = []
        q, k, v = (np.split(dense(x, layer[n]), heads, axis=-1) for n in ("query", "key", "value"))
        for query, key, value in zip(q, k, v, strict=True):
            e = np.exp(query @ key.swapaxes(1, 2) / np.sqrt(query.shape[-1]))
            out.append(e / e.sum(-1, keepdims=True) @ value)
        return dense(np.concatenate(out, -1), layer["out"])

    def gelu(x):
        return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))

    side = SMALL["patch"]
    places = [
        (i, j) for i in range(0, images.shape[1], side) for j in range(0, images.shape[2], side)
    ]
    cut = [
        np.asarray(images[:, i : i + side, j : j + side], np.float64).reshape(len(images), -1)
        for i, j in places
    ]
    x = dense(np.stack(cut, 1), t["patches"]) + positions(
        images.shape[1] // side, images.shape[2] // side, 16
    )
    for i in range(SMALL["depth"]):
        block = jax.tree.map(operator.itemgetter(i), t["blocks"])
        x = x + attention(norm(x, block["attention_norm"]), block["attention"])
        x = x + dense(
            gelu(dense(norm(x, block["mlp_norm"]), block["mlp"]["up"])), block["mlp"]["down"]
        )
    return dense(norm(x, t["norm"]).mean(1), t["head"])


def test_it_computes_what_a_plain_reference_computes():
    np.testing.assert_allclose(
        logits(small()), reference(params(), IMAGES, 2), rtol=2e-4, atol=2e-4
    )


def test_a_scan_over_blocks_is_a_loop_over_the_same_block():
    x = jnp.asarray(np.random.default_rng(2).normal(size=(2, 6, 16)), jnp.float32)
    block, looped = Block(Size(16, 3, 64, 2), 0.0, False), x
    for i in range(3):
        looped, _ = block.apply({"params": tiny.take(params()["blocks"], i)}, looped)
    captured = {}

    def keep(next_fun, args, kwargs, context):
        if context.module.name == "norm":
            captured["in"] = args[0]
        return next_fun(*args, **kwargs)

    import flax.linen as nn

    with nn.intercept_methods(
        keep
    ):  # with the tokens of the first block's input as "patches" of one pixel
        identity = {**params(), "patches": {"kernel": jnp.eye(16), "bias": jnp.zeros(16)}}
        images = x.reshape(2, 2, 3, 16) - positions(2, 3, 16).reshape(1, 2, 3, 16)
        logits(small(patch=1), identity, images)
    np.testing.assert_allclose(captured["in"], looped, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "options", [{"remat": True}, {"unroll": 3}, {"unroll": 2, "remat": True}], ids=str
)
def test_remat_and_unroll_change_no_value_and_no_gradient(options):
    tiny.close(gradients(small(**options)), gradients(small()), rtol=1e-4, atol=1e-5)


def test_remat_draws_the_same_dropout_in_the_backward_pass():
    def loss(model):
        def value(tree):
            return (logits(model, tree, train=True, key=KEY) ** 2).mean()

        return jax.jit(jax.value_and_grad(value))(params())

    tiny.close(loss(small(dropout=0.3, remat=True)), loss(small(dropout=0.3)), rtol=1e-4, atol=1e-4)


def test_remat_keeps_less():
    def kept(model):
        program = jax.jit(
            jax.grad(lambda tree: (logits(model, tree, images, train=True) ** 2).mean())
        )
        return program.lower(tree).compile().memory_analysis().temp_size_in_bytes

    images, options = jnp.zeros((8, 32, 32, 3)), {**SMALL, "depth": 8, "patch": 4}
    tree = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), shapes_of(vit(5, **options), 32))
    assert kept(vit(5, **options, remat=True)) < 0.5 * kept(vit(5, **options))


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_dropout_acts_in_training_and_differs_from_block_to_block(dropout):
    model = small(dropout=dropout)
    train = [logits(model, train=True, key=jax.random.key(seed)) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(train[0], train[1])
    assert tiny.differ(train[0], train[2]) == bool(dropout)
    np.testing.assert_array_equal(logits(model), logits(small()))


def test_blocks_start_from_different_numbers():
    kernel = np.asarray(jax.jit(small().init)(KEY, IMAGES)[0]["blocks"]["mlp"]["up"]["kernel"])
    assert tiny.differ(kernel[0], kernel[1])
    # Xavier's, of one block and not of the stack
    assert kernel.std() == pytest.approx(np.sqrt(2 / (16 + 64)), rel=0.1)


@functools.cache
def compiled():
    return jax.jit(lambda images: logits(small(), images=images))


def answer(images):
    return compiled()(images)


@given(st.permutations(range(6)))
def test_the_order_of_the_batch_is_the_order_of_the_answers(order):
    order = jnp.asarray(order)
    np.testing.assert_allclose(answer(IMAGES[order]), answer(IMAGES)[order], rtol=1e-4, atol=1e-5)


def test_the_order_of_the_patches_matters():
    assert np.abs(logits(small(), images=IMAGES[:, :, ::-1]) - logits(small())).max() > 1e-2
    swapped = jnp.concatenate([IMAGES[:, 4:], IMAGES[:, :4]], axis=1)
    assert np.abs(logits(small(), images=swapped) - logits(small())).max() > 1e-2


def test_a_gray_image_without_channels_is_one_with_a_channel():
    model = small()
    tree = jax.jit(model.init)(KEY, IMAGES[..., 0])[0]
    np.testing.assert_array_equal(
        logits(model, tree, IMAGES[..., 0]), logits(model, tree, IMAGES[..., :1])
    )


@settings(max_examples=8)  # every shape compiles anew
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.integers(1, 3))
def test_patches_hold_every_pixel_once_and_neighbours_together(rows, columns, size, channels):
    images = (
        jnp.arange(2 * rows * columns * size**2 * channels)
        .astype(jnp.float32)
        .reshape(2, rows * size, columns * size, channels)
    )
    cut = np.asarray(patches(images, size))
    for i in range(rows):
        for j in range(columns):
            square = images[:, i * size : (i + 1) * size, j * size : (j + 1) * size]
            np.testing.assert_array_equal(cut[:, i * columns + j], square.reshape(2, -1))


@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([8, 16, 36]))
def test_positions_differ_have_one_norm_and_depend_on_differences_alone(rows, columns, width):
    table = positions(rows, columns, width)
    np.testing.assert_allclose((table**2).sum(1), width / 2, rtol=1e-5)
    assert len(np.unique(table.round(4), axis=0)) == rows * columns
    products = (table @ table.T).reshape(rows, columns, rows, columns)
    if rows > 1 and columns > 1:  # sin a sin b + cos a cos b = cos(a - b)
        np.testing.assert_allclose(
            products[1:, 1:, 1:, 1:], products[:-1, :-1, :-1, :-1], atol=1e-4
        )


def test_attention_is_a_mean_of_values_and_survives_large_scores():
    random = np.random.default_rng(0)
    q, k, v = (jnp.asarray(random.normal(size=(2, 5, 3, 4)), jnp.float32) for _ in range(3))
    np.testing.assert_allclose(attend(q, k, jnp.ones_like(v)), 1.0, rtol=1e-5)
    np.testing.assert_allclose(
        attend(0 * q, k, v), jnp.broadcast_to(v.mean(1, keepdims=True), v.shape), atol=1e-6
    )
    one_hot = attend(1e4 * k, 1e4 * k / jnp.linalg.norm(k, axis=-1, keepdims=True) ** 2, v)
    assert np.isfinite(one_hot).all()


# --- types ---


def half(tree):
    return jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), tree)


def test_in_bfloat16_it_computes_in_bfloat16_and_close_to_float32():
    whole, short = logits(small()), logits(small(), half(params()), IMAGES.astype(jnp.bfloat16))
    assert (whole.dtype, short.dtype) == (jnp.float32, jnp.bfloat16)
    error = np.abs(np.asarray(short, np.float32) - whole).max() / np.abs(whole).max()
    assert 1e-5 < error < 0.05


def test_in_bfloat16_products_are_of_bfloat16_and_exponentials_of_float32():
    program = str(
        jax.make_jaxpr(lambda x: logits(small(), half(params()), x))(IMAGES.astype(jnp.bfloat16))
    )
    lines = [line.strip() for line in program.splitlines()]
    assert all(line.split(":")[1].startswith("f32") for line in lines if "= exp " in line)
    assert any("= exp " in line for line in lines)
    images = IMAGES.astype(jnp.bfloat16)
    assert tiny.factors(lambda p: logits(small(), p, images), params()) == [{"bfloat16"}] * 10
    backward = tiny.factors(
        jax.grad(lambda p: logits(small(), p, images).astype(jnp.float32).sum()), params()
    )
    assert len(backward) > 25
    assert [pair for pair in backward if pair != {"bfloat16"}] == [
        {"float32", "bfloat16"}
    ] * 2  # by the scores' gradient


# --- where it runs ---


def test_a_population_computes_what_its_members_compute():
    members = jax.tree.map(lambda leaf: jnp.stack([leaf, 0.5 * leaf]), params())
    together = jax.jit(jax.vmap(lambda tree: logits(small(), tree)))(members)
    for i in range(2):
        np.testing.assert_allclose(
            together[i], logits(small(), tiny.take(members, i)), rtol=1e-4, atol=1e-4
        )
    keys = jax.random.split(KEY, 2)
    started = jax.jit(lambda keys: jax.lax.map(lambda key: small().init(key, IMAGES)[0], keys))(
        keys
    )
    tiny.close(
        tiny.take(started, 1), jax.jit(small().init)(keys[1], IMAGES)[0], rtol=1e-6, atol=1e-7
    )


def test_split_over_devices_it_computes_the_same():
    mesh = Mesh(np.asarray(jax.devices()[:8]).reshape(2, 2, 2), ("data", "fsdp", "tensor"))

    def layout(path, leaf):
        path = jax.tree_util.keystr(path, simple=True, separator="/")
        rules = {"up/kernel": (None, "fsdp", "tensor"), "down/kernel": (None, "tensor", "fsdp")}
        rules |= {f"{name}/kernel": (None, "fsdp", "tensor") for name in ("query", "key", "value")}
        spec = next((axes for end, axes in rules.items() if path.endswith(end)), ())
        return NamedSharding(mesh, PartitionSpec(*spec))

    images = jnp.concatenate([IMAGES, IMAGES[:2]])
    tree = jax.device_put(params(), jax.tree_util.tree_map_with_path(layout, params()))
    split = jax.device_put(images, NamedSharding(mesh, PartitionSpec(("data", "fsdp"))))

    def loss(tree, images):
        return (logits(small(), tree, images, train=True) ** 2).mean()

    program = jax.jit(jax.value_and_grad(loss))
    tiny.close(
        jax.device_get(program(tree, split)), program(params(), images), rtol=1e-3, atol=1e-4
    )
