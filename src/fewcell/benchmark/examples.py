"""Microscopy images that come with scikit-image: what a report can show of a method wherever it is read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fewcell.images import write_labels
from fewcell.segmenter import Segmenter
from fewcell.types import FloatArray

__all__ = ["EXAMPLES", "Example", "examples_file", "segment_examples"]


@dataclass(frozen=True)
class Example:
    """An image of skimage.data by its name there, how wide its cells are about, and the part of it that is shown."""

    name: str
    loader: str
    diameter_px: float
    window: tuple[slice, slice]

    def pixels(self) -> FloatArray:
        """The image as (channel, height, width) float32. Nobody has drawn its cells."""
        from skimage import data

        pixels = np.asarray(getattr(data, self.loader)(), dtype=np.float32)
        return np.moveaxis(pixels, -1, 0) if pixels.ndim == 3 else pixels[None]


EXAMPLES: Sequence[Example] = (
    Example("ihc", "immunohistochemistry", 14.0, np.s_[40:240, 190:390]),
    Example("cell", "cell", 110.0, np.s_[225:525, 250:550]),
)


def examples_file(folder: Path, example: Example) -> Path:
    """Where the labels of an example lie in the folder of a run's scores."""
    return folder / "examples" / f"{example.name}_label.tiff"


def segment_examples(segmenter: Segmenter, folder: Path, given: Callable[[float], float | None]) -> None:
    """Write what a model finds in each example. given: true diameter -> the one that the model is given."""
    for example in EXAMPLES:
        found = segmenter.segment(example.pixels(), diameter_px=given(example.diameter_px))
        write_labels(examples_file(folder, example), found.labels, overwrite=True)
