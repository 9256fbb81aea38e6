"""Windows cover an image once, and what they have in common is what their pixels have."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fewcell.windows import common, grown, joined, meet, pixels_in, slices, squares

SHAPE = (12, 9)


@st.composite
def windows(draw):
    (top, bottom), (left, right) = (sorted(draw(st.tuples(*[st.integers(0, side)] * 2))) for side in SHAPE)
    return top, left, max(bottom, top + 1), max(right, left + 1)


def pixels_of(window):
    return {(y, x) for y in range(window[0], window[2]) for x in range(window[1], window[3])}


@given(windows(), windows())
def test_two_windows_are_compared_as_their_pixels_are(one, other):
    both = pixels_of(one) & pixels_of(other)
    assert meet(one, other) == bool(both)
    if both:
        assert pixels_of(common(one, other)) == both
    whole = joined(one, other)
    assert pixels_of(whole) >= pixels_of(one) | pixels_of(other)
    assert whole[:2] == (min(one[0], other[0]), min(one[1], other[1]))
    assert pixels_in(one) == len(pixels_of(one))


@given(windows(), st.integers(0, 5))
def test_a_window_grows_as_far_as_the_image_reaches(window, by_px):
    top, left, bottom, right = grown(window, by_px, SHAPE)
    for y, x in np.ndindex(*SHAPE):
        is_near = window[0] - by_px <= y < window[2] + by_px and window[1] - by_px <= x < window[3] + by_px
        assert (top <= y < bottom and left <= x < right) == is_near


@given(windows(), windows())
def test_a_window_is_taken_out_of_another_as_out_of_the_image(one, other):
    numbers = np.arange(20 * 20).reshape(20, 20)
    if meet(one, other):
        both = common(one, other)
        part = numbers[slices(other)][slices(both, other)]
        assert np.array_equal(part, numbers[slices(both)])


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 17))
def test_squares_cover_an_image_once(height, width, side_px):
    seen = np.zeros((height, width), dtype=int)
    for window in squares((height, width), side_px):
        seen[slices(window)] += 1
        assert pixels_in(window) <= side_px**2
    assert (seen == 1).all()
