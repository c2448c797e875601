from typing import Any

import pytest
import torch
from monai.networks.nets.basic_unet import BasicUNet
from monai.networks.nets.swin_unetr import SwinUNETR
from torch import nn

from medssl.backbones import KNOWN, Backbone, build_backbone, side_multiple, takes_patches
from medssl.config import Stem
from sslcore.errors import ConfigError
from sslcore.modules.tokens import TokenEncoder


@pytest.mark.parametrize("name", KNOWN)
def test_features_have_the_width_that_is_promised(name: str) -> None:
    backbone = build_backbone(name, channels=3, image_size=32)
    features = backbone(torch.rand(2, 3, 32, 32))
    assert features.shape == (2, backbone.feature_dim)


OF_VOLUMES = ["resnet10", "densenet121", "swin_unetr", "unet", "vit_mini", "vit_tiny"]


@pytest.mark.parametrize("name", OF_VOLUMES)
def test_networks_of_volumes_have_the_width_that_is_promised(name: str) -> None:
    backbone = build_backbone(name, channels=1, image_size=32, dims=3)
    backbone.eval()
    volumes = torch.rand(2, 1, 32, 32, 32)
    features = backbone(volumes)
    assert features.shape == (2, backbone.feature_dim)
    turned = backbone(volumes.flip(2))
    assert not torch.allclose(features, turned, atol=1e-5)  # it looks along the third side


def test_an_encoder_fits_into_the_network_that_segments() -> None:
    swin = build_backbone("swin_unetr", channels=1, image_size=32, dims=3)
    whole = SwinUNETR(in_channels=1, out_channels=2, feature_size=48)
    whole.swinViT.load_state_dict(swin.net.state_dict())
    unet = build_backbone("unet", channels=1, image_size=32, dims=3)
    left = BasicUNet(in_channels=1).load_state_dict(unet.net.state_dict(), strict=False)
    assert left.unexpected_keys == []
    assert all(key.startswith(("upcat", "final")) for key in left.missing_keys)


@pytest.mark.parametrize(
    ("name", "size", "words"),
    [
        ("efficientnet_b0", 32, "for images only"),
        ("swin_unetr", 40, "use 64"),
        ("unet", 24, "needs 32 px"),
    ],
)
def test_what_a_network_of_volumes_cannot_take_is_told(name: str, size: int, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build_backbone(name, channels=1, image_size=size, dims=3)


@pytest.mark.parametrize("name", ["resnet10", "densenet121", "efficientnet_b0", "unet", "vit_tiny"])
def test_every_weight_takes_part(name: str) -> None:
    # Processes that train together wait for the gradient of every weight.
    backbone = build_backbone(name, channels=1, image_size=32)
    backbone(torch.rand(2, 1, 32, 32)).square().sum().backward()
    unused = [key for key, weight in backbone.named_parameters() if weight.grad is None]
    assert unused == []


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("resnet10", "net.conv1"),
        ("densenet121", "net.features.conv0"),
        ("efficientnet_b0", "net._conv_stem"),
    ],
)
def test_the_stem_suits_the_size(name: str, first: str) -> None:
    for size, stem, stride in (
        (28, "auto", (1, 1)),
        (48, "auto", (1, 1)),
        (129, "auto", (2, 2)),
        (64, "large", (2, 2)),
        (224, "small", (1, 1)),
    ):
        backbone = build_backbone(name, channels=1, image_size=size, stem=stem)
        assert backbone.get_submodule(first).stride == stride


def test_a_medium_stem_halves_the_image_once() -> None:
    stages = {
        size: build_backbone("resnet10", channels=1, image_size=size).net for size in (48, 49, 129)
    }
    halvings = {
        size: (net.conv1.kernel_size, net.conv1.stride, net.no_max_pool)
        for size, net in stages.items()
    }
    assert halvings == {
        48: ((3, 3), (1, 1), True),
        49: ((3, 3), (2, 2), True),
        129: ((7, 7), (2, 2), False),
    }


def test_a_narrow_resnet_has_narrow_features_and_other_networks_have_one_width() -> None:
    narrow = build_backbone("resnet10", channels=1, image_size=28, width=16)
    assert narrow(torch.rand(2, 1, 28, 28)).shape == (2, 128)
    with pytest.raises(ConfigError, match=r"backbone\.width 16: densenet121 has one width only"):
        build_backbone("densenet121", channels=1, image_size=28, width=16)


@pytest.mark.parametrize("width", [8, 12, 16, 64])
def test_with_group_norm_an_image_has_the_same_features_in_any_batch(width: int) -> None:
    encoder = build_backbone("resnet10", channels=1, image_size=28, width=width, norm="group")
    assert not [part for part in encoder.modules() if isinstance(part, nn.BatchNorm2d)]
    images = torch.rand(4, 1, 28, 28)
    torch.testing.assert_close(encoder(images)[:1], encoder(images[:1]), atol=1e-5, rtol=1e-4)
    with pytest.raises(ConfigError, match=r"backbone\.norm group: vit_tiny has its own norm"):
        build_backbone("vit_tiny", channels=1, image_size=28, norm="group")


def test_a_transformer_takes_patches_that_fit() -> None:
    for size in (28, 48, 64, 224):
        backbone = build_backbone("vit_tiny", channels=1, image_size=size)
        assert backbone(torch.rand(1, 1, size, size)).shape == (1, 192)


@pytest.mark.parametrize("name", ["resnet10", "efficientnet_b0", "densenet121"])
@pytest.mark.parametrize("stem", ["small", "large"])
def test_convolutional_networks_take_odd_sizes(name: str, stem: Stem) -> None:
    backbone = build_backbone(name, channels=1, image_size=33, stem=stem)
    assert backbone(torch.rand(2, 1, 33, 33)).shape == (2, backbone.feature_dim)


def test_transformers_give_tokens_and_other_networks_do_not() -> None:
    for name in KNOWN:
        backbone = build_backbone(name, channels=1, image_size=32)
        assert isinstance(backbone, Backbone)
        assert isinstance(backbone, TokenEncoder) == takes_patches(name)
        assert takes_patches(name) == name.startswith("vit")


def test_a_transformer_has_the_tokens_that_are_asked_for() -> None:
    backbone = build_backbone("vit_tiny", channels=1, image_size=28, pooling="class", registers=4)
    assert isinstance(backbone, TokenEncoder)
    tokens = backbone.tokens(torch.rand(2, 1, 28, 28))
    assert tokens.registers.shape == (2, 4, 192)
    assert not torch.allclose(tokens.pooled, tokens.patches.mean(dim=1))
    assert tokens.class_token is not None
    assert torch.equal(tokens.pooled, tokens.class_token)


@pytest.mark.parametrize("options", [{"pooling": "class"}, {"registers": 1}])
def test_other_networks_have_neither_class_token_nor_registers(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="are for transformers, not for resnet18; leave them out"):
        build_backbone("resnet18", channels=1, image_size=28, **options)


def test_views_of_a_transformer_come_in_multiples_of_its_patch() -> None:
    assert side_multiple("vit_tiny", 64, "auto") == 8
    assert side_multiple("vit_tiny", 224, "large") == 16
    assert side_multiple("resnet18", 61, "auto") == 1


def test_convolutional_networks_take_other_sizes() -> None:
    backbone = build_backbone("resnet10", channels=1, image_size=28)
    assert backbone(torch.rand(2, 1, 40, 40)).shape == (2, 512)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"'resnet81'; did you mean 'resnet18'\? known: resnet10"):
        build_backbone("resnet81", channels=1, image_size=28)


def test_a_size_no_patch_divides_is_refused_with_a_way_out() -> None:
    with pytest.raises(ConfigError, match="divides image_size 61; use 64"):
        build_backbone("vit_tiny", channels=1, image_size=61)


def test_an_image_too_small_for_the_stem_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"needs 32 px, got image_size 28; use backbone\.stem=small"
    ):
        build_backbone("densenet121", channels=1, image_size=28, stem="large")
