"""Windows, parts of an image: where they meet, what they have in common, and how they cover it."""

from collections.abc import Iterator

from fewcell.types import Shape, Window

__all__ = ["common", "grown", "joined", "meet", "pixels_in", "slices", "squares"]


def meet(one: Window, other: Window) -> bool:
    """Whether two windows have pixels in common."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def common(one: Window, other: Window) -> Window:
    """The window of the pixels that are in both, of two that meet."""
    return max(one[0], other[0]), max(one[1], other[1]), min(one[2], other[2]), min(one[3], other[3])


def joined(one: Window, other: Window) -> Window:
    """The smallest window that holds both."""
    return min(one[0], other[0]), min(one[1], other[1]), max(one[2], other[2]), max(one[3], other[3])


def grown(window: Window, by_px: int, shape: Shape) -> Window:
    """A window and what lies so far around it, as far as the image reaches."""
    top, left, bottom, right = window
    return max(top - by_px, 0), max(left - by_px, 0), min(bottom + by_px, shape[0]), min(right + by_px, shape[1])


def pixels_in(window: Window) -> int:
    """How many pixels it has."""
    return (window[2] - window[0]) * (window[3] - window[1])


def slices(window: Window, of: Window | None = None) -> tuple[slice, slice]:
    """What takes its pixels, rows and columns, out of those of the image, or of another window that it meets."""
    top, left = (0, 0) if of is None else of[:2]
    rows = slice(max(window[0] - top, 0), max(window[2] - top, 0))
    return rows, slice(max(window[1] - left, 0), max(window[3] - left, 0))


def squares(shape: Shape, side_px: int) -> Iterator[Window]:
    """Windows of this side that cover an image once, row by row; the last ones end where it does."""
    for top in range(0, shape[0], side_px):
        for left in range(0, shape[1], side_px):
            yield top, left, min(top + side_px, shape[0]), min(left + side_px, shape[1])
