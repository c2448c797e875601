"""`backbone.compile` in a whole run, with the compiler that torch uses by default."""

import shutil
from pathlib import Path

import pytest

from medssl.encoder import load_encoder
from medssl.pretrain import pretrain
from sslcore.training.history import read_history
from tests.medssl.tiny_run import tiny_config, use_tiny_backbone, write_tiny_data

pytestmark = pytest.mark.skipif(
    shutil.which("g++") is None, reason="torch.compile needs a C++ compiler, such as g++"
)


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # torch's own compiler
def test_a_compiled_network_learns_as_the_plain_one_and_leaves_the_same_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_tiny_backbone(monkeypatch)
    data = write_tiny_data(tmp_path)
    losses = []
    for name, compiled in (("plain", "false"), ("compiled", "true")):
        settings = (f"backbone.compile={compiled}", "method.name=byol", "run.steps=3")
        pretrain(tiny_config(data, *settings), tmp_path / name)
        losses.append([record["loss"] for record in read_history(tmp_path / name / "log.jsonl")])
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    plain, compiled = (load_encoder(tmp_path / name) for name in ("plain", "compiled"))
    assert plain.backbone.state_dict().keys() == compiled.backbone.state_dict().keys()
