"""How much of the teacher is in the student: measures of the pair, on held-out examples."""

from __future__ import annotations

import numpy as np

from kd.evals.classify import Labels, Logits, check_pair, expected, log_softmax, wrong


def agreement(student: Logits, teacher: Logits) -> float:
    """Share of examples on which both have the same most probable class, 0 to 1."""
    check_pair(student, teacher)
    return float((np.argmax(student, axis=-1) == np.argmax(teacher, axis=-1)).mean())


def agreement_on_errors(student: Logits, teacher: Logits, labels: Labels) -> float | None:
    """The same share among the teacher's own errors: dark knowledge, not mere skill.

    None if it makes none.
    """
    check_pair(student, teacher)
    rows = wrong(teacher, labels)
    return agreement(np.asarray(student)[rows], np.asarray(teacher)[rows]) if len(rows) else None


def held_out_kl(student: Logits, teacher: Logits) -> float:
    """Mean ``KL(teacher || student)`` at temperature 1 over examples, in nats."""
    check_pair(student, teacher)
    log_p, log_q = log_softmax(teacher), log_softmax(student)
    with np.errstate(invalid="ignore"):  # where both are -inf, which adds nothing
        ratio = log_p - log_q
    return float(expected(log_p, ratio).sum(axis=-1).mean())


def compare(student: Logits, teacher: Logits, labels: Labels) -> dict[str, object]:
    """Every measure of the pair."""
    return {
        "agreement": agreement(student, teacher),
        "agreement_on_errors": agreement_on_errors(student, teacher, labels),
        "held_out_kl": held_out_kl(student, teacher),
    }
