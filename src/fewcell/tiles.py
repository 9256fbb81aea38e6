"""Where tiles lie: cores that cover an image once, each with a halo that the network needs to see."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from fewcell.types import FloatArray

__all__ = ["Tile", "pad_to_multiple", "plan_tiles", "predict_tiled"]

Shape = tuple[int, int]


@dataclass(frozen=True)
class Tile:
    """A core and the window to read for it, in input pixels: (top, left, bottom, right), ends excluded."""

    core: tuple[int, int, int, int]
    window: tuple[int, int, int, int]


def plan_tiles(shape: Shape, *, core_px: int, halo_px: int, multiple_px: int) -> Iterator[Tile]:
    """Cover an image (height, width) by tiles, row by row.

    Cores have sides of at most `core_px` and cover every pixel once. A window is its core and `halo_px` around it,
    rounded up to multiples of `multiple_px` and cut at the image's edge, so that every tile lies on the same
    grid of the network as the whole image. `shape` and `core_px` must be multiples of `multiple_px`.
    """
    for side in (*shape, core_px):
        if side % multiple_px or side <= 0:
            raise ValueError(f"{side} px is not a positive multiple of {multiple_px} px.")
    halo_px = -(-halo_px // multiple_px) * multiple_px
    for top in range(0, shape[0], core_px):
        for left in range(0, shape[1], core_px):
            bottom, right = min(top + core_px, shape[0]), min(left + core_px, shape[1])
            window = (
                max(top - halo_px, 0),
                max(left - halo_px, 0),
                min(bottom + halo_px, shape[0]),
                min(right + halo_px, shape[1]),
            )
            yield Tile((top, left, bottom, right), window)


def predict_tiled(
    image: FloatArray,
    predict: Callable[[FloatArray], FloatArray],
    *,
    stride: int,
    multiple_px: int,
    halo_px: int,
    core_px: int = 1024,
) -> FloatArray:
    """Run a network over an image of any size, tile by tile, with the result of running it on the whole.

    image: (channel, height, width) float32. predict: (channel, h, w) -> (k, h / stride, w / stride) for h and w
    that are multiples of `multiple_px`. Returns (k, ceil(height / stride), ceil(width / stride)) float32.

    The image is mirrored up to the next multiple.
    """
    height, width = image.shape[1:]
    padded = pad_to_multiple(image, multiple_px)
    core_px = -(-core_px // multiple_px) * multiple_px
    prediction: FloatArray | None = None
    field = (padded.shape[1], padded.shape[2])
    for tile in plan_tiles(field, core_px=core_px, halo_px=halo_px, multiple_px=multiple_px):
        top, left, bottom, right = tile.window
        part = predict(np.ascontiguousarray(padded[:, top:bottom, left:right]))
        if prediction is None:
            grid = (padded.shape[1] // stride, padded.shape[2] // stride)
            prediction = np.empty((len(part), *grid), dtype=np.float32)
        y0, x0, y1, x1 = (side // stride for side in tile.core)
        part = part[:, y0 - top // stride :, x0 - left // stride :]
        prediction[:, y0:y1, x0:x1] = part[:, : y1 - y0, : x1 - x0]
    assert prediction is not None
    return prediction[:, : -(-height // stride), : -(-width // stride)]


def pad_to_multiple(image: FloatArray, multiple_px: int) -> FloatArray:
    """Mirror an image (channel, height, width) at its lower and right edge up to multiples of `multiple_px`."""
    pads = [(0, 0), *((0, -side % multiple_px) for side in image.shape[1:])]
    return np.pad(image, pads, mode="symmetric") if any(p for _, p in pads) else image
