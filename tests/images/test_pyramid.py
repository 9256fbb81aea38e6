import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewcell.images import Pyramid, resize_image

SIDES = st.integers(1, 90)


def noise(shape, channels=3, seed=0):
    return np.random.default_rng(seed).random((channels, *shape), dtype=np.float32)


def ramp(height, width):
    """Values that say where a pixel's centre lies."""
    y, x = np.mgrid[:height, :width].astype(np.float32) + 0.5
    return np.stack([y, x, x - y])


@pytest.mark.parametrize("channels", [1, 3])
def test_a_view_of_all_pixels_is_the_image(channels):
    pixels = np.broadcast_to(noise((31, 47), channels), (3, 31, 47))
    seen = Pyramid(pixels).view((0, 0, 31, 47), (31, 47))
    assert np.array_equal(seen, pixels)
    assert seen.flags.c_contiguous


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(31, 47), (80, 100), (16, 25)])
def test_a_view_that_is_more_than_half_as_large_is_resampled_from_the_image(shape, channels):
    pixels = np.broadcast_to(noise((31, 47), channels), (3, 31, 47))
    np.testing.assert_allclose(Pyramid(pixels).view((0, 0, 31, 47), shape), resize_image(pixels, shape), atol=1e-5)


@given(SIDES, SIDES, st.integers(1, 6), st.data())
@settings(max_examples=80, deadline=None)
def test_a_view_lies_where_its_window_lies(height, width, times, data):
    """However much smaller than the image, and whatever odd rows there are on the way."""
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    bottom, right = data.draw(st.integers(top + 1, height)), data.draw(st.integers(left + 1, width))
    shape = (max(1, (bottom - top) // times), max(1, (right - left) // times))
    seen = Pyramid(ramp(height, width)).view((top, left, bottom, right), shape)
    assert seen.shape == (3, *shape)
    assert seen.dtype == np.float32
    inner = (slice(None), slice(2, -2), slice(2, -2))
    step_y, step_x = (bottom - top) / shape[0], (right - left) / shape[1]
    y = top + (np.arange(shape[0]) + 0.5) * step_y
    x = left + (np.arange(shape[1]) + 0.5) * step_x
    np.testing.assert_allclose(seen[0][inner[1:]], np.broadcast_to(y[:, None], shape)[inner[1:]], atol=0.02 * height)
    np.testing.assert_allclose(seen[1][inner[1:]], np.broadcast_to(x, shape)[inner[1:]], atol=0.02 * width)


def test_a_small_view_is_a_mean_without_aliasing():
    pixels = np.zeros((3, 64, 64), dtype=np.float32)
    pixels[:, ::2] = 1
    np.testing.assert_allclose(Pyramid(pixels).view((0, 0, 64, 64), (8, 8)), 0.5, atol=0.01)


@pytest.mark.parametrize(("scale", "step"), [(2.0, 1), (1.0, 1), (0.51, 1), (0.5, 2), (0.3, 2), (0.25, 4), (0.1, 8)])
def test_a_gray_copy_is_never_coarser_than_asked_for(scale, step):
    gray, wide = Pyramid(noise((101, 64))).gray(scale)
    assert wide == step
    assert gray.shape == (-(-101 // step), -(-64 // step))


def test_where_to_look_is_told_by_a_coarser_copy_of_a_large_image(monkeypatch):
    monkeypatch.setattr("fewcell.images.pyramid.MOST_GRAY_PX", 40)
    pyramid = Pyramid(noise((512, 300)))
    assert pyramid.gray(1.0)[1] == 4, "but only so much coarser than asked for"
    assert pyramid.gray(0.25)[1] == 16
    monkeypatch.setattr("fewcell.images.pyramid.MOST_GRAY_PX", 512 * 300 // 4)
    assert pyramid.gray(1.0)[1] == 2


def test_of_a_very_large_image_only_an_overview_is_looked_at_whole(monkeypatch):
    pixels = noise((101, 64))
    assert np.array_equal(Pyramid(pixels).overview(), pixels)
    monkeypatch.setattr("fewcell.images.pyramid.MOST_OVERVIEW_PX", 51 * 32)
    assert Pyramid(pixels).overview().shape == (3, 51, 32)
    assert Pyramid(pixels).gray(1.0)[1] == 2
    assert np.array_equal(Pyramid(pixels).view((0, 0, 101, 64), (101, 64)), pixels), "views are as fine as ever"


def test_a_gray_image_is_kept_once():
    gray = np.broadcast_to(noise((40, 40), 1), (3, 40, 40))
    assert len(Pyramid(gray).overview()) == len(Pyramid(gray.copy()).overview()) == 1
    assert len(Pyramid(noise((40, 40))).overview()) == 3


@given(st.integers(20, 120), st.integers(20, 120), st.floats(0.1, 4), st.data())
@settings(max_examples=60, deadline=None)
def test_a_part_of_a_view_is_the_same_to_the_bit_and_mirrored_beyond(height, width, factor, data):
    shape = (max(2, round(height * factor)), max(2, round(width * factor)))
    pyramid = Pyramid(noise((height, width)))
    whole = pyramid.view(pyramid.whole, shape)
    beyond = np.pad(whole, [(0, 0), *((0, 2 * side + 5) for side in shape)], mode="symmetric")
    (top, bottom), (left, right) = (
        sorted(data.draw(st.lists(st.integers(0, 3 * side + 5), min_size=2, max_size=2, unique=True))) for side in shape
    )
    part = pyramid.view(pyramid.whole, shape, (top, left, bottom, right))
    np.testing.assert_array_equal(part, beyond[:, top:bottom, left:right])
