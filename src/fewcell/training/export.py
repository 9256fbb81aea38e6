"""From a trained network to the files of a model folder."""

import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fewcell.engine import OpenVinoEngine
from fewcell.errors import ModelError
from fewcell.networks import Network, Predictor
from fewcell.representations import Representation
from fewcell.training.checkpoint import save_tensors

__all__ = ["export_network", "parity", "round_weights"]

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
    # The types that torch ships leave memory_format out.
    network.cpu().float().to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
    predictor = Predictor(network, representation.activate).eval()
    side = network.window_px or 2 * network.multiple_px
    any_size = {"image": {2: "height", 3: "width"}, "prediction": {2: "rows", 3: "columns"}}
    with warnings.catch_warnings():
        # The newer exporter cannot express heights that are multiples of the total down-sampling.
        warnings.simplefilter("ignore", DeprecationWarning)
        # torch warns that an instance norm takes its statistics from the image: so it does in training.
        warnings.filterwarnings("ignore", ".*instance_norm", UserWarning)
        # What is computed from the size of a window becomes a constant in the file, as it is.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # pyright: ignore[reportPrivateImportUsage]
        torch.onnx.export(
            predictor,
            (torch.zeros(1, 3, side, side),),
            str(onnx),
            input_names=["image"],
            output_names=["prediction"],
            dynamic_axes=None if network.window_px else any_size,
            dynamo=False,
        )
    state = {
        name: (value.half() if _is_kernel(value) else value).contiguous()
        for name, value in network.state_dict().items()
    }
    save_tensors(weights, state)
    difference = parity(predictor, onnx)
    if not difference <= TOLERANCE:
        raise ModelError(f"The exported network differs from the trained one by {difference:.2g}.")


@torch.no_grad()
def parity(predictor: Predictor, onnx: Path) -> float:
    """The largest difference between torch and OpenVINO (in full precision) on two images, of two sizes if they may."""
    engine = OpenVinoEngine(onnx, precision="f32")
    network, worst = predictor.network, 0.0
    for rows, columns in ((3, 5), (6, 4)):
        generator = torch.Generator().manual_seed(rows)
        sides = (network.window_px or count * network.multiple_px for count in (rows, columns))
        image = torch.rand(1, 3, *sides, generator=generator)
        worst = max(worst, float(np.abs(predictor(image)[0].numpy() - engine(image[0].numpy())).max()))
    return worst
