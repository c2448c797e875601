import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from medssl.cli import app
from medssl.config import DistillConfig, EmbedConfig, FinetuneConfig, PretrainConfig, ReportConfig
from medssl.scanning.settings import ScanConfig
from sslcore.cli import build_app
from sslcore.config import Section, dump_config
from tests.medssl.make import write_png


def invoke(*words: object) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def pretrained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[PretrainConfig, Path, bool]]:
    """Records the calls of `medssl.pretrain.pretrain` instead of training."""
    calls: list[tuple[PretrainConfig, Path, bool]] = []

    def record(config: PretrainConfig, out: Path, *, resume: bool) -> SimpleNamespace:
        calls.append((config, out, resume))
        return SimpleNamespace(encoder=out / "encoder.safetensors", steps=7, final_loss=0.5)

    monkeypatch.setattr("medssl.pretrain.pretrain", record)
    return calls


@pytest.fixture
def finetuned(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Records the calls of `medssl.fewlabels.finetune.finetune` instead of training."""
    calls: list[tuple[Any, ...]] = []

    def record(run: Path, config: FinetuneConfig, out: Path, *, data: Any, progress: Any) -> Any:
        calls.append((run, config, out, data))
        return SimpleNamespace(table=lambda: "the table")

    monkeypatch.setattr("medssl.fewlabels.finetune.finetune", record)
    return calls


def test_predict_and_distill_pass_on_what_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls: list[tuple[Any, ...]] = []

    def predict(results: Path, data: Path, out: Path, config: EmbedConfig) -> Any:
        calls.append((results, data, out, config.batch_size))
        return SimpleNamespace(counts={"ill": 2, "well": 3}, failures=0)

    def distill(
        results: Path, config: DistillConfig, out: Path, *, data: Any, progress: Any
    ) -> Any:
        calls.append((results, config.backbone, config.steps, config.temperature, out, data))
        return SimpleNamespace(table=lambda: "the table")

    monkeypatch.setattr("medssl.predict.predict", predict)
    monkeypatch.setattr("medssl.fewlabels.distill.distill", distill)
    done = invoke("predict", "res", "images", "--out", tmp_path / "p.parquet", "--batch-size", 9)
    assert done.output.splitlines() == ["ill  2", "well  3", str(tmp_path / "p.parquet")]
    done = invoke(
        *("distill", "res", "--data", "images", "--out", "small", "--backbone", "resnet18"),
        *("--steps", 7, "--set", "temperature=0.5"),
    )
    assert done.stdout.splitlines() == ["the table", "small"]
    assert calls == [
        (Path("res"), Path("images"), tmp_path / "p.parquet", 9),
        (Path("res"), "resnet18", 7, 0.5, Path("small"), Path("images")),
    ]


@pytest.mark.parametrize("words", [(), ("finetune",), ("predict",), ("distill",)])
def test_help_imports_nothing_heavy(words: tuple[str, ...]) -> None:
    script = (
        "import sys\n"
        "from medssl.cli import app\n"
        "try:\n"
        f"    app([*{list(words)}, '--help'])\n"
        "except SystemExit as stop:\n"
        "    assert stop.code == 0\n"
        "heavy = {'torch', 'monai', 'polars', 'numpy', 'pydicom', 'scipy', 'sklearn'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)\n"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_scan_of_files_that_have_not_changed_loads_no_reader(tmp_path: Path) -> None:
    write_png(tmp_path / "in" / "a.png", np.eye(9, dtype=np.uint8))
    words = ["scan", str(tmp_path / "in"), "--out", str(tmp_path / "manifest.parquet")]
    script = (
        "import sys\n"
        "from medssl.cli import app\n"
        "try:\n"
        f"    app({words})\n"
        "except SystemExit as stop:\n"
        "    assert stop.code == 0\n"
        "heavy = {'torch', 'pydicom', 'nibabel', 'scipy', 'tifffile', 'PIL', 'imagecodecs'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)\n"
    )
    first, second = (
        subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
        for _ in range(2)
    )
    assert "pydicom" in first.stderr
    assert second.returncode == 0, second.stderr


def test_everyday_options_win_over_the_file_and_assignments_over_both(
    tmp_path: Path, pretrained: list[tuple[PretrainConfig, Path, bool]]
) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("method: {name: byol}\nrun: {epochs: 3, seed: 5, batch_size: 16}\n")
    result = invoke(
        *("pretrain", "images", "--out", tmp_path / "run", "--config", file),
        *("--epochs", 4, "--image-size", 32, "--device", "cpu", "--backbone", "resnet10"),
        *("--set", "run.batch_size=8", "--set", "views.strength=0.5"),
    )
    assert result.exit_code == 0, result.output
    ((config, out, resume),) = pretrained
    assert (out, resume) == (tmp_path / "run", False)
    assert config.data.path == Path("images")
    assert (config.method.name, config.backbone.name) == ("byol", "resnet10")
    assert (config.run.epochs, config.run.seed, config.run.batch_size) == (4, 5, 8)
    assert (config.image_size, config.run.device, config.views.strength) == (32, "cpu", 0.5)


def test_a_changed_option_goes_before_what_a_run_resolved_from_the_old_one(
    tmp_path: Path, pretrained: list[tuple[PretrainConfig, Path, bool]]
) -> None:
    file = tmp_path / "config.yaml"
    marker = dump_config(Section()).splitlines()[0]
    file.write_text(
        f"{marker}\n"
        "data: {path: images, canvas: 74, channels: 1}\nviews: {preset: ct}\nimage_size: 64\n"
        "backbone: {stem: medium}\n"
        "optim: {name: adamw, learning_rate: 0.1}\nrun: {epochs: 3, steps: 30}\n"
    )
    options = ("--epochs", 4, "--image-size", 32, "--set", "optim.name=sgd")
    for changes in ((), options, ("others",)):
        invoke("pretrain", "--out", tmp_path / "run", "--config", file, *changes)
    same, changed, other = (config for config, _, _ in pretrained)
    assert (same.data.canvas, same.backbone.stem) == (74, "medium")
    assert (same.optim.learning_rate, same.run.steps) == (0.1, 30)
    assert (changed.data.canvas, changed.backbone.stem) == (None, "auto")
    assert (changed.optim.learning_rate, changed.run.steps) == (None, None)
    assert (changed.data.channels, changed.views.preset) == (1, "ct")
    assert (other.data.channels, other.data.canvas, other.views.preset) == ("auto", None, "auto")


def test_resume_without_a_run_says_what_to_type(tmp_path: Path) -> None:
    result = invoke("pretrain", "--out", tmp_path / "run", "--resume")
    assert result.exit_code == 2
    assert "holds no run to continue; name the run's folder with --out" in result.stderr
    assert not (tmp_path / "run").exists()


def test_resume_starts_from_the_configuration_of_the_run(
    tmp_path: Path, pretrained: list[tuple[PretrainConfig, Path, bool]]
) -> None:
    (tmp_path / "config.yaml").write_text("data: {path: images}\nrun: {epochs: 3}\n")
    result = invoke("pretrain", "--out", tmp_path, "--resume")
    assert result.exit_code == 0, result.output
    ((config, _, resume),) = pretrained
    assert resume
    assert config.run.epochs == 3


def test_results_go_to_stdout(
    tmp_path: Path, pretrained: list[tuple[PretrainConfig, Path, bool]]
) -> None:
    result = invoke("pretrain", "images", "--out", tmp_path / "run")
    assert result.stdout.splitlines()[-1] == str(tmp_path / "run" / "encoder.safetensors")
    assert result.stderr == ""


def test_pretrain_without_data_says_what_to_give() -> None:
    result = invoke("pretrain")
    assert result.exit_code == 2
    assert "give a folder, manifest.parquet or MedMNIST .npz" in result.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--method", "simcrl"), "did you mean 'simclr'? known: "),
        (("--set", "run.epoch=3"), "did you mean 'epochs'? known: "),
        (("--set", "method.temperatur=3"), "did you mean 'temperature'?"),
        (("--set", "nonsense"), "expected section.key=value"),
        (("--batch-size", "1"), "run.batch_size: Input should be greater than 1"),
        (("--config", "absent.yaml"), "absent.yaml"),
    ],
)
def test_a_wrong_setting_is_one_message_and_status_2(words: tuple[str, ...], message: str) -> None:
    result = invoke("pretrain", "images", *words)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("scan", "images", "--workers", "-1"),
        ("embed", "run", "images", "--batch-size", "0"),
        ("report", "run", "--set", "map_points=0"),
    ],
)
def test_a_number_that_is_too_small_is_refused(words: tuple[str, ...]) -> None:
    result = invoke(*words)
    assert result.exit_code == 2
    key = words[-1].partition("=")[0] if words[-2] == "--set" else words[-2].strip("-")
    assert f"error: {key.replace('-', '_')}: Input should be greater than" in result.stderr


@pytest.mark.parametrize(
    ("command", "target", "setting", "expected"),
    [
        (("scan", "x"), "medssl.scanning.scan.scan", "workers: 3", ScanConfig(workers=3)),
        (("embed", "x", "y"), "medssl.embed.embed", "batch_size: 3", EmbedConfig(batch_size=3)),
        (
            ("report", "x"),
            "medssl.report.build.write_report",
            "queries: 3",
            ReportConfig(queries=3),
        ),
    ],
)
def test_every_command_takes_a_file_of_settings_and_single_ones(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    command: tuple[str, ...],
    target: str,
    setting: str,
    expected: Section,
) -> None:
    seen: list[Any] = []

    def record(*given: Any, **_: Any) -> SimpleNamespace:
        seen.extend(given)
        return SimpleNamespace(table=str, count=1)

    monkeypatch.setattr(target, record)
    file = tmp_path / "settings.yaml"
    file.write_text(setting)
    for words in (("--config", file), ("--set", setting.replace(": ", "="))):
        seen.clear()
        result = invoke(*command, *words)
        assert result.exit_code == 0, result.output
        assert expected in seen


def test_an_unknown_method_lists_all_methods() -> None:
    result = invoke("pretrain", "images", "--method", "simcrl")
    for name in ("simclr", "moco_v2", "byol", "simsiam", "barlow_twins", "vicreg"):
        assert name in result.stderr


def test_an_unknown_backbone_suggests_the_nearest(tmp_path: Path) -> None:
    result = invoke(
        "pretrain", tmp_path, "--backbone", "resnet19", "--out", tmp_path / "run", "--device", "cpu"
    )
    assert result.exit_code == 2
    assert "did you mean 'resnet18'?" in result.stderr
    assert not (tmp_path / "run").exists()


def test_repeated_fractions_and_shots_reach_the_configuration(
    tmp_path: Path, finetuned: list[tuple[Any, ...]]
) -> None:
    result = invoke(
        *("finetune", tmp_path, "--fraction", 0.1, "--fraction", 1, "--shots", 5, "--repeats", 2),
        *("--labels", "labels.csv", "--mode", "full", "--split", "given", "--seed", 3),
        *("--data", "other", "--out", tmp_path / "results", "--set", "bootstrap=100"),
    )
    assert result.exit_code == 0, result.output
    ((run, config, out, data),) = finetuned
    assert (run, out, data) == (tmp_path, tmp_path / "results", Path("other"))
    assert (config.fractions, config.shots, config.repeats) == ((0.1, 1.0), (5,), 2)
    assert (config.labels, config.mode, config.split) == (Path("labels.csv"), "full", "given")
    assert (config.bootstrap, config.seed, config.class_folders) == (100, 3, False)
    assert result.stdout.splitlines() == ["the table", str(tmp_path / "results")]


def test_options_that_are_not_given_leave_the_file_in_charge(
    tmp_path: Path, finetuned: list[tuple[Any, ...]]
) -> None:
    file = tmp_path / "few.yaml"
    file.write_text("class_folders: true\nshots: [10]\nmode: full\n")
    assert invoke("finetune", tmp_path, "--config", file).exit_code == 0
    config = finetuned[0][1]
    assert (config.class_folders, config.shots, config.mode) == (True, (10,), "full")


def test_ctrl_c_ends_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("medssl.pretrain.pretrain", interrupt)
    result = invoke("pretrain", "images")
    assert result.exit_code == 130
    assert "interrupted" in result.stderr


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("medssl.pretrain.pretrain", fail)
    assert isinstance(invoke("pretrain", "images").exception, ZeroDivisionError)


def test_the_demo_stops_where_a_command_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def demo(out: Path, *, run_command: Any, seed: int) -> Path:
        run_command(["pretrain", "images", "--method", "none"])
        raise AssertionError("went on after a failure")

    monkeypatch.setattr("medssl.demo.run_demo", demo)
    result = invoke("demo")
    assert result.exit_code == 2
    assert "unknown 'none'" in result.stderr


def test_version_is_one_line() -> None:
    result = invoke("--version")
    assert result.exit_code == 0
    assert result.stdout.startswith("medssl ")


def test_another_method_for_a_run_that_goes_on_drops_the_settings_of_the_old_one(
    tmp_path: Path, pretrained: list[tuple[PretrainConfig, Path, bool]]
) -> None:
    config = PretrainConfig.model_validate(
        {"data": {"path": "images"}, "method": {"name": "simclr", "temperature": 0.3}}
    )
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(dump_config(config))
    result = invoke("pretrain", "--out", tmp_path / "run", "--resume", "--method", "byol")
    assert result.exit_code == 0, result.output  # the run itself then refuses, by name
    ((given, _, _),) = pretrained
    assert given.method.name == "byol"


@pytest.mark.parametrize(
    ("given", "spins"),
    [({}, "2000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "PASSIVE"}, None)],
)
def test_threads_wait_as_the_user_says_else_for_a_moment(
    given: dict[str, str], spins: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    build_app()
    assert os.environ.get("GOMP_SPINCOUNT") == spins
