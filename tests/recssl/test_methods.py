"""Every method that has a name, one contract."""

from pathlib import Path

import numpy as np
import pytest
import torch

from recssl.dataset import open_dataset
from recssl.report.words import LOSSES
from recssl.run_parts import RunParts, assemble
from recssl.settings.methods import METHODS
from recssl.settings.train import TrainConfig
from sslcore.config import resolve_config
from sslcore.errors import ConfigError
from tests.recssl.grouped_log import grouped_log

each_method = pytest.mark.parametrize("name", METHODS)
WITH_HEAD = ("barlow_twins", "vicreg", "moco", "byol", "simclr", "simsiam")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return grouped_log(tmp_path_factory.mktemp("log") / "data").folder


def parts(name: str, data: Path, *, queue: int = 0) -> RunParts:
    options = {
        "data.path": data,
        "encoder.dim": 8,
        "optim.learning_rate": 0.02,
        "run.batch_size": 64,
        "run.steps": 40,
        "run.device": "cpu",
        "sampling.queue": queue or None,
        "contrast.head_dims": (16, 16) if name in WITH_HEAD else None,
    }
    return assemble(
        resolve_config(TrainConfig, preset=METHODS[name], options=options), open_dataset(data), CPU
    )


def train(made: RunParts, first: int, stop: int) -> list[float]:
    losses = []
    made.method.train()
    for step, drawn in zip(range(first, stop), made.batches.draw(first), strict=False):
        output = made.method(made.batches.complete(drawn, device=CPU))
        made.optimizer.zero_grad()
        output.loss.backward()
        made.optimizer.step()
        made.method.after_step((step + 1) / 40)
        losses.append(output.loss.item())
    return losses


@each_method
def test_the_same_batch_gives_the_same_loss(name: str, data: Path) -> None:
    made = parts(name, data)
    made.method.train()
    batch = made.batches.complete(next(made.batches.draw(0)), device=CPU)
    assert made.method(batch).loss.item() == made.method(batch).loss.item()


@each_method
def test_training_is_deterministic_and_lowers_the_loss(name: str, data: Path) -> None:
    first, second = (train(parts(name, data), 0, 40) for _ in range(2))
    assert first == second
    if name != "moco":  # harder while the queue fills
        assert np.mean(first[-5:]) < np.mean(first[:5])


@each_method
def test_state_is_complete(name: str, data: Path) -> None:
    queue = 128 if name in ("infonce", "bsl") else 0
    whole, broken, resumed = (parts(name, data, queue=queue) for _ in range(3))
    expected = train(whole, 0, 10)
    train(broken, 0, 6)
    with torch.no_grad():
        for tensor in resumed.method.state_dict().values():
            tensor.zero_()
    resumed.method.load_state_dict(broken.method.state_dict())
    resumed.optimizer.load_state_dict(broken.optimizer.state_dict())
    assert train(resumed, 6, 10) == expected[6:]


@each_method
def test_the_report_has_words_for_every_part(name: str) -> None:
    chosen = (METHODS[name].get(key) for key in ("ranking", "contrast"))
    assert all(part["name"] in LOSSES for part in chosen if part)


def test_a_queue_of_the_contrast_holds_the_users_and_items_of_a_step(data: Path) -> None:
    def with_queue(size: int, batch: int) -> RunParts:
        options = {
            "data.path": data,
            "run.batch_size": batch,
            "run.device": "cpu",
            "contrast.queue_size": size,
        }
        made = resolve_config(TrainConfig, preset=METHODS["moco"], options=options)
        return assemble(made, open_dataset(data), CPU)

    with pytest.raises(ConfigError, match=r"contrast\.queue_size 15: .* 16 rows of one step"):
        with_queue(15, batch=16)
    most = max(grouped_log(data.parent / "again").train.shape)  # each of them once
    with_queue(most, batch=4096)
    with pytest.raises(ConfigError, match=rf"smaller than the {most} rows"):
        with_queue(most - 1, batch=4096)
