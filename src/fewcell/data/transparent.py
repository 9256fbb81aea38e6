"""Transparent cells, drawn: as phase contrast, DIC and brightfield show cells that nobody stained.

What is drawn is how thick an image is: bodies of many shapes with nuclei and granules, and debris. How a microscope
shows that is left to `optics`.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from fewcell.data.collage import pieces
from fewcell.data.draws import log_uniform, smooth_field
from fewcell.data.optics import brightfield, dic, phase_contrast
from fewcell.types import FloatArray, Labels

__all__ = ["transparent_cells"]

Generator = np.random.Generator

CORNERS = 72  # of an outline
SHIFT_BITS = 4  # corners are drawn to a sixteenth of a pixel
OPTICS = (phase_contrast, dic, brightfield)
HOW_OFTEN = (0.6, 0.2, 0.2)


@dataclass(frozen=True)
class Kind:
    """What the cells of an image have in common; ranges, of which each image has a part.

    longer: length over width. boxy: from an ellipse, 2, to a rounded rectangle. bent: how much the outline departs from
    that. tips, reach: how many protrusions a cell has, and how far they reach, in its radii. granules: how uneven it is
    inside, in its thickness. rounds_up: whether some cells may be thick and round, as those are that divide or die.
    shares: how often neighbours share a border, instead of one lying on the other.
    """

    longer: tuple[float, float]
    boxy: tuple[float, float]
    bent: tuple[float, float]
    tips: tuple[int, int]
    reach: float
    granules: tuple[float, float]
    rounds_up: bool
    shares: float


KINDS = (
    # Spread, as fibroblasts; spindles; sheets of epithelium; yeasts and lymphocytes; bacteria.
    Kind((1.0, 1.8), (2.0, 2.5), (0.10, 0.35), (1, 6), 1.2, (0.20, 1.0), rounds_up=True, shares=0.3),
    Kind((2.0, 5.0), (2.0, 2.5), (0.05, 0.25), (0, 3), 0.8, (0.10, 0.8), rounds_up=True, shares=0.0),
    Kind((1.0, 1.5), (2.0, 3.0), (0.05, 0.20), (0, 1), 0.3, (0.05, 0.8), rounds_up=True, shares=0.8),
    Kind((1.0, 1.4), (2.0, 2.2), (0.00, 0.05), (0, 0), 0.0, (0.00, 0.5), rounds_up=False, shares=0.3),
    Kind((2.0, 6.0), (2.5, 5.0), (0.00, 0.04), (0, 0), 0.0, (0.00, 0.2), rounds_up=False, shares=0.0),
)


def transparent_cells(side: int, diameter_px: float, rng: Generator) -> tuple[FloatArray, Labels]:
    """Draw an image of transparent cells, (side, side, 3), gray, and their labels, (side, side) int32.

    diameter_px: of the circle as large as the median cell.

    Source: domain randomisation (Tobin et al., IROS 2017), of thickness instead of brightness.
    """
    kind = KINDS[int(rng.integers(len(KINDS)))]
    numbers, nuclei, height = _bodies(kind, side, diameter_px, rng)
    thickness = _profile(numbers, diameter_px, rng) * height
    thickness *= 1 + rng.uniform(-0.4, 1.2) * nuclei
    thickness *= 1 + _granules(kind, nuclei, rng)
    thickness += _debris(side, diameter_px, rng)
    thickness = cv2.GaussianBlur(thickness, (0, 0), rng.uniform(0.4, 1.0)).astype(np.float32)
    shown = OPTICS[rng.choice(len(OPTICS), p=HOW_OFTEN)](thickness, rng)
    if rng.random() < 0.3:  # light that is absorbed, or scattered into the image
        shown += rng.uniform(-0.3, 0.3) * height
    noise = log_uniform(0.01, 0.15, rng) * float(np.quantile(np.abs(shown), 0.98))
    shown = shown + noise * smooth_field((side, side), log_uniform(1, 3, rng), rng)
    return np.repeat(shown[..., None], 3, axis=2).astype(np.float32), pieces(numbers)


def _bodies(kind: Kind, side: int, diameter_px: float, rng: Generator) -> tuple[Labels, FloatArray, FloatArray]:
    """Which cell each pixel shows, how much of its nucleus, and how thick its body is in the middle; (side, side)."""
    at = _places(side, diameter_px, rng)
    outlines, nuclei = _outlines(kind, len(at), diameter_px, rng)
    heights = np.exp(rng.normal(0, rng.uniform(0.05, 0.4), len(at) + 1))
    heights[0] = 0
    if kind.rounds_up and rng.random() < 0.5:
        count = int(rng.binomial(len(at), rng.uniform(0, 0.2)))
        first = len(at) - count  # the last lie on top
        outlines[first:] = _circles(0.35 * diameter_px, count)
        nuclei[first:] = 0
        heights[first + 1 :] *= rng.uniform(1.5, 5) * (1 if rng.random() < 0.5 else -1)
    numbers, nucleus = (np.zeros((side, side), dtype=np.float32) for _ in range(2))
    for number, (place, outline, inner) in enumerate(zip(at, outlines, nuclei, strict=True), 1):
        _fill(numbers, place + outline, float(number))
        _fill(nucleus, place + outline, 0.0)
        _fill(nucleus, place + inner, 1.0)
    cells = numbers.astype(np.int32)
    if rng.random() < kind.shares:
        cells = np.where(cells > 0, _nearest(at, side), 0)
    height = cv2.GaussianBlur(heights[cells].astype(np.float32), (0, 0), 1.0)
    return cells, cv2.GaussianBlur(nucleus, (0, 0), 1.0).astype(np.float32), height.astype(np.float32)


def _nearest(at: NDArray[np.float64], side: int) -> Labels:
    """The number of the place, from 1, that is nearest to each pixel of the image; (side, side)."""
    numbers = np.zeros((side, side), dtype=np.int32)
    x, y = np.clip(np.round(at), 0, side - 1).astype(int).T
    numbers[y, x] = np.arange(1, len(at) + 1)
    nearest = distance_transform_edt(numbers == 0, return_distances=False, return_indices=True)
    return numbers[tuple(np.asarray(nearest))]


def _places(side: int, diameter_px: float, rng: Generator) -> NDArray[np.float64]:
    """Where cells lie, (n, 2), x first: crowded or apart, everywhere or in colonies."""
    spacing = diameter_px * log_uniform(0.8, 2.5, rng)
    steps = np.arange(0, side + spacing, spacing)
    at = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
    at = at + rng.uniform(-0.45, 0.45, at.shape) * spacing
    keep = rng.random(len(at)) < rng.uniform(0.3, 1)
    if rng.random() < 0.5:
        field = smooth_field((side, side), diameter_px * log_uniform(2, 8, rng), rng)
        x, y = np.clip(at, 0, side - 1).astype(int).T
        keep &= field[y, x] > rng.uniform(-0.5, 1)
    return rng.permutation(at[keep])


def _outlines(
    kind: Kind, count: int, diameter_px: float, rng: Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Outlines of cells and of their nuclei, around their middles: (count, CORNERS, 2) each, x first."""
    angles = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
    bent, reach = rng.uniform(*kind.bent), rng.uniform(0.2, 1) * kind.reach
    radii = np.ones((count, CORNERS))
    for waves in range(2, 7):
        phase = rng.uniform(0, 2 * np.pi, (count, 1))
        radii += rng.normal(0, bent / np.sqrt(waves), (count, 1)) * np.cos(waves * angles + phase)
    radii = np.maximum(radii, 0.3)
    n_tips = rng.integers(kind.tips[0], kind.tips[1] + 1, (count, 1))
    for tip in range(kind.tips[1]):
        away = (angles - rng.uniform(0, 2 * np.pi, (count, 1)) + np.pi) % (2 * np.pi) - np.pi
        width = rng.uniform(0.12, 0.5, (count, 1))
        radii += (tip < n_tips) * reach * rng.exponential(1, (count, 1)) * np.exp(-((away / width) ** 2))
    power = 2 / rng.uniform(*kind.boxy)
    longer = np.sqrt(log_uniform(*kind.longer, rng)) * np.exp(rng.normal(0, 0.12, (count, 1)))
    ellipse = np.stack([longer * _boxy(np.cos(angles), power), _boxy(np.sin(angles), power) / longer], axis=-1)
    turn = rng.uniform(0, 2 * np.pi) + rng.normal(0, rng.choice([0.2, 3.0]), (count, 1, 1))  # aligned, or each its own
    ellipse = np.concatenate(
        [
            np.cos(turn) * ellipse[..., :1] - np.sin(turn) * ellipse[..., 1:],
            np.sin(turn) * ellipse[..., :1] + np.cos(turn) * ellipse[..., 1:],
        ],
        axis=-1,
    )
    outlines = radii[..., None] * ellipse
    x, y = np.moveaxis(outlines, -1, 0)
    area = 0.5 * np.abs(np.sum(x * np.roll(y, -1, axis=1) - y * np.roll(x, -1, axis=1), axis=1))
    width = diameter_px * np.exp(rng.normal(0, rng.uniform(0.05, 0.3), count))
    scale = (width * np.sqrt(np.pi / 4 / np.maximum(area, 1e-6)))[:, None, None]
    return outlines * scale, ellipse * scale * rng.uniform(0.25, 0.6)


def _boxy(values: NDArray[np.float64], power: float) -> NDArray[np.float64]:
    return np.sign(values) * np.abs(values) ** power


def _circles(radius_px: float, count: int) -> NDArray[np.float64]:
    angles = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
    return np.broadcast_to(radius_px * np.stack([np.cos(angles), np.sin(angles)], axis=-1), (count, CORNERS, 2))


def _fill(mask: FloatArray, outline: NDArray[np.float64], value: float) -> None:
    corners = np.round(outline * 2**SHIFT_BITS).astype(np.int32)
    cv2.fillPoly(mask, [corners], value, shift=SHIFT_BITS)


def _profile(numbers: Labels, diameter_px: float, rng: Generator) -> FloatArray:
    """How thick a cell is against its middle, 0 to 1: steep at the edge, or round as a lens."""
    as_float = numbers.astype(np.float32)
    kernel = np.ones((3, 3), dtype=np.uint8)
    is_inside = (numbers > 0) & (cv2.erode(as_float, kernel) == cv2.dilate(as_float, kernel))
    depth = cv2.distanceTransform(is_inside.astype(np.uint8), cv2.DIST_L2, 5)
    slope_px = diameter_px * log_uniform(0.03, 0.5, rng)
    return (1 - np.exp(-depth / np.float32(slope_px))).astype(np.float32)


def _granules(kind: Kind, nuclei: FloatArray, rng: Generator) -> FloatArray:
    """How uneven cells are inside: fine or coarse, everywhere or around the nucleus; mean 0 or nearly."""
    height, width = nuclei.shape
    fine = smooth_field((height, width), log_uniform(1, 5, rng), rng)
    if rng.random() < 0.5:  # few and strong
        fine = np.maximum(fine - np.float32(rng.uniform(0.5, 1.5)), 0) * np.float32(rng.choice([-2, 2]))
    if rng.random() < 0.5:
        near = cv2.GaussianBlur(nuclei, (0, 0), rng.uniform(3, 8))
        fine = fine * near / max(float(near.max()), 1e-6)
    return (rng.uniform(*kind.granules) * fine).astype(np.float32)


def _debris(side: int, diameter_px: float, rng: Generator) -> FloatArray:
    """Specks between cells and on them, at most a sixth as wide as a cell; and now and then a scratch."""
    drawn = np.zeros((side, side), dtype=np.float32)
    for _ in range(rng.poisson(log_uniform(0.5, 40, rng))):
        x, y = rng.integers(0, side, 2).tolist()
        radius = max(1, round(diameter_px * float(rng.uniform(0, 1 / 12))))
        cv2.circle(drawn, (x, y), radius, float(rng.normal(0, 0.6)), cv2.FILLED)
    if rng.random() < 0.1:
        ends = rng.integers(-side // 4, 5 * side // 4, 4).tolist()
        cv2.line(drawn, (ends[0], ends[1]), (ends[2], ends[3]), float(rng.normal(0, 0.5)), 1)
    return drawn
