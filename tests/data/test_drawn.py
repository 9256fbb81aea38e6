"""What all kinds of drawn cells have in common; a new one of `crops.DRAWN_CELLS` is tested by itself."""

from collections.abc import Callable

import numpy as np
import pytest

pytest.importorskip("cv2")

from scipy import ndimage

from fewcell.data import bodies, fluorescent, transparent
from fewcell.data.crops import DRAWN_CELLS
from fewcell.data.dataset import diameter_px
from fewcell.types import FloatArray, Labels

Draw = Callable[..., tuple[FloatArray, Labels]]

# Kinds that draw now this and now that draw each of these by itself.
ALONE: dict[str, list[tuple[object, str, object]]] = {
    "transparent": [(transparent, "KINDS", (kind,)) for kind in bodies.KINDS],
    "fluorescent": [(fluorescent, "OF_NUCLEI", share) for share in (0.0, 1.0)],
}
CASES = [(kind, alone) for kind in DRAWN_CELLS for alone in ALONE.get(kind, [None])]


@pytest.fixture(params=CASES, ids=[f"{kind}{number}" for number, (kind, _) in enumerate(CASES)])
def draw(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Draw:
    kind, alone = request.param
    if alone:
        monkeypatch.setattr(*alone)
    return lambda seed, side=192, width_px=24.0: DRAWN_CELLS[kind](side, width_px, np.random.default_rng(seed))


@pytest.mark.parametrize(("side", "width_px"), [(192, 24.0), (64, 43.0), (256, 7.4), (256, 157.0), (400, 13.0)])
def test_an_image_and_its_labels(draw: Draw, side: int, width_px: float) -> None:
    for seed in range(3):
        image, labels = draw(seed, side, width_px)
        assert (image.shape, image.dtype) == ((side, side, 3), np.float32)
        assert (labels.shape, labels.dtype) == ((side, side), np.int32)
        assert np.isfinite(image).all()
        assert image.std() > 0
        again = draw(seed, side, width_px)
        assert np.array_equal(image, again[0])
        assert np.array_equal(labels, again[1])


def test_there_may_be_no_cell(draw: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "_places", lambda *_: np.zeros(0, dtype=np.complex128))
    for seed in range(8):
        image, labels = draw(seed)
        if labels.any():
            pytest.skip("has bodies of its own")
        assert np.isfinite(image).all()
        assert image.std() > 0, "the camera has its noise"


def test_cells_are_as_wide_as_is_asked_for(draw: Draw) -> None:
    """Most a little narrower at the median: some are hidden in part."""
    for width_px in (14.0, 36.0):
        widths = [diameter_px(draw(seed, 320, width_px)[1]) for seed in range(16)]
        assert 0.7 * width_px < np.median([width for width in widths if width]) < 1.1 * width_px


def test_each_cell_is_in_one_piece_on_the_grid_of_a_network_too(draw: Draw) -> None:
    """Every second pixel: corners that run out into lines would fall apart there."""
    whole = broken = 0
    for seed in range(8):
        labels = draw(seed)[1]
        for number in np.unique(labels[labels > 0]):
            assert ndimage.label(labels == number)[1] == 1
            pieces, count = ndimage.label((labels == number)[1::2, 1::2], np.ones((3, 3)))
            whole += 1
            broken += count > 1 and np.sort(np.bincount(pieces.ravel())[1:])[-2] > 1
    assert whole > 20
    assert broken <= 0.02 * whole
