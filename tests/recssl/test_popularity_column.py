"""The column that adds popularity to the score, and what must not look at it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from recssl.matrices import count_users
from recssl.popularity_column import log_popularity, taste
from recssl.readout import Readout
from recssl.recommend import similar
from recssl.run_folder import RunFolder
from recssl.settings.export import FoldInConfig, RecommendConfig
from recssl.settings.train import TrainConfig
from recssl.train import train
from recssl.trained_run import open_run
from tests.recssl.logs import make_dataset
from tests.recssl.ranking_by_hand import matrix


def test_the_column_adds_the_weighted_log_of_popularity_to_every_score() -> None:
    learnt = matrix({(0, 0), (1, 0), (2, 0), (0, 1), (1, 1)}, 3, 3)
    rows = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    plain = Readout(learnt, cosine=True, layers=0, weight=1.0)(rows[:3], rows[3:])
    users, items = Readout(learnt, cosine=True, layers=0, weight=1.0, popularity=0.5)(
        rows[:3], rows[3:]
    )
    expected = plain[0] @ plain[1].T + 0.5 * np.log([3.0, 2.0, 1.0])  # never seen: as if once
    np.testing.assert_allclose(users @ items.T, expected, atol=1e-6)
    assert users.shape == items.shape == (3, 5)


def groups() -> set[tuple[int, int]]:
    rng = np.random.default_rng(0)
    return {
        (user, item)
        for user in range(40)
        for item in range(30)
        if user % 3 == item % 3 and rng.random() < 0.3 + 0.5 * (item < 6)
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("popularity")
    pairs = sorted(groups())
    learnt = [pair for number, pair in enumerate(pairs) if number % 5]
    make_dataset(folder / "data", learnt, pairs[::5], [], 41, 31)
    tree = {
        "data": {"path": folder / "data"},
        "encoder": {"name": "mf", "dim": 5},
        "readout": {"layers": 0, "popularity": 0.1},
        "run": {"epochs": 3, "batch_size": 32, "device": "cpu"},
    }
    train(TrainConfig.model_validate(tree), folder / "run")
    return folder / "run"


def test_a_run_stores_one_column_more_and_says_so(run: Path) -> None:
    stored = RunFolder(run).read_embeddings()
    assert stored.users.shape[1] == stored.items.shape[1] == stored.info.dim == 6
    assert stored.info.popularity == 0.1
    assert taste(stored.items, 0.1).shape[1] == 5
    assert taste(stored.items, 0.0).shape[1] == 6
    assert (stored.users[:, -1] == 1).all()
    learnt = open_run(run).learnt
    np.testing.assert_array_equal(stored.items[:, -1], log_popularity(count_users(learnt), 0.1))


@pytest.mark.parametrize("way", ["ridge", "propagation"])
def test_new_users_weigh_taste_and_popularity_like_trained_ones(run: Path, way: str) -> None:
    opened = open_run(run)
    fold_in = opened.fold_in_users(FoldInConfig.model_validate({"users": way}))
    trained = np.flatnonzero(np.diff(opened.learnt.indptr))
    rows = fold_in.embed(opened.learnt[trained])
    assert (rows[:, -1] == 1).all()
    lengths = np.linalg.norm(rows[:, :-1], axis=1)
    expected = np.linalg.norm(opened.embeddings.users[trained, :-1], axis=1).mean()
    if way == "ridge":
        np.testing.assert_allclose(lengths, expected, rtol=1e-4)
    assert lengths.mean() == pytest.approx(expected, rel=0.2)
    empty = fold_in.embed(opened.learnt[[40]])
    assert not empty.any()


def test_new_items_get_the_popularity_of_their_own_users(run: Path) -> None:
    opened = open_run(run)
    histories = opened.learnt.T.tocsr()[:3]
    rows = opened.fold_in_items(FoldInConfig()).embed(histories)
    np.testing.assert_allclose(rows[:, -1], opened.embeddings.items[:3, -1])


def test_similar_items_are_alike_in_taste_not_in_popularity(run: Path) -> None:
    opened = open_run(run)
    table = similar(run, RecommendConfig(), ["i0"], k=30)
    items = opened.embeddings.items[:, :-1]
    unit = items / np.maximum(np.linalg.norm(items, axis=1, keepdims=True), 1e-9)
    [row] = opened.find("item", ["i0"])
    found = opened.find("item", table["similar"].to_list())
    np.testing.assert_allclose(table["score"].to_numpy(), unit[found] @ unit[row], atol=1e-5)
