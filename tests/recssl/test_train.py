import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recssl.errors import DatasetError, LogError
from recssl.run_folder import RunFolder
from recssl.settings.train import TrainConfig
from recssl.train import TrainResult, train
from sslcore.errors import CheckpointError, ConfigError, OutputError
from sslcore.training.history import read_history
from tests.recssl.grouped_log import ITEMS, USERS, config, grouped_log
from tests.recssl.logs import make_dataset

TIMES = ("samples_per_second", "wait_share", "prepare_share")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return grouped_log(tmp_path / "data").folder


def losses(run: Path) -> list[dict[str, Any]]:
    records = read_history(RunFolder(run).log)
    return [{key: value for key, value in r.items() if key not in TIMES} for r in records]


def test_training_finds_the_groups_of_a_log(data: Path, tmp_path: Path) -> None:
    result = train(config(data, run={"epochs": 15}), tmp_path / "run")
    checks = read_history(tmp_path / "run" / "health.jsonl")
    assert checks[0]["recall@20"] < 0.6
    assert result.recall == max(check["recall@20"] for check in checks)
    assert result.recall > 0.8
    assert {"recall@20_rare", "recall@20_popular", "spread", "effective_rank"} <= checks[1].keys()


@pytest.mark.parametrize("name", ["buir", "selfcf"])
def test_training_without_negatives_finds_the_groups_and_stores_two_vectors_of_a_node(
    data: Path, tmp_path: Path, name: str
) -> None:
    settings = config(data, ranking={"name": name}, run={"epochs": 30})
    result = train(settings, tmp_path / "run")
    checks = read_history(tmp_path / "run" / "health.jsonl")
    assert result.recall is not None
    assert result.recall > checks[0]["recall@20"] + 0.2
    stored = RunFolder(tmp_path / "run").read_embeddings()
    assert stored.info.dim == stored.users.shape[1] == stored.items.shape[1] == 16


def test_stored_embeddings_are_those_of_the_best_check(data: Path, tmp_path: Path) -> None:
    result = train(config(data), tmp_path / "run")
    stored = RunFolder(tmp_path / "run").read_embeddings()
    assert stored.info.step == result.best_step
    assert stored.info.fingerprint == RunFolder(tmp_path / "run").read_config().data.fingerprint
    assert (stored.users.shape, stored.items.shape) == ((USERS, 8), (ITEMS, 8))
    assert (stored.info.method, stored.info.similarity) == ("mf+sampled_softmax", "dot")
    about = json.loads((tmp_path / "run" / "encoder.json").read_text())
    assert about["encoder"]["name"] == "mf"


class Killed(BaseException):
    pass


def run_twice(first: TrainConfig, out: Path, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kill the run while it writes the checkpoint after `step`, then continue it."""
    import recssl.train as job  # noqa: PLC0415

    save = job.save_checkpoint

    def save_until(folder: Path, checkpoint: Any) -> Path:
        if checkpoint.step > step:
            raise Killed
        return save(folder, checkpoint)

    with monkeypatch.context() as patched:
        patched.setattr(job, "save_checkpoint", save_until)
        with pytest.raises(Killed):
            train(first, out)
    train(first, out, resume=True)


LIGHTGCN = {"name": "lightgcn", "dim": 8}
KINDS: dict[str, dict[str, Any]] = {
    "mf": {},
    "byol": {"contrast": {"name": "byol", "head_dims": [8, 8]}},
    "sgl": {"encoder": LIGHTGCN, "contrast": {"name": "sgl"}},
    "moco": {"encoder": LIGHTGCN, "contrast": {"name": "moco_v2", "queue_size": 128}},
    "shared": {"sampling": {"negatives": "shared", "count": 50, "alpha": 0.5, "log_q": 1.0}},
    "mixed": {
        "ranking": {"name": "bilateral_softmax"},
        "sampling": {"negatives": "mixed", "count": 50, "log_q": 1.0, "mask": "positives"},
    },
    "queue": {"sampling": {"queue": 200, "mask": "positives", "log_q": 1.0}},
    "queue of xsimgcl": {
        "encoder": LIGHTGCN,
        "contrast": {"name": "xsimgcl"},
        "sampling": {"negatives": "mixed", "count": 50, "queue": 128},
    },
    "lightgcl": {"encoder": LIGHTGCN, "contrast": {"name": "lightgcl"}},
    "ncl": {"encoder": LIGHTGCN, "contrast": {"name": "ncl", "prototypes": 5}},
    "svd views": {
        "encoder": LIGHTGCN,
        "contrast": {"name": "simclr", "head_dims": [8, 8]},
        "views": {"perturb": "svd", "rank": 3},
    },
    "buir": {"ranking": {"name": "buir"}},
    "buir and simgcl": {
        "encoder": LIGHTGCN,
        "ranking": {"name": "buir"},
        "contrast": {"name": "simgcl"},
    },
    "selfcf": {"ranking": {"name": "selfcf", "dropout": 0.5}},
    "hard": {"ranking": {"name": "bpr"}, "sampling": {"negatives": "hard", "count": 2}},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_run_ends_like_the_unbroken_one(
    data: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(data, run={"steps": 12, "health_every": 3}, **KINDS[kind])
    train(settings, tmp_path / "whole")
    run_twice(settings, tmp_path / "broken", 7, monkeypatch)
    assert losses(tmp_path / "broken") == losses(tmp_path / "whole")
    runs = [RunFolder(tmp_path / name) for name in ("whole", "broken")]
    assert read_history(runs[0].health) == read_history(runs[1].health)
    whole, broken = (run.read_embeddings() for run in runs)
    assert np.array_equal(whole.users, broken.users)
    assert np.array_equal(whole.items, broken.items)


def early(data: Path) -> TrainConfig:
    return config(data, run={"epochs": 40, "patience": 2}, optim={"learning_rate": 1e-9})


def test_a_run_ends_when_validation_recall_no_longer_rises(data: Path, tmp_path: Path) -> None:
    result = train(early(data), tmp_path / "run")
    checks = read_history(tmp_path / "run" / "health.jsonl")
    best = max(checks, key=lambda check: check["recall@20"])
    assert result.best_step == best["step"]
    assert len(checks) == checks.index(best) + 3
    assert result.steps == checks[-1]["step"]
    assert train(early(data), tmp_path / "run", resume=True) == TrainResult(
        result.embeddings, result.steps, result.best_step, result.recall
    )


@pytest.mark.parametrize("learn_from", ["train", "train+valid"])
def test_without_validation_the_last_step_is_kept(tmp_path: Path, learn_from: str) -> None:
    data = grouped_log(tmp_path / "data", valid=learn_from == "train+valid")
    settings = config(data.folder, data={"learn_from": learn_from}, run={"patience": 1})
    result = train(settings, tmp_path / "run")
    assert result.recall is None
    assert result.best_step == result.steps == read_history(tmp_path / "run/log.jsonl")[-1]["step"]


def test_validation_users_that_nothing_is_learnt_of_are_refused(tmp_path: Path) -> None:
    known = [(user, item) for user in range(20) for item in range(user % 4, 40, 4)]
    new = [(user, item) for user in range(20, 40) for item in range(3)]
    data = make_dataset(tmp_path / "data", known, new, [], USERS, ITEMS).folder
    with pytest.raises(LogError, match=r"of none of the 20 users.*another --split"):
        train(config(data), tmp_path / "run")
    both = config(data, data={"learn_from": "train+valid"}, run={"steps": 2})
    assert train(both, tmp_path / "both").recall is None


@pytest.mark.parametrize(("users", "items", "said"), [(1, 9, "1 user;"), (9, 1, "1 item;")])
def test_a_log_with_nothing_to_compare_is_refused(
    tmp_path: Path, users: int, items: int, said: str
) -> None:
    pairs = [(user, item) for user in range(users) for item in range(items)]
    data = make_dataset(tmp_path / "data", pairs, [], [], users, items).folder
    with pytest.raises(LogError, match=f"the log has {said} two or more are needed"):
        train(config(data), tmp_path / "run")


def test_another_data_set_cannot_continue_a_run(data: Path, tmp_path: Path) -> None:
    train(config(data, run={"steps": 2}), tmp_path / "run")
    other = grouped_log(tmp_path / "other", seed=1).folder
    with pytest.raises(ConfigError, match=r"data\.fingerprint"):
        train(config(other, run={"steps": 2}), tmp_path / "run", resume=True)
    with pytest.raises(DatasetError, match="fingerprint"):
        train(config(data, data={"fingerprint": "of another"}), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_taken_folder_is_left_alone(data: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="already exists"):
        train(config(data), tmp_path / "run")
    with pytest.raises(CheckpointError, match="holds no embeddings"):
        RunFolder(tmp_path / "run").read_embeddings()
