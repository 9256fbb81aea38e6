"""Drawn cells that nobody stained."""

import numpy as np
import pytest

pytest.importorskip("cv2")

from scipy import ndimage

from fewcell.data.dataset import diameter_px
from fewcell.data.transparent import transparent_cells
from fewcell.types import UNKNOWN


def drawn(seed: int, side: int = 192, width_px: float = 24.0) -> tuple[np.ndarray, np.ndarray]:
    return transparent_cells(side, width_px, np.random.default_rng(seed))


@pytest.mark.parametrize("seed", range(8))
def test_an_image_and_its_labels(seed: int) -> None:
    image, labels = drawn(seed)
    assert (image.shape, image.dtype) == ((192, 192, 3), np.float32)
    assert (labels.shape, labels.dtype) == ((192, 192), np.int32)
    assert np.isfinite(image).all()
    assert np.array_equal(image, np.repeat(image[..., :1], 3, axis=2)), "nothing has a colour"
    again = drawn(seed)
    assert np.array_equal(image, again[0])
    assert np.array_equal(labels, again[1])


def test_cells_are_to_be_seen_where_the_labels_are() -> None:
    """Where cells are, the image departs from what lies between them, and by more than where they are not."""
    right = total = 0
    for seed in range(40):
        image, labels = drawn(seed)
        cells = ndimage.binary_dilation(labels != 0, iterations=2)
        if not 0.05 < cells.mean() < 0.9:
            continue
        departs = np.abs(image[..., 0] - np.median(image[~cells]))
        shifted = [np.roll(cells, by, axis=(0, 1)) for by in ((0, 0), (40, 0), (0, 40), (-40, -40))]
        apart = [departs[where].mean() - departs[~where].mean() for where in shifted]
        total += 1
        right += apart[0] > max(0.0, *apart[1:])
    assert total > 20
    assert right >= 0.95 * total


def test_images_hold_few_cells_or_many_apart_or_touching() -> None:
    shares, touching = [], []
    for seed in range(40):
        labels = drawn(seed)[1]
        shares.append((labels > 0).mean())
        beside = [(labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])]
        touching.append(sum(int(((a != b) & (a > 0) & (b > 0)).sum()) for a, b in beside))
    assert min(shares) < 0.1
    assert max(shares) > 0.6
    assert min(touching) == 0
    assert max(touching) > 500


def test_cells_are_as_wide_as_is_asked_for() -> None:
    for width_px in (14.0, 36.0):
        widths = [diameter_px(drawn(seed, 320, width_px)[1]) for seed in range(24)]
        assert np.median([width for width in widths if width]) == pytest.approx(width_px, rel=0.25)


def test_each_cell_is_in_one_piece_and_slivers_are_unknown() -> None:
    n_slivers = 0
    for seed in range(12):
        labels = drawn(seed)[1]
        for number in np.unique(labels[labels > 0]):
            assert ndimage.label(labels == number)[1] == 1
        n_slivers += ndimage.label(labels == UNKNOWN)[1]
    assert n_slivers > 0
