"""napari: opens the label images that fewcell wrote, with their tables as the features of the layer.

Source: https://napari.org/stable/plugins/building_a_plugin/guides.html#readers and the npe2 specification.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewcell.images import read_cell_table, read_labels, read_made_by

__all__ = ["Layer", "get_reader", "read_layers"]

Layer = tuple[Any, dict[str, Any], str]
"""What napari calls LayerData: the data, what else the layer is made with, and its kind."""


def get_reader(path: str | Sequence[str]) -> Callable[[str | Sequence[str]], list[Layer]] | None:
    """Return the function that opens these files, or None where one of them was not written by fewcell."""
    return read_layers if all(_made_by(one) is not None for one in _paths(path)) else None


def read_layers(path: str | Sequence[str]) -> list[Layer]:
    """Open label images as layers of labels: those of slides from the disk as they are looked at, with their copies.

    The features of a cell are its row in the table beside the label image, if that is still there. Layers have no
    scale but that of pixels, so that they lie on the image whichever way napari has read it; how the cells were found,
    and where the table lies, is in the metadata.
    """
    return [_layer(one) for one in _paths(path)]


def _paths(path: str | Sequence[str]) -> list[Path]:
    return [Path(one) for one in ([path] if isinstance(path, str) else path)]


def _layer(path: Path) -> Layer:
    stem = path.stem.removesuffix("_label")
    table = path.with_name(f"{stem}_cells.csv")
    options: dict[str, Any] = {"name": f"{stem} cells", "metadata": {"fewcell": _made_by(path)}}
    if table.is_file():
        options["features"] = _features(table)
        options["metadata"]["table"] = str(table)
    if not path.is_dir():
        return read_labels(path), options, "labels"
    from fewcell.slides.label_zarr import open_levels

    levels = open_levels(path)
    is_multiscale = len(levels) > 1
    return levels if is_multiscale else levels[0], {**options, "multiscale": is_multiscale}, "labels"


def _features(table: Path) -> dict[str, NDArray[Any]]:
    """The columns of a table of cells. napari finds the row of a label by the column 'index'."""
    columns = read_cell_table(table)
    return {"index": columns.pop("id").astype(np.int64), **columns}


def _made_by(path: Path) -> dict[str, Any] | None:
    """What a label image says of how it was made; None if it is none of ours."""
    try:
        if path.is_dir():
            from fewcell.slides.label_zarr import read_facts

            said: Any = read_facts(path)
        else:
            said = read_made_by(path)
    except Exception:  # whatever it is, it is left to other readers
        return None
    return dict(said) if isinstance(said, dict) and "fewcell" in said else None
