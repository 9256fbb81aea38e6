"""Networks: from an image to the raw channels of a representation. A variant is one file and one line here."""

from fewcell.errors import ConfigError, nearest
from fewcell.networks.base import Network
from fewcell.networks.resunet import ResUNet

__all__ = ["NETWORKS", "Network", "ResUNet", "make_network"]

NETWORKS: dict[str, type[Network]] = {
    "resunet": ResUNet,
}


def make_network(name: str, out_channels: int, settings: dict | None = None) -> Network:
    """Build the network called `name`. settings: its own arguments, for example {"widths": [16, 32]}.

    Raises ConfigError for an unknown name or setting.
    """
    if name not in NETWORKS:
        raise ConfigError(f"There is no network {name!r}; {nearest(name, NETWORKS)}")
    settings = {k: tuple(v) if isinstance(v, list) else v for k, v in (settings or {}).items()}
    try:
        return NETWORKS[name](out_channels, **settings)
    except TypeError as error:
        raise ConfigError(f"The network {name!r} does not take these settings: {settings} ({error}).") from None
