"""One run on scikit-learn's digits: a teacher, or with ``:distil`` a student of one.

Command:  kd train --config=configs/digits.py --workdir=runs/teacher
          kd train --config=configs/digits.py:distil --workdir=runs/student
          --config.teacher.source=run:runs/teacher
Runtime:  seconds on 2 cores
"""

from ml_collections import ConfigDict

from kd.config import base_config, choose


def get_config(arg: str = "") -> ConfigDict:
    """`arg`: empty for hard labels, ``distil`` for soft targets; then give
    config.teacher.source.
    """
    distil = choose(arg, "", "distil") == "distil"
    config = base_config()
    config.data.source = "digits"
    config.data.batch_size = 100  # examples
    config.student = {"name": "mlp", "widths": (30, 30) if distil else (100, 100)}
    if distil:
        config.objective = {
            "soft_targets": {"weight": 1.0, "temperature": 4.0},
            "hard": {"weight": 0.5},
        }
        config.teacher.source = "run:runs/teacher"
    else:
        config.objective = {"hard": {"weight": 1.0}}
    config.optim.learning_rate = 0.02 if distil else 0.05
    config.optim.learning_rate_schedule.shape = "linear"  # to zero
    config.total_epochs = 40
    config.eval_epochs = 10
    config.checkpoint_epochs = 10
    return config
