import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from recssl.batches import BatchMaker
from recssl.dataset import Dataset
from recssl.encoders.mf import MatrixFactorisation
from recssl.errors import DatasetError, LogError
from recssl.graph import InteractionGraph, LowRank
from recssl.methods.item_queue import ItemQueue
from recssl.perturb import svd_view
from recssl.run_folder import RunFolder
from recssl.settings.train import TrainConfig
from recssl.train import TrainResult, train
from sslcore.errors import CheckpointError, ConfigError, OutputError
from sslcore.training.history import read_history
from tests.recssl.logs import make_dataset

USERS, ITEMS, GROUPS = 40, 60, 4
TIMES = ("samples_per_second", "wait_share", "prepare_share")


def grouped_log(folder: Path, *, valid: bool = True, seed: int = 0) -> Dataset:
    """Users like the items whose number leaves the same rest, and nothing else."""
    rng = np.random.default_rng(seed)
    pairs = [
        (user, item)
        for user in range(USERS)
        for item in range(ITEMS)
        if user % GROUPS == item % GROUPS and rng.random() < 0.7
    ]
    rng.shuffle(pairs)
    whole = [(int(user), int(item)) for user, item in pairs]
    cut = len(whole) * 4 // 5
    held = whole[cut:]
    return make_dataset(folder, whole[:cut], held if valid else [], [], USERS, ITEMS)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return grouped_log(tmp_path / "data").folder


def config(folder: Path, **changes: Any) -> TrainConfig:
    run = {"epochs": 4, "batch_size": 64, "device": "cpu", "patience": 0, "checkpoint_minutes": 0}
    tree: dict[str, Any] = {
        "data": {"path": folder, **changes.pop("data", {})},
        "encoder": {"name": "mf", "dim": 8, "start": "random"},
        "optim": {"learning_rate": 0.05},
        "run": run | changes.pop("run", {}),
    }
    return TrainConfig.model_validate(tree | changes)


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


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ranking": {"name": "bpr"}}, "needs drawn negatives"),
        ({"sampling": {"negatives": "uniform", "log_q": 1.0}}, "corrects in-batch"),
        ({"sampling": {"negatives": "uniform", "mask": "positives"}}, "never liked"),
        (
            {"ranking": {"name": "direct_au"}, "sampling": {"negatives": "uniform"}},
            "has no negatives",
        ),
        ({"sampling": {"negatives": "shared", "log_q": 1.0}}, "these negatives are uniform"),
        ({"sampling": {"negatives": "shared", "mask": "positives"}}, "never liked"),
        ({"ranking": {"name": "bpr"}, "sampling": {"negatives": "shared"}}, "uniform"),
        ({"ranking": {"name": "triplet"}, "sampling": {"negatives": "shared"}}, "all rows"),
        ({"ranking": {"name": "bpr"}, "sampling": {"negatives": "mixed"}}, "uniform"),
        (
            {"ranking": {"name": "direct_au"}, "sampling": {"negatives": "mixed"}},
            "has no negatives",
        ),
        ({"sampling": {"queue": 63}}, "at least run.batch_size, 64"),
        ({"sampling": {"negatives": "uniform", "queue": 64}}, "draws for each row"),
        ({"ranking": {"name": "triplet"}, "sampling": {"queue": 64}}, "read the queue"),
        ({"ranking": {"name": "buir"}, "sampling": {"negatives": "hard"}}, "has no negatives"),
        ({"ranking": {"name": "selfcf"}, "sampling": {"queue": 64}}, "read the queue"),
        ({"ranking": {"name": "selfcf"}, "encoder": {"name": "towers"}}, "its predictor"),
        ({"ranking": {"name": "direct_au"}, "sampling": {"log_q": 1.0}}, "no logits"),
        ({"ranking": {"name": "direct_au"}, "sampling": {"mask": "positives"}}, "the mask"),
        ({"ranking": {"name": "triplet"}, "sampling": {"log_q": 1.0}}, "no logits"),
        ({"ranking": {"name": "triplet"}, "sampling": {"mask": "positives"}}, "the mask"),
        ({"contrast": {"name": "sgl"}}, "does not see the graph"),
        ({"contrast": {"name": "xsimgcl"}}, "lightgcn"),
        ({"contrast": {"name": "lightgcl"}}, "lightgcn"),
        ({"contrast": {"name": "simgcl"}, "views": {"perturb": "svd"}}, "does not see the graph"),
        (
            {
                "encoder": {"name": "lightgcn"},
                "contrast": {"name": "lightgcl"},
                "views": {"perturb": "noise"},
            },
            "compares with the svd",
        ),
        (
            {
                "encoder": {"name": "lightgcn"},
                "contrast": {"name": "xsimgcl"},
                "views": {"perturb": "svd"},
            },
            "takes one view",
        ),
        ({"encoder": {"name": "towers"}, "contrast": {"name": "simgcl"}}, "no views"),
        ({"run": {"devices": 2}}, "one device"),
        ({"run": {"precision": "bf16-mixed"}}, "32-true"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(
    data: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValidationError, match=words):
        config(data, **changes)


def test_batches_depend_on_seed_and_step_only(data: Path) -> None:
    settings = config(data, contrast={"name": "simgcl"}, sampling={"log_q": 0.5})
    graph = InteractionGraph(grouped_log(data.parent / "again").train)
    makers = [BatchMaker(graph, MatrixFactorisation(USERS, ITEMS, 4), settings) for _ in range(2)]
    whole, late = makers[0].draw(0), makers[1].draw(2)
    for _ in range(2):
        next(whole)
    one, other = (
        maker.complete(next(source), device=torch.device("cpu"))
        for maker, source in zip(makers, (whole, late), strict=True)
    )
    assert torch.equal(one.users, other.users)
    assert one.contrast is not None
    assert other.contrast is not None
    assert one.contrast.views[1].seed == other.contrast.views[1].seed
    assert one.log_q is not None
    shares = np.bincount(graph.edge_items, minlength=ITEMS) / graph.num_edges
    expected = 0.5 * np.log(shares[one.items.numpy()])
    assert np.allclose(one.log_q.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("alpha", [None, 0.5])
def test_shared_negatives_are_drawn_once_and_what_a_user_likes_is_left_out(
    data: Path, alpha: float | None
) -> None:
    log_q = 0.0 if alpha is None else 0.5
    sampling = {"negatives": "shared", "count": 30, "alpha": alpha, "log_q": log_q}
    graph = InteractionGraph(grouped_log(data.parent / "again").train)
    maker = BatchMaker(graph, MatrixFactorisation(USERS, ITEMS, 4), config(data, sampling=sampling))
    made = maker.complete(next(maker.draw(3)), device=torch.device("cpu"))
    assert made.negatives is not None
    assert made.excluded is not None
    assert made.negatives.shape == (30,)
    likes = torch.from_numpy(graph.matrix.toarray() > 0)
    assert torch.equal(made.excluded, likes[made.users][:, made.negatives])
    if alpha is None:
        assert made.log_q is None
        return
    weights = graph.item_degrees**alpha
    expected = 0.5 * np.log(weights / weights.sum())
    drawn = torch.cat([made.items, made.negatives]).numpy()
    assert made.log_q is not None
    assert np.allclose(made.log_q.numpy(), expected[drawn], atol=1e-5)


def test_mixed_negatives_are_those_of_the_batch_and_the_drawn_ones(data: Path) -> None:
    graph = InteractionGraph(grouped_log(data.parent / "again").train)
    settings = config(data, sampling={"negatives": "mixed", "count": 30, "log_q": 1.0})
    maker = BatchMaker(graph, MatrixFactorisation(USERS, ITEMS, 4), settings)
    made = maker.complete(next(maker.draw(3)), device=torch.device("cpu"))
    assert made.with_batch
    assert made.excluded is not None
    assert made.log_q is not None
    assert made.excluded.shape == (64, 64 + 30)
    shares = np.bincount(graph.edge_items, minlength=ITEMS) / graph.num_edges
    mixture = (64 * shares + 30 / ITEMS) / 94
    assert np.allclose(made.log_q[:64].exp().numpy(), mixture[made.items.numpy()], atol=1e-6)


def test_a_batch_leaves_out_what_the_queue_holds_when_it_is_completed(data: Path) -> None:
    graph = InteractionGraph(grouped_log(data.parent / "again").train)
    sampling = {"negatives": "shared", "count": 30, "queue": 80, "mask": "positives"}
    queue = ItemQueue(80, 4)
    maker = BatchMaker(
        graph, MatrixFactorisation(USERS, ITEMS, 4), config(data, sampling=sampling), queue
    )
    drawn = next(maker.draw(0))
    empty = maker.complete(drawn, device=torch.device("cpu"))
    queue.push(torch.arange(60), torch.zeros(60, 4))
    filled = maker.complete(drawn, device=torch.device("cpu"))
    assert empty.excluded is not None
    assert filled.excluded is not None
    assert torch.equal(filled.excluded[:, :30], empty.excluded[:, :30])
    assert empty.excluded[:, 30:].all()
    assert filled.excluded[:, 90:].all()
    likes = torch.from_numpy(graph.matrix.toarray() > 0)
    assert torch.equal(filled.excluded[:, 30:90], likes[filled.users])


def test_svd_views_are_the_clean_graph_and_one_low_rank_copy_for_the_whole_run(data: Path) -> None:
    graph = InteractionGraph(grouped_log(data.parent / "again").train)
    settings = config(data, encoder={"name": "lightgcn", "dim": 4}, contrast={"name": "lightgcl"})
    encoder = MatrixFactorisation(USERS, ITEMS, 4)
    makers = [BatchMaker(graph, encoder, settings) for _ in range(2)]
    first, later = (
        maker.complete(next(maker.draw(step)), device=torch.device("cpu")).contrast
        for maker, step in zip(makers, (0, 5), strict=True)
    )
    assert first is not None
    assert later is not None
    assert first.views[0].adjacency is None
    one, other = (views.views[1].adjacency for views in (first, later))
    assert isinstance(one, LowRank)
    assert isinstance(other, LowRank)
    expected = svd_view(graph, 5, seed=0)
    for side in ("users", "items"):
        assert torch.equal(getattr(one, side), getattr(other, side))
        assert torch.equal(getattr(one, side), getattr(expected, side))


def test_a_rank_that_the_graph_has_not_is_refused(data: Path) -> None:
    settings = config(
        data,
        encoder={"name": "lightgcn", "dim": 4},
        contrast={"name": "lightgcl"},
        views={"rank": 41},
    )
    graph = InteractionGraph(grouped_log(data.parent / "again").train)
    with pytest.raises(ConfigError, match=r"views\.rank 41: .* no more than 40 singular values"):
        BatchMaker(graph, MatrixFactorisation(USERS, ITEMS, 4), settings)
