"""The cells that one model has found in one image, with what people have corrected of them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewcell.images import Slide, measure_cells, read_around_damage, read_cell_table
from fewcell.slides import SlidePlan
from fewcell.slides.label_zarr import open_levels, read_facts
from fewcell.types import Instances, Labels, Window
from fewcell.web.corrections import UNCHANGED, Correction, CorrectionLog, Row
from fewcell.web.editing import Points, cells_under, delete_cells, draw_cell, merge_cells, split_cells
from fewcell.web.picture import tile_window
from fewcell.web.refusal import Refused
from fewcell.web.work_folder import PLAN_FILE, made_at
from fewcell.windows import grown, joined, pixels_in

__all__ = ["LOG_FILE", "MARGIN_PX", "Cells", "State"]

LOG_FILE = "corrections.jsonl"
MARGIN_PX = 2  # the width of an outline
MOST_EDITED_PX = 9_000_000  # in the window of one correction
SMALLEST_REGION_PX = 8  # side


@dataclass(frozen=True)
class State:
    """What all corrections together make: which of the model's cells are gone, and what there is besides.

    confirmed: found to be right. regions: everything in them is annotated.
    """

    removed: frozenset[int]
    added: dict[int, Row]
    confirmed: frozenset[int]
    regions: tuple[Window, ...]


class Cells:
    """Labels, measurements and corrections of an image; it may be read while it is corrected."""

    def __init__(self, folder: Path, image: Path, slide: Callable[[], Slide], lock: "RLock | None" = None) -> None:
        """folder: of the result. slide: opens the image, or gives it where it is open. lock: of all who correct it."""
        self.folder = folder
        self.plan = SlidePlan.read(folder / PLAN_FILE).model_copy(update={"slide": str(image)})
        self.shape = self.plan.shape
        self.labels = folder / f"{image.stem}_label.zarr"
        self.table = read_cell_table(folder / f"{image.stem}_cells.csv")
        self.lock = lock or RLock()
        self.made = made_at(folder / PLAN_FILE)  # tells these cells from those of another run
        self._slide = slide
        self._log = CorrectionLog(folder / LOG_FILE)
        self._hold(self._log.read())

    @cached_property
    def _arrays(self) -> list[Any]:
        return open_levels(self.labels)

    @cached_property
    def made_by(self) -> dict[str, Any]:
        """How the labels were made, as their attributes say."""
        return read_facts(self.labels)

    @property
    def unread(self) -> list[str]:
        """What was wrong with the parts of the image that could not be read; nothing was found there."""
        return self.made_by.get("failed_tiles", [])

    def _hold(self, corrections: Iterable[Correction]) -> None:
        self.corrections = tuple(corrections)
        added = {int(row["id"] or 0): row for one in self.corrections for row in one.added}
        gone = frozenset(cell for one in self.corrections for cell in one.removed)
        confirmed = frozenset(cell for one in self.corrections for cell in one.confirmed)
        regions = tuple(one.window for one in self.corrections if one.kind == "region")
        self.next_id = max([len(self.table["id"]), *self.table["id"].astype(int).tolist()[-1:], *added]) + 1
        kept = {cell: row for cell, row in added.items() if cell not in gone}
        self.state = State(gone, kept, confirmed - gone, regions)

    def columns(self) -> dict[str, NDArray[np.float64]]:
        """The measurements of all cells that there are, NaN where one is not known."""
        state = self.state
        keep = ~np.isin(self.table["id"], list(state.removed))
        rows = [[np.nan if row.get(n) is None else row[n] for n in self.table] for row in state.added.values()]
        added = np.array(rows, dtype=np.float64).reshape(len(rows), len(self.table))
        return {n: np.concatenate([self.table[n][keep], added[:, i]]) for i, n in enumerate(self.table)}

    def row(self, cell: int) -> Row:
        """The measurements of one cell. Raises Refused if there is none of this number."""
        if cell in self.state.added:
            return self.state.added[cell]
        at = int(np.searchsorted(self.table["id"], cell))
        if cell in self.state.removed or at >= len(self.table["id"]) or self.table["id"][at] != cell:
            raise Refused(404, f"There is no cell {cell}.")
        return {name: _known(column[at]) for name, column in self.table.items()}

    def read(self, window: Window, step: int = 1) -> Labels:
        """The labels, with all corrections, in a window of the copy of every step-th pixel."""
        level = min(step.bit_length() - 1, len(self._arrays) - 1)
        times = step >> level
        top, left, bottom, right = (edge * times for edge in window)
        labels = np.asarray(self._arrays[level][top:bottom:times, left:right:times]).astype(np.int32)
        for correction in self.corrections:
            correction.lay_over(labels, window, step)
        return labels

    def tile(self, step: int, row: int, column: int) -> Labels:
        """A tile of labels with MARGIN_PX around it, which shows where cells end; beyond the image is background."""
        top, left, bottom, right = tile_window(self.shape, step, row, column)
        height, width = (-(-side // step) for side in self.shape)
        first, last = (top - MARGIN_PX, left - MARGIN_PX), (bottom + MARGIN_PX, right + MARGIN_PX)
        seen = max(first[0], 0), max(first[1], 0), min(last[0], height), min(last[1], width)
        missing = (seen[0] - first[0], last[0] - seen[2]), (seen[1] - first[1], last[1] - seen[3])
        return np.pad(self.read(seen, step), missing)

    def at(self, y: int, x: int) -> Row | None:
        """The cell at a pixel; None where there is none."""
        if not (0 <= y < self.shape[0] and 0 <= x < self.shape[1]):
            return None
        cell = int(self.read((y, x, y + 1, x + 1))[0, 0])
        return self.row(cell) if cell > 0 else None

    def around(self, cells: Sequence[int]) -> Window:
        """The smallest window that holds all pixels of these cells. Raises Refused for a cell that is not there."""
        return reduce(joined, map(self._around, cells))

    def correct(self, kind: str, cells: Sequence[int], points: Points, made: str | None = None) -> Correction:
        """Carry out a correction, and write it down. Raises Refused for what cannot be done. made: see `check_made`.

        kind: delete, merge or confirm cells; split by a line, draw an outline, or mark the region between two corners.
        """
        with self.lock:
            self.check_made(made)
            if kind == "region":
                correction = Correction(kind, self._region(points))
            elif kind == "confirm":
                window = self._checked(self.around(_some(cells)))
                correction = Correction(kind, window, confirmed=tuple(cells))
            else:
                correction = self._changed(kind, cells, points)
            self._log.add(correction)
            self._hold((*self.corrections, correction))
            return correction

    def check_made(self, made: str | None) -> None:
        """Raise Refused if others have taken the place of these cells, or if it is not these that were asked for.

        made: of which a request speaks; None: of whichever are here.
        """
        if made_at(self.folder / PLAN_FILE) != self.made or made not in (None, self.made):
            raise Refused(409, "The image has been segmented again, and other cells are there now. Look again.")

    def undo(self, made: str | None = None) -> Correction:
        """Take the latest correction back. Raises Refused if there is none. made: see `check_made`."""
        with self.lock:
            self.check_made(made)
            if not self.corrections:
                raise Refused(409, "There is nothing to undo.")
            self._log.undo()
            last = self.corrections[-1]
            self._hold(self.corrections[:-1])
            return last

    def _changed(self, kind: str, cells: Sequence[int], points: Points) -> Correction:
        if kind == "draw":
            window = self._box(points)
        elif kind == "split":
            box = self._box(points)
            under = cells_under(self.read(box), points - box[:2])
            window = self.around(under) if under else box
        else:
            window = self.around(_some(cells))
        before = self.read(self._checked(window))
        local, new = points - window[:2], self.next_id
        match kind:
            case "draw":
                after = draw_cell(before, local, new)
            case "split":
                after = split_cells(before, local, new)
            case "merge":
                after = merge_cells(before, cells, new)
            case _:
                after = delete_cells(before, cells)
        is_other = before != after
        removed = np.setdiff1d(before[is_other], [0, *np.unique(after)]).tolist()
        patch = np.where(is_other, after, UNCHANGED).astype(np.int32)
        return Correction(kind, window, tuple(removed), self._measured(after, window), patch=patch)

    def _measured(self, labels: Labels, window: Window) -> tuple[Row, ...]:
        """The measurements of new cells in a window; people are sure of what they draw."""
        first = self.next_id
        count = max(0, int(labels.max()) - first + 1)
        if not count:
            return ()
        new = Instances(np.where(labels >= first, labels - first + 1, 0), np.ones(count, dtype=np.float32))
        slide = self._slide()
        columns = measure_cells(
            new,
            read_around_damage(slide, window),
            pixel_size_um=self.plan.task.pixel_size_um,
            channel_names=slide.channel_names,
        )
        offset = {"id": first - 1, "y": window[0], "x": window[1]}
        return tuple(
            {name: _known(float(columns[name][i]) + offset.get(name, 0)) for name in columns} for i in range(count)
        )

    def _around(self, cell: int) -> Window:
        row = self.row(cell)
        y, x, area, side = (row[name] or 0.0 for name in ("y", "x", "area_px", "diameter_px"))
        reach = max(8, round(side))
        while True:
            window = grown((int(y), int(x), int(y) + 1, int(x) + 1), reach, self.shape)
            inside = self.read(self._checked(window)) == cell
            rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
            (top, left), is_all = window[:2], window == (0, 0, *self.shape)
            if len(rows) and (is_all or inside.sum() >= area or reach > 4 * side + 32):
                return top + int(rows[0]), left + int(columns[0]), top + int(rows[-1]) + 1, left + int(columns[-1]) + 1
            if is_all:
                raise Refused(404, f"There is no cell {cell}.")
            reach *= 2

    def _region(self, points: Points) -> Window:
        """The window of the pixels that a rectangle between two corners touches."""
        if len(points) < 2:
            raise Refused(422, "A line or rectangle has two points or more.")
        edges = points + 0.5  # points count from the middle of the first pixel
        top, left = np.clip(np.floor(edges.min(axis=0)), 0, self.shape).astype(int).tolist()
        bottom, right = np.clip(np.ceil(edges.max(axis=0)), 0, self.shape).astype(int).tolist()
        if min(bottom - top, right - left) < SMALLEST_REGION_PX:
            raise Refused(422, f"The rectangle is less than {SMALLEST_REGION_PX} px wide or high. Draw a larger one.")
        return self._checked((top, left, bottom, right))

    def _box(self, points: Points) -> Window:
        """The window of the image around points."""
        if len(points) < 2:
            raise Refused(422, "A line or rectangle has two points or more.")
        top, left = np.clip(np.floor(points.min(axis=0)), 0, np.subtract(self.shape, 1)).astype(int).tolist()
        bottom, right = np.clip(np.ceil(points.max(axis=0)) + 1, 1, self.shape).astype(int).tolist()
        return self._checked((top, left, max(bottom, top + 1), max(right, left + 1)))

    def _checked(self, window: Window) -> Window:
        if pixels_in(window) > MOST_EDITED_PX:
            raise Refused(422, f"One correction may cover {MOST_EDITED_PX / 1e6:g} megapixels. Take a smaller part.")
        return window


def _some(cells: Sequence[int]) -> Sequence[int]:
    if not cells:
        raise Refused(422, "Click a cell first.")
    return cells


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
