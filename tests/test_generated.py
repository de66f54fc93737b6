"""Laws of generated images: always the same, balanced, in colour, and no class of them is a matter
of brightness.
"""

import numpy as np
import pytest

from kd import data as kd_data
from kd.data.images import generated
from kd.errors import KdError

TRAIN, TEST = (kd_data.load("shapes", split) for split in ("train", "test"))


def test_splits_have_their_sizes_and_as_many_of_each_class():
    for data, n in ((TRAIN, 2000), (TEST, 500)):
        assert data.inputs.shape == (n, 32, 32, 3)
        assert (data.inputs.dtype, data.scale, data.num_classes) == (np.uint8, 1 / 255, 10)
        assert np.bincount(data.labels).tolist() == [n // 10] * 10
    assert np.bincount(kd_data.load("shapes", "train[:50]").labels).tolist() == [5] * 10


def test_they_are_always_the_same_and_no_two_images_are():
    assert generated.shapes("test", "", None).fingerprint == TEST.fingerprint
    images = np.concatenate([TRAIN.inputs, TEST.inputs]).reshape(2500, -1)
    assert len(np.unique(images, axis=0)) == 2500


@pytest.mark.parametrize("size", [8, 64])
def test_the_argument_is_the_size(size):
    data = kd_data.load(f"shapes:{size}", "test")
    assert data.inputs.shape == (500, size, size, 3)
    np.testing.assert_array_equal(data.labels, TEST.labels)


def test_the_same_picture_at_every_size():
    """Pictures of 64 shrunk to 32 are those of 32, but for the noise."""
    large = kd_data.load("shapes:64", "test").inputs.reshape(500, 32, 2, 32, 2, 3).mean((2, 4))
    small, mean = TEST.inputs.astype(float), large.mean((1, 2, 3), keepdims=True)
    correlation = ((large - mean) * (small - small.mean((1, 2, 3), keepdims=True))).mean((1, 2, 3))
    correlation /= large.std((1, 2, 3)) * small.std((1, 2, 3))
    assert np.median(correlation) > 0.8


def test_a_pixel_says_little_and_the_picture_says_much():
    """The nearest class mean, of pixels, is near chance; so is that of brightness.

    A picture's shape is needed.
    """
    flat, test = (data.inputs.reshape(len(data), -1).astype(float) for data in (TRAIN, TEST))
    means = np.stack([flat[TRAIN.labels == c].mean(0) for c in range(10)])
    guess = ((test[:, None] - means[None]) ** 2).sum(-1).argmin(1)
    assert (guess == TEST.labels).mean() < 0.3
    of_class = [flat[TRAIN.labels == c].mean() for c in range(10)]
    assert np.ptp(of_class) < 12  # of 255


@pytest.mark.parametrize("pattern", generated.CLASSES, ids=str)
def test_a_mirrored_picture_is_of_the_same_class(pattern):
    """So flipping is a fair augmentation: the pattern, or its negative, is symmetrical."""
    half = np.arange(1, 16) / 10.3  # no place lies on an edge
    line = np.concatenate([-half[::-1], [0.0], half])
    x, y = line[None, None, :], line[None, :, None]
    brightness = np.broadcast_to(np.asarray(generated.CLASSES[pattern](x, y), float), (1, 31, 31))
    mirrored = brightness[:, :, ::-1]
    assert np.allclose(mirrored, brightness) or np.allclose(mirrored, 1 - brightness)
    assert 0 <= brightness.min() < brightness.max() <= 1


@pytest.mark.parametrize("argument", ["0", "7", "513", "big", "-32", "3.5", "²"])
def test_a_size_that_is_none_is_refused(argument):
    with pytest.raises(
        KdError, match=rf"'shapes:{argument}' is no size; give whole pixels from 8 to 512"
    ):
        kd_data.load(f"shapes:{argument}", "train")


def test_an_unknown_split_is_refused():
    with pytest.raises(KdError, match="did you mean 'test'"):
        kd_data.load("shapes", "tset")
