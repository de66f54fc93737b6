"""The bench of ResNets: its work, its names, its claims and its table."""

import functools
from unittest import mock

import jax
import numpy as np
import pytest

from bench import claims, conv_forms, conv_layers_kd, convolutions, tables
from bench import conv_problem as c
from bench.problem import Problem
from bench.run import TOLERANCE, apart
from bench.worker import Missing

PEER = "PyTorch eager"
NEEDS_TORCH = "bench/ compares with PyTorch"
SMALL = Problem(64, 1)


@pytest.mark.parametrize(("depth", "millions"), [(20, 40.6), (8, 12.3)])
def test_the_work_is_that_of_the_products(depth, millions):
    """A multiplication and an addition for each of the millions that the papers count."""
    stem = 27 * 16 * c.PIXELS**2
    assert c.flops(depth, 1) == pytest.approx(6e6 * millions - 2 * stem, rel=0.01)
    assert c.flops(depth, 6) == 6 * c.flops(depth, 1)


@pytest.mark.parametrize("depth", c.DEPTHS)
def test_the_layers_of_a_step_are_the_step(depth):
    """But for its first convolution, which has no gradient into its inputs, and its head."""
    parts = [part for part in c.PARTS.values() if part.way != c.NORM]
    of_layers = sum(part.count(depth) * part.layer.flops(5) for part in parts)
    rest = 2 * (2 * 27 * 16 * c.PIXELS**2 + 3 * 64 * c.CLASSES)
    assert of_layers + 5 * rest == c.flops(depth, 5)


@pytest.mark.parametrize("name", [name for name, p in c.PARTS.items() if p.layer.number == 1])
def test_a_layer_is_the_same_on_both_sides(name):
    torch = pytest.importorskip("torch", reason=NEEDS_TORCH)
    from bench import conv_layers_torch

    part = c.PARTS[name]
    arrays = part.layer.arrays(2)
    ours = jax.jit(conv_layers_kd.function(part))(*arrays)
    order = ((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))
    turned = [torch.from_numpy(a.transpose(o)) for a, o in zip(arrays, order, strict=True)]
    peer = conv_layers_torch.function(part)(*turned)
    back = (2, 3, 1, 0) if part.way == "into the weights" else (0, 2, 3, 1)
    peer = [leaf for leaf in jax.tree.leaves(peer) if leaf is not None]
    for mine, theirs in zip(jax.tree.leaves(ours), peer, strict=True):
        theirs = theirs.permute(back) if theirs.ndim == 4 else theirs
        np.testing.assert_allclose(mine, theirs.numpy(), rtol=2e-5, atol=2e-4)


# XLA cannot store a program with a call of oneDNN
@pytest.mark.filterwarnings("ignore:Error writing persistent compilation cache entry")
@pytest.mark.parametrize("name", [name for name, part in c.PARTS.items() if part.other])
def test_another_form_computes_the_same(name):
    part = c.PARTS[name]
    arrays = part.layer.arrays(conv_forms.IMAGES)
    try:
        other = conv_forms.function(part)
    except Missing as missing:
        pytest.skip(str(missing))
    answers = jax.jit(other)(*arrays)
    plain = jax.tree.leaves(jax.jit(conv_layers_kd.function(part))(*arrays))[0]
    assert np.abs(answers - plain).max() < 1e-5 * np.abs(plain).max()


def test_a_step_is_the_same_on_both_sides_and_the_check_sees_where_it_is_not():
    """Another epsilon is a slight difference: Keras has it."""
    torch = pytest.importorskip("torch", reason=NEEDS_TORCH)
    from bench import conv_kd, conv_torch

    ours = conv_kd.smooth_check(8, SMALL, 16)
    check = functools.partial(conv_torch.smooth_check, 8, SMALL, 16)
    assert max(apart(ours, check()).values()) < TOLERANCE
    other = functools.partial(torch.nn.BatchNorm2d, eps=1e-3)
    with mock.patch.object(torch.nn, "BatchNorm2d", other):
        assert max(apart(ours, check()).values()) > 10 * TOLERANCE


def test_pytorch_has_every_parameter_by_name():
    torch = pytest.importorskip("torch", reason=NEEDS_TORCH)
    from bench import conv_torch

    own = dict(conv_torch.student(8).named_parameters())
    params = c.first_params(8)
    assert {conv_torch._name(path) for path in params} == set(own)
    for path, array in params.items():
        kernel = conv_torch._ours(own[conv_torch._name(path)].detach().numpy())
        np.testing.assert_array_equal(kernel, array)
    images = torch.zeros((2, 3, c.PIXELS, c.PIXELS))
    assert conv_torch.student(8)(images).shape == (2, c.CLASSES)


def test_every_claim_has_a_row():
    groups = convolutions.groups(16)
    samples = {case: np.full(3, 10.0) for group in groups for case in claims.cases(group)}
    flops = {case: convolutions._flops(case) for case in samples}
    rows = [row for group in groups for row in claims.judged(group, samples, flops)]
    assert [row["peer"] for row in rows].count(PEER) == 2 * len(c.DEPTHS)
    population = next(row for row in rows if row["name"].startswith("population"))
    assert population["ratio"]["median"] == pytest.approx(1 / c.MEMBERS, abs=1e-3)
    parts = convolutions.layers(16)
    times = {case: np.full(3, 10.0) for case in claims.cases(parts)}
    slowest = claims.Case("kd", f"8 pixels, 64 channels, {c.WAYS[2]}", 16)
    times[slowest] = np.full(3, 12.0)
    of_parts = {case: convolutions._flops(case) for case in times}
    record = {
        "layers": claims.judged(parts, times, of_parts),
        "from_float64": {"ResNet-8": {"kd": 1e-5, "torch": 2e-5}},
        "comparisons": rows,
        "left_out": {"torch resnet 8 compiled, batch 16": "no compiler"},
        "relative_difference": {"ResNet-8": {"loss": 1e-6}},
        "repeats": 3,
        "machine": {"load_before": 0.1, "load_after": 0.2},
        "versions": {"jax": "1", "torch": "2"},
        "command": "python -m bench.convolutions",
    }
    shown = tables.convolutions(record, "a machine")
    assert shown.count("\n| ") == 2 * 2 + len(rows) + len(c.PARTS)
    assert "(4), four pixels at once | 1 | 0.0 |" in shown
    assert "What loses most is into the weights: 10 ms of a step of ResNet-20" in shown
    assert "| at most 1.1x the time | yes |" in shown
    assert "Left out: torch resnet 8 compiled, batch 16: no compiler." in shown
    assert SMALL.examples == len(c.data(SMALL)[0])
