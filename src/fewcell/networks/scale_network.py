"""The network that tells how wide the cells of a picture are, and whether there are any."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewcell.networks.blocks import Residual, conv_norm

__all__ = ["ScaleNetwork"]

WIDTHS = (16, 32, 64, 96, 128)
RAREST = 1e-3  # share of a class in training; of rarer ones nothing is known that could be made more of


class ScaleNetwork(nn.Module):
    """A small classifier of diameters: convolutions, then a weighted mean over places, the weights learned as well.

    Unlike segmentation networks it looks at a window as a whole: what an image shows tells at which scale it is seen.

    n_classes: of diameters, ascending. seen: how often each was there in training.
    Source: residual networks (He et al., 2016) with attention pooling (Ilse et al., 2018).
    """

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [conv_norm(3, WIDTHS[0], kernel=5, stride=2)]
        for before, width in pairwise(WIDTHS):
            layers += [conv_norm(before, width, kernel=3, stride=2), Residual(width)]
        self.trunk = nn.Sequential(*layers)
        self.attention = nn.Conv2d(WIDTHS[-1], 4, 1)
        self.mixed = nn.Linear(5 * WIDTHS[-1], WIDTHS[-1])
        self.head = nn.Linear(WIDTHS[-1], n_classes + 1)
        self.seen: Tensor
        self.register_buffer("seen", torch.zeros(n_classes))

    def forward(self, image: Tensor) -> Tensor:
        """(batch, 3, side, side) -> (batch, n_classes + 1): logits of each diameter, and of there being cells."""
        x = self.trunk(image)
        weights = self.attention(x).flatten(2).softmax(dim=2)
        places = x.flatten(2)
        pooled = torch.cat([(weights @ places.transpose(1, 2)).flatten(1), places.mean(dim=2)], dim=1)
        return self.head(F.relu(self.mixed(pooled)))

    @torch.no_grad()
    def expect(self, prior: Tensor) -> None:
        """Let its logits be what they would be had each class been there as often in training as `prior` says.

        prior: (n_classes,), summing to 1. By Bayes' rule, with no change to what the network knows.
        """
        seen = self.seen / self.seen.sum().clamp(min=1)
        self.head.bias[:-1] += torch.log(prior / seen.clamp(min=RAREST))
        self.seen.copy_(prior)
