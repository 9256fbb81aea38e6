"""Images without any cell, for training and for choosing thresholds: what must not be taken for cells.

Images here are (height, width, 3) float32, normalised, as those of `augment`.
"""

from math import ceil

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fewcell.data.draws import as_jpeg, grain, log_uniform, normalised
from fewcell.images.normalise import normalise
from fewcell.images.resample import resize_image
from fewcell.types import FloatArray

__all__ = ["empty_image", "out_of_focus"]

Generator = np.random.Generator

MIRRORED = 0.12  # share of images that are small, and mirrored beyond their edge
SMALLEST_PX = 32  # side of such an image
ZOOM = (0.5, 4.0)  # segmenting enlarges images up to four times, if cells seem to be small
LETTERS = list("abcdefghijklmnopqrstuvwxyzABDEGHKMNPRST0123456789.,:-")
COMPRESSED = 0.25  # share of noise and uneven light that was saved as JPEG, which has grains of its own
PHOTOGRAPHED = 0.4  # share of texts that are seen by a camera
SOFTNESS = (0.7, 1.6)  # standard deviation of the blur that leaves nothing of a cell, in diameters of it


def empty_image(shape: tuple[int, int], rng: Generator) -> FloatArray:
    """An image without any cell: blank, noise of any grain or uneven light, some saved as JPEG, stripes, or text;
    enlarged or made smaller.

    Returns (height, width, 3) float32, normalised as any image is, so that faint noise fills the range.
    """
    if rng.random() < MIRRORED and min(shape) >= 4 * SMALLEST_PX:  # as images are that are smaller than a window
        sides = [int(rng.integers(SMALLEST_PX, side // 2)) for side in shape]
        small = empty_image((sides[0], sides[1]), rng)
        before = [(side - inner) // 2 for side, inner in zip(shape, sides, strict=True)]
        pads = [(n, side - inner - n) for n, side, inner in zip(before, shape, sides, strict=True)]
        return np.pad(small, [*pads, (0, 0)], mode="symmetric")
    zoom = float(log_uniform(*ZOOM, rng))
    kind = rng.choice(["blank", "noise", "cloud", "stripes", "text"], p=[0.1, 0.25, 0.15, 0.15, 0.35])
    drawn = _drawn(kind, (ceil(shape[0] / zoom), ceil(shape[1] / zoom)), rng)
    if kind in ("noise", "cloud") and rng.random() < COMPRESSED:
        drawn = _compressed(drawn, rng)
    pixels = np.ascontiguousarray(drawn.transpose(2, 0, 1))
    if kind != "blank":
        pixels = normalise(pixels)
    return np.ascontiguousarray(resize_image(pixels, shape).transpose(1, 2, 0))


def out_of_focus(image: FloatArray, diameter_px: float, rng: Generator) -> FloatArray:
    """An image so blurred that nothing is left of its cells, which were about `diameter_px` wide; normalised again."""
    soft_px = diameter_px * float(rng.uniform(*SOFTNESS))
    blurred = cv2.GaussianBlur(image, (0, 0), soft_px)
    noise = rng.uniform(0, 0.03) * max(float(np.ptp(blurred)), 1e-3)
    blurred = blurred + np.float32(noise) * rng.standard_normal(image.shape, dtype=np.float32)
    return normalised(blurred)


def _drawn(kind: str, shape: tuple[int, int], rng: Generator) -> FloatArray:
    image = np.full((*shape, 3), rng.uniform(0, 1), dtype=np.float32)
    if kind == "blank":
        return image
    channels = 1 if rng.random() < 0.6 else 3
    image += 0.01 * (_counts(shape, channels, rng) if kind == "noise" else grain(shape, channels, rng))
    if kind == "cloud" or (kind == "noise" and rng.random() < 0.4):
        side = int(rng.integers(2, 9))
        coarse = rng.normal(0, 1, (side, side)).astype(np.float32)
        smooth = cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC)
        strength = 1 if kind == "cloud" else rng.uniform(0.005, 0.03)
        image += np.float32(strength) * np.asarray(smooth, dtype=np.float32)[..., None]
    elif kind == "stripes":
        angle, period = rng.uniform(0, np.pi), rng.uniform(4, 80)
        y, x = np.mgrid[: shape[0], : shape[1]]
        wave = np.sin((y * np.sin(angle) + x * np.cos(angle)) * 2 * np.pi / period)
        image += np.asarray(np.sign(wave) if rng.random() < 0.5 else wave, dtype=np.float32)[..., None]
    elif kind == "text":
        ink = _printed(shape, rng) if rng.random() < 0.5 else _lettered(shape, rng)
        drawn = ink.astype(np.float32) / np.float32(255)
        if rng.random() < PHOTOGRAPHED:
            image += _photographed(drawn, rng)[..., None] - image.mean()
        else:
            image += float(rng.choice([-1, 1])) * drawn[..., None]
    return image


def _counts(shape: tuple[int, int], channels: int, rng: Generator) -> FloatArray:
    """Noise of mean 0 and deviation 1, of many kinds: photons, few or many, dead pixels; of any grain up to 12 px."""
    kind = rng.choice(["normal", "photons", "even", "dots"])
    if kind == "normal":
        noise = rng.standard_normal((*shape, channels), dtype=np.float32)
    elif kind == "photons":
        noise = rng.poisson(log_uniform(0.03, 30, rng), (*shape, channels)).astype(np.float32)
    elif kind == "even":
        noise = rng.random((*shape, channels), dtype=np.float32)
    else:
        noise = (rng.random((*shape, channels)) < log_uniform(0.002, 0.1, rng)).astype(np.float32)
    if rng.random() < 0.7:
        noise = cv2.GaussianBlur(noise, (0, 0), float(log_uniform(0.5, 12, rng)))
    noise = noise.reshape(*shape, channels) - noise.mean()
    noise /= max(float(noise.std()), 1e-6)
    return np.repeat(noise, 3, axis=2) if channels == 1 else noise


def _compressed(image: FloatArray, rng: Generator) -> FloatArray:
    """As JPEG keeps it, of any quality, its contrast a few gray levels or many."""
    contrast = np.float32(log_uniform(0.01, 0.1, rng) / max(float(image.std()), 1e-6))
    return as_jpeg(0.5 + contrast * (image - image.mean()), int(rng.integers(15, 95)))


def _lettered(shape: tuple[int, int], rng: Generator) -> np.ndarray:
    """Words of many sizes here and there, drawn in strokes: (height, width) uint8."""
    drawn = np.zeros(shape, dtype=np.uint8)
    for _ in range(int(rng.integers(3, 25))):
        place = (int(rng.integers(-20, shape[1])), int(rng.integers(0, shape[0])))
        font, size, width = int(rng.integers(8)), float(np.exp(rng.uniform(-1.2, 1.1))), int(rng.integers(1, 6))
        drawn = cv2.putText(drawn, _word(rng), place, font, size, 255, width)
    return drawn


def _printed(shape: tuple[int, int], rng: Generator) -> np.ndarray:
    """Lines of print: (height, width) uint8."""
    paper = Image.new("L", (shape[1], shape[0]))
    size = float(log_uniform(7, 60, rng))
    pen, face = ImageDraw.Draw(paper), ImageFont.load_default(size)
    step = size * rng.uniform(1.0, 2.0)
    for y in np.arange(rng.uniform(-size, size), shape[0], step):
        words = " ".join(_word(rng) for _ in range(ceil(shape[1] / size / 3)))
        pen.text((float(rng.uniform(-size, size)), float(y)), words, fill=255, font=face)
    return np.asarray(paper)


def _photographed(text: FloatArray, rng: Generator) -> FloatArray:
    """Ink on paper as a camera sees it: from aside, not quite in focus, in uneven light. text: where ink is, 0 to 1."""
    height, width = text.shape
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], dtype=np.float32)
    centre, angle = corners.mean(axis=0), rng.normal(0, 0.25)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]], dtype=np.float32)
    moved = (corners - centre) @ turn + centre + rng.uniform(-0.15, 0.15, (4, 2)).astype(np.float32) * min(text.shape)
    aside = cv2.getPerspectiveTransform(corners, moved)
    seen = cv2.warpPerspective(text, aside, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    seen = cv2.GaussianBlur(seen, (0, 0), float(log_uniform(0.4, 1.8, rng)))
    coarse = rng.uniform(0.25, 1, (int(rng.integers(2, 5)), int(rng.integers(2, 5)))).astype(np.float32)
    light = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(light * (1 - np.float32(rng.uniform(0.3, 0.9)) * seen), dtype=np.float32)


def _word(rng: Generator) -> str:
    return "".join(rng.choice(LETTERS, rng.integers(1, 9)))
