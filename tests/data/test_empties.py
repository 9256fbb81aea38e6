"""Images without any cell, drawn or out of focus."""

import numpy as np
import pytest

pytest.importorskip("cv2")

from fewcell.data.empties import empty_image, out_of_focus


def test_empty_images_are_normalised_and_of_many_kinds() -> None:
    images = [empty_image((64, 50), np.random.default_rng(seed)) for seed in range(60)]
    for seed, image in enumerate(images):
        assert (image.shape, image.dtype) == ((64, 50, 3), np.float32)
        assert np.isfinite(image).all()
        assert -0.5 <= image.min() <= image.max() <= 4
        assert np.array_equal(image, empty_image((64, 50), np.random.default_rng(seed)))
    blank = [image for image in images if not np.ptp(image)]
    assert 3 < len(blank) < 30
    assert all(np.percentile(i, 99.9) > 0.4 for i in images if np.ptp(i)), "faint noise fills the range"
    assert any(np.array_equal(i[..., 0], i[..., 1]) for i in images if np.ptp(i))
    assert any(not np.array_equal(i[..., 0], i[..., 1]) for i in images if np.ptp(i))


@pytest.mark.parametrize("diameter_px", [8.0, 20.0])
def test_nothing_of_a_cell_is_left_out_of_focus(diameter_px: float) -> None:
    y, x = np.mgrid[:96, :90]
    disc = np.hypot(y - 48, x - 45) < diameter_px / 2
    image = np.repeat(disc[..., None], 3, axis=2).astype(np.float32)
    for seed in range(4):
        blurred = out_of_focus(image, diameter_px, np.random.default_rng(seed))
        assert (blurred.shape, blurred.dtype) == (image.shape, np.float32)
        assert np.array_equal(blurred, out_of_focus(image, diameter_px, np.random.default_rng(seed)))
        inside, beside = blurred[disc].mean(), blurred[~disc & (np.hypot(y - 48, x - 45) < diameter_px)].mean()
        assert inside - beside < 0.4, "the outline is gone"
        assert np.percentile(blurred, 99.9) > 0.4, "what is left fills the range"


def test_a_blank_image_stays_finite_out_of_focus() -> None:
    assert np.isfinite(out_of_focus(np.zeros((40, 40, 3), np.float32), 10.0, np.random.default_rng(0))).all()
