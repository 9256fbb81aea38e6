"""Drawn cells that glow."""

import numpy as np
import pytest

pytest.importorskip("cv2")

from scipy import ndimage

from fewcell.data import fluorescent
from fewcell.data.fluorescent import fluorescent_cells


def drawn(seed: int, side: int = 192, width_px: float = 24.0) -> tuple[np.ndarray, np.ndarray]:
    return fluorescent_cells(side, width_px, np.random.default_rng(seed))


@pytest.fixture(params=[0.0, 1.0], ids=["bodies", "nuclei"])
def only(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fluorescent, "OF_NUCLEI", request.param)


@pytest.mark.usefixtures("only")
def test_cells_are_brighter_than_what_lies_around_them() -> None:
    """Nearly every one of them than its own surroundings, as far as these hold no other cell."""
    brighter = []
    for seed in range(30):
        image, labels = drawn(seed)
        gray = ndimage.gaussian_filter(image[..., 0], 0.7)
        for number in np.unique(labels[labels > 0]):
            cell = labels == number
            if cell.sum() < 100:
                continue
            around = ndimage.binary_dilation(cell, iterations=5) & ~ndimage.binary_dilation(labels != 0, iterations=2)
            if around.sum() > 20:
                brighter.append(gray[cell].mean() > gray[around].mean())
    assert len(brighter) > 200
    assert np.mean(brighter) > 0.95


def test_light_adds_up_where_cells_lie_on_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two large ones: where one is above the other, it is never darker than it would be alone."""
    monkeypatch.setattr(fluorescent, "OF_NUCLEI", 1.0)
    monkeypatch.setattr(fluorescent, "granules", lambda *_: np.float32(0))
    light, seen = fluorescent._light, []

    def spy(kind, cells, *rest) -> np.ndarray:
        seen.append((cells, light(kind, cells, *rest)))
        return seen[-1][1]

    monkeypatch.setattr(fluorescent, "_light", spy)
    gained = []
    for seed in range(30):
        drawn(seed, width_px=36.0)
        cells, shown = seen[-1]
        is_above = (cells.numbers > 0) & (cells.below > 0) & (cells.below != cells.numbers)
        for number in np.unique(cells.numbers[is_above]):
            its = cells.numbers == number
            deep = ndimage.binary_erosion(its, iterations=6)
            if (deep & is_above).sum() > 10 and (deep & ~is_above).sum() > 10:
                gained.append(shown[deep & is_above].mean() - shown[deep & ~is_above].mean())
    assert len(gained) > 20
    assert np.mean(np.array(gained) > 0) > 0.8
