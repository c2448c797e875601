"""Encoders of networks that are known from segmentation: MONAI's SwinUNETR and U-Net.

Their weights have the names that MONAI gives them, so that a pretrained encoder fits into the
network that segments: those of `swin_unetr` into `SwinUNETR.swinViT`, those of `unet` into
`BasicUNet`, whose decoder they lack.
"""

from monai.networks.nets.basic_unet import BasicUNet
from monai.networks.nets.swin_unetr import SwinTransformer
from torch import Tensor, nn

from medssl.backbone import Backbone
from medssl.config import Dims
from sslcore.errors import ConfigError

SEGMENTERS = ("swin_unetr", "unet")
MULTIPLE = 32  # px: swin_unetr halves an image five times, and unet needs two at its depth

_SWIN_WIDTH = 48  # of the first stage, as published
_UNET_WIDTHS = (32, 32, 64, 128, 256, 32)  # MONAI's
_UNET_ENCODER = ("conv_0", "down_1", "down_2", "down_3", "down_4")


class SwinEncoder(SwinTransformer):
    """The encoder of SwinUNETR; its feature is the mean of the deepest map.

    Source:
        Hatamizadeh et al., "Swin UNETR", BrainLes 2021, arXiv:2201.01266; as pretrained in Tang et
        al., CVPR 2022, arXiv:2111.14791.
    """

    def forward(self, x: Tensor, normalize: bool = True) -> Tensor:  # noqa: FBT001, FBT002 - MONAI's
        """Return `[batch, 768]`."""
        maps: list[Tensor] = super().forward(x, normalize)  # type: ignore[no-untyped-call]
        return _mean(maps[-1])


class UNetEncoder(nn.Module):
    """The way down of a U-Net; its feature is the mean of the deepest map.

    Source:
        Falk et al., "U-Net: deep learning for cell counting, detection, and morphometry", Nature
        Methods 2019, as MONAI's `BasicUNet`.
    """

    def __init__(self, channels: int, dims: Dims) -> None:
        """Draw the weights."""
        super().__init__()
        whole = BasicUNet(spatial_dims=dims, in_channels=channels, features=_UNET_WIDTHS)
        for name in _UNET_ENCODER:
            self.add_module(name, whole.get_submodule(name))

    def forward(self, view: Tensor) -> Tensor:
        """Return `[batch, 256]`."""
        for part in self.children():
            view = part(view)
        return _mean(view)


def build_segmenter(name: str, *, channels: int, image_size: int, dims: Dims) -> Backbone:
    """Build one of `SEGMENTERS`.

    Raises:
        ConfigError: A side that the network cannot take.
    """
    if name == "unet":
        if image_size < MULTIPLE:
            raise ConfigError(f"image_size {image_size}: unet needs {MULTIPLE} px")
        return Backbone(UNetEncoder(channels, dims), _UNET_WIDTHS[4])
    if image_size % MULTIPLE:
        larger = -(-image_size // MULTIPLE) * MULTIPLE
        raise ConfigError(
            f"image_size {image_size}: swin_unetr needs a multiple of {MULTIPLE} px; use {larger}"
        )
    net = SwinEncoder(
        in_chans=channels,
        embed_dim=_SWIN_WIDTH,
        window_size=(7,) * dims,
        patch_size=(2,) * dims,
        depths=(2, 2, 2, 2),
        num_heads=(3, 6, 12, 24),
        spatial_dims=dims,
    )
    return Backbone(net, _SWIN_WIDTH * 16)


def _mean(maps: Tensor) -> Tensor:
    return maps.flatten(2).mean(dim=2)
