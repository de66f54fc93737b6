"""An ensemble of ten teachers into one small student, on the digits that ship with scikit-learn.

Command:  kd reproduce hinton2015-digits        (about a minute on 2 cores)
Data:     1,797 real 8x8 scans; 1,200 to train, 597 from other pages to test
Expected: the distilled student makes about a quarter fewer test errors than the same student on hard labels

Learning rates, dropout, the main temperature and the weight of the hard term were chosen on the last 400 of the
1,200 training scans, with the first 800 to train; the test scans were used for nothing but the final numbers.
``:quick`` shrinks everything to seconds, to see that it runs.
"""

from ml_collections import ConfigDict

from kd.config import base_config, choose

SEEDS = tuple(range(10))


def get_config(arg: str = "") -> ConfigDict:
    """`arg`: empty for the protocol, ``quick`` for seconds."""
    choose(arg, "", "quick")
    quick = arg == "quick"
    config = ConfigDict()
    config.seeds = SEEDS[:5] if quick else SEEDS  # of both student arms and of the temperature sweep
    config.paper = {}  # not the paper's data
    config.ensemble = 3 if quick else 10  # teachers
    # besides the main temperature
    config.temperatures = (1.0, 20.0) if quick else (1.0, 2.0, 8.0, 20.0)

    # Teachers: wide and regularised.
    config.teachers = _run(epochs=2 if quick else 60, widths=(300, 300), learning_rate=0.05)
    config.teachers.student.input_dropout = 0.1  # probability of dropping
    config.teachers.student.hidden_dropout = 0.5
    config.teachers.objective = {"hard": {"weight": 1.0}}

    # The student, twice: the same network, data, batches and number of steps.
    epochs = 3 if quick else 60
    config.baseline = _run(epochs, widths=(30, 30), learning_rate=0.1)
    config.baseline.objective = {"hard": {"weight": 1.0}}
    config.distilled = _run(epochs, widths=(30, 30), learning_rate=0.02)
    config.distilled.objective = {"soft_targets": {"weight": 1.0, "temperature": 4.0}, "hard": {"weight": 0.5}}
    config.distilled.teacher.average = "arithmetic"
    return config


def _run(epochs: int, widths: tuple[int, ...], learning_rate: float) -> ConfigDict:
    config = base_config()
    config.data.source = "digits"
    config.data.batch_size = 50  # examples
    config.student = {"name": "mlp", "widths": widths}
    config.optim.learning_rate = learning_rate
    config.optim.learning_rate_schedule.shape = "linear"  # to zero
    config.total_epochs = epochs
    config.eval_epochs = max(epochs // 12, 1)
    config.checkpoint_epochs = max(epochs // 3, 1)
    config.log_steps = 96
    return config
