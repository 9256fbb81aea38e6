"""How microscopes show what is thick."""

import numpy as np
import pytest

pytest.importorskip("cv2")

from fewcell.data.optics import as_dic, as_phase_contrast, defocused, dic, phase_contrast
from fewcell.types import FloatArray


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


def halo(thickness: FloatArray, rng: np.random.Generator) -> FloatArray:
    return phase_contrast(thickness, 4.0, rng)


@pytest.mark.parametrize("way", [dic, halo, defocused])
def test_what_is_flat_is_not_seen_and_a_rim_is(way) -> None:
    """A wide plateau: its middle and the field around it look alike, as of cells that are spread out."""
    y, x = np.mgrid[:160, :160] - 79.5
    radius = np.hypot(y, x)
    plateau = np.clip(61 - radius, 0, 1).astype(np.float32)
    for seed in range(20):
        shown = way(plateau, np.random.default_rng(seed))
        assert (shown.shape, shown.dtype) == (plateau.shape, np.float32)
        rim = np.abs(shown[np.abs(radius - 60) < 3]).max()
        assert rim > 0.02
        assert np.abs(shown[radius < 8]).max() < 0.05 * rim
        assert np.array_equal(shown, way(plateau, np.random.default_rng(seed)))
        again = way(7 * plateau, np.random.default_rng(seed))
        assert np.allclose(again, 7 * shown, atol=1e-4), "in proportion to thickness"


def drop() -> FloatArray:
    y, x = np.mgrid[:64, :64] - 31.5
    return np.exp(-(y**2 + x**2) / 60).astype(np.float32)


def test_what_is_thick_is_mostly_dark_in_a_bright_halo() -> None:
    y, x = np.mgrid[:64, :64] - 31.5
    ring = np.abs(np.hypot(y, x) - 18) < 2
    dark = []
    for seed in range(50):
        shown = halo(drop(), np.random.default_rng(seed))
        assert np.sign(shown[32, 32]) == -np.sign(shown[ring].mean())
        dark.append(shown[32, 32] < 0)
    assert 0.6 < np.mean(dark) < 0.95


def test_dic_is_its_own_negative_half_a_turn_away() -> None:
    for seed in range(10):
        shown = dic(drop(), np.random.default_rng(seed))
        assert np.allclose(shown, -shown[::-1, ::-1], atol=1e-4)


def test_a_drop_is_bright_or_dark_by_the_side_of_the_focus() -> None:
    middles = [defocused(drop(), np.random.default_rng(seed))[32, 32] for seed in range(20)]
    assert min(middles) < 0 < max(middles)
