"""Seams: which block a cell belongs to, and how the cells of all blocks become one label image.

This is the only place that knows about seams. Blocks are read with much around them, so two that see the same cell see
it alike; it belongs to the one whose core holds its anchor, its first pixel in reading order on the grid of the
network's predictions. Should two blocks see cells differently all the same, the earlier block's cell keeps the pixels
that both claim.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fewcell.images import resize_labels_part, whole_file
from fewcell.slides.plan import Block
from fewcell.types import Instances, Labels, Shape, Window

__all__ = ["GridCells", "Owned", "Piece", "own_cells", "paint"]


@dataclass(frozen=True)
class GridCells:
    """Cells found in a part of a grid: its first pixel, and the whole grid's shape."""

    instances: Instances
    first: Shape
    whole: Shape

    def on(self, shape: Shape, window: Window, min_area_px: float) -> Instances:
        """The cells in a window of the whole resampled to `shape`, those that are large enough there."""
        labels = resize_labels_part(self.instances.labels, self.first, self.whole, shape, window)
        return Instances(labels, self.instances.scores).of_area(min_area_px)

    def part(self, window: Window) -> Self:
        """What of them lies in a window of the part, as far as it reaches."""
        top, left = max(window[0], 0), max(window[1], 0)
        labels = self.instances.labels[top : window[2], left : window[3]]
        first = (self.first[0] + top, self.first[1] + left)
        return type(self)(Instances(labels, self.instances.scores), first, self.whole)


@dataclass(frozen=True)
class Owned:
    """The cells that belong to a block, in a window of the slide that holds them all.

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


def own_cells(found: GridCells, block: Block, shape: Shape, min_area_px: float) -> Owned:
    """The cells that belong to a block, on the slide's grid, numbered anew, and those large enough there.

    found: the cells in the part of a grid that shows the block's window, and a little more. shape: of the slide.
    """
    labels, whole = found.instances.labels, found.whole
    steps = shape[0] / whole[0], shape[1] / whole[1]
    anchors = _anchors(labels, len(found.instances))
    is_owned = np.ones(len(found.instances), dtype=bool)
    for axis, step in enumerate(steps):
        at = (anchors[axis] + found.first[axis] + 0.5) * step
        is_owned &= (at >= block.core[axis]) & (at < block.core[axis + 2])
    is_there = np.append(False, is_owned)[labels]
    rows, columns = np.flatnonzero(is_there.any(axis=1)), np.flatnonzero(is_there.any(axis=0))
    if not len(rows):
        return Owned((*block.core[:2], *block.core[:2]), Instances.none((0, 0)), False)
    first, last = (int(rows[0]), int(columns[0])), (int(rows[-1]) + 1, int(columns[-1]) + 1)
    ends_before = [at == 0 and start > 0 for at, start in zip(first, found.first, strict=True)]
    ends_after = [
        at == side and start + side < end
        for at, side, start, end in zip(last, labels.shape, found.first, whole, strict=True)
    ]
    window = _shown(first, last, found.first, steps, block.window)
    part = found.part((first[0] - 2, first[1] - 2, last[0] + 2, last[1] + 2))
    on_slide = resize_labels_part(part.instances.labels, part.first, whole, shape, window)
    instances = Instances(on_slide, found.instances.scores)
    instances = instances.only(is_owned & (instances.areas_px() >= min_area_px))
    return Owned(window, instances, any(ends_before + ends_after))


def _shown(first: Shape, last: Shape, start: Shape, steps: tuple[float, float], seen: Window) -> Window:
    """The window of the slide, inside of what is seen, in which pixels of a grid from first to last can show."""
    low = [int((a + b - 1) * step) for a, b, step in zip(first, start, steps, strict=True)]
    high = [int(np.ceil((a + b + 1) * step)) for a, b, step in zip(last, start, steps, strict=True)]
    return max(low[0], seen[0]), max(low[1], seen[1]), min(high[0], seen[2]), min(high[1], seen[3])


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
