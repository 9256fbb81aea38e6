"""What the parts of canopy are worth: tables of `benchmarks/canopy.py`, its predictions read in other ways, and of
`benchmarks/heights.py`, predictions of other representations read in its way.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fewcell.benchmark import HEADLINE_MODALITIES, Interval, bootstrap_groups
from fewcell.benchmark.summary import Resampled
from fewcell.benchmark.tables import read_table
from fewcell.errors import DataError

__all__ = ["Ablation", "load_ablations", "load_heights"]

COLUMNS = {"way", "seed", "stem", "modality", "experiment", "f1_50", "f1_75"}


@dataclass(frozen=True)
class Ablation:
    """One way of reading predictions: means over the headline's modalities that there are.

    f1_50, f1_75: mean F1. behind, behind_75: how far it is below that of canopy (above it, if negative), and its 95 %
    interval, experiments resampled; None for canopy itself, and where nothing can be resampled. modalities: mean F1 at
    IoU 0.5 in each. n_images, n_seeds: how many images, and how many networks.
    """

    name: str
    f1_50: float
    f1_75: float
    behind: tuple[float, float, float] | None
    behind_75: tuple[float, float, float] | None
    modalities: Mapping[str, float]
    n_images: int
    n_seeds: int


def load_ablations(folders: Sequence[Path]) -> list[Ablation]:
    """Read all tables of canopy's predictions in some folders, best first; an image's F1 is its mean over networks.

    Raises DataError if a table lacks a column or canopy itself, or if ways were not measured on the same images.
    """
    return _load(folders, "canopy*.csv", "canopy")


def load_heights(folders: Sequence[Path]) -> list[Ablation]:
    """Read all tables of other representations' predictions in some folders, as `load_ablations` does."""
    return _load(folders, "heights*.csv", "canopy, its own decoding")


def _load(folders: Sequence[Path], pattern: str, whole: str) -> list[Ablation]:
    rows = [row for folder in folders for path in sorted(folder.glob(pattern)) for row in _read(path)]
    if not rows:
        return []
    of_way: dict[str, dict[str, list[dict[str, str]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        of_way[row["way"]][row["stem"]].append(row)
    if whole not in of_way:
        raise DataError(f"The tables {pattern} hold {', '.join(of_way)}, but not {whole!r} itself.")
    of_whole = _measured(of_way[whole])
    for way, images in of_way.items():
        if _measured(images) != of_whole:
            raise DataError(
                f"{way!r} was not measured with networks of the same seeds on the same images as {whole!r}: they "
                f"cannot be compared. Keep only tables {pattern} that were made of the same images."
            )
    if not _modalities(of_way[whole]):
        raise DataError(f"The tables {pattern} hold no image of {', '.join(HEADLINE_MODALITIES)}.")
    found = [_ablation(way, images, of_way[whole]) for way, images in of_way.items()]
    return sorted(found, key=lambda ablation: -ablation.f1_50)


Images = Mapping[str, list[dict[str, str]]]  # the rows of each image, one a network


def _ablation(way: str, images: Images, whole: Images) -> Ablation:
    modalities = {name: _mean(images, name, "f1_50") for name in _modalities(images)}
    behind = None if images is whole else _behind(images, whole, "f1_50")
    behind_75 = None if images is whole else _behind(images, whole, "f1_75")
    n_seeds = len({row["seed"] for rows in images.values() for row in rows})
    f1_50, f1_75 = _headline(images, "f1_50"), _headline(images, "f1_75")
    return Ablation(way, f1_50, f1_75, behind, behind_75, modalities, len(images), n_seeds)


def _behind(images: Images, whole: Images, column: str) -> tuple[float, float, float] | None:
    draws, whole_draws = _draws(images, column), _draws(whole, column)
    if draws is None or whole_draws is None:
        return None
    # Experiments are drawn alike for every way, so that differences are paired.
    interval = Interval.of(whole_draws[0] - draws[0], draws[1])
    return _headline(whole, column) - _headline(images, column), interval.low, interval.high


def _headline(images: Images, column: str) -> float:
    return float(np.mean([_mean(images, name, column) for name in _modalities(images)]))


def _measured(images: Images) -> set[tuple[str, str]]:
    return {(row["seed"], stem) for stem, rows in images.items() for row in rows}


def _modalities(images: Images) -> list[str]:
    there = {rows[0]["modality"] for rows in images.values()}
    return [name for name in HEADLINE_MODALITIES if name in there]


def _mean(images: Images, modality: str, column: str) -> float:
    values = [_of_image(rows, column) for rows in images.values() if rows[0]["modality"] == modality]
    return float(np.mean(values))


def _of_image(rows: Sequence[dict[str, str]], column: str) -> float:
    return float(np.mean([float(row[column]) for row in rows]))


def _draws(images: Images, column: str) -> Resampled | None:
    """The headline in each of many draws of experiments; None if a modality has a single image."""
    groups = [
        [
            (_of_image(rows, column), rows[0]["experiment"], stem)
            for stem, rows in images.items()
            if rows[0]["modality"] == modality
        ]
        for modality in _modalities(images)
    ]
    return bootstrap_groups(groups)


def _read(path: Path) -> list[dict[str, str]]:
    rows = read_table(path)
    if rows and (missing := COLUMNS - set(rows[0])):
        raise DataError(
            f"{path} has no column {', '.join(sorted(missing))}. Make it by benchmarks/canopy.py or heights.py."
        )
    return rows
