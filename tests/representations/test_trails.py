"""trails: what the contract of all representations cannot say."""

import numpy as np
import pytest

from fewcell.representations.trails import Trails
from fewcell.types import FloatArray, Labels

from .scenes import SCENES, draw_ellipse


def walk(steps: FloatArray, cell: np.ndarray, y: int, x: int, step_px: float) -> list[tuple[int, int]]:
    """The pixels at which one comes by going from one rounded step to the next, or to half of it, until one stays."""
    path = [(y, x)]
    for _ in range(200):
        for part in (1, 2, 4):
            dy, dx = np.floor(step_px / part * steps[:, path[-1][0], path[-1][1]] + 0.5).astype(int)
            place = (path[-1][0] + int(dy), path[-1][1] + int(dx))
            if cell[place]:
                break
        if place == path[-1] or not cell[place]:
            break
        path.append(place)
    return path


@pytest.mark.parametrize("scene", ["touching", "rings", "crescents", "bacteria"])
def test_trails_end_at_the_centre_of_their_cell(scene: str) -> None:
    labels = SCENES[scene]
    steps = Trails().targets(labels)[:2]
    assert np.hypot(*steps).max() <= 1 + 1e-6
    for number in np.unique(labels[labels > 0]):
        cell = labels == number
        pixels = np.argwhere(cell)
        centre = pixels[np.hypot(*(pixels - pixels.mean(axis=0)).T).argmin()]
        paths = [walk(steps, cell, int(y), int(x), Trails().step_px) for y, x in pixels[::7]]
        assert all(np.hypot(*(np.array(path[-1]) - centre)) <= 2 for path in paths)


def test_steps_of_a_convex_cell_lead_straight_to_its_centre() -> None:
    labels = np.zeros((50, 60), dtype=np.int32)
    draw_ellipse(labels, 1, (24, 29), (16, 21))
    variant = Trails(step_px=5)
    y, x = np.nonzero(labels)
    to_centre = np.stack([24 - y, 29 - x]).astype(float)
    away = np.hypot(*to_centre)
    expected = to_centre * np.minimum(1, 5 / np.maximum(away, 1e-9)) / 5
    found = variant.targets(labels)[:2, y, x]
    # Seen over pixels, a line through the tip of the ellipse may leave it by a pixel's corner.
    assert np.abs(found - expected).max() < 0.1
    assert np.abs(found - expected).mean() < 1e-3


def geodesic_px(cell: np.ndarray, start: tuple[int, int]) -> np.ndarray:
    """Lengths of the shortest paths over neighbouring pixels, corners too: never shorter than the straight ones."""
    from skimage.graph import MCP_Geometric

    return MCP_Geometric(np.where(cell, 1.0, np.inf)).find_costs([start])[0]


@pytest.mark.parametrize("scene", ["rings", "crescents"])
def test_paths_around_corners_are_short(scene: str) -> None:
    labels = SCENES[scene]
    step_px = 3.0
    steps = Trails(step_px=step_px).targets(labels)[:2]
    for number in np.unique(labels[labels > 0]):
        cell = labels == number
        pixels = np.argwhere(cell)
        centre = tuple(int(v) for v in pixels[np.hypot(*(pixels - pixels.mean(axis=0)).T).argmin()])
        far = geodesic_px(cell, centre)
        for y, x in pixels[::5]:
            n_steps = len(walk(steps, cell, int(y), int(x), step_px)) - 1
            assert n_steps <= far[y, x] / step_px * 1.3 + 4


@pytest.mark.parametrize(("height", "width"), [(3, 20), (4, 20), (5, 20), (4, 4), (5, 5)])
def test_small_cells_that_touch_stay_apart(height: int, width: int) -> None:
    labels: Labels = np.zeros((30, 30), dtype=np.int32)
    labels[4 : 4 + height, 4 : 4 + width], labels[4 + height : 4 + 2 * height, 4 : 4 + width] = 1, 2
    assert np.array_equal(Trails().decode(Trails().targets(labels)).labels, labels)


def test_cells_that_touch_where_the_frame_cuts_them_stay_apart() -> None:
    labels: Labels = np.zeros((60, 60), dtype=np.int32)
    labels[10:50, 10:30], labels[10:50, 30:50] = 1, 2
    prediction = np.ascontiguousarray(Trails().targets(labels)[:, 34:])  # their centres lie beyond
    found = Trails().decode(prediction).labels
    assert not np.intersect1d(found[labels[34:] == 1], found[labels[34:] == 2]).any()


def test_two_centres_are_two_cells_though_their_foreground_is_one() -> None:
    labels: Labels = np.zeros((20, 34), dtype=np.int32)
    labels[4:16, 4:17], labels[4:16, 17:30] = 1, 2
    assert np.array_equal(Trails().decode(Trails().targets(labels)).labels, labels)
