"""What a run is trained on and judged by, wherever the examples lie."""

from __future__ import annotations

import dataclasses

from kd.data.dataset import Dataset
from kd.data.stream import Stream

Examples = Dataset | Stream
"""A data set in memory, or one that is read as it is needed: both keep one contract.

An example's number, from 0, is its identity. What a model sees of it is
``kd.data.prepare(stored, unit)`` and nothing else: as the first example, in a batch, in a stream,
in a prediction. Both have a length, `first`, `seen`, `unit`, `dtype`, `num_classes`, `labels`,
`partly_labelled`, `has_label`, `weights`, `positions`, `targets`, `names`, a `fingerprint`, and
`teacher_inputs` where a teacher sees something else of them; `taught` is what it sees. Shapes:
``first[1 ...]``, labels of classes ``[n *p]``, where ``*p`` are `positions`.
"""


def of_student(data: Examples) -> Examples:
    """The examples without what only a teacher sees of them."""
    return data if data.teacher_inputs is None else dataclasses.replace(data, teacher_inputs=None)


def judged_as(data: Examples) -> str:
    """Which metrics fit: those of its `targets`, or of hidden "words": see
    `kd.evals.metrics_of`.
    """
    return "words" if data.tokens is not None and data.tokens.words else data.targets
