from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fewcell.images import resize_image, resize_labels, resize_labels_part
from fewcell.types import UNKNOWN

SIZES = st.integers(1, 40)
LABELS = hnp.arrays(np.int32, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(-1, 4))


def disc(size, cy, cx, radius):
    """A disc on a grid of size x size pixels; positions count pixel centres."""
    y, x = np.mgrid[:size, :size]
    return ((y - cy) ** 2 + (x - cx) ** 2 <= radius**2).astype(np.int32)


def iou(a, b):
    return np.count_nonzero(a & b) / np.count_nonzero(a | b)


def nearest(labels, shape):
    """The usual way, to compare with."""
    rows, columns = (((np.arange(n) + 0.5) * o / n).astype(int) for n, o in zip(shape, labels.shape, strict=True))
    return labels[rows][:, columns]


def corners(mask):
    """How often the outline turns."""
    padded = np.pad(mask, 1)
    blocks = padded[1:, 1:] + padded[1:, :-1] + padded[:-1, 1:] + padded[:-1, :-1]
    return np.count_nonzero(blocks % 2)


def centroid(mask):
    return np.array(np.nonzero(mask)).mean(axis=1)


# --- labels -------------------------------------------------------------------------------------------------


@given(LABELS)
@settings(max_examples=30, deadline=None)
def test_the_same_shape_gives_the_same_labels(labels):
    np.testing.assert_array_equal(resize_labels(labels, labels.shape), labels)


@given(LABELS, SIZES, SIZES)
@settings(max_examples=150, deadline=None)
def test_no_label_is_invented_and_none_moves_far(labels, height, width):
    before = labels.copy()
    result = resize_labels(labels, (height, width))
    assert result.shape == (height, width)
    assert result.dtype == np.int32
    np.testing.assert_array_equal(labels, before)
    # Every new pixel has the label of one of the old pixels around its centre.
    y, x = (
        np.clip((np.arange(n) + 0.5) * o / n - 0.5, 0, o - 1) for n, o in zip(result.shape, labels.shape, strict=True)
    )
    sides = product((np.floor, np.ceil), repeat=2)
    around = [labels[up(y).astype(int)][:, left(x).astype(int)] for up, left in sides]
    assert np.any([result == a for a in around], axis=0).all()


@given(LABELS, st.integers(1, 9), st.integers(1, 9))
@settings(max_examples=150, deadline=None)
def test_up_by_a_whole_factor_and_down_again_changes_nothing(labels, fy, fx):
    height, width = labels.shape
    large = resize_labels(labels, (height * fy, width * fx))
    np.testing.assert_array_equal(resize_labels(large, labels.shape), labels)


@given(LABELS, SIZES, SIZES)
@settings(max_examples=60, deadline=None)
def test_numbers_do_not_matter(labels, height, width):
    numbers = np.array([0, 2**31 - 1, 7, -1, 123_456, 3], np.int32)
    renamed = resize_labels(numbers[labels], (height, width))
    np.testing.assert_array_equal(renamed, numbers[resize_labels(labels, (height, width))])


@given(LABELS)
@settings(max_examples=60, deadline=None)
def test_rows_and_columns_are_treated_alike(labels):
    # Where labels tie, the order of the neighbours decides; enlarged four times, none tie.
    shape = (labels.shape[0] * 4, labels.shape[1] * 4)
    np.testing.assert_array_equal(resize_labels(labels.T, shape[::-1]).T, resize_labels(labels, shape))
    np.testing.assert_array_equal(resize_labels(labels[:, ::-1], shape)[:, ::-1], resize_labels(labels, shape))


@pytest.mark.parametrize(("radius", "least"), [(4.0, 0.89), (8.0, 0.945), (12.0, 0.96), (20.0, 0.975)])
def test_an_enlarged_disc_is_smooth(radius, least):
    small = disc(50, 24.3, 25.2, radius)
    true = disc(400, (24.3 + 0.5) * 8 - 0.5, (25.2 + 0.5) * 8 - 0.5, radius * 8)
    smooth, stairs = resize_labels(small, (400, 400)), nearest(small, (400, 400))
    assert iou(smooth, true) > least
    # What is lost is mostly what the small disc never had; nearest neighbours lose a fifth more.
    assert 1 - iou(stairs, true) > 1.2 * (1 - iou(smooth, true))
    # Many small steps make a smooth outline, few large ones stairs.
    assert corners(smooth) > 4 * corners(stairs)


@pytest.mark.parametrize("factor", [0.25, 0.5, 2, 3, 3.7, 8])
def test_cells_stay_where_they_are(factor):
    labels = disc(80, 30.0, 41.0, 15)
    size = round(80 * factor)
    result = resize_labels(labels, (size, size))
    expected = (np.array([30.0, 41.0]) + 0.5) * size / 80 - 0.5
    np.testing.assert_allclose(centroid(result), expected, atol=max(0.3, 0.06 * factor))
    assert np.count_nonzero(result) == pytest.approx(np.count_nonzero(labels) * (size / 80) ** 2, rel=0.06)


def test_touching_cells_stay_touching_and_apart():
    labels = np.zeros((30, 30), np.int32)
    labels[5:25, 5:15], labels[5:25, 15:25] = 1, 2
    large = resize_labels(labels, (240, 240))
    for cell, columns in ((1, slice(40, 120)), (2, slice(120, 200))):
        np.testing.assert_array_equal(large[100, columns], cell)
    assert (large == 1).sum() == (large == 2).sum()


def test_what_nobody_annotated_stays_so():
    labels = np.zeros((20, 20), np.int32)
    labels[:, 10:] = UNKNOWN
    labels[4:12, 4:12] = 9
    result = resize_labels(labels, (100, 100))
    assert set(np.unique(result)) == {UNKNOWN, 0, 9}
    assert (result[:, 60:] == UNKNOWN).all()
    assert (result[:, :20] == 0).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (5, 9)])
@pytest.mark.parametrize("old", [(1, 1), (1, 5), (6, 1), (6, 5)])
def test_one_value_fills_any_shape(old, shape):
    for value in (0, UNKNOWN, 3):
        result = resize_labels(np.full(old, value, np.int32), shape)
        np.testing.assert_array_equal(result, np.full(shape, value))


# --- images -------------------------------------------------------------------------------------------------


def smooth_image(size=96, channels=2, seed=0):
    """Cell-like blobs, much wider than a pixel."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    blobs = [np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 128) for cy, cx in rng.uniform(0, size, (12, 2))]
    return np.stack([sum(blobs[c::channels]) for c in range(channels)]).astype(np.float32)


def test_the_same_shape_gives_the_same_image():
    pixels = smooth_image()
    np.testing.assert_array_equal(resize_image(pixels, (96, 96)), pixels)


@given(
    hnp.arrays(np.float32, st.tuples(st.integers(1, 3), SIZES, SIZES), elements=st.floats(-1, 4, width=32)),
    SIZES,
    SIZES,
)
@settings(max_examples=60, deadline=None)
def test_no_value_is_invented(pixels, height, width):
    before = pixels.copy()
    result = resize_image(pixels, (height, width))
    assert result.shape == (len(pixels), height, width)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(pixels, before)
    for new, old in zip(result, pixels, strict=True):
        assert old.min() - 1e-5 <= new.min()
        assert new.max() <= old.max() + 1e-5


@pytest.mark.parametrize("factor", [0.25, 0.5, 0.77, 2, 3.5])
def test_pixel_edges_are_aligned(factor):
    y, x = np.mgrid[:64, :80].astype(np.float32)
    shape = (round(64 * factor), round(80 * factor))
    result = resize_image(np.stack([y, x]), shape)
    for channel, axis in ((0, 0), (1, 1)):
        step = (64, 80)[axis] / shape[axis]
        expected = (np.arange(shape[axis]) + 0.5) * step - 0.5
        inner = slice(int(2 * max(1, factor)), -int(2 * max(1, factor)))
        line = result[channel].mean(axis=1 - axis)
        # Triangles of a broken width do not sum up evenly, but they lean to neither side.
        np.testing.assert_allclose(line[inner], expected[inner], atol=1e-3 if factor != 0.77 else 0.1)
        assert (line - expected)[inner].mean() == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("size", [96, 73, 48, 31, 24, 200])
def test_the_mean_is_kept(size):
    pixels = smooth_image()
    np.testing.assert_allclose(
        resize_image(pixels, (size, size)).mean(axis=(1, 2)), pixels.mean(axis=(1, 2)), rtol=0.01
    )


@pytest.mark.parametrize("factor", [2, 3, 4, 8])
def test_stripes_finer_than_a_new_pixel_become_gray(factor):
    x = np.arange(240)
    for period in (2, 3):
        if period == factor == 3:
            continue
        stripes = np.broadcast_to((x % period == 0).astype(np.float32), (1, 48, 240))
        result = resize_image(stripes, (48 // factor, 240 // factor))[0, 2:-2, 2:-2]
        assert np.ptp(result) < 0.25
        assert result.mean() == pytest.approx(1 / period, abs=0.02)


def test_there_and_back_again():
    pixels = smooth_image()
    back = resize_image(resize_image(pixels, (288, 288)), (96, 96))
    np.testing.assert_allclose(back, pixels, atol=0.02)


def test_one_pixel():
    np.testing.assert_array_equal(resize_image(np.full((3, 1, 1), 2.5, np.float32), (4, 6)), np.full((3, 4, 6), 2.5))
    assert resize_image(smooth_image(), (1, 1)).shape == (2, 1, 1)


def test_channels_do_not_mix():
    pixels = smooth_image(channels=3)
    apart = [resize_image(c[None], (50, 70))[0] for c in pixels]
    np.testing.assert_array_equal(resize_image(pixels, (50, 70)), np.stack(apart))


@given(LABELS, SIZES, SIZES, st.data())
@settings(max_examples=200, deadline=None)
def test_a_part_is_resampled_as_the_whole_is(labels, height, width, data):
    whole = resize_labels(labels, (height, width))
    (y0, y1), (x0, x1) = (
        sorted(data.draw(st.lists(st.integers(0, side), min_size=2, max_size=2, unique=True)))
        for side in (height, width)
    )
    steps = [old / new for old, new in zip(labels.shape, (height, width), strict=True)]
    (top, bottom), (left, right) = (
        (max(int(first * step) - 2, 0), min(int(np.ceil(last * step)) + 2, old))
        for first, last, step, old in zip((y0, x0), (y1, x1), steps, labels.shape, strict=True)
    )
    part = labels[top:bottom, left:right]
    found = resize_labels_part(part, (top, left), labels.shape, (height, width), (y0, x0, y1, x1))
    np.testing.assert_array_equal(found, whole[y0:y1, x0:x1])
