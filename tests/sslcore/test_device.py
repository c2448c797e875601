import copy
from typing import cast

import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from sslcore.device import (
    all_or_none,
    build_fabric,
    choose_device,
    choose_precision,
    share_batch_statistics,
)
from sslcore.errors import ConfigError, ShapeError
from sslcore.modules.shared_batch_norm import SharedBatchNorm, share_batch_norms
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


def test_several_processes_share_every_batch_norm_and_keep_its_names() -> None:
    class Two:
        world_size = 2
        device = torch.device("cpu")

    norm = nn.BatchNorm2d(3)
    method = nn.ModuleDict({"teacher": nn.Sequential(nn.Sequential(norm)), "again": norm})
    names = list(method.state_dict())
    share_batch_statistics(method, cast("Fabric", Two()))
    assert type(norm) is SharedBatchNorm
    assert list(method.state_dict()) == names


def test_a_shared_batch_norm_of_one_process_is_torchs() -> None:
    plain, view = nn.BatchNorm2d(3), torch.randn(4, 3, 2, 2)
    shared = copy.deepcopy(plain)
    share_batch_norms(shared)
    assert torch.equal(shared(view), plain(view))
    torch.testing.assert_close(shared.state_dict(), plain.state_dict())
    with pytest.raises(ShapeError, match=r"expected \[batch, 3, ...\], got \(4, 2\)"):
        shared(torch.randn(4, 2))
