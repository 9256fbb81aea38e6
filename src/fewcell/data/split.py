"""Which images to learn from, which to hold out, and how often to draw each."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fewcell.data.dataset import Sample
from fewcell.errors import DataError

__all__ = ["grouped_split", "sampling_weights"]


def grouped_split(
    samples: Sequence[Sample], share: float, seed: int = 0
) -> tuple[list[Sample], list[Sample]]:
    """Split samples into (to learn from, held out), whole experiments at a time.

    In each modality experiments are held out, in an order drawn from the seed, while no more than `share` of its
    images is; the last experiment of a modality always stays, so every modality is learned from. If that would hold
    out nothing at all, the smallest experiment is.

    Raises DataError if there are fewer than two experiments.
    """
    by_modality: dict[str, dict[str, list[Sample]]] = defaultdict(lambda: defaultdict(list))
    for sample in samples:
        by_modality[sample.modality][sample.experiment].append(sample)
    if sum(len(groups) for groups in by_modality.values()) < 2:
        raise DataError(
            f"Cannot hold images out: all {len(samples)} belong to one experiment. Give at least two experiments "
            "in the manifest, or no manifest (then each image is one)."
        )
    rng = np.random.default_rng(seed)
    held: set[str] = set()
    for modality in sorted(by_modality):
        groups = by_modality[modality]
        budget = share * sum(len(g) for g in groups.values())
        taken = 0
        for name in rng.permutation(sorted(groups))[: len(groups) - 1].tolist():
            if taken + len(groups[name]) <= budget:
                held.add(name)
                taken += len(groups[name])
    if not held:
        everything = {name: g for groups in by_modality.values() for name, g in groups.items()}
        held.add(min(sorted(everything), key=lambda name: len(everything[name])))
    return [s for s in samples if s.experiment not in held], [s for s in samples if s.experiment in held]


def sampling_weights(samples: Sequence[Sample], balance: float) -> NDArray[np.float64]:
    """How often to draw each sample: (n,) float64 that sums to 1.

    A source is drawn in proportion to its number of images to the power `balance`, then an experiment of it
    likewise, then an image evenly: a large source does not drown a small one.
    """
    sources: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for i, sample in enumerate(samples):
        sources[sample.source][sample.experiment].append(i)
    weights = np.zeros(len(samples))
    source_weight = {s: sum(len(i) for i in groups.values()) ** balance for s, groups in sources.items()}
    for source, groups in sources.items():
        total = sum(len(i) ** balance for i in groups.values())
        for indices in groups.values():
            weights[indices] = source_weight[source] * len(indices) ** balance / total / len(indices)
    return weights / weights.sum()
