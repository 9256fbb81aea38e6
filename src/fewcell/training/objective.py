"""The contract of an objective: what a network is trained to do with a batch."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Batch", "Objective"]


@dataclass(frozen=True)
class Batch:
    """Crops for one step of one process.

    images: (batch, 3, height, width) float32. targets: (batch, channel, h, w) float32 and known: (batch, h, w)
    bool, both on the network's grid.
    """

    images: Tensor
    targets: Tensor
    known: Tensor

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device, its images laid out as convolutions are fastest on."""
        images = self.images.to(device, memory_format=torch.channels_last, non_blocking=True)
        return Batch(images, self.targets.to(device), self.known.to(device))


class Objective(ABC):
    """What a network is trained for. One object lives as long as its training run."""

    @abstractmethod
    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The parts of the loss, by name, each a scalar; training minimises their sum."""

    def after_step(self) -> None:  # noqa: B027
        """Called after every step of the optimiser; does nothing unless overridden."""
