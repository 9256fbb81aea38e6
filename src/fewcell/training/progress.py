"""A progress bar for a training run."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from fewcell.training.log import Progress as Report

__all__ = ["shown_progress"]


@contextmanager
def shown_progress() -> Iterator[Callable[[Report], None]]:
    """Show where a run stands: on a terminal as a bar, elsewhere as a line at each checkpoint."""
    console = Console(stderr=True, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    shown = console.is_terminal and os.environ.get("RANK", "0") == "0"
    bar = Progress(*columns, console=console)
    with bar if shown else nullcontext():
        task = bar.add_task("training", total=1.0)

        def report(at: Report) -> None:
            left = f"{at.seconds_left / 60:.0f} min left" if at.seconds_left > 90 else f"{at.seconds_left:.0f} s left"
            line = f"step {at.step}, loss {at.loss:.3f}, {at.crops_per_s:.1f} crops/s, {left}"
            bar.update(task, completed=at.share_done, description=line)
            if at.held_out_loss is not None:
                f1 = "" if at.held_out_f1 is None else f", F1 {at.held_out_f1:.3f}"
                console.print(f"{line}, held-out loss {at.held_out_loss:.4f}{f1}")

        yield report
