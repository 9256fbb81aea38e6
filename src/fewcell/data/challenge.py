"""The public archives of the NeurIPS 2022 Cell Segmentation Challenge, laid out as a dataset folder.

J. Ma et al., The multimodality cell segmentation challenge: toward universal solutions, Nature Methods 21,
1103-1113 (2024). The archives hold, below whatever folders they were unpacked into:

    Training-labeled/{images,labels}                -> train
    Tuning/{images,labels}                          -> validation
    Testing/Public/{images,labels}                  -> test
    Testing/Public/{WSI,WSI-labels}                 -> slides (not opened: too large to be read whole)
    Testing/Hidden, Testing/Public/*osilab_seg*     -> left out: a contestant's predictions, no truth
    release-part1, in train-unlabeled-part1.zip     -> unlabelled
    train-unlabeled-part2                           -> slides (not opened)
"""

import csv
import re
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from fewcell.data.archive import PackedFile, list_files, place_files, require_space
from fewcell.data.dataset import diameter_px
from fewcell.errors import DataError, ReadError, TooLargeError, WriteError
from fewcell.images.read import SUFFIXES, read_image, read_labels

__all__ = ["WHERE_TO_GET_IT", "ChallengeReport", "lay_out_challenge"]

WHERE_TO_GET_IT = (
    "Download Training-labeled.zip, Tuning.zip, Testing.zip and, for self-training, "
    "train-unlabeled-part1.zip and train-unlabeled-part2.zip (slides) from "
    "https://zenodo.org/records/10719375 into one folder. Leave them zipped or unpack them. "
    "Any of them may be missing. Licence of the images: CC BY-NC-ND 4.0."
)

# fmt: off
_COLUMNS = (
    "split", "stem", "file", "source", "modality", "subject", "height", "width", "dtype", "channels",
    "n_instances", "median_diameter_px", "label_quality", "experiment", "resampled", "licence",
)
# fmt: on

# The published number of images in each split; of the unlabelled ones there are some more than this.
_PUBLISHED = {"train": 1000, "validation": 101, "test": 50, "unlabelled": 1500}
_NEED_LABELS = ("train", "validation", "test")

# Folder names in lower case without punctuation. The innermost folder that matches decides, and only folders
# of one role may lie below it: so Testing/Hidden/images and Testing/Public/osilab_seg/labels are left out.
_SPLIT_OF_FOLDER = {
    r"train(ing)?label+ed": "train",
    r"tuning(set)?": "validation",
    r"testing|(test(ing)?)?public": "test",
    r"(train(ing)?unlabel+ed|release)part2.*": "slides",
    r"(train(ing)?unlabel+ed|release)(part1)?": "unlabelled",
}
_ROLE_OF_FOLDER = {"images": "images", "labels": "labels", "wsi": "images", "wsilabels": "labels"}
_SUFFIXES_OF_ROLE = {"images": SUFFIXES, "labels": (".tif", ".tiff")}


@dataclass(frozen=True)
class ChallengeReport:
    """What was laid out, and what was wrong with the rest.

    counts: the number of images of each split in `out`.
    warnings: worth knowing, though nothing is broken: a missing part, a count that is not the published one.
    problems: files left out, because an image and its labels do not fit together or cannot be read.
    """

    out: Path
    counts: dict[str, int]
    warnings: tuple[str, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True)
class _Entry:
    """One file of the archives with its part in the dataset: `role` is 'images' or 'labels'."""

    split: str
    role: str
    file: PackedFile

    @property
    def stem(self) -> str:
        stem = PurePosixPath(self.file.name).stem
        return stem.removesuffix("_label") if self.role == "labels" else stem

    @property
    def target(self) -> str:
        suffix = PurePosixPath(self.file.name).suffix.lower() if self.role == "images" else "_label.tiff"
        return f"{self.split}/{self.role}/{self.stem}{suffix}"


@dataclass(frozen=True)
class _Item:
    """One image to lay out, with its labels where it has any."""

    image: _Entry
    labels: _Entry | None

    @property
    def entries(self) -> list[_Entry]:
        return [self.image, self.labels] if self.labels else [self.image]


def lay_out_challenge(folder: Path, out: Path) -> ChallengeReport:
    """Turn the downloaded archives of the challenge into a dataset folder, and check every image in it.

    `folder` holds the archives as zip files or unpacked, in any nesting (see `WHERE_TO_GET_IT`). `out` gets
    train, validation and test (images and labels), unlabelled and slides, and manifest.csv. Files keep their
    bytes: they are hard links where the disk allows it, else copies; labels are named <stem>_label.tiff.
    A labelled image is left out and listed under `problems` unless its labels are whole numbers in two
    dimensions, of its own height and width, with one cell or more; an unlabelled one that cannot be read is
    left out with a warning. `out` appears at the end, complete, or not at all.
    Raises DataError (no part of the challenge found, a damaged or unsafe zip) and WriteError (`out` is not
    empty, the disk is too full).
    """
    folder, out = Path(folder), Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise WriteError(f"{out} exists already and is not an empty folder: remove it or choose another -o.")
    entries, found_warnings = _find_entries(folder)
    items, unpaired = _pair(entries)
    if not items:
        raise DataError(
            f"No image of the challenge was found in {folder}: it needs a zip or a folder named "
            f"Training-labeled, Tuning, Testing/Public or release-part1. {WHERE_TO_GET_IT}"
        )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        require_space((entry.file for item in items for entry in item.entries), out.parent)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
            # A folder inside the temporary one, because that one is closed to other users.
            root = Path(scratch) / "layout"
            place_files((entry.file, root / entry.target) for item in items for entry in item.entries)
            rows, warnings, problems = _check(items, root)
            _write_manifest(root / "manifest.csv", rows)
            if out.exists():
                out.rmdir()
            root.rename(out)
    except OSError as error:
        raise WriteError(f"Cannot write {out}: {error}. Free some space or choose another -o.") from error
    counts = Counter(str(row["split"]) for row in rows)
    warnings = found_warnings + warnings + _compare_with_published(counts)
    return ChallengeReport(out, dict(counts), tuple(warnings), tuple(unpaired + problems))


def _find_entries(folder: Path) -> tuple[list[_Entry], list[str]]:
    """Every image and label file below `folder`, unpacked or zipped; of two equal names the unpacked."""
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder. {WHERE_TO_GET_IT}")
    found: dict[tuple[str, str, str], _Entry] = {}
    twice, ignored = [], []
    for file in list_files(folder):
        split, role = _classify((folder.resolve().name, *file.parts[:-1]))
        if role is None:
            continue
        if PurePosixPath(file.name).suffix.lower() not in _SUFFIXES_OF_ROLE[role]:
            ignored.append("/".join(file.parts))
        elif (split, role, file.name) in found:
            twice.append("/".join(file.parts))
        else:
            found[split, role, file.name] = _Entry(split, role, file)
    warnings = []
    if twice:
        warnings.append(f"{len(twice)} files are there twice, the first found is used: {twice[0]}, ...")
    if ignored:
        warnings.append(f"{len(ignored)} files are no images and were ignored: {ignored[0]}, ...")
    return list(found.values()), warnings


def _classify(folders: tuple[str, ...]) -> tuple[str, str | None]:
    """The split and role of the files in a folder, from the folders on the way to it; role None: left out."""
    names = [re.sub("[^a-z0-9]", "", name.lower()) for name in folders]
    for index in reversed(range(len(names))):
        for pattern, split in _SPLIT_OF_FOLDER.items():
            if re.fullmatch(pattern, names[index]):
                return _role(split, set(names[index + 1 :]))
    return "", None


def _role(split: str, below: set[str]) -> tuple[str, str | None]:
    if split in ("unlabelled", "slides"):
        return split, "images" if below <= {"images"} else None
    kind = below.pop() if len(below) == 1 else ""
    return "slides" if kind.startswith("wsi") else split, _ROLE_OF_FOLDER.get(kind)


def _pair(entries: list[_Entry]) -> tuple[list[_Item], list[str]]:
    """Bring images and labels of one stem together; those that cannot be paired are named."""
    by_stem: dict[tuple[str, str], list[_Entry]] = {}
    for entry in entries:
        by_stem.setdefault((entry.split, entry.stem), []).append(entry)
    items, problems = [], []
    for (split, stem), group in sorted(by_stem.items()):
        images = [entry for entry in group if entry.role == "images"]
        labels = [entry for entry in group if entry.role == "labels"]
        names = ", ".join(entry.file.name for entry in group)
        if len(images) > 1 or len(labels) > 1:
            problems.append(f"{split}/{stem}: several files of this name, it is unclear which to use: {names}")
        elif not images:
            problems.append(f"{split}/{stem}: labels without an image: {names}")
        elif not labels and split in _NEED_LABELS:
            problems.append(f"{split}/{stem}: image without labels; expected {stem}_label.tiff")
        else:
            items.append(_Item(images[0], labels[0] if labels else None))
    return items, problems


def _check(items: list[_Item], root: Path) -> tuple[list[dict[str, Any]], list[str], list[str]]:
    """A manifest row for every good image, warnings, problems; bad images are taken out of `root` again."""
    rows, warnings, problems = [], [], []
    for item in items:
        row: dict[str, Any] = {
            "split": item.image.split,
            "stem": item.image.stem,
            "file": item.image.target,
            "source": "neurips22",
            "label_quality": "" if item.labels else "none",
            "resampled": 1,
            "licence": "CC BY-NC-ND 4.0",
        }
        try:
            row |= _measure(item, root)
        except TooLargeError:
            warnings.append(f"{item.image.target}: not checked, it would not fit into memory")
        except (ReadError, DataError) as error:
            reason = str(error).replace(f"{root}/", "")
            # The published unlabelled images are known to hold one that is cut short: no alarm for those.
            (problems if item.labels else warnings).append(f"{item.image.target} is left out: {reason}")
            for entry in item.entries:
                (root / entry.target).unlink()
            continue
        rows.append(row)
    return rows, warnings, problems


def _measure(item: _Item, root: Path) -> dict[str, Any]:
    """How large an image is and how many cells its labels show. Slides are not opened."""
    if item.image.split == "slides":
        return {}
    channels, height, width = read_image(root / item.image.target).pixels.shape
    measures: dict[str, Any] = {"height": height, "width": width, "channels": channels}
    if item.labels:
        labels = read_labels(root / item.labels.target)
        if labels.shape != (height, width):
            rows, columns = labels.shape
            raise DataError(f"it is {height} x {width} pixels, its labels are {rows} x {columns}.")
        diameter = diameter_px(labels)
        if diameter is None:
            raise DataError("its labels hold no cell.")
        measures["n_instances"] = len(np.unique(labels[labels > 0]))
        measures["median_diameter_px"] = round(diameter, 1)
    return measures


def _write_manifest(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        writer.writerows([row.get(column, "") for column in _COLUMNS] for row in rows)


def _compare_with_published(counts: Counter[str]) -> list[str]:
    """A line for every split whose size is not the published one, as when an archive was not downloaded."""
    lines = []
    for split, published in _PUBLISHED.items():
        more = "more than " if split == "unlabelled" else ""
        if counts[split] != published and not (more and counts[split] > published):
            lines.append(f"{split}: {counts[split]} images laid out, {more}{published} were published")
    return lines
