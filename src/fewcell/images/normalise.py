"""Contrast: from a file's own values to the range that a network sees."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fewcell.errors import AxesError
from fewcell.types import FloatArray

__all__ = ["Contrast", "check_channel_count", "estimate_contrast", "normalise"]

LOW_PERCENTILE, HIGH_PERCENTILE, PEAK_PERCENTILE = 1.0, 99.8, 99.99
SAMPLED_PIXELS = 1_000_000  # percentiles of a channel are read from about this many pixels
DIMMEST_CHANNEL = 0.1  # a channel is stretched at most 1 / this times more than the strongest one
BLOCK_PX = 32_768  # of each channel, stretched at a time
LOWEST = -0.5  # normalised value below which nothing goes
HIGHEST_PEAK = 4.0  # normalised value that the brightest 0.01 % of the pixels may reach


@dataclass(frozen=True)
class Contrast:
    """The value that becomes 0 and the span that becomes 1, for each channel: (channel,) float64."""

    low: NDArray[np.float64]
    span: NDArray[np.float64]


def estimate_contrast(pixels: NDArray) -> Contrast:
    """Find the range of values that an image really uses.

    pixels: (channel, height, width), any real type. Per channel, the 1st percentile becomes 0 and the 99.8th
    becomes 1. Where a few bright cells lie on an empty field (the 99.99th percentile is far above the 99.8th),
    the span is widened, so that the noise of the field stays dark. Where fewer pixels than that differ from a flat
    field, the brightest of all becomes 1. A channel that is almost empty beside the others is not blown up. Pixels
    that are NaN or infinite count for nothing; a constant channel has span 0.
    """
    low, span, rare_span = np.zeros((3, len(pixels)))
    step = max(1, round((pixels.shape[-1] * pixels.shape[-2] / SAMPLED_PIXELS) ** 0.5))
    for i, channel in enumerate(pixels):
        sampled = channel[::step, ::step]
        values = np.sort(sampled[np.isfinite(sampled)])  # a quarter of the time that finding three of them takes
        if values.size:
            low[i], high, peak = (_percentile(values, p) for p in (LOW_PERCENTILE, HIGH_PERCENTILE, PEAK_PERCENTILE))
            span[i] = max(high - low[i], (peak - low[i]) / HIGHEST_PEAK)
            if span[i] == 0:  # A lone small cell may lie between the sampled pixels: look at all of them.
                rare_span[i] = float(channel[np.isfinite(channel)].max()) - low[i]
    # A hot pixel in an empty channel must not dim the others.
    floor = DIMMEST_CHANNEL * (span.max(initial=0.0) or rare_span.max(initial=0.0))
    span = np.where(span > 0, span, rare_span)
    return Contrast(low, np.where(span > 0, np.maximum(span, floor), 0.0))


def _percentile(ordered: NDArray, percentile: float) -> float:
    """What numpy.percentile gives, of values that are in order."""
    place = percentile / 100 * (len(ordered) - 1)
    before = int(place)
    one, other = float(ordered[before]), float(ordered[min(before + 1, len(ordered) - 1)])
    between = place - before
    return other - (other - one) * (1 - between) if between >= 0.5 else one + (other - one) * between


def check_channel_count(count: int) -> None:
    """Raise AxesError for no channel and for more than three."""
    if not 1 <= count <= 3:
        raise AxesError(
            f"The image has {count} channels, the model takes 1, 2 or 3. "
            "Choose them in order, for example --channels 0 or --channels 2,0."
        )


def normalise(pixels: NDArray, contrast: Contrast | None = None) -> FloatArray:
    """Stretch an image to about [0, 1] and give it the three channels that a network expects.

    pixels: (1, 2 or 3 channels, height, width), any real type. contrast: the estimate to use, by default that
    of the image itself. Returns (3, height, width) float32 in [-0.5, 4]; one channel is shown three times (a
    read-only view), two get their mean as the third. Constant channels and pixels that are NaN or infinite become 0.

    Raises AxesError for no channel and for more than three.
    """
    check_channel_count(len(pixels))
    contrast = contrast or estimate_contrast(pixels)
    gain = np.divide(1.0, contrast.span, out=np.zeros_like(contrast.span), where=contrast.span > 0)
    stretched = np.empty(pixels.shape, dtype=np.float32)
    rows = max(1, BLOCK_PX // max(pixels.shape[-1], 1))  # few enough to stay in the cache meanwhile
    with np.errstate(over="ignore", invalid="ignore"):  # Infinity times 0 is NaN, and becomes 0 below.
        for top in range(0, pixels.shape[-2], rows):
            block = stretched[:, top : top + rows]
            block[:] = pixels[:, top : top + rows]
            block -= contrast.low.astype(np.float32)[:, None, None]
            block *= gain.astype(np.float32)[:, None, None]
            if pixels.dtype.kind == "f":
                block[~np.isfinite(block)] = 0.0
            np.clip(block, LOWEST, HIGHEST_PEAK, out=block)
    if len(stretched) == 1:
        return np.broadcast_to(stretched, (3, *stretched.shape[1:]))
    if len(stretched) == 2:
        return np.concatenate([stretched, stretched.mean(axis=0, keepdims=True)])
    return stretched
