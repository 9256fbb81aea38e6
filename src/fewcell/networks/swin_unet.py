"""swin-unet: the Swin transformer of the NeurIPS 2022 Cell Segmentation Challenge's baselines, from MONAI."""

from typing import Any

from fewcell.errors import pick, require
from fewcell.networks.base import WindowedNetwork

__all__ = ["SwinUNet"]


# MONAI's names. feature_size: channels of the first stage and of the decoder at the image's grid. num_heads: of
# attention, per stage.
PRESETS: dict[str, dict[str, Any]] = {
    "official": {"feature_size": 24, "num_heads": (3, 6, 12, 24)},
    "small": {"feature_size": 12, "num_heads": (1, 2, 4, 8)},
}


class SwinUNet(WindowedNetwork):
    """The challenge's third baseline: a transformer whose attention is local and shifts, and a U-Net's decoder.

    Attention joins pixels in squares of 7 x 7 that are moved by half their side from block to block, on grids of half
    to a sixteenth of the image's. The decoder's norms are instance norms, which take mean and variance over the
    whole input: there is no bound to its reach, and it is always given windows of 256 px.

    preset: "official" has the challenge's sizes: 6.3 M parameters, 4.6 G multiply-adds a window. "small" can be
        trained on a CPU with two cores: 1.6 M parameters, 1.2 G multiply-adds, two and a half times the time of
        `resunet`.

    Raises ConfigError for another preset, MissingDependencyError without MONAI or einops.

    Source: Swin UNETR (Hatamizadeh et al., 2022, arXiv:2201.01266), as `monai.networks.nets.SwinUNETR` in two
    dimensions with the sizes of the challenge's baseline (Ma et al., 2024).
    """

    multiple_px = 32

    def __init__(self, out_channels: int, preset: str = "official") -> None:
        super().__init__()
        sizes = pick("preset", preset, PRESETS)
        require("train", "monai", "einops")  # MONAI's transformers need einops, and say so much later
        from monai.networks.nets.swin_unetr import SwinUNETR

        self.net = SwinUNETR(in_channels=3, out_channels=out_channels, spatial_dims=2, **sizes)
