"""The library in one call: train any Flax module on NumPy arrays, with or without a teacher."""

from __future__ import annotations

import functools
import numbers
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optax

from kd import evals
from kd.core.members import make_members
from kd.core.schedules import Schedule
from kd.core.state import State
from kd.core.step import View
from kd.core.terms import Term
from kd.core.types import Teacher
from kd.data import Dataset, check_same_kind, steps_per_epoch
from kd.errors import KdError
from kd.models.repeated import check_layers
from kd.placement.ambient import pinned
from kd.placement.mesh import MeshSpec
from kd.placement.sharding import Sharding
from kd.teachers.trained import Trained
from kd.training import loop
from kd.training.task import Task, make_task
from kd.training.writers import Progress, Write


@pinned()
def fit(
    model: Any,
    data: Dataset,
    terms: Sequence[Term],
    *,
    teacher: Teacher | None = None,
    init: Trained | None = None,
    layers: Sequence[int] | None = None,
    freeze: Sequence[str] = (),
    epochs: float = 10,
    batch_size: int = 100,
    optimizer: optax.GradientTransformation | None = None,
    learning_rate: float | None = None,
    learning_rate_schedule: Schedule | None = None,
    population: Mapping[str, Any] | None = None,
    seed: int | np.integer = 0,
    view: View | None = None,
    validation: Dataset | None = None,
    patience: int | None = None,
    watch: str | None = None,
    accumulate: int = 1,
    ema: float = 0.0,
    mesh: MeshSpec = MeshSpec(devices=1),
    sharding: Sharding = Sharding(),
    title: str = "fit",
) -> Trained:
    """Train `model` on `data` and return it.

    Args:
      model: a Flax Linen module that maps ``[b ...]`` inputs to ``[b v]`` logits, or a `Model`.
      data: see `kd.arrays`.
      terms: the objective, e.g.
        ``[kd.term("soft_targets", temperature=4.0), kd.term("hard", weight=0.5)]``.
      teacher: what ``Trained.teacher()`` returns; None to train on labels alone.
      init: a trained model to begin with: arrays of the same names and shapes are its own, the
        others are drawn. Of a population member i begins with member i.
      layers: which block of `init` each block of the model begins as, e.g. ``(0, 2, 4)``.
      freeze: patterns of the names of parameters that stay as they are, e.g. ``("Dense_0/*",)``.
      epochs: length of the run in passes over the data.
      batch_size: examples in a step.
      optimizer: any Optax optimiser; SGD with momentum 0.9 by default.
      learning_rate: 0.05 by default. With an optimiser of your own, whose rate is in it already,
        this is a factor of its updates, 1 by default; so is the ``learning_rate`` of a population.
      learning_rate_schedule: shape of the rate over the run, linear to zero by default. With an
        optimiser of your own, whose schedule is in it already, it multiplies and is constant by
        default.
      population: columns with one value per member, e.g. ``kd.product(seed=range(5))``; all train
        in one program.
      seed: of a single run; weights, order of examples, dropout and augmentation are functions of
        it.
      view: augmentation, e.g. ``kd.jitter(2)``, or a fixed set of views: see `kd.fixed_views`.
      validation: for early stopping: after every epoch each member is judged by its errors on these
        labelled examples, and what is returned is its best state and not its last. None to train to
        the end.
      patience: ends training when each member has been judged so many times without getting better.
      watch: by which metric it is judged, e.g. "nll", "auroc", "rmse"; by errors where labels are
        classes, else by nll (yes or no) or rmse (numbers).
      accumulate: parts of each batch, taken one after another.
      ema: decay of a moving average of the parameters, which is then what is returned; 0 for none.
      mesh: devices and how they are laid out; one device by default, ``kd.MeshSpec()`` for all.
      sharding: how the parameters of student and teacher are split over the mesh.
      title: what the progress bar says.

    Raises:
      KdError: parts that do not fit together, or a loss that is not finite (the step is named).
    """
    _check_types(data, terms, teacher)
    _check_start(init, freeze)
    _check_numbers(epochs, seed, learning_rate)
    _check_training(optimizer, learning_rate_schedule, view)
    _check_validation(validation, data)
    watch = _watched(validation, patience, watch)
    population = {} if population is None else population
    _check_columns(population, seed, learning_rate)
    optimizer, rate, schedule = _descent(optimizer, learning_rate, learning_rate_schedule)
    task = make_task(
        model,
        data,
        terms,
        make_members(terms, population, rate, int(seed)),
        batch_size=batch_size,
        epochs=epochs,
        optimizer=optimizer,
        teacher=teacher,
        init=init,
        layers=check_layers(layers, init),
        freeze=freeze,
        view=view,
        learning_rate_schedule=schedule,
        early_stopping=validation is not None,
        patience=patience,
        accumulate=accumulate,
        ema=ema,
        mesh=mesh,
        sharding=sharding,
    )
    return _trained(task, validation, watch, title)


def _descent(
    optimizer: optax.GradientTransformation | None, rate: float | None, schedule: Schedule | None
) -> tuple[optax.GradientTransformation, float, Schedule]:
    """The optimiser, what multiplies its updates, and the shape of that over the run.

    An optimiser of the caller's own has its rate and its schedule in it already.
    """
    if optimizer is None:
        optimizer, usual_rate, usual_shape = optax.sgd(1.0, momentum=0.9), 0.05, "linear"
    else:
        usual_rate, usual_shape = 1.0, "constant"
    return optimizer, usual_rate if rate is None else rate, schedule or Schedule(usual_shape)


def _trained(task: Task, validation: Dataset | None, watch: str, title: str) -> Trained:
    """Run the task, looking at `validation` once an epoch where there is one."""
    cadence, validate = loop.Cadence(), None
    if validation is not None:
        cadence = loop.Cadence(evaluate=steps_per_epoch(len(task.data), task.batch_size))
        validate = functools.partial(_badness, task, validation, watch)

    def start_writing(resumed_at: int) -> list[Write]:
        progress.resume(resumed_at)
        progress.say(f"{title}: {task.data.seen.text}")
        if task.first is not None:
            progress.say(f"{title}: {task.first.text}")
        return [progress.write]

    with Progress(title, task.total_steps, task.batch_size * (task.members.size or 1)) as progress:
        state = loop.run(task, cadence=cadence, validate=validate, start_writing=start_writing)
    return loop.result(task, state)


def _badness(task: Task, validation: Dataset, watch: str, state: State) -> Any:
    return loop.latest(task, state).badness(validation, watch)


def _check_columns(population: Mapping[str, Any], seed: Any, learning_rate: Any) -> None:
    """Raise a `KdError` for an argument that a column of the population stands in place of."""
    for name, value in (("seed", int(seed) or None), ("learning_rate", learning_rate)):
        if value is not None and name in population:
            raise KdError(
                f"{name}={value} changes nothing: population has a column {name} with one for "
                "every member; leave one of them out"
            )


def _check_types(data: Any, terms: Any, teacher: Any) -> None:
    if not isinstance(data, Dataset):
        raise KdError(
            f"data must be a Dataset, got {type(data).__name__}; make one with kd.arrays(inputs, "
            "labels)"
        )
    if not isinstance(terms, (list, tuple)) or not all(isinstance(t, Term) for t in terms):
        raise KdError("terms must be a list of terms, e.g. [kd.term('hard')]")
    if teacher is not None and not isinstance(teacher, Teacher):
        raise KdError(
            f"teacher must be a Teacher, got {type(teacher).__name__}; a trained model answers "
            ".teacher()"
        )


def _check_start(init: Any, freeze: Any) -> None:
    if init is not None and not isinstance(init, Trained):
        raise KdError(
            f"init must be a trained model, got {type(init).__name__}; kd.fit and kd.load give one"
        )
    names = isinstance(freeze, Sequence) and not isinstance(freeze, str)
    if not names or not all(isinstance(pattern, str) for pattern in freeze):
        raise KdError(
            f"freeze must be patterns of names of parameters, got {freeze!r}; e.g. ('Dense_0/*',)"
        )


def _check_numbers(epochs: Any, seed: Any, learning_rate: Any) -> None:
    if not _is_number(epochs) or not _is_number(seed):
        raise KdError(f"epochs and seed must be numbers, got epochs={epochs!r} and seed={seed!r}")
    if not 0 < epochs <= sys.float_info.max or not 0 <= seed < 2**31 or seed != int(seed):
        raise KdError(
            "epochs must be more than 0 and seed a whole number in [0, 2^31), got "
            f"epochs={epochs!r} and seed={seed!r}"
        )
    if learning_rate is not None and not (
        _is_number(learning_rate) and 0 < learning_rate <= sys.float_info.max
    ):
        raise KdError(
            f"learning_rate must be a finite number above 0, got {learning_rate!r}; its shape over "
            "the run is learning_rate_schedule"
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _check_training(optimizer: Any, schedule: Any, view: Any) -> None:
    if optimizer is not None and not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        raise KdError(
            f"optimizer must be an optimiser of Optax, got {optimizer!r:.80}; e.g. optax.adam(1e-3)"
        )
    if schedule is not None and not isinstance(schedule, Schedule):
        raise KdError(
            f"learning_rate_schedule must be a kd.Schedule, got {schedule!r:.80}; e.g. "
            "kd.Schedule('cosine')"
        )
    if view is not None and not callable(view):
        raise KdError(
            f"view must be a function of a key and a batch, got {view!r:.80}; e.g. kd.jitter(2)"
        )


def _watched(validation: Dataset | None, patience: Any, watch: Any) -> str:
    """The metric by which a run is judged; "" where it is not."""
    if validation is None:
        for name, value in (("patience", patience), ("watch", watch)):
            if value is not None:
                raise KdError(f"{name}={value!r} changes nothing without validation; pass that too")
        return ""
    return evals.watch_of(watch, validation.targets, validation.num_classes)


def _check_validation(validation: Any, data: Dataset) -> None:
    if validation is None:
        return
    if not isinstance(validation, Dataset):
        raise KdError(
            f"validation must be a Dataset, got {type(validation).__name__}; make one with "
            "kd.arrays"
        )
    if not validation.labelled:
        raise KdError(
            "validation is judged by errors and these examples have no labels; pass labelled ones"
        )
    fix = "pass examples of the same kind"
    check_same_kind("validation", validation, "data", data, fix)
