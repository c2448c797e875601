"""Pretraining that goes on from the encoder of an earlier run."""

from pathlib import Path

import pytest
import torch

from medssl.encoder import load_encoder
from medssl.manifest import read_manifest
from medssl.pretrain import pretrain
from medssl.run_data import resolve
from medssl.run_parts import build_run_method
from sslcore.errors import ConfigError
from tests.medssl.tiny_run import tiny_config, use_tiny_backbone, write_tiny_data


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    use_tiny_backbone(monkeypatch)
    return write_tiny_data(tmp_path / "data")


@pytest.mark.parametrize("method", ["simclr", "simclr_v2"])
def test_a_run_begins_with_the_weights_of_an_earlier_one(
    method: str, data: Path, tmp_path: Path
) -> None:
    pretrain(tiny_config(data, f"method.name={method}", "run.seed=5"), tmp_path / "first")
    given = load_encoder(tmp_path / "first").backbone
    network = given.net[0] if method == "simclr_v2" else given  # type: ignore[index]
    config = tiny_config(data, "method.name=byol", f"backbone.weights={tmp_path / 'first'}")
    method_of, backbone = build_run_method(resolve(config, read_manifest(data)), 1)
    for name, tensor in backbone.state_dict().items():
        assert torch.equal(tensor, network.state_dict()[name]), name
    held = dict(method_of.named_buffers()) | dict(method_of.named_parameters())
    copies = [tensor for name, tensor in held.items() if name.endswith("encoder.net.0.weight")]
    assert len(copies) == 2  # student and teacher
    assert all(torch.equal(copy, network.net[0].weight) for copy in copies)


def test_it_can_be_continued_and_ends_as_the_unbroken_run(data: Path, tmp_path: Path) -> None:
    pretrain(tiny_config(data), tmp_path / "first")
    settings = ("method.name=vicreg", "method.head_dims=[16, 8]")
    onward = (*settings, f"backbone.weights={tmp_path / 'first'}")
    result = pretrain(tiny_config(data, *onward), tmp_path / "second")
    plain = pretrain(tiny_config(data, *settings), tmp_path / "plain")
    assert result.final_loss != plain.final_loss
    again = pretrain(tiny_config(data, *onward), tmp_path / "second", resume=True)
    assert again.final_loss == result.final_loss


def test_weights_of_another_network_are_refused(data: Path, tmp_path: Path) -> None:
    pretrain(tiny_config(data), tmp_path / "first")
    first = f"backbone.weights={tmp_path / 'first'}"
    with pytest.raises(ConfigError, match=r"another network than this run's; set .*name=resnet10"):
        pretrain(tiny_config(data, first, "backbone.name=resnet18"), tmp_path / "a")
    with pytest.raises(ConfigError, match=r"set data\.channels=1$"):
        pretrain(tiny_config(data, first, "data.channels=3"), tmp_path / "b")
    with pytest.raises(ConfigError, match=r"resnet10 takes the folder of an earlier run"):
        pretrain(tiny_config(data, f"backbone.weights={tmp_path}"), tmp_path / "c")
