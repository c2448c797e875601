import pytest
from lightning_fabric import Fabric
from torch import nn

from sslcore.device import (
    all_or_none,
    build_fabric,
    choose_device,
    choose_precision,
    share_batch_statistics,
)
from sslcore.errors import ConfigError
from sslcore.training.settings import RunConfig


def test_a_run_on_the_cpu_computes_in_full_precision() -> None:
    fabric = build_fabric(RunConfig(device="cpu"))
    assert fabric.device.type == "cpu"
    assert fabric.world_size == 1
    assert choose_precision("auto", "cpu") == "32-true"


def test_an_unknown_device_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'cuda'\? known: auto, cuda, mps, cpu"):
        choose_device("cuba")


def test_a_missing_device_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sslcore.device._AVAILABLE", {"mps": lambda: False, "cpu": lambda: True})
    assert choose_device("auto") == "cpu"
    with pytest.raises(ConfigError, match="no mps device"):
        choose_device("mps")


def test_more_devices_than_there_are_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sslcore.device._AVAILABLE", {"cuda": lambda: True, "mps": lambda: True})
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(ConfigError, match=r"run\.devices 2: this machine has 1"):
        build_fabric(RunConfig(device="cuda", devices=2))
    with pytest.raises(ConfigError, match="mps has one device"):
        build_fabric(RunConfig(device="mps", devices=2))


@pytest.mark.parametrize(("has_bf16", "precision"), [(True, "bf16-mixed"), (False, "32-true")])
def test_cuda_computes_in_bf16_where_it_can(
    has_bf16: bool, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: has_bf16)
    assert choose_precision("auto", "cuda") == precision


def test_fp16_needs_a_device_that_has_it() -> None:
    with pytest.raises(ConfigError, match="needs cuda or mps"):
        choose_precision("16-mixed", "cpu")
    assert choose_precision("16-mixed", "cuda") == "16-mixed"


def test_one_process_keeps_its_batch_norms_and_its_errors() -> None:
    fabric = Fabric(accelerator="cpu", devices=1)
    net = nn.Sequential(nn.BatchNorm1d(3))
    share_batch_statistics(net, fabric)
    assert type(net[0]) is nn.BatchNorm1d
    with pytest.raises(ValueError, match="no"), all_or_none(fabric):
        raise ValueError("no")
    with all_or_none(fabric):
        pass
