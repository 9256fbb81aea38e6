"""How long each image took, against the time that the NeurIPS 2022 Cell Segmentation Challenge forgives.

Source: the challenge's own script, baseline/cellseg_time_eval.py of https://github.com/JunMa11/NeurIPS-CellSeg, and
https://neurips22-cellseg.grand-challenge.org/metrics/. The challenge also measured memory on a GPU; none is used here.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Group as Lines
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from fewcell.segmenter import Took, read_seconds

__all__ = ["Efficiency", "TimedImage", "measure_efficiency", "render_efficiency", "tolerance_s"]

TOLERANCE_S = 10.0  # up to a megapixel, and for each megapixel beyond


@dataclass(frozen=True)
class TimedImage:
    """An image by its stem, and how long it took."""

    stem: str
    took: Took

    @property
    def tolerance_s(self) -> float:
        return tolerance_s(self.took.height_px, self.took.width_px)

    @property
    def is_inside(self) -> bool:
        return self.took.seconds <= self.tolerance_s


@dataclass(frozen=True)
class Efficiency:
    """The images whose time is known, in the order of their stems, and the stems of those whose time is not."""

    timed: tuple[TimedImage, ...]
    unknown: tuple[str, ...]

    @property
    def share_inside(self) -> float | None:
        """The share of the images whose time is known that are inside the tolerance; None if there are none."""
        return sum(image.is_inside for image in self.timed) / len(self.timed) if self.timed else None


def tolerance_s(height_px: int, width_px: int) -> float:
    """The seconds that the challenge forgives: 10 up to a megapixel, and 10 a megapixel for larger images."""
    return TOLERANCE_S * max(1.0, height_px * width_px / 1e6)


def measure_efficiency(stems: Iterable[str], predicted_dir: str | PathLike[str]) -> Efficiency:
    """Look up how long images took, in the table that `fewcell segment` writes beside its labels.

    Raises ReadError if there is no such table.
    """
    known = read_seconds(Path(predicted_dir))
    stems = sorted(stems)
    timed = tuple(TimedImage(stem, known[stem]) for stem in stems if stem in known)
    return Efficiency(timed, tuple(stem for stem in stems if stem not in known))


def render_efficiency(efficiency: Efficiency) -> RenderableType:
    """Lay out the times for the terminal: a line an image, and the share that is inside the tolerance."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("")
    for heading in ("height", "width", "seconds", "tolerance", ""):
        table.add_column(heading, justify="right", no_wrap=True)
    for image in efficiency.timed:
        took, verdict = image.took, "" if image.is_inside else "too slow"
        size = (str(took.height_px), str(took.width_px))
        table.add_row(Text(image.stem), *size, f"{took.seconds:.1f}", f"{image.tolerance_s:.1f}", verdict)
    inside = sum(image.is_inside for image in efficiency.timed)
    share = "" if efficiency.share_inside is None else f" ({efficiency.share_inside:.1%})"
    lines = [
        f"{inside} of {len(efficiency.timed)} images{share} are inside the challenge's time tolerance.",
        "Seconds: reading, finding cells, writing. The challenge started a container for every image, and the start "
        "counted.",
    ]
    if efficiency.unknown:
        lines.append(f"No time is known of: {', '.join(efficiency.unknown)}")
    return Lines(table, *map(Text, lines))
