"""How microscopes show what is thick."""

import numpy as np
import pytest

pytest.importorskip("cv2")

from fewcell.data.optics import as_dic, as_phase_contrast, brightfield, dic, phase_contrast


@pytest.mark.parametrize("way", [as_dic, as_phase_contrast])
def test_a_disc_is_lit_from_one_side_or_ringed_and_stays_where_it_is(way) -> None:
    y, x = np.mgrid[:64, :64] - 31.5
    disc, edge = (np.hypot(y, x) < 14).astype(np.float32), np.abs(np.hypot(y, x) - 14) < 3
    image = np.repeat(disc[..., None], 3, axis=2)
    for seed in range(20):
        shown = way(image, np.random.default_rng(seed)).mean(axis=2)
        assert np.abs(shown - np.median(shown[disc == 0]))[edge].max() > 0.1, "the rim is seen"
        turned = shown[::-1, ::-1]  # of a relief the negative
        assert (np.abs(shown - turned)[edge].mean() > 0.05) == (way is as_dic)
        both = (shown + turned) / 2 if way is as_dic else shown
        assert np.abs(both - both.T).max() < 0.01, "light and shade are equally strong, so nothing has moved"


@pytest.mark.parametrize("way", [dic, phase_contrast, brightfield])
def test_what_is_flat_is_not_seen_and_a_rim_is(way) -> None:
    """A wide plateau: its middle and the field around it look alike, as of cells that are spread out."""
    y, x = np.mgrid[:160, :160] - 79.5
    radius = np.hypot(y, x)
    plateau = np.clip(61 - radius, 0, 1).astype(np.float32)
    for seed in range(20):
        shown = way(plateau, np.random.default_rng(seed))
        assert (shown.shape, shown.dtype) == (plateau.shape, np.float32)
        rim = np.abs(shown[np.abs(radius - 60) < 3]).max()
        assert rim > 0
        assert np.abs(shown[radius < 8]).max() < 0.05 * rim
        assert np.array_equal(shown, way(plateau, np.random.default_rng(seed)))
        again = way(7 * plateau, np.random.default_rng(seed))
        assert np.allclose(again, 7 * shown, atol=1e-4), "in proportion to thickness"


def test_a_drop_is_bright_or_dark_out_of_focus_by_the_side_from_which_it_is_seen() -> None:
    y, x = np.mgrid[:64, :64] - 31.5
    drop = np.exp(-(y**2 + x**2) / 60).astype(np.float32)
    middles = [brightfield(drop, np.random.default_rng(seed))[32, 32] for seed in range(20)]
    assert min(middles) < 0 < max(middles)
