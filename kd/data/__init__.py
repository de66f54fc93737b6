"""Data: sources, splits, order, batches on the device, augmentation."""

from kd.data.augment import jitter
from kd.data.dataset import Dataset, arrays, of_classes, parse_split, take
from kd.data.device import gather, to_device
from kd.data.mixup import chain, mixup
from kd.data.order import padded_rows, rows, steps_of, steps_per_epoch
from kd.data.sources import SOURCES, load

__all__ = [
    "SOURCES",
    "Dataset",
    "arrays",
    "chain",
    "gather",
    "jitter",
    "load",
    "mixup",
    "of_classes",
    "padded_rows",
    "parse_split",
    "rows",
    "steps_of",
    "steps_per_epoch",
    "take",
    "to_device",
]
