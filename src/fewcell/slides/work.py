"""The work on a slide, piece by piece: tiles that the network sees, and blocks whose cells are read."""

import os
import secrets
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fewcell.errors import ModelError, ReadError, TooLargeError
from fewcell.images import SlidePyramid, measure_cells, open_slide, read_around_damage
from fewcell.images.pyramid import halved
from fewcell.segmenter import Segmenter, hashes_of, merge_scales
from fewcell.slides.plan import Block, SlidePlan
from fewcell.slides.stitch import GridCells, Owned, Piece, own_cells
from fewcell.types import FloatArray, Shape, Window

__all__ = ["PLAN_FILE", "Work"]

PLAN_FILE = "plan.json"
_PREDICTIONS, _PIECES = "predictions", "pieces"
EMPTY_CONTRAST = 0.02  # of the range of the slide: where nothing stands out by more there is nothing to be seen
GRAIN = 2  # times that a tile is halved before that is judged: noise of single pixels is nothing
GRID_MARGIN_PX = 2  # of the network's grid, beyond what a window shows


class Work:
    """Does the tiles and blocks of a plan, in a folder of its own. Several threads or processes may share the folder.

    Which of them are done is not its business: done again, they give the same bytes.
    """

    def __init__(self, folder: Path, plan: SlidePlan, segmenter: Segmenter) -> None:
        """folder: with the arrays that `prepare` made."""
        self.folder, self.plan, self.segmenter = folder, plan, segmenter
        self.slide = open_slide(plan.slide, axes=plan.task.axes, plane=plan.task.plane)
        if self.slide.fingerprint() != plan.task.fingerprint:
            self.slide.close()
            raise ReadError(f"{plan.slide}: has changed since its segmentation began. Start again with --overwrite.")
        self.pyramid = SlidePyramid(self.slide, plan.task.channels, plan.contrast)
        self.tiles, self.blocks = plan.tiles(), plan.blocks()
        self._widening = Lock()  # a block with much around it takes much memory

    def close(self) -> None:
        """Close the slide."""
        self.slide.close()

    @classmethod
    def open(cls, folder: Path, *, threads: int | None = None) -> Self:
        """As another process sees it: all is read from the folder."""
        plan = SlidePlan.read(folder / PLAN_FILE)
        task = plan.task
        segmenter = Segmenter.load(plan.model, threads=threads, precision=task.precision, accurate=task.accurate)
        if hashes_of(segmenter.facts) != task.model_sha256:
            raise ModelError(f"{plan.model} is not the model that {folder} was begun with.")
        return cls(folder, plan, segmenter)

    def prepare(self) -> None:
        """Make the arrays that tiles are written to, if no other process has."""
        import zarr

        (self.folder / _PIECES).mkdir(parents=True, exist_ok=True)
        if (self.folder / _PREDICTIONS).exists():
            return
        new = self.folder / f".{_PREDICTIONS}-{secrets.token_hex(4)}"
        new.mkdir()
        stride, channels = self.plan.stride, len(self.segmenter.representation.channels)
        chunk = self.plan.task.tile_px // stride
        for number, zoom in enumerate(self.plan.zooms):
            zarr.create_array(
                str(new / str(number)),
                shape=(channels, *(side // stride for side in zoom.padded)),
                chunks=(channels, chunk, chunk),
                dtype="uint8",
            )
        with suppress(OSError):  # another process was quicker
            os.rename(new, self.folder / _PREDICTIONS)

    @cached_property
    def _arrays(self) -> list[Any]:
        import zarr

        return [
            zarr.open_array(str(self.folder / _PREDICTIONS / str(number)), mode="r+")
            for number in range(len(self.plan.zooms))
        ]

    def look(self, number: int) -> FloatArray | None:
        """What the network is to see of a tile: (3, height, width); None if there is nothing to be seen."""
        zoom_number, tile = self.tiles[number]
        zoom = self.plan.zooms[zoom_number]
        seen = self.pyramid.view(self.pyramid.whole, zoom.shape, tile.window)
        coarse = seen
        for _ in range(GRAIN):
            coarse = halved(coarse)
        if np.ptp(coarse, axis=(1, 2)).max() < EMPTY_CONTRAST:
            return None
        return seen

    def try_look(self, number: int) -> tuple[FloatArray | None, str | None]:
        """As `look`, and what is wrong with a tile that cannot be read; there is nothing to be seen of that."""
        try:
            return self.look(number), None
        except TooLargeError:  # it may fit another time
            raise
        except ReadError as error:
            return None, str(error)

    def predict(self, number: int, seen: FloatArray | None) -> NDArray[np.uint8]:
        """What the network says of the core of a tile, in bytes: (channel, h, w). seen: as by `look`."""
        tile, stride = self.tiles[number][1], self.plan.stride
        y0, x0, y1, x1 = (side // stride for side in tile.core)
        representation = self.segmenter.representation
        if seen is None:
            nothing = np.zeros((len(representation.channels), y1 - y0, x1 - x0), dtype=np.float32)
            return representation.to_bytes(nothing)
        prediction = self.segmenter.engine(np.ascontiguousarray(seen))
        top, left = y0 - tile.window[0] // stride, x0 - tile.window[1] // stride
        return representation.to_bytes(prediction[:, top : top + y1 - y0, left : left + x1 - x0])

    def keep(self, number: int, packed: NDArray[np.uint8]) -> None:
        """Write what `predict` gave for a tile: one chunk of one array."""
        zoom, tile = self.tiles[number]
        y0, x0, y1, x1 = (side // self.plan.stride for side in tile.core)
        self._arrays[zoom][:, y0:y1, x0:x1] = packed

    def tiles_of(self, block: Block) -> list[int]:
        """The tiles whose predictions are read for a block."""
        needed, before, side = [], 0, self.plan.task.tile_px
        for zoom, window in zip(self.plan.zooms, self._windows(block)[1], strict=True):
            y0, x0, y1, x1 = (edge * self.plan.stride for edge in window)
            rows, columns = (-(-extent // side) for extent in zoom.shape)
            for row in range(y0 // side, (y1 - 1) // side + 1):
                first = before + row * columns
                needed += range(first + x0 // side, first + (x1 - 1) // side + 1)
            before += rows * columns
        return needed

    def read_block(self, number: int, *, may_widen: bool = True) -> bool:
        """Read the cells of a block from the predictions of its tiles, measure them, and write them down.

        may_widen: whether more may be read than `tiles_of` says, where the edge cuts a cell that belongs to the block;
        otherwise nothing is written then. Returns whether the block is done.
        """
        block, halo_px = self.blocks[number], self.plan.halo_px
        owned, surest = self._own(block)
        while owned.is_cut and halo_px < self.plan.most_halo_px:
            if not may_widen:
                return False
            halo_px = min(2 * halo_px, self.plan.most_halo_px)
            with self._widening:
                owned, surest = self._own(self.plan.around(block, halo_px))
        top, left = owned.window[:2]
        columns: dict[str, NDArray[Any]] = {}
        if len(owned.instances):
            columns = measure_cells(
                owned.instances,
                read_around_damage(self.slide, owned.window),
                pixel_size_um=self.plan.task.pixel_size_um,
                channel_names=self.slide.channel_names,
            )
            columns["y"], columns["x"] = columns["y"] + top, columns["x"] + left
        Piece(owned.window, owned.instances.labels, columns, surest).write(self.piece_file(number))
        return True

    def piece_file(self, number: int) -> Path:
        return self.folder / _PIECES / f"{number:06d}.npz"

    def _own(self, block: Block) -> tuple[Owned, float]:
        """The cells that belong to a block, as far as they lie in its window, and how sure the surest there is."""
        found, surest = self._find(block)
        sure = found.instances.of_score(self.plan.task.min_score)
        found = GridCells(sure, found.first, found.whole)
        return own_cells(found, block, self.plan.shape, self.plan.task.min_area_px), surest

    def _find(self, block: Block) -> tuple[GridCells, float]:
        """The cells in a block's window, whatever their scores, and how sure the surest is."""
        plan = self.plan
        grid, windows = self._windows(block)
        first, *coarser = (self._read_zoom(number, window) for number, window in enumerate(windows))
        surest = float(first.instances.scores.max(initial=0))
        if not coarser:
            return first, surest
        grid_area = plan.task.min_area_px * np.prod(grid) / np.prod(plan.shape)
        window = _scaled(block.window, plan.shape, grid)
        merged = first.on(grid, window, grid_area)
        for other in coarser:
            surest = max(surest, float(other.instances.scores.max(initial=0)))
            merged = merge_scales(merged, other.on(grid, window, grid_area), plan.task.level)
        return GridCells(merged, window[:2], grid), surest

    def _windows(self, block: Block) -> tuple[Shape, list[Window]]:
        """The grid on which the cells of a block come together, and what is read of each zoom's for that."""
        zooms, shape = self.plan.zooms, self.plan.shape
        if len(zooms) == 1:
            return zooms[0].grid, [_scaled(block.window, shape, zooms[0].grid)]
        grid = min(zooms[0].grid, shape)  # fewer pixels: merging costs less there
        window = _scaled(block.window, shape, grid)
        return grid, [_scaled(window, grid, zoom.grid) for zoom in zooms]

    def _read_zoom(self, number: int, window: Window) -> GridCells:
        task = self.plan.task
        y0, x0, y1, x1 = window
        packed = self._arrays[number][:, y0:y1, x0:x1]
        level = min(task.level, task.min_score) if number == 0 else task.level
        return GridCells(self.segmenter.decode_packed(packed, level), (y0, x0), self.plan.zooms[number].grid)


def _scaled(window: Window, shape: Shape, grid: Shape) -> Window:
    """The window of another grid of the same field that shows what a window shows, and a little more."""
    edges = []
    for i, (low, high) in enumerate(((window[0], window[2]), (window[1], window[3]))):
        step = grid[i] / shape[i]
        edges.append(
            (max(int(low * step) - GRID_MARGIN_PX, 0), min(int(np.ceil(high * step)) + GRID_MARGIN_PX, grid[i]))
        )
    (top, bottom), (left, right) = edges
    return top, left, bottom, right
