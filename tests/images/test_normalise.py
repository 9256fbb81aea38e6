import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewcell.errors import AxesError
from fewcell.images import Contrast, estimate_contrast, normalise
from fewcell.images.normalise import HIGHEST_PEAK, LOWEST, SAMPLED_PIXELS, _percentile


def disc_field(cells, *, size=400, radius=12, field=100.0, noise=5.0, bright=1000.0, seed=0):
    """Bright discs on a noisy field; returns the image and where the discs are."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    inside = np.zeros((size, size), bool)
    for cy, cx in rng.integers(radius, size - radius, (cells, 2)):
        inside |= (y - cy) ** 2 + (x - cx) ** 2 <= radius**2
    pixels = rng.normal(field, noise, (1, size, size)) + inside * bright
    return pixels.astype(np.float32), inside


def gradient(low, high, shape=(1, 64, 80), dtype=np.float32):
    return np.linspace(low, high, int(np.prod(shape))).reshape(shape).astype(dtype)


# --- the range ----------------------------------------------------------------------------------------------


def test_an_even_ramp_is_stretched_between_its_percentiles():
    result = normalise(gradient(50, 250, (1, 100, 100)))
    assert result.dtype == np.float32
    assert result.shape == (3, 100, 100)
    # Of 100 % of the range, 98.8 lie between the percentiles.
    np.testing.assert_allclose([result.min(), result.max()], [-1 / 98.8, 1 + 0.2 / 98.8], atol=1e-4)


@pytest.mark.parametrize("value", [0, 1, 7.5, -3, 1e30, 65_535])
def test_a_constant_image_becomes_zero(value):
    np.testing.assert_array_equal(normalise(np.full((1, 9, 13), value)), np.zeros((3, 9, 13)))


@pytest.mark.parametrize("bright", [300, 1000, 60_000])
@pytest.mark.parametrize(("cells", "size"), [(1, 1000), (1, 400), (3, 400), (60, 400)])
def test_the_noise_of_a_sparse_image_stays_dark(cells, size, bright):
    pixels, inside = disc_field(cells, size=size, bright=bright)
    result = normalise(pixels)[0]
    # The noise itself spans 1/13 of the difference of field and cells, in the dimmest of these images; a cell
    # on a thousandth of the field may be four times as bright as usual, and its noise too.
    assert np.percentile(result[~inside], 99) < 0.35
    assert np.percentile(result[inside], 1) > 0.9
    assert result.max() <= HIGHEST_PEAK


@pytest.mark.parametrize("field", [0, 300])
@pytest.mark.parametrize("side_px", [1, 18])
def test_a_single_cell_on_a_flat_field_is_seen(side_px, field):
    pixels = np.full((1, 2048, 2048), field, np.uint16)
    inside = np.zeros((2048, 2048), bool)
    inside[1001 : 1001 + side_px, 701 : 701 + side_px] = True  # The single pixel is none of those sampled.
    pixels[:, inside] = 4000
    result = normalise(pixels)[0]
    assert (result[inside] == 1).all()
    assert not result[~inside].any()


def test_a_hot_pixel_in_an_empty_channel_does_not_dim_the_others():
    pixels = np.concatenate([gradient(0, 1000, (1, 200, 200)), np.zeros((1, 200, 200), np.float32)])
    clean = normalise(pixels)[0]
    pixels[1, 33, 44] = 65_535
    np.testing.assert_array_equal(normalise(pixels)[0], clean)


def test_a_lonely_cell_is_no_brighter_than_the_highest_peak():
    result = normalise(disc_field(1, size=1000)[0])
    assert HIGHEST_PEAK * 0.95 < result.max() <= HIGHEST_PEAK


def test_single_hot_pixels_do_not_darken_the_cells():
    pixels, inside = disc_field(60)
    clean = normalise(pixels)
    hot = pixels.copy()
    hot[0, [3, 200, 390], [7, 301, 22]] = 60_000
    np.testing.assert_allclose(normalise(hot)[:, inside], clean[:, inside], atol=0.05)


def test_sixteen_bits_in_a_narrow_range_use_the_whole_range():
    result = normalise(gradient(27_199, 65_535, (1, 200, 200), np.uint16))
    assert np.percentile(result, 1) == pytest.approx(0, abs=1e-3)
    assert np.percentile(result, 99.8) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.int16, np.float16, np.float32, np.float64])
def test_every_type_gives_the_same(dtype):
    pixels = np.random.default_rng(0).integers(0, 200, (2, 30, 40))
    np.testing.assert_array_equal(normalise(pixels.astype(dtype)), normalise(pixels.astype(np.float64)))


def test_large_integers():
    pixels = gradient(0, 2**32 - 1, (1, 100, 100), np.uint32)
    np.testing.assert_allclose(normalise(pixels), normalise(gradient(0, 1, (1, 100, 100))), atol=1e-5)


def test_black_and_white():
    mask = np.zeros((1, 20, 20), bool)
    mask[:, 5:15, 5:15] = True
    np.testing.assert_array_equal(normalise(mask), np.repeat(mask, 3, axis=0))


# --- channels -----------------------------------------------------------------------------------------------


def test_one_channel_is_repeated_and_two_get_their_mean():
    pixels = np.random.default_rng(0).random((3, 20, 30))
    one, two, three = (normalise(pixels[:n]) for n in (1, 2, 3))
    assert one.shape == two.shape == three.shape == (3, 20, 30)
    np.testing.assert_array_equal(one, np.stack([one[0]] * 3))
    np.testing.assert_allclose(two[2], (two[0] + two[1]) / 2, atol=1e-6)
    np.testing.assert_array_equal(two[:2], three[:2])
    assert np.abs(three[2] - two[2]).max() > 0.1


@pytest.mark.parametrize("count", [0, 4, 17])
def test_other_numbers_of_channels_are_refused(count):
    with pytest.raises(AxesError, match=rf"has {count} channels, the model takes 1, 2 or 3.*--channels"):
        normalise(np.ones((count, 5, 5)))


@pytest.mark.parametrize("empty", [0, 1, 2])
def test_an_empty_colour_stays_empty(empty):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (3, 50, 50)).astype(np.uint8)
    pixels[empty] = 0
    result = normalise(pixels)
    assert not result[empty].any()
    assert all(result[i].max() > 0.9 for i in {0, 1, 2} - {empty})
    # The noise of a camera in an unlit channel is not blown up either.
    pixels[empty] = rng.integers(0, 3, (50, 50))
    assert normalise(pixels)[empty].max() < 0.1


def test_a_channel_ten_times_dimmer_still_uses_the_whole_range():
    pixels = np.concatenate([gradient(0, 1000), gradient(0, 105)])
    assert normalise(pixels)[1].max() == pytest.approx(1, abs=0.01)


# --- NaN and infinity ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_becomes_zero_and_changes_nothing_else(channels, odd):
    pixels = np.random.default_rng(0).random((channels, 40, 40)).astype(np.float32)
    is_odd = np.zeros((40, 40), bool)
    is_odd[::7, ::5] = True
    holed = np.where(is_odd, odd, pixels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = normalise(holed)
    np.testing.assert_array_equal(result[:, is_odd], 0)
    np.testing.assert_allclose(result[:, None, ~is_odd], normalise(pixels[:, None, ~is_odd]), atol=1e-6)


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rest", [None, 5.0])
def test_nothing_but_one_value_and_what_is_not_finite(odd, rest):
    pixels = np.full((2, 6, 7), odd, np.float32)
    if rest is not None:
        pixels[:, ::2] = rest
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = normalise(pixels)
    np.testing.assert_array_equal(result, np.zeros((3, 6, 7)))


# --- what always holds --------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    channels=st.integers(1, 3),
    gain=st.floats(1e-3, 1e3),
    offset=st.floats(-1e3, 1e3),
    skew=st.floats(0.2, 6),
)
def test_gain_and_offset_change_nothing(seed, channels, gain, offset, skew):
    pixels = np.random.default_rng(seed).random((channels, 17, 23)) ** skew * 100
    changed = pixels * gain + offset * gain
    np.testing.assert_allclose(normalise(changed), normalise(pixels), atol=2e-3)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), channels=st.integers(1, 3), spread=st.floats(0, 12))
def test_the_range_is_kept_and_the_input_never_changes(seed, channels, spread):
    rng = np.random.default_rng(seed)
    pixels = (rng.normal(0, 1, (channels, 12, 15)) * 10 ** rng.uniform(-spread, spread, (12, 15))).astype(np.float32)
    pixels[rng.random(pixels.shape) < 0.05] = rng.choice([np.nan, np.inf, -np.inf])
    before = pixels.copy()
    result = normalise(pixels)
    np.testing.assert_array_equal(pixels, before)
    assert not np.shares_memory(result, pixels)
    assert np.isfinite(result).all()
    assert result.min() >= LOWEST
    assert result.max() <= HIGHEST_PEAK


def test_brighter_stays_brighter():
    pixels = np.sort(np.random.default_rng(0).gamma(0.5, 100, 2500)).reshape(1, 50, 50)
    assert (np.diff(normalise(pixels)[0].ravel()) >= 0).all()


# --- the estimate -------------------------------------------------------------------------------------------


def test_a_large_image_is_sampled_and_close_to_exact():
    pixels = np.random.default_rng(0).gamma(2, 100, (1, 1700, 2300)).astype(np.float32)
    assert pixels.size > 2.25 * SAMPLED_PIXELS
    contrast = estimate_contrast(pixels)
    low, high, peak = np.percentile(pixels, [1, 99.8, 99.99])
    assert contrast.low[0] == pytest.approx(low, abs=0.02 * (high - low))
    assert contrast.span[0] == pytest.approx(max(high - low, (peak - low) / HIGHEST_PEAK), rel=0.02)
    others = pixels.copy()
    others[:, 1::2] = 1e6
    assert (estimate_contrast(others).low, estimate_contrast(others).span) == (contrast.low, contrast.span)


def test_one_estimate_serves_all_parts_of_an_image():
    pixels, _ = disc_field(20)
    contrast = estimate_contrast(pixels)
    whole = normalise(pixels)
    np.testing.assert_array_equal(normalise(pixels[:, 30:90, 40:70], contrast), whole[:, 30:90, 40:70])
    given = normalise(np.full((1, 2, 2), 30.0), Contrast(np.array([10.0]), np.array([40.0])))
    np.testing.assert_allclose(given, 0.5)


@given(
    values=st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=300),
    percentile=st.sampled_from([0, 1.0, 50, 99.8, 99.99, 100]),
    dtype=st.sampled_from([np.float32, np.float64, np.int32]),
)
def test_percentiles_are_those_of_numpy(values, percentile, dtype):
    array = np.array(values).astype(dtype)
    assert _percentile(np.sort(array), percentile) == np.percentile(array.astype(np.float64), percentile)
