"""An export holds every row under its own id, and an index whose recall is told truly."""

import io
import json
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file

from recssl.dataset import Dataset
from recssl.errors import DatasetError
from recssl.export import export
from recssl.index import ItemIndex, choose_kind, read_index, tune
from recssl.run_folder import RunFolder
from recssl.settings.export import ExportConfig, IndexConfig
from sslcore.console import Progress
from sslcore.errors import CheckpointError, ConfigError, OutputError
from tests.recssl.runs import ITEMS, USERS, grouped_dataset, make_run, with_features


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return with_features(grouped_dataset(tmp_path / "plain"), tmp_path / "data")


@pytest.fixture
def run(tmp_path: Path, dataset: Dataset) -> Path:
    return make_run(tmp_path / "run", dataset)


def quiet() -> Progress:
    return Progress("export", unit="users", stream=io.StringIO())


def settings(**changes: object) -> ExportConfig:
    return ExportConfig.model_validate(changes)


def test_the_files_say_the_same_under_the_ids_of_the_log(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    facts = export(run, settings(), out, quiet())
    assert json.loads((out / "export.json").read_text()) == facts
    stored = RunFolder(run).read_embeddings()
    tensors = load_file(out / "embeddings.safetensors")
    for side, rows in (("user", stored.users), ("item", stored.items)):
        table = pl.read_parquet(out / f"{side}s.parquet")
        assert table.columns == [side, "id", "interactions", "embedding"]
        assert table["id"].to_list() == [f"{side[0]}{number}" for number in range(len(rows))]
        trained = table["interactions"].to_numpy() > 0
        assert (~trained).tolist() == table["embedding"].is_null().to_list()
        embedded = np.array(table["embedding"].drop_nulls().to_list(), np.float32)
        assert np.array_equal(embedded, rows[trained])
        assert np.array_equal(tensors[f"{side}s"], rows * trained[:, None])
    assert (facts["items"]["rows"], facts["items"]["with_embedding"]) == (ITEMS, ITEMS - 1)
    assert facts["users"]["trained"] == USERS


def test_the_index_finds_by_inner_product_the_rows_of_the_table(run: Path, tmp_path: Path) -> None:
    facts = export(run, settings(), tmp_path / "out", quiet())
    assert facts["index"]["kind"] == "flat"
    assert facts["index"]["against_exact"]["recall@20"] == 1.0
    index = read_index(tmp_path / "out" / "items.faiss")
    assert index.ntotal == ITEMS - 1
    stored = RunFolder(run).read_embeddings()
    scores, found = index.search(stored.users, 5)
    exact = stored.users @ stored.items[:-1].T
    assert np.array_equal(found, np.argsort(-exact, axis=1)[:, :5])
    assert np.allclose(scores, -np.sort(-exact, axis=1)[:, :5], atol=1e-4)


@pytest.mark.parametrize(("untrained", "kept"), [("keep", ITEMS), ("features", ITEMS)])
def test_untrained_items_are_exported_if_asked_for(
    run: Path, tmp_path: Path, untrained: str, kept: int
) -> None:
    facts = export(run, settings(untrained=untrained), tmp_path / "out", quiet())
    assert facts["index"]["items"] == facts["items"]["with_embedding"] == kept
    row = pl.read_parquet(tmp_path / "out" / "items.parquet")["embedding"].to_list()[-1]
    stored = RunFolder(run).read_embeddings().items[-1]
    assert np.allclose(row, stored) == (untrained == "keep")


def test_without_an_index_faiss_is_not_needed(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    facts = export(run, settings(index={"kind": "none"}), tmp_path / "out", quiet())
    assert facts["index"] is None
    assert not (tmp_path / "out" / "items.faiss").exists()
    with pytest.raises(ConfigError, match="pip install faiss-cpu"):
        export(run, settings(), tmp_path / "other", quiet())
    assert not (tmp_path / "other").exists()


def test_an_existing_folder_is_left_alone(run: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="already exists"):
        export(run, settings(), tmp_path / "out", quiet())
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_a_failure_leaves_nothing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: ItemIndex, path: Path) -> None:
        raise OutputError("no space")

    monkeypatch.setattr(ItemIndex, "write", fail)
    before = {file.name for file in tmp_path.iterdir()}
    with pytest.raises(OutputError, match="no space"):
        export(run, settings(), tmp_path / "out", quiet())
    assert {file.name for file in tmp_path.iterdir()} == before


def test_a_run_of_another_data_set_is_refused(tmp_path: Path, dataset: Dataset) -> None:
    run = make_run(tmp_path / "run", dataset, fingerprint="another")
    with pytest.raises(DatasetError, match="another"):
        export(run, settings(), tmp_path / "out", quiet())
    assert not (tmp_path / "out").exists()


def test_the_kind_follows_the_number_of_items_or_the_setting() -> None:
    config = IndexConfig(flat_up_to=10, hnsw_up_to=20)
    assert [choose_kind(config, count) for count in (10, 11, 20, 21)] == [
        "flat",
        "hnsw",
        "hnsw",
        "ivf_pq",
    ]
    assert choose_kind(IndexConfig(kind="hnsw"), 3) == "hnsw"


def cloud(count: int, dim: int = 8, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    lengths = rng.uniform(0.5, 2, size=(count, 1))  # as popularity gives items
    return (rng.normal(size=(count, dim)) * lengths).astype(np.float32)


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf_pq"])
def test_the_recall_is_the_share_of_the_exact_list(kind: str, tmp_path: Path) -> None:
    items, users = cloud(2000), cloud(50, seed=1)
    ids = np.random.default_rng(2).permutation(5000)[:2000]
    config = IndexConfig.model_validate({"kind": kind, "k": 10, "candidates": 40})
    index = ItemIndex.build(items, ids, config)
    report = tune(index, items, ids, users, config)
    index.write(tmp_path / "items.faiss")
    exact = np.argsort(-(users @ items.T), axis=1)[:, :10]
    for name, fetched in (("recall@10", 10), ("recall@10_of_40", 40)):
        found = read_index(tmp_path / "items.faiss").search(users, 40)[1][:, :fetched]
        hits = [
            len(set(ids[best].tolist()) & set(row.tolist()))
            for best, row in zip(exact, found, strict=True)
        ]
        assert report[name] == pytest.approx(np.sum(hits) / exact.size, abs=1e-6)
    assert report["recall@10_of_40"] > 0.9
    assert (index.kind, report["users"]) == (kind, 50)


def test_the_effort_rises_until_the_recall_is_reached() -> None:
    items, users = cloud(1000), cloud(30, seed=1)
    ids = np.arange(1000)
    reached = {}
    for aim in (0.2, 0.97):
        config = IndexConfig(kind="ivf_pq", k=10, target_recall=aim, lists=200, code_bytes=8)
        index = ItemIndex.build(items, ids, config)
        report = tune(index, items, ids, users, config)
        reached[aim] = index.parameters["nprobe"]
        assert report["tried"][-1]["effort"] == reached[aim]
        assert report["recall@10_of_100"] >= aim
    assert reached[0.2] < reached[0.97]


def test_settings_that_no_index_can_have_are_refused(tmp_path: Path) -> None:
    items = cloud(300)
    with pytest.raises(ConfigError, match="no divisor of dim 8"):
        ItemIndex.build(items, np.arange(300), IndexConfig(kind="ivf_pq", code_bytes=3))
    with pytest.raises(ConfigError, match="at least 256 items"):
        ItemIndex.build(items[:9], np.arange(9), IndexConfig(kind="ivf_pq"))
    with pytest.raises(CheckpointError, match="no index"):
        read_index(tmp_path / "none.faiss")
