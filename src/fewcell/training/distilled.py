"""distilled: learn from labels, and to predict what a finished model predicts of an image seen from all sides."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from fewcell.config import Part, Recipe
from fewcell.errors import ConfigError
from fewcell.networks import Network
from fewcell.representations import REPRESENTATIONS, Representation, make_representation
from fewcell.segmenter import find_model, network_of, read_model
from fewcell.training.objective import Batch, Objective, distance_to

__all__ = ["Distilled"]

# A cell so large that settings which bound depths and distances show in its targets.
CELL = (np.hypot(*(np.indices((96, 96)) - 47.5)) < 44).astype(np.int32)


@final
class Distilled(Objective):
    """The representation's loss on labelled pixels, and the distance to a finished model's prediction on all.

    The model sees each crop as it is, flipped and turned in one of eight ways that is drawn anew each time; what it
    says is turned back. On average over steps that is what it says of all eight, which is better than what it says of
    one. The network sees the same crop with varied intensities. The model may be larger, or one of several. It also
    tells how wide the cells of images without labels are; those in which it sees none are left out.

    model: a model folder, or the name of one inside the package, of the same representation, stride and canonical
    diameter. pool_share: of each batch, drawn from images without labels. weight: of the distance, a mean square over
    pixels and channels, each over its range.

    Source: distilling (Hinton et al., 2015) from predictions averaged over views (Radosavovic et al., Data
    distillation, CVPR 2018).
    """

    needs_plain = True

    def __init__(
        self,
        representation: Representation,
        teacher: nn.Module,
        *,
        model: str = "default",
        pool_share: float = 0.5,
        weight: float = 20.0,
    ) -> None:
        if not 0 <= pool_share < 1 or weight <= 0:
            raise ConfigError(
                f"distilled takes a pool_share from 0 to below 1 and a weight above 0; got {pool_share} and {weight}."
            )
        self.representation, self.pool_share, self.weight = representation, pool_share, weight
        self.scale_by = find_model(model)
        self.facts = read_model(self.scale_by)
        _check_targets(self.scale_by, self.facts.representation, representation)
        network = network_of(self.scale_by, len(representation.channels))
        # The types that torch ships leave memory_format out.
        self.model = network.to(memory_format=torch.channels_last).requires_grad_(False)  # pyright: ignore

    def check(self, recipe: Recipe, network: Network) -> None:
        """The model has to say something of the same pixels, and of cells of the same size."""
        strides = (self.facts.network.stride, network.stride)
        diameters = (self.facts.canonical_diameter_px, recipe.canonical_diameter_px)
        kinds = {"stride of the network": strides, "canonical diameter": diameters}
        for kind, (taught, learned) in kinds.items():
            if taught != learned:
                raise ConfigError(
                    f"Nothing can be learned from {self.scale_by}: its {kind} is {taught:g}, that of this run "
                    f"{learned:g}. Choose another model, or train with the same."
                )

    def losses(self, output: Tensor, batch: Batch, share: float) -> dict[str, Tensor]:
        """Two parts, 'supervised' and 'distilled'."""
        self.model.to(output.device)
        far = distance_to(self.model, self.representation, output, batch).mean()
        return {
            "supervised": self.representation.loss(output, batch.targets, batch.known),
            "distilled": self.weight * far,
        }


def _check_targets(folder: Path, taught: Part, representation: Representation) -> None:
    """Raise ConfigError unless a model predicts what the representation has as targets."""
    name = next(name for name, variant in REPRESENTATIONS.items() if isinstance(representation, variant))
    if taught.name != name:
        raise ConfigError(f"{folder} predicts {taught.name}, so nothing of {name} can be learned from it.")
    theirs: Any = make_representation(name, taught.settings)
    ours: Any = representation
    for setting in (field.name for field in fields(ours)):
        got, wanted = getattr(theirs, setting), getattr(ours, setting)
        # Most settings are those of reading cells, in which a model that was tuned may differ.
        if got != wanted and not np.array_equal(replace(ours, **{setting: got}).targets(CELL), ours.targets(CELL)):
            raise ConfigError(
                f"Nothing can be learned from {folder}: what its {name} predicts was learned with {setting} = {got}, "
                f"and this run has {wanted}. Choose another model, or set the same in the recipe."
            )
