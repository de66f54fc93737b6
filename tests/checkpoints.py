"""A folder of checkpoints, and states to put into it."""

import contextlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np

from kd.training import loop
from kd.training.checkpoint import Checkpoints


def tree(step):
    """Every kind of leaf that a state holds."""
    random = np.random.default_rng(step)
    kernel = jnp.asarray(random.normal(size=(3, 4)), jnp.float32)
    return {
        "step": jnp.int32(step),
        "params": {
            "kernel": kernel,
            "half": kernel.astype(jnp.bfloat16),
            "odd": jnp.asarray([0.0, -0.0, jnp.inf]),
        },
        "extra": {},
        "opt_state": (kernel * 2, ()),
        "key": jax.random.split(jax.random.key(step), 2),
    }


def bits(value):
    def raw(leaf):
        return (
            jax.random.key_data(leaf)
            if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
            else leaf
        )

    leaves, structure = jax.tree.flatten(value)
    return structure, [(leaf.dtype, leaf.shape, np.asarray(raw(leaf)).tobytes()) for leaf in leaves]


class Folder:
    """Checkpoints in a folder, opened anew for every call, as a restarted run does; what they say
    is in `said`.
    """

    opened = staticmethod(Checkpoints)

    def __init__(self, path):
        self.path, self.said = path, []

    @contextlib.contextmanager
    def open(self, **options):
        checkpoints = self.opened(self.path, self.said.append, **options)
        yield checkpoints
        checkpoints.close()

    def save(self, *steps):
        with self.open() as checkpoints:
            for step in steps:
                checkpoints.save(step, tree(step))
        return self

    def restore(self):
        with self.open() as checkpoints:
            return checkpoints.restore(tree(0))

    def steps(self):
        return sorted(int(path.name) for path in (self.path / "steps").iterdir())


def stopped_and_not(task, folder):
    """How a run of 6 steps ends, and how it ends once its last checkpoint is taken away and it goes
    on from the one before.
    """
    ends = []
    for _ in range(2):
        kept = Checkpoints(folder)
        ends.append(loop.run(task, cadence=loop.Cadence(2, checkpoint=2), checkpoints=kept))
        kept.close()
        shutil.rmtree(folder / "steps" / "6")
    return ends
