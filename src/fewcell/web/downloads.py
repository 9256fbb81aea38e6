"""Files to take along: what is shown, with all corrections, in every format that `fewcell segment` writes."""

import zipfile
from collections.abc import Iterator
from copy import copy
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fewcell.config import Strict
from fewcell.slides.exports import EXPORTS, ExportSource, Numbered, export_paths, write_export
from fewcell.slides.label_zarr import chunks_of, create_labels, shrink_chunk, write_facts
from fewcell.slides.stitch import Piece
from fewcell.types import Window
from fewcell.web.cells import Cells
from fewcell.web.refusal import Refused
from fewcell.windows import grown

__all__ = ["KINDS", "Shown", "write_file"]

KINDS = (*EXPORTS, "zarr")
BLOCK_PX = 1024
COUNTS = ("id", "area_px")  # columns of whole numbers


class Shown(Strict):
    """Which cells are shown, and so are in the files."""

    min_score: Annotated[float, Field(ge=0, le=1)] = 0.0
    min_area_px: Annotated[float, Field(ge=0)] = 0.0
    max_area_px: Annotated[float, Field(ge=0)] = 1e18

    def of(self, columns: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Those rows of a table whose cells are shown."""
        area = columns["area_px"]
        keep = (columns["score"] >= self.min_score) & (area >= self.min_area_px) & (area <= self.max_area_px)
        kept = {name: column[keep] for name, column in columns.items()}
        return kept | {name: kept[name].astype(np.int64) for name in COUNTS}


def write_file(cells: Cells, kind: str, shown: Shown, folder: Path) -> Path:
    """Write the cells that are shown, under the numbers that they have on the page, into a folder of their own.

    Raises Refused for a kind that is not known, and what `write_export` raises.
    """
    if kind not in KINDS:
        raise Refused(404, f"There is no download {kind!r}. Known are {', '.join(KINDS)}.")
    with cells.lock:
        cells.check_made(None)
        cells = copy(cells)  # as they are now, whatever is corrected meanwhile
    try:
        return _write_file(cells, kind, shown, folder)
    finally:
        cells.check_made(None)  # if others have taken their place meanwhile, that is what is wrong


def _write_file(cells: Cells, kind: str, shown: Shown, folder: Path) -> Path:
    stem = folder / cells.labels.name.removesuffix("_label.zarr")
    columns = shown.of(cells.columns())
    labels = cells.labels
    is_as_found = not cells.corrections and len(columns["id"]) == len(cells.table["id"])
    if not is_as_found and kind in ("zarr", "tiff", "overlay"):
        labels = folder / cells.labels.name
        _write_labels(cells, columns["id"], labels)
    if kind == "zarr":
        return _zipped(labels, stem.with_name(f"{stem.name}_label.zarr.zip"))
    path = export_paths([kind], stem)[kind]
    write_export(kind, path, ExportSource(lambda: _pieces(cells, columns), len(columns["id"]), cells.plan, labels))
    return path


def _pieces(cells: Cells, columns: dict[str, NDArray[Any]]) -> Iterator[Numbered]:
    """The cells of a table, block by block, each whole."""
    if not len(columns["id"]):
        return
    across = -(-cells.shape[1] // BLOCK_PX)
    block = columns["y"].astype(int) // BLOCK_PX * across + columns["x"].astype(int) // BLOCK_PX
    local = np.zeros(cells.next_id, dtype=np.int32)
    order = np.argsort(block, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(block[order])) + 1):
        own = {name: column[rows] for name, column in columns.items()}
        local[own["id"]] = np.arange(1, len(rows) + 1)
        window, labels = _whole(cells, own, local)
        local[own["id"]] = 0
        yield Numbered(Piece(window, labels, own, float(own["score"].max())), 0)


def _whole(cells: Cells, own: dict[str, NDArray[Any]], local: NDArray[np.int32]) -> tuple[Window, NDArray[np.int32]]:
    """A window that holds all pixels of cells, and their labels there."""
    (height, width), margin = cells.shape, int(own["diameter_px"].max()) + 2
    while True:
        centres = int(own["y"].min()), int(own["x"].min()), int(own["y"].max()), int(own["x"].max())
        top, left, bottom, right = window = grown(centres, margin, cells.shape)
        labels = local[cells.read(window)]
        is_cut = (
            (top > 0 and labels[0].any())
            or (left > 0 and labels[:, 0].any())
            or (bottom < height and labels[-1].any())
            or (right < width and labels[:, -1].any())
        )
        if not is_cut:
            return window, labels
        margin *= 2


def _write_labels(cells: Cells, numbers: NDArray[np.int64], path: Path) -> None:
    """Write the label image of some of the cells, with smaller copies."""
    create_labels(path, cells.shape, cells.plan.task.pixel_size_um)
    arrays, windows = chunks_of(path)
    own = np.zeros(cells.next_id, dtype=np.uint32)
    own[numbers] = numbers
    for level, (top, left, bottom, right) in windows:
        if level == 0:
            arrays[0][top:bottom, left:right] = own[cells.read((top, left, bottom, right))]
        else:
            shrink_chunk(arrays, level, (top, left, bottom, right))
    write_facts(path, cells.plan, len(numbers), cells.unread, cells.made_by.get("empty_tiles", 0))


def _zipped(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:  # chunks are compressed already
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, Path(folder.name) / file.relative_to(folder))
    return path
