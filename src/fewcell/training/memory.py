"""Memory: a model that is taught something new goes on saying what it said of everything else."""

from copy import deepcopy
from pathlib import Path
from typing import final

import torch
from torch import Tensor, nn

from fewcell.config import Augmentation
from fewcell.data.crops import CropSource, Grid
from fewcell.data.dataset import Sample
from fewcell.representations import Representation
from fewcell.training.objective import Batch, distance

__all__ = ["REPLAY_SHARE", "Memory", "keep_statistics", "replay"]

REPLAY_SHARE = 0.25  # of a batch
WEIGHT = 4.0
# Photographs and drawings that every installation has; two show cells. What they show matters little.
PICTURES = (
    "astronaut.png", "brick.png", "camera.png", "cell.png", "chelsea.png", "clock_motion.png", "coffee.png",
    "coins.png", "grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png", "microaneurysms.png", "moon.png",
    "retina.jpg", "rocket.jpg",
)  # fmt: skip


@final
class Memory:
    """The model that training began with, as a teacher of all that no label tells of.

    Where pixels are UNKNOWN the network is to predict what the start predicts of the same picture.

    Source: learning without forgetting (Li and Hoiem, ECCV 2016); that a few large pictures, cut and altered in many
    ways, are enough to pass on what a network knows: Asano and Saeed (ICLR 2023).
    """

    def __init__(self, start: nn.Module, representation: Representation) -> None:
        self.start = deepcopy(start).eval().requires_grad_(False)
        self.representation = representation

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        """How far the network's raw output for a batch is from the start's where nothing is known: a scalar."""
        unknown = ~batch.known
        some = unknown.flatten(1).any(dim=1)
        if not some.any():
            return output.sum() * 0
        with torch.no_grad():
            said = self.representation.activate(self.start(batch.images[some]).float())
        far = distance(self.representation, self.representation.activate(output[some].float()), said)
        return WEIGHT * (far * unknown[some]).sum() / unknown.sum()


def keep_statistics(network: nn.Module) -> None:
    """Let batch normalisation go on with the means and variances of the start, in training as well.

    Those of a few images of one kind, and of photographs, are not those of all that the network is to work on.
    """
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


def replay(grid: Grid, processes: int) -> CropSource:
    """Crops of pictures to remember by, as many microscopes would show them.

    Not of the labelled images, however altered: what the start says of images like these is what it is to unlearn.
    """
    import skimage.data

    folder = Path(skimage.data.__file__).parent
    pictures = [
        Sample(Path(name).stem, folder / name, None, "scikit-image", "", Path(name).stem)
        for name in PICTURES
        if (folder / name).is_file()
    ]
    often = {"invert": 0.5, "gamma": 0.9, "gray": 0.4, "tint": 0.3, "shuffle_channels": 0.3, "stain": 0.7, "blur": 0.3}
    settings = Augmentation(**often, immunostain=0, empty=0, defocus=0, off_scale=1)
    return CropSource(pictures, grid, settings, processes)
