"""Images with their labels as crops are cut from them: at their own scale and at halves of it, kept in memory."""

import warnings
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import fastremap
import numpy as np
from numpy.typing import NDArray

from fewcell.data.dataset import Sample, diameter_px, load_sample
from fewcell.data.weak import as_ellipses, read_boxes, usual_side
from fewcell.errors import DataError, FewcellError, FewcellWarning
from fewcell.images.memory import available_bytes
from fewcell.images.normalise import normalise
from fewcell.images.resample import resize_image, resize_labels
from fewcell.types import UNKNOWN, FloatArray, Labels

__all__ = ["CACHE_BYTES", "ImagePyramid", "Pyramids"]

CACHE_BYTES = 3_000_000_000  # at most; and a quarter of the memory that is free, shared by all processes
LEAST_SIDE_PX = 64  # of the smallest half


@dataclass(frozen=True)
class ImagePyramid:
    """An image at its own scale and at halves of it: (height, width, 1 or 3) float16; labels to match.

    diameter_px: of its cells; the canonical one where nothing tells. is_known: whether anything is known of it.
    """

    images: list[NDArray[np.float16]]
    labels: list[NDArray]
    diameter_px: float
    is_known: bool

    @property
    def shape(self) -> tuple[int, int]:
        height, width = self.labels[0].shape
        return height, width

    @property
    def nbytes(self) -> int:
        return sum(a.nbytes for a in (*self.images, *self.labels))


class Pyramids:
    """The pyramids of samples, read when they are asked for; those used last are kept, up to `cache_bytes`.

    canonical_diameter_px: of cells where nothing tells how wide they are. processes: how many share this machine's
    memory, each with pyramids of its own. boxes_tell: of images with boxes and without labels, each box is a cell (an
    ellipse): enough to tell the scale by.
    """

    def __init__(
        self, samples: Sequence[Sample], canonical_diameter_px: float, processes: int = 1, *, boxes_tell: bool = False
    ) -> None:
        self.samples, self.canonical_diameter_px, self.boxes_tell = samples, canonical_diameter_px, boxes_tell
        self.cache_bytes = min(CACHE_BYTES, available_bytes() // 4 // processes)
        self.kept: OrderedDict[int, ImagePyramid] = OrderedDict()
        self.kept_bytes = self.n_known = self.n_with_cells = 0

    def preload(self) -> list[str]:
        """Read every image with labels once and keep what fits into memory, so that forked workers share it.

        Returns what is wrong with samples that cannot be used, each with the name of its file. Counts the others of
        which something is known (`n_known`), and those with cells (`n_with_cells`).
        """
        problems, self.n_known, self.n_with_cells = [], 0, 0
        for index in (i for i, sample in enumerate(self.samples) if sample.labels is not None):
            try:
                item = self.load(index)
            except FewcellError as error:
                problems.append(str(error))
                continue
            self.n_known += item.is_known
            self.n_with_cells += bool(item.labels[0].max(initial=0) > 0)
            if self.kept_bytes + item.nbytes <= self.cache_bytes:
                self._keep(index, item)
        return problems

    def read_if_whole(self, index: int) -> ImagePyramid | None:
        """An image; None, with a warning, for one without labels that cannot be read."""
        try:
            return self.read(index)
        except FewcellError as error:
            if self.samples[index].labels is not None:
                raise
            warnings.warn(f"Not learned from: {error}", FewcellWarning, stacklevel=2)
            return None

    def read(self, index: int) -> ImagePyramid:
        """An image, kept from now on. Raises what `load` raises."""
        if index in self.kept:
            self.kept.move_to_end(index)
            return self.kept[index]
        item = self.load(index)
        self._keep(index, item)
        while self.kept_bytes > self.cache_bytes and len(self.kept) > 1:
            self.kept_bytes -= self.kept.popitem(last=False)[1].nbytes
        return item

    def load(self, index: int) -> ImagePyramid:
        """An image, read from its files. Raises ReadError and DataError for what cannot be used."""
        image, labels = load_sample(self.samples[index])
        if len(image.pixels) > 3:
            raise DataError(
                f"{self.samples[index].image} has {len(image.pixels)} channels; training images need 1 to 3. "
                "Save it again with those that show the cells."
            )
        pixels = normalise(image.pixels)
        pixels = pixels[:1] if len(image.pixels) == 1 else pixels
        side = None
        if labels is None:
            shape, boxes = (pixels.shape[1], pixels.shape[2]), self.samples[index].boxes
            cells = read_boxes(boxes, shape) if boxes and self.boxes_tell else np.zeros((0, 4))
            labels, side = as_ellipses(cells, shape), usual_side(cells)  # ellipses may hide parts of each other
        diameter = self.samples[index].diameter_px or side or diameter_px(labels) or self.canonical_diameter_px
        return ImagePyramid(*_pyramid(pixels, labels), diameter, bool(np.any(labels != UNKNOWN)))

    def _keep(self, index: int, item: ImagePyramid) -> None:
        if index in self.kept:
            return
        self.kept[index] = item
        self.kept_bytes += item.nbytes


def _pyramid(pixels: FloatArray, labels: Labels) -> tuple[list[NDArray[np.float16]], list[NDArray]]:
    """Halve until the shorter side would fall below LEAST_SIDE_PX."""
    if labels.max(initial=0) >= 2**15:  # OpenCV warps labels as float32, which holds no large numbers
        numbers, _ = fastremap.renumber(np.maximum(labels, 0))
        labels = np.where(labels > 0, numbers.astype(np.int32), labels)
    kind = np.int16 if labels.max(initial=0) < 2**15 else np.int32
    images, truths = [], []
    while True:
        images.append(np.ascontiguousarray(pixels.transpose(1, 2, 0)).astype(np.float16))
        # Always from the whole labels: halves of halves would move outlines a little further each time.
        truths.append(resize_labels(labels, (pixels.shape[1], pixels.shape[2])).astype(kind))
        shape = (pixels.shape[1] // 2, pixels.shape[2] // 2)
        if min(shape) < LEAST_SIDE_PX:
            return images, truths
        pixels = resize_image(pixels, shape)
