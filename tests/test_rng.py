"""Laws of the random streams: a function of (seed, step, name) and of nothing else."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from kd.core.rng import stream


def bits(key):
    return tuple(np.asarray(jax.random.key_data(key)).tolist())


def test_the_same_three_give_the_same_stream():
    assert bits(stream(jax.random.key(3), 7, "view")) == bits(stream(jax.random.key(3), 7, "view"))


def test_another_seed_step_or_name_gives_another_stream():
    keys = {
        bits(stream(jax.random.key(seed), step, name))
        for seed, step, name in itertools.product(
            range(5), range(20), ["view", "dropout", "init", ""]
        )
    }
    assert len(keys) == 5 * 20 * 4


def test_a_stream_does_not_depend_on_the_streams_drawn_before():
    key = jax.random.key(0)
    first = bits(stream(key, 5, "view"))
    for step in range(5):
        jax.random.normal(stream(key, step, "dropout"))
    assert bits(stream(key, 5, "view")) == first


def test_traced_steps_and_members_draw_what_eager_ones_draw():
    keys = jax.vmap(jax.random.key)(jnp.arange(3))
    mapped = jax.jit(jax.vmap(lambda key, step: stream(key, step, "view"), in_axes=(0, None)))(
        keys, jnp.int32(9)
    )
    assert [bits(key) for key in mapped] == [
        bits(stream(jax.random.key(seed), 9, "view")) for seed in range(3)
    ]
