"""Runs an exported network: OpenVINO on a CPU, torch on a GPU."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from fewcell.errors import ConfigError, DeviceError, MissingDependencyError, ModelError, nearest
from fewcell.types import FloatArray

if TYPE_CHECKING:
    from openvino import InferRequest
    from torch import nn

__all__ = [
    "DEVICES",
    "PRECISIONS",
    "Engine",
    "OpenVinoEngine",
    "Precision",
    "TorchEngine",
    "adds_int8_in_full",
    "available_threads",
    "check_device",
    "choose_precision",
    "cpu_precision",
    "offered_precisions",
    "openvino",
]

DEVICES = ("cpu", "cuda")
Precision = Literal["int8", "bf16", "f32"]
PRECISIONS: tuple[Precision, ...] = ("int8", "bf16", "f32")
"""Numbers that a network is computed in, the fastest first."""

KERNELS_KEPT = 800
"""OpenVINO makes kernels for every shape that it meets, about 40 a network. To make them takes as long as a megapixel
or two, and they take 10 MB (with AMX; less without). Unless told otherwise it keeps 5,000, and oneDNN below it
1,000 once more: hundreds of megabytes after a folder of images of many sizes. `padded_shape` and `whole_steps` make
few of them, and those of 20 to 30 shapes are kept: where fewer are than images and their parts have, they are made
again for every image."""
ONEDNN_KEEPS = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"


class Engine(Protocol):
    """Anything that turns an image (3, height, width) into a prediction (channel, h, w), both float32.

    Several threads may call it; they are served one by one.
    """

    def __call__(self, image: FloatArray) -> FloatArray: ...


def openvino() -> ModuleType:
    """The library OpenVINO without its package of telemetry, so that it sends nothing and writes nothing at home.

    Whatever needs it, or imports it in turn, asks here first.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # pyright: ignore[reportArgumentType]
    import openvino

    return openvino


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


def offered_precisions(*, has_int8: bool) -> list[Precision]:
    """The precisions in which this CPU can run a model, the fastest first. has_int8: whether it has an int8 network."""
    known = openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    offered: dict[Precision, bool] = {"int8": has_int8 and "INT8" in known, "bf16": "BF16" in known, "f32": True}
    return [precision for precision in PRECISIONS if offered[precision]]


def choose_precision(asked: str, *, has_int8: bool) -> Precision:
    """The precision for a model on this CPU. asked: one of PRECISIONS, or 'auto', the fastest that is exact enough.

    has_int8: whether the model has an int8 network. 'auto' takes it only where `adds_int8_in_full`.

    Raises ConfigError for a name that is none, ModelError for int8 where the model has no such network, DeviceError for
    what this CPU does not compute in.
    """
    offered = offered_precisions(has_int8=has_int8)
    if asked == "auto":
        return next(precision for precision in offered if precision != "int8" or adds_int8_in_full())
    if asked not in PRECISIONS:
        raise ConfigError(f"There is no precision {asked!r}; {nearest(asked, ('auto', *PRECISIONS))}")
    if asked == "int8" and not has_int8:
        raise ModelError("The model has no int8 network. Use --precision auto, or train it with int8 = true.")
    if asked not in offered:
        raise DeviceError(f"This CPU does not compute in {asked}. Use --precision auto, or f32.")
    return asked


def adds_int8_in_full() -> bool:
    """Whether this CPU adds products of 8-bit numbers in 32 bits: with VNNI, AMX, or Arm's dot products.

    Older ones add pairs of them in 16 bits, which may be too few (OpenVINO: "saturation (overflow) issue"): how good an
    int8 network is there cannot be told from how good it is here.
    """
    from llvmlite.binding import get_host_cpu_features

    try:
        features = get_host_cpu_features()
    except RuntimeError:  # LLVM does not know this CPU
        return False
    return any(features.get(name) for name in ("avx512vnni", "avxvnni", "amx-int8", "dotprod", "i8mm"))


def cpu_precision() -> Literal["bf16", "f32"]:
    """The precision of networks that are not quantised on this CPU: bf16 where it computes in it, else f32."""
    return "bf16" if "bf16" in offered_precisions(has_int8=False) else "f32"


class OpenVinoEngine:
    """A network on the CPU: an ONNX file, or an int8 one in OpenVINO's own format.

    threads: how many to use, by default one per core that this process may use. precision: of what is not in int8;
    'auto' is `cpu_precision()`.

    Raises ModelError if OpenVINO cannot read the network.
    """

    def __init__(
        self, network: Path, *, threads: int | None = None, precision: Literal["auto", "bf16", "f32"] = "auto"
    ) -> None:
        self.threads = threads or available_threads()
        self.precision: Literal["bf16", "f32"] = cpu_precision() if precision == "auto" else precision
        self._one_at_a_time = Lock()
        # OpenVINO gives the thread that compiles a stack of its own for signals. Where engines end in another order
        # than they began, that stack is gone and still in use: the next signal (Ctrl-C, the end of a worker of the data
        # loader) kills the process.
        with ThreadPoolExecutor(1) as thread, _kernels_kept_once():
            self._request = thread.submit(self._compile, network).result()

    def _compile(self, network: Path) -> InferRequest:
        core = openvino().Core()
        with suppress(RuntimeError):  # a setting that is not promised: an OpenVINO without it takes more memory
            core.set_property("CPU", {"CPU_RUNTIME_CACHE_CAPACITY": str(KERNELS_KEPT)})
        settings = {
            "INFERENCE_NUM_THREADS": self.threads,
            "INFERENCE_PRECISION_HINT": self.precision,
            "PERFORMANCE_HINT": "LATENCY",
        }
        try:
            compiled = core.compile_model(core.read_model(network), "CPU", settings)
        except RuntimeError as error:
            raise ModelError(f"OpenVINO cannot run {network}: {_first_line(error)}") from None
        return compiled.create_infer_request()

    def __call__(self, image: FloatArray) -> FloatArray:
        """Run the network on one image (3, height, width); returns a new array (channel, h, w) float32."""
        try:
            with self._one_at_a_time:
                seen = self._request.infer([image[None]], share_inputs=True, share_outputs=True)
                # A copy: the next image takes the place of what is shared.
                return np.array(seen[0][0], dtype=np.float32)
        except RuntimeError as error:
            raise ModelError(f"OpenVINO failed on an image of shape {image.shape}: {_first_line(error)}") from None


@contextmanager
def _kernels_kept_once() -> Iterator[None]:
    """Have the oneDNN of OpenVINO keep no kernels beside those that OpenVINO keeps.

    It reads how many once, when the first network is compiled; that of torch, which needs them, reads it another time.
    """
    if ONEDNN_KEEPS in os.environ:
        yield
        return
    os.environ[ONEDNN_KEEPS] = "0"
    try:
        yield
    finally:
        os.environ.pop(ONEDNN_KEEPS, None)


class TorchEngine:
    """A torch module, activation included, on a GPU."""

    def __init__(self, module: nn.Module, device: str) -> None:
        check_device(device)
        self.device = device
        self._one_at_a_time = Lock()
        self._module = module.to(device).eval()

    def __call__(self, image: FloatArray) -> FloatArray:
        """Run the network on one image (3, height, width); returns a new array (channel, h, w) float32."""
        import torch

        with self._one_at_a_time, torch.inference_mode():
            prediction = self._module(torch.from_numpy(image)[None].to(self.device))
        return prediction[0].float().cpu().numpy()


def available_threads() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _first_line(error: RuntimeError) -> str:
    return next(iter(str(error).strip().splitlines()), "no reason given")
