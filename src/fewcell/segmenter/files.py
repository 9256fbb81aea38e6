"""Files in, files out: the labels, overlay and table of each image, whole or not at all."""

import os
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from fewcell import __version__
from fewcell.ahead import ahead
from fewcell.engine import available_threads
from fewcell.errors import ConfigError, FewcellError, TooLargeError, WriteError, said_of
from fewcell.images import (
    Image,
    check_free,
    give_memory_back,
    measure_cells,
    normalise,
    put_in_place,
    read_image,
    write_cells,
    write_labels,
    write_overlay,
)
from fewcell.segmenter.model_folder import hashes_of
from fewcell.segmenter.segmenter import Segmentation, Segmenter, scale_facts

__all__ = [
    "Failed",
    "FileSettings",
    "Segmented",
    "check_alone",
    "check_no_input",
    "failed",
    "segment_files",
]

AT_ONCE = 2  # files that are worked on at the same time
SMALL_PX = 4_000_000  # of those that are larger one is segmented at a time, while the next is read
ONE_BY_ONE = Lock()
OUTPUTS = {"cells": "_cells.csv", "overlay": "_overlay.png", "labels": "_label.tiff"}


@dataclass(frozen=True)
class FileSettings:
    """What to do with every file.

    channels: which channels the model sees, in order, counted from 0; all are measured. diameter: in pixels, or in
    micrometres with diameter_in_um; None estimates it for each image. pixel_size_um: overrides that of the file.
    min_score: None is the model's own. axes, plane: see `read_image`.
    """

    channels: tuple[int, ...] | None = None
    axes: str | None = None
    plane: dict[str, int] | None = None
    diameter: float | None = None
    diameter_in_um: bool = False
    pixel_size_um: float | None = None
    min_score: float | None = None
    min_area_px: float = 0
    overwrite: bool = False

    def diameter_px(self, path: Path, pixel_size_um: float | None) -> float | None:
        """The diameter in pixels of a file; None if it is to be estimated. pixel_size_um: of the file, if known.

        Raises ConfigError for micrometres where nobody says how large a pixel is.
        """
        if self.diameter is None or not self.diameter_in_um:
            return self.diameter
        if pixel_size_um is None:
            raise ConfigError(
                f"{path}: a diameter in um needs the pixel size, which the file does not say. Add --pixel-size UM, "
                "or give the diameter in pixels."
            )
        return self.diameter / pixel_size_um


@dataclass(frozen=True)
class Segmented:
    """A file that was segmented: its cells, the scale at which they were found, and what it took."""

    path: Path
    segmentation: Segmentation
    seconds: float

    @property
    def n_cells(self) -> int:
        return len(self.segmentation.scores)


@dataclass(frozen=True)
class Failed:
    """A file that could not be segmented, and why."""

    path: Path
    error: FewcellError

    def __post_init__(self) -> None:
        # Where an error arose holds on to all that was in memory there: of a folder of failures, every image.
        self.error.__traceback__ = self.error.__cause__ = self.error.__context__ = None


def failed(path: Path, error: Exception) -> Failed:
    """A file that failed, in words for people; even a fault of ours must not lose the files that follow."""
    if isinstance(error, FewcellError):
        return Failed(path, error)
    if isinstance(error, MemoryError):
        return Failed(path, TooLargeError(f"{path}: there was not enough memory to segment it."))
    if isinstance(error, OSError):
        return Failed(path, WriteError(f"{path}: {said_of(error)}"))
    return Failed(path, FewcellError(f"{path}: unexpected {type(error).__name__}: {error}. Please report this."))


def check_alone(path: Path, stems: Counter[str]) -> None:
    """Raise WriteError if there are several files of this stem."""
    if stems[path.stem] > 1:
        raise WriteError(
            f"{path}: {stems[path.stem]} files are called {path.stem}, so their outputs would overwrite each other. "
            "Segment them into different folders."
        )


def check_no_input(targets: Iterable[Path], inputs: Collection[str]) -> None:
    """Raise WriteError if an output would take the place of an input. inputs: their real paths."""
    for target in targets:
        if os.path.realpath(target) in inputs:
            raise WriteError(f"{target}: is to be segmented, and would be replaced. Choose another folder with -o.")


def segment_files(
    segmenter: Segmenter, paths: Sequence[Path], out: Path, settings: FileSettings, *, beside: Sequence[Path] = ()
) -> Iterator[Segmented | Failed]:
    """Segment files; one that fails does not stop the others. Results come in the order of the files.

    Into `out` go, for each file, <stem>_label.tiff, <stem>_overlay.png and <stem>_cells.csv; all three are made before
    the first appears. Two files of the same stem both fail, since they would overwrite each other. beside: files that
    are segmented otherwise, with outputs in the same folder. While the network sees one image, the cells of another
    are read, measured and written.
    """
    stems = Counter(path.stem for path in (*paths, *beside))
    inputs = {os.path.realpath(path) for path in (*paths, *beside)}

    def segmented(path: Path) -> Segmented | Failed:
        start = time.perf_counter()
        try:
            check_alone(path, stems)
            outputs = {kind: out / f"{path.stem}{suffix}" for kind, suffix in OUTPUTS.items()}
            check_no_input(outputs.values(), inputs)
            segmentation = _segment_file(segmenter, path, outputs, settings)
            return Segmented(path, segmentation, time.perf_counter() - start)
        except Exception as error:
            return failed(path, error)
        finally:
            give_memory_back()

    at_once = min(AT_ONCE, segmenter.threads or available_threads())
    with ThreadPoolExecutor(at_once) as pool:
        yield from ahead(pool, segmented, paths, at_once)


def _segment_file(segmenter: Segmenter, path: Path, outputs: dict[str, Path], settings: FileSettings) -> Segmentation:
    for target in outputs.values():
        check_free(target, overwrite=settings.overwrite)
    image = read_image(path, axes=settings.axes, plane=settings.plane)
    with ONE_BY_ONE if image.pixels[0].size > SMALL_PX else nullcontext():
        return _segment_image(segmenter, path, image, outputs, settings)


def _segment_image(
    segmenter: Segmenter, path: Path, image: Image, outputs: dict[str, Path], settings: FileSettings
) -> Segmentation:
    pixel_size_um = settings.pixel_size_um or image.pixel_size_um
    seen = image if settings.channels is None else image.choose(settings.channels)
    segmentation = segmenter.segment(
        seen,
        diameter_px=settings.diameter_px(path, pixel_size_um),
        min_score=settings.min_score,
        min_area_px=settings.min_area_px,
    )
    columns = measure_cells(
        segmentation.instances, image.pixels, pixel_size_um=pixel_size_um, channel_names=image.channel_names
    )
    out = outputs["labels"].parent
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out, prefix=".fewcell-") as temporary:
            made = {kind: Path(temporary) / target.name for kind, target in outputs.items()}
            write_cells(made["cells"], columns)
            write_overlay(made["overlay"], _for_display(seen), segmentation.labels)
            made_by = _made_by(segmenter, segmentation, settings)
            write_labels(made["labels"], segmentation.labels, pixel_size_um=pixel_size_um, made_by=made_by)
            put_in_place({target: made[kind] for kind, target in outputs.items()}, Path(temporary) / "old")
    except OSError as error:
        raise WriteError(f"{path}: the outputs cannot be written to {out}: {error.strerror or error}.") from None
    return segmentation


def _made_by(segmenter: Segmenter, segmentation: Segmentation, settings: FileSettings) -> dict[str, Any]:
    """What decided the outcome, beside the image: the model, the scale and the thresholds."""
    return {
        "fewcell": __version__,
        "model": segmenter.folder.resolve().name,
        "model_sha256": hashes_of(segmenter.facts),
        "precision": segmenter.precision,
        "accurate": segmenter.is_accurate,
        **scale_facts(segmentation.diameter_px, segmentation.diameter_source, segmentation.larger_px),
        "min_score": segmenter.facts.min_score if settings.min_score is None else settings.min_score,
        "min_area_px": max(1, settings.min_area_px),
        "channels": settings.channels,
    }


def _for_display(image: Image) -> np.ndarray:
    """Colours of 8-bit pictures as they are; anything else as the network sees it."""
    if image.is_colour and image.dtype == "uint8":
        return image.pixels.astype(np.uint8)
    return np.clip(normalise(image.pixels), 0, 1)
