"""A task small enough to train in a test: images of 4x4, five classes, an MLP of one hidden
layer.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from kd import data as kd_data
from kd.core.members import make_members
from kd.core.objective import make_objective
from kd.core.optim import Optim, make_optimizer
from kd.core.state import init_state
from kd.core.step import make_train_step
from kd.core.terms import term
from kd.models import mlp
from kd.teachers import make as kd_teacher
from kd.training.task import make_task

CLASSES = 5
PLAIN = mlp(CLASSES, (8,))
DROPPING = mlp(CLASSES, (8,), 0.2, 0.5)
WIDE = mlp(CLASSES, (16,), 0.2, 0.5)  # the teacher, with dropout that evaluation must switch off
TERMS = (term("hard", 0.5), term("soft_targets", temperature=3.0))


def dataset(n=64, seed=0):
    random = np.random.default_rng(seed)
    return kd_data.arrays(random.normal(size=(n, 4, 4)).astype(np.float32), np.arange(n) % CLASSES)


def batch(rows=16, seed=0):
    data = dataset()
    order = np.random.default_rng(seed).permutation(len(data))[:rows].astype(np.int32)
    return dict(kd_data.gather(kd_data.to_device(data), jnp.asarray(order)))


@functools.cache
def members(model=WIDE, count=3):
    """Parameters of `count` models, stacked on a leading axis.

    Drawn by NumPy, which has nothing to compile.
    """
    random = np.random.default_rng(0)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 4, 4)))[0]
    return jax.tree.map(
        lambda leaf: jnp.asarray(random.normal(0, 0.3, (count, *leaf.shape)), jnp.float32), shapes
    )


def teacher(member=0):
    return kd_teacher.live(WIDE, take(members(), member))


def take(tree, rows):
    rows = np.asarray(rows) if isinstance(rows, list) else rows
    return jax.tree.map(lambda leaf: leaf[rows], tree)


def optimizer():
    return make_optimizer(Optim("sgd", momentum=0.9, weight_decay=1e-3))


def members_of(terms=TERMS, learning_rate=0.1, seed=3, **columns):
    """A single run, or a population where `columns`, seeds or rates are several."""
    for name, value in (("seed", seed), ("learning_rate", learning_rate)):
        if isinstance(value, (tuple, range)):
            columns = {name: value, **columns}
    single = [0 if isinstance(value, (tuple, range)) else value for value in (learning_rate, seed)]
    return make_members(terms, columns, *single)


def hparams(terms=TERMS, learning_rate=0.1):
    return members_of(terms, learning_rate).hparams


def task(model=PLAIN, terms=TERMS, members=None, **changes):
    """A task of seven steps, taught by one of the tiny teachers unless `changes` say otherwise."""
    usual = {"data": dataset(), "optimizer": optimizer(), "teacher": teacher(), "steps": 7}
    options = {**usual, "batch_size": 16, **changes}
    members = members_of(terms) if members is None else members
    return make_task(model, options.pop("data"), terms, members, **options)


@functools.cache
def _initialise(model):
    return jax.jit(lambda seed: init_state(model, optimizer(), seed, jnp.zeros((1, 4, 4))))


def state(model=PLAIN, seed=0):
    return _initialise(model)(seed)


def step(model=PLAIN, teacher=None, terms=TERMS, **options):
    return make_train_step(model, teacher, make_objective(terms), optimizer(), **options)


def close(got, wanted, rtol=1e-5, atol=1e-6):
    """Two trees hold the same numbers; random keys are compared by their data."""

    def numbers(leaf):
        return (
            jax.random.key_data(leaf)
            if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
            else leaf
        )

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(numbers(a), numbers(b), rtol, atol), got, wanted
    )


def differ(first, other):
    """True unless every number of two trees is the same."""
    return any(
        np.any(np.asarray(a) != np.asarray(b))
        for a, b in zip(*map(jax.tree.leaves, (first, other)), strict=True)
    )


def factors(function, *arguments):
    """Types of the two factors of every product of matrices in a function's program."""
    factors_of, programs = [], [jax.make_jaxpr(function)(*arguments).jaxpr]
    while programs:
        for equation in programs.pop().eqns:
            if equation.primitive.name == "dot_general":
                factors_of.append({str(factor.aval.dtype) for factor in equation.invars})
            inner = (getattr(value, "jaxpr", value) for value in equation.params.values())
            programs += [value for value in inner if hasattr(value, "eqns")]
    return factors_of
