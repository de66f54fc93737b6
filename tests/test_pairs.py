"""Laws of paired teachers: each student of a population learns from a teacher of its own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kd
import runs
import tiny
from kd.auditing.evaluate import evaluate_workdir
from kd.errors import KdError
from kd.placement.mesh import MeshSpec
from kd.teachers.trained import Trained, precompute
from kd.training import loop

ONE = MeshSpec(devices=1)
PAIRS = (2, 0, 2)
TEACHERS = Trained(tiny.WIDE, tiny.members(), {}, members=True)


def fit(teacher, seeds):
    """Six steps of a population, or of a single run where `seeds` is a number."""
    members = tiny.members_of(seed=seeds)
    task = tiny.task(members=members, steps=6, teacher=teacher, mesh=ONE)
    return loop.run(task).params


@pytest.mark.parametrize("cached", [False, True])
def test_each_student_is_the_one_that_its_own_teacher_makes_alone(cached):
    paired = TEACHERS.teacher(pairs=PAIRS)
    together = fit(precompute(paired, tiny.dataset()) if cached else paired, (5, 6, 7))
    for member, (seed, teacher) in enumerate(zip((5, 6, 7), PAIRS, strict=True)):
        alone = fit(tiny.teacher(teacher), seed)
        tiny.close(tiny.take(together, member), alone)
    strangers = fit(tiny.teacher(1), 5)
    assert tiny.differ(tiny.take(together, 0), strangers)


def test_live_and_precomputed_pairs_are_the_same():
    paired = TEACHERS.teacher(pairs=PAIRS)
    tiny.close(fit(paired, (5, 6, 7)), fit(precompute(paired, tiny.dataset()), (5, 6, 7)))


def test_pairs_that_do_not_fit_are_refused():
    with pytest.raises(KdError, match="2 teachers are paired with 3 students"):
        fit(TEACHERS.teacher(pairs=(0, 1)), (5, 6, 7))
    with pytest.raises(KdError, match="paired with teacher 3 and there are 3"):
        fit(TEACHERS.teacher(pairs=(0, 1, 3)), (5, 6, 7))
    with pytest.raises(KdError, match="paired with teacher -1 and there are 3"):
        fit(TEACHERS.teacher(pairs=(-1, 0, 1)), (5, 6, 7))
    with pytest.raises(KdError, match="only a population has several teachers"):
        Trained(tiny.PLAIN, jax.tree.map(jnp.asarray, tiny.take(tiny.members(), 0)), {}).teacher(
            pairs=(0,)
        )


def test_a_config_pairs_them_and_each_is_compared_with_its_own(tmp_path):
    teachers, students = tmp_path / "teachers", tmp_path / "students"
    assert runs.train(teachers, population__seed="(0,1,2)", total_steps=30) == 0
    columns = {"population__seed": "(3,3)", "population__teacher": "(0,2)"}
    assert runs.train(students, arg="distilled", teacher__workdir=teachers, **columns) == 0
    first, other = evaluate_workdir(students)["members"]
    assert first["held_out_kl"] != other["held_out_kl"]
    assert evaluate_workdir(students, teacher=str(teachers))["members"] == [
        first,
        other,
    ]  # named, it is no stranger
    together = [runs.restored(students)[key] for key in runs.restored(students) if "params" in key]
    assert any(np.any(leaf[0] != leaf[1]) for leaf in together)  # one seed, two teachers


def test_a_column_of_the_library_is_not_passed_over():
    columns = {"seed": (5, 6, 7), "teacher": (2, 0, 1)}
    for teacher in (None, TEACHERS.teacher(), TEACHERS.teacher(pairs=(0, 1, 2))):
        with pytest.raises(KdError, match=r"pass teacher=trained.teacher\(pairs=\(2, 0, 1\)\)"):
            kd.fit(tiny.PLAIN, tiny.dataset(), tiny.TERMS, teacher=teacher, population=columns)
