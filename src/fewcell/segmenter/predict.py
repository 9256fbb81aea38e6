"""Running a network on an image at some scale: at once, tile by tile, or in windows; and what memory that takes."""

from fewcell.engine import Engine
from fewcell.errors import TooLargeError
from fewcell.images import Pyramid, available_bytes
from fewcell.segmenter.measure import LARGEST_FACTOR
from fewcell.segmenter.model_folder import NetworkFacts
from fewcell.tiles import LEAST_STEPS, predict_in_windows, predict_tiled, whole_steps
from fewcell.types import FloatArray, Shape, Window

__all__ = ["canonical_shape", "check_memory", "is_large", "predict_at_scale", "rounded_factor"]

BYTES_PER_PIXEL = 24  # labels and scratch arrays on the image's own grid
BYTES_PER_SEEN_PIXEL = 24  # what the network sees at once, resampled and padded
MOST_SEEN_PX = 1408**2  # of an image at canonical scale, with halos where there are more
LARGE_PX = 1024**2  # of which one is seen and one is read at a time
LEAST_CORE_PX = 768  # side of a part without its halos, however wide these are
WINDOW_HALO = 1 / 8  # share of a window's side that is seen but not used: the challenge's baselines overlap by 1/4


def predict_at_scale(
    image: Pyramid, factor: float, engine: Engine, network: NetworkFacts, window: Window | None = None
) -> FloatArray:
    """Run a network on a normalised image enlarged by about `factor` (at most 4); the prediction is on its grid.

    window: the part of the image to look at, by default all of it.

    The image is resampled to whole pixels of the network's grid, so that image and prediction cover the same field.
    A network with a `window_px` is given windows of exactly that size, mirrored beyond the edge of a smaller image.
    """
    factor = min(factor, LARGEST_FACTOR)
    stride = network.stride
    seen = window or image.whole
    top, left, bottom, right = seen
    shape = canonical_shape((bottom - top, right - left), factor, stride)
    grid = {"stride": stride, "multiple_px": network.multiple_px}
    if network.window_px is not None:
        halo_px = int(network.window_px * WINDOW_HALO / network.multiple_px) * network.multiple_px
        resampled = image.view(seen, shape)
        return predict_in_windows(resampled, engine, **grid, window_px=network.window_px, halo_px=halo_px)
    if network.reach_px is None:  # it sees everything, and cannot be tiled
        halo_px, most_px = 0, None
    else:
        halo_px = network.reach_px
        most_px = max(MOST_SEEN_PX, (LEAST_CORE_PX + 2 * (halo_px + network.multiple_px)) ** 2)

    def look(part: Window) -> FloatArray:
        return image.view(seen, shape, part)

    return predict_tiled(look, shape, engine, **grid, halo_px=halo_px, most_px=most_px)


def rounded_factor(shape: Shape, factor: float, network: NetworkFacts, steps: int = LEAST_STEPS) -> float:
    """The factor next to `factor` that makes the longer side of an image one of a few lengths, if there is one.

    steps: of which that side has so many at least: it becomes longer or shorter by half a step at most.
    """
    side_px = whole_steps(max(shape) * factor, network.multiple_px, steps)
    rounded = factor if side_px is None else side_px / max(shape)
    return factor if rounded > LARGEST_FACTOR else rounded


def canonical_shape(shape: Shape, factor: float, stride: int) -> Shape:
    """Height and width of an image that is enlarged by about `factor`: whole pixels of the network's grid."""
    height, width = (max(1, round(side * factor / stride)) * stride for side in shape)
    return height, width


def is_large(seen: Window, factor: float) -> bool:
    """Whether a part of an image, enlarged by `factor`, takes much memory to be seen."""
    top, left, bottom, right = seen
    return (bottom - top) * (right - left) * factor**2 > LARGE_PX


def _bytes_needed(factor: float, shape: Shape, network: NetworkFacts, decode_bytes: int) -> float:
    """The memory that an image enlarged by `factor` takes with all that is made of it."""
    px = shape[0] * shape[1]
    canonical_px = px * factor**2
    seen_px = canonical_px if network.reach_px is None else min(canonical_px, MOST_SEEN_PX)
    return px * BYTES_PER_PIXEL + seen_px * BYTES_PER_SEEN_PIXEL + canonical_px * decode_bytes / network.stride**2


def check_memory(factor: float, shape: Shape, network: NetworkFacts, decode_bytes: int) -> None:
    """Raise TooLargeError if an image enlarged by `factor` would not fit into memory."""
    needed, available = _bytes_needed(factor, shape, network, decode_bytes), available_bytes()
    if needed > available:
        raise TooLargeError(
            f"An image of {shape[0]} x {shape[1]} px at {factor:.2g} times its size needs about {needed / 1e9:.1f} GB, "
            f"but {available / 1e9:.1f} GB are free. Name the labels (-o X.zarr), which takes less memory, cut "
            "the image into parts, or give a larger --diameter."
        )
