"""Where a crop lies in its image, and what it shows of it: pixels, or labels with mirrored copies beyond the edge."""

from dataclasses import dataclass

import cv2
import fastremap
import numpy as np
from numpy.typing import NDArray

from fewcell.config import Augmentation
from fewcell.types import UNKNOWN, Labels

__all__ = ["View", "draw_view", "warp_image", "warp_labels"]

OFF_SCALE_JITTER = 4.0  # how many times larger or smaller than usual cells are at most in crops that are off scale


@dataclass(frozen=True)
class View:
    """Where a crop lies in its image: output pixel (y, x) shows source pixel `matrix` @ (x, y, 1).

    matrix: (2, 3) float64, as OpenCV's warpAffine takes it with WARP_INVERSE_MAP: x first.
    """

    matrix: NDArray[np.float64]

    @property
    def step_px(self) -> float:
        """Source pixels per output pixel."""
        return float(np.sqrt(abs(np.linalg.det(self.matrix[:, :2]))))


def draw_view(
    shape: tuple[int, int], size_px: int, step_px: float, settings: Augmentation, rng: np.random.Generator
) -> View:
    """Draw a place, a flip, a turn and a slight stretch for a crop of `size_px` in an image of `shape`.

    step_px: source pixels per output pixel at canonical scale, before jitter. A crop as large as the image or larger
    is centred near its middle; otherwise crops stay inside as far as turning allows.
    """
    is_off = settings.off_scale > 0 and rng.random() < settings.off_scale  # no draw where there are none
    widest = OFF_SCALE_JITTER if is_off else settings.scale_jitter
    jitter = widest ** rng.uniform(-1, 1)
    stretch = np.exp(rng.normal(0, 0.06))
    angle = rng.uniform(0, 2 * np.pi) if rng.random() < settings.rotate else rng.integers(4) * np.pi / 2
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.array([[cos, -sin], [sin, cos]]) @ np.diag([stretch * (-1) ** rng.integers(2), 1 / stretch])
    linear = turn * (step_px / jitter)
    half = 0.5 * size_px * step_px / jitter
    centre = [
        rng.uniform(half, side - half) if side > 2 * half else side / 2 + rng.uniform(-0.1, 0.1) * side
        for side in (shape[1], shape[0])
    ]
    # Pixel centres lie at +0.5: the middle of the crop falls on `centre`.
    offset = np.array(centre) - 0.5 - linear @ np.full(2, (size_px - 1) / 2)
    return View(np.column_stack([linear, offset]))


def warp_image(level: NDArray, matrix: NDArray[np.float64], factor: int, size_px: int) -> NDArray[np.float32]:
    """Cut a crop out of one pyramid level. Only the window that the crop needs is converted and warped.

    matrix: output pixel -> pixel of the full image; factor: pixels of the full image per pixel of the level.
    """
    window, matrix = _window(level.shape[:2], matrix, factor, size_px)
    flags = cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR
    pixels = level[window].astype(np.float32)
    crop = cv2.warpAffine(pixels, matrix, (size_px, size_px), flags=flags, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(crop, dtype=np.float32)


def warp_labels(level: NDArray, matrix: NDArray[np.float64], factor: int, size_px: int) -> Labels:
    """As `warp_image`, by the nearest pixel. A copy that lies beyond the edge gets numbers of its own."""
    window, matrix = _window(level.shape[:2], matrix, factor, size_px)
    labels = level[window]
    flags = cv2.WARP_INVERSE_MAP | cv2.INTER_NEAREST
    size = (size_px, size_px)
    found = cv2.warpAffine(labels.astype(np.float32), matrix, size, flags=flags, borderMode=cv2.BORDER_REFLECT_101)
    found = found.astype(np.int32)
    places = np.tensordot(matrix, _places(size_px), axes=1)  # x and y of each pixel, in the window
    sides = np.array(labels.shape[::-1]).reshape(2, 1, 1)
    within = (places > -0.5) & (places < sides - 0.5)
    if within.all():
        return found
    column, row = np.where(within, 0, np.floor(places / np.maximum(sides - 1, 1))).astype(np.int32)
    copy = (row - row.min()) * (int(np.ptp(column)) + 1) + column - column.min() + 1
    cut = ~within.all(axis=0) & np.isin(found, _on_the_edge(level, window))
    found += np.where(within.all(axis=0) | (found <= 0), 0, copy * int(labels.max(initial=0)))
    found[cut] = UNKNOWN
    return found


def _on_the_edge(level: NDArray, window: tuple[slice, slice]) -> NDArray:
    """The cells that the edge of the level cuts, of those in the window."""
    rows, columns = window
    lines = [level[y, columns] for y in (0, -1)] + [level[rows, x] for x in (0, -1)]
    edge = fastremap.unique(np.concatenate(lines))
    return edge[edge > 0]


def _places(size_px: int) -> NDArray[np.float64]:
    y, x = np.mgrid[:size_px, :size_px]
    return np.stack([x, y, np.ones_like(x)]).astype(np.float64)


def _window(
    shape: tuple[int, ...], matrix: NDArray[np.float64], factor: int, size_px: int
) -> tuple[tuple[slice, slice], NDArray[np.float64]]:
    """What a crop needs of a level, with all that is mirrored into it; and the matrix that counts from there."""
    matrix = matrix / factor
    matrix[:, 2] += 0.5 / factor - 0.5
    corners = matrix @ np.array([[0, size_px, 0, size_px], [0, 0, size_px, size_px], [1, 1, 1, 1]])
    slices = []
    for low, high, side in zip(corners.min(axis=1), corners.max(axis=1), shape[::-1], strict=True):
        first, stop = int(np.floor(low)) - 2, int(np.ceil(high)) + 3
        beyond = max(-first, stop - side, 0) + 2
        if first < 0:
            stop = max(stop, beyond)
        if stop > side:
            first = min(first, side - beyond)
        slices.append(slice(int(np.clip(first, 0, side - 1)), int(np.clip(stop, 1, side))))
    columns, rows = slices
    matrix[:, 2] -= (columns.start, rows.start)
    return (rows, columns), matrix
