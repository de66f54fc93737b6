"""Laws of maps between class lists: a permutation and back is nothing, a part is renormalised."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kd
import reference
import runs
import tiny
from kd.cli.main import main
from kd.config import resolve
from kd.errors import KdError
from kd.teachers.classes import of_classes

DATA = tiny.dataset()
Z = 3 * np.random.default_rng(0).normal(size=(64, 7)).astype(np.float32)
P = reference.softmax(Z, 1.0)
FIVE = (6, 0, 3, 2, 5)


def probs(teacher, temperature=2.0):
    batch = tiny.batch()
    return np.exp(teacher.apply(teacher.variables, batch).log_probs(temperature))


def live(logits):
    """A teacher that is computed in the step, of these answers."""
    return kd.Teacher(jnp.asarray(logits), lambda table, batch: kd.Outputs(table[batch["index"]]))


@given(order=st.permutations(range(7)))
def test_a_permutation_and_back_is_nothing(order):
    back = tuple(int(place) for place in np.argsort(order))
    permuted = live(Z[:, list(order)])
    np.testing.assert_array_equal(probs(of_classes(permuted, back)), probs(live(Z)))


def test_every_kind_of_teacher_teaches_a_part_alike(tmp_path):
    wanted = live(Z[:, list(FIVE)])
    rows = np.asarray(tiny.batch()["index"])
    part = P[rows][:, list(FIVE)] ** 0.5
    np.testing.assert_allclose(probs(wanted), part / part.sum(-1, keepdims=True), rtol=1e-4)
    names = [f"c{k}" for k in range(7)]
    np.savez(tmp_path / "p.npz", probabilities=P, class_names=names)
    table = f"table:{tmp_path / 'p.npz'}"
    by_row = {row.tobytes(): k for k, row in enumerate(DATA.inputs)}
    ask = {"data": DATA, "classes": FIVE}
    teachers = [
        of_classes(live(Z), FIVE),
        kd.teacher(table, **ask),
        kd.teacher(table, data=DATA, classes=[names[k] for k in FIVE]),
        kd.teacher(lambda x: Z[[by_row[row.tobytes()] for row in x]], **ask),
        kd.teacher(lambda x: P[[by_row[row.tobytes()] for row in x]], kind="probabilities", **ask),
    ]
    for teacher in teachers:
        np.testing.assert_allclose(probs(teacher), probs(wanted), rtol=1e-4, atol=1e-6)


def test_classes_that_the_teacher_lacks_are_refused(tmp_path):
    np.savez(tmp_path / "p.npz", probabilities=P, class_names=[f"c{k}" for k in range(7)])
    np.save(tmp_path / "certain.npy", np.eye(7)[np.arange(64) % 7])
    table = f"table:{tmp_path / 'p.npz'}"
    certain = f"table:{tmp_path / 'certain.npy'}"
    for source, options, words in (
        (table, {"classes": (0, 1, 2, 3, 7)}, "names class 7"),
        (table, {"classes": ("c1", "c9")}, "unknown class"),
        (table, {"classes": (0, 0, 1, 2, 3)}, "each once"),
        (table, {"classes": (-1, 0)}, "classes of the teacher"),
        (lambda x: Z[: len(x)], {"classes": ("c1",)}, "a function has not"),
        (certain, {"classes": (0, 1), "kind": "probabilities"}, "in row 2"),
    ):
        with pytest.raises(KdError, match=words):
            kd.teacher(source, data=DATA, **options)
    terms, lacking = [kd.term("soft_targets")], of_classes(live(Z), (0, 1, 2, 3, 9))
    with pytest.raises(KdError, match="names class 9"):
        kd.fit(tiny.PLAIN, DATA, terms, teacher=lacking, epochs=1, batch_size=16)
    soft = {"objective": {"soft_targets": {}}, "total_steps": 3}
    with pytest.raises(KdError, match="a function has not"):
        resolve({**soft, "teacher": {"source": "mine:answer", "classes": ("cat", "dog")}})


def test_a_run_teaches_its_classes_in_the_order_that_is_asked_for(tmp_path, capfd):
    def train(name, *order):
        keys = {"teacher__source": f"run:{runs.finished()}", "objective__hard": "none"}
        keys |= {"teacher__classes": str(order)} if order else {}
        assert runs.train(tmp_path / name, arg="distilled", **keys) == 0
        return runs.losses(tmp_path / name)

    assert train("same", *range(10)) == pytest.approx(train("plain"), rel=1e-6)
    assert train("other", *range(9, -1, -1)) != pytest.approx(runs.losses(tmp_path / "plain"))
    assert main(["eval", f"--workdir={tmp_path / 'other'}"]) == 0
