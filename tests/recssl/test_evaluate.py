"""metrics.json is right, complete, and written only for the data set of the run."""

import io
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError
from safetensors.numpy import load_file, save_file

from recssl.baselines import tuning
from recssl.dataset import Dataset, write_dataset
from recssl.errors import DatasetError
from recssl.evaluate import evaluate, evaluate_scorer
from recssl.matrices import IntArray, union
from recssl.measuring import Panel
from recssl.retrieval import EmbeddingScorer, ScoreArray
from recssl.run_folder import RunFolder
from recssl.settings.evaluate import BaselinesConfig, EvaluateConfig
from recssl.settings.train import TrainConfig
from sslcore.config import resolve_config
from sslcore.console import Progress
from sslcore.errors import CheckpointError, ConfigError
from tests.recssl import ranking_by_hand as by_hand
from tests.recssl.logs import make_dataset
from tests.recssl.ranking_by_hand import matrix
from tests.recssl.test_baselines_tuning import SMALL, split

USERS, ITEMS = 30, 15
QUICK = EvaluateConfig(
    ks=(3, 5),
    resamples=50,
    baselines=BaselinesConfig(names=("popularity", "ease"), select_at=5),
)


@pytest.fixture(autouse=True)
def _small_grids(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "GRIDS", SMALL)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    pairs = [list(zip(*part.nonzero(), strict=True)) for part in split()]
    return make_dataset(tmp_path / "data", *pairs, USERS, ITEMS)  # type: ignore[arg-type]


def quiet() -> Progress:
    return Progress("evaluate", unit="users", stream=io.StringIO())


def write_run(
    folder: Path,
    dataset: Dataset,
    *,
    fingerprint: str | None = None,
    learn_from: str = "train",
    encoder: str = "mf",
) -> Path:
    rng = np.random.default_rng(0)
    sides = {"users": USERS, "items": ITEMS}
    tables = {name: rng.normal(size=(n, 4)).astype(np.float32) for name, n in sides.items()}
    folder.mkdir()
    facts = {"fingerprint": fingerprint or dataset.fingerprint, "data": str(dataset.folder)}
    facts |= {"format": 1, "method": "bpr", "dim": 4, "similarity": "dot", "step": 7}
    about = {"about": json.dumps(facts)}
    save_file(tables, folder / "embeddings.safetensors", about)
    data = {"path": dataset.folder, "learn_from": learn_from}
    tree: dict[str, object] = {"data": data, "encoder": {"name": encoder}}
    RunFolder(folder).write_config(TrainConfig.model_validate(tree))
    return folder


def test_the_job_writes_what_plain_loops_find(tmp_path: Path, dataset: Dataset) -> None:
    run = write_run(tmp_path / "run", dataset)
    result = evaluate(run, QUICK, quiet())
    assert json.loads((run / "metrics.json").read_text()) == result
    scorer = _embeddings(run)
    parts, reached = split(), dict[str, list[float]]()
    for user in range(USERS):
        train, valid, test = (set(part[[user]].nonzero()[1].tolist()) for part in parts)
        if test:
            row = scorer.scores(np.array([user]))[0].tolist()
            items = by_hand.best_unseen(row, train | valid, 5)
            for name, formula in by_hand.PER_USER.items():
                for k in (3, 5):
                    reached.setdefault(f"{name}@{k}", []).append(formula(items, test, k))
    metrics = result["models"][0]["metrics"]
    assert metrics.keys() == reached.keys()
    for name, values in reached.items():
        assert metrics[name]["value"] == pytest.approx(np.mean(values)), name
        assert metrics[name]["low"] <= metrics[name]["value"] <= metrics[name]["high"]
    assert result["protocol"]["users"] == len(reached["recall@5"])
    assert result["models"][0]["method"] == "bpr"
    assert result["data"]["fingerprint"] == dataset.fingerprint


def test_every_baseline_stands_beside_the_run_with_a_paired_difference(dataset: Dataset) -> None:
    every = BaselinesConfig(select_at=5)
    config = QUICK.model_copy(update={"baselines": every})
    result = evaluate_scorer(_random(), dataset, config, quiet(), name="mine")
    names = [model["name"] for model in result["models"]]
    assert names == ["mine", *every.names]
    assert [pair["against"] for pair in result["comparisons"]] == list(every.names)
    ours, theirs = (result["models"][at]["metrics"]["ndcg@5"]["value"] for at in (0, 1))
    difference = result["comparisons"][0]["differences"]["ndcg@5"]
    assert difference["value"] == pytest.approx(ours - theirs)
    assert difference["low"] < difference["value"] < difference["high"]


def test_a_scorer_against_itself_differs_by_nothing() -> None:
    panel = Panel(split(), QUICK)
    one, other = (panel.measure(_random(), lambda _: None) for _ in range(2))
    for difference in panel.differences(one, other).values():
        assert difference == {"value": 0, "low": 0, "high": 0}


def test_groups_split_the_users_by_history_and_average_to_the_whole() -> None:
    result = evaluate_scorer(_random(), split(), QUICK, quiet())
    groups, model = result["protocol"]["groups"], result["models"][0]
    assert [group["name"] for group in groups] == ["few", "some", "many"]
    for fewer, more in pairwise(groups):
        assert fewer["most_history"] < more["least_history"]
    users = [group["users"] for group in groups]
    parts = [model["by_group"][group["name"]]["recall@5"]["value"] for group in groups]
    assert np.average(parts, weights=users) == pytest.approx(model["metrics"]["recall@5"]["value"])


def test_what_a_user_has_seen_is_neither_recommended_nor_asked_for() -> None:
    parts = split()
    everything = parts._replace(test=union(parts.test, parts.train))
    plain, more = (Panel(some, QUICK) for some in (parts, everything))
    assert more.known_before == parts.train.nnz
    assert (more.users == plain.users).all()
    measured = [panel.measure(_random(), lambda _: None).per_user for panel in (plain, more)]
    assert (measured[0] == measured[1]).all()


def test_baselines_may_learn_from_the_validation_part_after_the_choice(dataset: Dataset) -> None:
    wishes = QUICK.baselines.model_copy(update={"refit_on": "train+valid"})
    result = evaluate_scorer(None, dataset, QUICK.model_copy(update={"baselines": wishes}), quiet())
    parts = split()
    known = union(parts.train, parts.valid)
    expected = Panel(parts, QUICK).mean(_Popular(known.toarray().sum(0)), "ndcg@5", lambda _: None)
    assert result["models"][0]["fitted_on"] == "train+valid"
    assert result["models"][0]["metrics"]["ndcg@5"]["value"] == pytest.approx(expected)


def test_a_run_is_not_measured_on_the_part_that_it_learnt_from(
    tmp_path: Path, dataset: Dataset
) -> None:
    run = write_run(tmp_path / "run", dataset, learn_from="train+valid")
    with pytest.raises(ConfigError, match=r"part valid: .* take part=test, or train with data"):
        evaluate(run, QUICK.model_copy(update={"part": "valid"}), quiet())
    assert not (run / "metrics.json").exists()


@pytest.mark.parametrize("learn_from", ["train", "train+valid"])
def test_baselines_learn_from_what_the_run_learnt_from(
    tmp_path: Path, dataset: Dataset, learn_from: str
) -> None:
    result = evaluate(write_run(tmp_path / "run", dataset, learn_from=learn_from), QUICK, quiet())
    assert {model["fitted_on"] for model in result["models"][1:]} == {learn_from}
    assert result["config"]["baselines"]["refit_on"] == learn_from


def test_users_without_history_are_counted_and_alone_they_are_refused(tmp_path: Path) -> None:
    parts = split()
    cold = parts.train.toarray()
    cold[:10] = 0
    some = parts._replace(train=matrix(set(zip(*cold.nonzero(), strict=True)), USERS, ITEMS))
    panel = Panel(some, QUICK)
    assert panel.describe()["users_without_history"] == (panel.users < 10).sum() > 0
    first, second = ([(user, item) for user in range(10)] for item in (0, 1))
    data = make_dataset(tmp_path / "data", first, second, [(20, 1)], USERS, ITEMS)
    with pytest.raises(DatasetError, match=r"none of the 1 users.*another --split"):
        evaluate(write_run(tmp_path / "run", data), QUICK, quiet())
    with pytest.raises(DatasetError, match=r"none of the 1 users"):  # towers without features
        evaluate(write_run(tmp_path / "items", data, encoder="towers"), QUICK, quiet())
    ages = data.users.with_columns(age=pl.col("user") % 7)
    data = write_dataset(tmp_path / "ages", data.interactions.collect(), ages, data.items)
    towers = evaluate(write_run(tmp_path / "towers", data, encoder="towers"), QUICK, quiet())
    assert towers["protocol"]["users_without_history"] == 1


def test_ease_is_left_out_with_the_reason_where_it_does_not_fit() -> None:
    wishes = QUICK.baselines.model_copy(update={"memory_gb": 1e-7})
    result = evaluate_scorer(None, split(), QUICK.model_copy(update={"baselines": wishes}), quiet())
    assert [model["name"] for model in result["models"]] == ["popularity"]
    assert result["left_out"][0]["name"] == "ease"
    assert "15 items" in result["left_out"][0]["reason"]


def test_a_sample_of_users_is_the_same_for_everybody() -> None:
    config = QUICK.model_copy(update={"max_users": 10})
    one, other = (Panel(split(), config) for _ in range(2))
    assert len(one.users) == 10
    assert (one.users == other.users).all()
    assert one.describe()["users_with_items_to_find"] > 10


def test_a_run_of_another_data_set_is_refused_and_nothing_is_written(
    tmp_path: Path, dataset: Dataset
) -> None:
    run = write_run(tmp_path / "run", dataset, fingerprint="another")
    with pytest.raises(DatasetError, match=r"trained on the data set another.*--set data=DIR"):
        evaluate(run, QUICK, quiet())
    assert not (run / "metrics.json").exists()


def test_a_run_without_embeddings_is_refused(tmp_path: Path, dataset: Dataset) -> None:
    with pytest.raises(CheckpointError, match="holds no embeddings"):
        evaluate(tmp_path, QUICK, quiet())
    run = write_run(tmp_path / "run", dataset)
    (run / "embeddings.safetensors").write_bytes(b"cut off")
    with pytest.raises(CheckpointError, match="damaged"):
        evaluate(run, QUICK, quiet())
    _write_tiny_tables(run, dataset)
    with pytest.raises(CheckpointError, match="1 users and 1 items, the data set has 30 and 15"):
        evaluate(run, QUICK, quiet())
    _write_tiny_tables(run)
    with pytest.raises(CheckpointError, match="lacks fingerprint or data"):
        evaluate(run, QUICK, quiet())


def test_a_part_with_nothing_to_find_is_refused() -> None:
    empty = split()._replace(test=matrix(set(), USERS, ITEMS))
    with pytest.raises(DatasetError, match="part test"):
        evaluate_scorer(_random(), empty, QUICK, quiet())


def test_settings_that_would_measure_what_was_learnt_are_refused() -> None:
    with pytest.raises(ValidationError, match="on train only"):
        EvaluateConfig(part="valid", baselines=BaselinesConfig(refit_on="train+valid"))
    with pytest.raises(ValidationError, match="rising"):
        EvaluateConfig(ks=(20, 10))
    with pytest.raises(ValidationError, match="named twice"):
        BaselinesConfig(names=("ease", "ease"))
    assert resolve_config(EvaluateConfig) == EvaluateConfig()


class _Popular:
    def __init__(self, counts: np.ndarray) -> None:
        self.counts = counts.astype(np.float32)

    def scores(self, users: IntArray) -> ScoreArray:
        return np.tile(self.counts, (len(users), 1))


def _random() -> EmbeddingScorer:
    rng = np.random.default_rng(4)
    users, items = (rng.normal(size=(n, 3)).astype(np.float32) for n in (USERS, ITEMS))
    return EmbeddingScorer(users, items)


def _embeddings(run: Path) -> EmbeddingScorer:
    tables = load_file(run / "embeddings.safetensors")
    return EmbeddingScorer(tables["users"], tables["items"])


def _write_tiny_tables(run: Path, dataset: Dataset | None = None) -> None:
    """Write a row per side; without the data set, no word of where they come from."""
    row = np.zeros((1, 1), np.float32)
    facts = {"format": 1, "method": "bpr", "dim": 1, "step": 7}
    if dataset is not None:
        facts |= {"fingerprint": dataset.fingerprint, "data": str(dataset.folder)}
    about = {"about": json.dumps(facts)} if dataset is not None else None
    save_file({"users": row, "items": row}, run / "embeddings.safetensors", about)
