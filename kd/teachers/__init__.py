"""Teachers: made live, of an ensemble or of a table, and what they answer for a data set."""

from kd.teachers.make import ensemble, live, precomputed, predicts_by
from kd.teachers.trained import Trained, member_evaluation, precompute

__all__ = [
    "Trained",
    "ensemble",
    "live",
    "member_evaluation",
    "precompute",
    "precomputed",
    "predicts_by",
]
