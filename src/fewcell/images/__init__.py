"""Read, write and measure images: files in, arrays out, and back."""

from fewcell.images.measure import measure_cells
from fewcell.images.read import SUFFIXES, Image, list_images, read_image, read_labels
from fewcell.images.write import draw_overlay, whole_file, write_cells, write_labels, write_overlay

__all__ = [
    "SUFFIXES",
    "Image",
    "draw_overlay",
    "list_images",
    "measure_cells",
    "read_image",
    "read_labels",
    "whole_file",
    "write_cells",
    "write_labels",
    "write_overlay",
]
