"""From a slide to its cells: at once, or in shards that are merged."""

import glob
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from fewcell.errors import ConfigError, ModelError, WriteError
from fewcell.family import alone
from fewcell.images import Slide, open_slide, put_in_place
from fewcell.segmenter import FileSettings, Segmenter, hashes_of
from fewcell.slides.exports import EXPORTS, check_exports, export_paths, remove_outputs
from fewcell.slides.journal import Journal
from fewcell.slides.label_zarr import is_label_image
from fewcell.slides.plan import SlidePlan, SlideTask, plan_slide, slide_task
from fewcell.slides.run import EXPORTED, LABELS, PAINTED, Execution, Run, SlideProgress
from fewcell.slides.work import PLAN_FILE, Work

__all__ = ["SlideSegmentation", "merge_slide", "segment_shard", "segment_slide"]

JOURNAL_FILE = "journal.txt"
RUN_NAME = re.compile("[0-9a-f]{16}")  # `SlideTask.key`
ONE_PRECISION = "Machines that share a slide need one precision: give all of them --precision f32, for example."
SHARDS_MEET_S = 2.0  # shards that begin at once look at the same lock, one after the other


@dataclass(frozen=True)
class SlideSegmentation:
    """What became of a slide: the plan, how many cells, where the outputs are, and what each part took, in seconds.

    outputs: "labels", and a file for each export. failed: what was wrong with tiles that could not be read; nothing is
    found there. empty_tiles: seen to hold nothing. refused: why exports were not written.
    """

    plan: SlidePlan
    n_cells: int
    outputs: dict[str, Path]
    seconds: dict[str, float]
    n_tiles: int
    empty_tiles: int
    failed: tuple[str, ...]
    refused: tuple[str, ...] = ()

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
    how: Execution | None = None,
    report: Callable[[SlideProgress], None] = lambda progress: None,
) -> SlideSegmentation:
    """Find every cell of a slide and write a label image, OME-Zarr 0.5, whole or not at all.

    out: the label image, a folder that ends in .zarr. Beside it, <out>.unfinished holds what is done so far: a run that
    was killed goes on from there if it is called in the same way, and ends with the same bytes. exports: further files,
    names in `EXPORTS`, which lie beside `out` and begin as it does; where `settings.overwrite`, others are removed.

    Tiles that cannot be read are listed, and the rest goes on. Raises WriteError if an output exists and may not be
    overwritten, if <out>.unfinished was begun otherwise, or if another run is at work there; and what `check_exports`
    raises.
    """
    began, settings, how = time.perf_counter(), settings or FileSettings(), how or Execution()
    folder, plan = _planned(segmenter, path, out, settings, how, exports)
    with _begun(folder, plan, segmenter, how, report) as run:
        run.seconds["plan"] = time.perf_counter() - began
        done = _finished(run, out, exports, overwrite=settings.overwrite)
    _remove(_unfinished_folder(out))
    return done


def segment_shard(
    segmenter: Segmenter,
    path: Path,
    out: Path,
    shard: tuple[int, int],
    settings: FileSettings | None = None,
    *,
    how: Execution | None = None,
    report: Callable[[SlideProgress], None] = lambda progress: None,
) -> tuple[str, ...]:
    """Do a part of the work on a slide: the first of n shards is (1, n). `segment_slide` or `merge_slide` do the rest.

    Shards may run at the same time, on any machines that share the folder, and know nothing of each other: those that
    are neighbours both do the tiles between them. Returns what was wrong with tiles that could not be read. Raises as
    `segment_slide`, and ConfigError if there is no such shard.
    """
    number, count = shard
    if not 1 <= number <= count:
        raise ConfigError(f"There is no shard {number}/{count}. Count them from 1: 1/{count} to {count}/{count}.")
    settings, how = settings or FileSettings(), how or Execution()
    folder, plan = _planned(segmenter, path, out, settings, how)
    with _begun(folder, plan, segmenter, how, report, f"journal-{number}-of-{count}.txt") as run:
        bounds = [len(run.work.blocks) * i // count for i in (number - 1, number)]
        blocks = range(*bounds)
        tiles = sorted({tile for i in blocks for tile in run.work.tiles_of(run.work.blocks[i])})
        run.predict_tiles(tiles)
        run.read_blocks(blocks, may_widen=False)  # what else they need is not done yet
        return run.own_unread


def merge_slide(
    out: Path,
    *,
    exports: Sequence[str] = (),
    how: Execution | None = None,
    device: str = "cpu",
    threads: int | None = None,
    overwrite: bool = False,
    report: Callable[[SlideProgress], None] = lambda progress: None,
) -> SlideSegmentation:
    """Finish what shards have begun: whatever is missing is done, and the label image is written.

    device, threads: as for `Segmenter.load`. overwrite: as of `FileSettings`.

    Raises WriteError if nothing was begun, or more than one run, ModelError if the model is no longer where it was,
    ConfigError where this machine cannot compute as the shards did; and as `segment_slide`.
    """
    how, unfinished = how or Execution(), _unfinished_folder(out)
    _remove_leftovers(unfinished)
    plans = [plan for folder in _runs_in(unfinished) if (plan := folder / PLAN_FILE).is_file()]
    if not plans:
        raise WriteError(f"{unfinished}: holds no run that could be merged. Begin one by fewcell segment --shard 1/4.")
    if len(plans) > 1:
        found = ", ".join(sorted(SlidePlan.read(path).task.precision for path in plans))
        raise WriteError(
            f"{unfinished}: holds {len(plans)} runs that were begun with different settings (precisions {found}). "
            f"Remove all of its folders but the one to be merged. {ONE_PRECISION}"
        )
    plan, folder = SlidePlan.read(plans[0]), plans[0].parent
    _check_outputs(Path(plan.slide), out, exports, folder, overwrite=overwrite)
    task = plan.task
    precision = task.precision if device == "cpu" else "auto"
    try:
        segmenter = Segmenter.load(
            plan.model, threads=threads, device=device, precision=precision, accurate=task.accurate
        )
    except ConfigError as error:
        raise ConfigError(f"{unfinished} was begun with precision {task.precision}: {error} {ONE_PRECISION}") from None
    if segmenter.precision != task.precision:
        raise ConfigError(
            f"{unfinished} was begun with precision {task.precision}; on {device} it would be {segmenter.precision}. "
            f"{ONE_PRECISION}"
        )
    if hashes_of(segmenter.facts) != task.model_sha256:
        raise ModelError(f"{plan.model} is no longer the model that {unfinished} was begun with.")
    with _begun(folder, plan, segmenter, how, report) as run:
        done = _finished(run, out, exports, overwrite=overwrite)
    _remove(_unfinished_folder(out))
    return done


def _finished(run: Run, out: Path, exports: Sequence[str], *, overwrite: bool) -> SlideSegmentation:
    """Do what is left of a run, and put its outputs where they belong; killed anywhere, it can be done again."""
    work, stem = run.work, _stem(out)
    run.predict_tiles(range(len(work.tiles)))
    run.read_blocks(range(len(work.blocks)))
    run.paint_labels()
    labels = work.folder / LABELS
    outputs = run.export(exports, stem, labels if labels.exists() else out)
    belong = {target: made for made, target in (*outputs.values(), (labels, out))}
    left = {target: made for target, made in belong.items() if made.exists()}  # a run that was killed has moved some
    put_in_place(left, work.folder / f"old-{secrets.token_hex(4)}")
    if overwrite:
        others = export_paths(EXPORTS.keys() - outputs.keys(), stem).values()
        remove_outputs(path for path in others if path.resolve() != Path(work.plan.slide).resolve())
    paths = {"labels": out, **{kind: target for kind, (_, target) in outputs.items()}}
    counts = len(work.tiles), run.empty_tiles
    return SlideSegmentation(work.plan, run.n_cells, paths, run.seconds, *counts, run.unread, tuple(run.refused))


def _remove(folder: Path) -> None:
    """Remove a folder; one that a kill leaves half removed has another name, which begins with a dot and its own."""
    aside = folder.with_name(f".{folder.name}-{secrets.token_hex(4)}")
    os.rename(folder, aside)
    shutil.rmtree(aside, ignore_errors=True)  # another shard may take it for what a kill left, and remove it as well


def _remove_leftovers(unfinished: Path) -> None:
    """Remove what a run that was killed left half removed; shards may do so at the same time."""
    aside = f".{glob.escape(unfinished.name)}-*"
    for left in (*unfinished.parent.glob(aside), *unfinished.glob(f".{'[0-9a-f]' * 16}-*")):
        shutil.rmtree(left, ignore_errors=True)


@contextmanager
def _begun(
    folder: Path,
    plan: SlidePlan,
    segmenter: Segmenter,
    how: Execution,
    report: Callable[[SlideProgress], None],
    journal: str = JOURNAL_FILE,
) -> Iterator[Run]:
    busy = f"{folder}: another run is at work there. Wait until it is done, or end it."
    whole = (folder / JOURNAL_FILE).with_suffix(".lock")
    with ExitStack() as held:
        held.enter_context(alone((folder / journal).with_suffix(".lock"), busy))
        if journal == JOURNAL_FILE:
            for of_shard in folder.glob("journal-*.lock"):
                held.enter_context(alone(of_shard, busy))
        else:
            with alone(whole, busy, wait_s=SHARDS_MEET_S):  # what finishes the run would move it away from a shard
                pass
        others = [path for path in folder.glob("journal*.txt") if path.name != journal]
        lines = held.enter_context(Journal(folder / journal, others))
        work = Work(folder, plan, segmenter)
        held.callback(work.close)
        work.prepare()
        yield Run(work, lines, how, report)


def _check_outputs(slide: Path, out: Path, exports: Sequence[str], folder: Path, *, overwrite: bool) -> None:
    """Raise WriteError for outputs that may not be written, before hours of work; those of the run itself may."""
    one, other = slide.resolve(), out.resolve()
    if one == other or one in other.parents or other in one.parents:
        raise WriteError(f"{out}: the labels would take the place of the slide {slide}. Choose another name.")
    lines = (folder / JOURNAL_FILE).read_text(encoding="utf-8").split("\n") if (folder / JOURNAL_FILE).exists() else []
    was_moved = PAINTED in lines and not (folder / LABELS).exists()
    if out.exists() and not was_moved:
        if not overwrite:
            raise WriteError(f"{out}: exists already. Choose another name, or allow it with --overwrite.")
        if not is_label_image(out):
            raise WriteError(f"{out}: is no label image of fewcell, and is not replaced. Choose another name.")
    new = [kind for kind in exports if EXPORTED + kind not in lines]
    for path in check_exports(new, _stem(out), overwrite=overwrite).values():
        if path.resolve() == one:
            raise WriteError(f"{path}: would take the place of the slide itself. Choose another name for the labels.")


def _stem(out: Path) -> Path:
    return out.with_name(out.stem.removesuffix("_label"))


def _unfinished_folder(out: Path) -> Path:
    return out.with_name(out.name + ".unfinished")


def _planned(
    segmenter: Segmenter, path: Path, out: Path, settings: FileSettings, how: Execution, exports: Sequence[str] = ()
) -> tuple[Path, SlidePlan]:
    """Where a run is at work, and what it does, once it is known that its outputs may be written."""
    _remove_leftovers(_unfinished_folder(out))
    with open_slide(path, axes=settings.axes, plane=settings.plane) as slide:
        task = slide_task(slide, segmenter, settings, how.tile_px)
        folder = _unfinished_folder(out) / task.key
        _check_outputs(path, out, exports, folder, overwrite=settings.overwrite)
        return folder, _begin(folder, slide, segmenter, task, settings.overwrite)


def _begin(folder: Path, slide: Slide, segmenter: Segmenter, task: SlideTask, overwrite: bool) -> SlidePlan:
    """Make the folder of a run and plan it, or find both again: what was decided once is decided for all shards."""
    unfinished, path = folder.parent, folder / PLAN_FILE
    if others := [other for other in _runs_in(unfinished) if other != folder]:
        if not overwrite:
            for plan_file in filter(Path.exists, (other / PLAN_FILE for other in others)):
                theirs = SlidePlan.read(plan_file).task
                is_alike = theirs.model_copy(update={"precision": task.precision}).key == task.key
                if is_alike and theirs.precision != task.precision:
                    raise WriteError(
                        f"{unfinished}: holds a run with precision {theirs.precision}; here it would be "
                        f"{task.precision}. {ONE_PRECISION}"
                    )
            raise WriteError(
                f"{unfinished}: holds a run with other settings, another model, or of another slide. Go on with those, "
                "or begin again with --overwrite."
            )
        with ExitStack() as held:
            for lock in (lock for other in others for lock in other.glob("*.lock")):
                held.enter_context(alone(lock, f"{unfinished}: another run is at work there. Wait, or end it."))
        for other in others:
            with suppress(FileNotFoundError):  # another shard was quicker
                _remove(other)
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)  # so that other runs see this one
        try:
            planned = plan_slide(slide, segmenter, task)
        except BaseException:  # nothing was begun
            with suppress(OSError):  # another shard may have begun it
                folder.rmdir()
                unfinished.rmdir()
            raise
        folder.mkdir(parents=True, exist_ok=True)  # it may be that a shard has failed here meanwhile
        temporary = _written(planned, folder)
        try:
            os.link(temporary, path)
        except FileExistsError:
            pass  # another shard was quicker, and its plan counts
        except OSError:  # some file systems have no links
            os.replace(temporary, path)
        temporary.unlink(missing_ok=True)
    plan = SlidePlan.read(path)
    here = {"slide": str(slide.path.absolute()), "model": str(segmenter.folder.resolve())}
    found = plan.model_copy(update=here)
    if not (Path(plan.slide).exists() and Path(plan.model).exists()):  # they were moved: workers and merge ask the plan
        os.replace(_written(found, folder), path)
    return found


def _runs_in(unfinished: Path) -> list[Path]:
    """The folders of runs, whatever else the system or people have left there."""
    found = unfinished.iterdir() if unfinished.is_dir() else ()
    return sorted(folder for folder in found if RUN_NAME.fullmatch(folder.name) and folder.is_dir())


def _written(plan: SlidePlan, folder: Path) -> Path:
    """A file with a plan, that is to be given its name."""
    temporary = folder / f".{secrets.token_hex(4)}-{PLAN_FILE}"
    temporary.write_text(plan.model_dump_json(indent=1), encoding="utf-8")
    return temporary
