"""A slide seen from any distance: normalised by one estimate for all of it, and read as it is looked at."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewcell.errors import ReadError
from fewcell.images.normalise import Contrast, check_channel_count, estimate_contrast, normalise
from fewcell.images.pyramid import Pyramid, halved
from fewcell.images.read import check_channels
from fewcell.images.slide import Slide, read_around_damage
from fewcell.types import FloatArray, Window

__all__ = ["SlidePyramid"]

Read = Callable[[Slide, Window, int, Sequence[int]], NDArray[Any]]
STRIP_BYTES = 64_000_000  # of a slide's own numbers that are read at once, as float32


class SlidePyramid(Pyramid):
    """The views of a slide, which are those of the same image in memory as long as the slide holds no copies itself.

    Several threads may look at the same time.
    """

    def __init__(
        self,
        slide: Slide,
        channels: Sequence[int] | None = None,
        contrast: Contrast | None = None,
        *,
        around_damage: bool = False,
    ) -> None:
        """channels: which of the slide's are seen, in order, 1 to 3; by default all. contrast: of the whole slide, by
        default estimated from its overview. around_damage: whether parts that cannot be read are black in views.

        Raises AxesError for channels that it does not have, or for more than three, ReadError where the contrast is to
        be estimated and nothing of the overview can be read.
        """
        self.slide, self.around_damage = slide, around_damage
        self.channels = [*range(slide.n_channels)] if channels is None else [*channels]
        check_channels(self.channels, slide.channel_names, str(slide.path))
        check_channel_count(len(self.channels))
        self.shape = slide.shape
        self.whole = (0, 0, *self.shape)
        self._gray = {}
        self._copies = {_power(level.step): number for number, level in enumerate(slide.levels)}
        self._seen: dict[int, FloatArray] = {}
        if contrast is not None:
            self.contrast = contrast
            return
        numbers = self._of_all()
        if np.isnan(numbers).all():  # of damage, or as the file has it
            try:
                self._of_all(Slide.read)
            except ReadError:
                raise ReadError(f"{slide.path}: no part of it can be read. Get a fresh copy.") from None
        self.contrast = estimate_contrast(numbers)
        self._seen[self._overview_step()] = self._normalised(numbers)

    def _level(self, step: int) -> FloatArray:
        """Only of an overview and what is smaller: it is kept."""
        if step not in self._seen:
            is_overview = step == self._overview_step()
            self._seen[step] = self._normalised(self._of_all()) if is_overview else halved(self._level(step // 2))
        return self._seen[step]

    def _of_all(self, read: Read = read_around_damage) -> NDArray[np.float32]:
        """The numbers of the overview; damaged parts may be left out."""
        step = self._overview_step()
        height, width = (-(-side // step) for side in self.shape)
        return self.numbers(step, (0, 0, height, width), read)

    def _part(self, step: int, window: Window) -> FloatArray:
        return self._normalised(self.numbers(step, window))

    def _normalised(self, numbers: NDArray[np.float32]) -> FloatArray:
        pixels = normalise(numbers, self.contrast)
        return pixels[:1] if pixels.strides[0] == 0 else pixels

    def numbers(self, step: int, window: Window, read: Read | None = None) -> NDArray[np.float32]:
        """The slide's own numbers in a window of the copy whose pixels are `step` of the slide's wide.

        window: in pixels of that copy. read: by default `Slide.read`, or `read_around_damage` if views may leave out
        damaged parts; who looks at cells is to be told of them.
        """
        stored = max(copy for copy in self._copies if copy and copy <= step)
        level, times = self._copies[stored], step // stored
        top, left, bottom, right = window
        height, width = self.slide.levels[level].shape
        rows = max(1, STRIP_BYTES // (4 * len(self.channels) * times * times * max(right - left, 1)))
        first_x, last_x = min(left * times, width - 1), min(right * times, width)
        read = read or (read_around_damage if self.around_damage else Slide.read)
        strips = []
        for start in range(top, bottom, rows):
            first_y, last_y = min(start * times, height - 1), min(min(start + rows, bottom) * times, height)
            of_slide = (first_y, first_x, max(last_y, first_y + 1), max(last_x, first_x + 1))
            strips.append(_reduced(read(self.slide, of_slide, level, self.channels), times))
        seen = np.concatenate(strips, axis=1)
        missing = [(0, 0), (0, bottom - top - seen.shape[1]), (0, right - left - seen.shape[2])]
        is_short = any(pad for _, pad in missing)  # copies may be rounded down
        return np.pad(seen, missing, mode="edge") if is_short else seen


def _power(step: tuple[float, float]) -> int:
    """The power of two that a step is, 0 if it is none: with other copies what is seen would shift."""
    power = 2 ** max(0, round(np.log2(max(step))))
    return power if step == (power, power) else 0


def _reduced(numbers: NDArray, times: int) -> NDArray[np.float32]:
    """The means of times x times pixels, halved again and again, as those of an image in memory are."""
    with np.errstate(over="ignore"):
        pixels = numbers.astype(np.float32)
    while times > 1:
        pixels, times = halved(pixels), times // 2
    return pixels
