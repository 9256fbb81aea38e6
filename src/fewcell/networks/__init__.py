"""Networks: from an image to the raw channels of a representation. A variant is one file and one line here."""

import inspect
from pathlib import Path

from fewcell.errors import ConfigError, MissingDependencyError, ModelError, checked_settings, pick
from fewcell.networks.base import Network, Predictor
from fewcell.networks.resunet import ResUNet
from fewcell.networks.scale_network import ScaleNetwork
from fewcell.networks.swin_unet import SwinUNet
from fewcell.networks.unet import UNet
from fewcell.networks.vit_unet import ViTUNet

__all__ = [
    "NETWORKS",
    "Network",
    "Predictor",
    "ScaleNetwork",
    "load_network",
    "make_network",
]

NETWORKS: dict[str, type[Network]] = {
    "resunet": ResUNet,
    "swin-unet": SwinUNet,
    "unet": UNet,
    "vit-unet": ViTUNet,
}


def make_network(name: str, out_channels: int, settings: dict | None = None) -> Network:
    """Build the network called `name`. settings: its own arguments, for example {"widths": [16, 32]}.

    Raises ConfigError for an unknown name or setting, MissingDependencyError if the network comes from a library that
    is not installed.
    """
    variant = pick("network", name, NETWORKS)
    settings = checked_settings("network", name, settings, list(inspect.signature(variant).parameters)[1:])
    try:
        return variant(out_channels, **settings)
    except (TypeError, ValueError, IndexError, RuntimeError) as error:
        raise ConfigError(f"The network {name!r} does not take these settings: {settings} ({error}).") from None


def load_network(name: str, out_channels: int, settings: dict, weights: Path) -> Network:
    """Build a network and give it the weights of a safetensors file.

    Raises ModelError if the file is missing or damaged, or belongs to another network, MissingDependencyError
    without safetensors.
    """
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError:
        raise MissingDependencyError("safetensors", "train") from None

    network = make_network(name, out_channels, settings)
    try:
        network.load_state_dict(load_file(weights))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ModelError(f"{weights} does not hold the weights of this {name}: {error}") from None
    return network
