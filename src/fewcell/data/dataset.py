"""Datasets in the challenge layout: images/<stem>.<ext>, labels/<stem>_label.tiff, and a manifest if there is one."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fewcell.errors import DataError
from fewcell.images.read import Image, list_images, read_image, read_labels
from fewcell.types import Labels

__all__ = ["Sample", "diameter_px", "load_sample", "open_dataset", "read_manifest"]


@dataclass(frozen=True)
class Sample:
    """One image of a dataset and what is known of it.

    labels: None for an unlabelled image. experiment: images of one plate, slide, movie or patient share it;
    they are never split.
    """

    stem: str
    image: Path
    labels: Path | None
    source: str
    modality: str
    experiment: str
    licence: str = ""


def open_dataset(folder: Path | str, manifest: Path | str | None = None) -> list[Sample]:
    """List the images of a dataset folder, with their labels where they have some.

    folder: holds images/ and, for labelled data, labels/. manifest: a CSV with a row an image (columns stem,
    source, modality, experiment, licence), by default manifest.csv in the folder or next to it. Without one,
    every image is an experiment of its own and the folder's name is the source.

    Raises DataError if there is no images folder or no image in it, and if labels have no image.
    """
    folder = Path(folder)
    if not (folder / "images").is_dir():
        raise DataError(
            f"{folder} is no dataset: it has no folder 'images'. Lay it out as images/<stem>.png and "
            "labels/<stem>_label.tiff."
        )
    images = {path.stem: path for path in list_images([folder / "images"])}
    if not images:
        raise DataError(f"{folder / 'images'} holds no image that can be read.")
    labels = {p.name.removesuffix("_label.tiff"): p for p in sorted(folder.glob("labels/*_label.tiff"))}
    orphans = sorted(labels.keys() - images.keys())
    if orphans:
        raise DataError(f"{len(orphans)} label files in {folder} have no image, for example {orphans[0]}.")
    rows = {row["stem"]: row for row in read_manifest(manifest or find_manifest(folder))}
    return [
        _sample(stem, path, labels.get(stem), rows.get(stem, {}), folder) for stem, path in images.items()
    ]


def read_manifest(path: Path | str | None) -> list[dict[str, str]]:
    """Read a manifest CSV as one dictionary a row; None gives no rows.

    Raises DataError if the file is missing or lacks the column 'stem'.
    """
    if path is None:
        return []
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"The manifest {path} cannot be read: {error}.") from None
    if "stem" not in (reader.fieldnames or ()):
        raise DataError(f"The manifest {path} has no column 'stem'; it has {reader.fieldnames}.")
    return rows


def find_manifest(folder: Path) -> Path | None:
    """The manifest of a dataset folder: in it, or beside it."""
    for candidate in (folder / "manifest.csv", folder.resolve().parent / "manifest.csv"):
        if candidate.is_file():
            return candidate
    return None


def load_sample(sample: Sample) -> tuple[Image, Labels | None]:
    """Read a sample's image and labels.

    Raises ReadError for a file that cannot be read, DataError if image and labels differ in size.
    """
    image = read_image(sample.image)
    if sample.labels is None:
        return image, None
    labels = read_labels(sample.labels)
    if labels.shape != image.pixels.shape[1:]:
        raise DataError(
            f"{sample.labels} is {labels.shape[0]} x {labels.shape[1]} but its image is "
            f"{image.pixels.shape[1]} x {image.pixels.shape[2]}. They must be equal."
        )
    return image, labels


def diameter_px(labels: Labels) -> float | None:
    """The median diameter of the cells: that of the circle of equal area. None if there is no cell."""
    area = np.bincount(labels[labels > 0].ravel())
    area = area[area > 0]
    return float(np.median(2 * np.sqrt(area / np.pi))) if len(area) else None


def _sample(stem: str, image: Path, labels: Path | None, row: dict[str, str], folder: Path) -> Sample:
    name = folder.resolve().name
    return Sample(
        stem=stem,
        image=image,
        labels=labels,
        source=row.get("source") or name,
        modality=row.get("modality") or "unknown",
        experiment=row.get("experiment") or stem,
        licence=row.get("licence") or "not stated",
    )


def count_by(samples: Sequence[Sample], attribute: str) -> dict[str, int]:
    """How many samples have each value of an attribute, largest first."""
    values, counts = np.unique([getattr(s, attribute) for s in samples], return_counts=True)
    return {str(values[i]): int(counts[i]) for i in np.argsort(-counts, kind="stable")}
