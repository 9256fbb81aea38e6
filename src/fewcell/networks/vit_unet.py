"""vit-unet: the vision transformer of the NeurIPS 2022 Cell Segmentation Challenge's baselines (UNETR), from MONAI."""

from dataclasses import dataclass

from torch import Tensor, nn

from fewcell.errors import pick, require
from fewcell.networks.base import Network

__all__ = ["ViTUNet"]


@dataclass(frozen=True)
class _Sizes:
    """features: channels of the decoder at the image's grid. hidden, mlp, heads: of each transformer block."""

    features: int
    hidden: int
    mlp: int
    heads: int


WINDOW_PX = 256
PRESETS: dict[str, _Sizes] = {
    "official": _Sizes(features=16, hidden=768, mlp=3072, heads=12),
    "small": _Sizes(features=12, hidden=96, mlp=288, heads=3),
}


class ViTUNet(Network):
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

    stride = 1
    multiple_px = 16
    reach_px = None
    window_px = WINDOW_PX

    def __init__(self, out_channels: int, preset: str = "official") -> None:
        super().__init__()
        sizes = pick("preset", preset, PRESETS)
        require("train", "monai", "einops")  # MONAI's transformers need einops, and say so much later
        from monai.networks.nets.unetr import UNETR

        self.net = UNETR(
            in_channels=3,
            out_channels=out_channels,
            img_size=WINDOW_PX,
            feature_size=sizes.features,
            hidden_size=sizes.hidden,
            mlp_dim=sizes.mlp,
            num_heads=sizes.heads,
            proj_type="perceptron",
            norm_name="instance",
            conv_block=False,
            res_block=True,
            spatial_dims=2,
        )
        # MONAI makes these norms for a cross attention that is not there. Without a gradient they would stop training
        # by several processes.
        for block in self.net.vit.blocks:
            block.norm_cross_attn = nn.Identity()

    def forward(self, image: Tensor) -> Tensor:
        """(batch, 3, 256, 256) -> (batch, out_channels, 256, 256)."""
        return self.net(image)
