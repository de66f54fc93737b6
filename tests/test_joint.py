"""Laws of eq. 5: the distribution nearest to a generalist's and its specialists'."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, special

from kd import specialists
from kd.core import specialists as core
from kd.errors import KdError
from kd.specialists import together

SHAPES = st.sampled_from([(3, 1), (6, 3), (9, 4)])  # classes, specialists: each compiles


def solved(general, answers, table, top=1):
    """`kd.core.specialists.joint` of NumPy arrays."""
    arrays = map(jnp.asarray, (general, answers, table))
    return jax.tree.map(np.asarray, jax.jit(core.joint, static_argnums=3)(*arrays, top))


def log_probs(random, *shape, scale=2.0):
    return special.log_softmax(scale * random.normal(size=shape), axis=-1).astype(np.float32)


def sets(random, count, classes):
    """So many sets of classes, none of them empty or whole, as rows of truth values."""
    table = random.random((count, classes)) < 0.4
    table[:, 0] &= ~table.all(axis=1)
    table[~table.any(axis=1), -1] = True
    return table


def collapsed(log_q, table):
    """A distribution as a specialist sees it: its classes, and the sum of all others."""
    q = np.exp(log_q)
    return np.append(q[table], q[~table].sum())


def objective(log_q, general, answers, asked):
    """Eq. 5 from its formula, in float64. `answers` are (log-probabilities, classes)."""

    def kl(p, q):
        return float(np.sum(special.xlogy(p, p) - special.xlogy(p, q)))

    log_q = np.asarray(log_q, np.float64)
    total = kl(np.exp(np.asarray(general, np.float64)), np.exp(log_q))
    for (answer, table), is_asked in zip(answers, asked, strict=True):
        if is_asked:
            answer = np.asarray(answer, np.float64)
            total += kl(collapsed(answer, table), collapsed(log_q, table))
    return total


def gradient(log_q, general, answers, asked):
    """Its gradient by the logits of q, from finite differences."""

    def at(z):
        return objective(special.log_softmax(z), general, answers, asked)

    z = np.asarray(log_q, np.float64)
    steps = 1e-5 * np.eye(len(z))
    return np.array([(at(z + step) - at(z - step)) / 2e-5 for step in steps])


@given(st.integers(0, 2**31), SHAPES, st.floats(0.1, 4.0))
def test_the_minimum_is_that_of_scipy(seed, shape, scale):
    classes, count = shape
    random = np.random.default_rng(seed)
    general = log_probs(random, 4, classes, scale=scale)
    answers = log_probs(random, count, 4, classes, scale=scale)
    table = sets(random, count, classes)
    solution = solved(general, answers, table, 2)
    assert (solution.gradient < core.TOLERANCE).all()
    assert (solution.iterations < core.MOST).all()
    for row in range(4):
        told = general[row], list(zip(answers[:, row], table, strict=True)), solution.asked[row]
        assert np.linalg.norm(gradient(solution.log_probs[row], *told)) < 1e-5

        def cost(z, told=told):
            return objective(special.log_softmax(z), *told)

        bounds = [(-40.0, 40.0)] * classes
        best = optimize.minimize(cost, general[row].astype(float), method="L-BFGS-B", bounds=bounds)
        assert best.fun - 1e-3 < objective(solution.log_probs[row], *told) < best.fun + 1e-6


@given(st.integers(0, 2**31))
def test_in_double_precision_the_gradient_is_far_smaller(seed):
    """So what is left in float32 is rounding and no fault of the steps."""
    random = np.random.default_rng(seed)
    with jax.enable_x64(True):
        general, answers = (
            special.log_softmax(3 * random.normal(size=shape), axis=-1)
            for shape in ((3, 12), (6, 3, 12))
        )
        table = sets(random, 6, 12)
        solution = solved(general, answers, table, 12)
        assert solution.log_probs.dtype == np.float64
        assert (np.asarray(solution.gradient) < core.TOLERANCE).all()
        assert (np.asarray(solution.iterations) < core.MOST).all()


@given(st.integers(0, 2**31), st.integers(1, 5))
def test_whoever_agrees_with_the_generalist_changes_nothing(seed, count):
    """A specialist that only knows less says the same, and no step is taken."""
    random = np.random.default_rng(seed)
    general, table = log_probs(random, 5, 8), sets(random, count, 8)
    answers = np.stack([blurred(general, row) for row in table])
    solution = solved(general, answers, table, 3)
    np.testing.assert_allclose(solution.log_probs, general, atol=1e-5)
    assert (np.asarray(solution.iterations) <= 1).all()


def blurred(log_q, table):
    """The same distribution, in which all other classes share their sum evenly."""
    q = np.exp(log_q)
    q[:, ~table] = q[:, ~table].mean(axis=1, keepdims=True)
    return np.log(q)


def test_one_specialist_is_answered_exactly():
    """On its classes the mean of both; the rest keeps the generalist's proportions."""
    random = np.random.default_rng(0)
    general, answers = log_probs(random, 6, 7), log_probs(random, 1, 6, 7)
    table = np.array([[True, True, True, False, False, False, False]])
    q = np.exp(solved(general, answers, table, 7).log_probs)
    both = (np.exp(general) + np.exp(answers[0])) / 2
    np.testing.assert_allclose(q[:, :3], both[:, :3], rtol=1e-5)
    rest = np.exp(general[:, 3:])
    wanted = rest / rest.sum(axis=1, keepdims=True) * both[:, 3:].sum(axis=1, keepdims=True)
    np.testing.assert_allclose(q[:, 3:], wanted, rtol=1e-4)


def test_only_those_are_asked_whose_classes_are_in_question():
    general = np.log(np.array([[0.5, 0.3, 0.1, 0.1]], np.float32))
    answers = log_probs(np.random.default_rng(0), 3, 1, 4)
    table = np.array([[True, False, False, False], [False, True, True, False], [False] * 4])
    asked = [np.asarray(solved(general, answers, table, top).asked[0]) for top in (1, 2)]
    assert asked[0].tolist() == [True, False, False]
    assert asked[1].tolist() == [True, True, False]
    nobody = solved(general, answers, table[2:].repeat(3, axis=0), 1)
    np.testing.assert_allclose(nobody.log_probs, general, atol=1e-6)  # none covers: the generalist
    assert np.asarray(nobody.iterations).tolist() == [0]


def test_names_and_order_do_not_matter():
    random = np.random.default_rng(3)
    general, answers, table = (
        log_probs(random, 5, 9),
        log_probs(random, 4, 5, 9),
        sets(random, 4, 9),
    )
    plain = np.asarray(solved(general, answers, table, 2).log_probs)
    classes, who = random.permutation(9), random.permutation(4)
    moved = solved(general[:, classes], answers[who][..., classes], table[who][:, classes], 2)
    np.testing.assert_allclose(moved.log_probs, plain[:, classes], atol=1e-5)


def test_positions_are_examples():
    random = np.random.default_rng(4)
    general, answers = log_probs(random, 6, 5), log_probs(random, 2, 6, 5)
    table = sets(random, 2, 5)
    flat = solved(general, answers, table)
    shaped = solved(general.reshape(2, 3, 5), answers.reshape(2, 2, 3, 5), table)
    np.testing.assert_array_equal(shaped.log_probs.reshape(6, 5), flat.log_probs)
    assert shaped.asked.shape == (2, 3, 2)


def test_what_nobody_believes_in_keeps_a_logarithm():
    general = np.array([[0.0, -200.0, -1.0]], np.float32)
    answers = np.array([[[-150.0, 0.0, -150.0]]], np.float32)
    solution = solved(general, answers, np.array([[True, False, False]]), 3)
    assert np.isfinite(solution.log_probs).all()


def test_chunks_are_the_whole(monkeypatch):
    random = np.random.default_rng(5)
    general, answers = random.normal(size=(7, 6)), random.normal(size=(3, 7, 6))
    classes = ((0, 1), (1, 2, 3), (5,))
    whole = specialists.joint(general, answers, classes, top=2)
    monkeypatch.setattr(together, "_CHUNK", 3)
    parts = specialists.joint(general, answers, classes, top=2)
    np.testing.assert_allclose(parts.log_probs, whole.log_probs, atol=1e-6)
    assert parts.asked.tolist() == whole.asked.tolist()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"general": np.zeros((4, 3))}, "must be [n v] and [m n v]"),
        ({"special": np.zeros((1, 4, 5))}, "1 specialists and 2 sets"),
        ({"special": np.full((2, 4, 5), np.nan)}, "must be finite"),
        ({"classes": ((0,), ())}, "specialist 1 has no class"),
        ({"classes": ((0,), (5,))}, "specialist 1 has the class 5, and classes are 0 to 4"),
        ({"top": 0}, "top must be 1 or more of 5 classes, got 0"),
        ({"top": 6}, "top must be 1 or more of 5 classes, got 6"),
    ],
)
def test_what_does_not_fit_is_refused(changes, words):
    told = {
        "general": np.zeros((4, 5)),
        "special": np.zeros((2, 4, 5)),
        "classes": ((0,), (1, 2)),
        "top": 1,
        **changes,
    }
    with pytest.raises(KdError) as refused:
        specialists.joint(told["general"], told["special"], told["classes"], top=told["top"])
    assert words in str(refused.value)
