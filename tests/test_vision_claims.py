"""What the vision table claims, on made-up errors: identities, limits, verdicts and bands."""

import math

import numpy as np
import pytest

from experiments.vision_table import claims
from experiments.vision_table.measure import packed
from kd.evidence import compare_errors

EXAMPLES = {"val": 400, "test": 200}
FAMILIES = {
    "hard": "labels",
    "longer": "labels",
    "kd": "logits",
    "dkd": "logits",
    "crd": "relations",
}
PAPER = {"pair": {"kd": 70.0, "dkd": 71.0, "crd": 73.0}}


def member(rows, split):
    count = EXAMPLES[split]
    return {
        "wrong": packed(rows, count),
        "examples": count,
        "errors": len(rows),
        "accuracy": 1 - len(rows) / count,
    }


def results(seeds=5, bands=None, **errors):
    """Every seed of an arm gets the first so many examples wrong, on both splits."""
    counts = {"hard": 60, "longer": 50, "kd": 40, "dkd": 40, "crd": 40, **errors}
    arms = {
        arm: {
            split: [member(list(range(count)), split) for _ in range(seeds)] for split in EXAMPLES
        }
        for arm, count in counts.items()
    }
    return {
        "arms": arms,
        "teacher": {split: member([], split) for split in EXAMPLES},
        "protocol": {
            "arms": {arm: {"family": FAMILIES[arm]} for arm in counts},
            "paper": PAPER,
            "pair": "pair",
            "bands": bands or {},
        },
    }


def survival(told):
    return claims.survival(claims.claims(told))


def points(told, arms, split="test", control="kd"):
    return claims.points(told, claims.against(told, arms, split, control), split)


@pytest.mark.parametrize("split", EXAMPLES)
def test_an_arm_gains_nothing_over_itself(split):
    told = results()
    assert points(told, ["kd"], split) == (0.0, 0.0, 0.0)
    assert claims.against(told, ["kd"], split).verdict == "NO EVIDENCE"


def test_a_gain_is_counted_in_points_of_accuracy():
    told = results(dkd=30)
    assert points(told, ["dkd"])[0] == pytest.approx(5.0)  # 10 errors of 200 fewer
    assert points(told, ["dkd"], "val")[0] == pytest.approx(2.5)
    value, low, high = points(told, ["dkd"])
    assert low < value < high
    assert points(told, ["kd"], control="dkd")[0] == pytest.approx(-5.0)


def test_the_comparison_is_that_of_errors():
    told = results(dkd=25)
    wrong = [list(range(25))] * 5, [list(range(40))] * 5
    assert claims.against(told, ["dkd"], "test") == compare_errors(*wrong, EXAMPLES["test"])


@pytest.mark.parametrize(("errors", "verdict"), [(20, "HELPS"), (60, "HURTS"), (40, "NO EVIDENCE")])
def test_fewer_errors_help(errors, verdict):
    assert claims.against(results(dkd=errors), ["dkd"], "test").verdict == verdict
    few = results(seeds=4, dkd=errors)
    assert claims.against(few, ["dkd"], "test").verdict == "NO EVIDENCE"


def test_the_mean_of_several_lies_between_them():
    told = results(dkd=20, crd=40)
    assert points(told, ["dkd", "crd"])[0] == pytest.approx(5.0)
    assert points(told, ["dkd", "dkd"]) == pytest.approx(points(told, ["dkd"]))


def test_all_survives_where_the_gains_are_the_published_ones():
    """Published: 1 and 3 points over plain distillation, 2 on average."""
    assert claims.published(results()) == ["dkd", "crd"]
    assert survival(results(dkd=38, crd=34))[0] == pytest.approx(1.0)
    assert survival(results(dkd=40, crd=40))[0] == 0.0
    value, low, high = survival(results(dkd=40, crd=36))
    assert (value, low < value < high) == (pytest.approx(0.5), True)


def test_nothing_published_nothing_survives():
    told = results()
    told["protocol"]["paper"] = {}
    assert math.isnan(survival(told)[0])
    assert "published_gain" not in claims.claims(told)


def test_the_best_is_chosen_on_validation_and_judged_on_test():
    told = results(dkd=30, crd=35)
    told["arms"]["crd"]["val"] = [member(list(range(10)), "val")] * 5
    assert claims.best_on_validation(told) == "crd"
    assert claims.claims(told)["best_gain"].value == pytest.approx(2.5)


def test_a_band_is_met_or_missed():
    told = results(bands={"hard": (70.0, 70.0), "kd_gain": (0.0, 9.9), "teacher": (0.0, 99.0)})
    met = {name: claim.met for name, claim in claims.claims(told).items() if claim.band}
    assert met == {"hard": True, "kd_gain": False, "teacher": False}  # 70%, 10 points, 100%
    assert claims.claims(told)["kd_over_longer"].met  # no band, nothing to miss


def test_arms_are_paired_by_seed_and_example():
    """Where two arms get the same examples wrong, seed by seed, their difference has no spread."""
    told = results()
    random = np.random.default_rng(0)
    rows = [sorted(random.choice(200, 50, replace=False).tolist()) for _ in range(5)]
    for arm in ("kd", "dkd"):
        told["arms"][arm]["test"] = [member(r, "test") for r in rows]
    assert points(told, ["dkd"]) == (0.0, 0.0, 0.0)
    told["arms"]["dkd"]["test"] = [member(r, "test") for r in rows[::-1]]
    assert points(told, ["dkd"])[1] < 0
