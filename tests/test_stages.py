"""Stages: done ones are skipped, half-done ones go on, and a change reruns what depends on it and
nothing else.
"""

import dataclasses
import json
import time

import pytest

import runs
from kd.config import Data, fingerprint_of, identity, resolve
from kd.errors import KdError
from kd.placement.mesh import MeshSpec
from kd.processes.signals import Interrupted
from kd.runs import stages
from kd.runs.stages import Computation, Stage, run_stages, stage_fingerprints
from kd.runs.workdir import Workdir, find

SPEC = resolve({"objective": {"hard": {}}, "total_steps": 3, "mesh": {"devices": 1}})
TEACHERS, BASELINE = Stage("teachers", SPEC), Stage("baseline", dataclasses.replace(SPEC, seed=1))
TAUGHT = dataclasses.replace(SPEC, objective={"soft_targets": {}})
DISTILLED = Stage("distilled", dataclasses.replace(TAUGHT, seed=2), teacher="teachers")
SWEEP = Stage("sweep", dataclasses.replace(TAUGHT, seed=3), teacher="distilled")
ALL = [TEACHERS, BASELINE, DISTILLED, SWEEP]


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    """Runs stages with a stand-in for training that notes what it is asked; set `stop_at` to break
    one off.
    """

    class Experiment:
        stop_at = None

        def train(self, spec, workdir, title):
            name = title.split()[-1]
            self.trained.append(name)
            self.specs[name] = (spec, workdir)
            workdir.mkdir(parents=True, exist_ok=True)
            time.sleep(0.01)
            if name == self.stop_at:
                raise Interrupted(15, 1)
            taught_by = spec.teacher.workdir
            who = identity(spec, "" if taught_by is None else find(taught_by).fingerprint)
            owner = {
                "identity": who,
                "fingerprint": fingerprint_of(who),
                "num_classes": 10,
                "spec": {},
            }
            Workdir(workdir).write("run.json", owner)
            return {"members": [{"errors": spec.seed}]}

        def run(self, stages):
            self.trained, self.specs, self.said = [], {}, []
            return run_stages(stages, tmp_path, self.said.append)

    trial = Experiment()
    monkeypatch.setattr(stages, "train_workdir", trial.train)
    return trial


def names(some):
    return [stage.name for stage in some]


def test_done_stages_are_skipped_and_say_so(experiment):
    first = experiment.run(ALL)
    assert experiment.trained == names(ALL)
    assert list(first) == names(ALL)
    again = experiment.run(ALL)
    assert experiment.trained == []
    assert [line.split(": ")[1] for line in experiment.said] == ["done before, skipped"] * 4
    assert again == first
    assert [done.evaluation["members"][0]["errors"] for done in again.values()] == [0, 1, 2, 3]


def test_a_folder_that_holds_another_stage_is_not_taken_for_done(experiment):
    done = experiment.run(ALL)
    runs.removed(done["distilled"].workdir)
    runs.copied(done["baseline"].workdir, done["distilled"].workdir)
    with pytest.raises(KdError, match="holds another run than stage 'distilled'"):
        experiment.run(ALL)
    runs.removed(done["distilled"].workdir)
    assert experiment.run(ALL)["distilled"].evaluation == done["distilled"].evaluation


@pytest.mark.parametrize(
    "text",
    ["{}", "[]", "3", '{"seconds": "x", "evaluation": {}}', '{"seconds": 1, "evaluation": 2}'],
)
def test_a_stage_whose_record_is_of_another_kind_is_said_to_be_damaged(experiment, text):
    done = experiment.run(ALL)
    (done["baseline"].workdir / "stage.json").write_text(text)
    with pytest.raises(KdError, match=r"stage\.json is damaged"):
        experiment.run(ALL)


def test_a_half_done_stage_goes_on_where_it_was(experiment):
    experiment.stop_at = "distilled"
    with pytest.raises(Interrupted):
        experiment.run(ALL)
    assert experiment.trained == ["teachers", "baseline", "distilled"]
    half_done = experiment.specs["distilled"][1]
    spent = json.loads((half_done / "seconds.json").read_text())["seconds"]
    experiment.stop_at = None
    done = experiment.run(ALL)
    assert experiment.trained == ["distilled", "sweep"]
    assert experiment.specs["distilled"][1] == half_done
    assert done["distilled"].seconds > spent > 0  # the time it took in all


def test_a_student_learns_from_the_stage_it_names(experiment):
    done = experiment.run(ALL)
    for student in (DISTILLED, SWEEP):
        assert experiment.specs[student.name][0].teacher.workdir == str(
            done[student.teacher].workdir
        )
    assert experiment.specs["baseline"][0].teacher.workdir is None


def changed(stage, **changes):
    return dataclasses.replace(stage, spec=dataclasses.replace(stage.spec, **changes))


@pytest.mark.parametrize(
    ("now", "rerun"),
    [
        (
            [changed(TEACHERS, seed=9), BASELINE, DISTILLED, SWEEP],
            ["teachers", "distilled", "sweep"],
        ),
        ([TEACHERS, changed(BASELINE, total_steps=4), DISTILLED, SWEEP], ["baseline"]),
        (
            [TEACHERS, BASELINE, dataclasses.replace(DISTILLED, version=2), SWEEP],
            ["distilled", "sweep"],
        ),
        (
            [TEACHERS, BASELINE, dataclasses.replace(DISTILLED, teacher="baseline"), SWEEP],
            ["distilled", "sweep"],
        ),
        ([TEACHERS, BASELINE, DISTILLED, Stage("sweep", SPEC)], ["sweep"]),
        ([changed(stage, log_steps=7, eval_epochs=1.0) for stage in ALL], []),
        ([BASELINE, TEACHERS, DISTILLED], []),
    ],
)
def test_a_change_reruns_what_depends_on_it(experiment, now, rerun):
    before = experiment.run(ALL)
    after = experiment.run(now)
    assert experiment.trained == rerun
    for name in rerun:
        assert after[name].workdir != before[name].workdir  # the old result stays where it is
        assert (before[name].workdir / "stage.json").exists()
    experiment.run(ALL)
    assert experiment.trained == []  # and serves again when the change is taken back


def test_a_damaged_result_of_a_stage_is_named(experiment):
    (experiment.run([TEACHERS])["teachers"].workdir / "stage.json").write_text("{")
    with pytest.raises(
        KdError, match=r"stage.json is damaged: .* remove it and start that run again"
    ):
        experiment.run([TEACHERS])


def test_fingerprints_do_not_depend_on_names():
    renamed = [
        dataclasses.replace(TEACHERS, name="big"),
        dataclasses.replace(DISTILLED, teacher="big"),
    ]
    assert stage_fingerprints(renamed)["distilled"] == stage_fingerprints(ALL)["distilled"]
    assert len(set(stage_fingerprints(ALL).values())) == len(ALL)


def test_stages_that_make_no_sense(experiment):
    with pytest.raises(KdError, match="two stages are named 'teachers'"):
        experiment.run([TEACHERS, TEACHERS])
    with pytest.raises(KdError, match="teacher of stage 'distilled': 'teachers'"):
        experiment.run([DISTILLED, TEACHERS])
    assert experiment.trained == []


# --- checks before anything trains ---

SEVERAL = changed(TEACHERS, population={"seed": (0, 1)})
WRONG = {
    # message: what is changed of the last stage, or the stages
    "data.classes must name classes": {"data": Data(classes=(3, 12))},
    "data.classes must name classes that the split holds": {"data": Data(classes=())},
    "is empty: it takes 0 of 1200 examples": {"data": Data(train="train[:0%]")},
    "unknown split of digits: 'nosuch'": {"early_stopping": "nosuch", "eval_epochs": 1.0},
    "data.batch_size must lie between 1 and the 24 examples": {"data": Data(train="train[:2%]")},
    "mesh.devices is 99": {"mesh": MeshSpec(99)},
    "student answers with 12 classes and the teacher with 10": {
        "student": {"name": "mlp", "classes": 12}
    },
    "config.teacher.precompute keeps one answer for each example": {"data": Data(jitter_pixels=1)},
    "paired with teacher 5 and there are 2": {
        "population": {"init_seed": (0, 1), "teacher": (0, 5)}
    },
}


@pytest.mark.parametrize("message", WRONG)
def test_a_stage_that_cannot_be_trained_is_refused_before_any_is(experiment, message):
    wrong = changed(dataclasses.replace(SWEEP, teacher="teachers"), **WRONG[message])
    with pytest.raises(KdError, match=rf"stage 'sweep': .*({message})"):
        experiment.run([SEVERAL, BASELINE, wrong])
    assert experiment.trained == []


def test_a_single_teacher_cannot_be_paired(experiment):
    with pytest.raises(KdError, match="stage 'distilled': only a population has several teachers"):
        experiment.run(
            [TEACHERS, changed(DISTILLED, population={"init_seed": (0, 1), "teacher": (0, 0)})]
        )
    with pytest.raises(KdError, match=r"stage 'baseline': objective.soft_targets needs a teacher"):
        experiment.run([TEACHERS, changed(BASELINE, objective={"soft_targets": {}})])
    assert experiment.trained == []


def test_what_rests_on_computed_data_is_left_to_its_turn(experiment):
    wrong = changed(
        dataclasses.replace(BASELINE, data="features"), data=Data(source="npz:not-there-yet.npz")
    )
    taught = dataclasses.replace(DISTILLED, teacher="baseline")
    experiment.run([computed(), wrong, taught])
    assert experiment.trained == ["baseline", "distilled"]


def test_a_finished_stage_is_not_checked_again(experiment, monkeypatch):
    experiment.run(ALL)
    monkeypatch.setattr(stages, "check_spec", lambda *_: pytest.fail("checked"))
    experiment.run(ALL)


# --- computations ---

CALLS = []


def double(folder, done, value=1, break_off=False):
    """A computation for the tests: notes the call, writes a file, and returns what it found."""
    assert list(folder.glob("*.txt")) == []  # nothing of a run that was broken off
    CALLS.append(folder)
    (folder / "value.txt").write_text(str(2 * value))
    if break_off:
        raise Interrupted(15, 0)
    return {"doubled": 2 * value, "seen": sorted(done), "pair": (1, 2)}


def computed(name="features", needs=(), **options):
    return Computation(name, f"{__name__}:double", options, needs)


def test_a_computation_runs_once_and_is_remembered_with_its_files(experiment):
    CALLS.clear()
    first = experiment.run([computed(value=3), computed("more", ("features",))])
    again = experiment.run([computed(value=3), computed("more", ("features",))])
    assert len(CALLS) == 2
    assert again == first
    assert first["features"].evaluation == {"doubled": 6, "seen": [], "pair": [1, 2]}
    assert first["more"].evaluation["seen"] == ["features"]
    assert (first["features"].workdir / "value.txt").read_text() == "6"


def test_a_computation_that_broke_off_is_not_done_and_starts_afresh(experiment, tmp_path):
    CALLS.clear()
    broken = Computation("features", f"{__name__}:double", places={"break_off": True})
    with pytest.raises(Interrupted):
        experiment.run([broken])
    assert not list(tmp_path.glob("stages/*/stage.json"))
    done = experiment.run([dataclasses.replace(broken, places={})])["features"]
    assert len(CALLS) == 2
    assert [path.name for path in (tmp_path / "stages").iterdir()] == [done.workdir.name]


def test_a_run_finds_its_data_in_the_stage_it_names(experiment):
    reader = dataclasses.replace(BASELINE, data="features")
    done = experiment.run(
        [computed(), TEACHERS, dataclasses.replace(DISTILLED, data="features"), reader]
    )
    for name in ("baseline", "distilled"):
        assert experiment.specs[name][0].data.data_dir == str(done["features"].workdir)
    assert experiment.specs["teachers"][0].data.data_dir is None


@pytest.mark.parametrize(
    ("now", "rerun"),
    [
        (computed(value=2), ["features", "more", "baseline"]),
        (dataclasses.replace(computed(), version=2), ["features", "more", "baseline"]),
        (dataclasses.replace(computed(), code=("kd.errors",)), ["features", "more", "baseline"]),
        (dataclasses.replace(computed(), function=f"{__name__}:double"), []),
        (dataclasses.replace(computed(), places={"value": 1}), []),
    ],
)
def test_a_changed_computation_reruns_what_rests_on_it(experiment, now, rerun):
    rest = [
        computed("more", ("features",)),
        TEACHERS,
        dataclasses.replace(BASELINE, data="features"),
    ]
    experiment.run([computed(), *rest])
    experiment.run([now, *rest])
    said = [line.split(": ") for line in experiment.said]
    computed_again = [title.split()[-1] for title, how in said if how != "done before, skipped"]
    assert computed_again + experiment.trained == rerun


def test_a_need_must_be_an_earlier_stage(experiment):
    with pytest.raises(KdError, match="need of stage 'more': 'featurs'; did you mean 'features'"):
        experiment.run([computed(), computed("more", ("featurs",))])
    with pytest.raises(KdError, match="need of stage 'baseline'"):
        experiment.run([dataclasses.replace(BASELINE, data="features"), computed()])
