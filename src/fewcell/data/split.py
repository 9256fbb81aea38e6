"""Which images to learn from, which to hold out, and how often to draw each."""

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from fewcell.data.dataset import Sample, true_diameter_px
from fewcell.errors import DataError
from fewcell.images.read import read_labels

__all__ = [
    "as_often",
    "grouped_split",
    "hold_out",
    "label_order",
    "sampling_weights",
    "split_by_modality",
    "split_each",
    "without_copies",
]

MOST_OFTEN = 3.0
HALVINGS = 60  # of the range in which a scale is sought
TELLING_BYTES = 4096  # of the middle of a file: where these differ, the rest need not be read
SPARED = 0.25  # of the share that is held out, so much comes from experiments that are learned from as well
FEWEST_SPARED_FROM = 8  # images of an experiment, of which one or more can be spared


def grouped_split(samples: Sequence[Sample], share: float, seed: int = 0) -> tuple[list[Sample], list[Sample]]:
    """Split samples into (to learn from, held out), whole experiments at a time.

    In each modality experiments are held out, in an order drawn from the seed, while no more than `share` of its
    images is; the last experiment of a modality always stays, so every modality is learned from. An experiment of
    several modalities must fit into each. If that would hold out nothing at all, the smallest experiment is, if
    possible one without which every modality can still be learned.

    Raises DataError if there are fewer than two experiments.
    """
    sizes = Counter((sample.modality, sample.experiment) for sample in samples)
    by_modality: dict[str, set[str]] = defaultdict(set)
    by_experiment: dict[str, set[str]] = defaultdict(set)
    for modality, name in sizes:
        by_modality[modality].add(name)
        by_experiment[name].add(modality)
    if len(by_experiment) < 2:
        raise DataError(
            f"Cannot hold images out: all {len(samples)} belong to one experiment. Give at least two experiments "
            "in the manifest, or no manifest (then each image is one)."
        )
    held: set[str] = set()
    room = {m: share * sum(sizes[m, name] for name in names) for m, names in by_modality.items()}
    rng = np.random.default_rng(seed)
    for modality in sorted(by_modality):
        names = by_modality[modality]
        for name in rng.permutation(sorted(names))[: len(names) - 1].tolist():
            if name not in held and all(sizes[m, name] <= room[m] for m in by_experiment[name]):
                held.add(name)
                for m in by_experiment[name]:
                    room[m] -= sizes[m, name]
    if not held:
        total = Counter(sample.experiment for sample in samples)
        is_only = {name: any(len(by_modality[m]) == 1 for m in by_experiment[name]) for name in total}
        held.add(min(sorted(total), key=lambda name: (is_only[name], total[name])))
    return [s for s in samples if s.experiment not in held], [s for s in samples if s.experiment in held]


def hold_out(samples: Sequence[Sample], share: float, seed: int = 0) -> tuple[list[Sample], list[Sample]]:
    """Split samples into (to learn from, held out): mostly whole experiments, and a few images of those learned from.

    What a network says of a microscope that it knows is right more often than what it says of others, and users have
    both: thresholds and scores that are fitted to one kind alone are wrong for the other. Of each experiment that has
    FEWEST_SPARED_FROM images at least one is spared, so a little more than `share` may be held out; where none has so
    many, whole experiments only. Raises as `grouped_split`.
    """
    sizes = Counter(sample.experiment for sample in samples)
    if max(sizes.values(), default=0) < FEWEST_SPARED_FROM:
        return grouped_split(samples, share, seed)
    learn, held = grouped_split(samples, (1 - SPARED) * share, seed)
    kept = {sample.image for sample in held} | _some_of_each_experiment(learn, SPARED * share, seed)
    return [s for s in samples if s.image not in kept], [s for s in samples if s.image in kept]


def split_by_modality(samples: Sequence[Sample], share: float) -> tuple[list[Sample], list[Sample]]:
    """Split samples into (to learn from, held out), so that every modality can be scored.

    Whole experiments are held out, as by `grouped_split`. Where these are less than half of a modality's share (it has
    one experiment, or large ones), a share of each of its other experiments is held out as well, of those that have
    FEWEST_SPARED_FROM images or more. Raises as `grouped_split`.
    """
    learn, held = grouped_split(samples, share)
    sizes, n_held = Counter(s.modality for s in samples), Counter(s.modality for s in held)
    poor = {modality for modality, size in sizes.items() if n_held[modality] < share * size / 2}
    kept = {sample.image for sample in held}
    kept |= _some_of_each_experiment([s for s in learn if s.modality in poor], share, 0)
    return [s for s in samples if s.image not in kept], [s for s in samples if s.image in kept]


def _some_of_each_experiment(samples: Sequence[Sample], share: float, seed: int) -> set[Path]:
    """A share of the images of each experiment, at least one; none of those that have too few."""
    rng, some = np.random.default_rng((seed, 1)), set[Path]()
    sizes = Counter(sample.experiment for sample in samples)
    for name in sorted(name for name, size in sizes.items() if size >= FEWEST_SPARED_FROM):
        its = sorted((s for s in samples if s.experiment == name), key=lambda sample: (sample.source, sample.stem))
        some |= {its[i].image for i in rng.permutation(len(its))[: max(1, round(share * len(its)))]}
    return some


def split_each(samples: Sequence[Sample], share: float, seed: int = 0) -> tuple[list[Sample], list[Sample]]:
    """Cut every labelled image in two by a straight line, one part to learn from, one held out.

    For images too few to hold some of them out. The longer side is cut; which end is held out is drawn from the seed
    and the image's name, whatever other images there are. share: of the image that is held out. Raises ReadError if
    labels cannot be read.
    """
    learn, held_out = [], []
    for sample in samples:
        assert sample.labels is not None
        rng = np.random.default_rng((seed, crc32(sample.stem.encode(errors="replace"))))
        labels = read_labels(sample.labels)
        height, width = labels.shape
        sample = replace(sample, diameter_px=true_diameter_px(sample, labels))  # of a part it would be too small
        is_high, is_first = height > width, bool(rng.integers(2))
        side = height if is_high else width
        at = round(side * (share if is_first else 1 - share))
        first = (0, 0, at, width) if is_high else (0, 0, height, at)
        second = (at, 0, height, width) if is_high else (0, at, height, width)
        parts = (second, first) if is_first else (first, second)
        learn.append(replace(sample, window=parts[0]))
        held_out.append(replace(sample, window=parts[1]))
    return learn, held_out


def without_copies(others: Sequence[Sample], labelled: Sequence[Sample]) -> list[Sample]:
    """Those of the others that show none of the labelled images: no link to such a file, nor a copy of one.

    People label some images of a folder, and give the folder as images without labels: what is held out of the labelled
    ones must not be learned from as well. A file that cannot be read is none; it is told of where it is needed.
    """
    if not others:
        return []
    known = {os.path.realpath(sample.image) for sample in labelled}
    middles = {(size, _middle(sample.image)) for sample in labelled if (size := _size(sample.image))}
    sizes = {size for size, _ in middles}

    @cache
    def digests() -> set[bytes]:
        return {digest for sample in labelled if (digest := _digest(sample.image))}

    def is_new(image: Path) -> bool:
        if os.path.realpath(image) in known:
            return False
        size = _size(image)
        if size not in sizes or (size, _middle(image)) not in middles:
            return True
        return _digest(image) not in digests()

    return [sample for sample in others if is_new(sample.image)]


def _size(file: Path) -> int | None:
    try:
        return file.stat().st_size
    except OSError:
        return None


def _middle(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            opened.seek(max(0, (_size(file) or 0) - TELLING_BYTES) // 2)
            return opened.read(TELLING_BYTES)
    except OSError:
        return b""


def _digest(file: Path) -> bytes | None:
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").digest()
    except OSError:
        return None


def sampling_weights(samples: Sequence[Sample], balance: float, even_modalities: float = 0.0) -> NDArray[np.float64]:
    """How often to draw each sample: (n,) float64 that sums to 1.

    A source is drawn in proportion to its number of images to the power `balance`, then an experiment of it
    likewise, then an image evenly: a large source does not drown a small one. even_modalities: by how much the
    modalities' shares are evened out, from 0, not at all, to 1, where each is drawn equally often.
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
    shares = _by_modality(samples, weights)
    weights = weights * [shares[sample.modality] ** -even_modalities for sample in samples]
    return weights / weights.sum()


def as_often(
    weights: NDArray[np.float64],
    samples: Sequence[Sample],
    others: Sequence[Sample],
    their_weights: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Weights (n,), which sum to 1, by which the modalities of samples are drawn about as often as those of others are.

    None becomes more than MOST_OFTEN times as frequent or as rare as it was: a few images must not be all that is
    seen. Modalities that the others lack keep their share.
    """
    own, theirs = (_by_modality(*pair) for pair in ((samples, weights), (others, their_weights)))
    both = sorted(own.keys() & theirs.keys())
    share = np.array([own[name] for name in both])
    wanted = np.array([theirs[name] / own[name] for name in both])

    def factors(scale: float) -> NDArray[np.float64]:
        return np.clip(scale * wanted, 1 / MOST_OFTEN, MOST_OFTEN)

    # What is cut off of some goes to the others, so that all of them together keep their share.
    least, most = 1 / MOST_OFTEN / wanted.max(initial=1), MOST_OFTEN / wanted.min(initial=1)
    for _ in range(HALVINGS):
        middle = np.sqrt(least * most)
        least, most = (least, middle) if share @ factors(middle) > share.sum() else (middle, most)
    factor = dict(zip(both, factors(most), strict=True))
    drawn = weights * [factor.get(sample.modality, 1.0) for sample in samples]
    return drawn / drawn.sum()


def _by_modality(samples: Sequence[Sample], weights: NDArray[np.float64]) -> dict[str, float]:
    shares: dict[str, float] = defaultdict(float)
    for sample, weight in zip(samples, weights, strict=True):
        shares[sample.modality] += float(weight)
    return shares


def label_order(samples: Sequence[Sample]) -> list[int]:
    """The order in which images are labelled if one can label only some: their indices, each once.

    Any beginning of it is spread as evenly as can be over modalities, then over the sources of each, then over the
    experiments of each. It depends on the images' names, not on the order in which they are given.
    """
    rng = np.random.default_rng(0)
    tree: dict[str, dict[str, dict[str, list[int]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for i in sorted(range(len(samples)), key=lambda i: (samples[i].source, samples[i].stem)):
        sample = samples[i]
        tree[sample.modality][sample.source][sample.experiment].append(i)

    def in_turn(branch: Mapping[str, Any] | list[int]) -> list[int]:
        if isinstance(branch, list):
            return rng.permutation(branch).tolist()
        lists = [in_turn(branch[name]) for name in rng.permutation(sorted(branch)).tolist()]
        return [i for turn in zip_longest(*lists) for i in turn if i is not None]

    return in_turn(tree)
