"""A setting that changes nothing is refused, with its key and its reason."""

import dataclasses
import re

import optax
import pytest

import kd
import small_text
import tiny
from kd.config import resolve
from kd.config.idle import IDLE
from kd.core.members import make_members
from kd.core.objective import check_widths
from kd.core.optim import Optim, make_optimizer
from kd.core.schedules import Schedule, make_schedule
from kd.core.terms import term
from kd.errors import KdError
from kd.runs import teachers
from kd.runs.splits import load_splits
from kd.runs.stages import Stage, check_stages
from kd.teachers.trained import Trained

HARD = {"objective": {"hard": {}}, "total_steps": 3}
SEVERAL = {"a": {"source": "run:a"}, "b": {"source": "run:b"}}
SOFT = {"objective": {"soft_targets": {}}, "total_steps": 3}

# for each row of a key a value that changes nothing, and what it takes for it to have an effect
WATCHED = {"early_stopping": "train[90%:]", "eval_epochs": 1.0}
TEXT = {
    key: small_text.SETTINGS[key] for key in small_text.SETTINGS if key not in ("tokenizer", "rare")
}
CASES = {
    "patience": ({"patience": 3}, WATCHED),
    "watch": ({"watch": "nll"}, WATCHED),
    "local_copy.steps": (
        {"local_copy": {"steps": 7}},
        {"local_copy": {"steps": 7, "folder": "copies"}},
    ),
    "seed": ({"seed": 3, "population": {"seed": (0, 1)}}, {"population": {"init_seed": (0, 1)}}),
    "data.crop": (
        {"data": {"crop": "random", "image_size": 8}},
        {"data": {"crop": "random", "image_size": 8, "stream": True}},
    ),
    "data.views": ({"data": {"views": 8}}, {"data": {"views": 8, "flip": True}}),
    **{
        f"data.text.{key}": (
            {"data": {"text": {key: value}}},
            {"data": {"text": {key: value, "tokenizer": "tokenizer.json"}}},
        )
        for key, value in TEXT.items()
    },
    "data.text.rare": (
        {"data": {"text": {"rare": 0.7}}},
        {"data": {"text": {"rare": 0.7, "masked": 0.15, "tokenizer": "tokenizer.json"}}},
    ),
    "data.text.rare without hidden words": (
        {"data": {"text": {"rare": 0.7, "tokenizer": "tokenizer.json"}}},
        {"data": {"text": {"rare": 0.7, "masked": 0.15, "tokenizer": "tokenizer.json"}}},
    ),
    **{
        f"data.text.{key} of packed text": (
            {"data": {"text": {key: TEXT[key], "packed": True, "tokenizer": "tokenizer.json"}}},
            {"data": {"text": {key: TEXT[key], "tokenizer": "tokenizer.json"}}},
        )
        for key in ("too_long", "buckets")
    },
    "data.classes": ({"data": {"classes": (1, 1)}}, {"data": {"classes": (1, 2)}}),
    "teacher.workdir": ({"teacher": {"workdir": "run"}}, SOFT),
    "teachers": ({"teachers": SEVERAL}, SOFT),
    "patience of more looks than there are": (
        {"patience": 3, "total_epochs": 3.0, "total_steps": None, **WATCHED},
        {"total_epochs": 4.0},
    ),
    "teacher.licence": ({"teacher": {"licence": "CC0-1.0"}}, SOFT),
    "teacher.licence of several": (
        {**SOFT, "teachers": SEVERAL, "teacher": {"licence": "CC0-1.0"}},
        {"teachers": None},
    ),
    "sharding.teacher.rule of several": (
        {**SOFT, "teachers": SEVERAL, "sharding": {"teacher": {"rule": "fsdp"}}},
        {"teachers": None},
    ),
    "sharding.teacher.paths of several": (
        {**SOFT, "teachers": SEVERAL, "sharding": {"teacher": {"paths": {"*": ("fsdp",)}}}},
        {"teachers": None},
    ),
    "teacher.classes": ({"teacher": {"classes": (1, 0)}}, SOFT),
    "teacher.classes of several": (
        {**SOFT, "teachers": SEVERAL, "teacher": {"classes": (1, 0)}},
        {"teachers": None},
    ),
    "teacher.source": ({"teacher": {"source": "run:run"}}, SOFT),
    "teacher.image_size": ({"teacher": {"image_size": 8}}, SOFT),
    "teacher.image_size of a table": (
        {**SOFT, "teacher": {"source": "table:t.csv", "image_size": 8}},
        {"teacher": {"source": "mine:answer", "image_size": 8}},
    ),
    "teacher.image_size of the student": (
        {**SOFT, "teacher": {"image_size": 8}, "data": {"image_size": 8}},
        {"teacher": {"image_size": "native"}, "data": {"image_size": 8}},
    ),
    "teacher.kind": (
        {**SOFT, "teacher": {"source": "run:run", "kind": "logits"}},
        {"teacher": {"source": "table:t.csv", "kind": "logits"}},
    ),
    "teacher.temperature": (
        {**SOFT, "teacher": {"source": "run:run", "temperature": 2.0}},
        {"teacher": {"source": "mine:answer", "temperature": 2.0}},
    ),
    "teacher.average of a table": (
        {**SOFT, "teacher": {"source": "table:t.csv", "average": "geometric"}},
        {"teacher": {"source": "run:run", "average": "geometric"}},
    ),
    "teacher.precompute of a function": (
        {**SOFT, "teacher": {"source": "mine:answer", "precompute": False}},
        {"teacher": {"source": "run:run", "precompute": False}},
    ),
    "teacher.kept_as": ({"teacher": {"kept_as": "float16"}}, SOFT),
    "teacher.kept_as of a live one": (
        {**SOFT, "teacher": {"kept_as": "float16", "precompute": False}},
        {"teacher": {"kept_as": "float16"}},
    ),
    "teacher.average": ({"teacher": {"average": "geometric"}}, SOFT),
    "teacher.precompute": ({"teacher": {"precompute": False}}, SOFT),
    "teacher.model": ({"teacher": {"model": {"name": "mlp"}}}, SOFT),
    "teacher.members": ({"teacher": {"members": 2, "model": {"name": "mlp"}}}, SOFT),
    "population.teacher": ({"population": {"teacher": (0, 1)}}, SOFT),
    "sharding.teacher.rule": ({"sharding": {"teacher": {"rule": "fsdp"}}}, SOFT),
    "sharding.teacher.paths": ({"sharding": {"teacher": {"paths": {"*": ("fsdp",)}}}}, SOFT),
    "optim.nesterov": (
        {"optim": {"nesterov": True, "momentum": 0.0}},
        {"optim": {"nesterov": True}},
    ),
}


def test_every_row_has_a_case():
    assert sorted(row.key for row in IDLE) == sorted(case.split()[0] for case in CASES)


@pytest.mark.parametrize("case", CASES)
def test_what_changes_nothing_is_refused_and_what_changes_something_is_not(case):
    (idle, effective), key = CASES[case], case.split()[0]
    model = {"model": {"name": "mlp"}} if key == "teacher.members" else {}
    words = r"config\.teacher\.(model|members)" if model else rf"config\.{re.escape(key)}="
    with pytest.raises(KdError, match=f"{words}.* changes nothing: "):
        resolve({**HARD, **idle})
    resolve({**HARD, **idle, **effective})


@pytest.mark.parametrize(
    ("schedule", "named"),
    [
        (Schedule(points=((50.0, 0.5),)), r"schedule\.points"),
        (Schedule("linear", points=((50.0, 0.5),)), r"schedule\.points"),
        (Schedule(end=0.5), r"schedule\.end"),
        (Schedule("piecewise", end=0.5, points=((50.0, 0.5),)), r"schedule\.end"),
        (Schedule("cosine", end=1.0), "stays at 1"),
        (Schedule("piecewise", points=((20.0, 1.0), (50.0, 1.0))), "stays at 1"),
        (Schedule("linear", end=True), r"schedule\.end must be a number"),
        (Schedule("piecewise", points=((20.0, True),)), r"schedule\.points must be pairs"),
    ],
)
def test_a_schedule_says_nothing_in_vain(schedule, named):
    with pytest.raises(KdError, match=named):
        make_schedule(schedule, 100)


@pytest.mark.parametrize(
    ("population", "copies"),
    [
        ({"seed": (0, 1, 0)}, "members 0 and 2"),
        ({"seed": (1, 2, 2), "learning_rate": (0.1, 0.3, 0.3)}, "members 1 and 2"),
        ({"hard": {"weight": (2, 2.0)}}, "members 0 and 1"),
    ],
)
def test_a_copy_is_no_second_member(population, copies):
    with pytest.raises(KdError, match=f"{copies} .* are the same run"):
        make_members([term("hard")], population, 0.1)


@pytest.mark.parametrize(
    "population",
    [{}, {"seed": (0, 1, 2)}, {"seed": (0, 0), "init_seed": (1, 2)}, {"learning_rate": (0.1, 0.2)}],
)
def test_members_that_differ_in_one_column_are_members(population):
    members = make_members([term("hard")], population, 0.1)
    columns = list(population.values())
    assert members.size == (len(columns[0]) if columns else None)


def test_an_objective_weighs_something():
    none, some = term("hard", 0.0), term("soft_targets", 0.0)
    with pytest.raises(KdError, match="the weights are all 0"):
        make_members([none, some], {}, 0.1)
    with pytest.raises(KdError, match="the weights of member 1 are all 0"):
        make_members([none, some], {"hard": {"weight": (1.0, 0.0)}}, 0.1)
    make_members([none, term("soft_targets")], {"hard": {"weight": (1.0, 0.0)}}, 0.1)


@pytest.mark.parametrize("rate", [0, 0.0, -1.0, True])
def test_a_rate_at_which_nothing_is_learnt_is_refused(rate):
    with pytest.raises(KdError, match=r"learning_rate must be"):
        make_optimizer(Optim(learning_rate=rate))
    with pytest.raises(KdError, match=r"population\.learning_rate must be"):
        make_members([term("hard")], {"learning_rate": (0.1, rate)}, 0.1)
    with pytest.raises(KdError, match=r"learning_rate must be"):
        fit(learning_rate=rate)


@pytest.mark.parametrize("loss", ["hard", "soft_targets", "logit_mse", "label_smoothing", "jsd"])
def test_one_output_has_no_distribution_to_learn(loss):
    with pytest.raises(KdError, match=f"objective.{loss} compares distributions .* answers with 1"):
        check_widths(1, 1, [term(loss), term("kl")], labelled=True)
    check_widths(2, 2, [term(loss), term("kl")], labelled=True)


def test_a_teacher_is_read():
    with pytest.raises(KdError, match="no term of the objective reads it"):
        check_widths(5, 5, [term("hard")], labelled=True)


@pytest.mark.parametrize(
    "value", [{"optim": {"learning_rate": True}}, {"data": {"classes": (True, 2)}},
              {"student": {"name": "mlp", "widths": (8, True)}},
              {"optim": {"learning_rate_schedule": {"points": ((0, True),)}}}],
)  # fmt: skip
def test_true_is_no_number_however_deep(value):
    with pytest.raises(KdError, match=r"must be .*True"):
        resolve({**HARD, **value})


def fit(**options):
    settings = {"epochs": 1, "batch_size": 16, **options}
    return kd.fit(tiny.PLAIN, tiny.dataset(), [kd.term("hard")], **settings)


@pytest.mark.parametrize(
    "options",
    [{"seed": 3, "population": {"seed": (0, 1)}},
     {"learning_rate": 0.1, "population": {"learning_rate": (0.1, 0.2)}}],
)  # fmt: skip
def test_an_argument_beside_its_column_is_refused(options):
    with pytest.raises(KdError, match="changes nothing: population has a column"):
        fit(**options)


def test_an_optimiser_of_ones_own_keeps_its_schedule():
    """Its rate is all there is, unless a shape is asked for too."""
    own, constant = {"optimizer": optax.sgd(0.1)}, Schedule()
    plain = fit(**own)
    tiny.close(plain.params, fit(**own, learning_rate_schedule=constant).params, 0, 0)
    decayed = fit(**own, learning_rate_schedule=Schedule("linear"))
    assert tiny.differ(plain.params, decayed.params)
    ours = {"optimizer": optax.sgd(optax.linear_schedule(0.1, 0.0, 4))}
    tiny.close(decayed.params, fit(**ours).params)


def test_classes_that_are_all_classes_are_refused():
    few = {"data": {"train": "train[:120]", "classes": tuple(range(10))}}
    with pytest.raises(KdError, match=r"config\.data\.classes=.* changes nothing"):
        load_splits(resolve({**HARD, **few}))


@pytest.mark.parametrize(
    ("members", "population", "why"),
    [(False, {}, "a single model"), (True, {"teacher": (0, 1)}, "one of its own")],
)
def test_one_teacher_has_nothing_to_average(members, population, why):
    spec = resolve({**SOFT, "teacher": {"average": "geometric"}, "population": population})
    params = tiny.members() if members else tiny.take(tiny.members(), 0)
    with pytest.raises(KdError, match=rf"config\.teacher\.average=geometric .*{why}"):
        teachers.as_teacher(Trained(tiny.WIDE, params, {}, members), spec, tiny.dataset())


def test_an_experiments_columns_are_seen():
    spec = dataclasses.replace(resolve({**HARD, "seed": 3}), population={"seed": (0, 1)})
    with pytest.raises(KdError, match=r"stage 'alone': config\.seed=3 changes nothing"):
        check_stages([Stage("alone", spec)])
