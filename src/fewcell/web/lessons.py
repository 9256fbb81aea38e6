"""What was corrected, as a dataset to learn from: crops in the challenge layout, UNKNOWN where nobody looked."""

import glob
import re
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tifffile
from PIL import Image as PillowImage

from fewcell.errors import ReadError
from fewcell.images import Slide, read_around_damage, read_labels, whole_file, write_labels
from fewcell.types import UNKNOWN, Labels, Window
from fewcell.web.cells import Cells
from fewcell.windows import common, grown, joined, meet, pixels_in, slices

__all__ = [
    "Crop",
    "copy_lessons",
    "count_lessons",
    "crop_windows",
    "crops_named",
    "keep_crops",
    "known_labels",
    "write_crops",
]

MOST_CROP_PX = 12_000_000  # of several corrections together, all of which is in memory
MOST_ALONE_PX = 60_000_000  # of one correction, which may be long and narrow; of more, as older logs may hold, nothing
MARGIN_PX = 48  # of the image around what is known, so that a network sees what cells lie in
ENDINGS = {"labels": ("_label.tiff",), "images": (".png", ".tif")}
CROP = re.compile(r"(?P<image>.+)@(?P<model>[^@]+)-(?P<token>[0-9a-f]{8})-(?P<window>\d+(-\d+){3})")


class Crop(NamedTuple):
    """A crop of a dataset: its labels, when they were written, and the image and the window that it shows."""

    path: Path
    changed: int
    image: str
    window: Window


def crops_named(image: str, model: str, token: str) -> str:
    """How the names of crops begin that were made of the cells of a model. token: eight hexadecimal digits."""
    return f"{image}@{model}-{token}"


def keep_crops(folder: Path, image: str, model: str, token: str) -> None:
    """Give another token to all crops made of a model's cells, so that those of its next cells do not replace them."""
    for kind in ("images", "labels"):  # labels without an image are no dataset, should this be interrupted
        for path in (folder / kind).glob(f"{glob.escape(image)}@*"):
            stem, ending = _parted(path, ENDINGS[kind])
            found = CROP.fullmatch(stem)
            if found and (found["image"], found["model"]) == (image, model):
                path.rename(path.with_name(f"{crops_named(image, model, token)}-{found['window']}{ending}"))


def count_lessons(folder: Path) -> dict[str, int]:
    """How many crops there are to learn from, and how many cells are known in them; see `copy_lessons`."""
    counts = [_count(crop, newer) for crop, newer in _crops_and_newer(folder)]
    return {"crops": sum(count > 0 for count in counts), "cells": sum(counts)}


def copy_lessons(folder: Path, to: Path) -> None:
    """Copy the crops to learn from, as a dataset of its own; what is taken away meanwhile is left out.

    One image may be corrected with several models, or again, and crops may meet. What is known by a newer crop is
    UNKNOWN in older ones: the latest word counts, and nothing is both learned and held out. Crops in which no cell is
    known are left out, for nothing says how wide cells are there.
    """
    for kind in ENDINGS:
        (to / kind).mkdir(parents=True)
    for crop, newer in _crops_and_newer(folder):
        if not _count(crop, newer):
            continue
        stem, ending = _parted(crop.path, ENDINGS["labels"])
        images = (folder / "images" / f"{stem}{end}" for end in ENDINGS["images"])
        image = next((path for path in images if path.exists()), None)
        if image is not None:
            with suppress(FileNotFoundError):
                labels = _own_labels(crop, newer)
                shutil.copyfile(image, to / "images" / image.name)
                write_labels(to / "labels" / f"{stem}{ending}", labels)


def _crops(folder: Path) -> list[Crop]:
    """The crops of a dataset, the newest first."""
    crops = []
    for path in (folder / "labels").glob("[!.]*_label.tiff"):
        if found := CROP.fullmatch(_parted(path, ENDINGS["labels"])[0]):
            with suppress(FileNotFoundError):
                top, left, bottom, right = map(int, found["window"].split("-"))
                crops.append(Crop(path, path.stat().st_mtime_ns, found["image"], (top, left, bottom, right)))
    return sorted(crops, key=lambda crop: (-crop.changed, crop.path.name))


def _crops_and_newer(folder: Path) -> list[tuple[Crop, tuple[Crop, ...]]]:
    """Every crop, and those newer than it that show a part of what it shows."""
    crops = _crops(folder)
    return [
        (crop, tuple(other for other in crops[:i] if other.image == crop.image and meet(other.window, crop.window)))
        for i, crop in enumerate(crops)
    ]


@lru_cache(4096)
def _count(crop: Crop, newer: tuple[Crop, ...]) -> int:
    """How many cells are known by a crop; none if it is gone."""
    try:
        return int((np.unique(_own_labels(crop, newer)) > 0).sum())
    except FileNotFoundError:
        return 0


def _own_labels(crop: Crop, newer: Sequence[Crop]) -> Labels:
    """The labels of a crop, UNKNOWN where newer ones know better, and where they know something of the same cell."""
    labels = _read(crop)
    known = np.zeros(labels.shape, dtype=bool)
    for other in newer:
        both = common(crop.window, other.window)
        known[slices(both, crop.window)] |= _read(other)[slices(both, other.window)] != UNKNOWN
    told = np.unique(labels[known & (labels > 0)])
    return np.where(known | np.isin(labels, told), UNKNOWN, labels).astype(np.int32)


def _read(crop: Crop) -> Labels:
    """The labels of a crop. Raises FileNotFoundError if it was taken away, as corrections do at any time."""
    try:
        return read_labels(crop.path)
    except ReadError:
        if not crop.path.exists():
            raise FileNotFoundError(crop.path) from None
        raise


def _parted(path: Path, endings: Sequence[str]) -> tuple[str, str]:
    """The name of a file, parted before its ending."""
    ending = next((ending for ending in endings if path.name.endswith(ending)), "")
    return path.name.removesuffix(ending), ending


def write_crops(cells: Cells, slide: Slide, folder: Path, name: str, changed: Window | None = None) -> None:
    """Write what is known of an image as crops, and remove those that are no longer so.

    folder: of the dataset. name: how the names of this image's crops begin. changed: where the latest change was; crops
    that are there already and do not meet it stay as they are. By default all are looked at. What is as it should be
    is not written again, for it would count as newer.
    """
    wanted: set[str] = set()
    for window in crop_windows(cells):
        stem = f"{name}-{'-'.join(map(str, window))}"
        target = folder / "labels" / f"{stem}_label.tiff"
        if changed is None or meet(window, changed) or not target.exists():
            labels = known_labels(cells, window)
            _write_image(folder / "images" / stem, slide, window, cells.plan.task.channels)
            if not (target.exists() and np.array_equal(read_labels(target), labels)):
                write_labels(target, labels, pixel_size_um=cells.plan.task.pixel_size_um, overwrite=True)
        wanted.add(stem)
    for kind, endings in ENDINGS.items():
        for path in (folder / kind).glob(f"{glob.escape(name)}-*"):
            stem, ending = _parted(path, endings)
            if ending and stem not in wanted:
                path.unlink()


def crop_windows(cells: Cells) -> list[Window]:
    """The parts of an image to be learned from: around what is known, those that meet as one."""
    state = cells.state
    looked = [one.window for one in cells.corrections if one.kind != "region"]
    windows = [grown(window, MARGIN_PX, cells.shape) for window in (*state.regions, *looked)]
    return sorted(window for window in _joined(windows) if pixels_in(window) <= MOST_ALONE_PX)


def known_labels(cells: Cells, window: Window) -> Labels:
    """The labels in a window as far as people have seen to them, UNKNOWN elsewhere.

    Known are: all in regions, and cells that reach out of them; cells that were confirmed or made by people; and
    background where a cell was removed.
    """
    labels, state = cells.read(window), cells.state
    is_region = np.zeros(labels.shape, dtype=bool)
    for region in state.regions:
        is_region[slices(region, window)] = True
    known = is_region.copy()
    for one in cells.corrections:
        if one.patch is not None and meet(one.window, window):
            both = common(one.window, window)
            here = slices(both, window)
            changed = np.full(labels[here].shape, -1, dtype=np.int32)
            one.lay_over(changed, both)
            known[here] |= (changed == 0) & (labels[here] == 0)
    sure = {*np.unique(labels[is_region]).tolist(), *state.confirmed, *state.added}
    known |= (labels > 0) & np.isin(labels, list(sure))
    return np.where(known, labels, UNKNOWN).astype(np.int32)


def _joined(windows: Iterable[Window]) -> list[Window]:
    """Windows around the same parts, those that meet as one, as long as that is not too large."""
    apart: list[Window] = []
    for window in windows:
        while near := next(
            (other for other in apart if meet(window, other) and _is_small(joined(window, other))), None
        ):
            apart.remove(near)
            window = joined(window, near)
        apart.append(window)
    return apart


def _is_small(window: Window) -> bool:
    return pixels_in(window) <= MOST_CROP_PX


def _write_image(stem: Path, slide: Slide, window: Window, channels: Sequence[int] | None) -> None:
    """Write a part of a slide, if it is not there: 8-bit pictures as PNG, others as TIFF with their own numbers."""
    png, tiff = (stem.with_name(stem.name + ending) for ending in (".png", ".tif"))
    if png.exists() or tiff.exists():
        return
    pixels = read_around_damage(slide, window, channels=channels)
    if pixels.dtype == np.uint8 and len(pixels) in (1, 3):
        with whole_file(png) as temporary:
            picture = pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0))
            PillowImage.fromarray(picture).save(temporary, format="PNG")
        return
    with whole_file(tiff) as temporary:
        tifffile.imwrite(temporary, pixels, photometric="minisblack", metadata={"axes": "CYX"}, ome=True)
