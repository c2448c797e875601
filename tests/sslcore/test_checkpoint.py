import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from sslcore.errors import CheckpointError, OutputError
from sslcore.training.checkpoint import (
    Checkpoint,
    _without_aliases,
    load_encoder_weights,
    load_latest_checkpoint,
    read_encoder_description,
    save_checkpoint,
    save_encoder,
)
from sslcore.training.optimizers import LARS


def network(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        conv = nn.Conv2d(2, 6, 2).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return nn.Sequential(
            nn.Unflatten(1, (2, 2, 2)), conv, nn.Flatten(), nn.BatchNorm1d(6), nn.Linear(6, 2)
        )


def train(module: nn.Module, optimizer: Optimizer, steps: range) -> list[float]:
    losses = []
    for step in steps:
        x = torch.randn(8, 8, generator=torch.Generator().manual_seed(step))
        loss = module(x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def optimizers(module: nn.Module) -> dict[str, Optimizer]:
    return {
        "adamw": AdamW(module.parameters(), lr=0.01),
        "sgd": SGD(module.parameters(), lr=0.01, momentum=0.9),
        "lars": LARS(module.parameters(), lr=1.0),
    }


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Holds one checkpoint of step 7."""
    module = network()
    save(tmp_path, module, optimizers(module)["adamw"], 7)
    return tmp_path


def save(folder: Path, module: nn.Module, optimizer: Optimizer, step: int) -> Path:
    return save_checkpoint(folder, Checkpoint.take(step, module, optimizer, {}))


def load(folder: Path) -> Checkpoint:
    checkpoint = load_latest_checkpoint(folder)
    assert checkpoint is not None
    return checkpoint


@pytest.mark.parametrize("name", ["adamw", "sgd", "lars"])
def test_a_restored_run_continues_bit_for_bit(name: str, tmp_path: Path) -> None:
    module = network()
    optimizer = optimizers(module)[name]
    train(module, optimizer, range(5))
    save(tmp_path, module, optimizer, 5)
    expected = train(module, optimizer, range(5, 10))

    other = network(seed=1)
    other_optimizer = optimizers(other)[name]
    checkpoint = load(tmp_path)
    checkpoint.restore(other, other_optimizer)
    assert checkpoint.step == 5
    assert train(other, other_optimizer, range(5, 10)) == expected
    for (key, mine), theirs in zip(
        module.state_dict().items(), other.state_dict().values(), strict=True
    ):
        assert torch.equal(mine, theirs), key
    for entry in other_optimizer.state.values():
        formats = {value.stride() for value in entry.values() if value.ndim == 4}
        assert formats <= {(8, 1, 4, 2)}, "channels last, like the weights"


def test_learning_rates_come_from_the_configuration_not_from_the_checkpoint(folder: Path) -> None:
    module = network()
    optimizer = AdamW(module.parameters(), lr=0.5)
    load(folder).restore(module, optimizer)
    assert optimizer.param_groups[0]["lr"] == 0.5


def test_the_gradient_scaler_is_part_of_it(tmp_path: Path) -> None:
    module = network()
    state = {"scale": 65536.0, "growth_factor": 2.0, "_growth_tracker": 3}
    save_checkpoint(tmp_path, Checkpoint.take(1, module, SGD(module.parameters()), state))
    assert load(tmp_path).scaler == state


def test_only_the_last_checkpoint_stays_and_only_when_it_is_whole(folder: Path) -> None:
    module = network()
    save(folder, module, SGD(module.parameters()), 12)
    assert [path.name for path in folder.iterdir()] == ["step-00000012"]
    assert load(folder).step == 12


def test_no_checkpoint_yet_is_none(tmp_path: Path) -> None:
    assert load_latest_checkpoint(tmp_path / "none") is None


def test_drafts_of_a_killed_process_are_ignored(folder: Path) -> None:
    draft = folder / ".step-00000099.17.draft"
    draft.mkdir()
    (draft / "state.safetensors").write_bytes(b"half")
    assert load(folder).step == 7


class Tied(nn.Module):
    """Two names for one weight, and a view of another's memory."""

    part: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(3, 3)
        self.b = nn.Linear(3, 3)
        self.b.weight = self.a.weight
        self.register_buffer("whole", torch.arange(6.0))
        self.register_buffer("part", self.whole[:3])  # type: ignore[index]
        self.register_buffer("turned", torch.arange(6.0).reshape(2, 3).T)
        self.register_buffer("empty", torch.zeros(0))
        self.register_buffer("also_empty", torch.zeros(0, 2))


def test_tied_weights_are_stored_once_and_restored_under_both_names(tmp_path: Path) -> None:
    module, other = Tied(), Tied()
    save(tmp_path, module, SGD(module.parameters()), 1)
    load(tmp_path).restore(other, SGD(other.parameters()))
    for key, value in module.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key
    rest = json.loads((tmp_path / "step-00000001" / "state.json").read_text())
    assert rest["aliases"] == {"method.b.weight": "method.a.weight"}


@pytest.mark.parametrize("name", ["state.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["cut", "emptied", "flipped", "removed"])
def test_a_damaged_checkpoint_is_named_and_kept(folder: Path, name: str, damage: str) -> None:
    file = folder / "step-00000007" / name
    content = file.read_bytes()
    if damage == "removed":
        file.unlink()
    elif damage == "flipped":
        middle = content.find(b"digest") if name == "state.json" else len(content) - 5
        file.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    else:
        file.write_bytes(b"" if damage == "emptied" else content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=r"step-00000007.*resume from the beginning"):
        load_latest_checkpoint(folder)
    assert (folder / "step-00000007").exists()


def test_the_way_out_of_a_damaged_checkpoint_names_the_one_before(folder: Path) -> None:
    (folder / "step-00000009").mkdir()
    with pytest.raises(CheckpointError, match=r"remove .*step-00000009 and resume from step 7"):
        load_latest_checkpoint(folder)


def test_a_checkpoint_of_another_network_is_refused(folder: Path) -> None:
    other = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 2))
    with pytest.raises(CheckpointError, match="another model"):
        load(folder).restore(other, AdamW(other.parameters()))


def test_a_full_disk_keeps_the_checkpoint_before(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sslcore.training.checkpoint.save_file", full)
    with pytest.raises(OutputError, match="No space left"):
        save(folder, network(), SGD(network().parameters()), 8)
    assert [path.name for path in folder.iterdir()] == ["step-00000007"]


def test_a_disk_that_fills_up_inside_safetensors_is_an_output_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(tensors: object, path: Path, metadata: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("sslcore.training.checkpoint.save_file", full)
    with pytest.raises(OutputError, match="No space left"):
        save(tmp_path, network(), SGD(network().parameters()), 8)


def test_an_encoder_comes_back_with_its_description(tmp_path: Path) -> None:
    path = tmp_path / "encoder.safetensors"
    module, other = Tied(), Tied()
    save_encoder(path, module, {"backbone": "tied", "mean": [0.5]})
    assert read_encoder_description(path)["mean"] == [0.5]
    load_encoder_weights(path, other)
    assert torch.equal(module.a.weight, other.a.weight)
    assert path.stat().st_mode == path.with_suffix(".json").stat().st_mode


def test_a_missing_or_foreign_encoder_is_a_checkpoint_error(tmp_path: Path) -> None:
    path = tmp_path / "encoder.safetensors"
    with pytest.raises(CheckpointError, match=r"encoder\.json"):
        read_encoder_description(path)
    save_encoder(path, network(), {})
    with pytest.raises(CheckpointError, match=r"encoder\.safetensors.*not the weights"):
        load_encoder_weights(path, Tied())
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(CheckpointError, match="not the weights"):
        load_encoder_weights(path, network())


def test_only_what_shares_its_memory_is_copied_for_writing() -> None:
    table = torch.randn(6, 4)
    own, part, flat = table.clone(), table[1:3], table.view(-1)
    tensors = {"table": table, "part": part, "flat": flat, "own": own}
    distinct, aliases = _without_aliases(tensors)
    assert not aliases
    for name, tensor in tensors.items():
        assert torch.equal(distinct[name], tensor)
        is_copied = (
            distinct[name].untyped_storage().data_ptr() != table.untyped_storage().data_ptr()
        )
        assert is_copied == (name != "table")
    assert distinct["own"].data_ptr() == own.data_ptr()
