"""Images to tell the scale by: what is left of an image in an empty field, and drawn cells."""

import numpy as np
import pytest
from skimage.measure import label, regionprops
from skimage.segmentation import clear_border

from fewcell.data.sizes import drawn_cells, left_alone

SIDE = 256


@pytest.fixture(scope="module")
def scene(draw_discs):
    image, labels = draw_discs(1, (SIDE, SIDE))
    return np.repeat(image[..., None].astype(np.float32) / 160, 3, axis=2), labels


@pytest.mark.parametrize("seed", range(8))
def test_a_part_is_left_with_its_cells_in_an_empty_field(scene, seed):
    image, labels = scene
    alone, left = left_alone(image, labels, 22.0, np.random.default_rng(seed))
    assert alone.shape == image.shape
    assert alone.dtype == np.float32
    assert np.array_equal(left[left > 0], labels[left > 0])
    rows, columns = np.nonzero(left)
    assert 0 < np.ptp(rows) + 1 <= 0.6 * SIDE
    assert 0 < np.ptp(columns) + 1 <= 0.6 * SIDE
    far = np.ones_like(labels, dtype=bool)
    far[max(rows.min() - 40, 0) : rows.max() + 40, max(columns.min() - 40, 0) : columns.max() + 40] = False
    assert np.ptp(alone[far]) < 0.6, "no disc is there"
    inner = np.zeros_like(far)
    inner[rows.min() + 12 : rows.max() - 11, columns.min() + 12 : columns.max() - 11] = True
    np.testing.assert_allclose(alone[inner], image[inner], atol=0.1)


def test_an_image_of_cells_as_large_as_it_stays_whole(scene):
    image, labels = scene
    alone, left = left_alone(image, labels, 100.0, np.random.default_rng(0))
    assert alone is image
    assert left is labels


@pytest.mark.parametrize("diameter", [10.0, 30.0])
def test_drawn_cells_are_as_wide_as_is_said(diameter):
    seen = []
    for seed in range(60):
        image, said = drawn_cells(SIDE, diameter, np.random.default_rng(seed))
        assert image.shape == (SIDE, SIDE, 3)
        assert image.dtype == np.float32
        assert np.isnan(said) or said == pytest.approx(diameter, rel=0.5)
        gray = image.mean(axis=2)
        away = np.abs(gray - np.median(gray))
        regions = regionprops(clear_border(label(away > 0.5 * np.percentile(away, 99.5))))
        wide = [r.equivalent_diameter_area for r in regions if r.area > 20 and r.solidity > 0.9 and r.euler_number == 1]
        if len(wide) >= 5 and not np.isnan(said):
            seen.append(np.median(wide) / said)
    assert len(seen) > 10
    assert np.median(seen) == pytest.approx(1, abs=0.1)
    assert np.mean(np.abs(np.log(seen)) < np.log(1.25)) > 0.8


def test_of_drawn_cells_that_lie_outside_nothing_is_known():
    said = [drawn_cells(64, 150.0, np.random.default_rng(seed))[1] for seed in range(40)]
    assert 0 < np.isnan(said).sum() < 40
