"""Training, from top to bottom: a recipe and labelled images in, a model folder out."""

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import PARAM_LIST, AveragedModel, get_ema_multi_avg_fn

from fewcell.config import Recipe, load_recipe
from fewcell.data.crops import CropSource, Grid
from fewcell.data.dataset import Sample, load_sample
from fewcell.data.split import hold_out, split_each
from fewcell.errors import ConfigError, DataError, FewcellError, WriteError
from fewcell.metrics import remove_border
from fewcell.networks import Network, load_network, make_network
from fewcell.representations import Representation, make_representation
from fewcell.segmenter import WEIGHTS_FILE, find_model, read_model
from fewcell.training.batches import Share, batches
from fewcell.training.blend import blend
from fewcell.training.checkpoint import load_checkpoint, read_facts, save_checkpoint
from fewcell.training.finish import finish
from fewcell.training.held_out import HeldOut, fixed_crops, measure
from fewcell.training.log import Progress, rewind_log, write_log
from fewcell.training.machine import Machine, machine
from fewcell.training.objective import Batch, Objective
from fewcell.training.objectives import make_objective
from fewcell.training.rounds import Pool
from fewcell.training.scale import forget_scale, scale_file

__all__ = ["begun_recipe", "fit"]

CHECKPOINT_FILE = "checkpoint.safetensors"
ROUNDS_FOLDER = "rounds"
MAY_DIFFER = {"threads", "workers", "checkpoint_minutes", "precision"}  # settings that a resumed run may change
REPORT_SECONDS = 2.0
FEW_IMAGES = 32  # of fewer, too few could be spared whole to tell anything: a part of each is held out
FEWEST_WHOLE = 20  # cells in these parts (or one an image); with fewer, whole images are held out
FEWEST_IMAGES = 4  # of fewer, none can be


@dataclass
class _Run:
    """The state that a checkpoint keeps, and what it belongs to. data: the fingerprint of the images."""

    recipe: Recipe
    here: Machine
    representation: Representation
    network: Network
    average: AveragedModel
    objective: Objective
    optimizer: torch.optim.Optimizer
    data: str = ""
    step: int = 0
    seconds: float = 0.0

    def save(self, path: Path) -> None:
        if self.here.is_first:
            facts = {
                "step": self.step,
                "seconds": self.seconds,
                "recipe": self.recipe.model_dump(mode="json"),
                "data": self.data,
            }
            save_checkpoint(path, {"network": self.network, "average": self.average}, self.optimizer, facts)

    def load(self, path: Path) -> None:
        # The recipe comes first: of another one, the network would not fit. Settings that are newer than the
        # checkpoint have their defaults in it.
        facts = read_facts(path)
        began, now = (
            load_recipe(None, **recipe).model_dump(mode="json")
            for recipe in (facts["recipe"], self.recipe.model_dump(mode="json"))
        )
        changed = [
            f"{key} was {began[key]}, now {now[key]}" for key in now if key not in MAY_DIFFER and began[key] != now[key]
        ]
        if changed:
            raise ConfigError(
                f"{path} was made by another recipe: {'; '.join(changed)}. Resume with the recipe it began with."
            )
        if facts.get("data", self.data) != self.data:  # older checkpoints do not say
            raise DataError(f"{path} was made from other images. Resume with the data that the run began with.")
        load_checkpoint(path, {"network": self.network, "average": self.average}, self.optimizer)
        self.step, self.seconds = facts["step"], facts["seconds"]

    def share_done(self) -> float:
        """How much of the budget is spent, 0 to 1. All processes must ask at the same time, and agree."""
        if self.recipe.steps:
            return self.step / self.recipe.steps
        assert self.recipe.minutes is not None
        share = torch.tensor(min(1.0, self.seconds / 60 / self.recipe.minutes), device=self.here.device)
        if self.here.world > 1:
            distributed.broadcast(share, src=0)
        return float(share)


def fit(
    recipe: Recipe,
    samples: Sequence[Sample],
    out: Path,
    *,
    resume: bool = False,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Path:
    """Train a network on labelled samples and write a model folder.

    out: a folder for the checkpoint, the log (log.csv) and, in the end, the model (model/). resume: go on from the
    checkpoint in `out`. report: called every few seconds. Returns the path of the model folder.
    The network that tells the scale is trained first (scale.onnx), if the recipe wants one.

    Under `torchrun` each process takes its part of every batch, and only the first writes.

    Raises DataError if there is nothing to learn from, WriteError if `out` holds a run and resume is False,
    ConfigError if the recipe names what does not exist or fit, or if the run in `out` was made by another recipe.
    Before the first step every image is read: DataError lists those that cannot be used. ConfigError if the loss
    becomes infinite; the last checkpoint is kept.
    """
    labelled = [s for s in samples if s.labels]
    if not labelled:
        raise DataError(f"None of the {len(samples)} images has labels; there is nothing to learn from.")
    checkpoint = out / CHECKPOINT_FILE
    if (checkpoint.exists() or (out / ROUNDS_FOLDER).exists()) and not resume:
        raise WriteError(f"{out} holds a training run. Go on with it by --resume, or choose another folder.")
    with machine(recipe) as here:
        run = _begin(recipe, here)
        learn, held_out = _split(recipe, labelled)
        apart = {s.experiment for s in held_out} - {s.experiment for s in learn}
        others = [s for s in samples if not s.labels and s.experiment not in apart]
        others = others if run.objective.pool_share else []
        if run.objective.pool_share and not others:
            raise DataError(
                f"{recipe.objective.name} learns from images without labels as well; there is none, but for images of "
                "experiments that are held out."
            )
        run.data = _fingerprint(learn, held_out, others)
        if resume:
            run.load(checkpoint)
        source, fixed = _read_all(run, learn, held_out)
        out.mkdir(parents=True, exist_ok=True)
        if here.is_first:
            rewind_log(out / "log.csv", run.step)
        if not resume:
            forget_scale(here, out)
            run.save(checkpoint)  # from here on the folder holds a run, of this recipe and these images
        lessons = _Lessons(run, source, learn, held_out, others, out, scale_file(recipe, learn, here, out, report))
        _train(run, lessons, fixed, out, report)
        if here.is_first:
            lessons.write_model(out / "model")
        if here.world > 1:
            distributed.barrier()
    return out / "model"


def _split(recipe: Recipe, labelled: Sequence[Sample]) -> tuple[list[Sample], list[Sample]]:
    """Mostly whole experiments are held out; of few images a part of each, for two or three of them tell too little."""
    if len(labelled) < FEW_IMAGES:
        try:
            learn, held_out = split_each(labelled, recipe.held_out, recipe.seed)
            n_whole = sum(_whole_cells(part) for part in held_out)
        except FewcellError:  # such files are listed later, all of them
            n_whole = 0
        else:
            if n_whole >= min(FEWEST_WHOLE, len(labelled)):
                return learn, held_out
        if len(labelled) < FEWEST_IMAGES:
            raise DataError(
                f"Too few whole cells, {n_whole}, lie in the part of {len(labelled)} images that is held out. Label "
                f"{FEWEST_IMAGES} images or more, or larger ones."
            )
    return hold_out(labelled, recipe.held_out, recipe.seed)


def _whole_cells(part: Sample) -> int:
    truth = load_sample(part)[1]
    assert truth is not None
    return int(np.count_nonzero(np.unique(remove_border(truth)) > 0))


def begun_recipe(out: Path) -> dict[str, Any]:
    """The recipe of the run in a folder, as its checkpoint has it. Raises ModelError if there is none."""
    return read_facts(out / CHECKPOINT_FILE)["recipe"]


def _fingerprint(learn: Sequence[Sample], held_out: Sequence[Sample], others: Sequence[Sample]) -> str:
    """Which images are learned from, which are held out and which have no labels, in one short word."""
    stems = ["learn", *sorted(s.stem for s in learn), "held out", *sorted(s.stem for s in held_out)]
    stems = "\n".join(stems + (["others", *(f"{s.source}/{s.stem}" for s in others)] if others else []))
    return hashlib.sha256(stems.encode()).hexdigest()


def _begin(recipe: Recipe, here: Machine) -> _Run:
    if recipe.batch % here.world:
        raise ConfigError(f"{here.world} processes cannot share a batch of {recipe.batch} evenly.")
    torch.manual_seed(recipe.seed)
    representation = make_representation(recipe.representation.name, recipe.representation.settings)
    network = _first_network(recipe, representation)
    _check_crops(recipe, network)
    # The types that torch ships leave memory_format out.
    network.to(here.device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    average = AveragedModel(network, multi_avg_fn=_ema(recipe.ema_decay), use_buffers=True)
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    shared = DistributedDataParallel(network) if here.world > 1 else network
    objective = make_objective(recipe.objective, shared, representation, average.module)
    return _Run(recipe, here, representation, network, average, objective, optimizer)


def _first_network(recipe: Recipe, representation: Representation) -> Network:
    part, n_channels = recipe.network, len(representation.channels)
    if recipe.start is None:
        return make_network(part.name, n_channels, part.settings)
    folder = find_model(recipe.start)
    facts = read_model(folder)
    kinds = {
        "network": (part.name, facts.network.name),
        "settings of the network": (part.settings, facts.network.settings),
        "representation": (recipe.representation.name, facts.representation.name),
        "canonical diameter": (recipe.canonical_diameter_px, facts.canonical_diameter_px),
    }
    for kind, (wanted, there) in kinds.items():
        if wanted != there:
            raise ConfigError(f"Training cannot begin with {recipe.start}: its {kind} is {there}, not {wanted}.")
    return load_network(part.name, n_channels, part.settings, folder / WEIGHTS_FILE)


def _check_crops(recipe: Recipe, network: Network) -> None:
    """Raise ConfigError unless the network takes crops of the recipe's size."""
    if network.window_px is not None and recipe.crop_px != network.window_px:
        wanted = f"{network.window_px}, the only size that {recipe.network.name} is given"
    elif recipe.crop_px % network.multiple_px:
        wanted = f"a multiple of {network.multiple_px} for this {recipe.network.name}"
    else:
        return
    raise ConfigError(f"crop_px must be {wanted}; it is {recipe.crop_px}.")


def _ema(decay: float) -> Callable[[PARAM_LIST, PARAM_LIST, Tensor | int], None]:
    """An exponential moving average that forgets the first, random weights quickly: it starts with a short memory."""

    def update(average: PARAM_LIST, current: PARAM_LIST, count: Tensor | int) -> None:
        if not average[0].is_floating_point():  # counters and tables of indices: a mean would be cut to whole numbers
            for mean, value in zip(average, current, strict=True):
                mean.copy_(value)
            return
        step = float(count)
        get_ema_multi_avg_fn(min(decay, (1 + step) / (10 + step)))(average, current, count)

    return update


def _read_all(run: _Run, learn: Sequence[Sample], held_out: Sequence[Sample]) -> tuple[CropSource, HeldOut]:
    """Read every image once: the source of crops to learn from, and a fixed batch of held-out ones.

    A file that cannot be used would otherwise be noticed late: held-out images are needed when training is over.
    """
    recipe = run.recipe
    grid = Grid(recipe.crop_px, run.network.stride, run.representation.margin_px, recipe.canonical_diameter_px)
    source, held = (CropSource(part, grid, recipe.augmentation, run.here.world) for part in (learn, held_out))
    problems = source.preload() + held.preload()
    if problems:
        raise DataError(
            "\n  ".join([f"{len(problems)} of {len(learn) + len(held_out)} images cannot be used:", *problems])
        )
    return source, fixed_crops(held, run.representation)


@dataclass
class _Lessons:
    """What a run learns from, as it goes on: labelled images, then those of the pool that a teacher has labelled."""

    run: _Run
    source: CropSource
    learn: Sequence[Sample]
    held_out: Sequence[Sample]
    others: Sequence[Sample]
    out: Path
    scale: Path
    n_rounds: int = 0

    def write_model(self, folder: Path) -> None:
        """Write the mean network so far as a model; training can go on."""
        run = self.run
        network = deepcopy(cast(Network, run.average.module))  # whose weights are rounded
        end = finish if run.recipe.start is None else blend
        also = self._others()
        end(network, run.representation, run.recipe, self.learn, self.held_out, folder, self.scale, also_seen=also)

    def hold_due_round(self, share: float) -> bool:
        """Hold the round that is due at this share of the budget, if one is; whether there was any.

        A round takes a part of the budget itself. Where that makes several due at once, the last of them is held.
        """
        pool = self._pool()
        n_due = pool.n_due(share) if pool else 0
        if pool is None or n_due == self.n_rounds:
            return False
        self.run.save(self.out / CHECKPOINT_FILE)
        # In a thread of its own: OpenVINO gives the thread that it runs in a small stack for signals, on which the main
        # one would break off when it hears that a worker has ended.
        with ThreadPoolExecutor(1) as apart:
            apart.submit(pool.teach, n_due, self.write_model).result()
        self.n_rounds = n_due
        return True

    def stream(self) -> Iterator[Batch]:
        """Batches from the step on at which the run stands."""
        run, recipe = self.run, self.run.recipe
        others, settings = self._others(), recipe.augmentation.stronger()
        if run.objective.rounds is None:  # nobody knows the scale of these images
            settings = settings.model_copy(update={"off_scale": 1.0})
        n_others = round(recipe.batch * run.objective.pool_share) if others else 0
        n_others = min(max(n_others, int(bool(others))), recipe.batch - 1)
        shares = [Share(self.source, recipe.batch - n_others)]
        if n_others:
            readers = run.here.world * max(1, recipe.workers)  # each worker keeps what it has read
            shares.append(Share(CropSource(others, self.source.grid, settings, readers), n_others))
        place = {"start": run.step, "rank": run.here.rank, "world": run.here.world}
        return batches(shares, run.representation, recipe, **place, plain=run.objective.needs_plain)

    def _others(self) -> Sequence[Sample]:
        """Images beyond the labelled ones that are learned from now."""
        pool = self._pool()
        return pool.taught(self.n_rounds) if pool else self.others

    def _pool(self) -> Pool | None:
        run, folder = self.run, self.out / ROUNDS_FOLDER
        rounds, threads = run.objective.rounds, run.recipe.threads
        return Pool(self.others, self.held_out, folder, rounds, run.here, threads) if rounds else None


def _train(run: _Run, lessons: _Lessons, fixed: HeldOut, out: Path, report: Callable[[Progress], None]) -> None:
    recipe, here = run.recipe, run.here
    network, average = run.network.train(), cast(Network, run.average.module)
    seconds_before, step_before, start = run.seconds, run.step, time.perf_counter()
    stream = lessons.stream()
    waited, reported, saved = 0.0, start, start
    share = run.share_done()
    while share < 1:
        if lessons.hold_due_round(share):
            stream = lessons.stream()
        asked = time.perf_counter()
        batch = next(stream).to(here.device)
        waited += time.perf_counter() - asked

        for group in run.optimizer.param_groups:
            group["lr"] = recipe.learning_rate * _schedule(share, recipe.warmup)
        with here.autocast():
            loss = torch.stack(list(run.objective.losses(batch, share).values())).sum()
        run.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        run.optimizer.step()
        run.average.update_parameters(network)

        now = time.perf_counter()
        run.step += 1
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
