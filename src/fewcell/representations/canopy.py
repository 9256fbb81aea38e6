"""canopy: how deep a pixel lies in its cell, and where the centre is; hills, and unions of hills, may be cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self, final

import numpy as np
from numpy.typing import NDArray

from fewcell.errors import ConfigError
from fewcell.representations.base import Channel, Representation, mean_f1
from fewcell.representations.vectors import divergence, turn_vectors
from fewcell.scoring import Scorer
from fewcell.types import FloatArray, Instances, Labels

if TYPE_CHECKING:
    from torch import Tensor

    from fewcell.representations.canopy_tree import Candidates

__all__ = ["Canopy"]

TYPICAL_SIZE = 3.5
"""What a raw output of 0 means: a diameter of about 11 px."""

FLOW_SCALE = 5.0
"""A network's raw output is the flow times this, so that flows and logits are of one size."""

HIDDEN_UNITS = 16
"""Of the scorer of candidates."""

FITTED_PER_IMAGE = 300
"""How many candidates of an image the scorer is fitted to, at most."""

FOREGROUND, DEPTH, SIZE = range(3)
FLOW = slice(3, 5)


@final
@dataclass(frozen=True)
class Canopy(Representation):
    """Foreground; depth: the distance to the cell's border, over `range_px`, 1 if further; size; flow to the centre.

    The size is the logarithm (base 2) of the diameter in px of a disc as large as the cell; it says nothing outside of
    cells. A candidate that is larger or smaller than its pixels say is likely not a cell; nor is one whose flow leads
    out of it. The flow is that of `flows`: where cells touch it turns round, which shows even where no gap does.

    Decoding floods the height (foreground times depth, less where the flow parts) from its summits down. Hills that
    meet form a node, and so on from the highest saddle down: a binary tree in which every node is a candidate cell at
    its full extent, cut to the foreground in a few ways. A scorer says how likely each candidate is right (IoU of 0.5
    or more with a true cell), and the disjoint set is chosen that gives the greatest expected F1: the greatest sum of
    P - level. So no threshold has to separate all cells of an image; each cell is cut where it is most likely one.

    `tune` fits the scorer. Without it, a cell is a node without a deep valley inside, beside a deep one.

    prominence: of height, in (0, 1); hills that rise less above the saddle to their neighbour are part of it.
    cuts: probabilities in (0, 1), ascending; a candidate is a node, or what of it is above a cut.
    level: half of the F1 that is reached: from which probability on it pays to take a cell.
    valley: with no scorer: a saddle above this share of a hill's summit does not part it from its neighbour.
    widest_px: wider nodes are no candidates, which bounds the reach.
    min_area_px: smaller candidates are dropped.
    range_px: from where on the depth is 1; up to 15.
    size_weight: weight of the error of the size, in octaves, against the cross entropies.
    scorer: the numbers of a `scoring.Scorer` of a candidate's features, as `Scorer.numbers` gives them.

    Source: ours, but for the flow (Cellpose: Stringer et al., Nature Methods 2021). Ancestor: trees of extremal regions
    with learned scores (Arteta et al., Learning to detect cells using non-overlapping extremal regions, MICCAI 2012).
    The greatest expected F: Ye et al. (ICML 2012).
    """

    prominence: float = 0.03
    cuts: tuple[float, ...] = (0.3, 0.5, 0.7)
    level: float = 0.4
    valley: float = 0.5
    widest_px: int = 448
    min_area_px: int = 6
    range_px: int = 3
    size_weight: float = 0.3
    scorer: tuple[float, ...] = ()

    channels: ClassVar[tuple[Channel, ...]] = (
        Channel("foreground"),
        Channel("depth"),
        Channel("size", 0.0, 9.0),
        Channel("flow_y", -1.0, 1.0),
        Channel("flow_x", -1.0, 1.0),
    )
    # Depth looks `range_px` far; the size of a cell that is cut is that of the part seen.
    margin_px: ClassVar[int] = 16
    tuned: ClassVar[Mapping[str, tuple[float, ...]]] = {
        "prominence": (0.015, 0.04),
        "level": (0.15, 0.2, 0.225, 0.25, 0.275, 0.3, 0.325, 0.35, 0.4, 0.45),
    }
    decode_bytes: ClassVar[int] = 150
    fits_model: ClassVar[bool] = True
    contract_iou: ClassVar[float] = 0.95
    # The heat behind the flow is settled up to a small rest, which depends on the order of the pixels.
    turn_tolerance: ClassVar[float] = 3e-4

    def __post_init__(self) -> None:
        if not self.cuts or list(self.cuts) != sorted(set(self.cuts)):
            raise ConfigError(f"The cuts must be one or more rising probabilities, got {self.cuts}.")
        if self.scorer:
            Scorer.from_numbers(self.scorer)

    @property
    def reach_px(self) -> int:
        """A chosen node depends on nodes that hold it, up to `widest_px` wide, and on hills beside these as wide."""
        return 2 * self.widest_px + 1

    def targets(self, labels: Labels) -> FloatArray:
        """Foreground, depth, size and flow (0 outside of cells). UNKNOWN is not of any cell.

        For the depth, the edge of the field is no border; size and centre of a cell cut by it are those of the part
        inside.
        """
        import fastremap

        from fewcell.representations.cell_fields import heat_flow
        from fewcell.representations.watershed_kernels import border_distance

        cells = fastremap.renumber(np.maximum(labels, 0))[0]
        depth = np.clip((border_distance(cells, self.range_px + 1) - 0.5) / self.range_px, 0, 1)
        size = _log_diameter(np.bincount(cells.ravel()))
        size[0] = 0
        scalars = np.stack([cells > 0, depth, np.minimum(size, self.channels[SIZE].high)[cells]])
        return np.concatenate([scalars.astype(np.float32), heat_flow(labels)])

    def loss(self, output: Tensor, targets: Tensor, known: Tensor) -> Tensor:
        """Of known pixels: cross entropy and one minus the soft Dice of foreground and depth; errors of flow and size.

        That of the flow is half the mean square of 5 times the error, that of the size absolute, in octaves, in cells.
        """
        from torch.nn import functional as F

        output, targets, weight = output.float(), targets.float(), known[:, None].float()
        logits, true = output[:, :2], targets[:, :2]
        cross = F.binary_cross_entropy_with_logits(logits, true, reduction="none").sum(dim=1, keepdim=True)
        p, t = logits.sigmoid() * weight, true * weight
        overlap, both = 2 * (p * t).sum(dim=(0, 2, 3)), (p * p + t * t).sum(dim=(0, 2, 3))
        dice = ((overlap + 1) / (both + 1)).mean()
        in_cells = weight * (targets[:, :1] > 0)
        sizes = output[:, SIZE : SIZE + 1] + TYPICAL_SIZE, targets[:, SIZE : SIZE + 1]
        octaves = F.smooth_l1_loss(*sizes, reduction="none", beta=0.1)
        misfit = (octaves * in_cells).sum() / in_cells.sum().clamp(min=1)
        astray = (output[:, FLOW] - FLOW_SCALE * targets[:, FLOW]).square().mean(dim=1, keepdim=True) / 2
        per_pixel = ((cross + astray) * weight).sum() / weight.sum().clamp(min=1)
        return per_pixel + 1 - dice + self.size_weight * misfit

    def activate(self, output: Tensor) -> Tensor:
        """Foreground and depth as probabilities; size and flow in their units, within their ranges."""
        import torch

        size = (output[:, SIZE : SIZE + 1] + TYPICAL_SIZE).clamp(self.channels[SIZE].low, self.channels[SIZE].high)
        return torch.cat([output[:, :SIZE].sigmoid(), size, (output[:, FLOW] / FLOW_SCALE).clamp(-1, 1)], dim=1)

    def decode(self, prediction: FloatArray) -> Instances:
        """The likeliest disjoint candidates; see the class."""
        candidates = self.candidates(prediction)
        return self._select(candidates, self._probability(candidates))

    def turn(self, prediction: FloatArray, *, quarters: int = 0, flip: bool = False) -> FloatArray:
        """Moves all, and turns the flow as well."""
        moved = super().turn(prediction, quarters=quarters, flip=flip)
        moved[FLOW] = turn_vectors(moved[FLOW], quarters=quarters, flip=flip)
        return moved

    def tune(
        self,
        predictions: Sequence[FloatArray],
        labels: Sequence[Labels],
        learned: Sequence[tuple[FloatArray, Labels]] = (),
    ) -> Self:
        """Fit the scorer to candidates of all predictions, for each prominence; then choose as for any variant.

        Settings are chosen by what scorers say of candidates that they were fitted to, among many others.
        """
        best, best_f1 = self, mean_f1(map(self.decode, predictions), labels)
        for prominence in self.tuned["prominence"] if predictions else ():
            fitted = replace(self, prominence=prominence).refit(predictions, labels, learned)
            held_out = [fitted.candidates(prediction) for prediction in predictions]
            probabilities = [fitted._probability(candidates) for candidates in held_out]
            for level in self.tuned["level"]:
                candidate = replace(fitted, level=level)
                reached = mean_f1(map(candidate._select, held_out, probabilities), labels)
                if reached > best_f1:
                    best, best_f1 = candidate, reached
        return best

    def refit(
        self,
        predictions: Sequence[FloatArray],
        labels: Sequence[Labels],
        learned: Sequence[tuple[FloatArray, Labels]] = (),
    ) -> Self:
        """Fit the scorer to candidates of all predictions.

        Of each image at most FITTED_PER_IMAGE candidates, and all of them together weigh as the root of their number.
        """
        from fewcell.representations.canopy_tree import true_ious

        rng = np.random.default_rng(0)
        features, right, weights = [], [], []
        for prediction, truth in (*zip(predictions, labels, strict=True), *learned):
            candidates = self.candidates(prediction)
            iou, known = true_ious(candidates, truth)
            which = np.flatnonzero(known & self.may_be_cells(candidates))
            some = rng.permutation(which)[:FITTED_PER_IMAGE]
            matrix = candidates.matrix()
            features.append(matrix.reshape(-1, matrix.shape[-1])[some])
            right.append(iou.ravel()[some] >= 0.5)
            weights.append(np.full(len(some), np.sqrt(len(which)) / max(len(some), 1)))
        parts = (np.concatenate(part) for part in (features, right, weights))
        return replace(self, scorer=Scorer.fit(*parts, n_units=HIDDEN_UNITS).numbers)

    def candidates(self, prediction: FloatArray, height: FloatArray | None = None) -> Candidates:
        """Every candidate cell of a prediction, with its features. height: what to flood instead of the usual."""
        from fewcell.representations.canopy_tree import grow_candidates

        foreground, depth, size = prediction[:3]
        flooded = self.height(prediction) if height is None else height
        channels = {"foreground": foreground, "depth": depth, "size": size}
        candidates = grow_candidates(flooded, channels, prediction[FLOW], self.cuts, self.prominence, self.widest_px)
        misfit = _log_diameter(candidates.area) - candidates.features["size"]
        candidates.features["size misfit"] = misfit.astype(np.float32)
        return candidates

    def height(self, prediction: FloatArray) -> FloatArray:
        """What is flooded, 0 to 1: foreground times depth, halved where the flow neither parts nor meets."""
        parting = np.clip(divergence(prediction[FLOW]), -1, 1)
        return prediction[FOREGROUND] * prediction[DEPTH] * (1 - parting) / 2

    def may_be_cells(self, candidates: Candidates) -> NDArray[np.bool_]:
        """Which candidates are neither too small nor too wide: (n, c)."""
        return (candidates.area >= self.min_area_px) & (candidates.extent <= self.widest_px)[:, None]

    def _probability(self, candidates: Candidates) -> FloatArray:
        """How likely each candidate is a cell: (n, c)."""
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


def _log_diameter(area: np.ndarray) -> np.ndarray:
    """The logarithm (base 2) of the diameter of a disc of this area; of areas below 1 that of 1."""
    return np.log2(4 / np.pi * np.maximum(area, 1)) / 2
