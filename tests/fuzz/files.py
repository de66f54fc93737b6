"""Data files, damaged, and what training and loading make of them."""

from fuzz.archives import npz
from fuzz.folders import corpus, images, prepared_set, table
from fuzz.soft import soft_labels
from fuzz.values import choice

KINDS = [*[npz] * 3, *[corpus] * 2, *[images] * 2, *[table] * 2, *[soft_labels] * 3, prepared_set]


def case(random, bases):
    """A data set with one or two damages, or none."""
    kind = choice(random, KINDS)
    return kind(random)
