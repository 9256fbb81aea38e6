"""Shapes of drawn cells, and how they lie on each other."""

import numpy as np
import pytest

pytest.importorskip("cv2")

from scipy import ndimage

from fewcell.data import bodies
from fewcell.data.bodies import KINDS, ROUND, SHEETS, Kind, depth_px, draw_bodies
from fewcell.types import Labels

NAMES = ("spread", "spindles", "sheets", "round", "rods")


def painted(*outlines: np.ndarray, side: int = 64) -> tuple[Labels, Labels]:
    """Cells on top and at the bottom, after what is thin is gone."""
    shapes = np.array(outlines)
    both = (bodies._painted(shapes, side), bodies._painted(shapes, side, backwards=True))
    return bodies._without_thin(*both)


def circle(x: float, y: float, radius: float) -> np.ndarray:
    return x + 1j * y + radius * np.exp(1j * bodies.ANGLES)


def bar(y: float, half: float, corners: int = len(bodies.ANGLES)) -> np.ndarray:
    """From one side of the image to the other."""
    ends = np.array([2 + 1j * (y - half), 62 + 1j * (y - half), 62 + 1j * (y + half), 2 + 1j * (y + half)])
    return np.repeat(ends, corners // 4)


def test_what_is_thin_gives_way_to_the_cell_below_it() -> None:
    numbers, _ = painted(circle(32, 32, 14), bar(32, 0.0))
    assert set(np.unique(numbers)) == {0, 1}
    assert ndimage.label(numbers == 1)[1] == 1, "a line across it does not part it"
    numbers, below = painted(circle(32, 32, 14), bar(32, 4.0))
    assert set(np.unique(numbers)) == {0, 1, 2}
    assert numbers[32, 32] == 2
    assert below[32, 32] == 1
    assert below[32, 8] == numbers[32, 8] == 2, "there is but one"
    assert not painted(bar(32, 0.0))[0].any()


def test_depth_counts_from_the_edge_of_each_cell() -> None:
    numbers, _ = painted(bar(20, 10.0), bar(42, 10.0))
    depth = depth_px(numbers)
    assert (depth[numbers == 0] == 0).all()
    assert depth[numbers > 0].min() == 0.5
    assert depth[20, 32] == pytest.approx(10, abs=1.5)


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
def test_what_is_stronger_lies_on_top_and_what_has_rounded_up_on_all(kind: Kind) -> None:
    n_above = n_swollen = 0
    for seed in range(12):
        cells = draw_bodies(kind, 192, 24.0, np.random.default_rng(seed))
        assert cells.strengths[0] == 0
        assert (cells.strengths[1:] > 0).all()
        above = cells.below != cells.numbers
        assert (cells.numbers[above] > 0).all()
        assert (cells.numbers[above] > cells.below[above]).all()
        flat = above & ~cells.is_swollen[cells.numbers]
        assert (cells.strengths[cells.numbers[flat]] >= cells.strengths[cells.below[flat]]).all()
        ground = ~ndimage.binary_dilation(cells.numbers > 0, iterations=4)
        assert cells.nuclei[ground].max(initial=0) < 1e-3
        n_above, n_swollen = n_above + int(above.sum()), n_swollen + int(cells.is_swollen.sum())
    assert n_above > 100
    assert (n_swollen > 0) == kind.rounds_up


def test_neighbours_that_share_a_border_are_parted_between_their_middles() -> None:
    """And the borders of sheets are nearly straight: a cell is not much smaller than its hull."""
    one, other = 24 + 32j, 40 + 32j
    at = np.array([one, other])
    shapes = np.array([circle(24, 32, 14), circle(40, 32, 14)])
    top, below = bodies._painted(shapes, 64), bodies._painted(shapes, 64, backwards=True)
    numbers = bodies._shared(top, below, at, 2, np.zeros((64, 64), dtype=np.float32))
    assert (numbers[:, :32] != 2).all()
    assert (numbers[:, 33:] != 1).all()
    assert np.array_equal(numbers > 0, top > 0)
    swollen = bodies._shared(top, below, at, 1, np.zeros((64, 64), dtype=np.float32))
    assert np.array_equal(swollen, top), "what has rounded up keeps its shape"


@pytest.mark.parametrize("kind", [ROUND, SHEETS], ids=["round", "sheets"])
def test_some_images_have_shared_borders_and_some_have_not(kind: Kind) -> None:
    overlap = [
        bool((cells.below != cells.numbers).any())
        for cells in (draw_bodies(kind, 192, 24.0, np.random.default_rng(seed)) for seed in range(30))
    ]
    assert 0 < sum(overlap) < 30
