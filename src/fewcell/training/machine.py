"""What a training process runs on: device, precision, and its place among other processes."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import distributed
from torch.nn import functional as F

from fewcell.config import Recipe

__all__ = ["Machine", "machine"]

LONGEST_WAIT = timedelta(hours=6)  # the others wait while the first fits thresholds and scorer on held-out images


@dataclass(frozen=True)
class Machine:
    """One training process. rank: its number among `world` processes, which share each batch."""

    device: torch.device
    dtype: torch.dtype
    rank: int = 0
    world: int = 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def wait(self) -> None:
        """Go on when all processes have come as far."""
        if self.world > 1:
            distributed.barrier()

    def autocast(self) -> torch.autocast:
        """The context in which the network computes in this machine's precision."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)


@contextmanager
def machine(recipe: Recipe) -> Iterator[Machine]:
    """Set up this process; under `torchrun`, join the others (nccl on GPUs, gloo on CPUs)."""
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if on_gpu else torch.device("cpu")
    if recipe.threads and not on_gpu:
        torch.set_num_threads(recipe.threads)
    if on_gpu:
        torch.cuda.set_device(device)
    if world > 1:
        distributed.init_process_group("nccl" if on_gpu else "gloo", timeout=LONGEST_WAIT)
    try:
        yield Machine(device, _precision(recipe, device, world), rank, world)
    finally:
        if world > 1:
            distributed.destroy_process_group()


def _precision(recipe: Recipe, device: torch.device, world: int) -> torch.dtype:
    if recipe.precision != "auto":
        return {"f32": torch.float32, "bf16": torch.bfloat16}[recipe.precision]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    faster = torch.tensor(float(_seconds(torch.bfloat16) < 0.8 * _seconds(torch.float32)))
    if world > 1:
        distributed.broadcast(faster, src=0)
    return torch.bfloat16 if faster else torch.float32


def _seconds(dtype: torch.dtype) -> float:
    """How long a typical convolution takes here. Many CPUs emulate bf16, ten times slower than f32."""
    image = torch.ones(1, 48, 96, 96, dtype=dtype).to(memory_format=torch.channels_last)
    kernel = torch.ones(48, 48, 3, 3, dtype=dtype).to(memory_format=torch.channels_last)
    times = []
    for _ in range(4):
        start = time.perf_counter()
        F.conv2d(image, kernel, padding=1)
        times.append(time.perf_counter() - start)
    return min(times)
