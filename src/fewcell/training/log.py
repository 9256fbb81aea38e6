"""The log of a training run: where it stood, row by row."""

import csv
from dataclasses import asdict, dataclass
from pathlib import Path

from fewcell.images import whole_file

__all__ = ["Progress", "rewind_log", "write_log"]


@dataclass(frozen=True)
class Progress:
    """Where a run stands: one row of its log.

    seconds: spent training; what the checkpoints and the held-out crops take is not counted. held_out_loss,
    held_out_f1: of the averaged network on fixed crops, now and then; F1 is the mean over crops at IoU 0.5, with the
    thresholds that the representation starts with. waiting: share of the time that the network waited for crops.
    """

    step: int
    share_done: float
    seconds: float
    seconds_left: float
    loss: float
    held_out_loss: float | None
    held_out_f1: float | None
    learning_rate: float
    crops_per_s: float
    waiting: float


def rewind_log(path: Path, step: int) -> None:
    """Drop the rows after `step`: a run that was killed makes the steps after its last checkpoint again."""
    if not path.exists():
        return
    header, *rows = path.read_bytes().splitlines(keepends=True) or [b""]
    kept = [row for row in rows if int(row.split(b",")[0]) <= step]
    with whole_file(path, overwrite=True) as temporary:
        temporary.write_bytes(b"".join([header, *kept]))


def write_log(path: Path, progress: Progress) -> None:
    """Add a row to the log; the first brings the header."""
    row = {k: v if isinstance(v, int) or v is None else round(v, 6) for k, v in asdict(progress).items()}
    is_new = not path.exists()
    with open(path, "a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(row))
        if is_new:
            writer.writeheader()
        writer.writerow(row)
