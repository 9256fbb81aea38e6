"""Transparent cells, drawn: as phase contrast, DIC and brightfield show cells that nobody stained.

What is drawn is how thick an image is: bodies of many shapes with nuclei and granules, the ground that they lie on, and
debris. How a microscope shows that is left to `optics`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fewcell.data.draws import grain, labels_of_pieces, log_uniform, smooth_field
from fewcell.data.optics import defocused, dic, phase_contrast
from fewcell.types import FloatArray, Labels

__all__ = ["transparent_cells"]

Generator = np.random.Generator

ANGLES = np.linspace(0, 2 * np.pi, 72, endpoint=False)  # of the corners of an outline
OUTLINE_PX = 1.0  # by which OpenCV draws an outline wider than its corners are apart
NEIGHBOURS = np.ones((3, 3), dtype=np.uint8)
DARKEST = 8.0  # of what is seen, in units of what the rims of most cells show: a camera has an end, too
SWOLLEN = 0.35  # radius of a cell that has rounded up, in widths of a cell
PHASE, DIC = 0.6, 0.2  # how often; else brightfield


@dataclass(frozen=True)
class _Kind:
    """What the cells of an image have in common; ranges, of which each image has a part.

    longer: length over width. is_capsule: straight sides and round ends, instead of an ellipse. bent: how much the
    outline departs from that. tips, reach: how many corners a cell runs out into, and how far they reach, in its radii.
    granules: how uneven it is inside, in its thickness. halo: how wide its halo is in phase contrast, in widths of a
    cell. has_nucleus: that is to be seen. rounds_up: whether some may be thick and round, as cells are that divide or
    die. shares: how often neighbours share a border, instead of one lying on the other.
    """

    longer: tuple[float, float]
    is_capsule: bool
    bent: tuple[float, float]
    tips: tuple[int, int]
    reach: float
    granules: tuple[float, float]
    halo: tuple[float, float]
    has_nucleus: bool
    rounds_up: bool
    shares: float


SPREAD = _Kind(  # as fibroblasts are
    longer=(1, 1.8), is_capsule=False, bent=(0.03, 0.2), tips=(2, 6), reach=1.8, granules=(0.2, 0.6), halo=(0.06, 0.3),
    has_nucleus=True, rounds_up=True, shares=0.3,
)  # fmt: skip
SPINDLES = _Kind(
    longer=(2, 6), is_capsule=False, bent=(0.03, 0.2), tips=(0, 3), reach=1.2, granules=(0.1, 0.5), halo=(0.06, 0.3),
    has_nucleus=True, rounds_up=True, shares=0.0,
)  # fmt: skip
SHEETS = _Kind(  # as of epithelium
    longer=(1, 1.5), is_capsule=False, bent=(0.05, 0.2), tips=(0, 2), reach=0.3, granules=(0.05, 0.5), halo=(0.06, 0.3),
    has_nucleus=True, rounds_up=True, shares=0.8,
)  # fmt: skip
ROUND = _Kind(  # as yeasts and lymphocytes are
    longer=(1, 1.4), is_capsule=False, bent=(0, 0.05), tips=(0, 0), reach=0, granules=(0, 0.4), halo=(0.1, 0.8),
    has_nucleus=True, rounds_up=False, shares=0.7,
)  # fmt: skip
RODS = _Kind(  # as bacteria are
    longer=(2, 6), is_capsule=True, bent=(0, 0.04), tips=(0, 0), reach=0, granules=(0, 0.2), halo=(0.2, 1.2),
    has_nucleus=False, rounds_up=False, shares=0.7,
)  # fmt: skip
KINDS = (SPREAD, SPINDLES, SHEETS, ROUND, RODS)


@dataclass(frozen=True)
class _Cells:
    """Which cell each pixel shows, and which pixels show a nucleus; (side, side) each.

    heights: how thick each cell is in its middle, the ground, 0, first. is_swollen: which have rounded up.
    """

    numbers: Labels
    nuclei: NDArray[np.bool_]
    heights: NDArray[np.float64]
    is_swollen: NDArray[np.bool_]


def transparent_cells(side: int, diameter_px: float, rng: Generator) -> tuple[FloatArray, Labels]:
    """Draw an image of transparent cells, (side, side, 3), gray, and their labels, (side, side) int32.

    What lies on top hides what is below it; a piece that is left is a cell, and slivers are UNKNOWN. There may be no
    cell at all.

    diameter_px: of the circle as large as the median cell.

    Source: domain randomisation (Tobin et al., IROS 2017), of thickness instead of brightness.
    """
    kind = KINDS[int(rng.integers(len(KINDS)))]
    cells = _cells(kind, side, diameter_px, rng)
    thickness = _thickness(kind, cells, diameter_px, rng) + _ground(side, diameter_px, rng)
    thickness = cv2.GaussianBlur(thickness, (0, 0), log_uniform(0.4, 1.5, rng)).astype(np.float32)
    chance = rng.random()
    if chance < PHASE:
        shown = phase_contrast(_wrapped(thickness, rng), diameter_px * log_uniform(*kind.halo, rng), rng)
    else:
        shown = dic(thickness, rng) if chance < PHASE + DIC else defocused(thickness, rng)
    rims = _rims(cells)
    shown = np.clip(_in_units_of(shown, rims), -DARKEST, DARKEST)
    if rng.random() < 0.3:  # light that is absorbed, or scattered into the image
        shown += np.float32(rng.uniform(-0.6, 0.6)) * np.clip(_in_units_of(thickness, rims), -DARKEST, DARKEST)
    if rng.random() < 0.5:  # uneven light
        coarse = rng.uniform(-1, 1, (3, 3)).astype(np.float32)
        shown += cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    shown += np.float32(log_uniform(0.01, 0.2, rng)) * grain((side, side), 1, rng)[..., 0]
    return np.repeat(shown[..., None], 3, axis=2).astype(np.float32), labels_of_pieces(cells.numbers)


def _cells(kind: _Kind, side: int, diameter_px: float, rng: Generator) -> _Cells:
    longer = float(log_uniform(*kind.longer, rng))
    angle, is_aligned = rng.uniform(0, 2 * np.pi), rng.random() < 0.5
    at = _places(side, diameter_px, longer if is_aligned else 1.0, angle, rng)
    turns = angle + rng.normal(0, 0.2 if is_aligned else np.pi, (len(at), 1))
    outlines, inner = _outlines(kind, diameter_px, longer, turns, rng)
    heights = np.exp(rng.normal(0, rng.uniform(0.05, 0.6), len(at) + 1))
    heights[0] = 0
    first = len(at)  # of those that have rounded up: they lie on top
    if kind.rounds_up and rng.random() < 0.5:
        first -= int(rng.binomial(len(at), rng.uniform(0, 0.2)))
        outlines[first:] = SWOLLEN * diameter_px * np.exp(1j * ANGLES)
        heights[first + 1 :] *= rng.uniform(1.5, 5)
    numbers = _painted(at[:, None] + outlines, side)
    if rng.random() < kind.shares:
        below = _painted(at[:, None] + outlines, side, backwards=True)
        numbers = _shared(numbers, below, at, first, 0.1 * diameter_px * smooth_field((side, side), diameter_px, rng))
    numbers[cv2.dilate(_is_inside(numbers), NEIGHBOURS) == 0] = 0  # nothing is thinner than 3 px
    nuclei = np.zeros((side, side), dtype=bool)
    if kind.has_nucleus:
        middles = at + 0.12 * diameter_px * (rng.standard_normal(len(at)) + 1j * rng.standard_normal(len(at)))
        nuclei = (_painted((middles[:, None] + inner)[:first], side) == numbers) & (numbers > 0)
    return _Cells(numbers, nuclei, heights, np.arange(len(at) + 1) > first)


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
    kind: _Kind, diameter_px: float, longer: float, turns: NDArray[np.float64], rng: Generator
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
    widths = diameter_px * np.exp(rng.normal(0, rng.uniform(0.05, 0.3), count)) - OUTLINE_PX
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


def _shared(top: Labels, below: Labels, at: NDArray[np.complex128], first_swollen: int, bend: FloatArray) -> Labels:
    """Divide what two cells cover by which of them is nearer: they share a border, a little bent. (side, side) each."""
    y, x = np.nonzero((top != below) & (top <= first_swollen))
    one, other = top[y, x], below[y, x]
    pixels = x + 1j * y
    is_ones = np.abs(at[one - 1] - pixels) < np.abs(at[other - 1] - pixels) + bend[y, x]
    numbers = top.copy()
    numbers[y, x] = np.where(is_ones, one, other)
    return numbers


def _is_inside(numbers: Labels) -> NDArray[np.uint8]:
    """1 for pixels of a cell whose neighbours are all of the same cell."""
    as_float = numbers.astype(np.float32)
    is_inside = (numbers > 0) & (cv2.erode(as_float, NEIGHBOURS) == cv2.dilate(as_float, NEIGHBOURS))
    return is_inside.astype(np.uint8)


def _thickness(kind: _Kind, cells: _Cells, diameter_px: float, rng: Generator) -> FloatArray:
    """How thick cells are, (side, side): flat or round as lenses, with nuclei and granules, thinner where they meet."""
    depth = _depth_px(_is_inside(cells.numbers)) + np.float32(0.5) * (cells.numbers > 0)
    slope_px = diameter_px * log_uniform(0.03, 0.5, rng)
    valley = rng.uniform(0.4, 1)
    from_ground = _depth_px((cells.numbers > 0).astype(np.uint8))
    profile = valley * _slope(depth, slope_px) + (1 - valley) * _slope(from_ground, slope_px)
    profile += rng.uniform(0, 0.6) * np.exp(-((depth - rng.uniform(1, 3)) ** 2) / 2) * (depth > 0)  # a ruffled edge
    radius_px = SWOLLEN * diameter_px
    dome = np.sqrt(np.maximum(1 - (1 - np.minimum(depth / radius_px, 1)) ** 2, 0))
    is_swollen = cells.is_swollen[cells.numbers]
    nuclei = np.asarray(cv2.GaussianBlur(cells.nuclei.astype(np.float32), (0, 0), 1.0), dtype=np.float32)
    if kind.has_nucleus and rng.random() < 0.7:  # a thick middle in a thin fringe
        hump = cv2.GaussianBlur(nuclei, (0, 0), diameter_px * rng.uniform(0.08, 0.25))
        fringe = rng.uniform(0.3, 1)
        profile *= fringe + (1 - fringe) * hump / max(float(hump.max()), 1e-6)
    profile *= np.maximum(1 + _granules(kind, nuclei, diameter_px, rng), 0.1)
    profile *= 1 + rng.uniform(-0.4, 1.0) * nuclei
    return (np.where(is_swollen, dome, profile) * cells.heights[cells.numbers]).astype(np.float32)


def _depth_px(mask: NDArray[np.uint8]) -> FloatArray:
    return np.asarray(cv2.distanceTransform(mask, cv2.DIST_L2, 5), dtype=np.float32)


def _slope(depth: FloatArray, slope_px: float) -> FloatArray:
    """A cell is steep where it meets the glass, however gently it rises from there."""
    gentle, steep = np.exp(-depth / np.float32(slope_px)), np.exp(-depth)
    return 1 - np.float32(0.7) * gentle - np.float32(0.3) * steep


def _granules(kind: _Kind, nuclei: FloatArray, diameter_px: float, rng: Generator) -> FloatArray:
    """How uneven cells are inside: fine or coarse, even or few and strong, everywhere or around the nucleus."""
    height, width = nuclei.shape
    fine = smooth_field((height, width), max(1.0, diameter_px * log_uniform(0.04, 0.2, rng)), rng)
    if rng.random() < 0.5:
        fine = np.maximum(fine - np.float32(rng.uniform(0.5, 1.5)), 0) * np.float32(rng.choice([-2, 2]))
    if kind.has_nucleus and rng.random() < 0.5:
        near = cv2.GaussianBlur(nuclei, (0, 0), diameter_px * rng.uniform(0.12, 0.35))
        fine = fine * near / max(float(near.max()), 1e-6) * (1 - np.float32(rng.uniform(0.5, 1)) * nuclei)
    return np.asarray(np.float32(rng.uniform(*kind.granules)) * fine, dtype=np.float32)


def _ground(side: int, diameter_px: float, rng: Generator) -> FloatArray:
    """What lies between cells, and on them: an uneven ground, specks, now and then a scratch, or what floats above."""
    drawn = np.zeros((side, side), dtype=np.float32)
    for _ in range(rng.poisson(log_uniform(0.5, 40, rng))):
        x, y = rng.integers(0, side, 2).tolist()
        cv2.circle(drawn, (x, y), round(diameter_px * float(rng.uniform(0, 1 / 12))), float(rng.normal(0, 0.4)), -1)
    if rng.random() < 0.1:
        ends = rng.integers(-side // 4, 5 * side // 4, 4).tolist()
        cv2.line(drawn, (ends[0], ends[1]), (ends[2], ends[3]), float(rng.normal(0, 0.4)), 1)
    if rng.random() < 0.2:
        floating = np.zeros_like(drawn)
        for _ in range(int(rng.integers(1, 4))):
            x, y = rng.integers(0, side, 2).tolist()
            cv2.circle(floating, (x, y), round(diameter_px * float(rng.uniform(0.2, 1))), float(rng.normal(0, 1)), -1)
        drawn += cv2.GaussianBlur(floating, (0, 0), diameter_px * rng.uniform(0.3, 0.6))
    if rng.random() < 0.6:
        drawn += np.float32(0.1 * rng.uniform() ** 2) * smooth_field((side, side), log_uniform(1, 40, rng), rng)
    return drawn.astype(np.float32)


def _wrapped(thickness: FloatArray, rng: Generator) -> FloatArray:
    """Phase contrast in proportion to thickness as long as that is small; what is thick turns bright again.

    Source: the phase plate of Zernike, who adds a quarter of a wave to the light that passes unbent.
    """
    phase = np.float32(rng.uniform(0.2, 0.9)) * thickness
    return np.sin(phase) + np.cos(phase) - 1


def _rims(cells: _Cells) -> NDArray[np.bool_]:
    """Where cells that have not rounded up end, or meet others; (side, side)."""
    is_rim = (cells.numbers > 0) & (_is_inside(cells.numbers) == 0) & ~cells.is_swollen[cells.numbers]
    return cv2.dilate(is_rim.astype(np.uint8), NEIGHBOURS) > 0


def _in_units_of(shown: FloatArray, rims: NDArray[np.bool_]) -> FloatArray:
    """In units of how much most of what shows rims departs from 0, so that noise can be told in them."""
    strong = np.quantile(np.abs(shown[rims]), 0.75) if rims.any() else 1.0
    return shown / np.float32(max(float(strong), 1e-3))
