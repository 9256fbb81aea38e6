"""vit-unet: the vision transformer of the NeurIPS 2022 Cell Segmentation Challenge's baselines (UNETR), from MONAI."""

from typing import Any

from torch import nn

from fewcell.errors import pick, require
from fewcell.networks.base import WINDOW_PX, WindowedNetwork

__all__ = ["ViTUNet"]


# MONAI's names. feature_size: channels of the decoder at the image's grid; the others are of each transformer block.
PRESETS: dict[str, dict[str, Any]] = {
    "official": {"feature_size": 16, "hidden_size": 768, "mlp_dim": 3072, "num_heads": 12},
    "small": {"feature_size": 12, "hidden_size": 96, "mlp_dim": 288, "num_heads": 3},
}


class ViTUNet(WindowedNetwork):
    """The challenge's second baseline: a vision transformer that looks at a window, and a U-Net's decoder.

    The window is cut into patches of 16 px, each looks at all the others in 12 transformer blocks, and the decoder
    brings what four of the blocks say back to the resolution of the image. There is no bound to its reach, and each
    place in the window has a learned embedding: windows of 256 px are the only size that it takes.

    preset: "official" has the challenge's sizes: 87.6 M parameters, 25.7 G multiply-adds a window. "small" can be
        trained on a CPU with two cores: 1.7 M parameters, 1.8 G multiply-adds, twice the time of `resunet`.

    Raises ConfigError for another preset, MissingDependencyError without MONAI or einops.

    Source: UNETR (Hatamizadeh et al., 2022), as `monai.networks.nets.UNETR` in two dimensions with the sizes of the
    challenge's baseline (Ma et al., 2024).
    """

    multiple_px = 16

    def __init__(self, out_channels: int, preset: str = "official") -> None:
        super().__init__()
        sizes = pick("preset", preset, PRESETS)
        require("train", "monai", "einops")  # MONAI's transformers need einops, and say so much later
        from monai.networks.nets.unetr import UNETR

        self.net = UNETR(
            in_channels=3,
            out_channels=out_channels,
            img_size=WINDOW_PX,
            proj_type="perceptron",
            norm_name="instance",
            conv_block=False,
            res_block=True,
            spatial_dims=2,
            **sizes,
        )
        # MONAI makes these norms for a cross attention that is not there. Without a gradient they would stop training
        # by several processes.
        for block in self.net.vit.blocks:
            block.norm_cross_attn = nn.Identity()
