"""A loss that compares the examples of a batch with each other has no value of a part of it."""

import jax.numpy as jnp
import pytest

import kd
import runs
import tiny
from kd.core.losses import LOSSES
from kd.errors import KdError
from kd.placement.mesh import MeshSpec
from kd.training import loop


def spread(student, teacher, batch, hparams):
    """How far each example lies from the mean of the batch, padding left out."""
    del teacher, hparams
    weight = batch["weight"][:, None]
    mean = jnp.sum(weight * student.logits, axis=0, keepdims=True) / jnp.sum(weight)
    return jnp.sum((student.logits - mean) ** 2, axis=-1)


INFO = kd.LossInfo(spread, needs=("whole batch",))


def task(term, **options):
    return tiny.task(terms=(term,), mesh=MeshSpec(devices=1), **options)


def test_it_refuses_accumulation():
    whole = task(kd.term(INFO), teacher=None)
    loop.check(whole)
    parts = task(kd.term(INFO), teacher=None, accumulate=2)
    with pytest.raises(KdError, match=r"objective\.spread compares .* accumulate=2 cuts it"):
        loop.check(parts)


def test_the_command_line_says_so_before_it_reads_data(tmp_path, capsys):
    keys = {"objective": {"spread": {"loss": "test_whole_batch:INFO"}}, "accumulate": 2}
    assert runs.train(tmp_path / "run", data__source="folder:/nowhere", **keys) == 2
    said = capsys.readouterr().err
    assert "accumulate=2 cuts it into parts" in said
    assert len(said.strip().splitlines()) == 1


@pytest.mark.parametrize("name", sorted(n for n, info in LOSSES.items() if info.whole_batch))
def test_every_loss_that_says_so_is_refused_in_parts(name):
    whole = kd.term(name, taps=dict.fromkeys(LOSSES[name].taps, "Dense_0"))
    with pytest.raises(KdError, match=rf"objective\.{name} compares"):
        loop.check(task(whole, accumulate=4))
