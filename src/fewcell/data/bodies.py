"""Bodies of drawn cells: where they lie and what shapes they have. How they look is for others to say.

Outlines are complex numbers, x + iy, so that they are turned and scaled by a product.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fewcell.data.draws import log_uniform, smooth_field
from fewcell.types import FloatArray, Labels

__all__ = [
    "KINDS",
    "RODS",
    "ROUND",
    "SHEETS",
    "SPINDLES",
    "SPREAD",
    "SWOLLEN_RADIUS",
    "Bodies",
    "Kind",
    "blurred",
    "depth_px",
    "draw_bodies",
    "granules",
    "is_inside",
]

Generator = np.random.Generator

ANGLES = np.linspace(0, 2 * np.pi, 72, endpoint=False)  # of the corners of an outline
OUTLINE_PX = 1.0  # by which OpenCV draws an outline wider than its corners are apart
NEIGHBOURS = np.ones((3, 3), dtype=np.uint8)
SWOLLEN_RADIUS = 0.35  # of a cell that has rounded up, in widths of a cell


@dataclass(frozen=True)
class Kind:
    """What the cells of an image have in common; ranges, of which each image has a part.

    longer: length over width. is_capsule: straight sides and round ends, instead of an ellipse. bent: how much the
    outline departs from that. tips, reach: how many corners a cell runs out into, and how far they reach, in its radii.
    granules: how uneven it is inside, against its thickness or brightness. has_nucleus: that is to be seen. rounds_up:
    whether some may be round, as cells are that divide or die. shares: how often neighbours share a border, instead of
    one lying on the other. sizes: standard deviation of the logarithm of how wide cells are.
    """

    longer: tuple[float, float]
    is_capsule: bool
    bent: tuple[float, float]
    tips: tuple[int, int]
    reach: float
    granules: tuple[float, float]
    has_nucleus: bool
    rounds_up: bool
    shares: float
    sizes: tuple[float, float] = (0.05, 0.3)


SPREAD = Kind(  # as fibroblasts are
    longer=(1, 1.8), is_capsule=False, bent=(0.03, 0.2), tips=(2, 6), reach=1.8, granules=(0.2, 0.6),
    has_nucleus=True, rounds_up=True, shares=0.3,
)  # fmt: skip
SPINDLES = Kind(
    longer=(2, 6), is_capsule=False, bent=(0.03, 0.2), tips=(0, 3), reach=1.2, granules=(0.1, 0.5),
    has_nucleus=True, rounds_up=True, shares=0.0,
)  # fmt: skip
SHEETS = Kind(  # as of epithelium
    longer=(1, 1.5), is_capsule=False, bent=(0.05, 0.2), tips=(0, 2), reach=0.3, granules=(0.05, 0.5),
    has_nucleus=True, rounds_up=True, shares=0.8,
)  # fmt: skip
ROUND = Kind(  # as yeasts and lymphocytes are
    longer=(1, 1.4), is_capsule=False, bent=(0, 0.05), tips=(0, 0), reach=0, granules=(0, 0.4),
    has_nucleus=True, rounds_up=False, shares=0.7,
)  # fmt: skip
RODS = Kind(  # as bacteria are
    longer=(2, 6), is_capsule=True, bent=(0, 0.04), tips=(0, 0), reach=0, granules=(0, 0.2),
    has_nucleus=False, rounds_up=False, shares=0.7,
)  # fmt: skip
KINDS = (SPREAD, SPINDLES, SHEETS, ROUND, RODS)


@dataclass(frozen=True)
class Bodies:
    """Which cell each pixel shows, and how much of its nucleus, 0 to 1; (side, side) each.

    below: which cell lies there at the bottom, the same where there is but one. strengths: how thick or bright each
    cell is, about 1 at the median; of the ground, 0, first. is_swollen: which have rounded up.
    """

    numbers: Labels
    below: Labels
    nuclei: FloatArray
    strengths: NDArray[np.float64]
    is_swollen: NDArray[np.bool_]


def draw_bodies(kind: Kind, side: int, diameter_px: float, rng: Generator) -> Bodies:
    """Draw cells of a kind into a square. diameter_px: of the circle as large as the median cell."""
    longer = float(log_uniform(*kind.longer, rng))
    angle, is_aligned = rng.uniform(0, 2 * np.pi), rng.random() < 0.5
    at = _places(side, diameter_px, longer if is_aligned else 1.0, angle, rng)
    turns = angle + rng.normal(0, 0.2 if is_aligned else np.pi, (len(at), 1))
    outlines, inner = _outlines(kind, diameter_px, longer, turns, rng)
    strengths = np.exp(rng.normal(0, rng.uniform(0.05, 0.6), len(at) + 1))
    strengths[0] = 0
    n_flat = len(at)  # the rest has rounded up, and lies on top
    if kind.rounds_up and rng.random() < 0.5:
        n_flat -= int(rng.binomial(len(at), rng.uniform(0, 0.2)))
        sizes = np.exp(rng.normal(0, 0.12, (len(at) - n_flat, 1)))
        outlines[n_flat:] = SWOLLEN_RADIUS * diameter_px * sizes * np.exp(1j * ANGLES)
    strengths[1 : n_flat + 1].sort()  # what is thicker, or brighter, is seen where cells lie on each other
    numbers = _painted(at[:, None] + outlines, side)
    below = _painted(at[:, None] + outlines, side, backwards=True)
    if rng.random() < kind.shares:
        bend = 0.1 * diameter_px * smooth_field((side, side), diameter_px, rng)
        numbers = below = _shared(numbers, below, at, n_flat, bend)
    numbers, below = _without_thin(numbers, below)
    nuclei = np.zeros((side, side), dtype=bool)
    if kind.has_nucleus:
        middles = at + 0.12 * diameter_px * (rng.standard_normal(len(at)) + 1j * rng.standard_normal(len(at)))
        nuclei = (_painted((middles[:, None] + inner)[:n_flat], side) == numbers) & (numbers > 0)
    return Bodies(numbers, below, blurred(nuclei, 1.0), strengths, np.arange(len(at) + 1) > n_flat)


def _without_thin(numbers: Labels, below: Labels) -> tuple[Labels, Labels]:
    """Both without what is thinner than 3 px: a network's grid would break it, and the cell below is seen instead."""
    is_thin = (numbers > 0) & (cv2.dilate(is_inside(numbers), NEIGHBOURS) == 0)
    numbers = np.where(is_thin, np.where(below == numbers, 0, below), numbers)
    numbers = np.where(cv2.dilate(is_inside(numbers), NEIGHBOURS) == 0, 0, numbers).astype(np.int32)
    return numbers, np.where(numbers == 0, 0, below).astype(np.int32)


def _places(side: int, diameter_px: float, longer: float, angle: float, rng: Generator) -> NDArray[np.complex128]:
    """Where cells lie, x + iy: crowded or apart, everywhere or in colonies, farther apart along their length."""
    spacing = diameter_px * log_uniform(0.8, 2, rng)
    steps = spacing * np.sqrt([longer, 1 / longer])
    lattice = np.meshgrid(*(np.arange(-side, side + step, step) for step in steps))
    u, v = (line + rng.uniform(-0.45, 0.45, line.shape) * step for line, step in zip(lattice, steps, strict=True))
    middle = (1 + 1j) * side / 2
    at = np.asarray(((u + 1j * v) * np.exp(1j * angle) + middle).ravel(), dtype=np.complex128)
    away = np.maximum(np.abs((at - middle).real), np.abs((at - middle).imag))
    at = at[away < side / 2 + diameter_px * np.sqrt(longer)]
    keep = rng.random(len(at)) < rng.uniform(0.5, 1)
    if rng.random() < 0.4:
        field = smooth_field((side, side), diameter_px * log_uniform(2, 8, rng), rng)
        x, y = (np.clip(line, 0, side - 1).astype(int) for line in (at.real, at.imag))
        keep &= field[y, x] > np.quantile(field, rng.uniform(0.1, 0.7))
    return rng.permutation(at[keep])


def _outlines(
    kind: Kind, diameter_px: float, longer: float, turns: NDArray[np.float64], rng: Generator
) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    """Outlines of cells and of their nuclei, around their middles, x + iy: (count, corners) each. turns: (count, 1)."""
    count = len(turns)
    bent, reach = rng.uniform(*kind.bent), rng.uniform(0.2, 1) * kind.reach
    radii = np.ones((count, len(ANGLES)))
    for waves in range(2, 7):
        phase = rng.uniform(0, 2 * np.pi, (count, 1))
        radii += rng.normal(0, bent / np.sqrt(waves), (count, 1)) * np.cos(waves * ANGLES + phase)
    radii = np.maximum(radii, 0.4)
    n_tips = rng.integers(kind.tips[0], kind.tips[1] + 1, (count, 1))
    for tip in range(kind.tips[1]):
        place = rng.uniform(0, 2 * np.pi, (count, 1))
        if longer > 2:  # at its ends
            place = tip * np.pi + rng.normal(0, 0.3, (count, 1))
        away = (ANGLES - place + np.pi) % (2 * np.pi) - np.pi
        width = rng.uniform(0.12, 0.45, (count, 1))
        height = reach * rng.uniform(0.3, 1.7, (count, 1))
        radii += (tip < n_tips) * height * np.exp(-np.abs(away) / width)
    length = np.sqrt(longer) * np.exp(rng.normal(0, 0.12, (count, 1)))
    if kind.is_capsule:
        ellipses = np.exp(1j * ANGLES) / length + np.sign(np.cos(ANGLES)) * np.maximum(length - 1 / length, 0)
    else:
        ellipses = length * np.cos(ANGLES) + 1j * np.sin(ANGLES) / length
    ellipses = ellipses * np.exp(1j * turns)
    outlines = radii * ellipses
    area = 0.5 * np.abs(np.sum((np.conj(outlines) * np.roll(outlines, -1, axis=1)).imag, axis=1))
    widths = diameter_px * np.exp(rng.normal(0, rng.uniform(*kind.sizes), count)) - OUTLINE_PX
    scale = (np.maximum(widths, 2) * np.sqrt(np.pi / 4 / np.maximum(area, 1e-6)))[:, None]
    return outlines * scale, ellipses * scale * rng.uniform(0.25, 0.6)


def _painted(outlines: NDArray[np.complex128], side: int, *, backwards: bool = False) -> Labels:
    """The number, from 1, of the outline that lies on top of each pixel; the last is on top, or the first."""
    canvas = np.zeros((side, side), dtype=np.int32)
    corners = np.round(np.stack([outlines.real, outlines.imag], axis=-1)).astype(np.int32)
    order: Sequence[int] = range(len(outlines))
    for i in reversed(order) if backwards else order:
        cv2.fillPoly(canvas, [corners[i]], i + 1)
    return canvas


def _shared(top: Labels, below: Labels, at: NDArray[np.complex128], n_flat: int, bend: FloatArray) -> Labels:
    """Divide what two cells cover by which of them is nearer: they share a border, a little bent. (side, side) each."""
    y, x = np.nonzero((top != below) & (top <= n_flat))
    one, other = top[y, x], below[y, x]
    pixels = x + 1j * y
    is_ones = np.abs(at[one - 1] - pixels) < np.abs(at[other - 1] - pixels) + bend[y, x]
    numbers = top.copy()
    numbers[y, x] = np.where(is_ones, one, other)
    return numbers


def is_inside(numbers: Labels) -> NDArray[np.uint8]:
    """1 for pixels of a cell whose neighbours are all of the same cell; (side, side)."""
    as_float = numbers.astype(np.float32)
    is_even = cv2.erode(as_float, NEIGHBOURS) == cv2.dilate(as_float, NEIGHBOURS)
    return ((numbers > 0) & is_even).astype(np.uint8)


def depth_px(numbers: Labels) -> FloatArray:
    """How far pixels lie from the edge of their cell: 0.5 along the edge, 0 outside; (side, side)."""
    distance = cv2.distanceTransform(is_inside(numbers), cv2.DIST_L2, 5)
    return np.asarray(distance + 0.5 * (numbers > 0), dtype=np.float32)


def blurred(what: NDArray, sigma_px: float) -> FloatArray:
    """A mask or an image, mirrored beyond its edge, through a Gaussian of this standard deviation; (side, side)."""
    soft = cv2.GaussianBlur(what.astype(np.float32), (0, 0), sigma_px)
    return np.asarray(soft, dtype=np.float32)


def granules(kind: Kind, nuclei: FloatArray, diameter_px: float, rng: Generator) -> FloatArray:
    """How uneven cells are inside: fine or coarse, even or few and strong, everywhere or around the nucleus."""
    height, width = nuclei.shape
    fine = smooth_field((height, width), max(1.0, diameter_px * log_uniform(0.04, 0.2, rng)), rng)
    if rng.random() < 0.5:
        fine = np.maximum(fine - np.float32(rng.uniform(0.5, 1.5)), 0) * np.float32(rng.choice([-2, 2]))
    if kind.has_nucleus and rng.random() < 0.5:
        around = blurred(nuclei, diameter_px * rng.uniform(0.12, 0.35))
        fine = fine * around / max(float(around.max()), 1e-6) * (1 - np.float32(rng.uniform(0.5, 1)) * nuclei)
    return np.asarray(np.float32(rng.uniform(*kind.granules)) * fine, dtype=np.float32)
