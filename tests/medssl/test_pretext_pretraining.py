"""Rotation and jigsaw from a folder to an encoder."""

from pathlib import Path

import pytest

from medssl.config import PretrainConfig
from medssl.encoder import load_encoder
from medssl.pretrain import pretrain
from sslcore.config import resolve_config
from sslcore.training.history import read_history
from tests.medssl.tiny_run import use_tiny_backbone, write_tiny_data


@pytest.mark.parametrize("method", ["rotation", "jigsaw"])
def test_a_run_leaves_an_encoder_and_says_how_often_it_was_right(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_tiny_backbone(monkeypatch)
    options = {
        "data.path": str(write_tiny_data(tmp_path)),
        "data.workers": 0,
        "image_size": 48,
        "backbone.name": "resnet10",
        "method.name": method,
        "run.batch_size": 8,
        "run.steps": 2,
        "run.device": "cpu",
    }
    run = tmp_path / "run"
    assert pretrain(resolve_config(PretrainConfig, options=options), run).steps == 2
    assert load_encoder(run).spec.feature_dim == 16
    assert all(0 <= step["terms"]["accuracy"] <= 1 for step in read_history(run / "log.jsonl"))
