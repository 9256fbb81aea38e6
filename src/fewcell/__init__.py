"""fewcell: few labels, every cell. Finds every cell in a microscopy image, of any modality, on a laptop.

    from fewcell import Segmenter, read_image
    image = read_image("cells.tif")
    cells = Segmenter.load().segment(image)

Names are loaded when they are first used, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fewcell.errors import FewcellError
    from fewcell.images import Image, measure_cells, read_image, read_labels, write_labels
    from fewcell.segmenter import Segmentation, Segmenter
    from fewcell.types import UNKNOWN, Instances

__version__ = "0.1.0"

__all__ = [
    "UNKNOWN",
    "FewcellError",
    "Image",
    "Instances",
    "Segmentation",
    "Segmenter",
    "measure_cells",
    "read_image",
    "read_labels",
    "write_labels",
]

_HOME = {
    "UNKNOWN": "fewcell.types",
    "FewcellError": "fewcell.errors",
    "Image": "fewcell.images",
    "Instances": "fewcell.types",
    "Segmentation": "fewcell.segmenter",
    "Segmenter": "fewcell.segmenter",
    "measure_cells": "fewcell.images",
    "read_image": "fewcell.images",
    "read_labels": "fewcell.images",
    "write_labels": "fewcell.images",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'fewcell' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
