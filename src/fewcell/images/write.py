"""Write label images, overlays and tables of cells; a file appears whole, or not at all."""

import csv
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any

import fastremap
import imagecodecs
import numpy as np
import tifffile
from numpy.typing import ArrayLike, NDArray
from PIL import Image as PillowImage

from fewcell.errors import DataError, WriteError

__all__ = [
    "check_free",
    "draw_overlay",
    "put_in_place",
    "read_cell_table",
    "read_made_by",
    "table_fields",
    "whole_file",
    "write_cells",
    "write_labels",
    "write_overlay",
]

_ON_DARK = np.array(
    [
        [255, 221, 51],
        [64, 224, 255],
        [255, 96, 208],
        [144, 255, 80],
        [255, 150, 64],
        [190, 150, 255],
        [80, 255, 190],
    ],
    np.uint8,
)
_ON_BRIGHT = np.array(
    [[200, 0, 40], [0, 70, 210], [0, 120, 50], [150, 0, 170], [190, 80, 0], [0, 110, 140], [90, 50, 0]],
    np.uint8,
)
# From this mean luminance under its outline on, a cell gets a dark outline.
_BRIGHT = 0.6
ROWS = 64  # drawn at a time, few enough to stay in the cache meanwhile


def check_free(path: Path, *, overwrite: bool) -> None:
    """Raise WriteError where something has the name of a file that is to be written, and may not be overwritten."""
    if path.is_dir():
        raise WriteError(f"{path}: is a folder; a file was to be written there. Choose another name.")
    if path.exists() and not overwrite:
        raise WriteError(f"{path}: exists already. Choose another name, or allow it with --overwrite.")


@contextmanager
def whole_file(path: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """Write a file so that it appears whole, or not at all.

    Yields the path of a temporary file in the same folder (made if need be), with the same suffix; write
    there. It is renamed to `path` when the block ends, and removed when the block fails. Raises WriteError
    where `path` exists and may not be overwritten, or cannot be written.
    """
    path = Path(path)
    check_free(path, overwrite=overwrite)
    temporary = path.with_name(f".{secrets.token_hex(4)}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        what = error.strerror or error
        raise WriteError(
            f"{path}: cannot be written: {what}. Check the folder, your rights and the free space."
        ) from error
    finally:
        # Where even this fails, the first error matters more.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def put_in_place(made: Mapping[Path, Path], aside: Path) -> None:
    """Move files and folders to where they belong, all or none; what was there goes into the new folder `aside`.

    made: target -> what is to be there, on the same file system, as is `aside`. Raises OSError where something cannot
    be moved; then all is where it was.
    """
    aside.mkdir()
    pairs = [((target, aside / target.name), (new, target)) for target, new in made.items()]
    moves = [(source, to) for source, to in chain(*pairs) if os.path.lexists(source)]
    try:
        for source, to in moves:
            os.replace(source, to)
    except BaseException:
        for source, to in reversed(moves):
            if os.path.lexists(to) and not os.path.lexists(source):
                os.replace(to, source)
        raise


def write_labels(
    path: str | os.PathLike[str],
    labels: ArrayLike,
    *,
    pixel_size_um: float | None = None,
    made_by: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Save a label image as a compressed TIFF that every image program opens.

    labels: (height, width) whole numbers, stored in the smallest type that holds them: 16 or 32 bits, signed
    only where some are negative (UNKNOWN). The pixel size goes into the resolution tags; made_by, how the labels were
    made, as JSON into the description.
    """
    array = np.asarray(labels)
    if array.ndim != 2 or array.size == 0 or array.dtype.kind not in "iu":
        raise WriteError(
            f"{path}: labels must be whole numbers of shape (height, width), but are {array.dtype} of shape "
            f"{array.shape}."
        )
    low, high = int(array.min()), int(array.max())
    kinds = (np.uint16, np.uint32) if low >= 0 else (np.int16, np.int32)
    kind = next((k for k in kinds if np.iinfo(k).min <= low and high <= np.iinfo(k).max), None)
    if kind is None:
        raise WriteError(f"{path}: labels from {low} to {high} do not fit into 32 bits. Number them from 1.")
    array = array.astype(kind)
    resolution: dict[str, Any] = {}
    if pixel_size_um is not None:
        resolution = {"resolution": (1e4 / pixel_size_um,) * 2, "resolutionunit": "CENTIMETER"}
    with whole_file(path, overwrite=overwrite) as temporary:
        tifffile.imwrite(
            temporary,
            array,
            photometric="minisblack",
            compression="zlib",
            # Whether the compressed file stays below 4 GiB is known too late.
            bigtiff=array.nbytes > 2**32 - 2**25,
            software="fewcell",
            metadata=None,
            description=None if made_by is None else json.dumps(made_by),
            **resolution,
        )


def read_made_by(path: Path) -> dict[str, Any]:
    """How a label TIFF was made: JSON in its description, of an OME-TIFF in that of its image. Raises where none is."""
    with tifffile.TiffFile(path) as tiff:
        said = tiff.pages.first.description
        if tiff.ome_metadata is not None:
            image: Any = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]
            said = image["Description"]
    made_by: dict[str, Any] = json.loads(said)
    return made_by


def draw_overlay(pixels: ArrayLike, labels: ArrayLike) -> NDArray[np.uint8]:
    """Draw the outline of every cell into the image, in a colour that stands out from it and from its neighbours'.

    pixels: (channel, height, width), bytes or within [0, 1], clipped; one channel is gray, two are red and green, of
    more the first three count. labels: (height, width); background and UNKNOWN get no outline. Returns
    (height, width, 3). Outlines lie inside the cells, so that touching cells keep one each; they are thicker
    in large images, but not where cells are small.
    """
    image, ids = np.asarray(pixels), np.asarray(labels)
    if image.ndim != 3 or not len(image) or image.shape[1:] != ids.shape:
        raise DataError(f"The image {image.shape} and the labels {ids.shape} differ in height or width.")
    canvas = _canvas(image)
    outline = _outline(ids, 1)
    width_px = _outline_width_px(ids, outline)
    if width_px > 1:
        outline = _outline(ids, width_px)
    drawn = np.flatnonzero(outline)
    cells, cell_of_pixel = fastremap.unique(ids.ravel()[drawn], return_inverse=True)
    canvas_pixels = canvas.reshape(-1, 3)
    luminance = canvas_pixels[drawn] @ np.array([0.299, 0.587, 0.114]) / 255
    mean = np.bincount(cell_of_pixel, luminance) / np.maximum(np.bincount(cell_of_pixel), 1)
    colour = _colour_numbers(ids, cells)
    colours = np.where((mean >= _BRIGHT)[:, None], _ON_BRIGHT[colour], _ON_DARK[colour])
    canvas_pixels[drawn] = colours[cell_of_pixel]
    return canvas


def _canvas(image: NDArray[Any]) -> NDArray[np.uint8]:
    """An image (channel, height, width), bytes or within [0, 1], as a picture; what is no number is black."""
    bands = np.zeros((1 if len(image) == 1 else 3, *image.shape[1:]), np.uint8)
    for band, channel in zip(bands, image[:3], strict=False):
        if image.dtype == np.uint8:
            band[:] = channel
            continue
        for top in range(0, len(channel), ROWS):
            band[top : top + ROWS] = np.fmin(np.fmax(channel[top : top + ROWS], 0), 1) * 255 + 0.5
    pictures = [PillowImage.fromarray(band) for band in bands]
    return np.array(PillowImage.merge("RGB", pictures if len(pictures) == 3 else 3 * pictures))


def _outline(labels: NDArray[Any], width_px: int) -> NDArray[np.bool_]:
    """Pixels of cells that are at most so many steps from something else; the image frame is nothing else."""
    inside = np.maximum(labels, 0)
    outline = np.zeros(labels.shape, bool)
    for step in range(width_px):
        inside = np.where(outline, 0, inside) if step else inside
        edge = np.zeros(labels.shape, bool)
        down, right = inside[1:] != inside[:-1], inside[:, 1:] != inside[:, :-1]
        edge[1:] |= down
        edge[:-1] |= down
        edge[:, 1:] |= right
        edge[:, :-1] |= right
        edge &= inside > 0
        outline |= edge
    return outline


def _colour_numbers(labels: NDArray[Any], cells: NDArray[Any]) -> NDArray[np.intp]:
    """Which of the colours each cell gets: not that of a cell that it touches, while the colours last."""
    touching = []
    for one, other in ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])):
        border = (one != other) & (one > 0) & (other > 0)
        touching.append(np.searchsorted(cells, [one[border], other[border]]))
    pairs = np.sort(np.concatenate(touching, axis=1), axis=0)
    first, second = np.divmod(fastremap.unique(pairs[0] * len(cells) + pairs[1]), max(len(cells), 1))
    earlier: list[list[int]] = [[] for _ in cells]
    for i, j in zip(first.tolist(), second.tolist(), strict=True):
        earlier[j].append(i)
    count = len(_ON_DARK)
    numbers = (cells % count).astype(np.intp)
    for j, neighbours in enumerate(earlier):
        taken = {numbers[i] for i in neighbours}
        free = ((numbers[j] + k) % count for k in range(count))
        numbers[j] = next((n for n in free if n not in taken), numbers[j])
    return numbers


def _outline_width_px(labels: NDArray[Any], outline: NDArray[np.bool_]) -> int:
    """One pixel for images up to 1500 pixels, more for larger ones, up to a twelfth of a cell's diameter."""
    count = len(fastremap.unique(labels[outline]))
    typical_px = (np.count_nonzero(labels > 0) / count) ** 0.5 if count else 0.0
    return int(np.clip(min(1 + max(labels.shape) // 1500, typical_px / 12), 1, 6))


def write_overlay(
    path: str | os.PathLike[str], pixels: ArrayLike, labels: ArrayLike, *, overwrite: bool = False
) -> None:
    """Save the image with the outlines of its cells as a PNG. See `draw_overlay` for what is drawn."""
    # Of what PNG offers, this takes the least time (a third of what Pillow does best), and leaves about as little.
    png = imagecodecs.PNG
    drawn = draw_overlay(pixels, labels)
    packed = imagecodecs.png_encode(drawn, level=1, strategy=png.STRATEGY.RLE, filter=png.FILTER.UP)
    with whole_file(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(packed)


def write_cells(path: str | os.PathLike[str], columns: Mapping[str, ArrayLike], *, overwrite: bool = False) -> None:
    """Save a table of cells, such as that of `measure_cells`, as CSV: a header, and one row a cell.

    columns: name -> one value a cell. Numbers that are not known (NaN) become empty fields.
    """
    arrays = {name: np.asarray(column) for name, column in columns.items()}
    lengths = {name: array.shape for name, array in arrays.items()}
    if len(set(lengths.values())) > 1 or any(array.ndim != 1 for array in arrays.values()):
        raise WriteError(f"{path}: the columns of a table must be of one length, but are {lengths}.")
    with (
        whole_file(path, overwrite=overwrite) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(arrays)
        writer.writerows(zip(*map(table_fields, arrays.values()), strict=True))


def read_cell_table(path: str | os.PathLike[str]) -> dict[str, NDArray[np.float64]]:
    """The columns of a table of cells that `write_cells` wrote, one value a cell; NaN where a field is empty.

    Raises OSError if there is no such file, ValueError if it is no such table.
    """
    with open(path, newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    numbers = np.array([[float(field or "nan") for field in row] for row in rows]).reshape(len(rows), len(header))
    return dict(zip(header, numbers.T, strict=True))


def table_fields(column: NDArray[Any]) -> list[Any]:
    """What is written of a column of a table: whole numbers as they are, others in seven digits, nothing for NaN."""
    if column.dtype.kind != "f":
        return column.tolist()
    # Seven digits: what float32 holds, and a hundredth of a pixel on the largest slides.
    return ["" if number != number else f"{number:.7g}" for number in column.tolist()]
