"""The passes over a slide: the network sees every tile, every block is read, all is painted and exported."""

import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from fewcell.ahead import ahead
from fewcell.engine import available_threads
from fewcell.errors import ConfigError
from fewcell.slides.cluster import do_block, do_tile, on_cluster
from fewcell.slides.exports import ExportSource, Numbered, export_paths, write_export
from fewcell.slides.journal import Journal
from fewcell.slides.label_zarr import chunks_of, create_labels, shrink_chunk, write_facts
from fewcell.slides.plan import TILE_PX
from fewcell.slides.stitch import Piece, paint
from fewcell.slides.work import Work
from fewcell.types import Window

__all__ = ["EXPORTED", "LABELS", "PAINTED", "Execution", "Run", "SlideProgress"]

LABELS = "labels.zarr"
PAINTED = "painted"  # the line of the journal after which labels are whole, and may be moved
EXPORTED, UNREAD, EMPTY = "exported ", "unread ", "empty "  # beginnings of lines of the journal
AHEAD = 2  # tiles that are read before the network asks for them
KEPT_PIECES = 12  # of neighbouring blocks, while chunks are painted

T = TypeVar("T")


@dataclass(frozen=True)
class Execution:
    """How the work on a slide is parted, and who does it; the cells are the same.

    tile_px: side of what the network sees at once, without its halo. dask: the address of a scheduler, whose workers do
    tiles and blocks; they must reach slide, model and outputs at the same places.
    """

    tile_px: int = TILE_PX
    dask: str | None = None


@dataclass(frozen=True)
class SlideProgress:
    """How far a pass over a slide is. seconds_left: of this pass, as its pieces went so far."""

    stage: str
    done: int
    total: int
    seconds_left: float


@dataclass
class Run:
    """The passes over one slide, and what they took."""

    work: Work
    journal: Journal
    how: Execution
    report: Callable[[SlideProgress], None]

    def __post_init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.n_cells = 0
        self.numbered: list[tuple[Path, int]] = []
        self.refused: list[str] = []

    @property
    def unread(self) -> tuple[str, ...]:
        """What was wrong with tiles that could not be read."""
        return _unread(self.journal.done)

    @property
    def own_unread(self) -> tuple[str, ...]:
        """The same, of tiles that this run looked at, and no other shard."""
        return _unread(self.journal.own)

    @property
    def empty_tiles(self) -> int:
        """How many tiles were seen to hold nothing."""
        return sum(line.startswith(EMPTY) for line in self.journal.done)

    def predict_tiles(self, numbers: Sequence[int]) -> None:
        """Reading, the network and writing at the same time, each in its own thread; or on a cluster."""
        work = self.work
        todo = [i for i in numbers if f"tile {i}" not in self.journal.done]
        took: dict[str, float] = {"read": 0.0, "network": 0.0, "write": 0.0}
        if self.how.dask is not None:
            results = on_cluster(self.how.dask, do_tile, work.folder, todo)
            for number, (is_empty, problem) in self._progress("tiles", results, len(todo)):
                self._finish_tile(number, is_empty, problem)
            return
        with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
            seen = ahead(reader, lambda i: _timed(took, "read", work.try_look, i), todo, AHEAD)
            writing: deque[Future[None]] = deque()
            for number, (image, problem) in self._progress("tiles", zip(todo, seen, strict=True), len(todo)):
                packed = _timed(took, "network", work.predict, number, image)
                is_empty = image is None and problem is None
                writing.append(writer.submit(_timed, took, "write", self._keep, number, packed, is_empty, problem))
                while len(writing) > AHEAD:
                    writing.popleft().result()
            for future in writing:
                future.result()
        self.seconds |= took

    def read_blocks(self, numbers: Sequence[int], *, may_widen: bool = True) -> None:
        """Read the cells of blocks, as many at once as the segmenter may use threads, or on a cluster.

        may_widen: see `Work`.
        """
        todo, start = [i for i in numbers if f"block {i}" not in self.journal.done], time.perf_counter()
        if self.how.dask is not None:
            results = on_cluster(self.how.dask, partial(do_block, may_widen=may_widen), self.work.folder, todo)
            for number, is_done in self._progress("blocks", results, len(todo)):
                if is_done:
                    self.journal.finish(f"block {number}")
        else:
            threads = self.work.segmenter.threads or available_threads()
            with ThreadPoolExecutor(threads) as pool:
                done = ahead(pool, lambda i: self.work.read_block(i, may_widen=may_widen), todo, threads)
                for number, is_done in self._progress("blocks", zip(todo, done, strict=True), len(todo)):
                    if is_done:
                        self.journal.finish(f"block {number}")
        self.seconds["decode"] = time.perf_counter() - start

    def paint_labels(self) -> None:
        """Number the cells and write them as one label image with smaller copies."""
        start = time.perf_counter()
        work, plan = self.work, self.work.plan
        heads = [_head(work.piece_file(block.number)) for block in work.blocks]
        surest = max((head.surest for head in heads), default=0.0)
        counts = [head.n_cells if surest >= plan.min_surest else 0 for head in heads]
        first = np.concatenate([[0], np.cumsum(counts)]).astype(int)
        self.numbered = [(work.piece_file(i), int(first[i])) for i in range(len(counts)) if counts[i]]
        self.n_cells = int(first[-1])
        path = work.folder / LABELS
        if PAINTED in self.journal.done:
            return
        if "labels" not in self.journal.done:
            create_labels(path, plan.shape, plan.task.pixel_size_um)
            self.journal.finish("labels")
        read = lru_cache(KEPT_PIECES)(lambda number: Piece.read(work.piece_file(number)))
        arrays, names = chunks_of(path)
        filled = {i: head.window for i, head in enumerate(heads) if counts[i]}
        near = _by_chunk(filled, arrays[0].chunks[0])
        todo = [name for name in names if f"chunk {name}" not in self.journal.done]
        for name in self._progress("labels", todo, len(todo)):
            level, window = name
            if level == 0:
                seen = near[window[:2]]
                painted = paint([read(i) for i in seen], [int(first[i]) for i in seen], window)
                arrays[0][window[0] : window[2], window[1] : window[3]] = painted
            else:
                shrink_chunk(arrays, level, window)
            self.journal.finish(f"chunk {name}")
        write_facts(path, plan, self.n_cells, self.unread, self.empty_tiles)
        for torn in path.rglob("*.partial"):  # chunks that a kill cut short, and that were written again
            torn.unlink()
        self.journal.finish(PAINTED)
        self.seconds["write labels"] = time.perf_counter() - start

    def export(self, kinds: Sequence[str], stem: Path, labels: Path) -> dict[str, tuple[Path, Path]]:
        """Write exports into the folder of the run: where each is, unless it was moved, and where it belongs.

        Kinds that cannot hold so many cells are left out, see `refused`.
        """
        folder, source = self.work.folder, ExportSource(self._pieces, self.n_cells, self.work.plan, labels)
        made = {kind: (folder / target.name, target) for kind, target in export_paths(kinds, stem).items()}
        for kind, (path, _) in [*made.items()]:
            if EXPORTED + kind not in self.journal.done:
                start = time.perf_counter()
                try:
                    write_export(kind, path, source)
                except ConfigError as error:
                    self.refused.append(str(error))
                    del made[kind]
                    continue
                self.journal.finish(EXPORTED + kind)
                self.seconds[f"export {kind}"] = time.perf_counter() - start
        return made

    def _pieces(self) -> Iterator[Numbered]:
        return (Numbered(Piece.read(path), before) for path, before in self.numbered)

    def _keep(self, number: int, packed: Any, is_empty: bool, problem: str | None) -> None:
        self.work.keep(number, packed)
        self._finish_tile(number, is_empty, problem)

    def _finish_tile(self, number: int, is_empty: bool, problem: str | None) -> None:
        if is_empty:
            self.journal.finish(f"{EMPTY}{number}")
        if problem is not None:
            zoom, tile = self.work.tiles[number]
            plan = self.work.plan
            step = plan.shape[0] / plan.zooms[zoom].shape[0]
            sides = zip(tile.core, plan.shape * 2, strict=True)  # the last tiles reach beyond the slide
            place = ", ".join(str(min(round(edge * step), side)) for edge, side in sides)
            said = " ".join(problem.removeprefix(f"{plan.slide}: ").split())
            self.journal.finish(f"{UNREAD}{place} (top, left, bottom, right): {said}")
        self.journal.finish(f"tile {number}")

    def _progress(self, stage: str, pieces: Iterable[T], total: int) -> Iterator[T]:
        """Hand pieces of work on, and say how far it is after each."""
        start = time.perf_counter()
        for done, piece in enumerate(pieces, 1):
            yield piece
            left = (time.perf_counter() - start) / done * (total - done)
            self.report(SlideProgress(stage, done, total, left))


def _unread(lines: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(line.removeprefix(UNREAD) for line in lines if line.startswith(UNREAD)))


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


def _by_chunk(windows: Mapping[int, Window], side_px: int) -> defaultdict[tuple[int, int], list[int]]:
    """By the corner of each chunk the numbers of those windows that reach into it, in their order."""
    near: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    for number, (top, left, bottom, right) in windows.items():
        for y in range(top // side_px * side_px, bottom, side_px):
            for x in range(left // side_px * side_px, right, side_px):
                near[y, x].append(number)
    return near


def _timed(took: dict[str, float], name: str, do: Callable[..., T], *arguments: Any) -> T:
    start = time.perf_counter()
    try:
        return do(*arguments)
    finally:
        took[name] += time.perf_counter() - start
