"""Crops to learn from: drawn from images at canonical scale, turned and scaled together with their labels."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fewcell.config import Augmentation
from fewcell.data.augment import immunostain, vary_intensity
from fewcell.data.collage import collage, photographs
from fewcell.data.dataset import Sample, diameter_px
from fewcell.data.draws import log_uniform, normalised
from fewcell.data.empties import empty_image, out_of_focus
from fewcell.data.fluorescent import fluorescent_cells
from fewcell.data.paste import paste_cells
from fewcell.data.pyramids import ImagePyramid, Pyramids
from fewcell.data.sizes import drawn_cells, left_alone
from fewcell.data.transparent import transparent_cells
from fewcell.data.views import View, draw_view, warp_image, warp_labels
from fewcell.errors import FewcellError
from fewcell.types import UNKNOWN, FloatArray, Labels

__all__ = ["CropSource", "Grid"]

FEWEST_CELL_PX = 0.004  # share of a crop; of fewer, nobody can tell how wide the cells are
FEWEST_WHOLE = 5  # cells
ALONE, DRAWN = 0.12, 0.05  # shares of pictures: cells in an empty field, and drawn cells, besides those of DRAWN_CELLS

# Draws cells in a square: (its side, how wide the median cell is, generator) -> image and labels; both in pixels.
DrawCells = Callable[[int, float, np.random.Generator], tuple[FloatArray, Labels]]


def _collage(side: int, diameter_px: float, rng: np.random.Generator) -> tuple[FloatArray, Labels]:
    return collage(photographs(), side, diameter_px, rng)


# What is drawn instead of an image, by the setting that says how often; and of which the scale is told.
DRAWN_CELLS: dict[str, DrawCells] = {
    "collage": _collage,
    "transparent": transparent_cells,
    "fluorescent": fluorescent_cells,
}
TELL_SCALE = ("transparent", "fluorescent")


@dataclass(frozen=True)
class Grid:
    """The size of crops and of the labels that go with them.

    size_px: side of the image. stride: image pixels per pixel of the labels (the network's stride). margin_px:
    how far the labels reach beyond the image, in their own pixels (the representation's margin).
    canonical_diameter_px: the diameter of a median cell in an average crop.
    """

    size_px: int
    stride: int
    margin_px: int
    canonical_diameter_px: float


class CropSource:
    """Draws crops from samples; keeps images that it has read in memory.

    samples: images with labels; one without labels is UNKNOWN throughout. processes, boxes_tell: see `Pyramids`.

    Workers that are forked (as torch does on Linux) share what was read before. Where they are spawned (macOS,
    Windows), each gets a copy of its own: there, read nothing ahead, or use no workers.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        grid: Grid,
        settings: Augmentation,
        processes: int = 1,
        *,
        boxes_tell: bool = False,
    ) -> None:
        self.samples, self.grid = samples, grid
        self.settings = settings
        if settings.collage > 0:
            photographs()  # before workers are forked, so that they share them
        self._without_interference = settings.model_copy(update={"interference": 0.0})
        self._steady = settings.model_copy(update={"scale_jitter": 1.0, "off_scale": 0.0})
        self.pyramids = Pyramids(samples, grid.canonical_diameter_px, processes, boxes_tell=boxes_tell)
        self._donors: dict[str, list[int]] = defaultdict(list)  # of cells to set into other crops, by modality
        for i, sample in enumerate(samples):
            if sample.labels is not None and not (sample.points or sample.boxes):
                self._donors[sample.modality].append(i)

    def crop(self, index: int, rng: np.random.Generator) -> tuple[FloatArray, Labels]:
        """Draw a crop of a sample: image (3, size, size) float32, labels on the network's grid, with margin.

        labels: (n, n) int32 with n = size / stride + 2 margin. Beyond the image's edge image and labels are mirrored,
        as the tiles are that the network will see: a mirrored cell has a number of its own, and is UNKNOWN if the
        edge cuts it.
        """
        image, _, labels = self.crop_twice(index, rng)
        return image, labels

    def crop_twice(self, index: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray, Labels]:
        """As `crop`; in between the image as it was before its intensities were varied.

        Of an image without labels that cannot be read a black crop is drawn, of which nothing is known, with a warning.
        """
        settings = self.settings
        if rng.random() < settings.empty:
            image = empty_image((self.grid.size_px, self.grid.size_px), rng)
            return _channels_first(image), _channels_first(image), self._no_labels()
        blurred = settings.defocus > 0 and rng.random() < settings.defocus  # no draw where there are none
        afar = not blurred and settings.from_afar > 0 and rng.random() < settings.from_afar
        kind = None if blurred or afar else self._kind_drawn(DRAWN_CELLS, rng)
        if kind is not None:  # without the image
            plain, labels = self._drawn(DRAWN_CELLS[kind], rng)
            settings = self._without_interference if kind == "transparent" else settings
        elif (item := self.pyramids.read_if_whole(index)) is None:
            black = np.zeros((3, self.grid.size_px, self.grid.size_px), dtype=np.float32)
            return black, black, np.full_like(self._no_labels(), UNKNOWN)
        elif blurred:
            plain, labels = self._out_of_focus(item, rng), self._no_labels()
        elif afar:
            plain, labels = self._from_afar(item, rng)
        else:
            step = item.diameter_px / self.grid.canonical_diameter_px
            view = draw_view(item.shape, self.grid.size_px, step, settings, rng)
            plain, level = self._image(item, view)
            if self.samples[index].modality == "histology" and rng.random() < settings.immunostain:
                nuclei = warp_labels(item.labels[level], view.matrix, 2**level, self.grid.size_px)
                plain = immunostain(plain, nuclei, rng)
            labels = warp_labels(item.labels[level], self._on_grid(view), 2**level, self._labels_px)
            if settings.paste > 0 and rng.random() < settings.paste:
                plain, labels = self._paste(plain, labels, index, rng)
        image = np.clip(vary_intensity(plain.copy(), settings, rng), -0.5, 4.0, dtype=np.float32)
        return _channels_first(image), _channels_first(plain), labels

    def picture(
        self,
        index: int,
        rng: np.random.Generator,
        scales_of: Callable[[tuple[int, int]], tuple[float, float]] | None = None,
    ) -> tuple[FloatArray, float]:
        """Draw a crop to tell the scale by: image (3, size, size) float32, and how wide its cells are, in its pixels.

        0 where there are no cells; NaN where it is not known whether there are any. scales_of: by how much an image of
        this shape is enlarged at least and at most; by default so that its cells are of any width. Images without
        labels that cannot be read are black, and nothing is known of them, as in `crop_twice`.
        """
        size, settings = self.grid.size_px, self.settings
        chance = rng.random()
        if chance < settings.empty:
            plain, diameter = empty_image((size, size), rng), 0.0
        elif chance < settings.empty + DRAWN:
            plain, diameter = drawn_cells(size, self._any_width_px(rng), rng)
        elif (kind := self._kind_drawn(TELL_SCALE, rng)) is not None:
            width_px = self._any_width_px(rng)
            drawn, labels = DRAWN_CELLS[kind](size, width_px, rng)
            seen_px = np.clip(_whole_px(labels) or width_px, 0.75 * width_px, width_px)  # some are hidden in part
            plain, diameter = normalised(drawn), _width_px(labels, float(seen_px))
            settings = self._without_interference if kind == "transparent" else settings
        else:
            item = self.pyramids.read_if_whole(index)
            if item is None:
                return np.zeros((3, size, size), dtype=np.float32), float("nan")
            step = item.diameter_px / self.grid.canonical_diameter_px
            shape, jitter = item.shape, settings
            if scales_of is not None:
                smallest, largest = scales_of(shape)
                step, jitter = 1 / (smallest * (largest / smallest) ** rng.uniform()), self._steady
            view = draw_view(shape, size, step, jitter, rng)
            plain, level = self._image(item, view)
            diameter = item.diameter_px / view.step_px
            if chance < settings.empty + DRAWN + settings.defocus and item.is_known:
                plain, diameter = out_of_focus(plain, diameter, rng), 0.0
            else:
                labels = warp_labels(item.labels[level], view.matrix, 2**level, size)
                if self.samples[index].modality == "histology" and rng.random() < settings.immunostain:
                    plain = immunostain(plain, labels, rng)
                if rng.random() < ALONE:
                    plain, labels = left_alone(plain, labels, diameter, rng)
                diameter = _width_px(labels, diameter)
        image = np.clip(vary_intensity(plain.copy(), settings, rng), -0.5, 4.0, dtype=np.float32)
        return _channels_first(image), diameter

    def _image(self, item: ImagePyramid, view: View) -> tuple[FloatArray, int]:
        """What a view shows, (size, size, 3), and which level of the cached image it was taken from."""
        level = int(np.clip(np.floor(np.log2(max(view.step_px, 1)) + 0.5), 0, len(item.images) - 1))
        image = warp_image(item.images[level], view.matrix, 2**level, self.grid.size_px)
        return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2), level

    def _out_of_focus(self, item: ImagePyramid, rng: np.random.Generator) -> FloatArray:
        """A crop far out of focus, of cells so small that what is left of them may be as wide as a usual cell."""
        cell_px = self.grid.canonical_diameter_px * float(log_uniform(0.25, 1, rng))
        view = draw_view(item.shape, self.grid.size_px, item.diameter_px / cell_px, self.settings, rng)
        return out_of_focus(self._image(item, view)[0], item.diameter_px / view.step_px, rng)

    def _from_afar(self, item: ImagePyramid, rng: np.random.Generator) -> tuple[FloatArray, Labels]:
        """A crop in which cells are at most a quarter as wide as usual, and count as background."""
        cell_px = self.grid.canonical_diameter_px * float(log_uniform(1 / 8, 1 / 4, rng))
        step = item.diameter_px / cell_px
        view = draw_view(item.shape, self.grid.size_px, step, self._steady, rng)
        plain, level = self._image(item, view)
        labels = warp_labels(item.labels[level], self._on_grid(view), 2**level, self._labels_px)
        return plain, np.where(labels == UNKNOWN, UNKNOWN, 0).astype(np.int32)

    def _kind_drawn(self, kinds: Iterable[str], rng: np.random.Generator) -> str | None:
        """Of which kind drawn cells are, if they are to be drawn."""
        for kind in kinds:
            share = getattr(self.settings, kind)
            if share > 0 and rng.random() < share:  # no draw where there are none
                return kind
        return None

    def _any_width_px(self, rng: np.random.Generator) -> float:
        """How wide drawn cells are in a picture to tell the scale by."""
        return self.grid.canonical_diameter_px * self.settings.scale_jitter ** rng.uniform(-0.4, 1)

    def _drawn(self, draw: DrawCells, rng: np.random.Generator) -> tuple[FloatArray, Labels]:
        """A crop of drawn cells, which differ in width from crop to crop as those of images do."""
        grid, beyond = self.grid, self.grid.margin_px * self.grid.stride
        width_px = grid.canonical_diameter_px * self.settings.scale_jitter ** rng.uniform(-1, 1)
        drawn, labels = draw(grid.size_px + 2 * beyond, width_px, rng)
        inner = slice(beyond, beyond + grid.size_px)
        # The middle of a pixel of the labels lies between two of an even stride.
        at = slice((grid.stride - int(rng.integers(2))) // 2, None, grid.stride)
        return normalised(drawn[inner, inner]), labels[at, at]

    def _paste(
        self, plain: FloatArray, labels: Labels, index: int, rng: np.random.Generator
    ) -> tuple[FloatArray, Labels]:
        """A crop with cells of another image of its modality; as it is where there is none that can be read.

        What a point or a box stands for may be a part of a cell: such images give none.
        """
        others = [i for i in self._donors[self.samples[index].modality] if i != index]
        if not others:
            return plain, labels
        try:
            donor = self.pyramids.read(others[int(rng.integers(len(others)))])
        except FewcellError:  # it is said when its own crop is drawn
            return plain, labels
        step = donor.diameter_px / self.grid.canonical_diameter_px
        view = draw_view(donor.shape, self.grid.size_px, step, self.settings, rng)
        image, level = self._image(donor, view)
        whole = donor.labels[level]
        cells = warp_labels(whole, self._on_grid(view), 2**level, self._labels_px)
        cut = np.concatenate([whole[0], whole[-1], whole[:, 0], whole[:, -1]])
        cells[np.isin(cells, cut[cut > 0])] = UNKNOWN  # the image ends within these
        return paste_cells(plain, labels, image, cells, self.grid.margin_px, rng)

    def _no_labels(self) -> Labels:
        return np.zeros((self._labels_px, self._labels_px), dtype=np.int32)

    @property
    def _labels_px(self) -> int:
        return self.grid.size_px // self.grid.stride + 2 * self.grid.margin_px

    def _on_grid(self, view: View) -> NDArray[np.float64]:
        """The view's matrix for pixels of the labels: of the network's grid, counted from the margin's corner."""
        stride, margin = self.grid.stride, self.grid.margin_px
        first = (0.5 - margin) * stride - 0.5
        return view.matrix @ np.array([[stride, 0, first], [0, stride, first], [0, 0, 1]])


def _width_px(labels: Labels, known_px: float) -> float:
    """How wide the cells of a crop are: as is known, 0 without any, NaN where too little is seen of them."""
    if np.mean(labels > 0) < FEWEST_CELL_PX:
        return float("nan") if np.any(labels) else 0.0
    return known_px


def _whole_px(labels: Labels) -> float | None:
    """How wide those cells of a crop are that its edge does not cut; None if they are too few."""
    edge = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    whole = np.where(np.isin(labels, edge[edge > 0]), 0, labels)
    return diameter_px(whole) if len(np.unique(whole[whole > 0])) >= FEWEST_WHOLE else None


def _channels_first(image: FloatArray) -> FloatArray:
    return np.ascontiguousarray(image.transpose(2, 0, 1))
