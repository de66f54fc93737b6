"""What a run is trained on and judged by, wherever the examples lie."""

from kd.data.dataset import Dataset
from kd.data.stream import Stream

Examples = Dataset | Stream
"""A data set in memory, or one that is read as it is needed: both keep one contract.

An example's number, from 0, is its identity. What a model sees of it is
``kd.data.prepare(stored, unit)`` and nothing else: as the first example, in a batch, in a stream,
in a prediction. Both have a length, `first`, `seen`, `unit`, `dtype`, `num_classes`, `labels`,
`has_label`, `positions`, `targets`, `names` and a `fingerprint`. Shapes: ``first[1 ...]``, labels
of classes ``[n *p]``, where ``*p`` are `positions`.
"""
