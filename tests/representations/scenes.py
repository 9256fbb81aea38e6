"""Drawn label images on which every representation is tested; on a network's grid a cell is about 12 px across."""

import numpy as np
from scipy.spatial import KDTree

from fewcell.types import Labels

__all__ = ["SCENES", "draw_ellipse", "scattered"]


def draw_ellipse(
    labels: Labels, number: int, centre: tuple[float, float], radii: tuple[float, float], angle: float = 0.0
) -> None:
    """Draw an ellipse onto background, in place. Pixel centres lie at whole numbers."""
    y, x = np.ogrid[: labels.shape[0], : labels.shape[1]]
    y, x = y - centre[0], x - centre[1]
    along, across = y * np.cos(angle) + x * np.sin(angle), x * np.cos(angle) - y * np.sin(angle)
    labels[((along / radii[0]) ** 2 + (across / radii[1]) ** 2 <= 1) & (labels == 0)] = number


def scattered(
    rows: int, columns: int, *, pitch: int = 15, radii: tuple[float, float] = (5, 7.5), seed: int = 0
) -> Labels:
    """Ellipses of about 12 px on a jittered lattice; some touch. The lattice's edge keeps away from the frame."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(((rows + 1) * pitch, (columns + 1) * pitch), dtype=np.int32)
    for i in range(rows * columns):
        y, x = pitch * (1 + np.array(divmod(i, columns))) + rng.uniform(-1.5, 1.5, 2)
        top, left = int(y) - pitch, int(x) - pitch
        window = labels[max(top, 0) : top + 2 * pitch, max(left, 0) : left + 2 * pitch]
        centre = (y - max(top, 0), x - max(left, 0))
        draw_ellipse(window, i + 1, centre, tuple(rng.uniform(*radii, 2)), rng.uniform(0, np.pi))
    return labels


def _one() -> Labels:
    labels = np.zeros((40, 52), dtype=np.int32)
    draw_ellipse(labels, 1, (19.3, 24.8), (6, 6.5))
    return labels


def _touching() -> Labels:
    """A disc cut into convex cells without any gap between them."""
    rng = np.random.default_rng(3)
    seeds = np.stack(np.meshgrid(np.arange(0, 96, 13), np.arange(0, 96, 13)), axis=-1).reshape(-1, 2)
    seeds = seeds + rng.uniform(-2, 2, seeds.shape)
    y, x = np.mgrid[:96, :96]
    nearest = ((y[..., None] - seeds[:, 0]) ** 2 + (x[..., None] - seeds[:, 1]) ** 2).argmin(axis=-1)
    labels = np.where((y - 47) ** 2 + (x - 48) ** 2 < 42**2, nearest + 1, 0).astype(np.int32)
    sizes = np.bincount(labels.ravel())
    return np.where(sizes[labels] < 40, 0, labels).astype(np.int32)


def _edge() -> Labels:
    """Cells cut by the frame at each side and corner, by a third to two thirds."""
    labels = np.zeros((60, 75), dtype=np.int32)
    centres = [(y, x) for y in (-1, 19, 40, 61) for x in (-1, 18, 37, 56, 76)]
    for i, centre in enumerate(centres):
        draw_ellipse(labels, i + 1, centre, (7, 6.5))
    return labels


def _gaps() -> Labels:
    labels = scattered(2, 3, seed=4)
    return np.array([0, 3, 40, 41, 32_768, 70_000, 2**24 + 1], dtype=np.int32)[labels]


def _elongated() -> Labels:
    labels = np.zeros((96, 140), dtype=np.int32)
    for i in range(6):
        centre = (24 + 46 * (i // 3), 24 + 46 * (i % 3))
        draw_ellipse(labels, i + 1, centre, (20, 3.6), np.pi * i / 6)
    return labels


def _rings() -> Labels:
    labels = np.zeros((60, 60), dtype=np.int32)
    for i, centre in enumerate([(15, 15), (15, 43), (43, 15), (43.5, 43.5)]):
        hole = np.zeros_like(labels)
        draw_ellipse(hole, 1, centre, (2.2, 2.6))
        draw_ellipse(labels, i + 1, centre, (8, 8.5))
        labels[hole > 0] = 0
    return labels


def _giant() -> Labels:
    """One round cell 400 px across, among smaller ones."""
    labels = np.zeros((440, 470), dtype=np.int32)
    draw_ellipse(labels, 1, (219.5, 219.5), (200, 200))
    for i, centre in enumerate([(20, 440), (60, 452), (400, 445)]):
        draw_ellipse(labels, i + 2, centre, (6.5, 6))
    return labels


def _bacteria() -> Labels:
    """Rods of 6 x 120 px with round ends: side by side, end to end, bent, and crossing the diagonal."""
    labels = np.zeros((150, 320), dtype=np.int32)
    arc = np.linspace(0, 1, 400)[:, None]
    straight = [((10, 15), (10, 128)), ((16, 25), (16, 138)), ((10, 150), (10, 263)), ((40, 15), (120, 95))]
    curves = [np.array(start) + arc * (np.array(end) - start) for start, end in straight]
    angle = np.linspace(0.2, 2.4, 400)[:, None]
    curves += [np.hstack([120 - 55 * np.sin(angle), 210 + 55 * np.cos(angle)])]
    y, x = np.mgrid[: labels.shape[0], : labels.shape[1]]
    places = np.stack([y, x], axis=-1).reshape(-1, 2)
    for i, curve in enumerate(curves):
        distance, _ = KDTree(curve).query(places)
        labels[(distance.reshape(y.shape) < 3) & (labels == 0)] = i + 1
    return labels


def _crescents() -> Labels:
    """Two crescents, each with a horn in the other's mouth."""
    labels = np.zeros((70, 80), dtype=np.int32)
    y, x = np.mgrid[:70, :80]
    for i, (cy, cx, side) in enumerate([(31, 34, 1), (39, 46, -1)]):
        radius = np.hypot(y - cy, x - cx)
        half = side * (y - cy) > -4
        labels[(radius > 9) & (radius < 17) & half & (labels == 0)] = i + 1
    return labels


SCENES: dict[str, Labels] = {
    "empty": np.zeros((33, 47), dtype=np.int32),
    "one": _one(),
    "touching": _touching(),
    "edge": _edge(),
    "gaps": _gaps(),
    "elongated": _elongated(),
    "rings": _rings(),
    "crowd": scattered(50, 60, pitch=10, radii=(3.4, 4.6), seed=5),
    "giant": _giant(),
    "bacteria": _bacteria(),
    "crescents": _crescents(),
}
