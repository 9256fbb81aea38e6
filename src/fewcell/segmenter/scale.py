"""How wide the cells of an image are, and whether there are any: what a small network says of windows of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fewcell.images import Pyramid
from fewcell.segmenter.measure import busiest_window
from fewcell.types import FloatArray

__all__ = [
    "N_CLASSES",
    "TRAINED_OCTAVES",
    "WINDOW_PX",
    "Estimate",
    "Seen",
    "class_of",
    "combine",
    "scale_prior",
    "scales_of",
    "windows_of",
]

WINDOW_PX = 256  # side of what the network sees at once
SMALLEST_OCTAVE, LARGEST_OCTAVE, PER_OCTAVE = 2.25, 6.75, 6  # of the diameters that are told apart, log2 px
N_CLASSES = round((LARGEST_OCTAVE - SMALLEST_OCTAVE) * PER_OCTAVE) + 3  # the first and the last: all beyond
TRAINED_OCTAVES = (1.0, 7.3)  # of the diameters that the network was made to hold for equally likely
SCALES = (2.0, 1.0, 0.5, 0.25, 0.125, 0.0625)
SMALLEST_SIDE_PX = 128  # an image is not made smaller than this, the longer side of it, unless by half
ERROR = 0.02  # how often what the network says of a window has nothing to do with the window
MOST_PEAKS = 3  # diameters besides the likeliest that are worth a try
WELL_SEEN_PX, WITNESSES = 24.0, 3  # whether there are cells is told at the scales at which they are about so wide
OCTAVES = np.arange(1.75, 9.6, 0.5 / PER_OCTAVE)  # log2 px of the diameters that an image may have


@dataclass(frozen=True)
class Seen:
    """A part of an image, enlarged by `scale`: pixels (3, WINDOW_PX, WINDOW_PX), mirrored beyond the image's edge."""

    scale: float
    pixels: FloatArray


@dataclass(frozen=True)
class Estimate:
    """How wide the median cell of an image is, in its pixels, and how likely it is that there are any cells.

    others: diameters that are less likely, the likeliest first.
    """

    diameter_px: float
    presence: float
    others: tuple[float, ...] = ()


def class_of(diameter_px: NDArray[np.floating]) -> NDArray[np.float64]:
    """The places of diameters among the network's classes: 0 and N_CLASSES - 1 stand for all that lies beyond."""
    place = (np.log2(np.maximum(diameter_px, 1e-6)) - SMALLEST_OCTAVE) * PER_OCTAVE + 1
    return np.clip(place, 0, N_CLASSES - 1)


def scales_of(shape: tuple[int, int]) -> tuple[float, float]:
    """The smallest and the largest scale at which an image of this shape is looked at."""
    return min(0.5, max(SMALLEST_SIDE_PX / max(shape), SCALES[-1])), SCALES[0]


def windows_of(image: Pyramid) -> Iterator[Seen]:
    """Windows of an image at every scale worth looking at.

    At each scale the busiest window, and two corners if there is more to see: however large the image, at most three.
    """
    height, width = image.shape
    smallest, _ = scales_of(image.shape)
    for scale in SCALES:
        if scale < smallest:
            continue
        field = round(WINDOW_PX / scale)
        first = (0, 0, min(field, height), min(field, width))
        last = (max(height - field, 0), max(width - field, 0), height, width)
        for window in dict.fromkeys([busiest_window(image, field), first, last]):
            top, left, bottom, right = window
            shape = (max(1, round((bottom - top) * scale)), max(1, round((right - left) * scale)))
            yield Seen(scale, _filled(image.view(window, shape)))


def _filled(part: FloatArray) -> FloatArray:
    """A picture in the middle of a window; beyond its edge it is mirrored."""
    missing = [WINDOW_PX - side for side in part.shape[1:]]
    return np.pad(part, [(0, 0), *((n // 2, n - n // 2) for n in missing)], mode="symmetric")


def combine(scales: Sequence[float], logits: FloatArray) -> Estimate:
    """One estimate of what a network says of windows at several scales.

    logits: (window, N_CLASSES + 1), of each diameter in px of the window and of there being cells. Windows of one scale
    are averaged, the likelier they show cells the more they count. Scales are taken for independent witnesses: each
    says how much likelier a diameter is than it was held for before. Cells are as likely as they are in the likeliest
    window of a scale, on average over the scales at which cells of that diameter are seen well.
    """
    classes, present = logits[:, :-1].astype(np.float64), logits[:, -1].astype(np.float64)
    likely = np.exp(classes - classes.max(axis=1, keepdims=True))
    likely /= likely.sum(axis=1, keepdims=True)
    evidence = np.log((1 - ERROR) * likely + ERROR / N_CLASSES) - np.log(scale_prior())
    counts = 1 / (1 + np.exp(-present)) + ERROR
    total = np.zeros(len(OCTAVES))
    at = np.array(scales)
    for scale in np.unique(at):
        of_scale = at == scale
        mean = np.average(evidence[of_scale], axis=0, weights=counts[of_scale])
        total += np.interp(class_of(2.0**OCTAVES * scale), np.arange(N_CLASSES), mean)
    best = int(total.argmax())
    near = slice(max(best - 2, 0), best + 3)
    weight = np.exp(total[near] - total[best])
    diameter = float(2 ** (weight @ OCTAVES[near] / weight.sum()))
    by_fit = sorted(np.unique(at), key=lambda scale: abs(np.log2(diameter * scale / WELL_SEEN_PX)))
    logit = np.mean([present[at == scale].max() for scale in by_fit[:WITNESSES]])
    return Estimate(diameter, float(1 / (1 + np.exp(-logit))), _other_peaks(total, best))


def _other_peaks(total: NDArray[np.float64], best: int) -> tuple[float, ...]:
    """The diameters of other peaks of the evidence, the likeliest first."""
    padded = np.pad(total, 1, constant_values=-np.inf)
    peaks = np.flatnonzero((total >= padded[:-2]) & (total > padded[2:]))
    by_evidence = sorted((int(peak) for peak in peaks if abs(peak - best) > 2), key=lambda peak: -total[peak])
    return tuple(float(2 ** OCTAVES[peak]) for peak in by_evidence[:MOST_PEAKS])


def scale_prior() -> NDArray[np.float64]:
    """How likely the network holds each class for before it has looked: all widths in TRAINED_OCTAVES as likely."""
    octaves = np.full(N_CLASSES, 1 / PER_OCTAVE)
    octaves[0] = SMALLEST_OCTAVE - TRAINED_OCTAVES[0]
    octaves[-1] = TRAINED_OCTAVES[1] - LARGEST_OCTAVE
    return octaves / octaves.sum()
