"""From a trained network to the files of a model folder."""

import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fewcell.engine import OpenVinoEngine
from fewcell.errors import ModelError
from fewcell.networks import Network, Predictor
from fewcell.representations import Representation
from fewcell.training.checkpoint import save_tensors

__all__ = ["export_network", "parity", "round_weights", "write_onnx"]

TOLERANCE = 1e-3


@torch.no_grad()
def round_weights(network: Network) -> None:
    """Round the kernels of convolutions and linear layers to half precision, in place, to halve the weights file.

    What is exported afterwards is exactly what the weights file holds. Norms keep full precision.
    """
    for value in network.state_dict().values():
        if _is_kernel(value):
            value.copy_(value.half())


def _is_kernel(value: Tensor) -> bool:
    """Whether a tensor of a network is the kernel of a convolution (4 axes) or a linear layer (2 axes)."""
    return value.ndim in (2, 4) and value.is_floating_point()


def export_network(network: Network, representation: Representation, onnx: Path, weights: Path) -> None:
    """Write a network with its activation as ONNX, and its weights as safetensors; call `round_weights` before.

    Raises ModelError if OpenVINO, running the file, differs from torch by more than 0.001 anywhere.
    """
    predictor = Predictor(network, representation.activate)
    side = network.window_px or 2 * network.multiple_px
    any_size = {"image": {2: "height", 3: "width"}, "prediction": {2: "rows", 3: "columns"}}
    axes = None if network.window_px else any_size
    write_onnx(predictor, torch.zeros(1, 3, side, side), onnx, ("image", "prediction"), axes)
    state = {
        name: (value.half() if _is_kernel(value) else value).contiguous()
        for name, value in network.state_dict().items()
    }
    save_tensors(weights, state)
    difference = parity(predictor, onnx, _images(network))
    if not difference <= TOLERANCE:
        raise ModelError(f"The exported network differs from the trained one by {difference:.2g}.")


def _images(network: Network) -> Iterator[Tensor]:
    """Two images, (1, 3, height, width), of two sizes if the network takes them."""
    for rows, columns in ((3, 5), (6, 4)):
        sides = (network.window_px or count * network.multiple_px for count in (rows, columns))
        yield torch.rand(1, 3, *sides, generator=torch.Generator().manual_seed(rows))


def write_onnx(
    module: nn.Module,
    example: Tensor,
    onnx: Path,
    names: tuple[str, str],
    axes: dict[str, dict[int, str]] | None = None,
) -> None:
    """Write a network as ONNX, as it is in use; from then on it is so itself, on the CPU in full precision.

    example: what it is given. names: of input and output. axes: names of those that may have any length.
    """
    # The types that torch ships leave memory_format out.
    module.cpu().float().to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
    module.eval()  # last: branches of blocks are added now, and their sum would not move with them
    with warnings.catch_warnings():
        # The newer exporter cannot express heights that are multiples of the total down-sampling.
        warnings.simplefilter("ignore", DeprecationWarning)
        # torch warns that an instance norm takes its statistics from the image: so it does in training.
        warnings.filterwarnings("ignore", ".*instance_norm", UserWarning)
        # What is computed from the size of a window becomes a constant in the file, as it is.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # pyright: ignore[reportPrivateImportUsage]
        torch.onnx.export(
            module,
            (example,),
            str(onnx),
            input_names=[names[0]],
            output_names=[names[1]],
            dynamic_axes=axes,
            dynamo=False,
        )


@torch.no_grad()
def parity(module: nn.Module, onnx: Path, images: Iterable[Tensor]) -> float:
    """The largest difference between torch and OpenVINO (in full precision) on images (1, 3, height, width).

    NaN if one of them says NaN anywhere.
    """
    engine = OpenVinoEngine(onnx, precision="f32")
    return float(np.max([np.abs(module(image)[0].numpy() - engine(image[0].numpy())).max() for image in images]))
