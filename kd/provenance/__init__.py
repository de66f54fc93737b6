"""Who taught whom: a test of distillation with an error rate, licences, model cards."""

from kd.provenance.accusing import SHARES, Accusation, Against, accuse
from kd.provenance.answers import Answers, answers_of
from kd.provenance.closeness import STATISTICS
from kd.provenance.gate import LicenceGate
from kd.provenance.licences import load_rules
from kd.provenance.ranks import holm, needed, rank_p

__all__ = [
    "SHARES",
    "STATISTICS",
    "Accusation",
    "Against",
    "Answers",
    "LicenceGate",
    "accuse",
    "answers_of",
    "holm",
    "load_rules",
    "needed",
    "rank_p",
]
