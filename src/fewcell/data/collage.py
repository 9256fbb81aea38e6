"""Collages: drawn cells, with the textures of photographs. They look like nothing in particular, and like cells.

Images here are (height, width, 3) float32 with values of about 0 to 1, as those of `augment`.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from fewcell.data.draws import labels_of_pieces, log_uniform
from fewcell.errors import DataError
from fewcell.types import FloatArray, Labels

__all__ = ["PICTURES", "collage", "photograph_files", "photographs"]

Generator = np.random.Generator

# Photographs and drawings that every installation has; two show cells. What they show matters little.
PICTURES = (
    "astronaut.png", "brick.png", "camera.png", "cell.png", "chelsea.png", "clock_motion.png", "coffee.png",
    "coins.png", "grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png", "microaneurysms.png", "moon.png",
    "retina.jpg", "rocket.jpg",
)  # fmt: skip
BEND_PX = 16  # from one bend of an outline to the next, about
STAINED = 0.5  # of those in colour; with the colours of haematoxylin on eosin
EOSIN, HAEMATOXYLIN = (0.88, 0.70, 0.83), (0.42, 0.25, 0.55)
SHARPEST_PX = 0.4  # standard deviation of the blur that every outline has


def photograph_files() -> list[Path]:
    """The pictures that come with scikit-image, as far as they are there."""
    import skimage.data

    folder = Path(skimage.data.__file__).parent
    return [folder / name for name in PICTURES if (folder / name).is_file()]


@cache
def photographs() -> list[FloatArray]:
    """The same pictures, (height, width, 3) each, 0 to 1; read once, they are about 70 MB.

    Raises DataError if none is there.
    """
    if not photograph_files():
        raise DataError(
            "The photographs that come with scikit-image are needed, and this installation of it has none. Type: "
            "pip install --force-reinstall scikit-image"
        )
    pictures = (np.asarray(Image.open(path).convert("RGB")) for path in photograph_files())
    return [picture.astype(np.float32) / np.float32(255) for picture in pictures]


def collage(pictures: Sequence[FloatArray], side: int, diameter_px: float, rng: Generator) -> tuple[FloatArray, Labels]:
    """Draw an image of cells, (side, side, 3), and their labels, (side, side) int32.

    Cells are bent ellipses of about one size, apart or crowded, darker or lighter than the ground, some with a nucleus,
    a rim or both; cells and ground have textures that are cut out of photographs, gray or coloured.

    pictures: photographs, (height, width, 3) each. diameter_px: of the median cell.

    Source: domain randomisation (Tobin et al., IROS 2017): what is drawn in enough ways covers what is real.
    """
    (body, nuclei, rims), labels = _drawn_cells(side, diameter_px, rng)
    is_gray = rng.random() < 0.5
    ground, inside = (_texture(pictures, side, is_gray, rng) for _ in range(2))
    level = rng.uniform(0, 1, 3)
    step = rng.uniform(0.15, 0.6, 3) * (1 if rng.random() < 0.5 else -1)
    if is_gray:
        level, step = (np.full(3, v.mean()) for v in (level, step))
    elif rng.random() < STAINED:
        level, step = rng.normal(EOSIN, 0.06), rng.uniform(0.4, 1.2) * (np.array(HAEMATOXYLIN) - EOSIN)
    image = level + ground
    image = image + body[..., None] * (step + inside - rng.uniform(0, 1) * ground)
    for mask in (nuclei, rims):
        if rng.random() < 0.5:
            image = image + mask[..., None] * step * rng.uniform(-1, 1)
    soft_px = SHARPEST_PX + rng.exponential(0.6)
    return cv2.GaussianBlur(image.astype(np.float32), (0, 0), soft_px).astype(np.float32), labels


def _drawn_cells(side: int, diameter_px: float, rng: Generator) -> tuple[list[FloatArray], Labels]:
    """Where cells, their nuclei and their rims are: three masks (side, side), 0 to 1; and labels, bent alike."""
    spacing = diameter_px * log_uniform(0.9, 3, rng)
    longest, of_nucleus = log_uniform(1, 2, rng), rng.uniform(0.3, 0.75)
    thickness, spread = int(rng.integers(1, 4)), rng.uniform(0, 0.3)
    at = np.mgrid[0 : side + spacing : spacing, 0 : side + spacing : spacing].reshape(2, -1).T
    at = at + rng.uniform(-0.4, 0.4, at.shape) * spacing
    at = at[rng.random(len(at)) < rng.uniform(0.2, 1)]
    masks, numbers = np.zeros((3, side, side), dtype=np.float32), np.zeros((side, side), dtype=np.float32)
    for number, centre in enumerate(at, 1):
        longer = np.sqrt(log_uniform(1, longest, rng))
        width = diameter_px * np.exp(rng.normal(0, spread))
        place, angle = (int(centre[0]), int(centre[1])), float(rng.uniform(0, 180))
        axes = (max(int(width * longer / 2), 1), max(int(width / longer / 2), 1))
        inner = (max(int(axes[0] * of_nucleus), 1), max(int(axes[1] * of_nucleus), 1))
        for mask in (*masks, numbers):  # a cell hides what is below it
            cv2.ellipse(mask, place, (axes[0] + 1, axes[1] + 1), angle, 0, 360, 0.0, cv2.FILLED)
        cv2.ellipse(masks[0], place, axes, angle, 0, 360, 1.0, cv2.FILLED)
        cv2.ellipse(masks[1], place, inner, angle, 0, 360, 1.0, cv2.FILLED)
        cv2.ellipse(masks[2], place, axes, angle, 0, 360, 1.0, thickness)
        cv2.ellipse(numbers, place, axes, angle, 0, 360, float(number), cv2.FILLED)
    coarse = rng.normal(0, rng.uniform(0, 0.12) * diameter_px, (side // BEND_PX, side // BEND_PX, 2))
    bend = cv2.resize(coarse.astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC)
    y, x = np.indices((side, side), dtype=np.float32)
    x, y = x + bend[..., 0], y + bend[..., 1]
    bent = [cv2.remap(mask, x, y, cv2.INTER_LINEAR).astype(np.float32) for mask in masks]
    return bent, labels_of_pieces(cv2.remap(numbers, x, y, cv2.INTER_NEAREST).astype(np.int32))


def _texture(pictures: Sequence[FloatArray], side: int, is_gray: bool, rng: Generator) -> FloatArray:
    """A part of a photograph, brought to a size, blurred, of any contrast, its mean taken away: (side, side, 3)."""
    picture = pictures[int(rng.integers(len(pictures)))]
    size = int(min(picture.shape[:2]) * rng.uniform(0.15, 1))
    top, left = (int(rng.integers(whole - size + 1)) for whole in picture.shape[:2])
    part = cv2.resize(picture[top : top + size, left : left + size], (side, side), interpolation=cv2.INTER_LINEAR)
    part = cv2.GaussianBlur(part, (0, 0), float(log_uniform(0.3, 8, rng)))
    part = part.mean(axis=2, keepdims=True) if is_gray else part
    part = part - part.mean(axis=(0, 1))
    return part * (rng.uniform(0.02, 0.25) / max(float(part.std()), 0.02))
