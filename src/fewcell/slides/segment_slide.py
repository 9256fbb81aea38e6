"""From a slide to its cells: at once, or in shards that are merged."""

import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fewcell.errors import ConfigError, ModelError, WriteError
from fewcell.images import open_slide
from fewcell.segmenter import FileSettings, Segmenter
from fewcell.slides.exports import check_exports
from fewcell.slides.journal import Journal
from fewcell.slides.plan import SlidePlan, plan_slide
from fewcell.slides.run import EXPORTED, LABELS, Means, Run, SlideProgress
from fewcell.slides.work import PLAN_FILE, Work

__all__ = ["SlideSegmentation", "merge_slide", "segment_shard", "segment_slide"]

JOURNAL_FILE = "journal.txt"


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
    how: Means | None = None,
    report: Callable[[SlideProgress], None] = lambda progress: None,
) -> SlideSegmentation:
    """Find every cell of a slide and write a label image, OME-Zarr 0.5, whole or not at all.

    out: the label image, a folder that ends in .zarr. Beside it, <out>.unfinished holds what is done so far: a run that
    was killed goes on from there if it is called in the same way, and ends with the same bytes. exports: further files,
    names in `EXPORTS`, which lie beside `out` and begin as it does.

    Tiles that cannot be read are listed, and the rest goes on. Raises WriteError if an output exists and may not be
    overwritten, or if <out>.unfinished was begun otherwise; and what `check_exports` raises.
    """
    began, settings, how = time.perf_counter(), settings or FileSettings(), how or Means()
    _check_outputs(out, exports, overwrite=settings.overwrite)
    with open_slide(path, axes=settings.axes, plane=settings.plane) as slide:
        plan = plan_slide(slide, segmenter, settings, how.tile_px)
    folder = _unfinished(out, plan, settings.overwrite)
    with _begun(folder, plan, segmenter, how, report) as run:
        run.seconds["plan"] = time.perf_counter() - began
        return _finished(run, out, exports)


def segment_shard(
    segmenter: Segmenter,
    path: Path,
    out: Path,
    shard: tuple[int, int],
    settings: FileSettings | None = None,
    *,
    how: Means | None = None,
    report: Callable[[SlideProgress], None] = lambda progress: None,
) -> None:
    """Do a part of the work on a slide: the first of n shards is (1, n). `segment_slide` or `merge_slide` do the rest.

    Shards may run at the same time, on any machines that share the folder, and know nothing of each other: those that
    are neighbours both do the tiles between them. Raises as `segment_slide`, and ConfigError if there is no such shard.
    """
    number, count = shard
    if not 1 <= number <= count:
        raise ConfigError(f"There is no shard {number}/{count}. Count them from 1: 1/{count} to {count}/{count}.")
    settings, how = settings or FileSettings(), how or Means()
    _check_outputs(out, (), overwrite=False)
    with open_slide(path, axes=settings.axes, plane=settings.plane) as slide:
        plan = plan_slide(slide, segmenter, settings, how.tile_px)
    folder = _unfinished(out, plan, overwrite=False)
    with _begun(folder, plan, segmenter, how, report, f"journal-{number}-of-{count}.txt") as run:
        bounds = [len(run.work.blocks) * i // count for i in (number - 1, number)]
        blocks = range(*bounds)
        tiles = sorted({tile for i in blocks for tile in run.work.tiles_of(run.work.blocks[i])})
        run.predict_tiles(tiles)
        run.read_blocks(blocks, may_widen=False)  # what else they need is not done yet


def merge_slide(
    out: Path,
    *,
    exports: Sequence[str] = (),
    how: Means | None = None,
    report: Callable[[SlideProgress], None] = lambda progress: None,
) -> SlideSegmentation:
    """Finish what shards have begun: whatever is missing is done, and the label image is written.

    Raises WriteError if nothing was begun, ModelError if the model is no longer where it was; and as `segment_slide`.
    """
    folder, how = _unfinished_folder(out), how or Means()
    if not (folder / PLAN_FILE).exists():
        raise WriteError(f"{folder}: holds no run that could be merged. Begin one by fewcell segment --shard 1/4.")
    _check_outputs(out, exports, overwrite=False)
    plan = SlidePlan.read(folder / PLAN_FILE)
    segmenter = Segmenter.load(plan.model, threads=how.threads)
    if {name: segmenter.facts.sha256[name] for name in plan.model_sha256} != plan.model_sha256:
        raise ModelError(f"{plan.model} is no longer the model that {folder} was begun with.")
    with _begun(folder, plan, segmenter, how, report) as run:
        return _finished(run, out, exports)


def _finished(run: Run, out: Path, exports: Sequence[str]) -> SlideSegmentation:
    """Do what is left of a run, and put its outputs where they belong, the labels last."""
    work = run.work
    run.predict_tiles(range(len(work.tiles)))
    run.read_blocks(range(len(work.blocks)))
    n_cells = run.paint_labels()
    outputs = run.export(exports, _stem(out))
    for made, target in outputs.values():
        if made.exists():  # if not, a run that was killed has moved it
            os.replace(made, target)
    if out.exists():
        shutil.rmtree(out)
    os.replace(work.folder / LABELS, out)
    shutil.rmtree(work.folder)
    paths = {"labels": out, **{kind: target for kind, (_, target) in outputs.items()}}
    return SlideSegmentation(work.plan, n_cells, paths, run.seconds, len(work.tiles), run.empty_tiles, run.unread)


@contextmanager
def _begun(
    folder: Path,
    plan: SlidePlan,
    segmenter: Segmenter,
    how: Means,
    report: Callable[[SlideProgress], None],
    journal: str = JOURNAL_FILE,
) -> Iterator[Run]:
    others = [path for path in folder.glob("journal*.txt") if path.name != journal]
    with Journal(folder / journal, others) as lines:
        work = Work(folder, plan, segmenter)
        work.prepare()
        yield Run(work, lines, how, report)


def _check_outputs(out: Path, exports: Sequence[str], *, overwrite: bool) -> None:
    if out.exists() and not overwrite:
        raise WriteError(f"{out}: exists already. Choose another name, or allow it with --overwrite.")
    journal = _unfinished_folder(out) / JOURNAL_FILE
    were_moved = journal.exists() and EXPORTED in journal.read_text(encoding="utf-8").split("\n")
    check_exports(exports, _stem(out), overwrite=overwrite or were_moved)


def _stem(out: Path) -> Path:
    return out.with_name(out.stem.removesuffix("_label"))


def _unfinished_folder(out: Path) -> Path:
    return out.with_name(out.name + ".unfinished")


def _unfinished(out: Path, plan: SlidePlan, overwrite: bool) -> Path:
    """The folder of what is done so far, made or found again."""
    folder = _unfinished_folder(out)
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
        temporary = folder / f".{secrets.token_hex(4)}-{PLAN_FILE}"
        temporary.write_text(plan.model_dump_json(indent=1), encoding="utf-8")
        os.replace(temporary, plan_file)
    return folder
