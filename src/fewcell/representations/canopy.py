"""canopy: hills of what flows to the centres of cells, and unions of hills, may be cells; a scorer decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self, cast, final

import numpy as np
from numpy.typing import NDArray

from fewcell.errors import ConfigError
from fewcell.representations.base import Representation, mean_f1
from fewcell.representations.flow_field import CELL, FLOW, FlowField
from fewcell.representations.vectors import divergence
from fewcell.scoring import Scorer
from fewcell.types import FloatArray, Instances, Labels

if TYPE_CHECKING:
    from fewcell.representations.canopy_tree import Candidates

__all__ = ["Canopy"]

HIDDEN_UNITS = 16
"""Of the scorer of candidates."""

FITTED_PER_IMAGE = 300
"""How many candidates of an image the scorer is fitted to, at most."""

RIGHT_AT = (0.5, 0.6, 0.7, 0.8, 0.9)
"""The IoUs from which on a candidate is right; it is right in part if its IoU reaches some of them."""


FITS = 0.5
"""The IoU with a shape from which on a candidate may be what the shape stands for."""


@final
@dataclass(frozen=True)
class Canopy(FlowField):
    """Flows to the centre of each cell, and the probability of a cell, as Cellpose predicts them, read as a tree.

    Decoding floods a height (the probability of a cell, less where the flow parts, as it does where cells touch) from
    its summits down. Hills that meet form a node, and so on from the highest saddle down: a binary tree in which every
    node is a candidate cell at its full extent, cut to the foreground in a few ways. A scorer says how right each
    candidate is likely to be (the share of RIGHT_AT that its IoU with a true cell reaches), and the disjoint set is
    chosen that is right beyond a level by the greatest sum: if the level is half of the F1 that is reached, that of the
    greatest expected F1. So no threshold has to separate all cells of an image, nor has a step to find its way to a
    centre; each cell is cut where it fits best.

    `refit` fits the scorer. Without it, a cell is a node without a deep valley inside, beside a deep one.

    prominence: of height, in (0, 1); hills that rise less above the saddle to their neighbour are part of it.
    cuts: probabilities in (0, 1), ascending; a candidate is a node, or what of it is above a cut.
    level: how right a candidate has to be for it to pay to take it; tuned for F1 at IoU 0.5, as in every variant.
    valley: with no scorer: a saddle above this share of a hill's summit does not part it from its neighbour.
    widest_px: wider nodes are no candidates, which bounds the reach.
    min_area_px: smaller candidates are dropped.
    scorer: the numbers of a `scoring.Scorer` of a candidate's features, as `Scorer.numbers` gives them.

    Source: ours, but for the flow (Cellpose: Stringer et al., Nature Methods 2021). Ancestor: trees of extremal regions
    with learned scores (Arteta et al., Learning to detect cells using non-overlapping extremal regions, MICCAI 2012).
    The greatest expected F: Ye et al. (ICML 2012).
    """

    prominence: float = 0.02
    cuts: tuple[float, ...] = (0.3, 0.5, 0.7)
    level: float = 0.4
    valley: float = 0.7
    widest_px: int = 448
    min_area_px: int = 6
    scorer: tuple[float, ...] = ()

    tuned: ClassVar[Mapping[str, tuple[float, ...]]] = {
        "level": tuple(i / 40 for i in range(1, 21)),
    }
    decode_bytes: ClassVar[int] = 150
    fits_model: ClassVar[bool] = True
    contract_iou: ClassVar[float] = 0.95

    def __post_init__(self) -> None:
        if not self.cuts or list(self.cuts) != sorted(set(self.cuts)):
            raise ConfigError(f"The cuts must be one or more rising probabilities, got {self.cuts}.")
        if self.scorer:
            Scorer.from_numbers(self.scorer)

    @property
    def reach_px(self) -> int:
        """A chosen node depends on nodes that hold it, up to `widest_px` wide, and on hills beside these as wide."""
        return 2 * self.widest_px + 2  # a pixel beside them, and one more for the parting of the flow there

    def decode(self, prediction: FloatArray) -> Instances:
        """The likeliest disjoint candidates; see the class."""
        candidates = self.candidates(prediction)
        return self._select(candidates, self._how_right(candidates))

    def decode_near(self, prediction: FloatArray, shapes: Labels) -> Instances:
        """The disjoint candidates that fit the shapes best, likely or not: the sum of their IoUs is the greatest."""
        from fewcell.representations.canopy_tree import select, true_ious

        candidates = self.candidates(prediction)
        iou, _ = true_ious(candidates, shapes)
        fits = np.where(self.may_be_cells(candidates) & (iou >= FITS), iou, 0)
        return select(candidates, fits, 0.0, self.min_area_px)

    def tune(
        self, predictions: Sequence[FloatArray], labels: Sequence[Labels], fitted: Sequence[Representation] = ()
    ) -> Self:
        """As for any variant; candidates and their probabilities, which do not depend on the level, are found once."""
        readers = cast(Sequence[Canopy], fitted or [self] * len(predictions))
        grown = [reader.candidates(prediction) for reader, prediction in zip(readers, predictions, strict=True)]
        likely = [reader._how_right(candidates) for reader, candidates in zip(readers, grown, strict=True)]
        levels = (self.level, *self.tuned["level"])
        choices = [replace(self, level=level) for level in levels]
        reached = [mean_f1(map(choice._select, grown, likely), labels) for choice in choices]
        return choices[int(np.argmax(reached))]

    def refit(self, predictions: Sequence[FloatArray], labels: Sequence[Labels]) -> Self:
        """Fit the scorer to candidates of all predictions.

        Of each image at most FITTED_PER_IMAGE candidates, and all of them together weigh as the root of their number.
        """
        from fewcell.representations.canopy_tree import true_ious

        rng = np.random.default_rng(0)
        features, right, weights = [], [], []
        for prediction, truth in zip(predictions, labels, strict=True):
            candidates = self.candidates(prediction)
            iou, known = true_ious(candidates, truth)
            which = np.flatnonzero(known & self.may_be_cells(candidates))
            some = rng.permutation(which)[:FITTED_PER_IMAGE]
            matrix = candidates.matrix()
            features.append(matrix.reshape(-1, matrix.shape[-1])[some])
            right.append(np.mean([iou.ravel()[some] >= least for least in RIGHT_AT], axis=0))
            weights.append(np.full(len(some), np.sqrt(len(which)) / max(len(some), 1)))
        parts = (np.concatenate(part) for part in (features, right, weights))
        return replace(self, scorer=Scorer.fit(*parts, n_units=HIDDEN_UNITS).numbers)

    def candidates(self, prediction: FloatArray, height: FloatArray | None = None) -> Candidates:
        """Every candidate cell of a prediction, with its features. height: what to flood instead of the usual."""
        from fewcell.representations.canopy_tree import grow_candidates

        flooded = self.height(prediction) if height is None else height
        described = self.described_by(prediction)
        return grow_candidates(flooded, described, prediction[FLOW], self.cuts, self.prominence, self.widest_px)

    def described_by(self, prediction: FloatArray) -> dict[str, FloatArray]:
        """What tells something of a candidate, by name: (height, width) each; the first is the foreground."""
        flow = prediction[FLOW]
        return {"cell": prediction[CELL], "parting": divergence(flow), "strength": np.hypot(*flow)}

    def height(self, prediction: FloatArray) -> FloatArray:
        """What is flooded, 0 to 1: the probability of a cell, halved where the flow neither parts nor meets."""
        return prediction[CELL] * (1 - np.clip(divergence(prediction[FLOW]), -1, 1)) / 2

    def may_be_cells(self, candidates: Candidates) -> NDArray[np.bool_]:
        """Which candidates are neither too small nor too wide: (n, c)."""
        return (candidates.area >= self.min_area_px) & (candidates.extent <= self.widest_px)[:, None]

    def _how_right(self, candidates: Candidates) -> FloatArray:
        """How right each candidate is likely to be: (n, c)."""
        if self.scorer:
            scorer, features = Scorer.from_numbers(self.scorer), candidates.matrix()
            if scorer.n_features != features.shape[-1]:
                raise ConfigError(
                    f"The scorer is one of {scorer.n_features} features of a candidate, but there are "
                    f"{features.shape[-1]}. Train the model again."
                )
            return scorer(features)
        inside, beside = candidates.features["valley"], candidates.features["saddle"]
        steep = 20.0
        parted = 1 / (1 + np.exp(steep * (self.valley - inside))) / (1 + np.exp(steep * (beside - self.valley)))
        return parted.astype(np.float32)

    def _select(self, candidates: Candidates, probability: FloatArray) -> Instances:
        from fewcell.representations.canopy_tree import select

        likely = np.where(self.may_be_cells(candidates), probability, 0)
        return select(candidates, likely, self.level, self.min_area_px)
