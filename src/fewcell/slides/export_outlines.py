"""Outlines of cells as polygons along pixel edges: filled again, they give every cell back to the pixel."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fewcell.slides.stitch import Piece

__all__ = ["Polygon", "Ring", "outlines"]

Ring = NDArray[np.int32]
"""Corners of a closed line, (n, 2): x and y in pixels of the slide, 0 the outer edge of its first pixel."""

Polygon = list[Ring]
"""The outer ring of a part of a cell, and those of its holes."""


def outlines(piece: Piece) -> Iterator[list[Polygon]]:
    """The outline of each cell of a piece, in their order: a polygon, or several where a cell lies in several parts.

    Parts that meet in a corner only are several. Rings have corners only where they turn, do not repeat the first, and
    touch each other, or none, in single corners, so the polygons are valid. Outer rings have a positive area in the
    system of x and y (y downwards: clockwise on the screen), holes a negative one.
    """
    import cc3d

    from fewcell.slides.outline_kernels import walk_outlines

    parts = np.asarray(cc3d.connected_components(piece.labels, connectivity=4))
    corners, ends, begins, meets = walk_outlines(parts)
    corners += np.array([piece.window[1], piece.window[0]], dtype=np.int32)
    cells = piece.labels[begins[:, 0], begins[:, 1]]
    order = np.argsort(cells, kind="stable")
    until = np.searchsorted(cells[order], np.arange(1, piece.n_cells + 1), side="right").tolist()
    starts, ends = np.append(0, ends[:-1]).tolist(), ends.tolist()
    part_of = parts[begins[:, 0], begins[:, 1]].tolist()
    numbers, done = order.tolist(), 0
    for end in until:
        polygons: dict[int, Polygon] = {}
        for number in numbers[done:end]:
            ring = corners[starts[number] : ends[number]]
            polygons.setdefault(part_of[number], []).extend(_simple_rings(ring) if meets[number] else [ring])
        done = end
        yield list(polygons.values())


def _simple_rings(ring: Ring) -> list[Ring]:
    """A ring that meets itself in corners, taken apart there; one that goes round the others first."""
    rings: list[Ring] = []
    path: list[tuple[int, int]] = []
    place: dict[tuple[int, int], int] = {}
    for x, y in ring.tolist():
        corner = (x, y)
        if corner in place:
            start = place[corner]
            rings.append(np.array(path[start:], dtype=np.int32))
            for passed in path[start + 1 :]:
                del place[passed]
            del path[start + 1 :]
        else:
            place[corner] = len(path)
            path.append(corner)
    rings.append(np.array(path, dtype=np.int32))
    return sorted(rings, key=_area, reverse=True)


def _area(ring: Ring) -> int:
    x, y = ring.astype(np.int64).T
    return int(x @ np.roll(y, -1) - y @ np.roll(x, -1))
