"""Laws of schedules: end points, monotony, warm-up, and what they refuse."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd.core.schedules import Schedule, make_schedule
from kd.errors import KdError

STEPS = 200
SMOOTH = ["linear", "cosine", "exponential"]


def half(shape, **options):
    """Down to a half, where the shape has an end."""
    return Schedule(shape, end=0.0 if shape == "constant" else 0.5, **options)


def curve(spec, total=STEPS, until=STEPS):
    return np.asarray(jax.vmap(make_schedule(spec, total))(jnp.arange(until + 1)))


def test_constant_is_one():
    np.testing.assert_array_equal(curve(Schedule()), 1)


@pytest.mark.parametrize("shape", SMOOTH)
@hypothesis.given(end=st.floats(0.01, 0.9))
@hypothesis.settings(max_examples=10)
def test_from_one_down_to_end_and_then_level(shape, end):
    factors = curve(Schedule(shape, end=end))
    np.testing.assert_allclose([factors[0], factors[-1]], [1, end], rtol=1e-4)
    assert np.all(np.diff(factors) <= 1e-6)
    if shape != "exponential":
        np.testing.assert_allclose(
            make_schedule(Schedule(shape, end=end), STEPS)(2 * STEPS), end, rtol=1e-4
        )


@pytest.mark.parametrize(
    ("shape", "halfway"),
    [
        ("linear", lambda end: (1 + end) / 2),
        ("cosine", lambda end: (1 + end) / 2),
        ("exponential", np.sqrt),
    ],
)
def test_half_way(shape, halfway):
    np.testing.assert_allclose(
        curve(Schedule(shape, end=0.25))[STEPS // 2], halfway(0.25), rtol=1e-4
    )


def test_the_three_shapes_differ():
    quarter = [curve(Schedule(shape, end=0.25))[STEPS // 4] for shape in SMOOTH]
    np.testing.assert_allclose(
        quarter, [1 - 0.75 / 4, 0.25 + 0.75 * (1 + np.cos(np.pi / 4)) / 2, 0.25**0.25], rtol=1e-4
    )


@pytest.mark.parametrize("shape", ["constant", *SMOOTH])
def test_warm_up_rises_from_zero_and_then_the_shape_runs_its_course(shape):
    factors = curve(half(shape, warmup_percent=25.0))
    warmup = STEPS // 4
    np.testing.assert_allclose(factors[: warmup + 1], np.arange(warmup + 1) / warmup, atol=1e-6)
    np.testing.assert_allclose(
        factors[warmup:], curve(half(shape), STEPS - warmup, STEPS - warmup), rtol=1e-5
    )


@hypothesis.given(st.lists(st.floats(0.1, 10), min_size=3, max_size=3))
@hypothesis.settings(max_examples=10)
def test_piecewise_holds_each_factor_from_its_percentage_on(factors):
    got = curve(Schedule("piecewise", points=tuple(zip((0.0, 25.0, 75.0), factors, strict=True))))
    np.testing.assert_allclose(got, np.repeat(np.float32(factors), [50, 100, 51]), rtol=1e-6)


@hypothesis.given(
    st.floats(1, 60), st.lists(st.floats(0, 100), min_size=1, max_size=3, unique=True).map(sorted)
)
def test_a_warm_up_moves_no_point_of_a_piecewise_schedule(warmup, percents):
    points = tuple((percent, 0.5**number) for number, percent in enumerate(percents, 1))
    plain, warmed = (
        curve(Schedule("piecewise", warmup, points=points)) for warmup in (0.0, warmup)
    )
    after = round(STEPS * warmup / 100)
    np.testing.assert_array_equal(warmed[after:], plain[after:])


def test_piecewise_is_one_before_its_first_point():
    np.testing.assert_array_equal(
        curve(Schedule("piecewise", points=((50.0, 3.0),)))[[0, 99, 100]], [1, 1, 3]
    )


@pytest.mark.parametrize("shape", ["constant", *SMOOTH])
def test_a_schedule_is_in_percent_so_a_longer_run_is_the_same_curve(shape):
    spec = half(shape, warmup_percent=10.0)
    np.testing.assert_allclose(curve(spec), curve(spec, 4 * STEPS, 4 * STEPS)[::4], atol=1e-5)


def test_a_schedule_runs_under_jit():
    spec = Schedule("cosine", warmup_percent=10.0, end=0.1)
    steps = [0, 7, 20, 150]
    compiled = jax.jit(make_schedule(spec, STEPS))
    np.testing.assert_allclose([compiled(s) for s in steps], curve(spec)[steps], rtol=1e-6)


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        (Schedule(warmup_percent=100.0), "warmup_percent"),
        (Schedule(warmup_percent=-1.0), "warmup_percent"),
        (Schedule("exponential"), "end"),
        (Schedule("piecewise"), "points"),
        (Schedule("piecewise", points=((50.0, 1.0), (20.0, 2.0))), "points"),
        (Schedule("piecewise", points=((50.0, 1.0), (50.0, 2.0))), "points"),
        (Schedule("piecewise", points=((50.0, 1.0), (120.0, 2.0))), "points"),
        (Schedule("piecewise", points=((-5.0, 1.0),)), "points"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(spec, named):
    with pytest.raises(KdError, match=rf"schedule\.{named}"):
        make_schedule(spec, STEPS)


@pytest.mark.parametrize("shape", ["constant", *SMOOTH])
def test_a_run_of_one_step_is_finite(shape):
    assert np.isfinite(curve(half(shape), total=1, until=1)).all()
