"""Batches by their number: the same number gives the same batch, however often a run is resumed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from fewcell.config import Recipe
from fewcell.data.crops import CropSource
from fewcell.data.split import as_often, sampling_weights
from fewcell.data.weak import without_outline
from fewcell.representations import Representation
from fewcell.segmenter import WEIGHTS_FILE, find_model, read_model
from fewcell.training.objective import Batch
from fewcell.types import Turn

__all__ = ["Share", "batches", "make_batch", "quiet_worker", "sitting"]


@dataclass(frozen=True)
class Share:
    """What a part of every batch is drawn from.

    crops: how many of a batch, over all processes. like: another source, if its modalities are to be drawn as often.
    """

    source: CropSource
    crops: int
    like: CropSource | None = None


def make_batch(
    sources: Sequence[CropSource],
    representation: Representation,
    indices: Sequence[int],
    generators: Sequence[np.random.Generator],
    *,
    plain: bool = False,
) -> Batch:
    """Draw one crop for each sample index, from its own source with its own random generator, and make its targets.

    plain: whether the batch also holds the images before their intensities were varied, turned.
    """
    images, targets, known, plains, turned = [], [], [], [], []
    for source, index, rng in zip(sources, indices, generators, strict=True):
        image, before, labels = source.crop_twice(index, rng)
        inner = slice(source.grid.margin_px, -source.grid.margin_px or None)
        images.append(image)
        targets.append(representation.targets(labels)[:, inner, inner])
        is_known = labels >= 0
        if representation.needs_outlines and (source.samples[index].points or source.samples[index].boxes):
            is_known &= ~without_outline(labels)  # else it is a cell that a teacher is sure of, among doubtful ground
        known.append(is_known[inner, inner])
        if plain:
            turned.append(Turn(quarters=int(rng.integers(4)), flip=bool(rng.integers(2))))
            plains.append(turned[-1].of(before))
    images, targets, known = (torch.from_numpy(np.stack(a)) for a in (images, targets, known))
    return Batch(images, targets, known, torch.from_numpy(np.stack(plains)) if plain else None, turned)


class _Steps(Dataset):
    """Step number -> the crops of one process in that step."""

    def __init__(
        self,
        shares: Sequence[Share],
        representation: Representation,
        recipe: Recipe,
        rank: int,
        world: int,
        plain: bool,
    ) -> None:
        self.representation, self.recipe, self.plain = representation, recipe, plain
        sources = [share.source for share in shares for _ in range(share.crops)]
        self.slots = range(rank, recipe.batch, world)
        self.sources = [sources[slot] for slot in self.slots]
        weights = {id(s.source): _weights(s, recipe) for s in shares}
        self.weights = [weights[id(source)] for source in self.sources]
        self.sitting = sitting(recipe)

    def __getitem__(self, step: int) -> Batch:
        seeds = [(self.recipe.seed, step, slot, *self.sitting) for slot in self.slots]
        generators = [np.random.default_rng(seed) for seed in seeds]
        drawn = zip(self.weights, generators, strict=True)
        indices = [int(rng.choice(len(weights), p=weights)) for weights, rng in drawn]
        return make_batch(self.sources, self.representation, indices, generators, plain=self.plain)


def _weights(share: Share, recipe: Recipe) -> NDArray[np.float64]:
    own, *others = (
        sampling_weights(source.samples, recipe.balance, recipe.even_modalities)
        for source in (share.source, share.like)
        if source is not None
    )
    return as_often(own, share.source.samples, share.like.samples, *others) if share.like else own


def sitting(recipe: Recipe) -> tuple[int, ...]:
    """What the seeds of crops have besides where training goes on from a model: it has seen those of the seed alone."""
    if recipe.start is None or recipe.teaches:
        return ()
    return (int(read_model(find_model(recipe.start)).sha256[WEIGHTS_FILE][:8], 16),)


def batches(
    shares: Sequence[Share],
    representation: Representation,
    recipe: Recipe,
    *,
    start: int = 0,
    rank: int = 0,
    world: int = 1,
    plain: bool = False,
) -> Iterator[Batch]:
    """Yield the batches of steps start, start + 1, ..., made ahead by the recipe's workers.

    They end with the recipe's steps; if it gives minutes, they never do. shares: what a batch is drawn from, in all
    `recipe.batch` crops. rank, world: of the `world` processes that share each batch, which one this is. plain: see
    `make_batch`.
    """
    steps = range(start, recipe.steps or 10**9)
    loader = DataLoader(
        _Steps(shares, representation, recipe, rank, world, plain),
        batch_size=None,
        sampler=steps,
        num_workers=recipe.workers,
        prefetch_factor=4 if recipe.workers else None,
        worker_init_fn=quiet_worker,
    )
    yield from loader


def quiet_worker(_: int) -> None:
    """One thread a worker: the cores belong to the network."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
