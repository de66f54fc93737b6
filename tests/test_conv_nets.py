"""Laws of convolutional networks: their sizes, their numbers, their memory option, their types,
their taps, what they refuse.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import convolved
import tiny
from kd.core.state import init_state
from kd.core.terms import term
from kd.errors import KdError
from kd.models import linen, mobilenetv2, resnet, vgg, wrn
from kd.models.conv import convolve
from kd.models.mobilenetv2 import MobileNetV2
from kd.models.precision import in_bfloat16
from kd.models.resnet import ResNet, Size

KEY = jax.random.key(0)
IMAGES = jnp.asarray(np.random.default_rng(0).normal(size=(6, 16, 18, 3)), jnp.float32)
LARGE = jnp.asarray(np.random.default_rng(0).normal(size=(6, 33, 36, 3)), jnp.float32)
LABELS = jnp.arange(6) % 5


def bottlenecks(remat=False):
    """The large form with one block a stage."""
    size = Size((1, 1, 1, 1), (2, 2, 3, 3), 4, bottleneck=True)
    return linen(ResNet(5, size, "imagenet", "B", remat), mixed=True)


def inverted(remat=False):
    """MobileNetV2 with three stages, all kinds of blocks among them."""
    stages = ((1, 4, 1, 1), (6, 4, 2, 1), (6, 5, 1, 2))
    return linen(MobileNetV2(5, 6, stages, 20, 16, 0.0, remat), mixed=True)


NETS = {
    "resnet A": (functools.partial(resnet, 5, 8, width=0.25), convolved.resnet, IMAGES),
    "resnet B": (
        functools.partial(resnet, 5, 8, width=0.25, shortcut="B", stem=3),
        convolved.resnet,
        IMAGES,
    ),
    "bottlenecks": (bottlenecks, convolved.resnet, LARGE),
    "wrn": (functools.partial(wrn, 5, 10, 1), convolved.wrn, IMAGES),
    "vgg": (functools.partial(vgg, 5, 8, width=1 / 16), convolved.vgg, IMAGES),
    "mobilenetv2": (inverted, convolved.mobilenetv2, IMAGES),
}
every_net = pytest.mark.parametrize("name", NETS)


@functools.cache
def variables(name):
    """Drawn by NumPy: scales and statistics too differ from what they start as."""
    make, _, images = NETS[name]
    random = np.random.default_rng(1)

    def draw(path, leaf):
        kind = path[-1].key
        if kind == "kernel":
            drawn = random.normal(0, np.prod(leaf.shape[:-1]) ** -0.5, leaf.shape)
        else:
            drawn = random.uniform(0.5, 1.5, leaf.shape)
        return jnp.asarray(drawn, jnp.float32)

    shapes = jax.eval_shape(make().init, KEY, images)
    return jax.tree_util.tree_map_with_path(draw, shapes)


@functools.cache
def trained(name, remat=False, half=False):
    """Loss, gradients, logits and statistics of a step of training."""
    make, _, images = NETS[name]
    model = make(remat=remat)
    model = in_bfloat16(model) if half else model

    def loss(params, extra):
        outputs, updated = model.apply(params, extra, images, train=True, key=KEY)
        values = optax.softmax_cross_entropy_with_integer_labels(outputs.logits, LABELS)
        return values.mean(), (outputs.logits, updated)

    return jax.jit(jax.value_and_grad(loss, has_aux=True))(*variables(name))


# --- size ---


@pytest.mark.parametrize(
    ("model", "pixels", "parameters"),
    [
        (resnet(1000, 18, "imagenet"), 64, 11_689_512),
        (resnet(1000, 34, "imagenet"), 64, 21_797_672),
        (resnet(1000, 50, "imagenet"), 64, 25_557_032),
        (mobilenetv2(1000, form="imagenet"), 64, 3_504_872),
        (resnet(10, 20), 32, 269_722),
        (resnet(10, 32), 32, 464_154),
        (resnet(10, 56), 32, 853_018),
        (resnet(100, 8, width=4, shortcut="B"), 32, 1_233_540),
        (resnet(100, 32, width=4, shortcut="B"), 32, 7_433_860),
        (wrn(100, 16, 2), 32, 703_284),
        (wrn(100, 40, 2), 32, 2_255_156),
        (vgg(100, 8), 32, 3_965_028 - 1_472),  # published with biases before the normalisation
        (vgg(100, 13), 32, 9_462_180 - 2_944),
        (mobilenetv2(100, 0.5), 32, 812_836 - 288),  # there a block of expansion 1 expands too
    ],
    ids=lambda value: None if isinstance(value, int) else value.made.name,
)
def test_networks_have_as_many_parameters_as_the_published_ones(model, pixels, parameters):
    image = jax.ShapeDtypeStruct((1, pixels, pixels, 3), jnp.float32)
    params = jax.eval_shape(model.init, KEY, image)[0]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == parameters


# --- what they compute ---


@every_net
def test_training_is_the_reference(name):
    make, reference, images = NETS[name]
    net = convolved.Network(*variables(name), train=True)
    wanted = reference(net, np.asarray(images, np.float64))
    outputs, updated = jax.jit(functools.partial(make().apply, train=True, key=KEY))(
        *variables(name), images
    )
    np.testing.assert_allclose(outputs.logits, wanted, rtol=1e-3, atol=1e-3)
    for path, statistics in net.new.items():
        moved = net.at(updated["batch_stats"], path)
        for kind, values in statistics.items():
            np.testing.assert_allclose(moved[kind], values, rtol=1e-3, atol=1e-4, err_msg=path)


@every_net
def test_evaluation_is_the_reference(name):
    make, reference, images = NETS[name]
    params, extra = variables(name)
    net = convolved.Network(params, extra, train=False)
    wanted = reference(net, np.asarray(images, np.float64))
    outputs, kept = jax.jit(make().apply)(params, extra, images)
    np.testing.assert_allclose(outputs.logits, wanted, rtol=1e-4, atol=1e-4)
    tiny.close(kept, extra, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["resnet A", "mobilenetv2"])
def test_what_is_computed_anew_is_the_same(name):
    tiny.close(trained(name, remat=True), trained(name), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["resnet A", "mobilenetv2"])
def test_bfloat16_keeps_statistics_and_gradients_in_float32(name):
    half, whole = trained(name, half=True), trained(name)
    assert {leaf.dtype for leaf in jax.tree.leaves(half)} == {jnp.dtype("float32")}
    assert tiny.differ(half, whole)
    np.testing.assert_allclose(half[0][0], whole[0][0], rtol=0.1)
    stats, wanted = (tree[0][1][1]["batch_stats"] for tree in (half, whole))
    tiny.close(stats, wanted, rtol=0.05, atol=0.05)


def test_gradients_of_bfloat16_are_those_of_rounded_factors():
    """The gradient of a kernel is a sum in float32: closer to the truth than bfloat16 can say."""
    random = np.random.default_rng(2)
    for stride, groups, pixels in ((1, 1, 7), (2, 1, 7), (2, 1, 8), (1, 4, 6), (2, 4, 5)):
        x = jnp.asarray(random.normal(size=(9, pixels, pixels, 4)), jnp.bfloat16)
        kernel = jnp.asarray(random.normal(size=(3, 3, 4 // groups, 8)), jnp.bfloat16)
        shape = jax.eval_shape(lambda x, k, s=stride, g=groups: convolve(x, k, s, g), x, kernel)
        cotangent = jnp.asarray(random.normal(size=shape.shape), jnp.bfloat16)
        wide = [value.astype(jnp.float32) for value in (x, kernel, cotangent)]
        run = functools.partial(convolve, stride=stride, groups=groups)
        wanted = jax.vjp(run, *wide[:2])[1](wide[2])
        slopes = jax.vjp(run, x, wide[1])[1](cotangent)
        assert slopes[1].dtype == jnp.float32
        np.testing.assert_allclose(slopes[1], wanted[1], rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(slopes[0].astype(jnp.float32), wanted[0], rtol=0.02, atol=0.1)


# --- taps ---


@every_net
def test_blocks_are_taps_by_name(name):
    make, _, images = NETS[name]
    params, extra = variables(name)
    paths = ("stages_1", "stages_1/blocks_0")
    for model in (make(), make(remat=True)):
        run = functools.partial(model.tapped(paths).apply, train=True, key=KEY)
        outputs, updated = jax.eval_shape(run, params, extra, images)
        assert outputs.taps[paths[1]].shape[0] == len(images)
        assert outputs.taps[paths[1]].ndim == 4
        assert jax.tree.structure(updated) == jax.tree.structure(extra)


def test_a_block_also_answers_before_its_last_relu():
    params, extra = variables("resnet A")
    paths = ("stages_2/blocks_0", "stages_2/blocks_0/before_relu")
    model = NETS["resnet A"][0]().tapped(paths)
    taps = jax.jit(lambda *v: model.apply(*v, IMAGES)[0].taps)(params, extra)
    assert (taps[paths[1]] < 0).any()
    np.testing.assert_array_equal(np.maximum(taps[paths[1]], 0), taps[paths[0]])


def test_what_the_head_reads_is_a_tap():
    params, extra = variables("resnet A")
    model = NETS["resnet A"][0]().tapped(("stages_2", "pooled"))
    answer = jax.jit(lambda *v: model.apply(*v, IMAGES)[0])(params, extra)
    pooled = answer.taps["pooled"]
    np.testing.assert_allclose(pooled, answer.taps["stages_2"].mean(axis=(1, 2)), rtol=1e-6)
    head = params["head"]
    logits = pooled @ head["kernel"] + head["bias"][None]
    np.testing.assert_allclose(logits, answer.logits, atol=1e-5)


def flops(model, terms, teacher):
    """Of a compiled training step."""
    step = tiny.step(model, teacher, terms)
    state = jax.eval_shape(lambda: init_state(model, tiny.optimizer(), 0, IMAGES))
    batch = {"inputs": IMAGES, "labels": LABELS, "weight": jnp.ones(6), "index": jnp.arange(6)}
    variables_of = None if teacher is None else teacher.variables
    lowered = jax.jit(step).lower(state, variables_of, batch, tiny.hparams(terms))
    return lowered.compile().cost_analysis()["flops"]


def test_a_tap_that_nobody_asks_for_costs_nothing(monkeypatch):
    """The step of a network that can be looked into is that of one that sows nothing."""
    hard = (term("hard"),)
    model = NETS["resnet A"][0]()
    able = flops(model, hard, None)
    monkeypatch.setattr(nn.Module, "sow", lambda *_, **__: False)
    assert able == flops(model, hard, None)


# --- what they refuse ---


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: resnet(5, 9), r"6n \+ 2, got 9; take 8 or 14, or form='imagenet' with one of 18"),
        (lambda: resnet(5, 2), r"6n \+ 2, got 2; take 8 or 14"),
        (lambda: resnet(5, 20, "imagenet"), "unknown depth of a resnet for ImageNet '20'"),
        (lambda: resnet(5, 20, "cifer"), "unknown resnet form 'cifer'; did you mean 'cifar'"),
        (lambda: resnet(5, 20, shortcut="C"), "unknown resnet shortcut 'C'; known: A, B"),
        (lambda: resnet(5, 20, width=0.01), "one channel or more everywhere"),
        (lambda: resnet(0, 20), "one class and one channel or more"),
        (lambda: resnet(5, 20, stem=64), "a stem of 64 needs a first stage as wide, not 16"),
        (lambda: wrn(5, 17), r"6n \+ 4, got 17; take 16 or 22"),
        (lambda: wrn(5, 16, 0), "a width of 1 or more"),
        (lambda: wrn(5, dropout=1.0), r"\[0, 1\)"),
        (lambda: vgg(5, 16), "unknown depth of a vgg '16'; "),
        (lambda: vgg(5, width=0.001), "one channel or more"),
        (lambda: mobilenetv2(5, form="big"), "unknown mobilenetv2 form 'big'"),
        (lambda: mobilenetv2(5, 0.01), "one channel or more"),
        (lambda: mobilenetv2(5, dropout=-0.1), r"\[0, 1\)"),
    ],
)
def test_options_that_there_are_not(make, words):
    with pytest.raises(KdError, match=words):
        make()


@pytest.mark.parametrize(
    ("model", "pixels"),
    [
        (resnet(5, 8), 4),
        (resnet(5, 18, "imagenet"), 32),
        (wrn(5, 10, 1), 4),
        (vgg(5), 8),
        (mobilenetv2(5), 16),
    ],
    ids=lambda value: None if isinstance(value, int) else value.made.name,
)
def test_images_that_are_too_small(model, pixels):
    def init(*shape):
        return jax.eval_shape(model.init, KEY, jax.ShapeDtypeStruct(shape, jnp.float32))

    init(1, pixels, pixels)  # without channels
    with pytest.raises(KdError, match=rf"have {pixels - 1}x{pixels}; set data.image_size to "):
        init(1, pixels - 1, pixels, 3)
    with pytest.raises(KdError, match=r"needs images \[b h w\]"):
        init(1, pixels)
