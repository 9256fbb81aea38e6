"""Variations of a crop: changes of intensity that leave the labels alone.

Images here are (height, width, 3) float32 with values of about 0 to 1, as OpenCV likes them.
"""

from collections.abc import Callable

import cv2
import numpy as np

from fewcell.config import Augmentation
from fewcell.data.draws import as_jpeg, grain, log_uniform, normalised, smooth_field, uneven
from fewcell.data.optics import as_dic, as_phase_contrast
from fewcell.types import FloatArray, Labels

__all__ = ["immunostain", "vary_intensity"]

Generator = np.random.Generator


def vary_intensity(image: FloatArray, settings: Augmentation, rng: Generator) -> FloatArray:
    """Change an image as another microscope, stain or camera would.

    image: (height, width, 3). Each kind of change happens with its own probability from the settings; the order
    is that of light: stain, optics, camera, file.
    """
    for kind, change in _CHANGES.items():
        if rng.random() < getattr(settings, kind):
            image = change(image, rng)
    return image


def _stain(image: FloatArray, rng: Generator) -> FloatArray:
    """Scale and shift the optical density of each channel, and a little of one channel into another."""
    density = -np.log(np.clip(image, 0.02, 1.0))
    mixing = np.eye(3) * rng.uniform(0.7, 1.35, 3) + rng.normal(0, 0.06, (3, 3))
    return np.exp(-cv2.transform(density, mixing.astype(np.float32))) + rng.normal(0, 0.02, 3).astype(np.float32)


def _gray(image: FloatArray, rng: Generator) -> FloatArray:
    weights = rng.dirichlet((2.0, 2.0, 2.0)).astype(np.float32)
    return np.repeat((image @ weights)[..., None], 3, axis=2)


def _tint(image: FloatArray, rng: Generator) -> FloatArray:
    """Show the brightness in one colour, as a colour camera or a look-up table does."""
    color = rng.uniform(0, 1, 3) ** 2
    return image.mean(axis=2, keepdims=True) * (color / color.max()).astype(np.float32)


def _shuffle_channels(image: FloatArray, rng: Generator) -> FloatArray:
    return image[..., rng.permutation(3)]


def _invert(image: FloatArray, rng: Generator) -> FloatArray:
    return 1 - image


def _gamma(image: FloatArray, rng: Generator) -> FloatArray:
    power, gain, offset = 2 ** rng.uniform(-0.9, 0.9), rng.uniform(0.6, 1.3), rng.uniform(-0.1, 0.1)
    curved = np.power(np.maximum(image, 0), np.float32(power)) + np.minimum(image, 0)
    return curved * np.float32(gain) + np.float32(offset)


def _interference(image: FloatArray, rng: Generator) -> FloatArray:
    return (as_dic if rng.random() < 0.5 else as_phase_contrast)(image, rng)


def _shade(image: FloatArray, rng: Generator) -> FloatArray:
    """Uneven light: a smooth field, multiplied in or added."""
    height, width, _ = image.shape
    field = uneven((height, width), rng)[..., None]
    return image * (1 + 0.4 * field) if rng.random() < 0.5 else image + 0.2 * field


def _blur(image: FloatArray, rng: Generator) -> FloatArray:
    return cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 1.8))


def _noise(image: FloatArray, rng: Generator) -> FloatArray:
    """Camera and photon noise, the same in all channels or not, of a grain of one pixel or two."""
    channels = 1 if rng.random() < 0.5 else 3
    noise = grain(image.shape[:2], channels, rng)
    level = rng.uniform(0.01, 0.1) * (np.sqrt(np.clip(image, 0, 1)) if rng.random() < 0.5 else 1)
    return image + (level * noise).astype(np.float32)


def _jpeg(image: FloatArray, rng: Generator) -> FloatArray:
    return as_jpeg(image, int(rng.integers(30, 90)))


_CHANGES: dict[str, Callable[[FloatArray, Generator], FloatArray]] = {
    "stain": _stain,
    "gray": _gray,
    "tint": _tint,
    "shuffle_channels": _shuffle_channels,
    "invert": _invert,
    "gamma": _gamma,
    "interference": _interference,
    "shade": _shade,
    "blur": _blur,
    "noise": _noise,
    "jpeg": _jpeg,
}


# Optical density of red, green, and blue light in haematoxylin, eosin, and DAB (Ruifrok and Johnston, 2001).
_STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]], dtype=np.float32)


def immunostain(image: FloatArray, labels: Labels, rng: Generator) -> FloatArray:
    """Turn haematoxylin and eosin into a drawn immunostain: eosin fades, brown DAB marks some regions or nuclei.

    image: (height, width, 3), nuclei dark on bright. labels: (height, width), its nuclei. DAB lies around the nuclei of
    whole regions (membranes and cytoplasm), or inside some of the nuclei, or both; haematoxylin may be pale.
    """
    shape = labels.shape
    density = -np.log(np.clip(image, 0.02, 1.0)) @ np.linalg.inv(_STAINS)
    nuclei = cv2.GaussianBlur((labels > 0).astype(np.float32), (0, 0), 1.0)
    dab = np.zeros(shape, dtype=np.float32)
    if rng.random() < 0.75:
        region = np.clip(3 * smooth_field(shape, rng.uniform(25, 120), rng) + rng.uniform(-1, 2.5), 0, 1)
        grain_px = log_uniform(1.0, 14.0, rng)
        fine = np.clip(0.6 + rng.uniform(0.1, 0.6) * smooth_field(shape, grain_px, rng), 0, 2)
        dab += rng.uniform(0.3, 3.0) * region * fine * (1 - rng.uniform(0.5, 1.0) * nuclei)
    if rng.random() < 0.4:
        strength = rng.uniform(0, 1.6, int(labels.max(initial=0)) + 1) * (rng.random(labels.max(initial=0) + 1) < 0.5)
        strength[0] = 0
        dab += cv2.GaussianBlur(strength[np.maximum(labels, 0)].astype(np.float32), (0, 0), 1.0)
    density[..., 0] *= log_uniform(0.1, 1, rng)
    density[..., 1] *= rng.uniform(0.0, 0.4)
    density[..., 2] = density[..., 2] * rng.uniform(0.0, 0.5) + dab
    stained = np.exp(-density @ _STAINS)
    return normalised(stained)
