"""Images to tell the scale by, besides real ones: a few cells in an empty field, and drawn cells.

Images here are (height, width, 3) float32, normalised, as those of `augment`.
"""

import cv2
import numpy as np

from fewcell.data.draws import grain, log_uniform, normalised
from fewcell.types import FloatArray, Labels

__all__ = ["drawn_cells", "left_alone"]

Generator = np.random.Generator

PATCH = (0.12, 0.6)  # side of what is left of an image, as a share of the whole
FEWEST_ACROSS = 2.5  # cells
SUBPIXELS = 4  # bits of a pixel that OpenCV draws to
FEWEST_DRAWN = 0.01  # share of the pixels


def left_alone(image: FloatArray, labels: Labels, diameter_px: float, rng: Generator) -> tuple[FloatArray, Labels]:
    """A part of an image in an empty field as large as the image: cells lie in one corner of many a slide.

    The field is as dark as most of the background, or as the darkest or the lightest of it, with the image's own noise.
    diameter_px: of its cells; the part is several cells wide, and an image that has no room for that stays whole.
    """
    height, width = labels.shape
    smallest = max(PATCH[0], FEWEST_ACROSS * diameter_px / min(height, width))
    if smallest > PATCH[1]:
        return image, labels
    high, wide = (int(side * log_uniform(smallest, PATCH[1], rng)) for side in labels.shape)
    top, left = int(rng.integers(height - high + 1)), int(rng.integers(width - wide + 1))
    kept = np.zeros((height, width), dtype=np.float32)
    kept[top : top + high, left : left + wide] = 1
    empty = labels == 0 if np.any(labels == 0) else labels < 0
    background = image[empty] if np.any(empty) else image.reshape(-1, 3)
    level = np.quantile(background, rng.choice([0.02, 0.5, 0.5, 0.98]), axis=0).astype(np.float32)
    noise_sd = np.median(np.abs(np.diff(image, axis=1))) / 0.95  # of differences of normal noise
    field = level + np.float32(noise_sd) * grain((height, width), 1, rng)
    soft = cv2.GaussianBlur(kept, (0, 0), float(rng.uniform(0.5, 4)))[..., None]
    return soft * image + (1 - soft) * field, np.where(kept > 0, labels, 0)


def drawn_cells(side: int, diameter_px: float, rng: Generator) -> tuple[FloatArray, float]:
    """Discs or ellipses, filled or as rings, in an image (side, side, 3); and how wide the median one is, in px.

    diameter_px: about how wide they are; equal-area diameters. NaN is returned where too little of them is to be seen.
    """
    spacing = diameter_px * float(log_uniform(1.1, 4, rng))
    longer = float(log_uniform(1, 2, rng))  # long axis over the geometric mean
    y, x = np.mgrid[-spacing : side + spacing : spacing * longer, -spacing : side + spacing : spacing * longer]
    shift = (spacing - diameter_px) * longer / 2
    centres = np.stack([x.ravel(), y.ravel()], axis=1) + rng.uniform(-shift, shift, (x.size, 2))
    centres = centres[rng.random(len(centres)) < rng.uniform(0.3, 1)]
    centres = centres if len(centres) else np.array([[side / 2, side / 2]])
    widths = diameter_px * np.exp(rng.normal(0, rng.uniform(0, 0.25), len(centres)))
    is_ring, unit = rng.random() < 0.25, 2**SUBPIXELS
    bright = np.zeros((side, side), dtype=np.float32)
    for centre, width, angle in zip(centres, widths, rng.uniform(0, 180, len(centres)), strict=True):
        axes = (max(round(width * longer / 2 * unit), 1), max(round(width / longer / 2 * unit), 1))
        thickness = max(1, round(width * 0.12)) if is_ring else cv2.FILLED
        at, value = (round(centre[0] * unit), round(centre[1] * unit)), float(rng.uniform(0.6, 1))
        cv2.ellipse(bright, at, axes, float(angle), 0, 360, value, thickness, cv2.LINE_AA, SUBPIXELS)
    is_seen = np.mean(bright > 0) >= FEWEST_DRAWN
    bright = cv2.GaussianBlur(bright, (0, 0), max(0.3, diameter_px * float(rng.uniform(0.01, 0.12))))
    colour = np.ones(3) if rng.random() < 0.6 else rng.uniform(0.2, 1, 3)
    image = bright[..., None] * colour.astype(np.float32) * rng.choice([-1, 1])
    image = image + np.float32(log_uniform(0.005, 0.15, rng)) * grain((side, side), 1, rng)
    return normalised(image.astype(np.float32)), float(np.median(widths)) if is_seen else float("nan")
