"""How a network does on what is held out: on crops while it is trained, the learning curve; on images in the end."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fewcell.data.crops import CropSource
from fewcell.data.dataset import Sample, load_labelled
from fewcell.metrics import THRESHOLDS, Counts, count_matches, f1, match, scored_overlaps
from fewcell.networks import Network
from fewcell.representations import Representation
from fewcell.segmenter import Segmenter
from fewcell.training.batches import make_batch
from fewcell.training.machine import Machine
from fewcell.training.objective import Batch
from fewcell.types import Labels

__all__ = ["HeldOut", "Pooled", "fixed_crops", "mean_f1_50", "measure", "pooled_f1", "spread"]

HELD_OUT_CROPS = 32
CROPS_AT_ONCE = 8
COUNTED = ("true_positives", "n_true", "n_predicted")  # the fields of `Counts`


@dataclass(frozen=True)
class HeldOut:
    """Crops of held-out images, the same in every run whose recipe varies crops alike; labels on the network's grid."""

    batch: Batch
    labels: list[Labels]


def fixed_crops(source: CropSource, representation: Representation) -> HeldOut:
    """One crop in turn from each held-out image, spread over all."""
    indices = _places(len(source.samples), HELD_OUT_CROPS)
    seeds = [(1, i) for i in range(HELD_OUT_CROPS)]
    batch = make_batch(
        [source] * HELD_OUT_CROPS, representation, indices, [np.random.default_rng(seed) for seed in seeds]
    )
    inner = slice(source.grid.margin_px, -source.grid.margin_px or None)
    labels = [
        source.crop(index, np.random.default_rng(seed))[1][inner, inner]
        for index, seed in zip(indices, seeds, strict=True)
    ]
    return HeldOut(batch, labels)


@torch.no_grad()
def measure(
    network: Network, representation: Representation, held_out: HeldOut, here: Machine
) -> tuple[float, float | None]:
    """The loss and the mean F1 at IoU 0.5 over held-out crops, with the representation's thresholds as they are.

    No F1 if no crop holds a cell that the border does not cut.
    """
    network.eval()
    losses: list[Tensor] = []
    f1s: list[float] = []
    for first in range(0, len(held_out.labels), CROPS_AT_ONCE):
        part = slice(first, first + CROPS_AT_ONCE)
        batch = Batch(held_out.batch.images[part], held_out.batch.targets[part], held_out.batch.known[part])
        batch = batch.to(here.device)
        with here.autocast():
            output = network(batch.images)
        losses.append(representation.loss(output, batch.targets, batch.known))
        predictions = representation.activate(output.float()).cpu().numpy()
        for prediction, labels in zip(predictions, held_out.labels[part], strict=True):
            counts = match(labels, representation.decode(prediction).labels)
            f1s += [f1(counts)] if counts.n_true else []
    return float(torch.stack(losses).mean()), float(np.mean(f1s)) if f1s else None


def spread(samples: Sequence[Sample], count: int) -> list[Sample]:
    """At most so many of these samples, evenly spread."""
    return [samples[i] for i in sorted(set(_places(len(samples), count)))]


def _places(n: int, count: int) -> list[int]:
    """So many places in a sequence of n, evenly spread; the same ones more than once if n is less."""
    return np.linspace(0, n - 1, count).round().astype(int).tolist()


def mean_f1_50(segmenter: Segmenter, samples: Sequence[Sample]) -> float:
    """Mean F1 at IoU 0.5, each image at the scale of its labelled cells; images without a whole cell do not count."""
    f1s = [f1(counts[0]) for counts in _at_true_scale(segmenter, samples) if counts[0].n_true]
    return float(np.mean(f1s)) if f1s else 0.0


def _at_true_scale(segmenter: Segmenter, samples: Sequence[Sample]) -> Iterator[list[Counts]]:
    """How many cells are found at each of THRESHOLDS in each image in which cells are labelled."""
    for sample in samples:
        image, truth, true_px = load_labelled(sample)
        if true_px is not None:
            table = scored_overlaps(truth, segmenter.segment(image, diameter_px=true_px).labels)
            yield [count_matches(table, threshold) for threshold in THRESHOLDS]


@dataclass(frozen=True)
class Pooled:
    """F1 of all cells of some images together, at an IoU of 0.5, and its mean over those of 0.5 to 0.9.

    The mean over images of the F1 of each says little where these are few and hold a few cells each: one cell more or
    less is a tenth of one of them.
    """

    f1_50: float
    f1_mean: float


def pooled_f1(segmenter: Segmenter, samples: Sequence[Sample]) -> Pooled:
    """How well a model finds the cells of images or of parts of them, each at the scale of its labelled cells."""
    found = list(_at_true_scale(segmenter, samples))
    sums = [
        Counts(*(sum(getattr(counts[n], name) for counts in found) for name in COUNTED)) for n in range(len(THRESHOLDS))
    ]
    f1s = [f1(counts) if counts.n_true else 0.0 for counts in sums]
    return Pooled(f1s[0], float(np.mean(f1s)))
