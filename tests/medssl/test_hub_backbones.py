"""Networks of `transformers`; what needs the package is skipped without it."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from medssl.backbone import Backbone
from medssl.config import BackboneConfig, PretrainConfig
from medssl.encoder import load_encoder
from medssl.hub_backbones import (
    HUB_KNOWN,
    HUB_TRANSFORMERS,
    build_hub_backbone,
    describe_hub_backbone,
    hub_side_multiple,
    rebuild_hub_backbone,
)
from medssl.manifest import read_manifest
from medssl.pretrain import pretrain
from medssl.run_checks import check_names
from medssl.run_data import _choose_pooling
from sslcore.config import resolve_config
from sslcore.errors import ConfigError, ShapeError
from sslcore.modules.tokens import TokenEncoder
from tests.medssl.tiny_run import COUNT, write_tiny_data

needs_library = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None,
    reason="needs transformers: pip install -e '.[hub]'",
)
each_name = pytest.mark.parametrize("name", HUB_KNOWN)
each_transformer = pytest.mark.parametrize("name", HUB_TRANSFORMERS)
SHALLOW: Any = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
}
TINY: dict[str, dict[str, Any]] = {
    **dict.fromkeys(HUB_TRANSFORMERS, SHALLOW),
    "hf_convnext": {"hidden_sizes": [4, 6, 8, 10], "depths": [1, 1, 1, 1]},
    "hf_swin": {"embed_dim": 8, "depths": [2, 2], "num_heads": [1, 2], "window_size": 4},
}


@pytest.fixture(autouse=True)
def _tiny_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("medssl.hub_backbones._SMALL", TINY)


def build(name: str, *, channels: int = 1, image_size: int = 32, **settings: Any) -> Backbone:
    torch.manual_seed(0)
    return build_hub_backbone(
        name, BackboneConfig(name=name, **settings), channels=channels, image_size=image_size
    )


def transformer(name: str, **settings: Any) -> TokenEncoder:
    backbone = build(name, **settings)
    assert isinstance(backbone, TokenEncoder)
    return backbone


def images(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@needs_library
@each_name
@pytest.mark.parametrize("channels", [1, 3])
def test_features_have_the_width_that_is_promised(name: str, channels: int) -> None:
    backbone = build(name, channels=channels)
    assert isinstance(backbone, TokenEncoder) == (name in HUB_TRANSFORMERS)
    for side in (32, 16, 48, 32):  # also after views of other sizes
        assert backbone(images(2, channels, side, side)).shape == (2, backbone.feature_dim)


@needs_library
def test_views_that_a_network_halves_to_nothing_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"views of 32 px or more, got \(1, 1, 16, 32\)"):
        build("hf_convnext", stem="large")(images(1, 1, 16, 32))


@needs_library
@each_name
def test_every_weight_takes_part_and_nothing_is_drawn_at_random(name: str) -> None:
    backbone = build(name).train()
    before = torch.get_rng_state()
    backbone(images(2, 1, 32, 32)).square().sum().backward()
    assert torch.equal(torch.get_rng_state(), before)
    assert [key for key, weight in backbone.named_parameters() if weight.grad is None] == []


@needs_library
@each_name
def test_a_network_is_rebuilt_from_its_description(name: str) -> None:
    backbone = build(name)
    description = describe_hub_backbone(backbone)
    assert description is not None
    pooling = "mean" if name in HUB_TRANSFORMERS else None
    other = rebuild_hub_backbone(name, description, channels=1, pooling=pooling)  # type: ignore[arg-type]
    other.load_state_dict(backbone.state_dict())
    view = images(2, 1, 32, 32)
    torch.testing.assert_close(other.eval()(view), backbone.eval()(view))


@needs_library
@each_transformer
def test_tokens_are_those_of_the_model(name: str) -> None:
    encoder, view = transformer(name).eval(), images(2, 1, 32, 32)
    tokens = encoder.tokens(view)
    assert encoder.grid(view) == (8, 8) if encoder.patch_size == (4, 4) else (4, 4)
    net: Any = encoder.net
    theirs = net(view).last_hidden_state
    registers = tokens.registers.shape[1]
    assert registers == (4 if name in ("hf_dinov2_registers", "hf_dinov3") else 0)
    torch.testing.assert_close(tokens.patches, theirs[:, 1 + registers :])
    torch.testing.assert_close(tokens.registers, theirs[:, 1 : 1 + registers])
    torch.testing.assert_close(tokens.pooled, tokens.patches.mean(dim=1))
    torch.testing.assert_close(tokens.class_token, theirs[:, 0])
    by_class = transformer(name, pooling="class").eval()
    torch.testing.assert_close(by_class(view), theirs[:, 0])


@needs_library
@each_transformer
def test_hidden_patches_are_not_seen_and_visible_ones_keep_their_places(name: str) -> None:
    encoder, view = transformer(name), images(2, 1, 32, 32)
    count = encoder.tokens(view).patches.shape[1]
    order = torch.arange(count).expand(2, -1)
    whole = encoder.tokens(view)
    turned = encoder.tokens(view, visible=order.flip(1))
    torch.testing.assert_close(turned.patches.flip(1), whole.patches, atol=1e-5, rtol=1e-4)
    masked = torch.zeros(2, count, dtype=torch.bool)
    masked[:, : count // 2] = True  # the upper half
    for hidden in ({"masked": masked}, {"visible": order[:, count // 2 :]}):
        pixels = view.clone().requires_grad_()
        tokens = encoder.tokens(pixels, **hidden)
        (tokens.patches.square().sum() + tokens.pooled.sum()).backward()
        assert pixels.grad is not None
        assert not pixels.grad[:, :, :16].any()
        assert pixels.grad[:, :, 16:].any()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Weights of a DINOv2 for colour images of 32 px."""
    net: Any = build("hf_dinov2", channels=3).net
    net.save_pretrained(tmp_path / "weights")
    return tmp_path / "weights"


@needs_library
def test_weights_come_from_a_folder_and_grey_images_are_repeated(folder: Path) -> None:
    original = build("hf_dinov2", channels=3)
    torch.manual_seed(1)
    loaded = build_hub_backbone(
        "hf_dinov2", BackboneConfig(weights=str(folder)), channels=1, image_size=32
    )
    grey = images(2, 1, 32, 32)
    torch.testing.assert_close(loaded(grey), original(grey.expand(-1, 3, -1, -1)))
    assert loaded(images(2, 1, 64, 64)).shape == (2, 24)


@needs_library
def test_weights_that_do_not_fit_are_refused(folder: Path, tmp_path: Path) -> None:
    assert hub_side_multiple("hf_dinov2", BackboneConfig(weights=str(folder)), 32) == 4
    for name, changes, message in (
        ("hf_vit", {}, "expected a vit for hf_vit, got a dinov2"),
        ("hf_dinov2", {"image_size": 35}, "has patches of 4 px; use 36"),
        ("hf_dinov2", {"weights": str(tmp_path / "no")}, "backbone.download=true"),
        ("hf_dinov2", {"weights": str(tmp_path)}, "give a folder with config.json"),
        ("hf_dinov2_registers", {"registers": 2}, "the weights bring their own"),
    ):
        with pytest.raises(ConfigError, match=message):
            build(name, **{"weights": str(folder), **changes})
    (folder / "model.safetensors").unlink()
    with pytest.raises(
        ConfigError, match=r"give a folder with config\.json and model\.safetensors"
    ):
        build("hf_dinov2", weights=str(folder))


@needs_library
def test_weights_of_a_part_of_the_network_are_refused(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["layernorm.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ConfigError, match=r"lack layernorm\.weight"):
        build("hf_dinov2", weights=str(folder))


@needs_library
def test_colour_images_need_weights_for_colour(tmp_path: Path) -> None:
    net: Any = build("hf_vit", channels=1).net
    net.save_pretrained(tmp_path / "grey")
    with pytest.raises(ConfigError, match=r"takes 1 channel\(s\), the images have 3"):
        build("hf_vit", channels=3, weights=str(tmp_path / "grey"))


@needs_library
@pytest.mark.parametrize(("name", "method"), [("hf_dinov3", "mae"), ("hf_convnext", "simclr")])
def test_a_run_leaves_an_encoder_that_embeds_without_its_first_weights(
    name: str, method: str, tmp_path: Path
) -> None:
    data = write_tiny_data(tmp_path / "data")
    net: Any = build(name).net
    net.save_pretrained(tmp_path / "weights")
    config = resolve_config(
        PretrainConfig,
        assignments=[
            *(f"data.path={data}", "data.workers=0", "image_size=32", "run.batch_size=8"),
            *("run.steps=2", "run.device=cpu", f"method.name={method}", f"backbone.name={name}"),
            f"backbone.weights={tmp_path / 'weights'}",
        ],
    )
    pretrain(config, tmp_path / "run")
    for file in (tmp_path / "weights").iterdir():
        file.unlink()
    encoder = load_encoder(tmp_path / "run")
    assert encoder.encode(read_manifest(data)).values.shape[0] == COUNT


def test_without_the_package_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match=r"hf_vit needs the package transformers; .*\.\[hub\]"):
        build("hf_vit")


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("hf_vit", {"width": 32}, "hf_vit has one width"),
        ("hf_vit", {"registers": 2}, "hf_vit has none; leave it out"),
        ("hf_swin", {"pooling": "class"}, "hf_swin has no class token"),
    ],
)
def test_settings_that_the_network_does_not_have_are_refused(
    name: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        build(name, **settings)


def test_names_are_known_and_only_theirs_take_weights() -> None:
    def config(**backbone: str) -> PretrainConfig:
        return PretrainConfig.model_validate({"data": {"path": "x"}, "backbone": backbone})

    check_names(config(name="hf_dinov3", weights="folder"))
    with pytest.raises(ConfigError, match="did you mean 'hf_dinov3'"):
        check_names(config(name="hf_dinov4"))
    with pytest.raises(
        ConfigError, match=r"weights folder: resnet18 takes the folder of an earlier run"
    ):
        check_names(config(weights="folder"))


def test_other_backbones_have_no_description() -> None:
    assert describe_hub_backbone(Backbone(torch.nn.Identity(), 1)) is None


@pytest.mark.parametrize(
    ("backbone", "method", "pooling"),
    [
        ({"name": "hf_dinov2", "weights": "folder"}, "dinov2", "class"),
        ({"name": "hf_dinov2", "weights": "folder"}, "mae", "mean"),
        ({"name": "hf_dinov2", "weights": "folder", "pooling": "mean"}, "dinov2", "mean"),
        ({"name": "hf_dinov2"}, "dinov2", "mean"),
        ({"name": "hf_swin", "weights": "folder"}, "dino", None),
    ],
)
def test_given_weights_go_on_with_the_token_that_the_method_is_about(
    backbone: dict[str, str], method: str, pooling: str | None
) -> None:
    config = PretrainConfig.model_validate(
        {"data": {"path": "data"}, "backbone": backbone, "method": {"name": method}}
    )
    assert _choose_pooling(config) == pooling
