"""The mathematics: types, losses, objective, step. It imports neither files nor data."""

from kd.core.losses import LOSSES, LossInfo, Number
from kd.core.members import product
from kd.core.optim import make_optimizer
from kd.core.schedules import Schedule
from kd.core.terms import Term, term
from kd.core.types import Average, Batch, Heads, Hparams, Loss, Model, Outputs, Teacher

__all__ = [
    "LOSSES",
    "Average",
    "Batch",
    "Heads",
    "Hparams",
    "Loss",
    "LossInfo",
    "Model",
    "Number",
    "Outputs",
    "Schedule",
    "Teacher",
    "Term",
    "make_optimizer",
    "product",
    "term",
]
