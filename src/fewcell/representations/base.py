"""The contract of a representation: what lies between labels and a network's output, in both directions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from fewcell.metrics import f1, match
from fewcell.types import FloatArray, Instances, Labels, Turn

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Channel", "Representation", "collect_instances", "mean_f1"]

BYTE_STEPS = np.float32(254)


@dataclass(frozen=True)
class Channel:
    """One channel of a prediction: its name, and the range of its values (so 8 bits can hold it)."""

    name: str
    low: float = 0.0
    high: float = 1.0


@dataclass(frozen=True)
class Representation(ABC):
    """A way to write cells as channels that a network can learn, and to read cells from such channels.

    Subclasses are final, frozen dataclasses; their fields are their settings. Everything lives on the network's
    grid: "px" below are pixels of that grid.

    channels: what a prediction consists of.
    margin_px: `targets` are true only this far from the edge of the labels given; crop wider by as much.
    reach_px: an instance depends only on predictions this far from it, along each axis; None where there is no bound.
    tuned: the settings that `tune` varies, each with the values that it tries; 20 combinations in all, so that every
    variant is tuned with the same effort. They are no part of what `refit` fits.
    decode_bytes: memory per pixel that a prediction and its decoding take at their peak, where cells are dense.
    needs_outlines: whether targets tell how far cells reach: of a cell whose outline is not known, as the seed that a
    point leaves, nothing is learned then.
    fits_model: whether settings hold a model that `refit` fits.
    contract_iou: the mean IoU at which `decode(targets(labels))` gives the labels back, on each contract scene.
    contract_bounds: scenes that the variant cannot reproduce so well: the IoU that it reaches, and why no more.
    turn_tolerance: by how much, on average over pixels, turned targets may differ from targets of turned labels.
    """

    channels: ClassVar[tuple[Channel, ...]]
    margin_px: ClassVar[int]
    tuned: ClassVar[Mapping[str, tuple[float, ...]]]
    decode_bytes: ClassVar[int] = 80
    needs_outlines: ClassVar[bool] = False
    fits_model: ClassVar[bool] = False
    contract_iou: ClassVar[float] = 0.9
    contract_bounds: ClassVar[Mapping[str, tuple[float, str]]] = {}
    turn_tolerance: ClassVar[float] = 0.0

    @property
    @abstractmethod
    def reach_px(self) -> int | None:
        """How far from an instance the predictions lie on which it depends."""

    @abstractmethod
    def targets(self, labels: Labels) -> FloatArray:
        """Turn labels (height, width) into targets (channel, height, width), float32.

        Pixels that are UNKNOWN get any value: `loss` never looks at them.
        """

    @abstractmethod
    def loss(self, output: Tensor, targets: Tensor, known: Tensor) -> Tensor:
        """How wrong a network's raw output is: a scalar, and no gradient where `known` is False.

        output, targets: (batch, channel, height, width). known: (batch, height, width) bool. If nothing is known
        the loss is 0.
        """

    @abstractmethod
    def activate(self, output: Tensor) -> Tensor:
        """Turn raw output (batch, channel, height, width) into a prediction, in the ranges of `channels`."""

    @abstractmethod
    def foreground(self, prediction: FloatArray) -> FloatArray:
        """What a prediction (channel, height, width) says of each pixel: (height, width), 0 where no cell is, to 1.

        Some variants let it fall towards the outline of a cell.
        """

    @abstractmethod
    def decode(self, prediction: FloatArray) -> Instances:
        """Read the cells from a prediction (channel, height, width).

        Scores are a first guess (see the variant); the segmenter replaces them by those of its scorer.
        """

    def decode_near(self, prediction: FloatArray, shapes: Labels) -> Instances:
        """Read cells of which it is known about where they are; by default just as `decode` does.

        shapes: (height, width), each number about one cell.
        """
        return self.decode(prediction)

    def to_bytes(self, prediction: FloatArray) -> NDArray[np.uint8]:
        """A prediction in a quarter of its memory: each channel's range in 254 steps, so that its middle is kept."""
        low, span = self._ranges()
        steps = prediction - low
        steps *= BYTE_STEPS / span
        return np.rint(np.clip(steps, 0, BYTE_STEPS, out=steps), out=steps).astype(np.uint8)

    def from_bytes(self, packed: NDArray[np.uint8]) -> FloatArray:
        """The prediction that `to_bytes` packed, but for half a step at most."""
        low, span = self._ranges()
        step = (span / BYTE_STEPS).astype(np.float32)
        prediction = packed * step
        prediction += low
        return prediction

    def _ranges(self) -> tuple[FloatArray, FloatArray]:
        low, high = np.array([(channel.low, channel.high) for channel in self.channels], dtype=np.float32).T
        return low[:, None, None], (high - low)[:, None, None]

    def tune(
        self, predictions: Sequence[FloatArray], labels: Sequence[Labels], fitted: Sequence[Representation] = ()
    ) -> Self:
        """A copy whose settings give the highest mean F1 at IoU 0.5 on held-out predictions and labels.

        Tries the settings as they are, then every combination of `tuned`; each image counts the same. fitted: for
        each prediction the variant that reads it, one whose model was fitted without it; by default this one reads all.
        """
        combinations = [dict(zip(self.tuned, values, strict=True)) for values in product(*self.tuned.values())]
        now = {name: getattr(self, name) for name in self.tuned}
        best, best_f1 = now, -1.0
        for settings in [now, *combinations]:
            readers = [replace(reader, **settings) for reader in fitted or [self] * len(predictions)]
            found = (reader.decode(prediction) for reader, prediction in zip(readers, predictions, strict=True))
            reached = mean_f1(found, labels)
            if reached > best_f1:
                best, best_f1 = settings, reached
        return replace(self, **best)

    def refit(self, predictions: Sequence[FloatArray], labels: Sequence[Labels]) -> Self:
        """A copy whose model, if it has one (`fits_model`), is fitted to all these; other settings stay."""
        return self

    def turn(self, prediction: FloatArray, *, quarters: int = 0, flip: bool = False) -> FloatArray:
        """Flip (left to right), then turn by quarters of a circle, a prediction (channel, height, width).

        Scalars just move; a variant with vectors overrides this to turn them as well.
        """
        return Turn(quarters, flip).of(prediction)


def mean_f1(found: Iterable[Instances], labels: Sequence[Labels]) -> float:
    """The mean F1 at IoU 0.5 of the cells found in images, each of which counts the same; 0 without any image."""
    f1s = [f1(match(true, cells.labels)) for cells, true in zip(found, labels, strict=True)]
    return sum(f1s) / max(len(f1s), 1)


def collect_instances(labels: Labels, probability: FloatArray, min_area_px: float) -> Instances:
    """Number labels anew without gaps, drop the smallest; the score is the mean probability inside.

    labels: (height, width) int32, 0 background, any positive numbers. probability: (height, width), 0 to 1.
    min_area_px: instances with fewer pixels are dropped.
    """
    import fastremap

    labels = fastremap.renumber(labels)[0].astype(np.int32)
    area = np.bincount(labels.ravel(), minlength=1)[1:]
    total = np.bincount(labels.ravel(), weights=probability.ravel(), minlength=1)[1:]
    found = Instances(labels, np.clip(total / area, 0, 1).astype(np.float32))
    return found.only(area >= min_area_px)
