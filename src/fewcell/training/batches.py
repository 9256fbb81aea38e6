"""Batches by their number: the same number gives the same batch, however often a run is resumed."""

from collections.abc import Iterator

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from fewcell.config import Recipe
from fewcell.data.crops import CropSource
from fewcell.data.split import sampling_weights
from fewcell.representations import Representation
from fewcell.training.objective import Batch

__all__ = ["batches", "make_batch"]


def make_batch(
    source: CropSource,
    representation: Representation,
    indices: list[int],
    generators: list[np.random.Generator],
) -> Batch:
    """Draw one crop for each sample index, with its own random generator, and make its targets."""
    images, targets, known = [], [], []
    margin = source.grid.margin_px
    inner = slice(margin, -margin or None)
    for index, rng in zip(indices, generators, strict=True):
        image, labels = source.crop(index, rng)
        images.append(image)
        targets.append(representation.targets(labels)[:, inner, inner])
        known.append(labels[inner, inner] >= 0)
    return Batch(*(torch.from_numpy(np.stack(a)) for a in (images, targets, known)))


class _Steps(Dataset):
    """Step number -> the crops of one process in that step."""

    def __init__(
        self, source: CropSource, representation: Representation, recipe: Recipe, rank: int, world: int
    ) -> None:
        self.source, self.representation, self.recipe = source, representation, recipe
        self.slots = range(rank, recipe.batch, world)
        self.weights = sampling_weights(source.samples, recipe.balance)

    def __getitem__(self, step: int) -> Batch:
        seeds = [(self.recipe.seed, step, slot) for slot in self.slots]
        generators = [np.random.default_rng(seed) for seed in seeds]
        indices = [int(rng.choice(len(self.weights), p=self.weights)) for rng in generators]
        return make_batch(self.source, self.representation, indices, generators)


def batches(
    source: CropSource,
    representation: Representation,
    recipe: Recipe,
    *,
    start: int = 0,
    rank: int = 0,
    world: int = 1,
) -> Iterator[Batch]:
    """Yield the batches of steps start, start + 1, ..., made ahead by the recipe's workers.

    They end with the recipe's steps; if it gives minutes, they never do. rank, world: of the `world` processes that
    share each batch, which one this is.
    """
    steps = range(start, recipe.steps or 10**9)
    loader = DataLoader(
        _Steps(source, representation, recipe, rank, world),
        batch_size=None,
        sampler=steps,
        num_workers=recipe.workers,
        prefetch_factor=4 if recipe.workers else None,
        worker_init_fn=_quiet_worker,
    )
    yield from loader


def _quiet_worker(_: int) -> None:
    """One thread a worker: the cores belong to the network."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
