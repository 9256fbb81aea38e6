"""The network that tells how wide the cells of a picture are, and whether there are any."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["ScaleNetwork"]

WIDTHS = (16, 32, 64, 96, 128)


class ScaleNetwork(nn.Module):
    """A small classifier of diameters: convolutions, then a weighted mean over places, the weights learned as well.

    Unlike segmentation networks it looks at a window as a whole: what an image shows tells at which scale it is seen.

    n_classes: of diameters, ascending. Source: residual networks (He et al., 2016) with attention pooling (Ilse et al.,
    2018).
    """

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, width in zip((3, *WIDTHS), WIDTHS, strict=False):
            layers += [_Halved(before, width), *([_Residual(width)] if before > 3 else [])]
        self.trunk = nn.Sequential(*layers)
        self.attention = nn.Conv2d(WIDTHS[-1], 4, 1)
        self.mixed = nn.Linear(5 * WIDTHS[-1], WIDTHS[-1])
        self.head = nn.Linear(WIDTHS[-1], n_classes + 1)

    def forward(self, image: Tensor) -> Tensor:
        """(batch, 3, side, side) -> (batch, n_classes + 1): logits of each diameter, and of there being cells."""
        x = self.trunk(image)
        weights = self.attention(x).flatten(2).softmax(dim=2)
        places = x.flatten(2)
        pooled = torch.cat([(weights @ places.transpose(1, 2)).flatten(1), places.mean(dim=2)], dim=1)
        return self.head(F.relu(self.mixed(pooled)))


class _Halved(nn.Sequential):
    def __init__(self, inputs: int, outputs: int) -> None:
        kernel = 5 if inputs == 3 else 3
        convolution = nn.Conv2d(inputs, outputs, kernel, stride=2, padding=kernel // 2, bias=False)
        super().__init__(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.last_norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.last_norm(self.second(F.relu(self.norm(self.first(x))))))
