"""`run.micro_batch` in a whole run."""

from pathlib import Path

import pytest

from medssl.pretrain import pretrain
from sslcore.errors import ConfigError
from sslcore.methods.simclr import SimCLRConfig
from sslcore.training.history import read_history
from tests.medssl.tiny_run import tiny_config, use_tiny_backbone, write_tiny_data


def losses(data: Path, run: Path, *assignments: str) -> list[float]:
    pretrain(tiny_config(data, *assignments), run)
    return [record["loss"] for record in read_history(run / "log.jsonl")]


TRANSFORMER = ("backbone.name=vit_tiny",)
GROUPS = ("backbone.name=resnet10", "backbone.width=8", "backbone.norm=group")


@pytest.mark.parametrize("network", [TRANSFORMER, GROUPS], ids=["transformer", "group norm"])
@pytest.mark.parametrize("method", ["simclr", "byol"])
def test_a_run_in_parts_equals_the_run_as_a_whole(
    method: str, network: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if network == TRANSFORMER:
        use_tiny_backbone(monkeypatch)
    data = write_tiny_data(tmp_path)
    plain = (*network, f"method.name={method}")  # without batch norm
    whole = losses(data, tmp_path / "whole", *plain)
    parts = losses(data, tmp_path / "parts", *plain, "run.micro_batch=3")
    assert parts == pytest.approx(whole, rel=1e-4)


def test_a_method_that_would_go_past_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SimCLRConfig, "needs_tokens", True)
    config = tiny_config(tmp_path / "manifest.parquet", "run.micro_batch=3")
    with pytest.raises(ConfigError, match=r"run\.micro_batch 3: simclr reads the patches"):
        pretrain(config, tmp_path / "run")
