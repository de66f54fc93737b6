"""Trained models as files of their own: read back by kd, or run where kd is not."""

from kd.exporting.files import CONFIG, PROGRAM, WEIGHTS, Kept, read, write
from kd.exporting.hugging_face import write_hugging_face
from kd.exporting.program import lowered
from kd.exporting.trees import arrays_of, declared, model_of, trees_of

__all__ = [
    "CONFIG",
    "PROGRAM",
    "WEIGHTS",
    "Kept",
    "arrays_of",
    "declared",
    "lowered",
    "model_of",
    "read",
    "trees_of",
    "write",
    "write_hugging_face",
]
