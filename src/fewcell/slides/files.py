"""Files in, files out, whatever their size: images go through memory, large ones tile by tile."""

import os
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from PIL import Image as PillowImage

from fewcell.errors import FewcellWarning, MissingDependencyError, WriteError
from fewcell.images import SUFFIXES, is_tiff, open_slide
from fewcell.images.read import quiet_libraries
from fewcell.segmenter import Failed, FileSettings, Segmented, Segmenter, Took, record_seconds, segment_files
from fewcell.segmenter.files import check_alone, check_no_input, failed
from fewcell.slides.exports import EXPORTS, export_paths, remove_outputs
from fewcell.slides.run import Execution, SlideProgress
from fewcell.slides.segment_slide import SlideSegmentation, segment_slide

__all__ = ["ALWAYS", "LARGE_PX", "SegmentedSlide", "is_slide", "segment_inputs"]

ALWAYS = ("csv", "overlay")  # what is exported of every slide, as of every image
OF_IMAGES = {*ALWAYS, "tiff"}  # what `segment_files` writes: to ask for these does not make a slide of an image
LARGE_PX = 25_000_000
"""From so many pixels on an image is segmented as a slide; the challenge scores such images by a rule of their own."""


@dataclass(frozen=True)
class SegmentedSlide:
    """A slide that was segmented: its cells, where the outputs are, and what it took, here and now."""

    path: Path
    segmentation: SlideSegmentation
    seconds: float

    @property
    def n_cells(self) -> int:
        return self.segmentation.n_cells


def segment_inputs(
    segmenter: Segmenter,
    paths: Sequence[Path],
    out: Path,
    settings: FileSettings,
    *,
    exports: Sequence[str] = (),
    how: Execution | None = None,
    report: Callable[[Path, SlideProgress], None] = lambda path, progress: None,
) -> Iterator[Segmented | SegmentedSlide | Failed]:
    """Segment images and slides, first the images; one that fails does not stop the others.

    out: a folder, into which go, for each slide, <stem>_label.zarr, <stem>_cells.csv and <stem>_overlay.png, and for
    each image what `segment_files` says. Or the name of a label image that ends in .zarr, for one input. exports:
    further files, names in `EXPORTS`. With a name, or with exports other than those that images have anyway, images of
    any size are segmented as slides. how: tiles and clusters for slides. report: called as slides go on.

    Where outputs may be overwritten, what an earlier run wrote for the same stem, and this one did not, is removed.

    What each took goes into the table of the folder (`read_seconds`); of a slide that goes on, what this run took.

    Raises WriteError if `out` ends in .zarr and there are several inputs, or if nothing can be written there.
    """
    is_one = out.suffix.lower() == ".zarr"
    if is_one and len(paths) != 1:
        raise WriteError(f"{out}: is the name of one label image, but there are {len(paths)} inputs. Give a folder.")
    _check_place(out.parent if is_one else out)
    is_asked_for = is_one or not OF_IMAGES.issuperset(exports)
    slides = [path for path in paths if is_asked_for or is_slide(path, settings.axes, settings.plane)]
    kinds = [*dict.fromkeys((*ALWAYS, *exports))]
    images = [path for path in paths if path not in slides]
    is_recording = not is_one
    for image in segment_files(segmenter, images, out, settings, beside=slides):
        if isinstance(image, Segmented) and settings.overwrite:
            stem = out / image.path.stem
            remove_outputs([*export_paths(EXPORTS.keys() - OF_IMAGES, stem).values(), Path(f"{stem}_label.zarr")])
        if isinstance(image, Segmented):
            is_recording = is_recording and _recorded(image, image.segmentation.labels.shape, out)
        yield image
    stems, inputs = Counter(path.stem for path in paths), {os.path.realpath(path) for path in paths}
    for path in slides:
        start = time.perf_counter()
        labels = out if is_one else out / f"{path.stem}_label.zarr"
        try:
            check_alone(path, stems)
            if not is_one:
                check_no_input(export_paths(EXPORTS if settings.overwrite else kinds, out / path.stem).values(), inputs)
            found = segment_slide(
                segmenter,
                path,
                labels,
                settings,
                exports=kinds,
                how=how,
                report=lambda progress, of=path: report(of, progress),
            )
        except Exception as error:
            yield failed(path, error)
        else:
            slide = SegmentedSlide(path, found, time.perf_counter() - start)
            is_recording = is_recording and _recorded(slide, found.plan.shape, out)
            yield slide


def is_slide(path: Path, axes: str | None = None, plane: Mapping[str, int] | None = None) -> bool:
    """Whether a file is segmented tile by tile: it is large, or of a kind that only slides have.

    axes, plane: as for `read_image`.
    """
    if path.suffix.lower() not in SUFFIXES:
        return True
    with suppress(Exception), quiet_libraries():  # what is wrong with a file is said when it is read
        try:
            if is_tiff(path):
                with open_slide(path, axes=axes, plane=plane) as slide:
                    return slide.shape[0] * slide.shape[1] >= LARGE_PX
            with PillowImage.open(path) as picture:  # reads no more than the size
                return picture.width * picture.height >= LARGE_PX
        except (MissingDependencyError, PillowImage.DecompressionBombError):  # only slides need it, or are so large
            return True
    return False


def _check_place(folder: Path) -> None:
    """Raise WriteError if nothing can be written into a folder, or if it cannot be made: before hours of work."""
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    if not there.is_dir():
        raise WriteError(f"{there}: is a file, so nothing can be written into it. Choose another name with -o.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise WriteError(f"{there}: you may not write into this folder. Choose another one with -o.")


def _recorded(done: Segmented | SegmentedSlide, shape: tuple[int, ...], out: Path) -> bool:
    """Write into the folder's table how long something took; if that cannot be done, warn of it. Whether it was."""
    height_px, width_px = shape
    try:
        record_seconds(out, done.path.stem, Took(height_px, width_px, done.seconds))
    except WriteError as error:
        warnings.warn(f"{error} What the images took is not kept from here on.", FewcellWarning, stacklevel=2)
        return False
    return True
