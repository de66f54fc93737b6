"""Data files, damaged, and what training and loading make of them."""

from fuzz.archives import npz
from fuzz.folders import corpus, images, prepared_set, table
from fuzz.values import choice


def case(random, bases):
    """A data set with one or two damages, or none."""
    kind = choice(random, [npz, npz, npz, corpus, corpus, images, table, prepared_set])
    return kind(random)
