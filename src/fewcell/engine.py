"""Runs an exported network: OpenVINO on a CPU, torch on a GPU."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from fewcell.errors import DeviceError, MissingDependencyError, ModelError
from fewcell.types import FloatArray

if TYPE_CHECKING:
    from openvino import InferRequest
    from torch import nn

__all__ = ["DEVICES", "Engine", "OpenVinoEngine", "TorchEngine", "available_threads", "check_device", "cpu_precision"]

DEVICES = ("cpu", "cuda")


class Engine(Protocol):
    """Anything that turns an image (3, height, width) into a prediction (channel, h, w), both float32."""

    def __call__(self, image: FloatArray) -> FloatArray: ...


def check_device(device: str) -> None:
    """Raise DeviceError unless `device` is 'cpu', or 'cuda' with a GPU that torch can use."""
    if device not in DEVICES:
        raise DeviceError(f"There is no device {device!r}; known: {', '.join(DEVICES)}.")
    if device == "cuda":
        try:
            import torch
        except ImportError:
            raise MissingDependencyError("torch", "train") from None
        if not torch.cuda.is_available():
            raise DeviceError("The device 'cuda' was asked for, but torch finds no GPU here. Use --device cpu.")


def cpu_precision() -> Literal["bf16", "f32"]:
    """The precision in which OpenVINO runs on this CPU: bf16 where the CPU computes in it, else f32."""
    import openvino

    capabilities = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "bf16" if "BF16" in capabilities else "f32"


class OpenVinoEngine:
    """An ONNX network on the CPU.

    threads: how many to use, by default one per core that this process may use. precision: 'auto' is
    `cpu_precision()`.

    Raises ModelError if OpenVINO cannot read the network.
    """

    def __init__(
        self, network: Path, *, threads: int | None = None, precision: Literal["auto", "bf16", "f32"] = "auto"
    ) -> None:
        self.threads = threads or available_threads()
        # OpenVINO gives the thread that compiles a stack of its own for signals. Where engines end in another order
        # than they began, that stack is gone and still in use: the next signal (Ctrl-C, the end of a worker of the data
        # loader) kills the process.
        with ThreadPoolExecutor(1) as thread:
            self.precision, self._request = thread.submit(self._compile, network, precision).result()

    def _compile(
        self, network: Path, precision: Literal["auto", "bf16", "f32"]
    ) -> tuple[Literal["bf16", "f32"], InferRequest]:
        import openvino

        known = cpu_precision() if precision == "auto" else precision
        core = openvino.Core()
        settings = {
            "INFERENCE_NUM_THREADS": self.threads,
            "INFERENCE_PRECISION_HINT": known,
            "PERFORMANCE_HINT": "LATENCY",
        }
        try:
            compiled = core.compile_model(core.read_model(network), "CPU", settings)
        except RuntimeError as error:
            raise ModelError(f"OpenVINO cannot run {network}: {_first_line(error)}") from None
        return known, compiled.create_infer_request()

    def __call__(self, image: FloatArray) -> FloatArray:
        """Run the network on one image (3, height, width); returns a new array (channel, h, w) float32."""
        try:
            return np.array(self._request.infer([image[None]])[0][0], dtype=np.float32)
        except RuntimeError as error:
            raise ModelError(f"OpenVINO failed on an image of shape {image.shape}: {_first_line(error)}") from None


class TorchEngine:
    """A torch module, activation included, on a GPU."""

    def __init__(self, module: nn.Module, device: str) -> None:
        check_device(device)
        self.device = device
        self._module = module.to(device).eval()

    def __call__(self, image: FloatArray) -> FloatArray:
        """Run the network on one image (3, height, width); returns a new array (channel, h, w) float32."""
        import torch

        with torch.inference_mode():
            prediction = self._module(torch.from_numpy(image)[None].to(self.device))
        return prediction[0].float().cpu().numpy()


def available_threads() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _first_line(error: RuntimeError) -> str:
    return next(iter(str(error).strip().splitlines()), "no reason given")
