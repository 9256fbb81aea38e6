"""One small picture of a slide with its cells: to see at a glance whether they were found."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from fewcell.images import SlidePyramid, draw_overlay, open_slide
from fewcell.slides.export_source import ExportSource
from fewcell.slides.label_zarr import open_levels
from fewcell.types import FloatArray, Shape

__all__ = ["LONGEST_PX", "write_slide_overlay"]

LONGEST_PX = 2000
SMALLEST_OUTLINED_PX = 10.0  # cells less wide on the picture are a tint: their outlines would hide all else
SAMPLES = 4  # of the labels, along each side of a pixel of the picture, make its tint
TINT = 0.7  # how much of the colour is seen where all is cells
STRIP_PX = 1024
_ON_DARK, _ON_BRIGHT = np.array([255, 221, 51]) / 255, np.array([0, 140, 60]) / 255


def write_slide_overlay(path: Path, source: ExportSource) -> None:
    """Draw the slide, at most 2000 px wide and high, with its cells, as a PNG.

    Cells that are wide enough there get outlines; smaller ones a tint that is stronger where more of a pixel is cells.
    """
    plan = source.plan
    step = max(1.0, max(plan.shape) / LONGEST_PX)
    shape = (max(1, round(plan.shape[0] / step)), max(1, round(plan.shape[1] / step)))
    with open_slide(plan.slide, axes=plan.task.axes, plane=plan.task.plane) as slide:
        pyramid = SlidePyramid(slide, plan.task.channels, plan.contrast, around_damage=True)
        seen = np.clip(pyramid.view(pyramid.whole, shape), 0, 1)
    arrays = open_levels(source.labels)
    if plan.diameter_px / step >= SMALLEST_OUTLINED_PX:
        array, level_step = _level(arrays, step)
        rows, columns = (
            np.minimum(((np.arange(new) + 0.5) * old / new / level_step).astype(int), side - 1)
            for new, old, side in zip(shape, plan.shape, array.shape, strict=True)
        )
        drawn = draw_overlay(seen, np.asarray(array[:])[np.ix_(rows, columns)].astype(np.int64))
    else:
        array, level_step = _level(arrays, step / SAMPLES)
        drawn = _tinted(seen, _coverage(array, level_step, plan.shape, shape))
    PillowImage.fromarray(drawn).save(path, format="PNG", compress_level=3)


def _level(arrays: list[Any], step: float) -> tuple[Any, int]:
    """The smallest copy of the labels whose pixels are no wider than `step`, and how wide they are."""
    level = min(max(0, int(np.floor(np.log2(step)))), len(arrays) - 1)
    return arrays[level], 2**level


def _coverage(array: Any, step: int, whole: Shape, shape: Shape) -> FloatArray:
    """How much of each pixel of a picture is cells, as a copy of the labels tells.

    step: pixels of the slide that one of the copy stands for. whole: the slide's shape. shape: that of the picture.
    """
    rows, columns = (
        np.arange(side) * step * new // old for side, old, new in zip(array.shape, whole, shape, strict=True)
    )
    starts = np.searchsorted(columns, np.arange(shape[1]))
    inside = np.zeros(shape, dtype=np.int64)
    for top in range(0, array.shape[0], STRIP_PX):
        strip = np.asarray(array[top : top + STRIP_PX]) > 0
        np.add.at(inside, rows[top : top + STRIP_PX], np.add.reduceat(strip, starts, axis=1, dtype=np.int64))
    count = np.bincount(rows, minlength=shape[0])[:, None] * np.bincount(columns, minlength=shape[1])
    return (inside / np.maximum(count, 1)).astype(np.float32)


def _tinted(seen: FloatArray, coverage: FloatArray) -> NDArray[np.uint8]:
    """The picture (3, height, width) with cells in a colour that stands out from it: (height, width, 3)."""
    colour = _ON_BRIGHT if seen.mean() > 0.5 else _ON_DARK
    weight = TINT * coverage[..., None]
    blended = seen.transpose(1, 2, 0) * (1 - weight) + colour * weight
    return (blended * 255 + 0.5).astype(np.uint8)
