"""resunet: a residual U-Net, purely local, made for CPUs."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewcell.networks.base import Network

__all__ = ["ResUNet"]


class ResUNet(Network):
    """A residual U-Net that works at half resolution or less and looks no further than its receptive field.

    Convolutions, batch norm and ReLU only: no global pooling, no attention, so a tile with a halo of `reach_px`
    gives the same output as the whole image. The first convolution has stride 2, so the costly layers see a
    quarter of the pixels, and so does the output.

    widths: channels per level, from the finest downwards.
    blocks: residual blocks per level on the way down; the way up has one.
    block: "dense", two 3 x 3 convolutions, or "depthwise", one of 5 x 5 a channel and two that mix channels.
    stem_width: channels of a level with a single block above those, at half resolution, so that theirs is a quarter.
        0: there is none, and the finest of `widths` is at half resolution.
    Source: U-Net (Ronneberger et al., 2015) with residual blocks (He et al., 2016), or those of ConvNeXt (Liu et al.,
    2022) with the batch norm and ReLU of the others.
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
        kinds = [_Residual if stem_width and not level else _BLOCKS[block] for level in range(len(widths))]
        self.multiple_px = self.stride * 2 ** (len(widths) - 1)
        self.reach_px = _reach_px(counts, [kind.reach for kind in kinds])
        self.stem = _conv_norm(3, widths[0], kernel=5, stride=self.stride)
        self.down = nn.ModuleList(
            nn.Sequential(
                *([_conv_norm(widths[i - 1], width, kernel=2, stride=2)] if i else []),
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


class _Residual(nn.Module):
    """Two 3 x 3 convolutions around which the input passes unchanged."""

    reach = 2

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _conv_norm(width, width, kernel=3)
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(self.first(x)))


class _Depthwise(nn.Module):
    """A 5 x 5 convolution of each channel, then twice as many mixtures of all, and back; the input passes unchanged."""

    reach = 2

    def __init__(self, width: int) -> None:
        super().__init__()
        self.spread = nn.Sequential(
            nn.Conv2d(width, width, 5, padding=2, groups=width, bias=False), nn.BatchNorm2d(width)
        )
        self.mix = _conv_norm(width, 2 * width, kernel=1)
        self.join = nn.Conv2d(2 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.join(self.mix(self.spread(x)))


_BLOCKS: dict[str, type[_Residual] | type[_Depthwise]] = {"dense": _Residual, "depthwise": _Depthwise}


def _conv_norm(inputs: int, outputs: int, *, kernel: int, stride: int = 1) -> nn.Sequential:
    padding = kernel // 2 if kernel % 2 else 0
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=padding, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def _reach_px(counts: list[int], reaches: list[int]) -> int:
    """The receptive field's half-width in input pixels, from above. reaches: of a block, in pixels of its level."""
    reach = 2  # the 5 x 5 stem
    for level, (count, of_block) in enumerate(zip(counts, reaches, strict=True)):
        pixel = ResUNet.stride * 2**level
        blocks = count + (1 if level < len(counts) - 1 else 0)
        # Down-sampling and nearest up-sampling shift the grid by less than one pixel of the coarser level.
        reach += pixel * blocks * of_block + (pixel if level else 0)
    return reach
