"""Training of the network that tells the scale: on crops of all sizes, before the segmentation network."""

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset

from fewcell.config import Recipe
from fewcell.data.crops import CropSource, Grid
from fewcell.data.dataset import Sample
from fewcell.data.split import sampling_weights
from fewcell.errors import ConfigError, ModelError
from fewcell.networks import ScaleNetwork
from fewcell.segmenter import (
    N_CLASSES,
    SCALE_FILE,
    TRAINED_OCTAVES,
    WINDOW_PX,
    class_of,
    find_model,
    scale_prior,
    scales_of,
)
from fewcell.training.batches import quiet_worker
from fewcell.training.checkpoint import load_checkpoint, save_checkpoint
from fewcell.training.export import parity, write_onnx
from fewcell.training.log import Progress
from fewcell.training.machine import Machine

__all__ = ["SCALE_TRAINING_FILE", "scale_file"]

SCALE_TRAINING_FILE = "scale-training.safetensors"  # while it is trained
BATCH = 32
LEARNING_RATE, WARMUP, WEIGHT_DECAY, EMA_DECAY = 2e-3, 0.03, 0.05, 0.995
REPORT_STEPS = 20
TOLERANCE = 1e-2  # of logits, between torch and OpenVINO
AS_LOOKED_AT = 0.7  # share of pictures at scales at which an image is looked at; in others cells are of any width
WIDTH = 0.8  # standard deviation of the classes that count as right, in classes
# Much of what is no cell: this network decides on whole images.
VARIED = {"off_scale": 0.0, "gray": 0.25, "blur": 0.3, "empty": 0.2, "defocus": 0.1}


def scale_file(
    recipe: Recipe,
    learn: Sequence[Sample],
    here: Machine,
    out: Path,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Path:
    """The file of the scale network for a run: trained now, or before the run was resumed, or that of another model.

    learn: images with labels, or with boxes, which tell how wide cells are as well. A network that is trained learns
    how wide the median cell of an image is in a crop, as one of N_CLASSES, and whether the crop shows any cell at all.
    Its file appears whole or not at all; until then a checkpoint is kept, from which a run that is resumed goes on. All
    processes must ask at the same time; each takes its part of every batch. report: called every few seconds.

    Raises ConfigError if the loss becomes infinite; the last checkpoint is kept.
    """
    if not recipe.scale_steps:
        return find_model(recipe.start or "default") / SCALE_FILE
    onnx = out / SCALE_FILE
    is_made = onnx.exists()
    here.wait()  # all have seen whether it is there
    if not is_made:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            network = _train(recipe, learn, here, out / SCALE_TRAINING_FILE, report)
        if here.is_first:
            _export(network, onnx)
            (out / SCALE_TRAINING_FILE).unlink()
        here.wait()
    return onnx


class _Crops(Dataset):
    """Step number -> images (n, 3, side, side) and how wide cells are in each, 0: none, NaN: not known.

    n: of BATCH those that fall to one of the processes, one at least.
    """

    def __init__(self, recipe: Recipe, learn: Sequence[Sample], rank: int = 0, world: int = 1) -> None:
        smallest, largest = TRAINED_OCTAVES
        varied = VARIED | {"scale_jitter": 2 ** ((largest - smallest) / 2)}
        settings = recipe.augmentation.model_copy(update=varied)
        grid = Grid(WINDOW_PX, 1, 0, 2 ** ((largest + smallest) / 2))
        self.source = CropSource(learn, grid, settings, recipe.n_readers(world), boxes_tell=True)
        self.seed = recipe.seed
        self.slots = range(max(BATCH, world))[rank::world]
        self.source.pyramids.preload()
        self.weights = sampling_weights(learn, recipe.balance, recipe.even_modalities)

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        generators = [np.random.default_rng((self.seed, 7, step, slot)) for slot in self.slots]
        indices = [int(rng.choice(len(self.weights), p=self.weights)) for rng in generators]
        pictures = zip(indices, generators, strict=True)
        drawn = [
            self.source.picture(index, rng, scales_of if rng.random() < AS_LOOKED_AT else None)
            for index, rng in pictures
        ]
        images, diameters = zip(*drawn, strict=True)
        return torch.from_numpy(np.stack(images)), torch.tensor(diameters, dtype=torch.float32)


def _train(
    recipe: Recipe, learn: Sequence[Sample], here: Machine, checkpoint: Path, report: Callable[[Progress], None]
) -> ScaleNetwork:
    """The mean network at the end of training, read top to bottom.

    Statistics (batch norm, how often each class was there) are those of the first process' part of each batch.
    """
    network = ScaleNetwork(N_CLASSES).to(here.device, memory_format=torch.channels_last)  # pyright: ignore
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(EMA_DECAY), use_buffers=True)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    shared = DistributedDataParallel(network) if here.world > 1 else network
    modules: dict[str, nn.Module] = {"network": network, "average": average}
    first = load_checkpoint(checkpoint, modules, optimizer)["step"] if checkpoint.exists() else 0
    batches: Iterator[tuple[Tensor, Tensor]] = iter(
        DataLoader(
            _Crops(recipe, learn, here.rank, here.world),
            batch_size=None,
            sampler=range(first, recipe.scale_steps),
            num_workers=recipe.workers,
            prefetch_factor=4 if recipe.workers else None,
            worker_init_fn=quiet_worker,
        )
    )
    began = saved = time.perf_counter()
    for step, (images, diameters) in enumerate(batches, first):
        share = step / recipe.scale_steps
        rate = LEARNING_RATE * min(1, (step + 1) / recipe.scale_steps / WARMUP) * _cosine(share)
        for group in optimizer.param_groups:
            group["lr"] = rate
        with here.autocast():
            output = shared(images.to(here.device, memory_format=torch.channels_last))
        right = _right(diameters)
        network.seen += right[diameters > 0].sum(dim=0).to(network.seen)
        loss = _loss(output.float().cpu(), diameters, right)
        if not math.isfinite(value := float(loss.detach())):
            raise ConfigError(
                f"The loss of the network that tells the scale is not finite at step {step}. Start again with another "
                f"seed (it is {recipe.seed}). The last checkpoint is kept."
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        average.update_parameters(network)
        is_due = time.perf_counter() - saved > 60 * recipe.checkpoint_minutes or step + 1 == recipe.scale_steps
        if here.is_first and is_due:
            save_checkpoint(checkpoint, modules, optimizer, {"step": step + 1})
            saved = time.perf_counter()
        if here.is_first and step % REPORT_STEPS == 0:
            report(_progress(step, first, recipe.scale_steps, value, rate, time.perf_counter() - began))
    return average.module  # pyright: ignore[reportReturnType]


def _progress(step: int, first: int, steps: int, loss: float, rate: float, seconds: float) -> Progress:
    done = step + 1 - first
    return Progress(
        step=step + 1,
        share_done=(step + 1) / steps,
        seconds=seconds,
        seconds_left=seconds / done * (steps - step - 1),
        loss=loss,
        held_out_loss=None,
        held_out_f1=None,
        learning_rate=rate,
        crops_per_s=done * BATCH / max(seconds, 1e-9),
        waiting=0.0,
    )


def _right(diameters: Tensor) -> Tensor:
    """How right each class is for diameters: those near the true one, (crop, N_CLASSES)."""
    place = torch.from_numpy(class_of(diameters.nan_to_num().numpy())).float()
    return torch.softmax(-0.5 * ((torch.arange(N_CLASSES) - place[:, None]) / WIDTH) ** 2, dim=1)


def _loss(output: Tensor, diameters: Tensor, right: Tensor) -> Tensor:
    """Cross entropy with the right classes, where there are cells; and of whether there are any, where it is known."""
    known, shows_cells = ~diameters.isnan(), diameters > 0
    of_class = -(right * output[:, :-1].log_softmax(dim=1)).sum(dim=1)
    of_presence = F.binary_cross_entropy_with_logits(output[:, -1], shows_cells.float(), reduction="none")
    return of_class[shows_cells].sum() / shows_cells.sum().clamp(min=1) + (
        of_presence[known].sum() / known.sum().clamp(min=1)
    )


def _cosine(share: float) -> float:
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share))


def _export(network: ScaleNetwork, onnx: Path) -> None:
    """Write the network as ONNX, whole or not at all. Raises ModelError if OpenVINO differs from torch."""
    network.expect(torch.from_numpy(scale_prior()).to(network.seen))
    with tempfile.TemporaryDirectory(dir=onnx.parent) as temporary:
        made = Path(temporary) / onnx.name
        example = torch.rand(1, 3, WINDOW_PX, WINDOW_PX, generator=torch.Generator().manual_seed(0))
        write_onnx(network, example, made, ("window", "logits"))
        difference = parity(network, made, [example])
        if not difference <= TOLERANCE:
            raise ModelError(f"The exported network that tells the scale differs from the trained by {difference:.2g}.")
        made.replace(onnx)
