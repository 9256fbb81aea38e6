"""stars: what the contract of representations cannot say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.measure import points_in_poly

from fewcell.representations.star_kernels import polygon_pixels, ray_directions
from fewcell.representations.stars import MAX_RAY_PX, N_RAYS, Stars
from fewcell.types import UNKNOWN, FloatArray, Labels

from .scenes import SCENES, draw_ellipse, scattered

LOG_RANGE = np.log(1 + MAX_RAY_PX)


def patchwork(seed: int) -> Labels:
    """Cells of any shape without gaps between them, some background, some UNKNOWN, cut by the frame."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=(6, 30, 34)), (0, 2.5, 2.5))
    labels = noise.argmax(axis=0).astype(np.int32)
    labels[labels == 5] = UNKNOWN
    return labels


def stars_at(shape: tuple[int, int], stars: list[tuple[int, int, float, float]]) -> FloatArray:
    """A prediction of round cells: row, column, radius, probability."""
    prediction = np.zeros((1 + N_RAYS, *shape), dtype=np.float32)
    for y, x, radius, probability in stars:
        prediction[0, y, x] = probability
        prediction[1:, y, x] = np.log(1 + radius) / LOG_RANGE
    return prediction


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_rays_end_where_the_cell_ends(seed: int) -> None:
    """Up to its end a ray meets its own cell alone, just beyond it another label or the edge of the field."""
    labels = patchwork(seed)
    framed = np.pad(labels, 1, constant_values=-7)
    y, x = np.nonzero(labels > 0)
    lengths = np.expm1(Stars().targets(labels)[1:, y, x] * LOG_RANGE)
    angle = 2 * np.pi * np.arange(N_RAYS)[:, None] / N_RAYS

    def met(distance: np.ndarray) -> Labels:
        return framed[
            np.rint(y + 1 + distance * np.sin(angle)).astype(int), np.rint(x + 1 + distance * np.cos(angle)).astype(int)
        ]

    assert np.all(met(lengths + 1e-3) != labels[y, x])
    for share in np.linspace(0, 1, 60):
        assert np.all(met(share * (lengths - 1e-3)) == labels[y, x])


def test_rays_end_at_the_same_place_in_a_cell_so_large_that_they_leap() -> None:
    labels = np.zeros((140, 150), dtype=np.int32)
    draw_ellipse(labels, 1, (60, 75), (55, 70))
    labels[60:64, 90:96] = 2
    lengths = np.expm1(Stars().targets(labels)[1:] * LOG_RANGE)
    assert lengths[0, 62, 30] == pytest.approx(59.5, abs=1e-3)
    assert lengths[0, 64, 30] == pytest.approx(75 + 70 * (1 - (4 / 55) ** 2) ** 0.5 - 30, abs=1)
    assert lengths[8, 50, 75] == pytest.approx(65.5, abs=1e-3)
    assert lengths[16, 70, 100] == pytest.approx(100 - (75 - 70 * (1 - (10 / 55) ** 2) ** 0.5), abs=1)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_probability_is_the_distance_to_the_border_over_the_greatest_in_the_cell(seed: int) -> None:
    labels = patchwork(seed)
    found = Stars().targets(labels)[0]
    for number in range(1, 5):
        cell = labels == number
        if cell.any():
            distance = ndimage.distance_transform_edt(cell)
            assert found[cell] == pytest.approx(distance[cell] / distance.max(), rel=1e-5)
    assert not found[labels <= 0].any()


def test_a_cell_wider_than_the_field_and_than_the_longest_ray() -> None:
    targets = Stars().targets(np.full((12, 1200), 9, dtype=np.int32))
    assert np.all(targets[0] == 1)
    assert targets[1, 5, 100] == 1
    assert np.expm1(targets[1, 5, 1100] * LOG_RANGE) == pytest.approx(99.5, rel=1e-4)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), step=st.integers(1, 4))
def test_the_pixels_of_a_polygon_are_those_whose_centres_lie_inside(seed: int, step: int) -> None:
    rng = np.random.default_rng(seed)
    shape = (40, 47)
    corners = rng.uniform(0, 45, 2) + rng.uniform(0.5, 30, (N_RAYS, 1)) * ray_directions(N_RAYS)
    marks, pixels = np.zeros((shape[0], shape[1] + 1), dtype=np.int64), np.zeros(shape[0] * shape[1], dtype=np.int64)
    n_inside = polygon_pixels(corners[:, 0].copy(), corners[:, 1].copy(), step, shape, marks, pixels)
    places = np.stack(np.mgrid[: shape[0] : step, : shape[1] : step], axis=-1).reshape(-1, 2)
    inside = places[points_in_poly(places, corners)]
    assert sorted(pixels[:n_inside]) == sorted(inside @ [shape[1], 1])
    assert not marks.any()


def test_of_two_stars_in_one_place_the_likelier_is_drawn_and_gives_the_score() -> None:
    found = Stars().decode(stars_at((60, 60), [(30, 28, 9, 0.7), (30, 31, 8, 0.9)]))
    assert found.scores == pytest.approx([0.9])
    assert np.argwhere(found.labels > 0).mean(axis=0) == pytest.approx([30, 31], abs=0.1)


def test_where_two_cells_overlap_a_little_the_likelier_has_the_pixels() -> None:
    found = Stars().decode(stars_at((60, 60), [(30, 20, 9, 0.7), (30, 34, 9, 0.9)]))
    assert len(found) == 2
    assert found.labels[30, 27] == found.labels[30, 34] != found.labels[30, 20]
    assert found.scores[found.labels[30, 34] - 1] == pytest.approx(0.9)


@pytest.mark.parametrize("distance", [8, 9, 11, 12])
@pytest.mark.parametrize("scale", [1, 8])
def test_overlap_is_measured_as_stated(distance: int, scale: int) -> None:
    """Two equal discs are one cell if they share more than `max_overlap` of their area, which has a formula."""
    half = distance / 18
    share = 2 / np.pi * (np.arccos(half) - half * (1 - half**2) ** 0.5)
    y, x = 30 * scale, 20 * scale
    stars = [(y, x, 9.0 * scale, 0.7), (y, x + distance * scale, 9.0 * scale, 0.9)]
    prediction = stars_at((60 * scale, 60 * scale), stars)
    assert len(Stars(max_overlap=share - 0.03).decode(prediction)) == 1
    assert len(Stars(max_overlap=share + 0.03).decode(prediction)) == 2


@pytest.mark.parametrize("likelier", [4, 20, 150])
def test_a_cell_inside_another_is_one_cell_whichever_is_likelier(likelier: int) -> None:
    """The overlap counts relative to the smaller one, at any size."""
    for other in {4, 20, 150} - {likelier}:
        found = Stars().decode(stars_at((320, 330), [(160, 160, likelier, 0.9), (161, 160, other, 0.8)]))
        assert len(found) == 1
        assert (found.labels > 0).sum() == pytest.approx(np.pi * likelier**2, rel=0.15)


@pytest.mark.parametrize(("column", "count"), [(49, 1), (53, 2)])
def test_a_small_star_is_left_out_if_most_of_it_is_taken(column: int, count: int) -> None:
    """The border of the large one is at column 50, so most of the small one is taken, or a quarter."""
    prediction = stars_at((60, 80), [(30, 30, 20, 0.9), (30, column - 1, 5, 0.8)])
    assert len(Stars(max_overlap=0.4).decode(prediction)) == count


def test_tiny_stars_take_no_place() -> None:
    found = Stars(min_area_px=10).decode(stars_at((40, 40), [(20, 20, 0.8, 0.9), (20, 21, 6, 0.6)]))
    assert found.scores == pytest.approx([0.6])


@pytest.mark.parametrize("scene", ["touching", "elongated", "crowd", "giant"])
def test_eight_bits_are_enough(scene: str) -> None:
    targets = Stars().targets(SCENES[scene])
    exact = Stars().decode(targets).labels
    rounded = Stars().decode((np.rint(255 * targets) / 255).astype(np.float32)).labels
    assert rounded.max() == exact.max()
    assert ((rounded > 0) != (exact > 0)).sum() < 0.03 * (exact > 0).sum()


def test_values_that_are_no_numbers_and_far_out_are_survived() -> None:
    prediction = Stars().targets(scattered(3, 3))
    prediction[5, 10:20] = np.nan
    prediction[7, 20:30] = np.inf
    prediction[9, 30:40] = -4
    prediction[0, 12, :] = np.nan
    found = Stars().decode(prediction)
    assert 0 < len(found) <= 20
    assert np.all(np.isfinite(found.scores))
