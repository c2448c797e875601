"""SimCLR v2 in a whole run: what stays is the network with the first layer of its head."""

from pathlib import Path

import pytest
import torch

from medssl.backbone import Backbone, with_head_layer
from medssl.config import FinetuneConfig
from medssl.encoder import load_encoder
from medssl.fewlabels.finetune import finetune
from medssl.pretrain import pretrain
from sslcore.console import Progress
from sslcore.training.checkpoint import load_latest_checkpoint
from tests.medssl.tiny_run import tiny_config, use_tiny_backbone, write_tiny_data


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    use_tiny_backbone(monkeypatch)
    data = write_tiny_data(tmp_path)
    pretrain(
        tiny_config(data, "method.name=simclr_v2", "method.head_dims=[12, 10, 8]"), tmp_path / "run"
    )
    return tmp_path / "run"


def test_the_encoder_of_a_run_ends_in_the_middle_of_the_head(run: Path) -> None:
    encoder = load_encoder(run)
    assert encoder.backbone.feature_dim == encoder.spec.feature_dim == 12
    features = encoder.backbone(torch.rand(3, 1, 16, 16))
    assert features.shape == (3, 12)
    assert (features >= 0).all()
    checkpoint = load_latest_checkpoint(run / "checkpoint")
    assert checkpoint is not None
    trained = checkpoint.method["student.head.0.weight"]
    assert torch.equal(encoder.backbone.net[1][0].weight, trained)  # type: ignore[index]


def test_fine_tuning_begins_there_and_scratch_has_the_same_shape(run: Path) -> None:
    config = FinetuneConfig(
        mode="full", fractions=(1.0,), repeats=1, steps=2, batch_size=4, bootstrap=10
    )
    with Progress("finetune") as progress:
        result = finetune(run, config, run.parent / "results", data=None, progress=progress)
    models = [each["model"] for each in result.metrics["results"]]
    assert models[:4] == ["knn", "linear_probe", "finetuned", "scratch"]


def test_only_a_layer_that_begins_with_a_linear_one_can_follow() -> None:
    backbone = Backbone(torch.nn.Flatten(), 4)
    with pytest.raises(TypeError, match="begins with a Linear, got ReLU"):
        with_head_layer(backbone, torch.nn.Sequential(torch.nn.ReLU()))
