"""What every network has in common."""

from collections.abc import Callable

from torch import Tensor, nn

__all__ = ["WINDOW_PX", "Network", "Predictor", "WindowedNetwork"]

WINDOW_PX = 256  # sides of what the baselines of other libraries see


class Network(nn.Module):
    """A network from an image to the raw channels of a representation.

    forward: (batch, 3, height, width) -> (batch, out_channels, height / stride, width / stride). Height and
    width must be multiples of `multiple_px`, or exactly `window_px` where that is not None.
    stride: input pixels per output pixel, along one axis.
    multiple_px: total down-sampling; tiles whose origins are multiples of it see the same grid as the whole.
    reach_px: no input pixel further than this from an output pixel changes it; None if there is no bound.
    window_px: the network is always given square windows of this side, a multiple of `multiple_px`, in training as
        in use; None if any size will do. A network without bound needs it: what it says of a pixel depends on how
        much it sees.
    """

    stride: int
    multiple_px: int
    reach_px: int | None
    window_px: int | None

    def forward(self, image: Tensor) -> Tensor:
        raise NotImplementedError


class WindowedNetwork(Network):
    """A network of another library, `net`, that is always given windows of 256 px and works at their resolution."""

    stride = 1
    reach_px = None
    window_px = WINDOW_PX
    net: nn.Module

    def forward(self, image: Tensor) -> Tensor:
        """(batch, 3, 256, 256) -> (batch, out_channels, 256, 256)."""
        return self.net(image)


class Predictor(nn.Module):
    """A network and the activation of its representation, as one module: image in, prediction out."""

    def __init__(self, network: Network, activate: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.network = network
        self.activate = activate

    def forward(self, image: Tensor) -> Tensor:
        """(batch, 3, height, width) -> (batch, channel, height / stride, width / stride)."""
        return self.activate(self.network(image))
