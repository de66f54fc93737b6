"""The bench of ResNets: its work, its names, its claims and its table."""

import numpy as np
import pytest

from bench import claims, convolutions, tables
from bench import conv_problem as c
from bench.problem import Problem

PEER = "PyTorch eager"


@pytest.mark.parametrize(("depth", "millions"), [(20, 40.6), (8, 12.3)])
def test_the_work_is_that_of_the_products(depth, millions):
    """A multiplication and an addition for each of the millions that the papers count."""
    stem = 27 * 16 * c.PIXELS**2
    assert c.flops(depth, 1) == pytest.approx(6e6 * millions - 2 * stem, rel=0.01)
    assert c.flops(depth, 6) == 6 * c.flops(depth, 1)


def test_pytorch_has_every_parameter_by_name():
    torch = pytest.importorskip("torch", reason="bench/ compares with PyTorch")
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
    record = {
        "comparisons": rows,
        "left_out": {"torch resnet 8 compiled, batch 16": "no compiler"},
        "relative_difference": {"ResNet-8": {"loss": 1e-6}},
        "repeats": 3,
        "machine": {"load_before": 0.1, "load_after": 0.2},
        "versions": {"jax": "1", "torch": "2"},
        "command": "python -m bench.convolutions",
    }
    shown = tables.convolutions(record, "a machine")
    assert shown.count("\n| ") == 1 + 1 + len(rows)
    assert "| at most 1.1x the time | yes |" in shown
    assert "Left out: torch resnet 8 compiled, batch 16: no compiler." in shown
    assert Problem(64, 1).examples == len(c.data(Problem(64, 1))[0])
