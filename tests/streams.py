"""A source that notes what is read, and what tests of streams do with one."""

import itertools

import numpy as np

from kd import data as kd_data
from kd.data.stream import Stream

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 6, 5, 3), np.uint8)
DATA = kd_data.arrays(PIXELS, np.arange(40) % 4, scale=1 / 255)


class Counted:
    """A source that notes what is read; images of several sizes, a few of them impossible to
    read.
    """

    def __init__(self, sizes=((6, 5),), bad=(), examples=40):
        self.sizes, self.bad, self.examples, self.reads = sizes, bad, examples, []

    def __len__(self):
        return self.examples

    def __getitem__(self, index):
        self.reads.append(index)
        if index in self.bad:
            raise OSError("truncated file\nwith details")
        height, width = self.sizes[index % len(self.sizes)]
        image = np.random.default_rng(index).integers(0, 256, (height, width, 3), np.uint8)
        return {"image": image, "label": index % 4}


def counted(source=None, **options):
    return Stream(Counted() if source is None else source, 4, "counted", **options)


def taken(iterator, count):
    with iterator:
        return list(itertools.islice(iterator, count))


def same(first, other):
    return (
        len(first) == len(other)
        and all(a.keys() == b.keys() for a, b in zip(first, other, strict=True))
        and all(
            a[k].dtype == b[k].dtype and np.array_equal(a[k], b[k])
            for a, b in zip(first, other, strict=True)
            for k in a
        )
    )
