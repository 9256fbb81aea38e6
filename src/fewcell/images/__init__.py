"""Read, write and measure images: files in, arrays out, and back."""

from fewcell.images.measure import measure_cells
from fewcell.images.memory import available_bytes
from fewcell.images.normalise import Contrast, estimate_contrast, normalise
from fewcell.images.pyramid import Pyramid, Window
from fewcell.images.read import SUFFIXES, Image, list_images, read_image, read_labels
from fewcell.images.resample import resize_image, resize_labels, resize_labels_part
from fewcell.images.write import draw_overlay, whole_file, write_cells, write_labels, write_overlay

__all__ = [
    "SUFFIXES",
    "Contrast",
    "Image",
    "Pyramid",
    "Window",
    "available_bytes",
    "draw_overlay",
    "estimate_contrast",
    "list_images",
    "measure_cells",
    "normalise",
    "read_image",
    "read_labels",
    "resize_image",
    "resize_labels",
    "resize_labels_part",
    "whole_file",
    "write_cells",
    "write_labels",
    "write_overlay",
]
