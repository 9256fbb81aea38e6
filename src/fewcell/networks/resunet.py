"""resunet: a residual U-Net, purely local, made for CPUs."""

from itertools import pairwise
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewcell.networks.base import Network
from fewcell.networks.blocks import Residual, conv_norm

__all__ = ["ResUNet"]

BLOCK_REACH = 2  # of any block, in pixels of its level


class ResUNet(Network):
    """A residual U-Net that works at half resolution or less and looks no further than its receptive field.

    Convolutions, batch norm and ReLU only: no global pooling, no attention, so a tile with a halo of `reach_px`
    gives the same output as the whole image. The first convolution has stride 2, so the costly layers see a
    quarter of the pixels, and so does the output.

    widths: channels per level, from the finest downwards.
    blocks: residual blocks per level on the way down; the way up has one.
    block: "dense", two 3 x 3 convolutions; "depthwise", one of 5 x 5 a channel and two that mix channels; or
        "reparameterised", two 3 x 3 convolutions that are sums of branches while they are trained.
    stem_width: channels of a level with a single block above those, at half resolution, so that theirs is a quarter.
        0: there is none, and the finest of `widths` is at half resolution.
    Source: U-Net (Ronneberger et al., 2015) with residual blocks (He et al., 2016), or those of ConvNeXt (Liu et al.,
    2022) with the batch norm and ReLU of the others, or of RepVGG (Ding et al., CVPR 2021).
    """

    stride = 2
    window_px = None

    def __init__(
        self,
        out_channels: int,
        widths: tuple[int, ...] = (16, 32, 64, 160),
        blocks: int = 2,
        block: str = "dense",
        stem_width: int = 0,
    ) -> None:
        super().__init__()
        if block not in _BLOCKS:
            raise ValueError(f"there is no block {block!r}, only {', '.join(_BLOCKS)}")
        counts = [blocks] * len(widths)
        if stem_width:
            widths, counts = (stem_width, *widths), [0, *counts]
        kinds = [Residual if stem_width and not level else _BLOCKS[block] for level in range(len(widths))]
        self.multiple_px = self.stride * 2 ** (len(widths) - 1)
        self.reach_px = _reach_px(counts)
        self.stem = conv_norm(3, widths[0], kernel=5, stride=self.stride)
        self.down = nn.ModuleList(
            nn.Sequential(
                *([conv_norm(widths[i - 1], width, kernel=2, stride=2)] if i else []),
                *(kinds[i](width) for _ in range(counts[i])),
            )
            for i, width in enumerate(widths)
        )
        self.lateral = nn.ModuleList(
            nn.Conv2d(deep + shallow, shallow, 1, bias=False) for shallow, deep in pairwise(widths)
        )
        self.up = nn.ModuleList(kind(width) for kind, width in zip(kinds, widths[:-1], strict=False))
        self.head = nn.Conv2d(widths[0], out_channels, 1)

    def forward(self, image: Tensor) -> Tensor:
        """(batch, 3, height, width) -> (batch, out_channels, height / 2, width / 2)."""
        x = self.stem(image)
        skips = []
        for level in self.down:
            x = level(x)
            skips.append(x)
        for i in reversed(range(len(self.up))):
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            x = self.up[i](self.lateral[i](torch.cat([x, skips[i]], dim=1)))
        return self.head(x)


class _Depthwise(nn.Module):
    """A 5 x 5 convolution of each channel, then twice as many mixtures of all, and back; the input passes unchanged."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.spread = nn.Sequential(
            nn.Conv2d(width, width, 5, padding=2, groups=width, bias=False), nn.BatchNorm2d(width)
        )
        self.mix = conv_norm(width, 2 * width, kernel=1)
        self.join = nn.Conv2d(2 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.join(self.mix(self.spread(x)))


class _Reparameterised(nn.Sequential):
    """Two convolutions, each a sum of branches in training and one of 3 x 3 in use."""

    def __init__(self, width: int) -> None:
        super().__init__(_Branches(width), _Branches(width))


class _Branches(nn.Module):
    """A 3 x 3 convolution, one of 1 x 1 and the input itself, each with its norm, added; ReLU. In use all are one.

    What is exported is the one that they were when `eval` was called last: an ONNX file needs its numbers.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.wide, self.narrow = (nn.Conv2d(width, width, k, padding=k // 2, bias=False) for k in (3, 1))
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(3))
        self._exported: tuple[Tensor, Tensor]

    def train(self, mode: bool = True) -> Self:
        """As for any module; where training ends, the branches are added for an export."""
        if not mode:
            self._exported = self._in_one()
        return super().train(mode)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            kernel, bias = self._exported if torch.onnx.is_in_onnx_export() else self._in_one()
            return F.relu(F.conv2d(x, kernel, bias, padding=1))
        of_wide, of_narrow, of_same = self.norms
        return F.relu(of_wide(self.wide(x)) + of_narrow(self.narrow(x)) + of_same(x))

    @torch.no_grad()
    def _in_one(self) -> tuple[Tensor, Tensor]:
        """Kernel and bias of the convolution that is the sum of all branches, as their norms are in use."""
        wide, narrow = self.wide.weight, self.narrow.weight
        same = torch.eye(len(narrow), device=narrow.device, dtype=narrow.dtype)[..., None, None]
        kernels = (wide, F.pad(narrow, (1, 1, 1, 1)), F.pad(same, (1, 1, 1, 1)))
        kernel, bias = torch.zeros_like(wide), torch.zeros_like(wide[:, 0, 0, 0])
        for norm, of_branch in zip(self.norms, kernels, strict=True):
            factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)  # pyright: ignore
            kernel = kernel + of_branch * factor[:, None, None, None]
            bias = bias + norm.bias - norm.running_mean * factor  # pyright: ignore
        return kernel, bias


_BLOCKS: dict[str, type[Residual] | type[_Depthwise] | type[_Reparameterised]] = {
    "dense": Residual,
    "depthwise": _Depthwise,
    "reparameterised": _Reparameterised,
}


def _reach_px(counts: list[int]) -> int:
    """The receptive field's half-width in input pixels, from above. counts: of the blocks a level, on the way down."""
    reach = 2  # the 5 x 5 stem
    for level, count in enumerate(counts):
        pixel = ResUNet.stride * 2**level
        blocks = count + (1 if level < len(counts) - 1 else 0)
        # Down-sampling and nearest up-sampling shift the grid by less than one pixel of the coarser level.
        reach += pixel * blocks * BLOCK_REACH + (pixel if level else 0)
    return reach
