"""``kd accuse``: controls trained in chunks, a student that is found, and what is refused."""

import json
import re

import jax
import numpy as np
import pytest

import runs
from kd.errors import KdError
from kd.lineage import DataSet, Lineage, Weights
from kd.provenance import answers_of
from kd.provenance.controls import chunks_of, control_seeds, train_controls
from kd.provenance.tables import table_answers
from kd.provenance.witnesses import Witness, check_controls, controls
from kd.provenance.workdirs import accuse_workdirs
from kd.runs import find, load_finished
from kd.runs.splits import open_split

LEVEL = 0.25  # which three controls reach
CHUNK = "controls/controls-00000"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A teacher, its student, and four controls in two chunks."""
    folder = tmp_path_factory.mktemp("accuse")
    assert runs.train(folder / "teacher") == 0
    taught = {"teacher__source": f"run:{folder / 'teacher'}", "objective__hard": "none"}
    longer = {"total_steps": 60, "seed": 5, "optim__learning_rate": 0.3}
    assert runs.train(folder / "student", arg="distilled", **taught, **longer) == 0
    missed, said = [], []

    def listen(event, **_):
        if event == "/jax/compilation_cache/cache_misses":
            missed.append(len(said))

    jax.monitoring.register_event_listener(listen)
    train_controls(folder / "teacher", folder / "controls", 4, most=2, say=said.append)
    jax.monitoring.unregister_event_listener(listen)
    (folder / "compiled.json").write_text(json.dumps({"missed": missed, "said": said}))
    return folder


def accuse(place, suspect="student", teachers=("teacher",), pool=("controls",), **options):
    names = [str(place / name) if ":" not in name else name for name in (suspect, *teachers, *pool)]
    split = 1 + len(teachers)
    return accuse_workdirs(names[0], names[1:split], names[split:], **{"level": LEVEL, **options})


def test_a_chunk_size_is_compiled_once(place):
    """What the second chunk needs is there: nothing that is compiled knows a seed."""
    told = json.loads((place / "compiled.json").read_text())
    assert [line.partition(":")[0] for line in told["said"][1:]] == [
        "controls 1 of 2",
        "controls 2 of 2",
    ]
    assert [when for when in told["missed"] if when > 1] == []


def test_chunks_are_one_population(place, tmp_path):
    """Chunks of any size hold the same models, and what is finished is not trained again."""
    said = []
    train_controls(place / "teacher", place / "controls", 4, most=2, say=said.append)
    assert [line.rpartition(": ")[2] for line in said[1:]] == ["were there"] * 2
    (whole,) = train_controls(place / "teacher", tmp_path / "whole", 4)
    parts = [load_finished(place / "controls" / f"controls-{i:05d}").params for i in (0, 1)]
    together = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
        together,
        load_finished(whole).params,
    )


def test_chunks_fit_the_limit_and_are_even(place):
    spec = find(place / "teacher").spec
    control = 2 * 3 * 4 * (64 * 8 + 8 + 8 * 10 + 10)  # twice parameters, gradients, momentum
    data = 120 * (64 + 8 + 8)
    sizes = [chunks_of(spec, 10, memory=data + k * control + 400) for k in (1, 3, 5, 50)]
    assert [chunks.size for chunks in sizes] == sorted(chunks.size for chunks in sizes)
    for chunks, k in zip(sizes, (1, 3, 5, 50), strict=True):
        assert chunks.size <= k
        assert 10 <= chunks.models < 10 + chunks.count
    with pytest.raises(KdError, match=r"one control keeps .* raise it"):
        chunks_of(spec, 10, memory=1000)
    assert not set(control_seeds(spec, 5)) & {spec.seed}


def test_a_student_is_found_and_a_control_is_not(place, tmp_path):
    told = accuse(place)
    assert told.accused == (str(place / "teacher"),)
    assert told.against[0].p == 1 / 5
    chunk = place / CHUNK
    alone = accuse_workdirs(
        str(chunk),
        [str(place / "teacher")],
        [str(place / "controls" / "controls-00001")],
        member=0,
        level=0.4,
    )
    assert alone.suspect == f"member 0 of {chunk}"
    assert alone.controls == 2


def test_the_command_answers_with_a_sentence_and_a_page(place, capsys, tmp_path):
    named = [f"--teacher={place / 'teacher'}", f"--controls={place / 'controls'}"]
    options = [f"--level={LEVEL}", f"--out={tmp_path}", "--queries=50"]
    assert runs.main(["accuse", str(place / "student"), *named, *options]) == 0
    out = capsys.readouterr().out
    assert "Under independence, of 5 models like these, 1 would look as close to" in out
    assert "one more draw of what the controls are drawn from" in out
    page = (tmp_path / "accusation.html").read_text()
    assert "What would make this invalid" in page
    assert page.count("data:image/svg+xml") == 1
    assert json.loads((tmp_path / "accusation.json").read_text())["queries"] == 50
    for text in (out, page):
        assert not re.search(r"\bpro(ves?|ven|ved|ofs?)\b", text, re.IGNORECASE)


@pytest.fixture(scope="module")
def data(place):
    spec = find(place / "teacher").spec
    return open_split(spec, spec.data.eval)


@pytest.mark.parametrize("ending", ["npz", "npy", "csv"])
def test_a_table_of_answers_is_the_model_that_gave_them(data, tmp_path, ending):
    """Of logits, and of labels alone."""
    logits = np.random.default_rng(0).normal(size=(60, 10)).astype(np.float32)
    labels = logits.argmax(axis=-1)
    file, few = tmp_path / f"answers.{ending}", tmp_path / f"labels.{ending}"
    if ending == "npz":
        np.savez(file, logits=logits)
        np.savez(few, labels=labels)
    elif ending == "npy":
        np.save(few, labels)
    else:
        few.write_text("label\n" + "\n".join(map(str, labels)))
    told = table_answers(few, data)
    assert told.log_probs is None
    np.testing.assert_array_equal(told.labels, labels)
    if file.exists():
        ours, theirs = answers_of(logits, "it"), table_answers(file, data)
        np.testing.assert_array_equal(theirs.labels, labels)
        np.testing.assert_allclose(theirs.log_probs, ours.log_probs, atol=1e-5)


def test_controls_of_a_table(data, tmp_path):
    logits = np.random.default_rng(0).normal(size=(3, 60, 10)).astype(np.float32)
    np.savez(tmp_path / "logits.npz", logits=logits)
    np.savez(tmp_path / "labels.npz", labels=logits.argmax(axis=-1))
    for kind in ("logits", "labels"):
        pool = list(controls(f"table:{tmp_path / kind}.npz", data, {}))
        for control, values in zip(pool, logits, strict=True):
            np.testing.assert_array_equal(control.answers.labels, values.argmax(axis=-1))
            assert (control.answers.log_probs is None) == (kind == "labels")


def test_a_probe_set_that_somebody_trained_on_is_warned_of(place):
    assert accuse(place).warnings == ()
    (warning,) = accuse(place, split="train[100:160]").warnings
    assert "was trained on examples of the probe set train[100:160]" in warning


def test_bad_input_is_one_line(place):
    def refused(message, suspect="student", **options):
        with pytest.raises(KdError, match=message):
            accuse(place, suspect, **options)

    refused("a level of 0.01 takes 99 controls or more, and there are 4", level=0.01)
    refused(r"teacher has the very weights of .*teacher", pool=("teacher",))
    refused("is a population of 2 models; name one of them with --member=0", CHUNK)
    refused(r"queries must be 1 or more, and no more than .* 60; got 61", queries=61)
    refused("is not a work directory", "nobody")
    refused("--member changes nothing", "table:answers.npz", member=1)
    refused("name who may have taught", teachers=())


def model(name, digest="", fingerprint="", train="", taught_by=""):
    """A witness of whom this is recorded; nothing, without `train`."""
    if not train:
        return Witness(name, answers_of(np.zeros((2, 2)), name), digest, fingerprint)
    teacher = Weights("run:x", taught_by, "d") if taught_by else None
    lineage = Lineage((DataSet("digits", "", train, {}),), {}, {}, teacher)
    return Witness(name, answers_of(np.zeros((2, 2)), name), digest, fingerprint, lineage)


SUSPECT, TEACHER = model("S", "s", "S1", "a"), model("T", "t", "T1", "a")


def test_what_is_no_control_is_refused():
    def refused(message, control, suspect=SUSPECT, teacher=TEACHER):
        with pytest.raises(KdError, match=message):
            check_controls([control], suspect, [teacher])

    assert check_controls([model("C", "c", "C1", "a")], SUSPECT, [TEACHER]) == ()
    refused("C has the very weights of S", model("C", "s", "C1", "a"))
    refused("C has the very weights of T", model("C", "t", "C1", "a"))
    refused("C was taught by T", model("C", "c", "C1", "a", taught_by="T1"))
    refused(r"C was trained on other data \(b\) than T \(a\)", model("C", "c", "C1", "b"))
    silent = check_controls([model("C")], SUSPECT, [model("T")])
    assert len(silent) == 2
    assert "nothing is recorded of the data of T" in silent[0]
    assert "nothing is recorded of the data of the controls" in silent[1]


def test_bad_answers_in_a_table_are_one_line(data, tmp_path):
    np.save(tmp_path / "few.npy", np.zeros(9, int))
    np.save(tmp_path / "wide.npy", np.full(60, 10))
    np.savez(tmp_path / "classes.npz", logits=np.zeros((60, 7)))
    np.savez(tmp_path / "pool.npz", logits=np.zeros((60, 10)))
    messages = {
        "few.npy": "holds 9 labels and the probe set has 60",
        "wide.npy": "labels that are no classes",
        "classes.npz": "answers with 7 classes and the probe set has 10",
        "none.npy": "no table of answers",
    }
    for name, message in messages.items():
        with pytest.raises(KdError, match=message):
            table_answers(tmp_path / name, data)
    with pytest.raises(KdError, match=r"answers to 60 examples are \[m 60 v\]"):
        list(controls(f"table:{tmp_path / 'pool.npz'}", data, {}))
