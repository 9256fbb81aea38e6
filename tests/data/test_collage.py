"""Collages: drawn cells with the textures of photographs."""

import numpy as np
import pytest

from fewcell.data import collage as collage_module
from fewcell.data.collage import PICTURES, collage, photograph_files, photographs
from fewcell.errors import DataError
from fewcell.types import UNKNOWN


def drawn(seed: int, side: int = 128, diameter_px: float = 24.0) -> tuple[np.ndarray, np.ndarray]:
    return collage(photographs(), side, diameter_px, np.random.default_rng(seed))


def test_the_photographs_are_there() -> None:
    assert [path.name for path in photograph_files()] == list(PICTURES)
    assert all(picture.ndim == 3 and 0 <= picture.min() < picture.max() <= 1 for picture in photographs())


def test_without_the_photographs_it_is_said_what_is_missing(monkeypatch) -> None:
    monkeypatch.setattr(collage_module, "photograph_files", list)
    with pytest.raises(DataError, match="this installation of it has none"):
        collage_module.photographs.__wrapped__()


@pytest.mark.parametrize("seed", range(5))
def test_a_collage_shows_cells_where_it_says(seed: int) -> None:
    image, labels = drawn(seed)
    cells = labels > 0
    assert cells.any()
    assert not cells.all()
    apart = np.abs(image[cells].mean(axis=0) - image[~cells].mean(axis=0)).max()
    assert apart > 0.05


def test_collages_differ_in_sign_and_colour_and_hold_few_cells_or_many() -> None:
    many = [(image, labels > 0) for image, labels in map(drawn, range(30))]
    brighter = [image[cells].mean() > image[~cells].mean() for image, cells in many if cells.any()]
    gray = [bool(np.allclose(image, image[..., :1])) for image, _ in many]
    share = [cells.mean() for _, cells in many]
    assert 5 < sum(brighter) < 25
    assert 5 < sum(gray) < 25
    assert min(share) < 0.1
    assert max(share) > 0.4


def test_slivers_are_unknown() -> None:
    from scipy import ndimage

    n_slivers = 0
    for seed in range(20):
        labels = drawn(seed, 192)[1]
        area = np.unique(labels[labels > 0], return_counts=True)[1]
        assert area.min() > 0.05 * np.median(area)
        n_slivers += ndimage.label(labels == UNKNOWN)[1]
    assert n_slivers > 0
