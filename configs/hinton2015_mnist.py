"""An ensemble of teachers into one student, on MNIST: Hinton, Vinyals & Dean (2015), section 3.

Command:  kd reproduce hinton2015-mnist --config=configs/hinton2015_mnist.py:quick      (ten minutes on 2 cores)
Data:     TFDS mnist, 60,000 to train and 10,000 to test; the transfer set has no translations
Paper:    teacher 67 test errors, plain student 146, the same student from soft targets at T = 20: 74

Teacher 784-1200-1200-10 with dropout, max-norm and inputs jittered by up to 2 pixels; student 784-800-800-10 without
regularisation. The paper leaves optimiser, learning rate, epochs, batch, dropout and the hard term's weight open: here
they were chosen on the last 10,000 training images. ``quick`` is a tenth of the training that the teacher wants.
"""

from ml_collections import ConfigDict

from kd.config import base_config, choose


def get_config(arg: str = "") -> ConfigDict:
    """`arg`: empty for ten teachers trained long (hours on 2 cores), ``quick`` ten minutes, ``tiny`` seconds."""
    choose(arg, "", "quick", "tiny")
    quick = arg in ("quick", "tiny")
    config = ConfigDict()
    config.seeds = tuple(range(5))  # of both student arms and of the temperature sweep
    config.notes = "Rates, dropout and the hard term's weight were chosen on the last 10,000 training images."
    config.paper = {"teachers": 67, "baseline": 146, "distilled": 74}  # test errors of 10,000
    config.ensemble = 3 if quick else 10  # teachers
    config.temperatures = (2.0,) if quick else (1.0, 2.0, 4.0, 8.0, 20.0, 40.0)

    config.teachers = _run(epochs=8 if quick else 100, widths=(1200, 1200), learning_rate=0.1)
    config.teachers.data.jitter_pixels = 2
    config.teachers.optim.max_norm = 3.5
    # Dropout pays only after tens of epochs: with eight, validation errors are fewer without it.
    config.teachers.student.input_dropout = 0.0 if quick else 0.2  # probability of dropping
    config.teachers.student.hidden_dropout = 0.0 if quick else 0.5
    config.teachers.objective = {"hard": {"weight": 1.0}}

    # The student, twice: the same network, data, batches and number of steps.
    epochs = 6 if quick else 40
    config.baseline = _run(epochs, widths=(800, 800), learning_rate=0.1)
    config.baseline.objective = {"hard": {"weight": 1.0}}
    config.distilled = _run(epochs, widths=(800, 800), learning_rate=0.01)
    config.distilled.objective = {"soft_targets": {"weight": 1.0, "temperature": 20.0}, "hard": {"weight": 20.0}}
    config.distilled.teacher.average = "arithmetic"
    if arg == "tiny":
        _shrink(config)
    return config


def _run(epochs: int, widths: tuple[int, ...], learning_rate: float) -> ConfigDict:
    config = base_config()
    config.data.source = "tfds:mnist"
    config.data.batch_size = 128  # examples
    config.student = {"name": "mlp", "widths": widths}
    config.optim.learning_rate = learning_rate
    config.optim.learning_rate_schedule.shape = "linear"  # to zero
    config.total_epochs = epochs
    config.eval_epochs = max(epochs // 10, 1)
    config.checkpoint_epochs = max(epochs // 10, 1)
    return config


def _shrink(config: ConfigDict) -> None:
    config.seeds, config.ensemble = (0, 1), 2
    config.paper = {}  # other sizes, other numbers
    for run in (config.teachers, config.baseline, config.distilled):
        run.data.train, run.data.eval = "train[:512]", "test[:500]"
        run.student.widths = (32, 32)
        run.total_epochs = 1
