"""Laws of labels that are yes or no, of one output or several, and of numbers."""

import json

import flax.linen as nn
import numpy as np
import pytest
import sklearn.metrics as peer
from scipy import stats

import kd
import runs
from kd import data as kd_data
from kd import evals
from kd.evals import binary

RANDOM = np.random.default_rng(0)
INPUTS = RANDOM.normal(size=(120, 6)).astype(np.float32)
WEIGHTS = RANDOM.normal(size=(6, 3))
SCORES = INPUTS @ WEIGHTS
YES = (SCORES > 0.3).astype(np.float32)


class Dense(nn.Module):
    outputs: int

    @nn.compact
    def __call__(self, inputs):
        return nn.Dense(self.outputs)(inputs)


@pytest.mark.parametrize("loss", ["soft_targets", "kl", "jsd", "logit_mse", "dist", "ttm"])
@pytest.mark.parametrize(
    ("labels", "instead"), [(YES, "soft_bce"), (SCORES, "soft_mse")], ids=["yes or no", "numbers"]
)
def test_what_compares_distributions_over_classes_teaches_classes_alone(loss, labels, instead):
    data = kd.arrays(INPUTS, labels)
    teacher = kd.soft_labels(logits=np.zeros((120, 3), np.float32), data=data)
    with pytest.raises(kd.KdError, match=rf"objective.{loss} compares .* take {instead}"):
        kd.fit(Dense(3), data, [kd.term(loss)], teacher=teacher, epochs=1)


def learnt(labels, loss, outputs, soft, **options):
    """Errors, or their like, of a student of labels, and of a student of that one's answers."""
    data, test = kd.arrays(INPUTS[:80], labels[:80]), kd.arrays(INPUTS[80:], labels[80:])
    how = {"epochs": 40, "batch_size": 20, "learning_rate": 0.1, **options}
    teacher = kd.fit(Dense(outputs), data, [kd.term(loss)], **how)
    unlabelled = kd.arrays(INPUTS[:80], num_classes=outputs)
    student = kd.fit(Dense(outputs), unlabelled, [soft], teacher=teacher.teacher(), **how)
    return teacher, student, test


def test_one_yes_or_no_is_learnt_and_distilled():
    teacher, student, test = learnt(YES[:, 0], "bce", 1, kd.term("soft_bce", temperature=2.0))
    assert teacher.errors(test) <= 4
    assert student.errors(test) <= 4
    np.testing.assert_allclose(student.logits(test), teacher.logits(test), atol=0.3)


def test_several_yes_or_no_are_learnt_and_distilled():
    teacher, student, test = learnt(YES, "bce", 3, kd.term("soft_bce", temperature=2.0))
    for model in (teacher, student):
        assert evals.measured(model.logits(test), test.labels, "binary")["micro_f1"] > 0.9


def test_numbers_are_learnt_and_distilled():
    teacher, student, test = learnt(SCORES, "mse", 3, kd.term("soft_mse"))
    for model in (teacher, student):
        assert evals.rmse(model.logits(test), test.labels) < 0.1


LABELS = {
    "classes": (np.arange(4), "classes", np.int32, (4,), 4),
    "one yes or no": (np.array([0.0, 1, 1, 0]), "binary", np.float32, (4,), 1),
    "truth values": (np.array([True, False, True, True]), "binary", np.float32, (4,), 1),
    "several": (np.eye(4, 3, dtype=int), "binary", np.float32, (4, 3), 3),
    "chances": (np.full((4, 2), 0.25), "binary", np.float32, (4, 2), 2),
    "a column": (np.array([[0.0], [1], [1], [0]]), "binary", np.float32, (4,), 1),
    "numbers": (np.array([0.5, 7, 1, 2]), "numbers", np.float32, (4,), 1),
    "rows of numbers": (np.arange(8).reshape(4, 2), "numbers", np.float32, (4, 2), 2),
}


@pytest.mark.parametrize("case", LABELS)
def test_what_labels_are_is_seen_from_their_type_and_range(case):
    labels, targets, dtype, shape, outputs = LABELS[case]
    data = kd.arrays(INPUTS[:4], labels)
    assert (data.targets, data.labels.dtype, data.labels.shape) == (targets, dtype, shape)
    assert data.num_classes == outputs


def test_what_labels_are_can_be_said():
    zeros_and_ones = np.array([0, 1, 1, 0])
    told = [
        kd.arrays(INPUTS[:4], zeros_and_ones, targets=t) for t in ("classes", "binary", "numbers")
    ]
    assert [data.num_classes for data in told] == [2, 1, 1]
    assert len({data.fingerprint for data in told}) == 3
    floats = np.array([0.0, 2.0, np.nan, 1.0])
    assert kd.arrays(INPUTS[:4], floats, targets="classes").labels.tolist() == [0, 2, -1, 1]


@pytest.mark.parametrize(
    ("labels", "outputs", "loss", "message"),
    [
        (YES[:, 0], 1, "hard", "objective.hard needs classes and the labels are yes or no"),
        (SCORES, 3, "bce", "objective.bce needs yes or no .* and the labels are numbers; take mse"),
        (np.arange(120) % 3, 3, "mse", "objective.mse needs numbers and the labels are classes"),
        (YES, 4, "bce", "4 outputs and each example has 3 labels"),
        (SCORES[:, 0], 3, "mse", "3 outputs and each example has 1 labels"),
    ],
)
def test_a_loss_that_reads_other_labels_is_refused(labels, outputs, loss, message):
    with pytest.raises(kd.KdError, match=message):
        kd.fit(Dense(outputs), kd.arrays(INPUTS, labels), [kd.term(loss)], epochs=1)


def test_what_is_about_classes_alone_refuses_in_a_line():
    data = kd.arrays(INPUTS, SCORES)
    model = kd.fit(Dense(3), data, [kd.term("mse")], epochs=1)
    with pytest.raises(kd.KdError, match="an audit is about classes"):
        kd.audit(model, model, data)
    with pytest.raises(kd.KdError, match="chosen by class"):
        kd.of_classes(data, (1,))
    with pytest.raises(kd.KdError, match="labels that are classes"):
        kd.weigh_classes(data, "balanced")
    with pytest.raises(kd.KdError, match="unknown metric of numbers labels: 'errors'"):
        model.errors(data)
    with pytest.raises(kd.KdError, match="labels of validation are binary and those of data num"):
        kd.fit(Dense(3), data, [kd.term("mse")], validation=kd.arrays(INPUTS, YES))


# --- metrics ---

Z = RANDOM.normal(size=(40, 3))
Y = (RANDOM.normal(size=(40, 3)) + Z > 0).astype(np.float32)


def test_metrics_of_yes_and_no_are_scikit_learns():
    got = evals.measured(Z, Y, "binary")
    wanted = {
        "auroc": peer.roc_auc_score(Y, Z),
        "exact_match": peer.accuracy_score(Y, Z > 0),
        "micro_f1": peer.f1_score(Y, Z > 0, average="micro"),
        "macro_f1": peer.f1_score(Y, Z > 0, average="macro"),
        "mean_average_precision": peer.average_precision_score(Y, Z),
        "nll": 3 * peer.log_loss(Y.ravel(), 1 / (1 + np.exp(-Z.ravel()))),
        "brier": peer.brier_score_loss(Y.ravel(), 1 / (1 + np.exp(-Z.ravel()))),
        "errors": 40 - peer.accuracy_score(Y, Z > 0, normalize=False),
    }
    assert got == pytest.approx(wanted)
    single = evals.measured(Z[:, :1], Y[:, 0], "binary")
    assert single["accuracy"] == pytest.approx(peer.accuracy_score(Y[:, 0], Z[:, 0] > 0))
    assert single["f1"] == pytest.approx(peer.f1_score(Y[:, 0], Z[:, 0] > 0))
    assert single["auroc"] == pytest.approx(peer.roc_auc_score(Y[:, 0], Z[:, 0]))


def test_metrics_of_numbers_are_scikit_learns():
    got = evals.measured(Z, Y, "numbers")
    wanted = {
        "rmse": np.sqrt(peer.mean_squared_error(Y, Z)),
        "mae": peer.mean_absolute_error(Y, Z),
        "r2": peer.r2_score(Y, Z),
        "pearson": np.mean(
            [stats.pearsonr(*columns).statistic for columns in zip(Z.T, Y.T, strict=True)]
        ),
        "spearman": np.mean(
            [stats.spearmanr(*columns).statistic for columns in zip(Z.T, Y.T, strict=True)]
        ),
    }
    assert got == pytest.approx(wanted)


def test_what_labels_do_not_determine_is_no_number():
    ones = np.ones((40, 3))
    assert binary.auroc(Z, ones) is None
    assert binary.mean_average_precision(Z, 0 * ones) is None
    assert binary.f1(Z, 0.5 * ones) is None
    assert evals.r2(Z, ones) is None
    assert binary.auroc(Z, np.column_stack([Y[:, 0], ones[:, :2]])) == pytest.approx(
        peer.roc_auc_score(Y[:, 0], Z[:, 0])
    )


@pytest.mark.parametrize("shape", [(39, 3), (40, 2), (40,)])
def test_metrics_repeat_nothing(shape):
    for targets in ("binary", "numbers"):
        with pytest.raises(kd.KdError, match="labels as many"):
            evals.measured(Z, np.zeros(shape), targets)


def test_every_metric_of_one_number_has_a_direction():
    perfect, spoilt = 20 * (Y - 0.5), -20 * (Y - 0.5)
    tables = {
        "binary": (perfect, spoilt, Y),
        "one": (perfect[:, :1], spoilt[:, :1], Y[:, 0]),
        "numbers": (Y, 1 - Y, Y),
        "classes": (perfect, spoilt, Y.argmax(axis=1)),
    }
    for name, (good, bad, labels) in tables.items():
        targets = "binary" if name == "one" else name
        for metric, value in evals.measured(good, labels, targets).items():
            if isinstance(value, list):
                continue
            better, worse = (evals.badness(metric, z, labels, targets) for z in (good, bad))
            assert better < worse, (name, metric)


# --- runs ---


def table(path, kind):
    """A CSV file of features, labels of a kind, and weights."""
    labels = {"binary": YES.astype(int), "numbers": SCORES, "gaps": SCORES}[kind]
    lines = ["a,b,c,d,e,f,y0,y1,y2,weight"]
    for row, (x, y) in enumerate(zip(INPUTS, labels, strict=True)):
        cells = ["", "", ""] if kind == "gaps" and row % 3 == 0 else [*map(str, y)]
        lines.append(",".join([*map(str, x), *cells, str(1 + row % 2)]))
    path.write_text("\n".join(lines) + "\n")
    return f"csv:{path}?label=y0,y1,y2&weight=weight"


def train(workdir, source, loss, **keys):
    keys = {"data__train": "train[:90]", "data__eval": "train[90:]", "total_steps": 40, **keys}
    keys = {"objective__hard": "none", f"objective__{loss}__weight": 1.0, **keys}
    return runs.train(workdir, data__source=source, data__batch_size=30, eval_epochs=10, **keys)


@pytest.mark.parametrize(
    ("kind", "loss", "soft", "metrics"),
    [
        ("binary", "bce", "soft_bce", {"micro_f1", "macro_f1", "mean_average_precision", "auroc"}),
        ("gaps", "mse", "soft_mse", {"rmse", "mae", "r2"}),
    ],
)
def test_a_table_is_learnt_distilled_and_evaluated(kind, loss, soft, metrics, tmp_path, capfd):
    source = table(tmp_path / "t.csv", kind)
    teacher, student = tmp_path / "teacher", tmp_path / "student"
    assert train(teacher, source, loss) == 0
    keys = {f"objective__{soft}__weight": 1.0, "teacher__workdir": teacher}
    assert train(student, source, loss, **keys) == 0
    line = json.loads((student / "metrics.jsonl").read_text().splitlines()[0])
    assert {f"loss/{loss}", f"loss/{soft}"} < line.keys()
    assert ("mse" if kind == "gaps" else "exact_match") in line
    assert np.isfinite(list(line.values())).all()
    evaluation = json.loads((student / "evaluation.json").read_text())["members"][0]
    assert metrics <= evaluation.keys()
    assert ("wrong" in evaluation) == (kind == "binary")
    capfd.readouterr()
    assert runs.main(runs.kd("eval", f"--workdir={student}")) == 0
    shown = capfd.readouterr().out
    assert all(metric in shown for metric in metrics)
    assert runs.main(runs.kd("audit", teacher, student)) == 2
    assert "an audit is about classes" in capfd.readouterr().err


def test_the_weights_of_a_table_reach_the_loss(tmp_path):
    source = table(tmp_path / "t.csv", "numbers")
    data = kd_data.load(source, "train")
    assert data.weights.tolist() == [1, 2] * 60
    assert data.inputs.shape == (120, 6)
    unweighted = kd_data.load(f"{source.partition('&')[0]}&drop=weight", "train")
    assert unweighted.weights is None
    assert unweighted.fingerprint != data.fingerprint


def test_a_column_of_numbers_is_regression_and_empty_cells_are_no_labels(tmp_path):
    rows = [
        f"{x[0]},{'' if k % 4 == 0 else y}"
        for k, (x, y) in enumerate(zip(INPUTS, SCORES[:, 0], strict=True))
    ]
    (tmp_path / "t.csv").write_text("\n".join(["a,target", *rows]))
    data = kd_data.load("csv:t.csv", "train", str(tmp_path))
    assert data.targets == "numbers"
    assert (~data.has_label).tolist() == [k % 4 == 0 for k in range(120)]
    (tmp_path / "w.csv").write_text("a,label\n1,cat\n2,\n3,dog\n")
    words = kd_data.load("csv:w.csv", "train", str(tmp_path))
    assert (words.labels.tolist(), words.class_names) == ([0, -1, 1], ("cat", "dog"))
    (tmp_path / "p.csv").write_text("a,price\n1,100\n2,250\n3,50\n")
    prices = kd_data.load("csv:p.csv?label=price", "train", str(tmp_path), targets="numbers")
    assert (prices.labels.tolist(), prices.num_classes) == ([100, 250, 50], 1)


def test_arrays_in_a_file_say_what_they_are(tmp_path):
    np.savez(
        tmp_path / "a.npz",
        train_inputs=INPUTS[:4],
        train_labels=SCORES[:4],
        train_weights=np.array([1.0, 2, 3, 4]),
        test_inputs=INPUTS[4:6],
        test_labels=SCORES[4:6],
    )
    train, test = (kd_data.load("npz:a.npz", split, str(tmp_path)) for split in ("train", "test"))
    assert (train.targets, train.num_classes, train.weights.tolist()) == (
        "numbers",
        3,
        [1, 2, 3, 4],
    )
    assert test.weights is None


def test_class_weights_of_a_config_reach_the_run_and_who_it_is(tmp_path, capfd):
    fingerprints = set()
    for number, weights in enumerate(("balanced", "(1,1,1,1,1,1,1,1,1,5)", "none")):
        assert runs.train(tmp_path / str(number), data__class_weights=weights) == 0
        fingerprints.add(
            json.loads((tmp_path / str(number) / "run.json").read_text())["fingerprint"]
        )
    assert len(fingerprints) == 3
    losses = [(tmp_path / str(k) / "metrics.jsonl").read_text().splitlines()[0] for k in range(3)]
    assert len(set(losses)) == 3
    capfd.readouterr()
    assert runs.train(tmp_path / "x", data__class_weights="(1,1,1,1,1,1,1,1,1,1)") == 2
    assert "config.data.class_weights changes nothing" in capfd.readouterr().err
    assert runs.train(tmp_path / "y", data__class_weights="{'dog': 2}") == 2
    assert "unknown class among the class weights: 'dog'" in capfd.readouterr().err
