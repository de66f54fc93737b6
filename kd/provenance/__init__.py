"""Who taught whom: a test of distillation with an error rate, licences, model cards."""

from kd.provenance.accusing import SHARES, Accusation, Against, accuse
from kd.provenance.answers import Answers, answers_of
from kd.provenance.closeness import STATISTICS
from kd.provenance.ranks import holm, needed, rank_p

__all__ = [
    "SHARES",
    "STATISTICS",
    "Accusation",
    "Against",
    "Answers",
    "accuse",
    "answers_of",
    "holm",
    "needed",
    "rank_p",
]
