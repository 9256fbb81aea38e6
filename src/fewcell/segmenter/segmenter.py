"""The segmenter: normalise, scale, run the network, decode, score; from an image to its cells."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from fewcell.engine import Engine, OpenVinoEngine, Precision, TorchEngine, check_device, choose_precision
from fewcell.errors import AxesError, ConfigError, ModelError
from fewcell.images import Image, Pyramid, normalise, resize_labels
from fewcell.representations import Representation, make_representation
from fewcell.scoring import Scorer, instance_features, n_features
from fewcell.segmenter.blank import is_blank, is_noise
from fewcell.segmenter.measure import FARTHEST, LARGEST_FACTOR, Find, look, search_diameter
from fewcell.segmenter.merge import merge_scales
from fewcell.segmenter.model_folder import (
    INT8_FILE,
    NETWORK_FILE,
    SCALE_FILE,
    WEIGHTS_FILE,
    ModelFacts,
    find_model,
    network_of,
    read_model,
    write_model,
)
from fewcell.segmenter.predict import check_memory, is_large, predict_at_scale, rounded_factor
from fewcell.segmenter.scale import Estimate, combine, windows_of
from fewcell.segmenter.turned import TurnedEngine
from fewcell.types import FloatArray, Instances, Labels, Shape, Window

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Segmentation", "Segmenter", "scale_facts"]

# Unless the user says how wide they are, there are no cells where they are less likely, or no wider than specks.
MIN_PRESENCE, SPECK_PX = 0.5, 4.0
COARSER = 4  # an image of unknown scale is also searched for cells so many times as wide: a sixteenth of the work
COARSER_STEPS = 4  # about as wide: an eighth more or less
SMALLEST_COARSE_PX = 48  # an image that would then be smaller shows no such cells

DiameterSource = Literal["given", "estimated", "not known"]


def scale_facts(diameter_px: float, source: DiameterSource, larger_px: float | None) -> dict[str, Any]:
    """How an image was scaled, as labels say it of themselves: diameters in pixels to two digits, None if not known."""
    return {
        "diameter_px": None if source == "not known" else round(float(diameter_px), 2),
        "diameter_source": source,
        "larger_px": larger_px and round(float(larger_px), 2),
    }


@dataclass(frozen=True)
class Segmentation:
    """The cells of one image, and the scale at which they were sought.

    instances: on the image's own grid. diameter_px: the cell diameter, in pixels of the image, that was brought to the
    model's canonical diameter. diameter_source: where it came from; "not known" if nothing looks like a cell.
    larger_px: the diameter of larger cells that were sought besides, if any were.
    """

    instances: Instances
    diameter_px: float
    diameter_source: DiameterSource
    larger_px: float | None = None

    @property
    def labels(self) -> Labels:
        return self.instances.labels

    @property
    def scores(self) -> FloatArray:
        return self.instances.scores


class Segmenter:
    """Finds the cells in images with one model.

    Make one by `Segmenter.load()`; it is costly to make and cheap to use again.
    """

    def __init__(
        self,
        engine: Engine,
        representation: Representation,
        scorer: Scorer,
        facts: ModelFacts,
        folder: Path,
        threads: int | None = None,
        precision: Precision = "f32",
    ) -> None:
        """folder: of the model, in which the network that tells the scale is. threads, precision: see `load`."""
        self.engine = engine
        self.representation = representation
        self.scorer = scorer
        self.facts = facts
        self.network = facts.network  # as the engine wants to be used
        self.folder = folder
        self.threads = threads
        self.precision: Precision = precision
        self._seeing_large, self._reading_large = Lock(), Lock()

    @classmethod
    def load(
        cls,
        model: str | Path = "default",
        *,
        threads: int | None = None,
        device: str = "cpu",
        precision: str = "auto",
        accurate: bool = False,
    ) -> Self:
        """Load a model folder, or one of the models inside the package by its name.

        threads: CPU threads, by default one per core. device: 'cpu', or 'cuda' (needs torch). precision: in which a CPU
        runs the network, see `choose_precision`. accurate: see an image in several ways: 11 to 12 times as long.

        Raises ModelError for a folder that is missing, damaged or made by a newer fewcell, DeviceError if there is
        no such device; and as `choose_precision`.
        """
        check_device(device)
        folder = find_model(model)
        facts = read_model(folder)
        try:
            representation = make_representation(facts.representation.name, facts.representation.settings)
        except ConfigError as error:
            raise ModelError(f"{folder} is of a kind that this fewcell does not know: {error}") from None
        chosen: Precision = "f32"
        if device != "cpu" and precision != "auto":
            raise ConfigError(f"A precision ({precision}) is chosen for CPUs only, not for {device}. Leave it out.")
        if device == "cpu":
            chosen = choose_precision(precision, has_int8=INT8_FILE in facts.sha256)
            network, rest = (INT8_FILE, "auto") if chosen == "int8" else (NETWORK_FILE, chosen)
            with ThreadPoolExecutor(1) as thread:
                compiling = thread.submit(OpenVinoEngine, folder / network, threads=threads, precision=rest)
                # What decodes is loaded meanwhile: both take a third of a second.
                representation.decode(np.zeros((len(representation.channels), 8, 8), dtype=np.float32))
                engine: Engine = compiling.result()
        else:
            engine = TorchEngine(_torch_module(folder, representation), device)
        scorer = Scorer(**facts.scorer.model_dump())
        channels = len(representation.channels)
        if scorer.n_features != n_features(channels):
            raise ModelError(
                f"The scorer in {folder} has {scorer.n_features} features, but {channels} channels give "
                f"{n_features(channels)}. Train the model again."
            )
        segmenter = cls(engine, representation, scorer, facts, folder, threads, chosen)
        return segmenter.more_accurate() if accurate else segmenter

    def more_accurate(self) -> Self:
        """The same segmenter, but that its network sees every image in several ways; see `TurnedEngine`."""
        other, turned = copy(self), TurnedEngine(self.engine, self.representation, self.facts.network)
        other.engine = turned
        other.network = self.facts.network.model_copy(update={"multiple_px": turned.multiple_px})
        return other

    @property
    def is_accurate(self) -> bool:
        """Whether the network sees images in several ways."""
        return isinstance(self.engine, TurnedEngine)

    def save(self, folder: str | Path) -> None:
        """Write the model to a folder, whole or not at all; one of the same name is replaced."""
        files = (self.folder / name for name in (NETWORK_FILE, SCALE_FILE, WEIGHTS_FILE))
        int8 = self.folder / INT8_FILE if INT8_FILE in self.facts.sha256 else None
        write_model(Path(folder), self.facts, *files, int8=int8)

    def segment(
        self,
        image: Image | FloatArray,
        *,
        diameter_px: float | None = None,
        min_score: float | None = None,
        min_area_px: float = 0,
    ) -> Segmentation:
        """Find every cell of an image.

        image: as read by `read_image`, or an array (height, width) or (channel, height, width) with 1 to 3 channels and
        values of any range.
        diameter_px: about how wide the cells are, in pixels of the image. If it is not given it is estimated, and much
        larger cells are sought as well; where they overlap with others, the surer ones stay. min_score: cells
        less likely to be right are dropped; by default the model's own threshold. min_area_px: smaller cells are
        dropped.

        A blank image has no cells, nor has one in which nothing looks like a cell. Raises AxesError for an array of
        another shape, ConfigError for a diameter that is not positive.
        """
        pixels = normalise(image.pixels if isinstance(image, Image) else _as_channels(np.asarray(image)))
        if diameter_px is not None and not (np.isfinite(diameter_px) and diameter_px > 0):
            raise ConfigError(f"The diameter must be a positive number of pixels, got {diameter_px}.")
        shape = (pixels.shape[1], pixels.shape[2])
        pyramid, given_px = Pyramid(pixels), diameter_px
        if given_px is None:
            diameter_px = self.likely_diameter(pyramid)
        if diameter_px is None or is_blank(pyramid):
            return self._nothing(shape, given_px)
        factor, *coarser = self.factors(shape, diameter_px, is_given=given_px is not None)
        self.check_memory(shape, factor)
        level, min_area = self.facts.min_score, max(1, min_area_px)
        min_score = level if min_score is None else min_score
        found = self._segment_at(pyramid, factor, min(level, min_score))
        surest = found.scores.max(initial=0)
        for coarse in coarser:
            large = self._segment_at(pyramid, coarse, level)
            surest = max(surest, large.scores.max(initial=0))
            grid = min(found.labels.shape, shape)  # fewer pixels: merging costs less there
            grid_area = min_area * np.prod(grid) / np.prod(shape)
            found = merge_scales(*(_on_grid(one, grid, grid_area) for one in (found, large)), level)
        if given_px is None and surest < self.facts.min_surest:
            return self._nothing(shape, given_px)
        found = _on_grid(found.of_score(min_score), shape, min_area)
        used_px, *larger_px = (self.facts.canonical_diameter_px / its for its in (factor, *coarser))
        return Segmentation(found, used_px, "given" if given_px else "estimated", max(larger_px, default=None))

    def factors(self, shape: Shape, diameter_px: float, *, is_given: bool) -> list[float]:
        """By how much an image is enlarged to find its cells: once, and where nobody said how wide they are, once more.

        Then much larger cells are sought as well, at a smaller scale, unless the image is too small to show them; and
        both factors are rounded, so that the network, which is compiled for every new shape, meets few.
        """
        factor = min(self.facts.canonical_diameter_px / diameter_px, LARGEST_FACTOR)
        if is_given:
            return [factor]
        factor = rounded_factor(shape, factor, self.network)
        if min(shape) * factor < COARSER * SMALLEST_COARSE_PX:
            return [factor]
        return [factor, rounded_factor(shape, factor / COARSER, self.network, COARSER_STEPS)]

    def likely_diameter(self, image: Pyramid, *, search: bool = True) -> float | None:
        """How wide the median cell of a normalised image is, in its pixels; None where nothing looks like a cell.

        search: see `estimate_scale`.
        """
        if is_blank(image) or is_noise(image.overview()):
            return None
        estimate = self.estimate_scale(image, search=search)
        is_likely = estimate.presence >= MIN_PRESENCE and estimate.diameter_px >= SPECK_PX
        return estimate.diameter_px if is_likely else None

    def estimate_scale(self, image: Pyramid, *, search: bool = True) -> Estimate:
        """Estimate how wide the median cell of a normalised image is, and how likely it is that there are cells.

        A small network that has seen cells of all sizes says roughly how wide they are, and what is found there is
        measured. search: further, for smaller cells that make up larger ones and for those that are less likely, see
        `search_diameter`; a network that has learned little finds such in any texture. Without, what is measured
        counts for a factor of FARTHEST at most.
        """
        seen = [*windows_of(image)]
        logits = np.stack([self._scale_engine(one.pixels) for one in seen])
        said = combine([one.scale for one in seen], logits)
        if said.presence < MIN_PRESENCE:
            return said
        if search:
            likely = (said.diameter_px, *said.others, self.facts.canonical_diameter_px)
            found = search_diameter(image, likely, self._finder(image), self.facts.canonical_diameter_px)
        else:
            found = self.measure_diameter(image, said.diameter_px)
            most, least = said.diameter_px * FARTHEST, said.diameter_px / FARTHEST
            found = None if found is None else float(np.clip(found, least, most))
        return replace(said, diameter_px=said.diameter_px if found is None else found / self.facts.diameter_bias)

    def measure_diameter(self, image: Pyramid, diameter_px: float) -> float | None:
        """How wide the median cell is that is found in a part of a normalised image; None if too few are found to tell.

        diameter_px: as which the cells are brought to the canonical scale.
        """
        return look(image, diameter_px, self._finder(image), self.facts.canonical_diameter_px).measured_px

    def _nothing(self, shape: tuple[int, int], given_px: float | None) -> Segmentation:
        diameter_px = given_px or self.facts.canonical_diameter_px
        return Segmentation(Instances.none(shape), diameter_px, "given" if given_px else "not known")

    def _finder(self, image: Pyramid) -> Find:
        return lambda window, factor: self._segment_at(image, factor, self.facts.min_score, window)

    @cached_property
    def _scale_engine(self) -> Engine:
        return OpenVinoEngine(self.folder / SCALE_FILE, threads=self.threads)

    def _segment_at(self, image: Pyramid, factor: float, min_score: float, window: Window | None = None) -> Instances:
        """Find cells in a normalised image, or a window of it, enlarged by `factor`; labels on the network's grid."""
        packed = self.predict(image, factor, window)
        # Of those that take much memory one is seen and one is read at a time; what is between takes little.
        with self._reading_large if is_large(window or image.whole, factor) else nullcontext():
            return self.decode_packed(packed, min_score)

    def predict(self, image: Pyramid, factor: float, window: Window | None = None) -> NDArray[np.uint8]:
        """What the network says of a normalised image, or a window of it, enlarged by `factor`, kept in bytes.

        `decode_packed` finds the cells in it.
        """
        with self._seeing_large if is_large(window or image.whole, factor) else nullcontext():
            return self.representation.to_bytes(predict_at_scale(image, factor, self.engine, self.network, window))

    def check_memory(self, shape: Shape, factor: float) -> None:
        """Raise TooLargeError if an image of this shape, enlarged by `factor`, would take more memory than is free."""
        check_memory(factor, shape, self.network, self.representation.decode_bytes)

    def decode_packed(self, packed: NDArray[np.uint8], min_score: float) -> Instances:
        """Find the cells in a prediction that is kept in bytes, as it is on slides; labels on the network's grid."""
        prediction = self.representation.from_bytes(packed)
        found = self.representation.decode(prediction)
        scores = self.scorer(instance_features(found, prediction))
        return Instances(found.labels, scores).of_score(min_score)


def _on_grid(found: Instances, shape: tuple[int, int], min_area: float) -> Instances:
    """Instances on another grid of the same field, those that are large enough there."""
    resized = Instances(resize_labels(found.labels, shape), found.scores)
    if min_area <= 1 and all(new >= 2 * old for new, old in zip(shape, found.labels.shape, strict=True)):
        return resized  # each pixel has the most votes for one that is nearest to it: no instance has vanished
    return resized.of_area(min_area)


def _as_channels(array: np.ndarray) -> np.ndarray:
    array = array[np.newaxis] if array.ndim == 2 else array
    if array.ndim != 3 or not 1 <= len(array) <= 3:
        raise AxesError(
            f"An array of shape {array.shape} is no image (1 to 3 channels, height, width). If the channels come last, "
            "move them: numpy.moveaxis(array, -1, 0)."
        )
    return array


def _torch_module(folder: Path, representation: Representation) -> "nn.Module":
    from fewcell.networks import Predictor

    return Predictor(network_of(folder, len(representation.channels)), representation.activate)
