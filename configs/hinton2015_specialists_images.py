"""Specialists and the step back: Hinton, Vinyals & Dean (2015), section 5, on images.

Command:  kd reproduce hinton2015-specialists-images   (sized for four hours on 2 cores; ``:quick``
  minutes; ``:hypotheses``, in the same --workdir, adds what each band rests on, as much again)
Data:     images/tiny_imagenet_100.zip in KD_DATA_DIR or --data_dir: 100 classes of Tiny-ImageNet,
  train and val as folders of images, words.txt with what the classes are called; ``--source=PATH``
  where it lies elsewhere
Paper:    as in hinton2015_specialists.py

The images are brought to 32 pixels once. A small residual network tells 100 classes apart; the
classes of a specialist are those that K-means finds near each other in the covariance of the
generalist's predictions. The last 3,000 training images are validation, and the 5,000 of val are
what is reported.

Sizes. An epoch of 27,000 images takes this network 30 s of processor time, which is taken for
19 s on 2 idle cores; 27,000 answers take 9 s of it. In epochs: generalists 7 x 15 = 105,
the longer ones 5 x (15 + 9 + 20) = 220, specialists 5 x 9 = 45, students 3 x 5 x 20 = 300.

  stage                     epochs  minutes
  features                       -        1
  generalists                  105       33
  longer                       220       70
  self, of_ensemble           each       33, of 100 epochs
  specialists0 to 4         each 9        5, answers and eq. 5 included
  of_specialists0 to 4     each 20        7
  measure                        -        2
  in all                       670      230, the longest stage 70

With ``:hypotheses`` 225 epochs of specialists and 450 of students more, 220 minutes.
"""

import pathlib
from typing import Any

from ml_collections import ConfigDict

from kd.config import base_config, choose, load_config

NOTES = (
    "The examples of validation are the last 3,000 training images; the test examples are the "
    "archive's 5,000 of val. Of each image the middle seven eighths are seen, at 32 pixels; there "
    "is no augmentation, so that a teacher's answers stay what they are. Sizes, rates and bands "
    "were written before any run of this protocol, and nothing was tuned on these images (test "
    "numbers of the toy sizes of `:quick` were seen; nothing was chosen by them): specialists of a "
    "quarter of the classes, predictions softened at T = 4 before they are clustered, a weight of "
    "0.3 of the soft targets, students at T = 2 and n = 1 are what the validation sentences of "
    "CLINC150 chose, or the paper. Statistics of batch normalisation go on with the specialists' "
    "training, of which half of the examples are special. The ensemble has as many generalists as "
    "one and its specialists are networks."
)
BANDS = {  # written before the run
    "gain": (1.0, 12.0),  # %, relative, in overall accuracy; the paper 4.4
    "kept": (0.5, 2.0),  # of that gain, by the student
}
SOURCE = "folder:images/tiny_imagenet_100.zip"
NUMBERS_OF = {"source": "tiny_imagenet_100.zip", "split": "val"}  # what the bands are about
CLASSES = 100
TRAIN, VALIDATION = "train[:27000]", "train[27000:]"
COUNT, SIZE = 6, 25  # specialists, and classes of each
EPOCHS = 15
SPECIAL = 3  # passes of a specialist over its special examples
BACK = 20  # epochs of a student
SOFT = 0.3  # weight of the generalist's soft targets beside a specialist's labels
RATE = 0.1
SPECIAL_RATE = 0.03  # of what begins with the generalist's weights
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pixels


def get_config(arg: str = "") -> ConfigDict:
    """`arg`: empty for the protocol, ``hypotheses`` for those too, ``quick`` for minutes."""
    choose(arg, "", "hypotheses", "quick")
    config = ConfigDict()
    config.seeds = tuple(range(5))
    config.ensemble = 1 + COUNT  # as many as a generalist and its specialists
    config.temperatures = (2.0,)  # of every student
    config.clustering = {
        "count": COUNT,
        "size": SIZE,
        "temperature": 4.0,
        "split": TRAIN,
        "groups": False,
    }
    config.tops = (1, 2)
    config.top = 1
    config.split = "val"
    config.images = {"data": {"source": SOURCE, "data_dir": None}, "size": 32}
    config.notes, config.paper, config.bands = NOTES, _paper(), BANDS
    config.numbers_of = NUMBERS_OF
    config.generalist = _run(EPOCHS)
    special = 2 * SPECIAL * COUNT * SIZE / CLASSES  # epochs of all specialists together
    config.longer = _run(EPOCHS + special + BACK)  # generalist, specialists, student
    config.specialist = _specialist(SPECIAL, SOFT)
    config.distilled = _student(BACK)
    config.hypotheses = _hypotheses() if arg == "hypotheses" else {}
    config.steps_back = _steps_back() if arg == "hypotheses" else {}
    if arg == "quick":
        _shrink(config)
    return config


def _paper() -> Any:
    """The paper's numbers, which are about other data here and there."""
    return load_config(pathlib.Path(__file__).with_name("hinton2015_specialists.py")).paper


def _hypotheses() -> dict[str, Any]:
    """What the gain rests on: written before any run."""
    return {
        "uncorrected": {
            "claim": "the correction of the dustbin is too much, as on CLINC150",
            "correction": 0.0,
        },
        "labels_alone": {
            "claim": "the generalist's soft targets hold the specialists back",
            "specialist": _specialist(SPECIAL, 0.0),
        },
        "more_passes": {
            "claim": "the specialists are trained too short: twice the passes gain more",
            "specialist": _specialist(2 * SPECIAL, SOFT),
        },
        "unsoftened": {
            "claim": "clusters of predictions as they are, at T = 1, gain less",
            "clustering": {"temperature": 1.0},
        },
    }


def _steps_back() -> dict[str, Any]:
    """What the student keeps of it: written before any run."""
    return {
        "labels": {
            "claim": "soft targets alone are not enough: labels beside them help",
            "run": _student(BACK, hard=0.5),
        },
        "longer": {
            "claim": "the student is trained too short: half as long again keeps more",
            "run": _student(1.5 * BACK),
        },
        "two_classes": {
            "claim": "specialists asked by the two most probable classes teach better",
            "top": 2,
        },
        "uncorrected": {
            "claim": "the corrected dustbin makes worse soft targets than the uncorrected",
            "team": "uncorrected",
        },
    }


def _student(epochs: float, hard: float = 0.0) -> ConfigDict:
    config = _run(epochs)
    config.objective = {"soft_targets": {"weight": 1.0, "temperature": 2.0}}
    if hard:
        config.objective.hard = {"weight": hard}
    return config


def _specialist(passes: float, soft: float) -> ConfigDict:
    config = _run(passes, SPECIAL_RATE)
    if soft:
        config.objective.soft_targets = {"weight": soft, "temperature": 1.0}
    return config


def _run(epochs: float, rate: float = RATE) -> ConfigDict:
    config = base_config()
    config.data.source = "npz:images.npz"  # of the stage before it, whose folder is filled in
    config.data.train, config.data.eval = TRAIN, VALIDATION
    config.data.batch_size = 100
    config.student = {
        "name": "resnet",
        "depth": 8,
        "width": 0.5,
        "mean": MEAN,
        "deviation": DEVIATION,
    }
    config.objective = {"hard": {"weight": 1.0}}
    config.optim.learning_rate = rate
    config.optim.learning_rate_schedule.shape = "linear"  # to zero
    config.optim.weight_decay = 5e-4
    config.total_epochs = epochs
    config.checkpoint_epochs = 2
    config.log_steps = 90  # a third of an epoch
    return config


def _shrink(config: ConfigDict) -> None:
    config.seeds, config.ensemble = (0, 1), 2
    config.notes, config.paper, config.bands = "", {}, {}
    config.clustering.count, config.clustering.split, config.split = 3, "train[:2000]", "val[:1000]"
    for run in (config.generalist, config.longer, config.specialist, config.distilled):
        run.data.train, run.data.eval = "train[:2000]", "train[2000:3000]"
        run.student.width = 0.25
        run.total_epochs = min(run.total_epochs, 3)
