"""From a slide to its cells, in three passes: the network sees every tile, every block is read, all is painted."""

import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from fewcell.engine import available_threads
from fewcell.errors import FewcellError, WriteError
from fewcell.images import Window, open_slide
from fewcell.segmenter import TILE_PX, FileSettings, Segmenter
from fewcell.slides.exports import Numbered, check_exports, write_exports
from fewcell.slides.journal import Journal
from fewcell.slides.label_zarr import chunks_of, create_labels, shrink_chunk, write_facts
from fewcell.slides.plan import SlidePlan, plan_slide
from fewcell.slides.stitch import Piece, paint
from fewcell.slides.work import PLAN_FILE, Work
from fewcell.types import FloatArray

__all__ = ["SlideProgress", "SlideSegmentation", "segment_slide"]

JOURNAL_FILE = "journal.txt"
LABELS = "labels.zarr"
AHEAD = 2  # tiles that are read before the network asks for them
KEPT_PIECES = 12  # of neighbouring blocks, while chunks are painted

T = TypeVar("T")


@dataclass(frozen=True)
class SlideProgress:
    """How far a pass over a slide is. seconds_left: of this pass, as its pieces went so far."""

    stage: str
    done: int
    total: int
    seconds_left: float


@dataclass(frozen=True)
class SlideSegmentation:
    """What became of a slide: the plan, how many cells, where the outputs are, and what each part took, in seconds.

    outputs: "labels", and a file for each export. failed: what was wrong with tiles that could not be read; nothing is
    found there. empty_tiles: seen to hold nothing.
    """

    plan: SlidePlan
    n_cells: int
    outputs: dict[str, Path]
    seconds: dict[str, float]
    n_tiles: int
    empty_tiles: int
    failed: tuple[str, ...]

    @property
    def labels(self) -> Path:
        return self.outputs["labels"]


def segment_slide(
    segmenter: Segmenter,
    path: Path,
    out: Path,
    settings: FileSettings | None = None,
    *,
    exports: Sequence[str] = (),
    tile_px: int = TILE_PX,
    threads: int | None = None,
    report: Callable[[SlideProgress], None] = lambda progress: None,
) -> SlideSegmentation:
    """Find every cell of a slide and write a label image, OME-Zarr 0.5, whole or not at all.

    out: the label image, a folder that ends in .zarr. Beside it, <out>.unfinished holds what is done so far: a run that
    was killed goes on from there if it is called in the same way, and ends with the same bytes. exports: further files,
    names in `EXPORTS`, which lie beside `out` and begin as it does. tile_px: side of what the network sees at once.
    threads: that read blocks at once, by default one a core.

    Tiles that cannot be read are listed, and the rest goes on. Raises WriteError if an output exists and may not be
    overwritten, or if <out>.unfinished was begun otherwise; and what `check_exports` raises.
    """
    began, settings = time.perf_counter(), settings or FileSettings()
    if out.exists() and not settings.overwrite:
        raise WriteError(f"{out}: exists already. Choose another name, or allow it with --overwrite.")
    stem = out.with_name(out.stem.removesuffix("_label"))
    check_exports(exports, stem, overwrite=settings.overwrite)
    with open_slide(path, axes=settings.axes, plane=settings.plane) as slide:
        plan = plan_slide(slide, segmenter, settings, tile_px)
    folder = _unfinished(out, plan, settings.overwrite)
    with Journal(folder / JOURNAL_FILE) as journal:
        work = Work(folder, plan, segmenter)
        if "prepared" not in journal.done:
            work.prepare()
            journal.finish("prepared")
        run = _Run(work, journal, threads or available_threads(), report, {"plan": time.perf_counter() - began})
        run.predict_tiles()
        run.read_blocks()
        n_cells = run.paint_labels()
        outputs = run.export(exports, stem, overwrite=settings.overwrite)
    if out.exists():
        shutil.rmtree(out)
    os.replace(folder / LABELS, out)
    shutil.rmtree(folder)
    outputs = {"labels": out, **outputs}
    unread = tuple(run.failed.values())
    return SlideSegmentation(plan, n_cells, outputs, run.seconds, len(work.tiles), run.empty_tiles, unread)


def _unfinished(out: Path, plan: SlidePlan, overwrite: bool) -> Path:
    """The folder of what is done so far, made or found again."""
    folder = out.with_name(out.name + ".unfinished")
    plan_file = folder / PLAN_FILE
    if plan_file.exists() and SlidePlan.read(plan_file).key != plan.key:
        if not overwrite:
            raise WriteError(
                f"{folder}: holds a run with other settings, another model, or of another slide. Go on with those, or "
                "begin again with --overwrite."
            )
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if not plan_file.exists():
        temporary = plan_file.with_suffix(".new")
        temporary.write_text(plan.model_dump_json(indent=1), encoding="utf-8")
        os.replace(temporary, plan_file)
    return folder


@dataclass
class _Run:
    """The passes over one slide, and what they took."""

    work: Work
    journal: Journal
    threads: int
    report: Callable[[SlideProgress], None]
    seconds: dict[str, float]

    def __post_init__(self) -> None:
        self.failed: dict[int, str] = {}
        self.empty_tiles = 0
        self.numbered: list[tuple[Path, int]] = []

    def predict_tiles(self) -> None:
        """Reading, the network and writing at the same time, each in its own thread."""
        work, stage = self.work, "tiles"
        todo = [i for i in range(len(work.tiles)) if f"tile {i}" not in self.journal.done]
        took: dict[str, float] = {"read": 0.0, "network": 0.0, "write": 0.0}
        with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
            seen = _ahead(reader, lambda i: _timed(took, "read", self._look, i), todo)
            writing: deque[Future[None]] = deque()
            for number, image in self._progress(stage, zip(todo, seen, strict=True), len(todo)):
                packed = _timed(took, "network", work.predict, number, image)
                writing.append(writer.submit(_timed, took, "write", self._keep, number, packed))
                while len(writing) > AHEAD:
                    writing.popleft().result()
            for future in writing:
                future.result()
        self.seconds |= took

    def read_blocks(self) -> None:
        work, took = self.work, {"decode": 0.0}
        todo = [i for i in range(len(work.blocks)) if f"block {i}" not in self.journal.done]
        start = time.perf_counter()
        with ThreadPoolExecutor(self.threads) as pool:
            done = _ahead(pool, work.read_block, todo, self.threads)
            for number, _ in self._progress("blocks", zip(todo, done, strict=True), len(todo)):
                self.journal.finish(f"block {number}")
        took["decode"] = time.perf_counter() - start
        self.seconds |= took

    def paint_labels(self) -> int:
        """Number the cells and write them as one label image with smaller copies; how many there are."""
        start = time.perf_counter()
        work, plan = self.work, self.work.plan
        heads = [_head(work.piece_file(block.number)) for block in work.blocks]
        surest = max((head.surest for head in heads), default=0.0)
        counts = [head.n_cells if surest >= plan.min_surest else 0 for head in heads]
        first = np.concatenate([[0], np.cumsum(counts)]).astype(int)
        path = work.folder / LABELS
        if "labels" not in self.journal.done:
            create_labels(path, plan.shape, plan.pixel_size_um)
            self.journal.finish("labels")
        read = lru_cache(KEPT_PIECES)(lambda number: Piece.read(work.piece_file(number)))
        arrays, names = chunks_of(path)
        todo = [name for name in names if f"chunk {name}" not in self.journal.done]
        for name in self._progress("labels", todo, len(todo)):
            level, window = name
            if level == 0:
                near = [i for i, head in enumerate(heads) if counts[i] and _meet(head.window, window)]
                painted = paint([read(i) for i in near], [int(first[i]) for i in near], window)
                arrays[0][window[0] : window[2], window[1] : window[3]] = painted
            else:
                shrink_chunk(arrays, level, window)
            self.journal.finish(f"chunk {name}")
        write_facts(path, plan, int(first[-1]), [*self.failed.values()])
        self.seconds["write labels"] = time.perf_counter() - start
        self.numbered = [(work.piece_file(i), int(first[i])) for i in range(len(counts)) if counts[i]]
        return int(first[-1])

    def export(self, kinds: Sequence[str], stem: Path, *, overwrite: bool) -> dict[str, Path]:
        start = time.perf_counter()
        labels = self.work.folder / LABELS
        paths = write_exports(kinds, stem, self._pieces, self.work.plan, labels, overwrite=overwrite)
        self.seconds["export"] = time.perf_counter() - start
        return paths

    def _pieces(self) -> Iterator[Numbered]:
        return (Numbered(Piece.read(path), before) for path, before in self.numbered)

    def _look(self, number: int) -> FloatArray | None:
        try:
            image = self.work.look(number)
        except FewcellError as error:
            zoom, tile = self.work.tiles[number]
            step = self.work.plan.shape[0] / self.work.plan.zooms[zoom].shape[0]
            place = ", ".join(str(round(edge * step)) for edge in tile.core)
            self.failed[number] = f"{place} (top, left, bottom, right): {error}"
            return None
        self.empty_tiles += image is None
        return image

    def _keep(self, number: int, packed: Any) -> None:
        self.work.keep(number, packed)
        if number not in self.failed:  # if the run goes on another time, it may be readable then
            self.journal.finish(f"tile {number}")

    def _progress(self, stage: str, pieces: Iterable[T], total: int) -> Iterator[T]:
        """Hand pieces of work on, and say how far it is after each."""
        start = time.perf_counter()
        for done, piece in enumerate(pieces, 1):
            yield piece
            left = (time.perf_counter() - start) / done * (total - done)
            self.report(SlideProgress(stage, done, total, left))


@dataclass(frozen=True)
class _Head:
    """What painting has to know of a piece before it reads it."""

    window: Window
    n_cells: int
    surest: float


def _head(path: Path) -> _Head:
    with np.load(path, allow_pickle=False) as arrays:
        top, left, bottom, right = (int(edge) for edge in arrays["window"])
        count = len(arrays["column id"]) if "column id" in arrays.files else 0
        return _Head((top, left, bottom, right), count, float(arrays["surest"]))


def _meet(one: Window, other: Window) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _ahead(pool: ThreadPoolExecutor, do: Callable[[int], T], numbers: Iterable[int], count: int = AHEAD) -> Iterator[T]:
    """The results of pieces of work in their order, so many of them begun before they are asked for."""
    waiting: deque[Future[T]] = deque()
    for number in numbers:
        waiting.append(pool.submit(do, number))
        if len(waiting) > count:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _timed(took: dict[str, float], name: str, do: Callable[..., T], *arguments: Any) -> T:
    start = time.perf_counter()
    try:
        return do(*arguments)
    finally:
        took[name] += time.perf_counter() - start
