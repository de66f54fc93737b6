"""The audit from the library: what it says is what the measures say."""

import json

import jax
import numpy as np
import pytest

import kd
import tiny
from kd.auditing import missing
from kd.auditing import page as audit_page
from kd.config import Data, Spec
from kd.teachers.trained import Trained


def models(count, model=tiny.WIDE):
    return Trained(model, tiny.members(model, count), {}, True)


def a_model(model=tiny.WIDE, member=0):
    return Trained(model, tiny.take(tiny.members(model), member), {})


def close(got, wanted):
    """Two dictionaries of numbers are the same but for float32 rounding of the logits."""
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), got, wanted)


def test_a_teacher_holds_all_of_itself():
    data = tiny.dataset()
    audited = kd.audit(a_model(), a_model(), data)
    (pair,) = audited["pair"]["members"]
    assert pair["agreement_at_k"] == pair["ordered_agreement_at_k"] == [1] * tiny.CLASSES
    np.testing.assert_allclose([pair["held_out_kl"], *pair["kl_per_class"]], 0, atol=1e-12)
    np.testing.assert_allclose(audited["class_kl"], 0, atol=1e-12)
    np.testing.assert_allclose(audited["entropy"]["teacher"], audited["entropy"]["student"][0])
    (student,) = audited["student"]["members"]
    close({key: audited["teacher"][key] for key in student}, student)
    assert audited["missing"] is None


def test_every_member_is_audited_by_itself_and_an_ensemble_is_one_teacher():
    data, teacher, learners = tiny.dataset(), models(3), models(2, tiny.PLAIN)
    audited = kd.audit(
        teacher, learners, data, missing_classes=(3,), train=data, temperatures=(1.0, 4.0)
    )
    for i in range(2):
        alone = Trained(tiny.PLAIN, tiny.take(learners.params, i), {})
        single = kd.audit(
            teacher, alone, data, missing_classes=(3,), train=data, temperatures=(1.0, 4.0)
        )
        for part in ("student", "pair"):
            close(audited[part]["members"][i], single[part]["members"][0])
        close(
            audited["missing"]["members"][i]["matched"], single["missing"]["members"][0]["matched"]
        )
    taught = kd.evals.soft_log_probs(teacher.logits(data), 1.0)
    assert audited["teacher"]["errors"] == kd.evals.errors(taught, data.labels)
    assert audited["teacher"]["members"] == 3
    assert audited["pair"]["members"][0]["held_out_kl"] == kd.evals.held_out_kl(
        learners.logits(data)[0], taught
    )
    assert json.loads(json.dumps(audited)) == audited  # plain


PAIRS = (2, 0, 2)


def test_a_paired_student_is_audited_as_it_is_alone_with_its_teacher():
    data, teachers, learners = tiny.dataset(), models(4), models(3, tiny.PLAIN)
    audited = kd.audit(teachers, learners, data, pairs=PAIRS, temperatures=(1.0, 4.0))
    alone = [
        kd.audit(
            Trained(tiny.WIDE, tiny.take(teachers.params, pair), {}),
            Trained(tiny.PLAIN, tiny.take(learners.params, i), {}),
            data,
            temperatures=(1.0, 4.0),
        )
        for i, pair in enumerate(PAIRS)
    ]
    for part in ("student", "pair"):
        close(audited[part]["members"], [single[part]["members"][0] for single in alone])
    np.testing.assert_allclose(
        audited["class_kl"], np.mean([single["class_kl"] for single in alone], axis=0), rtol=1e-4
    )
    used = [alone[1], alone[0]]  # members 0 and 2, each once; 1 and 3 taught nobody
    close(
        audited["teacher"]["each"],
        [{key: single["teacher"][key] for key in audited["teacher"]["each"][0]} for single in used],
    )
    close(
        audited["entropy"]["teacher"],
        np.mean([single["entropy"]["teacher"] for single in used], axis=0).tolist(),
    )
    assert (audited["teacher"]["members"], audited["teacher"]["pairs"]) == (4, list(PAIRS))
    assert json.loads(json.dumps(audited)) == audited


def test_pairing_is_not_the_ensemble_and_not_another_pairing():
    data, teachers, learners = tiny.dataset(), models(4), models(3, tiny.PLAIN)
    kl = [
        [
            m["held_out_kl"]
            for m in kd.audit(teachers, learners, data, pairs=pairs)["pair"]["members"]
        ]
        for pairs in (None, PAIRS, (2, 1, 2))
    ]
    same = [[a == b for a, b in zip(kl[1], other, strict=True)] for other in (kl[0], kl[2])]
    assert same == [[False, False, False], [True, False, True]]


def test_pairs_that_are_not_one_teacher_a_student():
    for pairs, words in (
        ((0, 1), "2 teachers are paired with 3 students"),
        ((0, 1, 4), "paired with teacher 4 and"),
    ):
        with pytest.raises(kd.KdError, match=words):
            kd.audit(models(4), models(3, tiny.PLAIN), tiny.dataset(), pairs=pairs)
    with pytest.raises(kd.KdError, match="paired with teacher -1 and there are 4"):
        kd.audit(models(4), models(3, tiny.PLAIN), tiny.dataset(), pairs=(0, -1, 1))


def test_the_averaging_rule_reaches_the_teacher():
    data = tiny.dataset()
    nll = {
        rule: kd.audit(models(3), a_model(), data, average=rule)["teacher"]["nll"]
        for rule in ("arithmetic", "geometric")
    }
    assert nll["arithmetic"] != nll["geometric"]
    assert (
        kd.audit(models(3), a_model(), data, average="per_member")["teacher"]["nll"]
        == nll["arithmetic"]
    )


def test_the_probe_matches_on_training_inputs_and_never_beats_the_best():
    data, train = tiny.dataset(), tiny.dataset(50, seed=1)
    probe = kd.audit(a_model(), a_model(tiny.PLAIN), data, missing_classes=(1, 3), train=train)[
        "missing"
    ]
    assert probe["share"] == 0.4
    assert probe["examples"] == np.isin(data.labels, (1, 3)).sum()
    (member,) = probe["members"]
    on_train = kd.evals.shift(
        a_model(tiny.PLAIN).logits(train), (1, 3), member["matched"]["offset"]
    )
    assert kd.evals.top_share(on_train, (1, 3)) == 0.4
    assert member["best"]["errors"] <= min(member["none"]["errors"], member["matched"]["errors"])
    assert min(probe["curves"][0]["errors"]) >= member["best"]["errors"]
    assert probe["offsets"][0] < min(m["offset"] for m in member.values())
    without = kd.audit(a_model(), a_model(tiny.PLAIN), data, missing_classes=(1, 3))["missing"]
    assert set(without["members"][0]) == {"none", "best"}
    assert without["members"][0]["best"] == member["best"]


@pytest.mark.parametrize(
    ("classes", "wanted"), [(None, ()), ((0, 1, 2, 4), (3,)), ((3,), (0, 1, 2, 4))]
)
def test_what_a_transfer_set_left_out_is_the_complement(classes, wanted):
    spec = Spec(data=Data())
    object.__setattr__(spec.data, "classes", classes)
    assert missing.left_out(spec, 5) == wanted


def test_data_without_labels_or_with_more_classes():
    data = tiny.dataset()
    with pytest.raises(kd.KdError, match="needs labelled data"):
        kd.audit(a_model(), a_model(), kd.arrays(data.inputs, num_classes=5))
    with pytest.raises(kd.KdError, match="the split has 7 classes and both models answer with 5"):
        kd.audit(a_model(), a_model(), kd.arrays(data.inputs, data.labels, num_classes=7))


def test_a_split_without_a_class_leaves_a_blank_row():
    data = tiny.dataset(3)
    audited = kd.audit(a_model(), a_model(tiny.PLAIN), data)
    assert audited["class_kl"][3:] == [[None] * 5] * 2
    assert None not in audited["class_kl"][2]
    audited = {
        **audited,
        "runs": {who: {"workdir": who, "fingerprint": "0"} for who in ("teacher", "student")},
    }
    page = audit_page.markdown({**audited, "split": "test", "source": "tiny"})
    assert "| 2 | 1 |" in page
    assert "| 3 | 0 |" not in page
    json.dumps(audited, allow_nan=False)
