"""watershed: what the contract of all representations cannot say."""

import numpy as np
import pytest
from scipy import ndimage

from fewcell.representations.watershed import Watershed
from fewcell.representations.watershed_kernels import prominent_summits
from fewcell.types import UNKNOWN, FloatArray, Labels

from .scenes import SCENES, draw_ellipse

CORNERS_TOO = np.ones((3, 3))


def patchwork(seed: int) -> Labels:
    """Cells of all shapes that touch, cut by the edge, beside background and UNKNOWN."""
    rng = np.random.default_rng(seed)
    seeds = rng.uniform(0, 40, (12, 2))
    y, x = np.mgrid[:34, :40]
    numbers = np.array([UNKNOWN, 0, 0, 3, 4, 5, 9, 10, 70_000, 2**24 + 1, 12, 13], dtype=np.int32)
    return numbers[((y[..., None] - seeds[:, 0]) ** 2 + (x[..., None] - seeds[:, 1]) ** 2).argmin(axis=-1)]


@pytest.mark.parametrize("seed", range(4))
def test_distances_are_those_of_a_slow_search(seed: int) -> None:
    variant = Watershed(range_px=7)
    labels = patchwork(seed)
    inner, outer, foreground = variant.targets(labels)
    assert np.array_equal(foreground, labels > 0)
    places = np.argwhere(np.ones_like(labels))
    for (y, x), number in np.ndenumerate(labels):
        if number <= 0:
            assert inner[y, x] == outer[y, x] == 0
            continue
        others = places[(labels != number).ravel()]
        assert outer[y, x] == pytest.approx(min(np.hypot(*(others - (y, x)).T).min(), 7) / 7, abs=1e-6)
        cell = places[(labels == number).ravel()]
        away = np.hypot(*(cell.mean(axis=0) - (y, x)))
        assert inner[y, x] == pytest.approx(1 / (1 + variant.alpha * away / len(cell) ** 0.5), abs=1e-6)


@pytest.mark.parametrize("scene", ["rings", "crescents"])
def test_a_cell_without_its_own_centroid_has_its_centre_at_the_nearest_pixel(scene: str) -> None:
    labels = SCENES[scene]
    inner = Watershed().targets(labels)[0]
    for number in np.unique(labels[labels > 0]):
        cell = np.argwhere(labels == number)
        away = np.hypot(*(cell - cell.mean(axis=0)).T)
        assert away.min() > 1
        assert inner[labels == number].max() == 1
        assert inner[tuple(cell[away.argmin()])] == 1


def test_where_cells_of_different_size_touch_the_border_stays() -> None:
    labels = np.zeros((40, 60), dtype=np.int32)
    labels[5:35, 5:40] = 1
    labels[15:23, 40:46] = 2
    assert np.array_equal(Watershed().decode(Watershed().targets(labels)).labels, labels)


@pytest.mark.parametrize("scene", ["giant", "bacteria", "crowd", "rings"])
def test_eight_bits_hold_a_prediction(scene: str) -> None:
    targets = Watershed().targets(SCENES[scene])
    rounded = (np.round(targets * 255) / 255).astype(np.float32)
    assert len(Watershed().decode(rounded)) == SCENES[scene].max()


def two_summits(valley: float) -> FloatArray:
    """One blob with two summits, 0.8 and 0.6 high."""
    inner = np.interp(np.arange(30), [0, 8, 14, 20, 29], [0, 0.8, valley, 0.6, 0]) * np.ones((9, 1))
    return np.stack([inner, np.full_like(inner, 0.5), np.ones_like(inner)]).astype(np.float32)


def test_a_valley_splits_where_it_is_deeper_than_the_prominence() -> None:
    variant = Watershed(prominence=0.1, smoothing_px=0.01)
    assert len(variant.decode(two_summits(0.52))) == 1
    found = variant.decode(two_summits(0.48))
    assert len(found) == 2
    assert abs(np.count_nonzero(found.labels == found.labels[4, 8]) - 9 * 14) <= 9


def test_foreground_without_a_marker_is_dropped() -> None:
    prediction = two_summits(0)
    prediction[2, :, 14] = 0
    assert len(Watershed(smoothing_px=0.01).decode(prediction)) == 2
    assert len(Watershed(smoothing_px=0.01, marker_threshold=0.7).decode(prediction)) == 1


def test_a_plateau_is_one_summit() -> None:
    assert len(Watershed().decode(np.ones((3, 40, 50), dtype=np.float32))) == 1


@pytest.mark.parametrize("seed", range(5))
def test_summits_are_those_of_the_definition(seed: int) -> None:
    """From a summit, all within its prominence below that one can walk to is lower: by components, one by one."""
    rng = np.random.default_rng(seed)
    surface = ndimage.gaussian_filter(rng.random((24, 31)), 1.2).astype(np.float32)
    mask = ndimage.gaussian_filter(rng.random(surface.shape), 2) > 0.48
    height, prominence = float(np.median(surface)), 0.03
    order = np.flatnonzero(mask)
    order = order[np.argsort(-surface.ravel()[order], kind="stable")]
    found = prominent_summits(surface, order, height, prominence)
    expected = np.zeros_like(mask)
    for place in np.argwhere(mask & (surface > height)):
        top = surface[tuple(place)]
        pieces, _ = ndimage.label(mask & (surface >= top - prominence), CORNERS_TOO)
        expected[tuple(place)] = surface[pieces == pieces[tuple(place)]].max() == top
    assert 3 < expected.sum() < 40
    assert np.array_equal(found > 0, expected)
    assert np.array_equal(np.sort(found[found > 0]), np.arange(1, expected.sum() + 1))


def test_the_edge_of_the_field_is_no_border() -> None:
    labels = np.zeros((20, 20), dtype=np.int32)
    draw_ellipse(labels, 1, (-1, 10), (6, 6))
    outer = Watershed().targets(labels)[1]
    assert outer[0, 10] == outer[:, 10].max() > 4 / 12
