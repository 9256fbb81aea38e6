"""The label image of a slide as one TIFF, with smaller copies, tile by tile."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from fewcell.slides.export_source import ExportSource
from fewcell.slides.label_zarr import open_levels, read_facts

__all__ = ["write_label_tiff"]

TILE_PX = 1024  # the chunks of the label image
AHEAD_BYTES = 2**24  # of tiles that are compressed at the same time


def write_label_tiff(path: Path, source: ExportSource) -> None:
    """Write the label image as an OME-BigTIFF, 32 bits, with the pixel size and how it was made.

    Its copies of half the size each are those of the OME-Zarr; they make it quick to look at in QuPath and napari.
    """
    arrays = open_levels(source.labels)
    size_um = source.plan.task.pixel_size_um
    facts: dict[str, Any] = {"axes": "YX", "Name": "cells", "Description": json.dumps(read_facts(source.labels))}
    facts["UUID"] = source.identity("labels")  # by default one that differs with every run
    if size_um is not None:
        facts |= {"PhysicalSizeX": size_um, "PhysicalSizeY": size_um}
        facts |= {"PhysicalSizeXUnit": "µm", "PhysicalSizeYUnit": "µm"}
    with tifffile.TiffWriter(path, bigtiff=True, ome=True) as tiff:
        for level, array in enumerate(arrays):
            options: dict[str, Any] = {"subifds": len(arrays) - 1, "metadata": facts, "software": "fewcell"}
            if size_um is not None:
                per_cm = 1e4 / (size_um * 2**level)
                options |= {"resolution": (per_cm, per_cm), "resolutionunit": "CENTIMETER"}
            if level:
                options |= {"subifds": None, "subfiletype": 1, "metadata": None}
            tiff.write(
                _tiles(array),
                shape=array.shape,
                dtype=np.uint32,
                photometric="minisblack",
                tile=(TILE_PX, TILE_PX),
                compression="zlib",
                buffersize=AHEAD_BYTES,
                **options,
            )


def _tiles(array: Any) -> Iterator[NDArray[np.uint32]]:
    """The tiles of an array, row by row, those at the edge filled up with background."""
    height, width = array.shape
    for top in range(0, height, TILE_PX):
        for left in range(0, width, TILE_PX):
            tile = np.asarray(array[top : top + TILE_PX, left : left + TILE_PX])
            missing = (TILE_PX - tile.shape[0], TILE_PX - tile.shape[1])
            yield np.pad(tile, ((0, missing[0]), (0, missing[1]))) if any(missing) else tile
