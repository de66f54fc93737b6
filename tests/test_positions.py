"""An answer for every token: identities stay whole, padding counts for nothing, and a teacher of
positions is a teacher like any other.
"""

import json

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

import kd
import runs
import tiny
from kd import data as kd_data
from kd.errors import KdError
from kd.models import linen
from kd.teachers.answers import answers
from kd.training import loop
from tagger import Tagger

IDS = st.integers(0, 2**31 - 1)
SEQUENCES = {
    "data": {
        "source": "sequences:8",
        "train": "train[:400]",
        "eval": "test[:100]",
        "batch_size": 40,
    },
    "student": {"name": "tagger:tagger", "width": 24},
    "total_steps": 300,
    "optim": {"name": "adam", "learning_rate": 0.01},
    "log_steps": 50,
}


def echo():
    """A model whose logits are its inputs, to see what it sees."""

    def apply(params, extra, inputs, train=False, key=None):
        del train, key
        low, high = inputs % 2**15, inputs // 2**15  # float32 holds both exactly
        return kd.Outputs(jnp.stack([low, high], -1).astype(jnp.float32) + 0 * params), extra

    return kd.Model(lambda *_: (jnp.zeros(()), {}), apply)


@hypothesis.settings(max_examples=10, deadline=None)
@hypothesis.given(st.lists(st.lists(IDS, min_size=3, max_size=3), min_size=2, max_size=5))
def test_an_identity_is_one_number_wherever_it_is_seen(rows):
    """In memory, in a stream, in a window, as the first example, in a prediction."""
    ids = np.asarray(rows)
    data = kd.arrays(ids, num_classes=2, ids=True, positions=(3,))
    packed = kd.arrays(
        ids.reshape(-1),
        num_classes=2,
        ids=True,
        positions=(3,),
        starts=3 * np.arange(len(ids)),
        window=3,
    )
    for examples in (data, packed, kd_data.as_stream(data), kd_data.as_stream(packed)):
        assert examples.first.dtype == np.int32
        trained = kd.Trained(echo(), jnp.zeros(()), {})
        low, high = np.moveaxis(trained.logits(examples), -1, 0).astype(np.int64)
        np.testing.assert_array_equal(low + 2**15 * high, ids)
    np.testing.assert_array_equal(data.first, ids[:1])
    batch = kd_data.gather(kd_data.to_device(data), jnp.arange(len(ids)))
    assert batch["inputs"].dtype == jnp.int32
    assert batch["weight"].shape == ids.shape


HARD = (kd.term("hard"),)


def fit(data, terms=HARD, **options):
    usual = {"epochs": 10, "batch_size": 40, "seed": 1, "title": "tokens"}
    return kd.fit(Tagger(5, 24), data, list(terms), **{**usual, **options})


def sequences(rows=200):
    return kd.load("sequences:8", f"train[:{rows}]")


def test_what_is_padding_counts_for_nothing():
    """Labels of padding may be anything; and only weights that are 0 say what padding is."""
    data = sequences()
    assert 0.1 < (data.weights == 0).mean() < 0.4
    odd = np.where(data.weights == 0, 4, data.labels)
    other = kd.arrays(
        data.inputs, odd, num_classes=5, weights=data.weights, ids=True, positions=(8,)
    )
    counted = kd.arrays(data.inputs, odd, num_classes=5, ids=True, positions=(8,))
    models = [fit(examples, epochs=2) for examples in (data, other, counted)]
    leaves = [jax.tree.leaves(model.params) for model in models]
    assert all((a == b).all() for a, b in zip(leaves[0], leaves[1], strict=True))
    assert any((a != b).any() for a, b in zip(leaves[0], leaves[2], strict=True))
    assert models[0].errors(data) == models[0].errors(other) < models[0].errors(counted)


def test_a_missing_label_of_a_position_is_no_padding():
    """The teacher still teaches there; a term that reads labels does not."""
    data = sequences()
    some = np.where(np.arange(8) % 2, -1, data.labels)
    missing = kd.arrays(
        data.inputs, some, num_classes=5, weights=data.weights, ids=True, positions=(8,)
    )
    assert missing.partly_labelled
    batch = kd_data.example_batch(missing, 4)
    assert batch["labelled"].shape == (4, 8)
    teacher = fit(data, epochs=2)
    soft = (kd.term("soft_targets"),)
    whole, part = (
        fit(examples, soft, teacher=teacher.teacher(), epochs=2) for examples in (data, missing)
    )
    for a, b in zip(jax.tree.leaves(whole.params), jax.tree.leaves(part.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert part.errors(missing) < part.errors(data)


def test_a_stream_of_sequences_trains_as_memory_does():
    """With padding, which weighs 0."""
    task = tiny.task(Tagger(5, 24), HARD, data=sequences(), teacher=None)
    streamed = tiny.task(Tagger(5, 24), HARD, data=kd_data.as_stream(sequences()), teacher=None)
    ends = [loop.run(run) for run in (task, streamed)]
    tiny.close(ends[0].params, ends[1].params, rtol=1e-5)
    assert tiny.differ(ends[0].params, loop.initial_state(task).params)


def test_live_and_kept_answers_of_positions_are_the_same():
    data, teacher = sequences(), fit(sequences())
    kept = kd.precompute(teacher.teacher(), data)
    assert kept.manifest.positions == (8,)
    live = answers(teacher.teacher(), data)
    np.testing.assert_allclose(answers(kept, data).logits, live.logits, rtol=1e-6, atol=1e-6)
    terms = (kd.term("hard", 0.5), kd.term("soft_targets", temperature=2.0))
    students = [fit(data, terms, teacher=source) for source in (kept, teacher.teacher())]
    test = kd.load("sequences:8", "test[:100]")
    np.testing.assert_allclose(
        *(student.logits(test) for student in students), rtol=1e-3, atol=1e-3
    )
    table = kd.soft_labels(logits=live.logits, data=data)
    again = fit(data, terms, teacher=table)
    np.testing.assert_allclose(again.logits(test), students[0].logits(test), rtol=1e-3, atol=1e-3)


def test_packed_text_is_the_sequences_that_it_holds():
    """Windows of one row of tokens, overlapping or not, teach as the stacked sequences do."""
    tokens = np.random.default_rng(0).integers(0, 16, 400)
    starts = np.arange(0, 390, 5)
    stacked = np.stack([tokens[s : s + 8] for s in starts])
    labels = stacked % 5
    told = {"num_classes": 5, "ids": True, "positions": (8,)}
    packed = kd.arrays(tokens, labels, starts=starts, window=8, **told)
    ends = [
        fit(data, epochs=3, batch_size=20) for data in (packed, kd.arrays(stacked, labels, **told))
    ]
    for a, b in zip(*(jax.tree.leaves(end.params) for end in ends), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"ids": True, "positions": (4,)},
            r"each example has \[4\] positions, so labels are classes",
        ),
        ({"ids": True, "positions": (0,)}, "positions must be the shape of an example's answers"),
        ({"ids": True, "positions": (8,), "weights": np.ones(3)}, r"each of the 24 positions"),
        ({"ids": True, "positions": (8,), "scale": 0.5}, "inputs are identities, and a scale"),
        ({"positions": (8,), "targets": "binary"}, "so labels are classes"),
    ],
)
def test_what_does_not_fit_is_said(options, said):
    with pytest.raises(KdError, match=said):
        kd.arrays(np.zeros((3, 8), np.int32), np.zeros((3, 8), int), num_classes=2, **options)
    with pytest.raises(KdError, match="ids must be whole numbers of 0 or more"):
        kd.arrays(np.full((3, 8), -1), num_classes=2, ids=True)


def test_a_model_of_another_shape_is_refused_before_the_first_step():
    data = kd.arrays(sequences().inputs, np.zeros(200, int), num_classes=5, ids=True)
    with pytest.raises(KdError, match="the student answers for positions"):
        fit(data)


def test_from_the_command_line(tmp_path, capsys):
    """A teacher of positions, its student, and what it says of held-out sequences."""
    hard = {"objective": {"hard": {}}, **SEQUENCES}
    assert runs.train(tmp_path / "teacher", **hard) == 0
    soft = {"hard": {"weight": 0.5}, "soft_targets": {"temperature": 2.0}}
    keys = {**SEQUENCES, "objective": soft, "teacher": {"workdir": str(tmp_path / "teacher")}}
    assert runs.train(tmp_path / "student", **keys) == 0
    capsys.readouterr()
    run = json.loads((tmp_path / "student" / "run.json").read_text())
    assert run["inputs"]["ids"] is True
    (member,) = json.loads((tmp_path / "student" / "evaluation.json").read_text())["members"]
    assert member["accuracy"] > 0.9
    assert any("agreement" in line for line in runs.lines(tmp_path / "student"))
    assert runs.main(["eval", f"--workdir={tmp_path / 'student'}", "--allow_code=tagger"]) == 0
    assert "accuracy" in capsys.readouterr().out
    refused = {**SEQUENCES, "objective": {"hard": {}}, "student": {"name": "mlp"}}
    assert runs.train(tmp_path / "mlp", **refused) == 2
    assert "positions" in capsys.readouterr().err


def test_an_audit_is_about_one_answer_an_example():
    data = sequences(40)
    with pytest.raises(KdError, match="one answer for each example"):
        kd.audit(fit(data, epochs=1), fit(data, epochs=1), data)


def test_an_npz_file_says_so_itself(tmp_path):
    data = sequences(20)
    np.savez(
        tmp_path / "tokens.npz",
        train_inputs=data.inputs,
        train_labels=data.labels,
        train_weights=data.weights,
        num_classes=5,
        ids=1,
        positions=[8],
    )
    assert kd.load("npz:tokens.npz", "train", tmp_path).fingerprint == data.fingerprint


def test_a_linen_module_of_tokens_needs_no_adapter():
    assert linen(Tagger(5, 8)).init(jax.random.key(0), jnp.zeros((1, 8), jnp.int32))
