"""New users and items land where trained ones with the same neighbours are."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.sparse import csr_array
from typer.testing import CliRunner

from recssl.cli import app
from recssl.dataset import Dataset, write_dataset
from recssl.errors import DatasetError, LogError, UnknownIdError
from recssl.feature_regression import FeatureRegression
from recssl.fold_in import PropagationFoldIn, RidgeFoldIn, rows_without
from recssl.new_items import items_from_features, items_from_users
from recssl.recommend import recommend, similar
from recssl.run_folder import RunFolder
from recssl.settings.export import RecommendConfig
from recssl.settings.train import TrainConfig
from recssl.train import train
from sslcore.errors import ConfigError, ShapeError
from tests.recssl.runs import (
    DIM,
    GROUPS,
    ITEMS,
    USERS,
    grouped_dataset,
    make_run,
    propagated_embeddings,
    with_features,
)

CONFIG = RecommendConfig()


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return with_features(grouped_dataset(tmp_path / "plain"), tmp_path / "data")


def test_ridge_minimises_the_weighted_squares(dataset: Dataset) -> None:
    _, items = propagated_embeddings(dataset)
    learnt = dataset.train
    unseen, shrinkage = 0.2, 0.5
    fold_in = RidgeFoldIn(learnt, items, unseen=unseen, shrinkage=shrinkage)
    found = fold_in.embed(learnt[:3]).astype(np.float64)
    trained = np.unique(learnt.indices)
    size = np.mean([items[item].astype(np.float64) @ items[item] for item in trained])

    def loss(user: int, row: np.ndarray) -> float:
        had = set(learnt[[user]].indices.tolist())
        total = shrinkage * size * float(row @ row)
        for item in trained:
            score = float(row @ items[item].astype(np.float64))
            total += unseen * score**2 + ((1 - score) ** 2 if item in had else 0.0)
        return total

    rng = np.random.default_rng(0)
    for user in range(3):
        best = loss(user, found[user])
        for _ in range(20):
            assert loss(user, found[user] + 0.01 * rng.normal(size=DIM)) > best


def test_propagation_is_the_sum_over_neighbours_by_their_degrees(dataset: Dataset) -> None:
    users, items = propagated_embeddings(dataset)
    fold_in = PropagationFoldIn(dataset.train, items, users, ridge=1e12)
    dense = dataset.train.toarray() > 0
    expected = np.zeros((USERS, DIM))
    for user in range(USERS):
        for item in range(ITEMS):
            if dense[user, item]:
                roots = np.sqrt(dense[user].sum() * dense[:, item].sum())
                expected[user] += items[item] / roots
    assert np.allclose(fold_in.propagated(dataset.train), expected, atol=1e-5)
    folded = fold_in.embed(dataset.train).astype(np.float64)
    multiple = (expected * users).sum() / (expected**2).sum()
    assert np.allclose(folded, multiple * expected, atol=1e-4)


def test_the_map_is_found_where_there_is_one(dataset: Dataset) -> None:
    items = propagated_embeddings(dataset)[1]
    plain = PropagationFoldIn(
        dataset.train, items, np.zeros((USERS, DIM), np.float32), ridge=1.0
    ).propagated(dataset.train)
    mixing = np.random.default_rng(0).normal(size=(DIM, DIM))
    users = (plain @ mixing).astype(np.float32)
    fold_in = PropagationFoldIn(dataset.train, items, users, ridge=1e-9)
    assert np.allclose(fold_in.embed(dataset.train), users, atol=1e-3)


@pytest.mark.parametrize("kind", ["ridge", "propagation"])
def test_a_folded_user_points_where_the_group_does(dataset: Dataset, kind: str) -> None:
    users, items = propagated_embeddings(dataset)
    others = np.arange(8, USERS)
    fold_in: RidgeFoldIn | PropagationFoldIn
    if kind == "ridge":
        fold_in = RidgeFoldIn(dataset.train[others], items, unseen=0.03, shrinkage=1.0)
    else:
        fold_in = PropagationFoldIn(dataset.train[others], items, users[others], ridge=0.01)
    scores = fold_in.embed(dataset.train[:8]) @ items[:-1].T
    for user in range(8):
        best = np.argsort(-scores[user])[:5]
        assert set(best % GROUPS) == {user % GROUPS}


def test_what_was_never_learnt_adds_nothing(dataset: Dataset) -> None:
    users, items = propagated_embeddings(dataset)
    lone, both = np.zeros((2, 1, ITEMS), np.float32)
    lone[0, 3] = 1
    both[0, [3, ITEMS - 1]] = 1
    ridge = RidgeFoldIn(dataset.train, items, unseen=0.03, shrinkage=1.0)
    assert np.array_equal(ridge.embed(csr_array(lone)), ridge.embed(csr_array(both)))
    nobody = np.zeros((1, ITEMS), np.float32)
    nobody[0, ITEMS - 1] = 1
    histories = csr_array(np.concatenate([lone, nobody, 0 * nobody]))
    assert rows_without(histories, dataset.train).tolist() == [1, 2]
    propagation = PropagationFoldIn(dataset.train, items, users, ridge=0.01)
    for fold_in in (ridge, propagation):
        assert not fold_in.embed(histories)[1:].any()


def test_embeddings_of_another_size_are_refused(dataset: Dataset) -> None:
    users, items = propagated_embeddings(dataset)
    with pytest.raises(ShapeError, match="48 rows"):
        PropagationFoldIn(dataset.train, items, items, ridge=1.0)
    with pytest.raises(ShapeError, match="40 rows"):
        RidgeFoldIn(dataset.train, users, unseen=1.0, shrinkage=1.0)


def test_features_tell_where_a_new_item_belongs(dataset: Dataset, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", dataset)
    new = pl.DataFrame({"id": ["a", "b"], "kind": ["KIND2 unheard", "kind1"], "size": [None, 2.0]})
    found = items_from_features(run, CONFIG, new)
    assert found["id"].to_list() == ["a", "b"]
    items = propagated_embeddings(dataset)[1][:-1]
    for row, group in zip(found["embedding"].to_list(), (2, 1), strict=True):
        nearest = np.argmin(((items - np.array(row)) ** 2).sum(axis=1))
        assert nearest % GROUPS == group


@pytest.mark.parametrize(("popularity", "with_ages"), [(0.0, True), (0.1, True), (0.0, False)])
def test_a_run_of_towers_embeds_new_items_as_its_own(
    dataset: Dataset, tmp_path: Path, popularity: float, with_ages: bool
) -> None:
    users = dataset.users
    if with_ages:
        users = users.with_columns(pl.Series("age", np.arange(USERS) % 9))
    data = write_dataset(tmp_path / "both", dataset.interactions.collect(), users, dataset.items)
    tree = {"encoder": {"name": "towers", "dim": 4}, "data": {"path": data.folder}}
    tree |= {"run": {"steps": 3, "batch_size": 32, "device": "cpu", "health_samples": 40}}
    tree["readout"] = {"popularity": popularity}
    train(TrainConfig.model_validate(tree), tmp_path / "towers")
    found = items_from_features(tmp_path / "towers", CONFIG, dataset.items.head(5))
    stored = RunFolder(tmp_path / "towers").read_embeddings().items[:5]
    made = np.array(found["embedding"].to_list())
    if popularity:  # nobody has had a new item yet
        assert (made[:, -1] == 0).all()
        made[:, -1] = stored[:, -1]
    assert np.allclose(made, stored, atol=1e-5)


def test_the_regression_is_that_of_the_normal_equations() -> None:
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=(30, 2))
    targets = rng.normal(size=(30, 3)).astype(np.float32)
    table = pl.DataFrame({"item": range(30), "id": range(30), "x": numbers[:, 0]})
    table = table.with_columns(pl.Series("y", numbers[:, 1]))
    model = FeatureRegression.fit(table, targets, penalty=2.0)
    standard = (numbers - numbers.mean(0)) / numbers.std(0)
    centred = targets - targets.mean(0)
    weights = np.linalg.solve(standard.T @ standard + 2 * np.eye(2), standard.T @ centred)
    expected = standard @ weights + targets.mean(0)
    assert np.allclose(model.embed(table), expected, atol=1e-4)


def test_lists_and_words_of_one_row_are_taken_as_they_are() -> None:
    table = pl.DataFrame(
        {"id": [1, 2, 3], "tags": [["a", "b"], ["a"], None], "name": ["p", "q", "r"]}
    )
    model = FeatureRegression.fit(table, np.eye(3, dtype=np.float32), penalty=0.1)
    assert model.embed(table).shape == (3, 3)
    assert model.embed(table.head(0)).shape == (0, 3)


def test_missing_features_are_named(dataset: Dataset, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", dataset)
    with pytest.raises(DatasetError, match="no feature column 'kind'"):
        items_from_features(run, CONFIG, pl.DataFrame({"id": [1], "size": [1.0]}))
    with pytest.raises(DatasetError, match="no column 'id'"):
        items_from_features(run, CONFIG, pl.DataFrame({"size": [1.0]}))
    bare = grouped_dataset(tmp_path / "bare")
    with pytest.raises(DatasetError, match="no features to learn from"):
        items_from_features(make_run(tmp_path / "run2", bare), CONFIG, pl.DataFrame({"id": [1]}))


def test_users_tell_where_a_new_item_belongs(dataset: Dataset, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", dataset)
    lines = [("n3", f"u{user}") for user in range(3, 24, GROUPS)]
    lines += [("n0", f"u{user}") for user in range(0, 24, GROUPS)]
    table = pl.DataFrame(lines, schema=["item", "user"], orient="row")
    found = items_from_users(run, CONFIG, table)
    assert found["id"].to_list() == ["n3", "n0"]
    items = propagated_embeddings(dataset)[1][:-1]
    for row, group in zip(found["embedding"].to_list(), (3, 0), strict=True):
        assert np.argmin(((items - np.array(row)) ** 2).sum(axis=1)) % GROUPS == group
    with pytest.raises(UnknownIdError, match="u99"):
        items_from_users(run, CONFIG, pl.DataFrame({"item": ["n"], "user": ["u99"]}))
    with pytest.raises(LogError, match="no column looks like the user"):
        items_from_users(run, CONFIG, pl.DataFrame({"item": ["n"], "whom": ["u9"]}))


def _lists_hold_them(run: Path, path: Path, dataset: Dataset) -> None:
    """New item n3 was of users of group 3."""
    listed = recommend(run, CONFIG, users=["u3", "u2"], new_items=path, k=ITEMS)
    ranks = listed.filter(item="n3").select("user", "rank").rows()
    assert [user for user, _ in ranks] == ["u3", "u2"]
    assert ranks[0][1] <= ITEMS // GROUPS < ranks[1][1]
    plain = recommend(run, CONFIG, users=["u3", "u2"], k=ITEMS)
    assert listed.filter(pl.col("item") != "n3").drop("rank").equals(plain.drop("rank"))
    near = similar(run, CONFIG, ["n3", "i5"], new_items=path, k=4)
    assert {int(item[1:]) % GROUPS for item in near.filter(item="n3")["similar"]} == {3}
    assert near["item"].to_list() == ["n3"] * 4 + ["i5"] * 4
    assert "n3" in similar(run, CONFIG, ["i7"], new_items=path, k=ITEMS)["similar"]
    with pytest.raises(UnknownIdError, match="n3"):
        similar(run, CONFIG, ["n3"])
    with pytest.raises(UnknownIdError, match=f"nothing was learnt about 1 of 1 item.*i{ITEMS - 1}"):
        similar(run, CONFIG, [f"i{ITEMS - 1}"], new_items=path)


def test_new_items_go_from_a_table_to_a_table(dataset: Dataset, tmp_path: Path) -> None:
    run, table, log = make_run(tmp_path / "run", dataset), tmp_path / "t.csv", tmp_path / "l.csv"
    table.write_text("item_id,kind,size\n7001,KIND2 unheard,\n7002,kind1,2.0\n")
    log.write_text("user,item\n" + "".join(f"u{user},n3\n" for user in range(3, 24, GROUPS)))
    for option, source, ids in (
        ("--features", table, ["7001", "7002"]),
        ("--history", log, ["n3"]),
    ):
        out = tmp_path / f"{option.strip('-')}.parquet"
        arguments = ["new-items", str(run), option, str(source), "--out", str(out)]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        found = pl.read_parquet(out)
        assert found["id"].to_list() == ids
        assert CliRunner().invoke(app, arguments).exit_code == 2  # it would be overwritten
    expected = items_from_features(run, CONFIG, pl.read_csv(table).rename({"item_id": "id"}))
    kept = pl.read_parquet(tmp_path / "features.parquet")
    assert kept["embedding"].to_list() == expected["embedding"].to_list()
    _lists_hold_them(run, tmp_path / "history.parquet", dataset)
    other = make_run(tmp_path / "other", dataset)
    stored = RunFolder(other).read_embeddings()
    later = replace(stored, info=replace(stored.info, step=stored.info.step + 1))
    RunFolder(other).write_embeddings(later)
    refused = [(other, "history", "made with other embeddings"), (run, "t", "not a readable")]
    for asked, name, words in refused:
        with pytest.raises(ConfigError, match=words):
            recommend(asked, CONFIG, users=["u3"], new_items=tmp_path / f"{name}.parquet")
    for words in ([], ["--features", str(table), "--history", str(log)]):
        result = CliRunner().invoke(
            app, ["new-items", str(run), *words, "--out", str(tmp_path / "x")]
        )
        assert result.exit_code == 2
    assert not (tmp_path / "x").exists()
