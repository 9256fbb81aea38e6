"""distilled: learn from labels, and to predict what a finished model predicts of an image seen from all sides."""

from pathlib import Path
from typing import final

import torch
from torch import Tensor, nn

from fewcell.errors import ConfigError
from fewcell.networks import load_network
from fewcell.representations import REPRESENTATIONS, Representation
from fewcell.segmenter import WEIGHTS_FILE, find_model, read_model
from fewcell.training.objective import Batch, Objective, distance_to

__all__ = ["Distilled"]


@final
class Distilled(Objective):
    """The representation's loss on labelled pixels, and the distance to a finished model's prediction on all.

    The model sees each crop as it is, flipped and turned in one of eight ways that is drawn anew each time; what it
    says is turned back. On average over steps that is what it says of all eight, which is better than what it says of
    one. The network sees the same crop with varied intensities. The model may be larger, or one of several. It also
    tells how wide the cells of images without labels are; those in which it sees none are left out.

    model: a model folder, or the name of one inside the package, of the same representation. pool_share: of each
    batch, drawn from images without labels. weight: of the distance, a mean square over pixels and channels, each over
    its range.

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
        self.model = _network_of(self.scale_by, representation)

    def losses(self, output: Tensor, batch: Batch, share: float) -> dict[str, Tensor]:
        """Two parts, 'supervised' and 'distilled'."""
        self.model.to(output.device)
        far = distance_to(self.model, self.representation, output, batch).mean()
        return {
            "supervised": self.representation.loss(output, batch.targets, batch.known),
            "distilled": self.weight * far,
        }


def _network_of(folder: Path, representation: Representation) -> nn.Module:
    facts = read_model(folder)
    name = next(name for name, variant in REPRESENTATIONS.items() if isinstance(representation, variant))
    if facts.representation.name != name:
        raise ConfigError(
            f"{folder} predicts {facts.representation.name}, so nothing of {name} can be learned from it."
        )
    part, n_channels = facts.network, len(representation.channels)
    network = load_network(part.name, n_channels, part.settings, folder / WEIGHTS_FILE)
    return network.to(memory_format=torch.channels_last).requires_grad_(False)  # pyright: ignore[reportCallIssue]
