"""Label images of slides: OME-Zarr 0.5 with smaller copies, written chunk by chunk."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from fewcell.images import read_made_by
from fewcell.segmenter import scale_facts
from fewcell.slides.plan import SlidePlan
from fewcell.types import Shape, Window
from fewcell.windows import squares

__all__ = [
    "CHUNK_PX",
    "chunks_of",
    "create_labels",
    "is_label_image",
    "open_levels",
    "read_facts",
    "shrink_chunk",
    "write_facts",
]

CHUNK_PX = 1024


def create_labels(path: Path, shape: Shape, pixel_size_um: float | None) -> None:
    """Make an empty label image of a slide, and copies of half the size each until one fits into a chunk.

    Source: the OME-Zarr specification 0.5 (https://ngff.openmicroscopy.org/0.5/), multiscales and image-label.
    """
    import zarr

    group = zarr.create_group(str(path), zarr_format=3, overwrite=True)
    datasets, level = [], 0
    unit = {} if pixel_size_um is None else {"unit": "micrometer"}
    while True:
        group.create_array(
            str(level),
            shape=shape,
            chunks=(CHUNK_PX, CHUNK_PX),
            dtype="uint32",
            dimension_names=["y", "x"],
            fill_value=0,
        )
        step = 2**level * (pixel_size_um or 1.0)
        datasets.append({"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": [step, step]}]})
        if max(shape) <= CHUNK_PX:
            break
        shape, level = (-(-shape[0] // 2), -(-shape[1] // 2)), level + 1
    axes = [{"name": name, "type": "space", **unit} for name in ("y", "x")]
    multiscales = [{"name": "cells", "axes": axes, "datasets": datasets, "type": "nearest"}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": multiscales, "image-label": {}}


def open_levels(path: Path, mode: Literal["r", "r+"] = "r") -> list[Any]:
    """The arrays of a label image, the largest first."""
    import zarr

    group = zarr.open_group(str(path), mode=mode)
    return [group[str(level)] for level in range(len(list(group.array_keys())))]


def read_facts(path: Path) -> dict[str, Any]:
    """How a label image was made, as `write_facts` wrote it; nothing where nobody has."""
    import zarr

    facts: Any = zarr.open_group(str(path), mode="r").attrs.get("made_by", {})
    return facts


def chunks_of(path: Path) -> tuple[list[Any], list[tuple[int, Window]]]:
    """The arrays of a label image, and its chunks as (level, window), in an order in which they can be written."""
    arrays = open_levels(path, "r+")
    windows = [(level, window) for level, array in enumerate(arrays) for window in squares(array.shape, CHUNK_PX)]
    return arrays, windows


def shrink_chunk(arrays: Sequence[Any], level: int, window: Window) -> None:
    """Write a chunk of a copy: of 2 x 2 pixels of the next larger one, the first."""
    top, left, bottom, right = window
    arrays[level][top:bottom, left:right] = arrays[level - 1][2 * top : 2 * bottom : 2, 2 * left : 2 * right : 2]


def write_facts(path: Path, plan: SlidePlan, n_cells: int, failed: Sequence[str], empty_tiles: int) -> None:
    """Write down how the labels were made, in the attributes of the image."""
    import zarr

    facts = {
        "fewcell": plan.task.version,
        "slide": Path(plan.slide).name,
        "model": Path(plan.model).name,
        "model_sha256": dict(sorted(plan.task.model_sha256.items())),
        "precision": plan.task.precision,
        "accurate": plan.task.accurate,
        **scale_facts(plan.diameter_px, plan.diameter_source, plan.larger_px),
        "min_score": plan.task.min_score,
        "min_area_px": plan.task.min_area_px,
        "channels": None if plan.task.channels is None else list(plan.task.channels),
        "n_cells": n_cells,
        "n_tiles": len(plan.tiles()),
        "empty_tiles": empty_tiles,
        "failed_tiles": list(failed),
    }
    zarr.open_group(str(path), mode="r+").attrs["made_by"] = facts


def is_label_image(path: Path) -> bool:
    """Whether something of this name is a label image that was written here, an OME-Zarr or a TIFF."""
    try:
        return "fewcell" in (read_facts(path) if path.is_dir() else read_made_by(path))
    except Exception:  # of whatever kind it is, it is none
        return False
