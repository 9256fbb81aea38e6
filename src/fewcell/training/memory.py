"""Memory: a model that is taught something new goes on saying what it said of everything else."""

from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from fewcell.config import Augmentation
from fewcell.data.collage import collage, photograph_files, photographs
from fewcell.data.crops import CropSource, Grid
from fewcell.data.dataset import Sample
from fewcell.images import normalise
from fewcell.representations import Representation
from fewcell.training.objective import Batch, distance
from fewcell.types import Labels

__all__ = ["COLLAGE_PX", "REPLAY_SHARE", "Memory", "draw_collages", "replay"]

REPLAY_SHARE = 0.25  # of a batch
WEIGHT = 12.0
COLLAGES, COLLAGE_PX = 48, 512
QUALITY = 92  # of their JPEG files
KNOWN = 0.6  # IoU of all that is found with all cells


@final
class Memory:
    """The model that training began with, as a teacher of all that no label tells of.

    Where pixels are UNKNOWN the network is to predict what the start predicts of the same picture.

    Source: learning without forgetting (Li and Hoiem, ECCV 2016); that a few large pictures, cut and altered in many
    ways, are enough to pass on what a network knows: Asano and Saeed (ICLR 2023). Photographs alone show few cells, so
    most pictures are collages of drawn ones.
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

    @torch.no_grad()
    def knows(self, picture: NDArray[np.uint8], cells: Labels) -> bool:
        """Whether the start finds the cells of a picture (3, height, width) where their labels are: (height, width)."""
        image = torch.from_numpy(np.ascontiguousarray(normalise(picture)))[None]
        device = next(self.start.parameters()).device
        said = self.representation.activate(self.start(image.to(device)).float())[0].cpu().numpy()
        found = self.representation.decode(said).labels > 0
        stride = cells.shape[0] // found.shape[0]
        there = cells[stride // 2 :: stride, stride // 2 :: stride] > 0
        return bool(np.sum(found & there) >= KNOWN * max(np.sum(found | there), 1))


def draw_collages(folder: Path, diameter_px: float, memory: Memory, side_px: int = COLLAGE_PX) -> None:
    """Write collages to remember by into a folder, unless it is there: those whose cells the start finds.

    Of others it has nothing to say that is worth keeping. diameter_px: of their cells. side_px: of the collages.
    """
    if folder.exists():
        return
    with TemporaryDirectory(dir=folder.parent) as temporary:
        made = Path(temporary) / folder.name
        made.mkdir()
        pictures = photographs()
        for number in range(COLLAGES):
            drawn, cells = collage(pictures, side_px, diameter_px, np.random.default_rng((77, number)))
            picture = (np.clip(drawn, 0, 1) * 255).astype(np.uint8)
            if memory.knows(picture.transpose(2, 0, 1), cells):
                Image.fromarray(picture).save(made / f"{number:02d}.jpg", quality=QUALITY)
        made.rename(folder)


def replay(grid: Grid, processes: int, folder: Path) -> CropSource:
    """Crops of pictures to remember by, as many microscopes would show them: photographs, and collages of a folder.

    Not of the labelled images, however altered: what the start says of images like these is what it is to unlearn.
    """
    undrawn = [Sample(path.stem, path, None, "scikit-image", "", path.stem) for path in photograph_files()]
    drawn = [
        Sample(path.stem, path, None, "collages", "", path.stem, diameter_px=grid.canonical_diameter_px)
        for path in sorted(folder.glob("*.jpg"))
    ]
    often = {"gamma": 0.9, "gray": 0.4, "tint": 0.3, "shuffle_channels": 0.3, "stain": 0.7, "blur": 0.3}
    settings = Augmentation(**often, invert=0, immunostain=0, empty=0, defocus=0, off_scale=0.4)
    return CropSource([*undrawn, *drawn], grid, settings, processes)
