"""Where tiles lie: cores that cover an image once, each with a halo that the network needs to see."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np

from fewcell.types import FloatArray, Shape, Window
from fewcell.windows import grown

__all__ = [
    "LEAST_STEPS",
    "Tile",
    "pad_to_multiple",
    "padded_shape",
    "plan_tiles",
    "plan_windows",
    "predict_in_windows",
    "predict_tiled",
    "whole_steps",
]

FEW_SHAPES_PX = 64  # large images are mirrored up to multiples of this
FEW_SCALES_PX = 128  # and enlarged to multiples of this, where their scale is a guess
LEAST_STEPS = 8  # smaller ones to finer ones, of which their sides have so many


@dataclass(frozen=True)
class Tile:
    """A core and the window to read for it, in input pixels: (top, left, bottom, right), ends excluded."""

    core: Window
    window: Window


def plan_tiles(shape: Shape, *, core_px: Shape, halo_px: int, multiple_px: int) -> Iterator[Tile]:
    """Cover an image (height, width) by tiles, row by row.

    Cores have sides of at most `core_px` and cover every pixel once. A window is its core and `halo_px` around it,
    rounded up to multiples of `multiple_px` and cut at the image's edge, so that every tile lies on the same
    grid of the network as the whole image. `shape` and `core_px` must be multiples of `multiple_px`.
    """
    for side in (*shape, *core_px):
        if side % multiple_px or side <= 0:
            raise ValueError(f"{side} px is not a positive multiple of {multiple_px} px.")
    halo_px = _up_to(halo_px, multiple_px)
    high, wide = core_px
    for top in range(0, shape[0], high):
        for left in range(0, shape[1], wide):
            core = top, left, min(top + high, shape[0]), min(left + wide, shape[1])
            yield Tile(core, grown(core, halo_px, shape))


def plan_windows(shape: Shape, *, window_px: int, halo_px: int) -> Iterator[Tile]:
    """Cover an image (height, width) by square windows that all have the same side, row by row.

    Every window lies inside the image, which must not be smaller. Cores cover every pixel once and stay `halo_px` away
    from the window's sides, except at the image's own edge. Corners of windows are whole steps of
    `window_px - 2 * halo_px` away from the image's, or flush with its lower or right edge.
    """
    if min(shape) < window_px:
        raise ValueError(f"An image of {shape[0]} x {shape[1]} px holds no window of {window_px} px.")
    if not 0 <= 2 * halo_px < window_px:
        raise ValueError(f"A window of {window_px} px has no core inside a halo of {halo_px} px.")
    rows, columns = (list(_spans(side, window_px, halo_px)) for side in shape)
    for top, y0, y1 in rows:
        for left, x0, x1 in columns:
            yield Tile((y0, x0, y1, x1), (top, left, top + window_px, left + window_px))


def _spans(side: int, window_px: int, halo_px: int) -> Iterator[tuple[int, int, int]]:
    """Along one axis: where each window begins, where its core begins and where that ends."""
    begin = end = 0
    while end < side:
        start = min(begin, side - window_px)
        core = end
        end = side if start + window_px == side else start + window_px - halo_px
        yield start, core, end
        begin += window_px - 2 * halo_px


def predict_tiled(
    look: Callable[[Window], FloatArray],
    shape: Shape,
    predict: Callable[[FloatArray], FloatArray],
    *,
    stride: int,
    multiple_px: int,
    halo_px: int,
    most_px: int | None,
) -> FloatArray:
    """Run a network over an image of any size, tile by tile, with the result of running it on the whole.

    look: gives a window (top, left, bottom, right) of the image, which is mirrored at its lower and right edge up to
    `padded_shape`: (channel, h, w) float32. shape: (height, width) of the image. predict: (channel, h, w) ->
    (k, h / stride, w / stride) for h and w that are multiples of `multiple_px`. most_px: how many pixels may be seen at
    once, halo included; None is all. Tiles are cut so that all together see as little as can be, and their windows
    are of one shape. Returns (k, ceil(height / stride), ceil(width / stride)) float32.
    """
    field = padded_shape(shape, multiple_px)
    core_px = _core_px(field, _up_to(halo_px, multiple_px), most_px, _step_px(max(field), multiple_px))
    tiles = _of_one_shape([*plan_tiles(field, core_px=core_px, halo_px=halo_px, multiple_px=multiple_px)], field)
    return _cut(_predict_tiles(look, field, tiles, predict, stride), shape, stride)


def padded_shape(shape: Shape, multiple_px: int) -> Shape:
    """The shape up to which an image is mirrored for a network that takes multiples of `multiple_px`.

    These are few, for all images together: for a new one OpenVINO compiles the network, which takes as long as a
    megapixel or more.
    """
    height, width = (_up_to(side, _step_px(side, multiple_px)) for side in shape)
    return height, width


def whole_steps(side: float, multiple_px: int, steps: int = LEAST_STEPS) -> int | None:
    """The length nearest to `side` of those that images are enlarged to, so that they become of few shapes.

    It is a whole number of steps, `steps` or more, which are multiples of `multiple_px`; None where a side is too short
    for that.
    """
    step_px = _step_px(side, multiple_px, FEW_SCALES_PX, steps)
    return round(side / step_px) * step_px if side >= step_px * steps else None


def _step_px(side: float, multiple_px: int, most_px: int = FEW_SHAPES_PX, steps: int = LEAST_STEPS) -> int:
    """The step in which sides of images grow: a doubling of `multiple_px`, but little beside the side."""
    step_px = multiple_px
    while step_px < most_px and side >= 2 * step_px * steps:
        step_px *= 2
    return step_px


def _of_one_shape(tiles: Sequence[Tile], field: Shape) -> Iterator[Tile]:
    """The same tiles, with windows that see more where others are larger."""
    high, wide = (max(tile.window[end] - tile.window[end - 2] for tile in tiles) for end in (2, 3))
    for tile in tiles:
        top, left = min(tile.window[0], field[0] - high), min(tile.window[1], field[1] - wide)
        yield Tile(tile.core, (top, left, top + high, left + wide))


def _up_to(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple


def _core_px(field: Shape, halo_px: int, most_px: int | None, step_px: int) -> Shape:
    """How high and wide the cores of tiles are: windows have at most `most_px`, and all together as few as can be.

    Tiles at an edge have one halo there, others two. Where no window is so small, cores are of `step_px`.
    """
    if most_px is None:
        return field
    ways = [
        {_cut_in(side, count, halo_px, step_px) for count in range(1, max(1, side // step_px) + 1)} for side in field
    ]
    fitting = [(rows, columns) for rows, columns in product(*ways) if rows.seen_px * columns.seen_px <= most_px]
    if not fitting:
        return step_px, step_px
    rows, columns = min(fitting, key=lambda way: (way[0].all_px * way[1].all_px, way))
    return rows.core_px, columns.core_px


class _Cut(NamedTuple):
    """A side that is cut into so many parts of `core_px`, the last of which may be less; of each `seen_px` are seen."""

    parts: int
    core_px: int
    seen_px: int

    @property
    def all_px(self) -> int:
        """How much is seen along the side, what is seen twice counted twice."""
        return self.parts * self.seen_px


def _cut_in(side: int, count: int, halo_px: int, step_px: int) -> _Cut:
    core_px = _up_to(-(-side // count), step_px)
    count = -(-side // core_px)
    return _Cut(count, core_px, min(core_px + min(count - 1, 2) * halo_px, side))


def predict_in_windows(
    image: FloatArray,
    predict: Callable[[FloatArray], FloatArray],
    *,
    stride: int,
    multiple_px: int,
    window_px: int,
    halo_px: int,
) -> FloatArray:
    """Run a network that takes windows of one size only over an image of any size, by overlapping windows.

    image: (channel, height, width) float32. predict: (channel, window_px, window_px) -> (k, window_px / stride,
    window_px / stride). Of each window the part is kept that lies `halo_px` away from its sides, or up to the
    image's own edge. Returns (k, ceil(height / stride), ceil(width / stride)) float32.

    The image is mirrored up to the next multiple of `multiple_px`, and to one window at least. `window_px` and
    `halo_px` must be such multiples as well, so that every window lies on the same grid of the network.
    """
    for side in (window_px, halo_px):
        if side % multiple_px:
            raise ValueError(f"{side} px is not a multiple of {multiple_px} px.")
    padded = pad_to_multiple(image, multiple_px, at_least_px=window_px)
    field = (padded.shape[1], padded.shape[2])
    tiles = plan_windows(field, window_px=window_px, halo_px=halo_px)

    def look(window: Window) -> FloatArray:
        top, left, bottom, right = window
        return padded[:, top:bottom, left:right]

    return _cut(_predict_tiles(look, field, tiles, predict, stride), (image.shape[1], image.shape[2]), stride)


def _predict_tiles(
    look: Callable[[Window], FloatArray],
    field: Shape,
    tiles: Iterable[Tile],
    predict: Callable[[FloatArray], FloatArray],
    stride: int,
) -> FloatArray:
    """Predict the window of each tile and put the cores together. All sides must be multiples of `stride`."""
    prediction: FloatArray | None = None
    for tile in tiles:
        top, left, *_ = tile.window
        part = predict(np.ascontiguousarray(look(tile.window)))
        if prediction is None:
            prediction = np.empty((len(part), field[0] // stride, field[1] // stride), dtype=np.float32)
        y0, x0, y1, x1 = (side // stride for side in tile.core)
        part = part[:, y0 - top // stride :, x0 - left // stride :]
        prediction[:, y0:y1, x0:x1] = part[:, : y1 - y0, : x1 - x0]
    assert prediction is not None
    return prediction


def _cut(prediction: FloatArray, shape: Shape, stride: int) -> FloatArray:
    """The part of a prediction that covers an image of this shape, without its padding."""
    return prediction[:, : -(-shape[0] // stride), : -(-shape[1] // stride)]


def pad_to_multiple(image: FloatArray, multiple_px: int, at_least_px: int = 0) -> FloatArray:
    """Mirror an image (channel, height, width) at its lower and right edge up to multiples of `multiple_px`.

    at_least_px: and up to this side. An image that is much smaller is mirrored to and fro.
    """
    sides = [max(side, at_least_px) for side in image.shape[1:]]
    pads = [(0, 0), *((0, new + -new % multiple_px - old) for new, old in zip(sides, image.shape[1:], strict=True))]
    return np.pad(image, pads, mode="symmetric") if any(p for _, p in pads) else image
