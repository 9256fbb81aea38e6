"""Mistakes drawn over an image: right cells outlined, wrong ones in the colour of what is wrong with them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont

from fewcell.benchmark import Evaluation, Row
from fewcell.data.dataset import read_truth
from fewcell.errors import DataError, WriteError
from fewcell.images import normalise, read_image, read_labels, whole_file
from fewcell.metrics import find_mistakes, overlaps, remove_border
from fewcell.types import Labels

__all__ = [
    "MISTAKE_COLOURS",
    "RIGHT_COLOUR",
    "Outline",
    "as_rgb",
    "draw_worst",
    "enlarged",
    "mistake_outlines",
    "mistaken",
    "outlined",
    "window_of_most",
]

# Okabe and Ito (2008): colours that people with colour-blindness can tell apart.
MISTAKE_COLOURS = {
    "missed": "#D55E00",
    "split": "#E69F00",
    "merged": "#56B4E9",
    "badly_outlined": "#F0E442",
    "false": "#CC79A7",
}
RIGHT_COLOUR = ""  # white, or black on a bright image
BRIGHT = 140  # mean of a crop, of 255, from which on it is
TINT = 0.35  # how much of its colour covers a cell that is wrong
DRAWN_PX = 1000  # side of a picture: small images are enlarged, of large ones the part with most mistakes is drawn
LEGEND_PX, LEGEND_GAP_PX, LEGEND_COLOUR = 26, 30, "#202020"

Outline = tuple[Labels, NDArray[np.bool_], str]
"""Labels, where their outlines are drawn, in which colour."""


def draw_worst(evaluation: Evaluation, out: Path, *, count: int = 12, overwrite: bool = False) -> list[Path]:
    """Draw the images with the lowest F1, the worst first, into a folder: pictures called <rank>_<stem>.png.

    Returns the pictures. Raises DataError if no image lies beside its true labels, WriteError if a picture exists and
    may not be overwritten.
    """
    rows = [row for row in evaluation.rows if row.scores.scorable and row.files and row.files.image]
    if not rows:
        raise DataError("There is no image to draw on: true labels must be those of a dataset folder, with images/.")
    worst = sorted(rows, key=lambda row: (row.scores.f1[0], row.stem))[:count]
    paths = [out / f"{rank:02d}_{row.stem}.png" for rank, row in enumerate(worst, 1)]
    if not overwrite and (there := next((path for path in paths if path.exists()), None)):
        raise WriteError(f"{there}: exists already. Choose another folder, or allow it with --overwrite.")
    out.mkdir(parents=True, exist_ok=True)
    for row, path in zip(worst, paths, strict=True):
        with whole_file(path, overwrite=overwrite) as temporary:
            Picture.fromarray(_drawn(row)).save(temporary, format="PNG")
    return paths


def _drawn(row: Row) -> NDArray[np.uint8]:
    """The part of an image with most mistakes, and below it what the colours mean."""
    assert row.files is not None
    assert row.files.image is not None
    truth = read_truth(row.files.true, row.files.regions)
    usable = row.files.predicted is not None and not row.problem
    found = read_labels(row.files.predicted) if row.files.predicted and usable else np.zeros_like(truth)
    truth, found = remove_border(truth), remove_border(found)  # as for F1
    pixels = read_image(row.files.image).pixels
    if pixels.shape[1:] != truth.shape:
        raise DataError(f"{row.files.image} is {pixels.shape[1:]} px, but its true labels are {truth.shape}.")
    window = window_of_most((mistaken(truth, found) > 0).astype(np.float64), DRAWN_PX)
    view = as_rgb(pixels)[window]
    times = max(1, DRAWN_PX // max(view.shape[:2]))
    picture = outlined(view, mistake_outlines(truth, found, window), times, 2)
    entries = {f"F1 {row.scores.f1[0]:.2f}": "#FFFFFF"}
    entries |= {kind.replace("_", " "): colour for kind, colour in MISTAKE_COLOURS.items()}
    legend = _legend(entries, picture.shape[1])
    return np.concatenate([_padded(picture, legend.shape[1]), legend])


def _legend(entries: Mapping[str, str], width: int) -> NDArray[np.uint8]:
    """Words in their colours beside each other, in a strip as wide as is asked for, or as they need."""
    font = ImageFont.load_default(14)
    starts = np.cumsum([8, *(round(font.getlength(words)) + LEGEND_GAP_PX for words in entries)]).tolist()
    legend = Picture.new("RGB", (max(width, starts[-1]), LEGEND_PX), LEGEND_COLOUR)
    pen = ImageDraw.Draw(legend)
    for x, (words, colour) in zip(starts, entries.items(), strict=False):
        pen.text((x, 5), words, fill=colour, font=font)
    return np.asarray(legend)


def _padded(picture: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    """A picture on a ground of the legend's colour that is as wide as the legend."""
    ground = Picture.new("RGB", (width, picture.shape[0]), LEGEND_COLOUR)
    ground.paste(Picture.fromarray(picture))
    return np.asarray(ground)


def mistake_outlines(truth: Labels, found: Labels, window: tuple[slice, slice]) -> list[Outline]:
    """What to draw in a window: all that was found, then each kind of mistake over it."""
    kinds, true, seen = mistaken(truth, found)[window], truth[window], found[window]
    outlines: list[Outline] = [(seen, seen > 0, RIGHT_COLOUR)]
    for number, (kind, colour) in enumerate(MISTAKE_COLOURS.items(), 1):
        outlines.append((seen if kind == "false" else true, kinds == number, colour))
    return outlines


def mistaken(truth: Labels, found: Labels) -> NDArray[np.uint8]:
    """1 + the number of the kind of mistake, at every pixel of a wrong true cell and of a false one."""
    table = overlaps(truth, found)
    mistakes = vars(find_mistakes(table))
    kinds = np.zeros(truth.shape, dtype=np.uint8)
    for number, (kind, mask) in enumerate(mistakes.items(), 1):
        labels, ids = (found, table.predicted_ids) if kind == "false" else (truth, table.true_ids)
        kinds[np.isin(labels, ids[mask]) & (labels > 0)] = number
    return kinds


def outlined(view: NDArray[np.uint8], outlines: Sequence[Outline], times: int, width: int) -> NDArray[np.uint8]:
    """Draw outlines of labels over a view that is enlarged, one over the other; what is wrong is tinted as well.

    times: how often each pixel is repeated. width: of the outlines, in pixels of what is returned.
    """
    from scipy.ndimage import maximum_filter
    from skimage.segmentation import find_boundaries

    drawn = enlarged(view, times).astype(np.float32)
    for small_labels, small_mask, colour in outlines:
        labels, mask = enlarged(small_labels, times), enlarged(small_mask, times)
        if colour == RIGHT_COLOUR:
            rgb = np.full(3, 255 if view.mean() < BRIGHT else 0, dtype=np.float32)
        else:
            rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)], dtype=np.float32)
            drawn[mask] = (1 - TINT) * drawn[mask] + TINT * rgb
        edges = find_boundaries(labels, mode="inner") & mask
        drawn[np.asarray(maximum_filter(edges, size=width), dtype=bool)] = rgb
    return drawn.astype(np.uint8)


def window_of_most(weight: NDArray[np.float64], side: int) -> tuple[slice, slice]:
    """The square window of a side that holds most of a weight; the whole along an axis that is shorter."""
    from scipy.ndimage import uniform_filter

    height, width = (min(side, extent) for extent in weight.shape)
    total = uniform_filter(weight, [height, width], mode="constant")  # pyright: ignore[reportArgumentType]
    inner = total[height // 2 : weight.shape[0] - (height - 1) // 2, width // 2 : weight.shape[1] - (width - 1) // 2]
    top, left = np.unravel_index(int(inner.argmax()), inner.shape)
    return slice(int(top), int(top) + height), slice(int(left), int(left) + width)


def as_rgb(pixels: NDArray) -> NDArray[np.uint8]:
    """Its first three channels as a picture: (channel, height, width), of any range -> (height, width, 3) uint8."""
    shown = np.clip(normalise(np.asarray(pixels)[:3]), 0, 1)
    return (255 * np.moveaxis(shown, 0, -1)).astype(np.uint8)


def enlarged(picture: NDArray, times: int) -> NDArray:
    return picture.repeat(times, axis=0).repeat(times, axis=1)
