"""How microscopes without a stain show what is thick: DIC, phase contrast, and brightfield a little out of focus.

Images here are (height, width, 3) float32 with values of about 0 to 1, at canonical scale, as those of `augment`;
thickness, times how much it refracts, is (height, width) float32 in any unit.
"""

import cv2
import numpy as np

from fewcell.data.draws import log_uniform
from fewcell.types import FloatArray

__all__ = ["as_dic", "as_phase_contrast", "defocused", "dic", "phase_contrast"]

Generator = np.random.Generator


def as_dic(image: FloatArray, rng: Generator) -> FloatArray:
    """Show brightness as DIC shows thickness: gray, and lit from one side."""
    return _through_phase(image, dic(_taken_for_thickness(image, rng), rng), rng)


def as_phase_contrast(image: FloatArray, rng: Generator) -> FloatArray:
    """Show brightness as phase contrast shows thickness: gray, what is thick dark in a bright halo, or the reverse."""
    return _through_phase(image, phase_contrast(_taken_for_thickness(image, rng), log_uniform(3, 16, rng), rng), rng)


def dic(thickness: FloatArray, rng: Generator) -> FloatArray:
    """The gradient of the optical path, as two copies of the light a little apart interfere.

    Source: that model, as in Yin, Ker and Kanade, Restoring DIC microscopy images from multiple shear directions (IPMI
    2011).
    """
    angle, half_px = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 1.5)
    shift = half_px * np.array([[np.cos(angle)], [np.sin(angle)]])
    one, other = (
        cv2.warpAffine(thickness, np.hstack([np.eye(2), way]), thickness.shape[::-1], borderMode=cv2.BORDER_REFLECT_101)
        for way in (shift, -shift)
    )
    return np.asarray(one - other, dtype=np.float32)


def phase_contrast(thickness: FloatArray, halo_px: float, rng: Generator) -> FloatArray:
    """What is thick dark in a bright halo, or, more rarely, the reverse.

    Light that the specimen bends should pass beside the phase ring; that of wide structures is hardly bent, passes
    through it and counts as background, hence halos. Source: that model, as in Yin, Kanade and Chen, Understanding the
    phase contrast optics to restore artifact-free microscopy images for segmentation (Medical Image Analysis, 2012).

    halo_px: standard deviation of what counts as background.
    """
    around = cv2.GaussianBlur(thickness, (0, 0), halo_px)
    sign = -1 if rng.random() < 0.8 else 1
    return np.asarray(sign * (thickness - around), dtype=np.float32)


def defocused(thickness: FloatArray, rng: Generator) -> FloatArray:
    """Brightfield a little above or below the focus: bright or dark, in rings that alternate.

    Source: the transfer function of a weak phase object, as in Teague, Deterministic phase retrieval (Journal of the
    Optical Society of America 73, 1983) to first order.
    """
    pad = 16
    padded = cv2.copyMakeBorder(thickness, pad, pad, pad, pad, cv2.BORDER_REFLECT_101)
    height, width = padded.shape
    squared = np.fft.fftfreq(height)[:, None] ** 2 + np.fft.rfftfreq(width) ** 2  # frequencies, in cycles a pixel
    defocus = log_uniform(2, 40, rng) * (1 if rng.random() < 0.5 else -1)
    transfer = np.sin(np.pi * defocus * squared) * np.exp(-squared * rng.uniform(2, 20))
    shown = np.fft.irfft2(np.fft.rfft2(padded) * transfer, s=padded.shape)
    return shown[pad:-pad, pad:-pad].astype(np.float32)


def _taken_for_thickness(image: FloatArray, rng: Generator) -> FloatArray:
    gray = image @ rng.dirichlet((2.0, 2.0, 2.0)).astype(np.float32)
    return np.asarray(cv2.GaussianBlur(gray, (0, 0), rng.uniform(0.5, 2)), dtype=np.float32)


def _through_phase(image: FloatArray, shown: FloatArray, rng: Generator) -> FloatArray:
    shown = shown * np.float32(rng.uniform(0.3, 0.6) / max(float(np.quantile(np.abs(shown), 0.99)), 0.02))
    kept = np.float32(rng.uniform(0, 0.3))  # of how the image was: no microscope shows phase alone
    return np.asarray((1 - kept) * np.repeat(0.5 + shown[..., None], 3, axis=2) + kept * image, dtype=np.float32)
