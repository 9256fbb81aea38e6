"""Read, write and measure images: files in, arrays out, and back."""

from fewcell.images.measure import measure_cells
from fewcell.images.memory import available_bytes, give_memory_back, peak_bytes
from fewcell.images.normalise import Contrast, estimate_contrast, normalise
from fewcell.images.pyramid import Pyramid
from fewcell.images.read import SUFFIXES, Image, is_tiff, list_images, read_image, read_labels
from fewcell.images.resample import resize_image, resize_labels, resize_labels_part
from fewcell.images.slide import SLIDE_SUFFIXES, Level, Slide, open_slide, read_around_damage
from fewcell.images.slide_pyramid import SlidePyramid
from fewcell.images.write import (
    check_free,
    draw_overlay,
    put_in_place,
    read_cell_table,
    read_made_by,
    whole_file,
    write_cells,
    write_labels,
    write_overlay,
)

__all__ = [
    "SLIDE_SUFFIXES",
    "SUFFIXES",
    "Contrast",
    "Image",
    "Level",
    "Pyramid",
    "Slide",
    "SlidePyramid",
    "available_bytes",
    "check_free",
    "draw_overlay",
    "estimate_contrast",
    "give_memory_back",
    "is_tiff",
    "list_images",
    "measure_cells",
    "normalise",
    "open_slide",
    "peak_bytes",
    "put_in_place",
    "read_around_damage",
    "read_cell_table",
    "read_image",
    "read_labels",
    "read_made_by",
    "resize_image",
    "resize_labels",
    "resize_labels_part",
    "whole_file",
    "write_cells",
    "write_labels",
    "write_overlay",
]
