"""What an evaluation amounts to: means over groups of images, with intervals.

Every mean is over images: first the score of each image, then the mean. Images without a scorable cell are
in none. The headline is the mean over `HEADLINE_MODALITIES` of the mean F1 at IoU 0.5 of each, so that a
modality with many images weighs no more than one with few.

Images of one experiment (plate, slide, movie, patient) resemble each other, so intervals come from
resampling experiments, not images, with replacement (bootstrap, 95 %; Efron & Tibshirani 1993). A group of a
single experiment is resampled by image and marked: its interval says nothing about other experiments. With
fewer than about ten experiments any such interval is rough, and rather too narrow.
"""

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from fewcell.benchmark.evaluate import Evaluation, Row

__all__ = [
    "HEADLINE_MODALITIES",
    "Group",
    "Headline",
    "Interval",
    "Resampled",
    "Summary",
    "bootstrap",
    "bootstrap_groups",
    "summarise",
]

HEADLINE_MODALITIES = ("fluorescence", "histology", "brightfield", "phase")
MEANS = ("f1_50", "f1_60", "f1_70", "f1_80", "f1_90", "ap_50", "pq", "aji")
N_RESAMPLES = 2000
Resampled = tuple[NDArray[np.float64], Literal["experiments", "images"]]
SEEN: Mapping[bool | None, str] = {True: "seen", False: "unseen", None: ""}

# How rows are grouped: the title, and the name of a row's group. Rows named '' are in no group.
GROUPINGS: dict[str, Callable[[Row], str]] = {
    "all": lambda row: "all",
    "seen or unseen": lambda row: SEEN[row.seen],
    "modality": lambda row: row.modality,
    "modality, seen or unseen": lambda row: _apart(row.modality, row),
    "source": lambda row: row.source,
    "source, seen or unseen": lambda row: _apart(row.source, row),
}
# Which rows a headline is over.
HEADLINES: dict[str, tuple[bool | None, ...]] = {
    "all": (True, False, None),
    "seen": (True,),
    "unseen": (False,),
}


@dataclass(frozen=True)
class Interval:
    """A 95 % interval of a mean F1, and whether experiments or only images of one were resampled."""

    low: float
    high: float
    over: Literal["experiments", "images"]

    @classmethod
    def of(cls, means: NDArray[np.float64], over: Literal["experiments", "images"]) -> Self:
        """The interval of what `bootstrap` drew."""
        low, high = np.quantile(means, (0.025, 0.975))
        return cls(float(low), float(high), over)


@dataclass(frozen=True)
class Group:
    """The scores of a group of images.

    means: over images, by the names in `MEANS`. interval: of the mean F1 at IoU 0.5; None for a single image.
    """

    grouping: str
    name: str
    n_images: int
    n_experiments: int
    median_f1_50: float
    means: Mapping[str, float]
    interval: Interval | None


@dataclass(frozen=True)
class Headline:
    """Mean over modalities of their mean F1 at IoU 0.5: over all images, or only seen or unseen ones.

    missing: modalities without a scorable image; f1_50 is None if there are any, for a mean over fewer
    modalities could not be compared.
    """

    name: str
    f1_50: float | None
    interval: Interval | None
    missing: tuple[str, ...]


@dataclass(frozen=True)
class Summary:
    """Headlines and groups of one evaluation; headlines over seen and unseen only where these are known."""

    headlines: tuple[Headline, ...]
    groups: tuple[Group, ...]


def summarise(evaluation: Evaluation, *, seed: int = 0) -> Summary:
    """Average an evaluation over groups of images, with 95 % intervals.

    seed: of the resampling; a group's interval depends on it and on the group's own rows only.
    """
    rows = [row for row in evaluation.rows if row.scores.scorable]
    groups = [
        _group(grouping, name, members, seed)
        for grouping, name_of in GROUPINGS.items()
        for name, members in sorted(_grouped(rows, name_of).items())
    ]
    subsets = {name: [row for row in rows if row.seen in seen] for name, seen in HEADLINES.items()}
    headlines = [_headline(name, members, seed) for name, members in subsets.items() if members or name == "all"]
    return Summary(tuple(headlines), tuple(groups))


def _apart(name: str, row: Row) -> str:
    return f"{name}, {SEEN[row.seen]}" if SEEN[row.seen] else ""


def _grouped(rows: Iterable[Row], name_of: Callable[[Row], str]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if name := name_of(row):
            groups.setdefault(name, []).append(row)
    return groups


def _group(grouping: str, name: str, rows: Sequence[Row], seed: int) -> Group:
    scores = [row.scores.as_row() for row in rows]
    resampled = bootstrap_groups([_scored(rows)], seed=seed)
    return Group(
        grouping=grouping,
        name=name,
        n_images=len(rows),
        n_experiments=len({row.experiment for row in rows}),
        median_f1_50=float(np.median([row["f1_50"] for row in scores])),
        means={score: float(np.mean([row[score] for row in scores])) for score in MEANS},
        interval=None if resampled is None else Interval.of(*resampled),
    )


def _headline(name: str, rows: Sequence[Row], seed: int) -> Headline:
    by_modality = _grouped(rows, lambda row: row.modality)
    missing = tuple(modality for modality in HEADLINE_MODALITIES if modality not in by_modality)
    if missing:
        return Headline(name, None, None, missing)
    groups = [by_modality[modality] for modality in HEADLINE_MODALITIES]
    mean = float(np.mean([np.mean([row.scores.f1[0] for row in group]) for group in groups]))
    resampled = bootstrap_groups(map(_scored, groups), seed=seed)
    return Headline(name, mean, None if resampled is None else Interval.of(*resampled), ())


def _scored(rows: Sequence[Row]) -> list[tuple[float, str, str]]:
    return [(row.scores.f1[0], row.experiment, row.stem) for row in rows]


def bootstrap_groups(groups: Iterable[Sequence[tuple[float, str, str]]], *, seed: int = 0) -> Resampled | None:
    """The mean of the means of groups in each draw, see `bootstrap`; images, if any group is drawn by these.

    groups: F1, experiment and stem of each image. None if a group has not two images.
    """
    drawn = [bootstrap(*zip(*group, strict=True), seed=seed) if group else None for group in groups]
    known = [one for one in drawn if one is not None]
    if len(known) < len(drawn):
        return None
    over = "images" if any(over == "images" for _, over in known) else "experiments"
    return np.mean([means for means, _ in known], axis=0), over


def bootstrap(
    f1: Sequence[float], experiments: Sequence[str], stems: Sequence[str], *, seed: int = 0
) -> Resampled | None:
    """Means of `N_RESAMPLES` draws of experiments, with replacement, and what was drawn.

    f1, experiments, stems: one entry an image. Images are drawn if all are of one experiment; None for a single image.
    """
    values = np.array(f1)
    names, unit = np.unique(experiments, return_inverse=True)
    over: Literal["experiments", "images"] = "experiments"
    if len(names) == 1:
        names, unit = np.unique(stems, return_inverse=True)
        over = "images"
    if len(names) == 1:
        return None
    sums, n_images = np.bincount(unit, weights=values), np.bincount(unit)
    # A stream of its own for every set of names: groups are drawn independently, whatever else there is.
    rng = np.random.default_rng([seed, zlib.crc32("\n".join(names).encode(errors="surrogateescape"))])
    drawn = rng.integers(0, len(names), size=(N_RESAMPLES, len(names)))
    return sums[drawn].sum(axis=1) / n_images[drawn].sum(axis=1), over
