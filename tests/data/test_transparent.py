"""Drawn cells that nobody stained."""

import numpy as np
import pytest

pytest.importorskip("cv2")

from scipy import ndimage

from fewcell.data import transparent
from fewcell.data.transparent import KINDS, transparent_cells


def drawn(seed: int, side: int = 192, width_px: float = 24.0) -> tuple[np.ndarray, np.ndarray]:
    return transparent_cells(side, width_px, np.random.default_rng(seed))


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> object:
    """Each kind by itself."""
    monkeypatch.setattr(transparent, "KINDS", (request.param,))
    return request.param


def test_nothing_has_a_colour() -> None:
    for seed in range(8):
        image = drawn(seed)[0]
        assert np.array_equal(image, np.repeat(image[..., :1], 3, axis=2))


def test_labels_lie_on_what_is_thick(kind: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a microscope, and on an even ground."""
    seen: list[np.ndarray] = []
    monkeypatch.setattr(transparent, "_ground", lambda side, *_: np.zeros((side, side), dtype=np.float32))
    thick = transparent._thickness

    def spy(*arguments) -> np.ndarray:
        seen.append(thick(*arguments))
        return seen[-1]

    monkeypatch.setattr(transparent, "_thickness", spy)
    for seed in range(8):
        labels = drawn(seed)[1] != 0
        if not 0.02 < labels.mean() < 0.98:
            continue
        thickness = np.abs(seen[-1])
        assert thickness[~ndimage.binary_dilation(labels, iterations=3)].max(initial=0) < 1e-3
        inside = ndimage.binary_erosion(labels)
        apart = {
            shift: np.roll(thickness, shift, (0, 1))[inside].mean() - np.roll(thickness, shift, (0, 1))[~labels].mean()
            for shift in ((0, 0), (3, 0), (-3, 0), (0, 3), (0, -3))
        }
        assert max(apart, key=apart.__getitem__) == (0, 0)


def test_cells_end_where_their_labels_end(kind: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is thicker than half of most of the cell is as large as its label, steep edges and gentle ones together."""
    monkeypatch.setattr(transparent, "_ground", lambda side, *_: np.zeros((side, side), dtype=np.float32))
    monkeypatch.setattr(transparent, "granules", lambda *_: np.float32(0))
    thick, seen = transparent._thickness, []
    monkeypatch.setattr(transparent, "_thickness", lambda *a: seen.append(thick(*a)) or seen[-1])
    shares = []
    for seed in range(8):
        labels = drawn(seed, width_px=36.0)[1]
        for number in np.unique(labels[labels > 0]):
            within = seen[-1][labels == number]
            if len(within) > 500:
                shares.append(np.mean(within > 0.5 * np.median(within)))
    assert len(shares) > 20
    assert np.median(shares) > 0.8


def test_cells_are_to_be_seen_where_the_labels_are() -> None:
    """Where cells are, the image departs from what lies between them, and by more than where they are not."""
    right = []
    for seed in range(80):
        image, labels = drawn(seed)
        cells = ndimage.binary_dilation(labels != 0, iterations=2)
        if not 0.05 < cells.mean() < 0.9:
            continue
        flat = image[..., 0] - ndimage.gaussian_filter(image[..., 0], 12)
        shifted = [np.roll(cells, by, axis=(0, 1)) for by in ((0, 0), (12, 12), (-12, 12))]
        apart = [np.abs(flat[where]).mean() - np.abs(flat[~where]).mean() for where in shifted]
        right.append(apart[0] > max(0.0, *apart[1:]))
    assert len(right) > 50
    assert np.mean(right) >= 0.95


def test_images_hold_few_cells_or_many_apart_or_touching() -> None:
    shares, touching = [], []
    for seed in range(40):
        labels = drawn(seed)[1]
        shares.append((labels > 0).mean())
        beside = [(labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])]
        touching.append(sum(int(((a != b) & (a > 0) & (b > 0)).sum()) for a, b in beside))
    assert min(shares) < 0.15
    assert max(shares) > 0.6
    assert min(touching) < 20
    assert max(touching) > 500
