"""Transformers from one end to the other: pretrained by masking, continued, embedded."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from PIL import Image

from medssl.config import EmbedConfig, PretrainConfig
from medssl.embed import embed
from medssl.encoder import load_encoder
from medssl.manifest import read_manifest
from medssl.pretrain import pretrain
from medssl.run_data import open_data, resolve
from medssl.run_folder import RunFolder
from medssl.vision_transformer import PLANS, VisionTransformer, ViTPlan
from sslcore.config import resolve_config
from sslcore.errors import ConfigError
from sslcore.modules.tokens import TokenEncoder
from sslcore.training.history import History, read_history
from tests.medssl.tiny_run import COUNT, tiny_images, write_tiny_data


@pytest.fixture(scope="module", autouse=True)
def _small_transformer() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PLANS, "vit_tiny", ViTPlan(24, 2, 2))
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_data(tmp_path_factory.mktemp("data"))


def config_of(data: Path, *assignments: str) -> PretrainConfig:
    small = (
        f"data.path={data}",
        "data.workers=0",
        "image_size=16",
        "run.batch_size=8",
        "run.steps=4",
        "run.checkpoint_minutes=0",
        "run.device=cpu",
    )
    return resolve_config(PretrainConfig, assignments=[*small, *assignments])


def losses(run: Path) -> list[float]:
    return [record["loss"] for record in read_history(run / "log.jsonl")]


@pytest.mark.parametrize(
    ("method", "changes", "pooling"),
    [
        ("mae", (), "mean"),
        ("simmim", ("backbone.pooling=class", "backbone.registers=2"), "class"),
        ("simclr", ("backbone.name=vit_tiny", "views.local_views=2"), "mean"),
        ("moco_v3", ("backbone.name=vit_tiny", "backbone.pooling=class"), "class"),
        ("dino", ("backbone.name=vit_tiny",), "mean"),
        ("dinov2", (), "mean"),
        ("dinov3", ("backbone.pooling=class",), "class"),
    ],
)
def test_a_run_with_a_transformer_leaves_an_encoder_that_embeds(
    method: str, changes: tuple[str, ...], pooling: str, data: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    pretrain(config_of(data, f"method.name={method}", *changes), run)
    assert len(losses(run)) == 4
    encoder = load_encoder(run)
    assert isinstance(encoder.backbone, VisionTransformer)
    assert encoder.spec.pooling == pooling
    assert encoder.spec.registers == (2 if method == "simmim" else 0)
    result = embed(run, data, tmp_path / "embeddings.parquet", EmbedConfig())
    table = pl.read_parquet(tmp_path / "embeddings.parquet")
    assert (result.count, result.failures) == (COUNT, 0)
    assert len(table["embedding"].list.len().unique()) == 1
    assert torch.tensor(table["embedding"].to_list()).std(dim=0).min() > 0


def test_masks_are_the_same_after_an_interruption(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(data, "method.name=mae")
    pretrain(config, tmp_path / "whole")
    append = History.append

    def break_off(self: History, record: Any) -> None:
        append(self, record)
        if self.path.name == "log.jsonl" and record["step"] == 3:
            raise InterruptedError

    with monkeypatch.context() as patch:
        patch.setattr(History, "append", break_off)
        with pytest.raises(InterruptedError):
            pretrain(config, tmp_path / "run")
    pretrain(config, tmp_path / "run", resume=True)
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")


def test_smaller_crops_are_a_multiple_of_the_patch(data: Path) -> None:
    manifest = read_manifest(data)
    crops = ("views.local_views=1", "image_size=64")
    transformer = resolve(config_of(data, "method.name=mae", *crops), manifest)
    assert (transformer.backbone.name, transformer.views.local_size) == ("vit_tiny", 24)
    other = resolve(config_of(data, "method.name=simclr", *crops), manifest)
    assert other.views.local_size == 27
    with pytest.raises(
        ConfigError, match=r"local_size 30: vit_tiny has patches of 8 px; use .* such as 32"
    ):
        resolve(config_of(data, "method.name=mae", *crops, "views.local_size=30"), manifest)


def test_views_of_pixel_predictors_keep_their_intensity_unless_told_otherwise(data: Path) -> None:
    manifest = read_manifest(data)
    for method, changes, strength, crop_scale in (
        ("mae", (), 0.0, (0.2, 1.0)),
        ("simmim", (), 0.0, (0.67, 1.0)),
        ("mae", ("views.strength=0.5", "views.crop_scale=[0.5, 1]"), 0.5, (0.5, 1.0)),
        ("simclr", (), 1.0, None),
    ):
        views = resolve(config_of(data, f"method.name={method}", *changes), manifest).views
        assert (views.strength, views.crop_scale) == (strength, crop_scale)


def test_pooling_is_resolved_for_transformers_only(data: Path) -> None:
    manifest = read_manifest(data)
    for method, changes, expected in (
        ("mae", (), "mean"),
        ("mae", ("backbone.pooling=class",), "class"),
        ("simclr", (), None),
    ):
        config = resolve(config_of(data, f"method.name={method}", *changes), manifest)
        assert config.backbone.pooling == expected
        assert resolve(config, manifest) == config


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("backbone.name=resnet18", "mae needs a transformer"),
        ("image_size=61", "divides image_size 61; use 64"),
    ],
)
def test_a_network_that_cannot_be_masked_is_refused(
    assignment: str, message: str, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        pretrain(config_of(data, "method.name=mae", assignment), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_encoders_of_older_runs_have_neither_class_token_nor_registers(
    data: Path, tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path / "run")
    pretrain(config_of(data, "method.name=mae", "run.steps=1"), folder.path)
    file = folder.encoder.with_suffix(".json")
    description = json.loads(file.read_text())
    del description["pooling"], description["registers"]
    file.write_text(json.dumps(description))
    backbone = load_encoder(folder.path).backbone
    assert isinstance(backbone, TokenEncoder)
    assert backbone.tokens(torch.zeros(1, 1, 16, 16)).registers.shape == (1, 0, 24)


def test_a_folder_is_scanned_by_one_process_if_no_other_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDSSL_KEY_FILE", str(tmp_path / "site.key"))
    folder = tmp_path / "images"
    folder.mkdir()
    for number, image in enumerate(tiny_images(8)):
        Image.fromarray(image).save(folder / f"{number}.png")
    assert len(open_data(folder, workers=0)) == 8
