"""Specialists and the step back: Hinton, Vinyals & Dean (2015), section 5, on sentences.

Command:  kd reproduce hinton2015-specialists   (``:quick`` a minute or two)
Data:     CLINC150, 150 intents, the in-scope sentences: clinc150.zip or a folder of that name with
  data_full.json and domains.json of https://github.com/clinc/oos-eval (Larson et al., 2019, CC BY
  3.0), in KD_DATA_DIR or --data_dir; ``--source=PATH`` where it lies elsewhere
Paper:    61 specialists of 300 classes beside a generalist of 15,000 (private data): accuracy 25.0%
  to 26.1%, +4.4% relative; conditional 43.1% to 45.9%

Sentences are hashed words and pairs of words; an MLP tells the intents apart. The classes of a
specialist are those that K-means finds near each other in the covariance of the generalist's
predictions. The ten domains of the intents are shown to nobody, and judge the clusters.
"""

from typing import Any

from ml_collections import ConfigDict

from kd.config import base_config, choose

NOTES = (
    "The generalist is narrow, so that it cannot learn all classes well, as the paper's could not, "
    "and trained until its validation accuracy rises no more. The bands were written first. "
    "Everything else was chosen on the validation sentences, the second time with two generalists "
    "and some twenty settings: under the *first choices* below, where ten specialists shared about "
    "forty classes, accuracy fell with the correction of the dustbin and rose a little without. "
    "What replaced them are predictions softened before they are clustered, more passes, a higher "
    "learning rate, a smaller weight of the soft targets, and longer training of the students. So "
    "all hypotheses were written after validation numbers had been seen, and before any test "
    "number of this protocol. (Test numbers of the toy sizes of `:quick` were seen before; nothing "
    "was chosen by them.) The correction and n = 1 are the paper's and were kept, although no "
    "correction and n = 2 were better on the validation sentences."
)
PAPER = {  # in %: conditional and overall accuracy; relative gains, all and by coverage
    "generalist": (43.1, 25.0),
    "specialists": (45.9, 26.1),
    "gain": 4.4,
    "coverage": {"3": 8.8, "6": 11.3, "10 or more": 14.1},
}
BANDS = {  # written before the run
    "gain": (1.0, 12.0),  # %, relative, in overall accuracy; the paper 4.4
    "kept": (0.5, 2.0),  # of that gain, by the student
}
SOURCE = "clinc150.zip"
NUMBERS_OF = {"source": SOURCE, "split": "test"}  # the data that the bands are about
EPOCHS = 20
CLASSES = 150
SPECIAL = 30  # passes of a specialist over its special examples
BACK = 40  # epochs of a student
SOFT = 0.3  # weight of the generalist's soft targets beside a specialist's labels
RATE = 5e-3


def get_config(arg: str = "") -> ConfigDict:
    """`arg`: empty for the protocol, ``quick`` for a minute or two."""
    choose(arg, "", "quick")
    config = ConfigDict()
    config.seeds = tuple(range(5))
    config.ensemble = 11  # as many as a generalist and its specialists
    config.temperatures = (1.0, 2.0, 4.0)  # of every student
    config.clustering = {
        "count": 10,
        "size": 30,
        "temperature": 4.0,
        "split": "train",
        "groups": False,
    }
    config.tops = (1, 2)
    config.top = 1
    config.split = "test"
    config.text = {
        "data": {"source": SOURCE, "data_dir": None},
        "features": 1024,
        "words": 2,
    }
    config.notes, config.paper, config.bands = NOTES, PAPER, BANDS
    config.numbers_of = NUMBERS_OF
    config.generalist = _run(EPOCHS)
    each = config.clustering.count * config.clustering.size / CLASSES
    config.longer = _run(EPOCHS + 2 * SPECIAL * each + BACK)  # generalist, specialists, student
    config.specialist = _specialist(SPECIAL, SOFT)
    config.distilled = _student(BACK)
    config.hypotheses = {} if arg else _hypotheses()
    config.steps_back = {} if arg else _steps_back()
    if arg == "quick":
        _shrink(config)
    return config


def _hypotheses() -> dict[str, Any]:
    """What the gain rests on: written before any of them was run on test examples."""
    wider = _run(EPOCHS)
    wider.student.widths = (32,)
    return {
        "uncorrected": {
            "claim": "the correction of the dustbin is too much: a specialist that knows its "
            "training examples by heart takes new ones for the dustbin's anyway",
            "correction": 0.0,
        },
        "labels_alone": {
            "claim": "the generalist's soft targets hold the specialists back",
            "specialist": _specialist(SPECIAL, 0.0),
        },
        "unsoftened": {
            "claim": "softening matters: at T = 1 the variances of a few classes rule the "
            "covariance, all specialists get nearly the same classes, and there is less to gain",
            "clustering": {"temperature": 1.0},
        },
        "domains": {
            "claim": "the clusters are poor: with the ten domains, which the method does not "
            "know, for classes there is more to gain",
            "clustering": {"groups": True},
        },
        "shorter": {
            "claim": "specialists need many passes, since their dustbin begins with no knowledge",
            "specialist": _specialist(SPECIAL / 3, SOFT),
        },
        "wider": {
            "claim": "the gain is that of a generalist too small for its classes: over one twice "
            "as wide it is smaller",
            "generalist": wider,
        },
        "first_choices": {
            "claim": "all that was chosen first: clusters at T = 1, a third of the passes, a "
            "learning rate of 0.002, soft targets of weight 1",
            "clustering": {"temperature": 1.0},
            "specialist": _specialist(SPECIAL / 3, 1.0, rate=2e-3),
            "generalist": _run(EPOCHS, rate=2e-3),
        },
    }


def _steps_back() -> dict[str, Any]:
    """What the student keeps of it: written down before any of them was run on test examples."""
    return {
        "labels": {
            "claim": "soft targets alone are not enough: labels beside them help",
            "run": _student(BACK, hard=0.5),
        },
        "longer": {
            "claim": "the student is trained too short",
            "run": _student(3 * BACK),
        },
        "two_classes": {
            "claim": "specialists asked by the two most probable classes teach better",
            "top": 2,
        },
        "uncorrected": {
            "claim": "the corrected dustbin makes worse soft targets than the uncorrected",
            "team": "uncorrected",
        },
        "wider": {
            "claim": "the generalist's network is too small to hold what its specialists know: one "
            "twice as wide keeps more",
            "network": "wider",
        },
    }


def _student(epochs: float, hard: float = 0.0) -> ConfigDict:
    config = _run(epochs)
    config.objective = {"soft_targets": {"weight": 1.0, "temperature": 1.0}}
    if hard:
        config.objective.hard = {"weight": hard}
    return config


def _specialist(passes: float, soft: float, rate: float = RATE) -> ConfigDict:
    config = _run(passes, rate)
    if soft:
        config.objective.soft_targets = {"weight": soft, "temperature": 1.0}
    return config


def _run(epochs: float, rate: float = RATE) -> ConfigDict:
    config = base_config()
    config.data.source = "npz:text.npz"  # of the stage before it, whose folder is filled in
    config.data.eval = "val"
    config.data.batch_size = 100
    config.student = {"name": "mlp", "widths": (16,)}
    config.objective = {"hard": {"weight": 1.0}}
    config.optim.name = "adam"
    config.optim.learning_rate = rate
    config.optim.learning_rate_schedule.shape = "linear"  # to zero
    config.total_epochs = epochs
    config.log_steps = 150
    config.mesh.members_by = "vmap"
    return config


def _shrink(config: ConfigDict) -> None:
    config.seeds, config.ensemble, config.temperatures = (0, 1), 2, (2.0,)
    config.paper, config.bands = {}, {}
    for run in (config.generalist, config.longer, config.specialist, config.distilled):
        run.student.widths = (32,)
        run.total_epochs = min(run.total_epochs, 3)
