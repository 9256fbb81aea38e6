"""unet: the residual U-Net of the NeurIPS 2022 Cell Segmentation Challenge's baselines, from MONAI."""

from fewcell.errors import pick, require
from fewcell.networks.base import WindowedNetwork

__all__ = ["UNet"]

PRESETS: dict[str, tuple[int, ...]] = {  # channels a level, from the image's grid downwards
    "official": (16, 32, 64, 128, 256),
    "small": (16, 32, 64, 128, 256),
}


class UNet(WindowedNetwork):
    """The challenge's first baseline: a U-Net with residual units, at the resolution of the image.

    Its norms are instance norms, which take mean and variance over the whole input, so that every output pixel
    depends on every input pixel: there is no bound to its reach, and it is always given windows of 256 px.

    preset: "official" has the challenge's sizes: 1.6 M parameters, 0.8 G multiply-adds a window, about the time of
        `resunet`. They are small already, so "small" is the same network.

    Raises ConfigError for another preset, MissingDependencyError without MONAI.

    Source: U-Net (Ronneberger et al., 2015) with residual units (Kerfoot et al., 2018), as `monai.networks.nets.UNet`
    with the sizes of the challenge's baseline (Ma et al., 2024).
    """

    multiple_px = 16

    def __init__(self, out_channels: int, preset: str = "official") -> None:
        super().__init__()
        channels = pick("preset", preset, PRESETS)
        require("train", "monai")
        from monai.networks.nets.unet import UNet as MonaiUNet

        self.net = MonaiUNet(
            spatial_dims=2,
            in_channels=3,
            out_channels=out_channels,
            channels=channels,
            strides=(2,) * (len(channels) - 1),
            num_res_units=2,
        )
