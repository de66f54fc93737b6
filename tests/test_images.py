"""Laws of crops and flips on the host: functions of (seed, step, index), inside the image, and no
bias.
"""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from kd.data.images.crops import central_box, draws, random_box, resized, viewed
from kd.errors import KdError

SIZES = st.integers(1, 400)


def picture(height, width, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


@hypothesis.given(SIZES, SIZES, st.integers(0, 2**31), st.integers(0, 2**31), st.integers(0, 2**31))
def test_a_random_box_lies_inside_and_is_a_function_of_seed_step_and_index(
    height, width, seed, step, index
):
    left, top, right, bottom = box = random_box(draws(seed, step, index), height, width)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert box == random_box(draws(seed, step, index), height, width)


def test_random_boxes_have_the_areas_and_shapes_that_they_should_have():
    boxes = np.array([random_box(draws(0, 0, i), 360, 360) for i in range(2000)])
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    area, aspect = width * height / (360 * 360), width / height
    assert area.min() > 0.045
    assert area.max() <= 1.0
    assert area.min() < 0.06 < 0.9 < area.max()
    assert 0.73 < aspect.min() < 0.77 < 1.3 < aspect.max() < 1.37  # 3/4 to 4/3, rounded to pixels
    assert abs(np.log(aspect).mean()) < 0.02  # wide as often as high
    assert abs((boxes[:, 0] + boxes[:, 2]).mean() - 360) < 6  # and no corner is preferred
    assert abs((boxes[:, 1] + boxes[:, 3]).mean() - 360) < 6


@pytest.mark.parametrize(("height", "width"), [(10, 300), (300, 10), (1, 1), (1, 500)])
def test_an_image_too_long_for_any_box_gives_its_middle(height, width):
    left, top, right, bottom = random_box(draws(1, 2, 3), height, width)
    assert right - left <= max(1, round(height * 4 / 3))
    assert bottom - top <= max(1, round(width * 4 / 3))
    # a box that was drawn, or the middle
    assert abs(left + right - width) <= 1 or right - left < width
    assert 0 <= top < bottom <= height


def test_every_part_of_the_key_matters():
    base = draws(1, 2, 3).random(4).tolist()
    others = [
        draws(0, 2, 3),
        draws(1, 0, 3),
        draws(1, 2, 0),
        draws(2, 1, 3),
        draws(1, 3, 2),
        draws(3, 2, 1),
    ]
    assert all(other.random(4).tolist() != base for other in others)
    order = np.random.Generator(np.random.Philox(key=[1, 2]))  # the order of epoch 2
    assert draws(1, 2, 0).random(4).tolist() != order.random(4).tolist()


def test_neighbours_share_no_numbers():
    words = np.concatenate([draws(1, 2, i).bit_generator.random_raw(64) for i in range(100)])
    assert len(set(words.tolist())) == len(words)


@hypothesis.given(SIZES, SIZES, st.integers(1, 64))
def test_a_constant_image_stays_what_it_is(height, width, size):
    image = np.full((height, width, 3), 77, np.uint8)
    assert np.all(viewed(image, (size, size)) == 77)
    cropped = viewed(image, (size, size), "random", True, draws(0, 0, 0))
    assert cropped.shape == (size, size, 3)
    assert np.all(cropped == 77)


def test_the_whole_image_at_its_own_size_is_the_image():
    image = picture(20, 30)
    assert np.array_equal(resized(image, (0, 0, 30, 20), 20, 30), image)
    # whole pixels: a cut
    assert np.array_equal(resized(image, (5, 3, 15, 13), 10, 10), image[3:13, 5:15])
    # no random numbers: evaluation
    assert np.array_equal(viewed(image, None, "random", True), image)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_channels_are_independent(channels):
    image = picture(40, 30, channels)
    box = (2.5, 3.0, 25.0, 28.5)
    together = resized(image, box, 16, 12)
    assert together.shape == (16, 12, channels)
    for c in range(channels):
        assert np.array_equal(together[:, :, c], resized(image[:, :, c], box, 16, 12))


def test_halving_takes_a_triangle_over_the_pixels_around():
    """Bilinear with antialiasing has a triangle of twice the width: 1/8, 3/8, 3/8, 1/8 away from
    the edges.
    """
    image = picture(16, 16, 1)[:, :, 0]
    weights = np.zeros((8, 16))
    for out in range(8):
        distance = np.abs(np.arange(16) + 0.5 - (2 * out + 1)) / 2
        weights[out] = np.maximum(1 - distance, 0)
    weights /= weights.sum(axis=1, keepdims=True)
    expected = weights @ image @ weights.T
    # rounded after each direction
    assert np.abs(resized(image, (0, 0, 16, 16), 8, 8) - expected).max() <= 1.01


@hypothesis.given(SIZES, SIZES)
def test_the_central_box_is_a_square_in_the_middle(height, width):
    left, top, right, bottom = central_box(height, width)
    assert right - left == pytest.approx(bottom - top)
    assert right - left == pytest.approx(224 / 256 * min(height, width))
    assert left + right == pytest.approx(width)
    assert top + bottom == pytest.approx(height)


def test_a_central_crop_is_resizing_the_short_side_and_cutting_out_the_middle():
    from PIL import Image

    ramp = np.add.outer(np.arange(256) * 0.5, np.arange(512) * 0.25).astype(np.uint8)
    whole = np.asarray(Image.fromarray(ramp).resize((128, 64), Image.Resampling.BILINEAR))
    assert np.abs(viewed(ramp, (56, 56)).astype(int) - whole[4:60, 36:92]).max() <= 1


def test_half_are_mirrored_whatever_the_crop():
    image = np.arange(12, dtype=np.uint8).reshape(1, 12, 1)
    flips = [viewed(image, None, "none", True, draws(0, 0, i))[0, 0, 0] == 11 for i in range(2000)]
    assert 0.46 < np.mean(flips) < 0.54
    wide = np.broadcast_to(np.arange(100, dtype=np.uint8)[None, :, None], (100, 100, 3))
    for i in range(20):
        seen = viewed(np.ascontiguousarray(wide), (50, 50), "random", True, draws(0, 0, i))
        assert (int(seen[0, -1, 0]) < int(seen[0, 0, 0])) == flips[i]
        straight = viewed(np.ascontiguousarray(wide), (50, 50), "random", False, draws(0, 0, i))
        assert straight[0, -1, 0] > straight[0, 0, 0]


def test_a_random_crop_without_a_size_keeps_the_shape():
    assert viewed(picture(20, 30), None, "random", False, draws(0, 0, 0)).shape == (20, 30, 3)


@pytest.mark.parametrize("image", [np.zeros((4, 4, 3), np.float32), np.zeros((4,), np.uint8)])
def test_what_is_no_image_of_bytes_is_refused(image):
    with pytest.raises(KdError, match="resized as bytes"):
        resized(image, (0, 0, 4, 4), 2, 2)
