"""What drawing and varying images for training have in common."""

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from fewcell.images.normalise import normalise
from fewcell.types import FloatArray

__all__ = ["log_uniform", "normalised"]


def log_uniform(low: float, high: float, rng: Generator) -> np.float64:
    """A number between two positive ones, of which every doubling is as likely as every other."""
    return np.exp(rng.uniform(np.log(low), np.log(high)))


def normalised(image: NDArray) -> FloatArray:
    """As `normalise`, of an image whose channels come last: (height, width, 3) -> (height, width, 3) float32."""
    pixels = normalise(np.ascontiguousarray(image.transpose(2, 0, 1)))
    return np.ascontiguousarray(pixels.transpose(1, 2, 0))
