"""How long each image took: a table beside the outputs, seconds.csv."""

import csv
from dataclasses import dataclass
from pathlib import Path

from fewcell.errors import ReadError, WriteError

__all__ = ["SECONDS_FILE", "Took", "read_seconds", "record_seconds"]

SECONDS_FILE = "seconds.csv"
COLUMNS = ["stem", "height_px", "width_px", "seconds"]


@dataclass(frozen=True)
class Took:
    """How large an image is, and how long it took: from before it was read until its outputs were there.

    Two images of usual size are worked on at a time, so one alone takes less.
    """

    height_px: int
    width_px: int
    seconds: float


def record_seconds(folder: Path, stem: str, took: Took) -> None:
    """Add a line to the table of a folder. A later line of the same stem counts instead of the earlier one.

    A line is added and no line changed, so several processes may write to one folder.
    """
    path = folder / SECONDS_FILE
    try:
        is_new = not path.exists()
        with path.open("a", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.writer(file, lineterminator="\n")
            if is_new:
                writer.writerow(COLUMNS)
            writer.writerow([stem, took.height_px, took.width_px, f"{took.seconds:.3f}"])
    except OSError as error:
        raise WriteError(f"{path}: cannot be written: {error.strerror or error}.") from None


def read_seconds(folder: Path) -> dict[str, Took]:
    """The table of a folder: stem -> how long it took.

    Raises ReadError if there is none, or if it is of another kind.
    """
    path = folder / SECONDS_FILE
    try:
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            rows = csv.DictReader(file)
            if not set(COLUMNS).issubset(rows.fieldnames or COLUMNS):
                raise KeyError(rows.fieldnames)
            return {
                row["stem"]: Took(int(row["height_px"]), int(row["width_px"]), float(row["seconds"]))
                for row in rows
                if row["height_px"] != "height_px"  # two processes that began the table at once both wrote its head
            }
    except OSError:
        raise ReadError(
            f"{folder} has no {SECONDS_FILE} that can be read. `fewcell segment` writes it beside the labels: segment "
            "the images again, into a folder."
        ) from None
    except (KeyError, TypeError, ValueError):
        raise ReadError(
            f"{path} is not as `fewcell segment` writes it, with the columns {', '.join(COLUMNS)}. Segment the images "
            "again, into another folder."
        ) from None
