"""What drawing and varying images for training have in common."""

import cc3d
import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from fewcell.images.normalise import normalise
from fewcell.types import UNKNOWN, FloatArray, Labels

__all__ = ["as_jpeg", "grain", "labels_of_pieces", "log_uniform", "normalised", "smooth_field", "uneven"]

SLIVER = 0.1  # share of the median cell; less than that of a hidden one is no cell, and nothing is known of it


def log_uniform(low: float, high: float, rng: Generator) -> np.float64:
    """A number between two positive ones, of which every doubling is as likely as every other."""
    return np.exp(rng.uniform(np.log(low), np.log(high)))


def as_jpeg(image: FloatArray, quality: int) -> FloatArray:
    """An image (height, width, 3) as JPEG keeps it in 8 bits, its values cut to 0 to 1. quality: 0 to 100."""
    as_bytes = (np.clip(image, 0, 1) * 255).astype(np.uint8)
    packed = cv2.imencode(".jpg", as_bytes, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), dtype=np.float32) / np.float32(255)


def normalised(image: NDArray) -> FloatArray:
    """As `normalise`, of an image whose channels come last: (height, width, 3) -> (height, width, 3) float32."""
    pixels = normalise(np.ascontiguousarray(image.transpose(2, 0, 1)))
    return np.ascontiguousarray(pixels.transpose(1, 2, 0))


def smooth_field(shape: tuple[int, int], grain_px: float, rng: Generator) -> FloatArray:
    """Noise of mean 0 and deviation 1 whose grains are about `grain_px` wide."""
    step = max(1.0, grain_px / 2)
    coarse = rng.standard_normal((int(shape[0] / step) + 4, int(shape[1] / step) + 4), dtype=np.float32)
    field = cv2.resize(cv2.GaussianBlur(coarse, (0, 0), 1.0), shape[::-1], interpolation=cv2.INTER_CUBIC)
    return np.asarray(field / max(float(field.std()), 1e-6), dtype=np.float32)


def uneven(shape: tuple[int, int], rng: Generator) -> FloatArray:
    """A field that changes slowly from one side to the other, about -1 to 1, as light that is uneven does."""
    coarse = rng.uniform(-1, 1, (3, 3)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC), dtype=np.float32)


def grain(shape: tuple[int, int], channels: int, rng: Generator) -> FloatArray:
    """Noise of mean 0 and deviation 1, of fine or coarse grain: (height, width, 3), alike in all channels if 1."""
    noise = rng.standard_normal((*shape, channels), dtype=np.float32)
    if rng.random() < 0.5:
        noise = cv2.GaussianBlur(noise, (0, 0), rng.uniform(0.5, 4.0)).reshape(*shape, channels)
        noise /= noise.std()
    return np.repeat(noise, 3, axis=2) if channels == 1 else noise


def labels_of_pieces(numbers: Labels) -> Labels:
    """Labels of what is to be seen of each drawn cell: a piece is a cell, and slivers are UNKNOWN."""
    labels = np.asarray(cc3d.connected_components(numbers, connectivity=4)).astype(np.int32)
    area = np.bincount(labels.ravel())
    is_sliver = area < SLIVER * (np.median(area[1:]) if len(area) > 1 else 0)
    return np.where(is_sliver[labels] & (labels > 0), UNKNOWN, labels).astype(np.int32)
