"""Data: sources, splits, order, batches on the device, augmentation."""

from kd.data.archive import find_data, members
from kd.data.class_weights import weigh_classes
from kd.data.dataset import Dataset, arrays, beside
from kd.data.described import described
from kd.data.device import as_seen, example_batch, gather, shortened, to_device
from kd.data.examples import Examples
from kd.data.held import as_stream, in_memory
from kd.data.held_out import check_same_kind
from kd.data.opening import open_stream
from kd.data.order import Order, Rows, padded_rows, rows, steps_of, steps_per_epoch
from kd.data.pipeline import Batches, batches, in_order
from kd.data.slices import of_classes, parse_split, split_rows, take
from kd.data.sources import SOURCES, is_code, load
from kd.data.stored import prepare
from kd.data.stream import Stream
from kd.data.tokens.buckets import by_length, padding_waste
from kd.data.tokens.masking import hidden, masking
from kd.data.tokens.source import from_texts
from kd.data.tokens.text import Text, check_text
from kd.data.tokens.vocabulary import Tokens, Vocabulary
from kd.data.views.fixed import FixedViews, fixed_views
from kd.data.views.flip import flip
from kd.data.views.jitter import jitter
from kd.data.views.mixup import chain, mixup

__all__ = [
    "SOURCES",
    "Batches",
    "Dataset",
    "Examples",
    "FixedViews",
    "Order",
    "Rows",
    "Stream",
    "Text",
    "Tokens",
    "Vocabulary",
    "arrays",
    "as_seen",
    "as_stream",
    "batches",
    "beside",
    "by_length",
    "chain",
    "check_same_kind",
    "check_text",
    "described",
    "example_batch",
    "find_data",
    "fixed_views",
    "flip",
    "from_texts",
    "gather",
    "hidden",
    "in_memory",
    "in_order",
    "is_code",
    "jitter",
    "load",
    "masking",
    "members",
    "mixup",
    "of_classes",
    "open_stream",
    "padded_rows",
    "padding_waste",
    "parse_split",
    "prepare",
    "rows",
    "shortened",
    "split_rows",
    "steps_of",
    "steps_per_epoch",
    "take",
    "to_device",
    "weigh_classes",
]
