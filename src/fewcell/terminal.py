"""What the terminal shows while images are segmented, and after."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING

import typer

from fewcell.errors import ConfigError, ReadError

if TYPE_CHECKING:
    from fewcell.segmenter import Failed, Segmented
    from fewcell.slides import SegmentedSlide, SlideSegmentation

__all__ = ["done_line", "empty_tiles", "problems_of", "shown_segmenting", "unread_tiles"]

SAID_EVERY_S = 30.0  # how often a slide's progress is written where there is no terminal


def unread_tiles(unread: Sequence[str]) -> str:
    """Tiles of a slide that could not be read, a line each."""
    return "\n    ".join([f"{len(unread)} tiles could not be read, and nothing was found there:", *unread])


def empty_tiles(slide: "SlideSegmentation") -> str:
    """What is said of tiles that the network did not have to see."""
    return f"; {slide.empty_tiles} of {slide.n_tiles} tiles are empty" if slide.empty_tiles else ""


def done_line(done: "Segmented | SegmentedSlide") -> str:
    """What is said of a file that was segmented: how many cells, how wide they are, and what it took."""
    from fewcell.slides import SegmentedSlide

    found = done.segmentation.plan if isinstance(done, SegmentedSlide) else done.segmentation
    empty = empty_tiles(done.segmentation) if isinstance(done, SegmentedSlide) else ""
    scale = "diameter not known: nothing looks like a cell"
    if found.diameter_source != "not known":
        larger = f"; {found.larger_px:.1f} px besides" if found.larger_px else ""
        scale = f"diameter {found.diameter_px:.1f} px, {found.diameter_source}{larger}"
    return f"{done.path.name}: {done.n_cells} cells ({scale}) in {done.seconds:.1f} s{empty}"


def problems_of(done: "Segmented | SegmentedSlide | Failed") -> "list[Failed]":
    """What went wrong with a file: all of it, tiles that could not be read, exports that were refused."""
    from fewcell.segmenter import Failed
    from fewcell.slides import SegmentedSlide

    if isinstance(done, Failed):
        return [done]
    if not isinstance(done, SegmentedSlide):
        return []
    slide = done.segmentation
    errors = [ReadError(unread_tiles(slide.failed))] if slide.failed else []
    return [Failed(done.path, error) for error in (*errors, *map(ConfigError, slide.refused))]


@contextmanager
def shown_segmenting(total: int = 1) -> Iterator[tuple[Callable[[], None], Callable[..., None]]]:
    """Bars on a terminal, of files and of the slide that is worked on: what to call after a file, and as it goes.

    Elsewhere a line every SAID_EVERY_S.
    """
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True, highlight=False)
    said_at = time.monotonic()
    progress = Progress(console=console, transient=True)
    with progress if console.is_terminal else nullcontext():  # where there is none it would end in an empty line
        files = progress.add_task("segmenting", total=total, visible=total > 1)
        part = progress.add_task("", visible=False)

        def advance() -> None:
            progress.advance(files)
            progress.update(part, visible=False)

        def report(*about) -> None:
            *of, now = about  # of several files, their path comes first
            words = " ".join([*(path.name for path in of), now.stage])
            progress.update(part, description=words, completed=now.done, total=now.total, visible=True)
            nonlocal said_at
            if not console.is_terminal and time.monotonic() - said_at > SAID_EVERY_S:  # in the log of a job
                said_at = time.monotonic()
                left = timedelta(seconds=round(now.seconds_left))
                typer.echo(f"{words}: {now.done} of {now.total}, {left} left", err=True)

        yield advance, report
