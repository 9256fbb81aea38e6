"""Changes of intensity, and drawn immunostains."""

import numpy as np
import pytest

from fewcell.config import Augmentation
from fewcell.types import FloatArray

pytest.importorskip("cv2")

from fewcell.data.augment import immunostain, vary_intensity

OTHERS = {"scale_jitter": 1.0} | dict.fromkeys(
    (
        "off_scale",
        "rotate",
        "immunostain",
        "paste",
        "empty",
        "defocus",
        "from_afar",
        "collage",
        "transparent",
        "fluorescent",
    ),
    0.0,
)
KINDS = sorted(set(Augmentation.model_fields) - set(OTHERS))


def only(*kinds: str) -> Augmentation:
    return Augmentation(**OTHERS, **{k: float(k in kinds) for k in KINDS})


def pictures() -> dict[str, FloatArray]:
    """Images in all the ranges that normalisation gives."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:48, :40].astype(np.float32)
    waves = np.stack([np.sin(x / 5) + np.cos(y / p) for p in (4, 7, 9)], axis=-1)
    return {
        "colour": (0.5 + 0.25 * waves + rng.normal(0, 0.02, waves.shape)).astype(np.float32),
        "fluorescence": np.repeat(np.clip(3 * waves[..., :1], -0.5, 4), 3, axis=2).astype(np.float32),
        "black": np.zeros((48, 40, 3), dtype=np.float32),
        "white": np.full((48, 40, 3), 4, dtype=np.float32),
    }


PICTURES = pictures()


@pytest.mark.parametrize("kind", [*KINDS, "all"])
@pytest.mark.parametrize("picture", PICTURES)
def test_a_change_keeps_shape_and_stays_finite(kind: str, picture: str) -> None:
    settings = only(*(KINDS if kind == "all" else [kind]))
    image = PICTURES[picture]
    for seed in range(6):
        before = image.copy()
        after = vary_intensity(image, settings, np.random.default_rng(seed))
        assert np.array_equal(image, before)
        assert (after.shape, after.dtype) == (image.shape, np.float32)
        assert np.isfinite(after).all()
        assert np.array_equal(after, vary_intensity(image, settings, np.random.default_rng(seed)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_change_changes_a_colour_image_and_differs_from_seed_to_seed(kind: str) -> None:
    image = PICTURES["colour"]
    results = [vary_intensity(image, only(kind), np.random.default_rng(seed)) for seed in range(8)]
    assert any(np.abs(r - image).max() > 0.01 for r in results)
    assert kind == "invert" or any(np.abs(r - results[0]).max() > 0.01 for r in results[1:])


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"invert", "interference", "shade", "noise", "jpeg"}))
def test_a_change_moves_nothing(kind: str) -> None:
    """A bright square stays where it is: labels need not follow."""
    image = np.full((40, 40, 3), 0.2, dtype=np.float32)
    image[10:22, 14:30] = 0.8
    for seed in range(5):
        after = vary_intensity(image, only(kind), np.random.default_rng(seed)).sum(axis=2)
        bright = after > (after.min() + after.max()) / 2
        assert (bright != (image[..., 0] > 0.5)).mean() < 0.01


def test_interference_is_dic_or_phase_contrast() -> None:
    """A disc in a halo is the same half a turn away, one that is lit from a side is not."""
    y, x = np.mgrid[:64, :64] - 31.5
    image = np.repeat((np.hypot(y, x) < 14).astype(np.float32)[..., None], 3, axis=2)
    seen = set()
    for seed in range(20):
        shown = vary_intensity(image, only("interference"), np.random.default_rng(seed))
        seen.add(bool(np.abs(shown - shown[::-1, ::-1]).mean() < 1e-3))
    assert seen == {True, False}


def test_no_change_at_probability_zero() -> None:
    image = PICTURES["colour"]
    assert np.array_equal(vary_intensity(image, only(), np.random.default_rng(0)), image)


def test_a_change_happens_as_often_as_its_probability_says() -> None:
    settings = only().model_copy(update={"invert": 0.3})
    image, rng = PICTURES["black"], np.random.default_rng(0)
    share = np.mean([vary_intensity(image, settings, rng).any() for _ in range(1000)])
    assert share == pytest.approx(0.3, abs=0.06)


@pytest.mark.parametrize("picture", PICTURES)
def test_an_immunostain_is_drawn_from_any_image_and_labels(picture: str) -> None:
    image = PICTURES[picture]
    labels = np.zeros(image.shape[:2], dtype=np.int32)
    labels[5:14, 5:14], labels[20:30, 8:16], labels[:, 30:] = 3, 4000, -1
    results = []
    for seed in range(8):
        before = image.copy(), labels.copy()
        stained = immunostain(image, labels, np.random.default_rng(seed))
        assert np.array_equal(image, before[0])
        assert np.array_equal(labels, before[1])
        assert (stained.shape, stained.dtype) == (image.shape, np.float32)
        assert np.isfinite(stained).all()
        assert -0.5 <= stained.min() <= stained.max() <= 4
        assert np.array_equal(stained, immunostain(image, labels, np.random.default_rng(seed)))
        results.append(stained)
        immunostain(image, np.full_like(labels, -1), np.random.default_rng(seed))
    assert any(np.abs(r - results[0]).max() > 0.01 for r in results[1:])
