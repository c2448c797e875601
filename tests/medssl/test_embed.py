import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from medssl.config import EmbedConfig
from medssl.embed import embed
from medssl.encoder import load_encoder
from medssl.errors import DataError
from medssl.manifest import read_manifest
from medssl.pretrain import pretrain
from sslcore.errors import CheckpointError, OutputError
from tests.medssl.tiny_run import (
    COUNT,
    tiny_config,
    tiny_images,
    use_tiny_backbone,
    write_tiny_data,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_data(tmp_path_factory.mktemp("data"), split=["train", "test"] * 12)


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Holds an encoder."""
    with pytest.MonkeyPatch.context() as patch:
        use_tiny_backbone(patch)
        folder = tmp_path_factory.mktemp("runs") / "run"
        pretrain(tiny_config(data, "run.steps=1"), folder)
        yield folder


def test_every_image_gets_a_row_in_the_order_of_the_manifest(
    run: Path, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "embeddings.parquet"
    result = embed(run, data, out, EmbedConfig(batch_size=7))
    table, manifest = pl.read_parquet(out), read_manifest(data)
    assert (result.count, result.failures) == (COUNT, 0)
    assert table.columns == ["sample", "patient", "label", "split", "embedding"]
    assert table.schema["embedding"] == pl.List(pl.Float32)
    assert table.drop("embedding").equals(
        manifest.rows.select("sample", "patient", "label", "split")
    )
    assert set(table["embedding"].list.len()) == {16}


def test_an_embedding_does_not_depend_on_its_batch(run: Path, data: Path) -> None:
    encoder, manifest = load_encoder(run), read_manifest(data)
    one, many = (encoder.encode(manifest, batch_size=size).values for size in (1, 24))
    assert one.dtype == np.float32
    np.testing.assert_allclose(one, many, atol=1e-5)
    assert np.ptp(many, axis=0).max() > 1e-3


def test_the_encoder_comes_in_evaluation_mode_and_stays_as_it_is(run: Path, data: Path) -> None:
    encoder = load_encoder(run)
    before = {name: value.clone() for name, value in encoder.backbone.state_dict().items()}
    encoder.encode(read_manifest(data))
    assert not encoder.backbone.training
    for name, value in encoder.backbone.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_images_that_cannot_be_read_are_set_aside(run: Path, tmp_path: Path) -> None:
    path = write_tiny_data(tmp_path / "data", frame=[*range(COUNT - 1), 99])
    manifest = read_manifest(path)
    embeddings = load_encoder(run).encode(manifest)
    assert embeddings.rows.tolist() == list(range(COUNT - 1))
    assert list(embeddings.failures) == [COUNT - 1]
    out = tmp_path / "embeddings.parquet"
    assert embed(run, path, out, EmbedConfig()).failures == 1
    assert len(pl.read_parquet(out)) == COUNT - 1


def test_no_readable_image_is_one_error(run: Path, tmp_path: Path) -> None:
    path = write_tiny_data(tmp_path / "data")
    (tmp_path / "data" / "images.npz").unlink()
    with pytest.raises(DataError, match="none of the 24 images can be read"):
        embed(run, path, tmp_path / "embeddings.parquet", EmbedConfig())
    assert not (tmp_path / "embeddings.parquet").exists()


def test_the_manifest_of_a_folder_is_kept_beside_the_vectors(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDSSL_KEY_FILE", str(tmp_path / "site.key"))
    folder = tmp_path / "images"
    folder.mkdir()
    for number, image in enumerate(tiny_images(5)):
        Image.fromarray(image).save(folder / f"{number}.png")
    embed(run, folder, tmp_path / "out" / "embeddings.parquet", EmbedConfig())
    assert len(pl.read_parquet(tmp_path / "out" / "embeddings.parquet")) == 5
    assert len(list(folder.iterdir())) == 5
    manifest = read_manifest(tmp_path / "out" / "embeddings.manifest.parquet")
    table = pl.read_parquet(tmp_path / "out" / "embeddings.parquet")
    assert manifest.rows["sample"].equals(table["sample"])


def test_a_run_without_an_encoder_says_what_to_do(data: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no encoder; pretrain first"):
        embed(tmp_path, data, tmp_path / "embeddings.parquet", EmbedConfig())


def test_an_encoder_of_something_else_is_refused(run: Path, tmp_path: Path) -> None:
    for name in ("encoder.safetensors", "encoder.json"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    path = tmp_path / "encoder.json"
    path.write_text(path.read_text().replace("canvas", "other"))
    with pytest.raises(CheckpointError, match="not an encoder of images"):
        load_encoder(tmp_path)


def test_only_an_earlier_table_of_embeddings_is_replaced(
    run: Path, data: Path, tmp_path: Path
) -> None:
    before = data.read_bytes()
    (tmp_path / "photo.parquet").write_text("x")
    for out in (data, tmp_path / "photo.parquet", tmp_path):
        with pytest.raises(OutputError, match="no table of embeddings; give another --out"):
            embed(tmp_path / "no run, so that the check comes first", data, out, EmbedConfig())
    assert data.read_bytes() == before
    for _ in range(2):
        embed(run, data, tmp_path / "embeddings.parquet", EmbedConfig())


def stop_at_the_first_of_nine_steps(run: Path, folder: Path) -> Path:
    """Copy the encoder of `run` as one that has been stored too early."""
    folder.mkdir()
    for name in ("encoder.safetensors", "encoder.json"):
        (folder / name).write_bytes((run / name).read_bytes())
    description = json.loads((folder / "encoder.json").read_text())
    (folder / "encoder.json").write_text(json.dumps(description | {"steps": 9}))
    return folder


def test_the_encoder_of_an_unfinished_run_is_used_but_said_to_be_one(
    run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    early = stop_at_the_first_of_nine_steps(run, tmp_path / "early")
    embed(early, data, tmp_path / "embeddings.parquet", EmbedConfig())
    assert "the run stands at step 1 of 9" in capsys.readouterr().err
    embed(run, data, tmp_path / "embeddings.parquet", EmbedConfig())
    assert "stands at" not in capsys.readouterr().err
