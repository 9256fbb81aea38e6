"""The contract of an objective: what a network is trained to make of a batch."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fewcell.config import Recipe
from fewcell.networks import Network
from fewcell.representations import Representation
from fewcell.types import Turn

__all__ = ["Batch", "Objective", "Rounds", "distance", "distance_to"]


@dataclass(frozen=True)
class Batch:
    """Crops for one step of one process.

    images: (batch, 3, height, width) float32. targets: (batch, channel, h, w) float32 and known: (batch, h, w)
    bool, both on the network's grid. plain: the images before their intensities were varied, each turned as `turned`
    says; only where an objective asks for them.
    """

    images: Tensor
    targets: Tensor
    known: Tensor
    plain: Tensor | None = None
    turned: Sequence[Turn] = ()

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device, its images laid out as convolutions are fastest on."""
        layout: dict[str, Any] = {"memory_format": torch.channels_last, "non_blocking": True}
        plain = None if self.plain is None else self.plain.to(device, **layout)
        return Batch(
            self.images.to(device, **layout), self.targets.to(device), self.known.to(device), plain, self.turned
        )


@dataclass(frozen=True)
class Rounds:
    """How a teacher, which is the network so far, labels images of the pool during training.

    at: shares of the budget, when this happens. images: of the pool, how many each time. keep: cells that are right
    with this probability are learned from. precision: of what is kept on held-out images, this share must be right;
    otherwise only weak labels are learned from.
    """

    at: tuple[float, ...]
    images: int
    keep: float
    precision: float


class Objective(ABC):
    """What a network is trained for. One object lives as long as its training run.

    pool_share: of each batch, how much is drawn from the pool: images without labels, or, where there are rounds, those
    that a teacher has labelled. needs_plain: whether batches hold plain images. scale_by: a finished model that tells
    how wide the cells of the pool's images are; without one, and without rounds, they are seen at any scale. paste: of
    crops of the pool into which cells of another image of it are set, as `Augmentation.paste`.
    """

    pool_share: float = 0.0
    needs_plain: bool = False
    scale_by: Path | None = None
    rounds: Rounds | None = None
    paste: float = 0.0

    def check(self, recipe: Recipe, network: Network) -> None:  # noqa: B027
        """Raise ConfigError if a run cannot have this objective; by default any can."""

    @abstractmethod
    def losses(self, output: Tensor, batch: Batch, share: float) -> dict[str, Tensor]:
        """The parts of the loss, by name, each a scalar; training minimises their sum.

        output: of the network for the batch's images, raw: (batch, channel, h, w). share: of the budget spent.
        """


def distance(representation: Representation, predicted: Tensor, taught: Tensor) -> Tensor:
    """The square distance of two activated predictions, mean over channels, each over its range: (batch, h, w)."""
    span = predicted.new_tensor([channel.high - channel.low for channel in representation.channels])
    return ((predicted - taught) / span[:, None, None]).square().mean(dim=1)


def distance_to(teacher: nn.Module, representation: Representation, output: Tensor, batch: Batch) -> Tensor:
    """The `distance` of a network's raw output for a batch to what a teacher says of its plain images."""
    return distance(representation, representation.activate(output.float()), _taught(teacher, representation, batch))


@torch.no_grad()
def _taught(teacher: nn.Module, representation: Representation, batch: Batch) -> Tensor:
    """What a teacher predicts of the plain images of a batch, turned back: (batch, channel, h, w)."""
    assert batch.plain is not None
    teacher.eval()
    predicted = representation.activate(teacher(batch.plain).float())
    back = [
        representation.turn(one, **vars(way.undo))
        for one, way in zip(predicted.cpu().numpy(), batch.turned, strict=True)
    ]
    return torch.stack([torch.from_numpy(one) for one in back]).to(predicted.device)
