"""Users whom train does not have are scored from what is known of them, by every method."""

import io
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from recssl.baselines import tuning
from recssl.baselines.tuning import DEFAULTS, fit_baseline
from recssl.dataset import Dataset, open_dataset
from recssl.errors import DatasetError, LogError
from recssl.evaluate import evaluate, evaluate_scorer
from recssl.fold_in import RidgeFoldIn
from recssl.health import RecMonitor
from recssl.ingest.job import ingest
from recssl.matrices import count_entries
from recssl.measuring import Panel
from recssl.new_users import ScoresNewUsers, keep_rows
from recssl.parts import Parts, learnt_of
from recssl.readout import Readout
from recssl.recommend import recommend
from recssl.report.build import write_report
from recssl.retrieval import EmbeddingScorer, top_k
from recssl.run_parts import assemble
from recssl.settings.evaluate import BaselineName, BaselinesConfig, EvaluateConfig
from recssl.settings.export import FoldInConfig, RecommendConfig
from recssl.settings.ingest import IngestConfig
from recssl.settings.report import ReportConfig
from recssl.settings.train import TrainConfig
from recssl.train import train
from recssl.trained_run import open_run
from sslcore.console import Progress
from tests.recssl.logs import make_dataset
from tests.recssl.ranking_by_hand import matrix
from tests.recssl.runs import GROUPS, USERS, grouped_pairs, make_run
from tests.recssl.test_baselines_tuning import SMALL

CPU = torch.device("cpu")
NAMES = get_args(BaselineName)
CONFIG = EvaluateConfig(
    ks=(3,), resamples=20, baselines=BaselinesConfig(select_at=3, tune_users=50)
)


def quiet() -> Progress:
    return Progress("evaluate", unit="users", stream=io.StringIO())


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Users who like items of their group, a third of them new, with times."""
    folder = tmp_path_factory.mktemp("new")
    lines = [f"{user},{item},{1000 * item + user}" for user, item in grouped_pairs()]
    (folder / "log.csv").write_text("user,item,time\n" + "\n".join(lines) + "\n")
    tree = {"split": {"name": "new_users", "valid": 0.15, "test": 0.2, "support": 0.6}}
    config = IngestConfig.model_validate(tree)
    with Progress("ingest", stream=io.StringIO()) as progress:
        ingest([folder / "log.csv"], config, folder / "data", progress)
    return open_dataset(folder / "data")


def settings_of(name: BaselineName) -> dict[str, float | int]:
    return {**DEFAULTS[name], **({"dim": 6} if name == "ials" else {})}


def test_the_data_set_keeps_what_is_known_of_new_users(dataset: Dataset) -> None:
    known, later = dataset.support, dataset.valid + dataset.test
    has = [count_entries(matrix) > 0 for matrix in (dataset.train, known, later)]
    assert (has[0] != has[1]).all()
    assert (has[1] == has[2]).all()
    assert dataset.facts["counts"]["support"]["users"] == has[1].sum() == 17
    learnt = dataset.learnt("train+valid")
    users_of_valid = count_entries(dataset.valid) > 0
    together = dataset.train + dataset.valid + keep_rows(known, users_of_valid)
    assert (learnt != together).nnz == 0
    assert (learnt_of(dataset, "train+valid").toarray() == (together.toarray() > 0)).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_baseline_scores_a_new_user_like_a_known_one_of_the_same_history(
    name: BaselineName, dataset: Dataset
) -> None:
    train, support = dataset.train, dataset.support
    scorer = fit_baseline(name, train, settings_of(name), seed=0, memory_gb=1)
    assert isinstance(scorer, ScoresNewUsers)
    new = int(np.flatnonzero(count_entries(support))[0])
    known = support.tolil()
    twin = int(np.flatnonzero(count_entries(train))[3])
    known[new] = train[[twin]].toarray()[0]  # the new one knows what the twin has
    filled = scorer.with_known(known.tocsr())
    others = np.flatnonzero(count_entries(train))
    np.testing.assert_allclose(filled.scores(others), scorer.scores(others), atol=1e-6)
    ours = filled.scores(np.array([new]))[0]
    if name == "ials":  # a half epoch more: not the same numbers, the same order of groups
        assert set(np.argsort(-ours)[:6] % GROUPS) == {twin % GROUPS}
    else:
        np.testing.assert_allclose(ours, scorer.scores(np.array([twin]))[0], rtol=1e-4, atol=1e-5)


def test_half_an_epoch_of_ials_solves_for_the_user_alone(dataset: Dataset) -> None:
    scorer = fit_baseline("ials", dataset.train, settings_of("ials"), seed=0, memory_gb=1)
    assert isinstance(scorer, ScoresNewUsers)
    items = scorer._factors[1].numpy().astype(np.float64)  # type: ignore[attr-defined]
    new = int(np.flatnonzero(count_entries(dataset.support))[0])
    had = dataset.support[[new]].indices
    weight, l2 = (float(DEFAULTS["ials"][name]) for name in ("unobserved_weight", "l2"))
    left = items[had].T @ items[had] + weight * items.T @ items
    left += l2 * (len(had) + weight * len(items)) * np.eye(items.shape[1])
    expected = items @ np.linalg.solve(left, items[had].sum(axis=0))
    found = scorer.with_known(dataset.support).scores(np.array([new]))[0]
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.fixture(scope="module")
def run(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Embeddings whose rows of new users are made to mislead."""
    rng = np.random.default_rng(0)
    centres = np.eye(GROUPS, 6)
    users, items = (
        (centres[np.arange(count) % GROUPS] + 0.05 * rng.normal(size=(count, 6))).astype("f4")
        for count in (dataset.num_users, dataset.num_items)
    )
    users[count_entries(dataset.train) == 0] *= -1
    return make_run(tmp_path_factory.mktemp("run") / "run", dataset, (users, items))


def test_evaluate_folds_new_users_in_and_says_so(
    run: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "GRIDS", SMALL)
    result = evaluate(run, CONFIG, quiet())
    protocol = result["protocol"]
    assert protocol["users"] == protocol["users_without_history"] == 10
    assert protocol["users_unknown_left_out"] == 0
    assert protocol["masked"] == ["train", "valid", "support"]
    ours, *others = result["models"]
    assert ours["new_users"] == "fold-in of their known items"
    assert all(model["new_users"] for model in others)
    opened = open_run(run)
    measured = np.flatnonzero(count_entries(dataset.test))
    rows = opened.fold_in_users(FoldInConfig()).embed(dataset.support[measured])
    users = opened.embeddings.users.copy()
    users[measured] = rows
    expected = Panel(dataset, CONFIG).mean(
        EmbeddingScorer(users, opened.embeddings.items), "recall@3", lambda _: None
    )
    assert ours["metrics"]["recall@3"]["value"] == pytest.approx(expected)
    assert expected > 0.5  # the stored rows would find nothing
    stored = EmbeddingScorer(opened.embeddings.users, opened.embeddings.items)
    assert Panel(dataset, CONFIG).mean(stored, "recall@3", lambda _: None) < 0.05
    by_name = {model["name"]: model["metrics"]["recall@3"]["value"] for model in result["models"]}
    for name in ("item_knn", "ease", "ials", "gf_cf"):
        assert by_name[name] > by_name["popularity"]


def test_the_report_says_how_new_users_were_scored(run: Path, tmp_path: Path) -> None:
    names = BaselinesConfig(names=("popularity", "item_knn"), tune=False)
    evaluate(run, CONFIG.model_copy(update={"baselines": names}), quiet())
    page = write_report(run, ReportConfig(map_items=40), tmp_path / "page.html").read_text("utf-8")
    assert (
        "Of 10 of 10 users nothing was learnt, only some items are known. This run: fold-in of"
        " their known items; Most popular: like all users; Item kNN: from their known items."
    ) in " ".join(page.split())
    assert "nothing at all is known" not in page
    metrics = run / "metrics.json"
    unknown = metrics.read_text().replace(
        '"users_unknown_left_out": 0', '"users_unknown_left_out": 1'
    )
    metrics.write_text(unknown.replace('"users_without_history": 10', '"users_without_history": 0'))
    page = write_report(run, ReportConfig(map_items=40), tmp_path / "page.html").read_text("utf-8")
    assert "nothing was learnt, only" not in page
    assert "Left out: 1 user of whom nothing at all is known." in page


def test_after_a_refit_the_support_of_validation_users_is_learnt_and_that_of_test_users_is_not(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "GRIDS", SMALL)
    wishes = CONFIG.baselines.model_copy(update={"refit_on": "train+valid"})
    config = CONFIG.model_copy(update={"baselines": wishes})
    result = evaluate_scorer(None, dataset, config, quiet())
    assert result["protocol"]["users_without_history"] == 10
    learnt = learnt_of(dataset, "train+valid")
    assert not count_entries(learnt)[count_entries(dataset.test) > 0].any()


def test_checks_during_training_fold_new_users_in(dataset: Dataset) -> None:
    tree = {
        "data": {"path": dataset.folder},
        "encoder": {"name": "mf", "dim": 6},
        "run": {"batch_size": 64},
    }
    parts = assemble(TrainConfig.model_validate(tree), dataset, CPU)
    monitor = parts.monitor
    assert monitor.num_users == 7
    assert monitor.left_out == 0
    measured = monitor.measure()
    assert measured.recall is not None
    assert measured.recall > 0.8
    panel = np.flatnonzero(count_entries(dataset.valid))
    fold_in = RidgeFoldIn(dataset.train, measured.items, unseen=0.03, shrinkage=1.0)
    rows = fold_in.embed(dataset.support[panel])
    best = top_k(EmbeddingScorer(rows, measured.items), np.arange(7), dataset.support[panel], 20)
    hits = [
        np.isin(best.items[at], dataset.valid[[user]].indices).sum() / dataset.valid[[user]].nnz
        for at, user in enumerate(panel)
    ]
    assert measured.recall == pytest.approx(np.mean(hits))


def test_the_commands_run_on_new_users(dataset: Dataset, tmp_path: Path) -> None:
    tree = {"data": {"path": dataset.folder}, "run": {"epochs": 2, "batch_size": 64}}
    result = train(TrainConfig.model_validate(tree), tmp_path / "run")
    assert result.recall is not None
    assert result.recall > 0.5
    user = dataset.user_ids[int(np.flatnonzero(count_entries(dataset.test))[0])]
    assert len(recommend(tmp_path / "run", RecommendConfig(), users=[str(user)], k=3)) == 3


def test_users_of_whom_nothing_is_known_are_left_out_for_all_and_counted(tmp_path: Path) -> None:
    pairs = grouped_pairs()
    training = [(user, item) for user, item in pairs if item < 20 and user > 1]
    later = [(user, item) for user, item in pairs if item >= 20]
    valid = [pair for pair in later if pair[0] in (0, 5, 6)]
    data = make_dataset(tmp_path / "data", training, valid, later, USERS, 40)
    panel = Panel(data, CONFIG)
    assert panel.describe()["users_unknown_left_out"] == 1
    assert 1 not in panel.users
    wishes = CONFIG.model_copy(update={"part": "valid"})
    assert Panel(data, wishes).users.tolist() == [5, 6]
    assert Panel(data, wishes, knows_everybody=True).users.tolist() == [0, 5, 6]
    tree = {"data": {"path": data.folder}, "run": {"batch_size": 64}}
    parts = assemble(TrainConfig.model_validate(tree), data, CPU)
    assert (parts.monitor.num_users, parts.monitor.left_out) == (2, 1)
    assert "1 validation users of whom nothing is known are left out" in parts.describe(CPU)


def test_where_nothing_is_known_of_anybody_it_is_refused_with_the_way_out(tmp_path: Path) -> None:
    pairs = grouped_pairs()
    first, second, third = ([p for p in pairs if p[0] % 3 == rest] for rest in range(3))
    data = make_dataset(tmp_path / "data", first, second, third, USERS, 40)
    with pytest.raises(DatasetError, match=r"of none of the 16 users.*new_users keeps"):
        Panel(data, CONFIG)
    tree = {"data": {"path": data.folder}, "run": {"batch_size": 64}}
    with pytest.raises(LogError, match=r"of none of the 16 users of the validation part"):
        assemble(TrainConfig.model_validate(tree), data, CPU)


def test_a_monitor_without_support_looks_at_all_users() -> None:
    eye = csr_array(np.eye(8, dtype=np.float32))
    none = csr_array((8, 8), dtype=np.float32)
    rows = torch.eye(8)
    readout = Readout(none, cosine=False, layers=0, weight=1.0)
    monitor = RecMonitor(lambda: (rows, rows), readout, none, eye, num_users=8, seed=0)
    assert (monitor.num_users, monitor.left_out) == (8, 0)


def test_a_pair_is_learnt_from_whatever_it_weighs() -> None:
    train, valid = (matrix(pairs, 2, 3) for pairs in ({(0, 0), (1, 2)}, {(1, 0)}))
    train.data[:] = [0, 2]
    learnt = learnt_of(Parts(train, valid, valid), "train+valid")
    assert learnt.toarray().tolist() == [[1, 0, 0], [1, 0, 1]]
