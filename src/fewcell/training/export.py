"""From a trained network to the files of a model folder."""

import warnings
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from fewcell.engine import OpenVinoEngine
from fewcell.errors import ModelError
from fewcell.networks import Network, Predictor
from fewcell.representations import Representation

__all__ = ["export_network", "parity", "round_weights"]

TOLERANCE = 1e-3


@torch.no_grad()
def round_weights(network: Network) -> None:
    """Round convolution kernels to half precision, in place, so that the weights file is half as large.

    What is exported afterwards is exactly what the weights file holds. Norms keep full precision.
    """
    for parameter in network.parameters():
        if parameter.ndim == 4:
            parameter.copy_(parameter.half())


def export_network(network: Network, representation: Representation, onnx: Path, weights: Path) -> None:
    """Write a network with its activation as ONNX, and its weights as safetensors; call `round_weights` before.

    Raises ModelError if OpenVINO, running the file, differs from torch by more than 0.001 anywhere.
    """
    # The types that torch ships leave memory_format out.
    network.cpu().float().to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
    predictor = Predictor(network, representation.activate).eval()
    side = 2 * network.multiple_px
    with warnings.catch_warnings():
        # The newer exporter cannot express heights that are multiples of the total down-sampling.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            predictor,
            (torch.zeros(1, 3, side, side),),
            str(onnx),
            input_names=["image"],
            output_names=["prediction"],
            dynamic_axes={"image": {2: "height", 3: "width"}, "prediction": {2: "rows", 3: "columns"}},
            dynamo=False,
        )
    state = {
        name: (value.half() if value.ndim == 4 else value).contiguous() for name, value in network.state_dict().items()
    }
    save_file(state, weights)
    difference = parity(predictor, onnx, network.multiple_px)
    if not difference <= TOLERANCE:
        raise ModelError(f"The exported network differs from the trained one by {difference:.2g}.")


@torch.no_grad()
def parity(predictor: Predictor, onnx: Path, multiple_px: int) -> float:
    """The largest difference between torch and OpenVINO (in full precision) on images of two sizes."""
    engine = OpenVinoEngine(onnx, precision="f32")
    worst = 0.0
    for rows, columns in ((3, 5), (6, 4)):
        generator = torch.Generator().manual_seed(rows)
        image = torch.rand(1, 3, rows * multiple_px, columns * multiple_px, generator=generator)
        worst = max(worst, float(np.abs(predictor(image)[0].numpy() - engine(image[0].numpy())).max()))
    return worst
