import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from medssl.backbones import KNOWN, build_backbone
from medssl.config import PretrainConfig
from medssl.encoder import load_encoder, unfinished
from medssl.errors import DataError
from medssl.manifest import read_manifest
from medssl.pretrain import pretrain
from medssl.run_data import resolve, tell_burned_in, training_rows
from medssl.run_folder import RunFolder
from medssl.run_parts import build_run_method
from medssl.view_maker import move_canvases
from sslcore.diagnostics import CollapseGuard
from sslcore.errors import CheckpointError, CollapseError, ConfigError, DivergedError, OutputError
from sslcore.training.checkpoint import load_latest_checkpoint
from sslcore.training.history import History, read_history
from tests.medssl.tiny_run import COUNT, tiny_config, use_tiny_backbone, write_tiny_data


@pytest.fixture(scope="module", autouse=True)
def _small_networks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        use_tiny_backbone(patch)
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Leave a finished run of five steps; tests must not change it."""
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "run")
    pretrain(tiny_config(data), folder.path)
    return folder


def losses(run: Path) -> list[tuple[int, float]]:
    return [(record["step"], record["loss"]) for record in read_history(run / "log.jsonl")]


def test_a_run_leaves_its_files_and_nothing_else(finished: RunFolder) -> None:
    assert sorted(path.name for path in finished.path.iterdir()) == [
        "checkpoint",
        "config.yaml",
        "encoder.json",
        "encoder.safetensors",
        "health.jsonl",
        "log.jsonl",
        "manifest.parquet",
    ]
    assert [path.name for path in finished.checkpoints.iterdir()] == ["step-00000005"]


def test_the_log_has_a_line_for_every_step(finished: RunFolder) -> None:
    records = read_history(finished.log)
    assert [record["step"] for record in records] == [1, 2, 3, 4, 5]
    assert set(records[0]) == {
        "step",
        "loss",
        "lr",
        "grad_norm",
        "terms",
        "samples_per_second",
        "wait_share",
        "prepare_share",
    }


def test_health_is_measured_at_the_start_every_epoch_and_at_the_end(finished: RunFolder) -> None:
    records = read_history(finished.health)
    assert [record["step"] for record in records] == [0, 3, 5]
    assert set(records[0]) == {
        "step",
        "spread",
        "effective_rank",
        "alignment",
        "uniformity",
        "projection_spread",
        "projection_rank",
        "knn",
    }


def test_the_written_configuration_is_resolved_and_resolving_it_again_changes_nothing(
    finished: RunFolder,
) -> None:
    config = finished.read_config()
    assert (config.data.channels, config.data.canvas, config.run.steps) == (1, 16, 5)
    assert config.views.preset == "radiograph"
    assert config.optim.learning_rate is not None
    assert config.run.precision == "32-true"
    assert resolve(config, read_manifest(finished.manifest)) == config


def test_the_encoder_holds_the_statistics_of_the_data(finished: RunFolder) -> None:
    spec = load_encoder(finished.path).spec
    assert 0.4 < spec.mean[0] < 0.6
    assert 0.05 < spec.std[0] < 0.3
    assert spec.feature_dim == 16


def test_health_checks_leave_the_losses_as_they_are(
    finished: RunFolder, data: Path, tmp_path: Path
) -> None:
    pretrain(tiny_config(data, "run.health_every=1"), tmp_path / "run")
    assert losses(tmp_path / "run") == losses(finished.path)


def test_a_run_folder_that_exists_is_refused_and_left_alone(
    finished: RunFolder, data: Path
) -> None:
    before = finished.log.read_text()
    with pytest.raises(OutputError, match="already exists; continue it with --resume, or"):
        pretrain(tiny_config(data), finished.path)
    assert finished.log.read_text() == before


def test_resuming_where_no_run_is_asks_for_a_start(data: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="holds no run to continue; start it without --resume"):
        pretrain(tiny_config(data), tmp_path / "run", resume=True)
    assert not (tmp_path / "run").exists()


def test_resuming_a_finished_run_changes_nothing(finished: RunFolder, data: Path) -> None:
    before = finished.log.read_text()
    result = pretrain(tiny_config(data), finished.path, resume=True)
    assert result.final_loss == losses(finished.path)[-1][1]
    assert finished.log.read_text() == before


class InterruptionError(Exception):
    pass


def interrupt_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Break off when `step` is logged, before its checkpoint."""
    append = History.append

    def appending(self: History, record: Any) -> None:
        append(self, record)
        if self.path.name == "log.jsonl" and record["step"] == step:
            raise InterruptionError

    monkeypatch.setattr(History, "append", appending)


@pytest.mark.parametrize(
    ("step", "method"),
    [
        *((1, "simclr"), (4, "simclr"), (3, "byol"), (4, "vicreg")),
        (2, "metric_learning method.loss=MarginLoss method.miner=DistanceWeightedMiner"),
    ],
)
def test_an_interrupted_run_continues_with_the_losses_of_the_unbroken_one(
    step: int, method: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(data, *f"method.name={method}".split())
    whole, run = tmp_path / "whole", tmp_path / "run"
    pretrain(config, whole)
    with monkeypatch.context() as patch:
        interrupt_at(step, patch)
        with pytest.raises(InterruptionError):
            pretrain(config, run)
    (run / ".log.jsonl.1.draft").write_text("half")
    (run / "checkpoint" / ".step-00000009.1.draft").mkdir(parents=True)
    pretrain(config, run, resume=True)
    assert losses(run) == losses(whole)
    assert read_history(run / "health.jsonl") == read_history(whole / "health.jsonl")
    assert not list(run.rglob(".*"))


def test_ctrl_c_keeps_the_step_and_the_run_goes_on_from_it(
    finished: RunFolder, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def press_ctrl_c_in_the_third_step(*given: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return move_canvases(*given)

    run = RunFolder(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr("medssl.pretrain.move_canvases", press_ctrl_c_in_the_third_step)
        with pytest.raises(KeyboardInterrupt):
            pretrain(tiny_config(data), run.path)
    assert [path.name for path in run.checkpoints.iterdir()] == ["step-00000003"]
    pretrain(tiny_config(data), run.path, resume=True)
    assert losses(run.path) == losses(finished.path)


def test_an_unfinished_run_says_where_it_stands(
    finished: RunFolder, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        interrupt_at(3, patch)
        with pytest.raises(InterruptionError):
            pretrain(tiny_config(data), run)
    assert str(unfinished(run)).startswith("the run stands at step 2 of 5:")
    assert unfinished(finished.path) is None


def test_a_run_killed_before_its_configuration_was_resolved_starts_from_zero(
    finished: RunFolder, data: Path, tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.write_config(tiny_config(data))
    pretrain(tiny_config(data), folder.path, resume=True)
    assert losses(folder.path) == losses(finished.path)


@pytest.mark.parametrize("name", KNOWN)
def test_no_backbone_draws_at_random_while_it_trains(
    name: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medssl.run_parts.build_backbone", build_backbone)
    method, backbone = build_run_method(
        tiny_config(data, f"backbone.name={name}", "image_size=32"), 1
    )
    assert method.training
    before = torch.get_rng_state()
    with torch.no_grad():
        backbone(torch.zeros(2, 1, 32, 32))
    assert torch.equal(torch.get_rng_state(), before)


def test_other_settings_are_refused_on_resume_by_name(finished: RunFolder, data: Path) -> None:
    config = tiny_config(data, "run.steps=9", "optim.weight_decay=0.5", "method.temperature=0.7")
    with pytest.raises(ConfigError, match="cannot be continued") as caught:
        pretrain(config, finished.path, resume=True)
    for line in (
        "run.steps: 5 in the run, now 9",
        "optim.weight_decay: 0.0001 in the run, now 0.5",
        "method.temperature: 0.2 in the run, now 0.7",
    ):
        assert line in str(caught.value)
    assert str(caught.value).count("in the run, now") == 3


def test_settings_that_change_no_result_may_differ_on_resume(
    finished: RunFolder, data: Path
) -> None:
    changes = ("data.cache_gb=0.5", "run.checkpoint_minutes=3", "run.health_every=7")
    pretrain(tiny_config(data, *changes), finished.path, resume=True)


def test_a_damaged_checkpoint_is_named_and_the_run_is_not_started_over(
    data: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    pretrain(tiny_config(data, "run.steps=2"), run)
    file = run / "checkpoint" / "step-00000002" / "state.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    before = losses(run)
    with pytest.raises(CheckpointError, match=r"state\.safetensors: content has changed; restore"):
        pretrain(tiny_config(data, "run.steps=2"), run, resume=True)
    assert file.exists()
    assert losses(run) == before


@pytest.mark.parametrize(
    ("assignment", "error", "message"),
    [
        ("run.batch_size=32", ConfigError, f"{COUNT} images.*largest possible is --batch-size 24"),
        ("data.splits=[tran]", ConfigError, "no split 'tran'; the data has none"),
        ("data.path=missing", DataError, "missing does not exist"),
        ("backbone.name=resnet19", ConfigError, "did you mean 'resnet10'|did you mean 'resnet18'"),
        ("run.device=tpu", ConfigError, "unknown device 'tpu'; did you mean 'cpu'"),
        ("run.precision=16-mixed", ConfigError, "needs cuda or mps"),
    ],
)
def test_a_run_that_cannot_start_says_why_and_can_be_given_again(
    assignment: str, error: type[Exception], message: str, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        pretrain(tiny_config(data, assignment), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_one_image_is_too_few_and_no_batch_size_is_advised(tmp_path: Path) -> None:
    path = write_tiny_data(tmp_path / "data", count=1)
    with pytest.raises(ConfigError, match=r"expected at least 2 images to learn from .*, got 1"):
        pretrain(tiny_config(path), tmp_path / "run")


def test_fewer_images_than_the_usual_batch_make_a_batch_of_all(data: Path) -> None:
    config = PretrainConfig.model_validate({"data": {"path": str(data)}})
    assert config.run.batch_size > COUNT
    assert resolve(config, read_manifest(data)).run.batch_size == COUNT


@pytest.mark.parametrize(
    "settings",
    [
        ("method.name=moco", "method.queue_size=7"),
        ("method.name=moco_v2", "method.queue_size=7"),
        ("method.name=nnclr", "method.queue_size=7"),
        ("method.name=swav", "method.queue_size=7"),
        ("method.name=triplet", "method.memory_size=7"),
    ],
)
def test_a_queue_smaller_than_a_batch_is_refused_before_anything_is_computed(
    data: Path, tmp_path: Path, settings: tuple[str, str]
) -> None:
    with pytest.raises(ConfigError, match=r"_size 7: smaller than the 8 rows of one step; make it"):
        pretrain(tiny_config(data, *settings), tmp_path / "run")
    assert not (tmp_path / "run" / "log.jsonl").exists()


@pytest.mark.parametrize("name", ["moco_v2", "nnclr"])
def test_samples_of_a_run_are_told_from_their_own_past_keys(
    data: Path, tmp_path: Path, name: str
) -> None:
    folder = RunFolder(tmp_path / "run")
    pretrain(tiny_config(data, f"method.name={name}", "method.queue_size=64"), folder.path)
    checkpoint = load_latest_checkpoint(folder.checkpoints)
    assert checkpoint is not None
    assert checkpoint.method["queue.filled"] == 40  # 5 steps of 8
    ids = checkpoint.method["queue.ids"]
    assert sorted(ids[:COUNT].tolist()) == list(range(COUNT))  # the first epoch
    assert (ids[40:] == -1).all()


@pytest.mark.parametrize(
    ("network", "rate"), [("resnet18", 4e-3), ("vit_tiny", 1e-3), ("swin_unetr", 1e-3)]
)
def test_transformers_learn_at_a_lower_rate_unless_told_otherwise(
    tmp_path: Path, network: str, rate: float
) -> None:
    data = write_tiny_data(tmp_path / "in")
    wishes = (f"backbone.name={network}", "image_size=32")
    config = tiny_config(data, *wishes)
    manifest = read_manifest(data)
    assert resolve(config, manifest).optim.learning_rate == rate
    told = tiny_config(data, *wishes, "optim.learning_rate=0.02")
    assert resolve(told, manifest).optim.learning_rate == 0.02


def test_several_processes_want_a_scanned_folder(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, "run.devices=2")
    with pytest.raises(ConfigError, match=r"run `medssl scan .* first .*, or set run\.devices=1"):
        pretrain(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_several_processes_want_a_scanned_archive(tmp_path: Path, kind: str) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a.txt").write_text("1")
    archive = shutil.make_archive(str(tmp_path / "all"), kind, tmp_path / "d")
    config = tiny_config(Path(archive), "run.devices=2")
    with pytest.raises(ConfigError, match=r"need a scanned archive; run `medssl scan .* first"):
        pretrain(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_images_without_any_contrast_do_not_end_the_run_in_a_traceback(tmp_path: Path) -> None:
    path = write_tiny_data(tmp_path / "data")
    np.savez(path.parent / "images.npz", train_images=np.full((COUNT, 16, 16), 90, np.uint8))
    pretrain(tiny_config(path, "run.steps=1"), tmp_path / "run")
    assert load_encoder(tmp_path / "run").spec.std == (1e-3,)


def test_a_run_that_diverges_keeps_its_log_and_last_checkpoint(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=r"step \d: loss nan"):
        pretrain(tiny_config(data, "optim.learning_rate=1e38"), tmp_path / "run")
    last = len(losses(tmp_path / "run"))
    assert (tmp_path / "run" / "checkpoint" / f"step-{last:08d}").exists()


def test_only_training_splits_and_image_modalities_are_learnt_from(tmp_path: Path) -> None:
    splits = ["train", "val", "test", None] * 6
    modalities = ["DX"] * 12 + ["SEG"] * 6 + [None] * 6
    path = write_tiny_data(tmp_path, split=splits, modality=modalities)
    manifest = read_manifest(path)
    data = tiny_config(path).data
    rows = training_rows(manifest, data).rows
    assert set(rows["split"].unique()) == {"train", "val", None}
    assert set(rows["modality"].unique()) == {"DX", None}
    assert len(rows) == 13
    only = data.model_copy(update={"splits": ("test",)})
    assert set(training_rows(manifest, only).rows["split"]) == {"test"}
    nothing = data.model_copy(update={"exclude_modalities": ("DX",)})
    with pytest.raises(DataError, match="none of 12 images remains"):
        training_rows(manifest.where(pl.col("modality") == "DX"), nothing)


def test_images_that_may_show_text_are_left_out_unless_allowed(tmp_path: Path) -> None:
    path = write_tiny_data(tmp_path, burned_in=["ultrasound", None] * 12)
    manifest, data = read_manifest(path), tiny_config(path).data
    assert len(training_rows(manifest, data)) == 12
    assert "12 images may show text" in (tell_burned_in(manifest, data) or "")
    allowed = data.model_copy(update={"allow_burned_in": True})
    assert len(training_rows(manifest, allowed)) == 24
    assert tell_burned_in(manifest, allowed) is None
    with pytest.raises(DataError, match=r"12 images may show text.*allow_burned_in"):
        training_rows(manifest.where(pl.col("burned_in").is_not_null()), data)


def test_the_whole_manifest_is_kept_for_later_stages(tmp_path: Path) -> None:
    path = write_tiny_data(tmp_path / "data", split=["train", "train", "test"] * 8)
    pretrain(tiny_config(path, "run.steps=1"), tmp_path / "run")
    assert set(read_manifest(tmp_path / "run" / "manifest.parquet").rows["split"]) == {
        "train",
        "test",
    }


def test_without_labels_health_has_no_neighbours(tmp_path: Path) -> None:
    path = write_tiny_data(tmp_path / "data", label=[None] * COUNT, patient=[None] * COUNT)
    pretrain(tiny_config(path, "run.steps=1"), tmp_path / "run")
    assert "knn" not in read_history(tmp_path / "run" / "health.jsonl")[-1]


def test_collapse_ends_the_run_and_keeps_log_and_checkpoint(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks: list[int] = []

    def check(self: CollapseGuard, health: object) -> str | None:
        checks.append(len(checks))
        if len(checks) == 4:
            raise CollapseError("the embeddings have collapsed")
        return "the embeddings may be collapsing" if len(checks) == 3 else None

    monkeypatch.setattr(CollapseGuard, "check", check)
    run = tmp_path / "run"
    with pytest.raises(CollapseError):
        pretrain(tiny_config(data, "run.health_every=1"), run)
    assert [step for step, _ in losses(run)] == [1, 2, 3]
    assert [path.name for path in (run / "checkpoint").iterdir()] == ["step-00000002"]


def run_program(run: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a run in a process of its own, with as many threads; its messages go beside it."""
    command = [sys.executable, "-m", "tests.medssl.tiny_run", str(run), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    with messages(run).open("ab") as file:
        return subprocess.Popen(command, env=environment, stderr=file)


def messages(run: Path) -> Path:
    return run.with_suffix(".txt")


def wait_for_lines(log: Path, count: int) -> None:
    deadline = time.monotonic() + 120
    while not log.exists() or log.read_bytes().count(b"\n") < count:
        assert time.monotonic() < deadline, "the program makes no progress"
        time.sleep(0.005)


@pytest.mark.slow
def test_a_run_killed_at_any_moment_continues_bit_for_bit(tmp_path: Path) -> None:
    data = write_tiny_data(tmp_path)
    settings = ["method.name=moco_v2", "method.queue_size=16", "run.steps=40"]
    pretrain(tiny_config(data, *settings), tmp_path / "whole")
    killed = tmp_path / "killed"
    for name, lines in (("health.jsonl", 1), ("log.jsonl", 9)):
        resume = ["--resume"] if killed.exists() else []
        process = run_program(killed, *settings, *resume)
        wait_for_lines(killed / name, lines)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert 9 <= len(losses(killed)) < 40
    assert run_program(killed, *settings, "--resume").wait(120) == 0, messages(killed).read_text()
    assert losses(killed) == losses(tmp_path / "whole")
    assert not list(killed.rglob(".*"))


@pytest.mark.slow
def test_two_processes_have_the_losses_and_batch_norms_of_one(tmp_path: Path) -> None:
    data = write_tiny_data(tmp_path)
    settings = ["method.name=moco_v2", "method.queue_size=16"]
    pretrain(tiny_config(data, *settings), tmp_path / "one")
    process = run_program(tmp_path / "two", *settings, "run.devices=2")
    assert process.wait(180) == 0, messages(tmp_path / "two").read_text()
    one, two = ([loss for _, loss in losses(tmp_path / name)] for name in ("one", "two"))
    assert two == pytest.approx(one, rel=1e-4)
    one_net, two_net = (load_encoder(tmp_path / n).backbone.state_dict() for n in ("one", "two"))
    assert one_net.keys() == two_net.keys()
    variances = [key for key in one_net if key.endswith("running_var")]
    for key in variances:
        torch.testing.assert_close(two_net[key], one_net[key], rtol=1e-3, atol=1e-5)
    assert len(variances) == 2
    assert "distributed" not in messages(tmp_path / "two").read_text()


@pytest.mark.slow
def test_two_processes_end_alike_when_one_cannot_go_on(tmp_path: Path) -> None:
    write_tiny_data(tmp_path)
    process = run_program(tmp_path / "run", "run.devices=2", "run.batch_size=48")
    assert process.wait(180) == 2
    printed = messages(tmp_path / "run").read_text()
    assert "largest possible is --batch-size 24" in printed
    assert "Traceback" not in printed
