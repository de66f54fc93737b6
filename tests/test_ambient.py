"""The numbers of a run are those of its config, whatever JAX's environment says around it."""

import contextlib
import functools
import os
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kd
import runs
import tiny
from kd.auditing.evaluate import evaluate_workdir
from kd.core import rng
from kd.errors import KdError
from kd.teachers.make import precomputed
from kd.training.checkpoint import Checkpoints


@contextlib.contextmanager
def offset(value):
    before = jax.config.jax_random_seed_offset
    jax.config.update("jax_random_seed_offset", value)
    try:
        yield
    finally:
        jax.config.update("jax_random_seed_offset", before)


VARIABLES = {
    "JAX_ENABLE_X64": "1",
    "JAX_DEFAULT_PRNG_IMPL": "rbg",
    "JAX_THREEFRY_PARTITIONABLE": "0",
    "JAX_NUMPY_DTYPE_PROMOTION": "strict",
    "JAX_RANDOM_SEED_OFFSET": "7",
}


@contextlib.contextmanager
def elsewhere():
    """All that `VARIABLES` say, within this process."""
    with (
        jax.enable_x64(True),
        jax.default_prng_impl("rbg"),
        jax.threefry_partitionable(False),
        jax.numpy_dtype_promotion("strict"),
        offset(7),
    ):
        yield


def distilled(workdir):
    """A population that draws weights, dropout and shifts, and has a live teacher."""
    keys = {"teacher__workdir": runs.finished(), "checkpoint_epochs": 1}
    return runs.kd("train", f"--workdir={workdir}", arg="population", **keys)


@functools.cache
def plain(make):
    """A run in JAX's default environment, shared: nobody may change it."""
    folder = make("plain") / "run"
    assert runs.main(distilled(folder)) == 0
    return folder


def test_a_run_begun_or_resumed_elsewhere_ends_with_the_same_bytes(tmp_path, tmp_path_factory):
    whole = plain(tmp_path_factory.mktemp)
    begun, resumed = tmp_path / "begun", tmp_path / "resumed"
    shutil.copytree(whole, resumed)
    shutil.rmtree(resumed / "checkpoints" / "steps" / "6")
    (resumed / "evaluation.json").unlink()
    with elsewhere():
        for folder in (begun, resumed):
            assert runs.main(distilled(folder)) == 0
    for folder in (begun, resumed):
        runs.same_bytes(whole, folder)


def test_the_environment_of_the_process_is_no_part_of_a_run(tmp_path, tmp_path_factory):
    done = command(distilled(tmp_path / "run"), VARIABLES)
    assert done.returncode == 0, done.stderr
    runs.same_bytes(plain(tmp_path_factory.mktemp), tmp_path / "run")


def library():
    """What a fit, its logits, its answers as a teacher, and an audit hold, as bytes."""
    data = tiny.dataset()
    options = {"epochs": 1, "batch_size": 16}
    taught = kd.fit(tiny.WIDE, data, [kd.term("hard")], population={"seed": (0, 1)}, **options)
    logits = np.float64(taught.logits(data))  # of a type that only x64 keeps
    table = kd.precompute(taught.teacher("geometric"), data)
    student = kd.fit(tiny.DROPPING, data, [kd.term("soft_targets")], teacher=table, **options)
    fixed = precomputed(logits, average="arithmetic")
    other = kd.fit(tiny.PLAIN, data, [kd.term("soft_targets")], teacher=fixed, **options)
    trees = jax.tree.leaves((taught.params, student.params, other.params, table.variables))
    assert {leaf.dtype for leaf in trees} == {np.dtype("float32")}
    audited = kd.audit(taught, student, data)
    return [np.asarray(leaf).tobytes() for leaf in trees], audited


@functools.cache
def plain_library():
    return library()


def test_the_library_answers_alike():
    with elsewhere():
        assert library() == plain_library()


def test_evaluations_are_alike(tmp_path_factory):
    student = plain(tmp_path_factory.mktemp)
    there = evaluate_workdir(student)
    with elsewhere():
        assert evaluate_workdir(student) == there


@given(st.integers(0, 2**31 - 1), st.integers(0, 99))
def test_the_key_of_a_seed_names_how_it_draws(seed, added):
    wanted = jax.random.key_data(jax.random.key(seed, impl="threefry2x32")).tolist()
    with offset(added), jax.default_prng_impl("rbg"):
        key = rng.key(seed)
        assert jax.random.key_data(key).tolist() == wanted
        assert str(jax.random.key_impl(key)) == "threefry2x32"


def test_what_the_caller_has_set_stays_around_a_call():
    with jax.enable_x64(True):
        kd.fit(tiny.PLAIN, tiny.dataset(), [kd.term("hard")], epochs=0.1, batch_size=16)
        assert jax.numpy.ones(1, "float64").dtype == "float64"


def test_a_checkpoint_of_keys_of_another_kind_is_refused_in_a_line(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {"key": jax.random.key(0, impl="rbg")})
    with pytest.raises(KdError, match=r"step 1 .* threefry2x32 .* --workdir"):
        checkpoints.restore({"key": rng.key(0)})
    checkpoints.close()


def command(arguments, variables):
    return subprocess.run(
        [sys.executable, "-m", "kd.cli", *arguments],
        cwd=runs.ROOT,
        env={**runs.environment(1), **variables, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_devices_that_are_not_there_are_a_line(tmp_path):
    done = command(distilled(tmp_path), {"JAX_PLATFORMS": "cuda"})
    assert done.returncode == 2
    assert done.stderr.startswith("kd: JAX_PLATFORMS=cuda")
    assert len(done.stderr.splitlines()) == 1


def test_programs_are_compiled_and_arrays_are_moved_whatever_is_said_around(tmp_path):
    with jax.disable_jit(True), jax.transfer_guard("disallow"):
        assert runs.train(tmp_path / "run", checkpoint_epochs=1) == 0
        assert jax.config.jax_disable_jit
    runs.same_bytes(runs.finished(), tmp_path / "run")
