"""Training, from top to bottom: a recipe and labelled images in, a model folder out."""

import math
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from fewcell.config import Recipe
from fewcell.data.dataset import Sample
from fewcell.data.split import without_copies
from fewcell.errors import ConfigError, DataError, FewcellWarning, WriteError, require
from fewcell.family import alone
from fewcell.networks import Network
from fewcell.segmenter import SCALE_FILE
from fewcell.training.blend import f1_of_start
from fewcell.training.checkpoint import read_facts
from fewcell.training.held_out import HeldOut, measure
from fewcell.training.lessons import COLLAGES_FOLDER, ROUNDS_FOLDER, Lessons, check_unseen, fingerprint, read_all, split
from fewcell.training.log import Progress, rewind_log, write_log
from fewcell.training.machine import machine
from fewcell.training.objective import Batch
from fewcell.training.pool_scale import DIAMETER_FILES, with_diameters
from fewcell.training.quantise import add_int8
from fewcell.training.scale import SCALE_TRAINING_FILE, scale_file
from fewcell.training.state import CHECKPOINT_FILE, TrainingState, begin

__all__ = ["begun_recipe", "fit"]

REPORT_SECONDS = 2.0
LOCK_FILE = "training.lock"


def fit(
    recipe: Recipe,
    samples: Sequence[Sample],
    out: Path,
    *,
    resume: bool = False,
    report: Callable[[Progress], None] = lambda progress: None,
    say: Callable[[str], None] = lambda line: None,
) -> Path:
    """Train a network on labelled samples and write a model folder.

    out: a folder for the checkpoint, the log (log.csv) and, in the end, the model (model/). resume: go on from the
    checkpoint in `out`. report: called every few seconds. say: told how good a model is that is taught, on what is held
    out, before the first step. Returns the path of the model folder.
    The network that tells the scale is trained first (scale.onnx), if the recipe wants one.

    Under `torchrun` each process takes its part of every batch, and only the first writes.

    Warns of images without labels that nothing is learned from. An image that comes with labels and once more without,
    as a link or a copy too, counts once.

    Raises DataError if there is nothing to learn from, WriteError if `out` holds a run and resume is False, or while
    another process trains there, ConfigError if the recipe names what does not exist or fit, or if the run in `out` was
    made by another recipe. Before the first step every image is read: DataError lists those that cannot be used.
    ConfigError if the loss becomes infinite; the last checkpoint is kept.
    """
    labelled = [s for s in samples if s.labels]
    if not labelled:
        raise DataError(
            f"None of the {len(samples)} images has labels; there is nothing to learn from. Give a dataset folder: "
            "images/<stem>.png and labels/<stem>_label.tiff."
        )
    if resume:
        begun_recipe(out)  # raises if there is none
    else:
        _refuse_a_run(out)
    if recipe.int8:
        require("int8", "nncf")
    with machine(recipe) as here:
        run = begin(recipe, here)
        learn, held_out = split(recipe, labelled)
        check_unseen(recipe, learn, held_out)
        unlabelled = without_copies([s for s in samples if not s.labels], labelled)
        others, boxed = _learned_without_labels(run, unlabelled, learn, held_out)
        run.data = fingerprint(learn, held_out, others or boxed)
        source, fixed = read_all(run, learn, held_out)
        with _run_folder(run, out, resume=resume):
            others = _scaled(run, others, out)
            scale = scale_file(recipe, [*learn, *boxed], here, out, report)
            before = None
            if recipe.teaches and here.is_first:
                before = f1_of_start(recipe, held_out)
                say(f"F1 of {recipe.start} on held-out parts, true diameter: {before.f1_50:.3f}")
            lessons = Lessons(run, source, learn, held_out, others, out, scale, boxed, before)
            _train(run, lessons, fixed, out, report)
            if here.is_first:
                lessons.write_model(out / "model")
                if recipe.int8:
                    add_int8(out / "model", learn, held_out, threads=recipe.threads)
            here.wait()
    return out / "model"


@contextmanager
def _run_folder(run: TrainingState, out: Path, *, resume: bool) -> Iterator[None]:
    """The folder of a run, for this run alone: it goes on with what is there, or begins without what another run left.

    From now on the folder holds a run. Raises WriteError where another training is at work there, or was meanwhile.
    """
    here = run.here
    out.mkdir(parents=True, exist_ok=True)
    busy = f"{out}: another training is at work there. Wait until it is done, or end it."
    with alone(out / LOCK_FILE, busy) if here.is_first else nullcontext():
        if resume:
            run.load(out / CHECKPOINT_FILE)
        elif here.is_first:
            _refuse_a_run(out)
        if here.is_first:
            rewind_log(out / "log.csv", run.step)
        if not resume:
            if here.is_first:
                _forget(out)
            run.save(out / CHECKPOINT_FILE)
        here.wait()  # the others do not see what is gone
        yield


def _forget(out: Path) -> None:
    """Remove what another run may have left in its folder."""
    for name in (SCALE_FILE, SCALE_TRAINING_FILE, DIAMETER_FILES):
        for file in out.glob(name):
            file.unlink()
    shutil.rmtree(out / COLLAGES_FOLDER, ignore_errors=True)


def _refuse_a_run(out: Path) -> None:
    if (out / CHECKPOINT_FILE).exists() or (out / ROUNDS_FOLDER).exists():
        raise WriteError(f"{out} holds a training run. Go on with it by --resume, or choose another folder.")


def _scaled(run: TrainingState, others: list[Sample], out: Path) -> list[Sample]:
    """Images without labels, with how wide their cells are, if the objective has a finished model say it.

    As a teacher's rounds, that is a part of the budget.
    """
    if run.objective.scale_by is None or not others:
        return others
    others, took = with_diameters(others, run.objective.scale_by, out, run.here, run.recipe.threads)
    if run.seconds == 0:  # it is counted once
        run.seconds = took
        run.save(out / CHECKPOINT_FILE)
    if run.share_done() >= 1 and run.step == 0:
        raise ConfigError(
            f"Finding out how wide the cells of {len(others)} images without labels are took all of "
            f"{run.recipe.minutes:g} minutes. Give more minutes, and another folder."
        )
    return others


def _learned_without_labels(
    run: TrainingState, unlabelled: Sequence[Sample], learn: Sequence[Sample], held_out: Sequence[Sample]
) -> tuple[list[Sample], list[Sample]]:
    """Images without labels that the objective learns from, and those whose boxes tell the scale.

    Warns of those that are left alone. Raises DataError where the objective asks for some and there is none.
    """
    recipe, takes_some = run.recipe, run.objective.pool_share > 0
    apart = {s.experiment for s in held_out} - {s.experiment for s in learn}
    free = [s for s in unlabelled if s.experiment not in apart]
    others = free if takes_some else []
    boxed = [s for s in free if s.boxes] if recipe.scale_steps else []
    if run.here.is_first:
        for words in _doubts(run, others, n_left_alone=len(unlabelled) - len(others or boxed)):
            warnings.warn(words, FewcellWarning, stacklevel=3)
    if takes_some and not others:
        raise DataError(
            f"{recipe.objective.name} learns from images without labels as well; there is none, but for images of "
            "experiments that are held out, and copies of labelled ones."
        )
    return others, boxed


def _doubts(run: TrainingState, others: Sequence[Sample], n_left_alone: int) -> Iterator[str]:
    """What may not be as people think of images without labels that are learned from, and of those that are not."""
    if n_left_alone:
        why = "they are of experiments that are held out"
        if run.objective.pool_share == 0:
            name = run.recipe.objective.name
            why = f"{name} takes none. Choose --objective consensus to learn from them as well"
        yield f"{n_left_alone} images without labels are not learned from: {why}."
    rounds = run.objective.rounds
    if rounds and (most := rounds.images * len(rounds.at)) < len(others):
        how = f"images = {rounds.images}, at = {list(rounds.at)}"
        yield f"Of {len(others)} images without labels a teacher labels {most}, spread over all (settings: {how})."
    if regions := [s for s in others if s.regions and not (s.points or s.boxes)]:
        yield (
            f"{len(regions)} images have regions in which every cell is annotated, but no points or boxes: they are "
            f"learned from as images of which nothing is known, for example {regions[0].image.name}. Where there are "
            "no cells, give points without any row."
        )


def begun_recipe(out: Path) -> dict[str, Any]:
    """The recipe of the run in a folder, as its checkpoint has it. Raises ModelError if there is none."""
    return read_facts(out / CHECKPOINT_FILE)["recipe"]


def _train(run: TrainingState, lessons: Lessons, fixed: HeldOut, out: Path, report: Callable[[Progress], None]) -> None:
    """Learn until the budget is spent: rounds of a teacher as they are due, steps, and the books of both."""
    recipe, here = run.recipe, run.here
    run.network.train()
    average = cast(Network, run.average.module)
    seconds_before, step_before, start = run.seconds, run.step, time.perf_counter()
    stream = lessons.stream()
    waited, reported, saved = 0.0, start, start
    share = run.share_done()
    while share < 1:
        if (earlier := lessons.hold_due_round(share)) is not None:
            seconds_before += earlier
            run.seconds = seconds_before + time.perf_counter() - start
            run.save(out / CHECKPOINT_FILE)  # what the round took is not forgotten if the run is killed after it
            stream = lessons.stream()
        asked = time.perf_counter()
        batch = next(stream).to(here.device)
        waited += time.perf_counter() - asked

        loss = _step(run, batch, share)
        now = time.perf_counter()
        run.seconds = seconds_before + now - start
        share = run.share_done()
        due = now - saved > 60 * recipe.checkpoint_minutes or share >= 1
        if due or now - reported > REPORT_SECONDS:
            held_out = measure(average, run.representation, fixed, here) if due and here.is_first else (None, None)
            progress = Progress(
                step=run.step,
                share_done=share,
                seconds=run.seconds,
                seconds_left=run.seconds * (1 / max(share, 1e-6) - 1),
                loss=float(loss.detach()),
                held_out_loss=held_out[0],
                held_out_f1=held_out[1],
                learning_rate=run.optimizer.param_groups[0]["lr"],
                crops_per_s=(run.step - step_before) * recipe.batch / (now - start),
                waiting=waited / (now - start),
            )
            _assert_finite(progress, recipe)
            if here.is_first:
                report(progress)
                write_log(out / "log.csv", progress)
            reported = time.perf_counter()
        if due:
            run.save(out / CHECKPOINT_FILE)
            saved = time.perf_counter()
            start += saved - now


def _step(run: TrainingState, batch: Batch, share: float) -> torch.Tensor:
    """Learn from a batch; the loss before it did. share: of the budget that is spent."""
    for group in run.optimizer.param_groups:
        group["lr"] = run.recipe.learning_rate * _schedule(share, run.recipe.warmup)
    with run.here.autocast():
        output = run.shared(batch.images)
        parts = run.objective.losses(output, batch, share)
        if run.memory:
            parts["forgotten"] = run.memory.loss(output, batch)
        loss = torch.stack(list(parts.values())).sum()
    run.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(run.network.parameters(), 5.0)
    run.optimizer.step()
    run.average.update_parameters(run.network)
    run.step += 1
    return loss


def _assert_finite(progress: Progress, recipe: Recipe) -> None:
    # The held-out loss tells of weights that are lost although the loss before the step was not.
    if not math.isfinite(progress.loss) or not math.isfinite(progress.held_out_loss or 0):
        raise ConfigError(
            f"The loss is not finite at step {progress.step}: training has diverged. Start again with a lower "
            f"learning_rate (it is {recipe.learning_rate:g}). The last checkpoint is kept."
        )


def _schedule(share: float, warmup: float) -> float:
    """A linear rise over the share `warmup` of the run, then half a cosine down to 1 %."""
    if share < warmup:
        return (share + 0.1 * warmup) / (1.1 * warmup)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (share - warmup) / (1 - warmup)))
