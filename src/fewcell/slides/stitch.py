"""Seams: which block a cell belongs to, and how the cells of all blocks become one label image.

This is the only place that knows about seams. Blocks are read with much around them, so two that see the same cell see
it alike; it belongs to the one whose core holds its anchor, its first pixel in reading order. Should two blocks see
cells differently all the same, the earlier block's cell keeps the pixels that both claim.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fewcell.images import Window, whole_file
from fewcell.slides.plan import Block
from fewcell.tiles import Shape
from fewcell.types import Instances, Labels

__all__ = ["Owned", "Piece", "own_cells", "paint"]


@dataclass(frozen=True)
class Owned:
    """The cells that belong to a block, in the smallest window of the slide that holds them all.

    is_cut: whether the edge of what was seen cuts one of them, where the slide goes on.
    """

    window: Window
    instances: Instances
    is_cut: bool


@dataclass(frozen=True)
class Piece:
    """The cells of a block as they are kept: labels 1 to n in a window of the slide, and a column a measurement.

    surest: the highest score of any cell that was seen there.
    """

    window: Window
    labels: Labels
    columns: Mapping[str, NDArray[Any]]
    surest: float

    @property
    def n_cells(self) -> int:
        return len(self.columns.get("id", ()))

    def write(self, path: Path) -> None:
        """Write a piece to a file, whole or not at all; the same piece gives the same bytes."""
        import imagecodecs

        narrow = self.labels.astype(np.uint16 if self.n_cells < 2**16 else np.uint32)
        packed = np.frombuffer(imagecodecs.zstd_encode(narrow.tobytes(), level=1), dtype=np.uint8)
        arrays = {"labels": packed, "wide": np.array(narrow.itemsize), "surest": np.array(self.surest)}
        columns = {f"column {name}": column for name, column in self.columns.items()}
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, window=np.array(self.window), **(arrays | columns))
        with whole_file(path, overwrite=True) as temporary:
            temporary.write_bytes(buffer.getvalue())

    @classmethod
    def read(cls, path: Path) -> Self:
        import imagecodecs

        with np.load(path, allow_pickle=False) as arrays:
            top, left, bottom, right = (int(edge) for edge in arrays["window"])
            kind = np.uint16 if arrays["wide"] == 2 else np.uint32
            labels = np.frombuffer(imagecodecs.zstd_decode(arrays["labels"].tobytes()), dtype=kind)
            columns = {
                name.removeprefix("column "): arrays[name] for name in arrays.files if name.startswith("column ")
            }
            shape = (bottom - top, right - left)
            return cls(
                (top, left, bottom, right), labels.reshape(shape).astype(np.int32), columns, float(arrays["surest"])
            )


def own_cells(found: Instances, block: Block, shape: Shape) -> Owned:
    """The cells found in a block's window that belong to the block, numbered anew. shape: of the slide."""
    labels = found.labels
    top, left = block.window[:2]
    anchor_y, anchor_x = _anchors(labels, len(found))
    core = block.core
    is_owned = (anchor_y + top >= core[0]) & (anchor_y + top < core[2])
    is_owned &= (anchor_x + left >= core[1]) & (anchor_x + left < core[3])
    numbers = np.append(0, np.cumsum(is_owned) * is_owned).astype(np.int32)
    own = numbers[labels]
    rows, columns = np.flatnonzero(own.any(axis=1)), np.flatnonzero(own.any(axis=0))
    if not len(rows):
        nothing = Instances(np.zeros((0, 0), dtype=np.int32), np.zeros(0, dtype=np.float32))
        return Owned((core[0], core[1], core[0], core[1]), nothing, False)
    inside = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    first, last = (int(top + rows[0]), int(left + columns[0])), (int(top + rows[-1]) + 1, int(left + columns[-1]) + 1)
    window = (*first, *last)
    is_cut = any(
        edge == seen and edge != end for edge, seen, end in zip(window, block.window, (0, 0, *shape), strict=True)
    )
    instances = Instances(np.ascontiguousarray(own[inside]), found.scores[is_owned])
    return Owned(window, instances, is_cut)


def paint(pieces: Sequence[Piece], first_numbers: Sequence[int], window: Window) -> NDArray[np.uint32]:
    """The label image of a window of the slide: what pieces hold of it, the earlier on top.

    first_numbers: what each piece's cells are counted from.
    """
    top, left, bottom, right = window
    canvas = np.zeros((bottom - top, right - left), dtype=np.uint32)
    for piece, before in zip(pieces, first_numbers, strict=True):
        y0, x0 = max(top, piece.window[0]), max(left, piece.window[1])
        y1, x1 = min(bottom, piece.window[2]), min(right, piece.window[3])
        if y0 >= y1 or x0 >= x1:
            continue
        there = piece.labels[y0 - piece.window[0] : y1 - piece.window[0], x0 - piece.window[1] : x1 - piece.window[1]]
        here = canvas[y0 - top : y1 - top, x0 - left : x1 - left]
        free = (there > 0) & (here == 0)
        here[free] = (there[free] + before).astype(np.uint32)
    return canvas


def _anchors(labels: Labels, count: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Row and column of the first pixel of each cell, in reading order: (count,) each."""
    flat = labels.ravel()
    places = np.flatnonzero(flat > 0)[::-1]
    first = np.zeros(count + 1, dtype=np.intp)
    first[flat[places]] = places  # of several the last counts, which is the first in reading order
    return np.divmod(first[1:], labels.shape[1])
