"""Datasets in the challenge layout: images/<stem>.<ext>, labels/<stem>_label.tiff, and a manifest if there is one."""

import csv
import math
import os
import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import fastremap
import numpy as np

from fewcell.data.weak import read_regions
from fewcell.errors import DataError, FewcellWarning, ReadError
from fewcell.images.read import Image, list_images, read_image, read_labels
from fewcell.types import UNKNOWN, Labels

__all__ = [
    "LABEL_SUFFIXES",
    "Sample",
    "diameter_px",
    "find_manifest",
    "load_labelled",
    "load_sample",
    "match_manifest",
    "open_dataset",
    "open_unlabelled",
    "read_manifest",
    "read_truth",
    "true_diameter_px",
]

LABEL_SUFFIXES = (".tiff", ".tif", ".png")  # small letters; files may have large ones
WEAK_SUFFIXES = {"points": ".csv", "boxes": ".csv", "regions": ".geojson"}


@dataclass(frozen=True)
class Sample:
    """One image of a dataset and what is known of it.

    labels: None for an unlabelled image. experiment: images of one plate, slide, movie or patient share it;
    test sets never split them. points, boxes: weak labels, one for each cell. regions: where every cell is annotated,
    if that is not the whole image. diameter_px: how wide the cells are, where their labels do not tell.
    window: top, left, bottom and right of the part of the image that is meant; None for all of it.
    """

    stem: str
    image: Path
    labels: Path | None
    source: str
    modality: str
    experiment: str
    licence: str = ""
    points: Path | None = None
    boxes: Path | None = None
    regions: Path | None = None
    diameter_px: float | None = None
    window: tuple[int, int, int, int] | None = None


def open_dataset(folder: Path | str, manifest: Path | str | None = None) -> list[Sample]:
    """List the images of a dataset folder, with their labels where they have some.

    folder: holds images/ and, for labelled data, labels/; for weakly labelled data points/<stem>.csv, boxes/<stem>.csv,
    and regions/<stem>.geojson where not all of an image is annotated (see `fewcell.data.weak`).
    manifest: a CSV with a row an image (columns stem, source, modality, experiment, licence; diameter_px, where labels
    do not tell how wide the cells are, or not rightly), by default manifest.csv in the folder or next to it. Without
    one, every image is an experiment of its own and the folder's name is the source. Where it has several rows of one
    stem, that of the image is told by the columns `file` and `split` (the folder's name).

    Raises DataError if there is no images folder or no image in it, if labels of any kind have no image, if two files
    are of one stem, if several rows of the manifest fit an image, and if a diameter is no positive number.
    """
    folder = Path(folder)
    if not (folder / "images").is_dir():
        raise DataError(
            f"{folder} is no dataset: it has no folder 'images'. Lay it out as images/<stem>.png and "
            "labels/<stem>_label.tiff."
        )
    try:
        images = _by_stem({path: path.stem for path in list_images([folder / "images"])})
    except ReadError as error:
        raise DataError(f"{folder} is no dataset: {error}") from None
    labels = _by_stem(
        {
            path: path.stem.removesuffix("_label")
            for path in sorted(folder.glob("labels/[!.]*"))
            if path.stem.endswith("_label") and path.suffix.lower() in LABEL_SUFFIXES
        }
    )
    weak = {
        kind: _by_stem({path: path.stem for path in sorted(folder.glob(f"{kind}/[!.]*{suffix}"))})
        for kind, suffix in WEAK_SUFFIXES.items()
    }
    orphans = sorted(set(labels).union(*weak.values()) - images.keys())
    if orphans:
        raise DataError(f"{len(orphans)} label files in {folder} have no image, for example {orphans[0]}.")
    names = {stem: path.name for stem, path in images.items()}
    rows = match_manifest(read_manifest(manifest or find_manifest(folder)), folder, names)
    return [
        _sample(path, labels.get(stem), {kind: files.get(stem) for kind, files in weak.items()}, rows[stem], folder)
        for stem, path in images.items()
    ]


def open_unlabelled(paths: Sequence[Path | str]) -> list[Sample]:
    """List images to learn from without labels: files, folders of images, and datasets, whose labels are left alone.

    Points and boxes of a dataset are kept; they are no labels. Raises as `open_dataset` does, and ReadError for what is
    no image.
    """
    datasets = [path for path in map(Path, paths) if (path / "images").is_dir()]
    samples = [replace(sample, labels=None) for folder in datasets for sample in open_dataset(folder)]
    for image in list_images(path for path in map(Path, paths) if path not in datasets):
        name = Path(os.path.realpath(image)).parent.name
        samples.append(Sample(image.stem, image, None, name, "unknown", f"{name}/{image.stem}"))
    return samples


def read_manifest(path: Path | str | None) -> list[dict[str, str]]:
    """Read a manifest CSV as one dictionary a row; None gives no rows.

    Raises DataError if the file is missing or lacks the column 'stem'.
    """
    if path is None:
        return []
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:  # spreadsheets begin a CSV with a mark
            reader = csv.DictReader(file)
            columns, rows = reader.fieldnames or (), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"The manifest {path} cannot be read: {error}.") from None
    if "stem" not in columns:
        found = f"its columns are {', '.join(columns)}" if columns else "its first line is empty"
        advice = " Separate columns by commas." if ";" in "".join(columns) else ""
        raise DataError(f"The manifest {path} has no column 'stem'; {found}.{advice}")
    return rows


def find_manifest(folder: Path) -> Path | None:
    """The manifest of a dataset folder: in it, or beside it."""
    for candidate in (folder / "manifest.csv", folder.resolve().parent / "manifest.csv"):
        if candidate.is_file():
            return candidate
    return None


def match_manifest(
    manifest: Iterable[dict[str, str]], folder: Path, names: Mapping[str, str]
) -> dict[str, dict[str, str]]:
    """Find the row of every image of a dataset folder, by stem; an image without a row gets an empty one.

    names: stem -> the image's file name, or the stem again where the image itself is not there. Of several rows of
    one stem, those count whose `file` is the image, and of these, those whose `split` is the folder's name.

    Warns if there are rows, but not for every image. Raises DataError if that leaves several.
    """
    rows = defaultdict(list)
    for row in manifest:
        rows[row["stem"]].append(row)
    without = [stem for stem in names if stem not in rows]
    if rows and without:
        warnings.warn(
            f"The manifest has no row for {len(without)} of the {len(names)} images of {folder}, such as "
            f"{', '.join(without[:3])}: each counts as an experiment of its own. Its column 'stem' holds names of "
            "files without their suffix.",
            FewcellWarning,
            stacklevel=2,
        )
    return {stem: _row_of(name, rows[stem], folder) for stem, name in names.items()}


def load_sample(sample: Sample) -> tuple[Image, Labels | None]:
    """Read a sample's image and labels; beyond its regions, what is no cell is UNKNOWN.

    Raises ReadError for a file that cannot be read, DataError if image and labels differ in size.
    """
    image = read_image(sample.image)
    top, left, bottom, right = sample.window or (0, 0, *image.pixels.shape[1:])
    part = np.s_[..., top:bottom, left:right]
    if sample.labels is None:
        return replace(image, pixels=image.pixels[part]), None
    labels = read_truth(sample.labels, sample.regions)
    if labels.shape != image.pixels.shape[1:]:
        raise DataError(
            f"{sample.labels} is {labels.shape[0]} x {labels.shape[1]} but its image is "
            f"{image.pixels.shape[1]} x {image.pixels.shape[2]}. They must be equal."
        )
    return replace(image, pixels=image.pixels[part]), labels[part]


def load_labelled(sample: Sample) -> tuple[Image, Labels, float | None]:
    """As `load_sample`, and how wide the cells are (`true_diameter_px`). Raises DataError for one without labels."""
    image, labels = load_sample(sample)
    if labels is None:
        raise DataError(f"{sample.image} has no labels.")
    return image, labels, true_diameter_px(sample, labels)


def read_truth(labels: Path, regions: Path | None) -> Labels:
    """Read labels; beyond the regions, if there are any, what is no cell is UNKNOWN. Raises as `load_sample` does."""
    truth = read_labels(labels)
    if regions is not None:
        truth[(truth == 0) & ~read_regions(regions, (truth.shape[0], truth.shape[1]))] = UNKNOWN
    return truth


def diameter_px(labels: Labels) -> float | None:
    """The median diameter of the cells: that of the circle of equal area. None if there is no cell."""
    area = fastremap.unique(labels[labels > 0], return_counts=True)[1]
    return float(np.median(2 * np.sqrt(area / np.pi))) if len(area) else None


def true_diameter_px(sample: Sample, labels: Labels) -> float | None:
    """How wide the cells of a sample are: as it says itself (a part of an image cuts many), or as its labels do."""
    return sample.diameter_px or diameter_px(labels)


def _by_stem(stems: dict[Path, str]) -> dict[str, Path]:
    """Turn file -> stem into stem -> file."""
    found: dict[str, Path] = {}
    for path, stem in stems.items():
        if stem in found:
            raise DataError(f"{found[stem]} and {path.name} are of one stem, {stem!r}: keep one of them.")
        found[stem] = path
    return found


def _row_of(name: str, rows: list[dict[str, str]], folder: Path) -> dict[str, str]:
    """The row of an image among a manifest's rows of its stem; no row gives an empty one."""
    split = folder.resolve().name

    def by_file(row: dict[str, str]) -> bool:
        file = PurePosixPath(row.get("file") or "")
        place = (split, "images", file.name)
        parts = file.parts[-len(place) :]
        return name in (file.name, file.stem) and place[-len(parts) :] == parts

    rows = list(filter(by_file, rows)) or rows
    rows = [row for row in rows if row.get("split") == split] or rows
    if len(rows) > 1:
        raise DataError(
            f"The manifest has {len(rows)} rows for {folder / 'images' / name}, and neither their column 'file' nor "
            f"'split' (here {split!r}, the folder's name) tells which. Keep one row an image."
        )
    return rows[0] if rows else {}


def _sample(
    image: Path, labels: Path | None, weak: dict[str, Path | None], row: dict[str, str], folder: Path
) -> Sample:
    stem, name = image.stem, folder.resolve().name
    return Sample(
        stem=stem,
        image=image,
        labels=labels,
        source=row.get("source") or name,
        modality=row.get("modality") or "unknown",
        experiment=row.get("experiment") or f"{name}/{stem}",  # two folders may hold files of one name
        licence=row.get("licence") or "not stated",
        points=weak["points"],
        boxes=weak["boxes"],
        regions=weak["regions"],
        diameter_px=_diameter_of(row, image),
    )


def _diameter_of(row: dict[str, str], image: Path) -> float | None:
    """How wide the cells of an image are, as its row says."""
    text = (row.get("diameter_px") or "").strip()
    if not text:
        return None
    try:
        diameter = float(text)
    except ValueError:
        diameter = math.nan
    if not 0 < diameter < math.inf:
        raise DataError(f"The manifest's diameter_px of {image.name} is {text!r}; give pixels, or leave it empty.")
    return diameter
