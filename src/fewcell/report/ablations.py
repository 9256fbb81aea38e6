"""What the parts of canopy are worth: its predictions read in other ways, as `benchmarks/canopy.py` wrote them down."""

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fewcell.benchmark import HEADLINE_MODALITIES
from fewcell.benchmark.summary import bootstrap
from fewcell.errors import DataError

__all__ = ["Ablation", "load_ablations"]

WHOLE = "canopy"  # the way that all others are compared with
PATTERN = "canopy*.csv"
COLUMNS = {"way", "seed", "stem", "modality", "experiment", "f1_50", "f1_75"}


@dataclass(frozen=True)
class Ablation:
    """One way of reading the same predictions: means over the headline's modalities that there are.

    f1_50, f1_75: mean F1. behind: how far F1 at IoU 0.5 is below that of canopy (above it, if negative), and its 95 %
    interval, experiments resampled; None for canopy itself, and where nothing can be resampled. modalities: mean F1 at
    IoU 0.5 in each. n_images, n_seeds: how many images, and how many networks.
    """

    name: str
    f1_50: float
    f1_75: float
    behind: tuple[float, float, float] | None
    modalities: Mapping[str, float]
    n_images: int
    n_seeds: int


def load_ablations(folders: Sequence[Path]) -> list[Ablation]:
    """Read all tables of that name in some folders, best first; an image's F1 is its mean over networks.

    Raises DataError if a table lacks a column or canopy itself, or if ways were not measured on the same images.
    """
    rows = [row for folder in folders for path in sorted(folder.glob(PATTERN)) for row in _read(path)]
    if not rows:
        return []
    of_way: dict[str, dict[str, list[dict[str, str]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        of_way[row["way"]][row["stem"]].append(row)
    if WHOLE not in of_way:
        raise DataError(f"The tables of what parts are worth hold {', '.join(of_way)}, but not {WHOLE!r} itself.")
    of_whole = _measured(of_way[WHOLE])
    for way, images in of_way.items():
        if _measured(images) != of_whole:
            raise DataError(
                f"{way!r} was not measured with the same networks on the same images as {WHOLE!r}: they cannot be "
                "compared. Keep only tables that benchmarks/canopy.py made of the same images."
            )
    if not _modalities(of_way[WHOLE]):
        raise DataError(f"The tables of what parts are worth hold no image of {', '.join(HEADLINE_MODALITIES)}.")
    found = [_ablation(way, images, of_way[WHOLE]) for way, images in of_way.items()]
    return sorted(found, key=lambda ablation: -ablation.f1_50)


Images = Mapping[str, list[dict[str, str]]]  # the rows of each image, one a network


def _ablation(way: str, images: Images, whole: Images) -> Ablation:
    modalities = {name: _mean(images, name, "f1_50") for name in _modalities(images)}
    f1_75 = float(np.mean([_mean(images, name, "f1_75") for name in modalities]))
    f1_50, of_whole = (float(np.mean([_mean(its, name, "f1_50") for name in modalities])) for its in (images, whole))
    behind, draws, whole_draws = None, _draws(images), _draws(whole)
    if way != WHOLE and draws is not None and whole_draws is not None:
        # Experiments are drawn alike for every way, so that differences are paired.
        low, high = np.quantile(whole_draws - draws, (0.025, 0.975))
        behind = (of_whole - f1_50, float(low), float(high))
    n_seeds = len({row["seed"] for rows in images.values() for row in rows})
    return Ablation(way, f1_50, f1_75, behind, modalities, len(images), n_seeds)


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


def _draws(images: Images) -> NDArray[np.float64] | None:
    """The headline in each of many draws of experiments; None if a modality has a single image."""
    drawn = []
    for modality in _modalities(images):
        its = {stem: rows for stem, rows in images.items() if rows[0]["modality"] == modality}
        means = bootstrap(
            [_of_image(rows, "f1_50") for rows in its.values()],
            [rows[0]["experiment"] for rows in its.values()],
            [*its],
        )
        if means is None:
            return None
        drawn.append(means[0])
    return np.mean(drawn, axis=0)


def _read(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = COLUMNS - set(reader.fieldnames or ())
        if missing:
            raise DataError(f"{path} has no column {', '.join(sorted(missing))}. Make it by benchmarks/canopy.py.")
        return list(reader)
