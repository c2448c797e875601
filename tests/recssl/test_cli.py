"""The command line parses, calls and prints; what it calls is tested elsewhere."""

import re
import shlex
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
import typer
from typer.testing import CliRunner

import recssl
from recssl.cli import app
from recssl.errors import LogError
from recssl.ingest.staging import stage
from recssl.methods.settings import BPRConfig
from recssl.settings.evaluate import EvaluateConfig
from recssl.settings.export import ExportConfig, RecommendConfig
from recssl.settings.ingest import IngestConfig
from recssl.settings.methods import METHODS
from recssl.settings.report import ReportConfig
from recssl.settings.train import DataConfig, TrainConfig
from sslcore.config import Section, dump_config
from sslcore.console import Progress

TABLE = pl.DataFrame({"user": ["u"], "rank": [1], "item": ["i"], "score": [0.5]})


def invoke(*words: object) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """Records calls of the jobs instead of working."""
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def replace(target: str, result: Any) -> None:
        def record(*given: Any, **named: Any) -> Any:
            calls.append((given, named))
            return result

        monkeypatch.setattr(target, record)

    trained = SimpleNamespace(steps=7, best_step=5, recall=0.25, embeddings=Path("e"))
    replace("recssl.ingest.ingest", SimpleNamespace(table=lambda: "the table"))
    replace("recssl.train.train", trained)
    replace("recssl.evaluate.evaluate", {})
    replace("recssl.metrics_table.metrics_table", "the table")
    replace("recssl.export.export", {})
    replace("recssl.recommend.recommend", TABLE)
    replace("recssl.recommend.similar", TABLE)
    replace("recssl.report.build.write_report", Path("r"))
    return calls


@pytest.mark.parametrize(
    ("words", "setting", "section"),
    [
        (("ingest", "log.csv"), "max_bad=0.5", IngestConfig(max_bad=0.5)),
        (("evaluate", "run"), "resamples=3", EvaluateConfig(resamples=3)),
        (("export", "run"), "untrained=keep", ExportConfig(untrained="keep")),
        (("recommend", "run", "--user", "u"), "seen=learnt", RecommendConfig(seen="learnt")),
        (("similar", "run", "--item", "i"), "seen=learnt", RecommendConfig(seen="learnt")),
        (("report", "run"), "users=0", ReportConfig(users=0)),
    ],
)
def test_every_command_takes_a_file_of_settings_and_single_ones(
    called: list[Any],
    tmp_path: Path,
    words: tuple[str, ...],
    setting: str,
    section: Section,
) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(setting.replace("=", ": "))
    for given in (("--config", file), ("--set", setting)):
        called.clear()
        result = invoke(*words, *given)
        assert result.exit_code == 0, result.output
        assert section in called[0][0]


def test_everyday_options_of_training_reach_the_settings(called: list[Any], tmp_path: Path) -> None:
    result = invoke(
        *("train", "data", "--out", tmp_path / "run", "--encoder", "lightgcn", "--method", "bpr"),
        *("--contrast", "simgcl", "--epochs", 3, "--batch-size", 64, "--seed", 5),
        *("--set", "sampling.negatives=uniform"),
    )
    assert result.exit_code == 0, result.output
    (((config, out), named),) = called
    assert isinstance(config, TrainConfig)
    assert (out, named) == (tmp_path / "run", {"resume": False})
    assert (config.encoder.name, config.ranking.name) == ("lightgcn", "bpr")
    assert config.contrast is not None
    assert config.contrast.name == "simgcl"
    assert (config.run.epochs, config.run.batch_size, config.run.seed) == (3, 64, 5)
    assert result.stdout.splitlines() == ["7 steps, best after 5, validation recall 0.2500", "e"]


@pytest.mark.parametrize(
    ("method", "parts"),
    [
        ("bpr", "mf bpr None uniform"),
        ("infonce", "mf sampled_softmax None in_batch"),
        ("sampled_softmax", "mf sampled_softmax None in_batch"),
        ("bsl", "mf bilateral_softmax None shared"),
        ("triplet", "mf triplet None in_batch"),
        ("directau", "mf direct_au None in_batch"),
        ("sgl", "lightgcn bpr sgl uniform"),
        ("simgcl", "lightgcn bpr simgcl uniform"),
        ("xsimgcl", "lightgcn bpr xsimgcl uniform"),
        ("lightgcl", "lightgcn bpr lightgcl uniform"),
        ("ncl", "lightgcn bpr ncl uniform"),
        ("buir", "mf buir None in_batch"),
        ("selfcf", "mf selfcf None in_batch"),
        ("barlow_twins", "mf sampled_softmax barlow_twins in_batch"),
        ("vicreg", "mf sampled_softmax vicreg in_batch"),
        ("moco", "mf sampled_softmax moco_v2 in_batch"),
        ("byol", "mf sampled_softmax byol in_batch"),
        ("simclr", "mf sampled_softmax simclr in_batch"),
        ("simsiam", "mf sampled_softmax simsiam in_batch"),
    ],
)
def test_a_method_by_name_sets_all_that_belongs_to_it(
    called: list[Any], method: str, parts: str
) -> None:
    result = invoke("train", "data", "--method", method)
    assert result.exit_code == 0, result.output
    config = called[0][0][0]
    contrast = config.contrast and config.contrast.name
    made = f"{config.encoder.name} {config.ranking.name} {contrast} {config.sampling.negatives}"
    assert made == parts


def test_the_help_names_all_methods() -> None:
    shown = invoke("train", "--help").stdout
    for name in METHODS:
        assert name in shown


def test_a_method_by_name_takes_the_place_of_that_of_a_file(
    called: list[Any], tmp_path: Path
) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(
        "ranking: {name: sampled_softmax, temperature: 0.3}\n"
        "contrast: {name: simgcl, temperature: 0.5}\nencoder: {name: lightgcn, dim: 8}\n"
    )
    words = ("train", "data", "--config", file, "--method")
    assert invoke(*words, "bpr").exit_code == 0
    assert invoke(*words, "infonce").exit_code == 0
    assert invoke(*words, "simgcl", "--set", "sampling.negatives=hard").exit_code == 0
    bpr, infonce, simgcl = (given[0] for given, _ in called)
    assert (bpr.ranking, bpr.contrast, bpr.encoder.dim) == (BPRConfig(), None, 8)
    assert (infonce.ranking.temperature, infonce.contrast) == (0.3, None)
    assert (simgcl.contrast.temperature, simgcl.sampling.negatives) == (0.5, "hard")


def test_rates_and_weights_of_a_file_stay_when_its_method_is_named(
    called: list[Any], tmp_path: Path
) -> None:
    recipe = Path(recssl.__file__).parents[1] / "configs" / "papers" / "rec" / "ncl.yaml"
    assert invoke("train", "data", "--config", recipe, "--method", "ncl").exit_code == 0
    resolved = tmp_path / "config.yaml"
    resolved.write_text(dump_config(TrainConfig(data=DataConfig(path=tmp_path))), encoding="utf-8")
    assert invoke("train", "--config", resolved, "--method", "ncl").exit_code == 0
    (of_paper, _), (of_run, _) = (given for given, _ in called)
    assert (of_paper.optim.learning_rate, of_paper.contrast_weight) == (0.002, 0.0061)
    assert (of_run.optim.learning_rate, of_run.contrast_weight) == (0.01, 0.01)


def test_lists_go_to_stdout_as_tab_separated_text(called: list[Any]) -> None:
    result = invoke("recommend", "run", "--user", "u", "-k", 3)
    assert result.stdout == "user\trank\titem\tscore\nu\t1\ti\t0.5000\n"
    assert called[0][1] == {
        "users": ["u"],
        "history": None,
        "new_items": None,
        "k": 3,
        "out": None,
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("train",), "give the folder of a data set"),
        (("train", "--out", "nowhere", "--resume"), "nowhere holds no run to continue"),
        (("train", "data", "--method", "bprr"), "did you mean 'bpr'? known: bpr, infonce, bsl"),
        (("train", "data", "--method", "dino"), "--method: unknown 'dino'; known: bpr, "),
        (("train", "data", "--method", "sgl", "--encoder", "mf"), "encoder.name: lightgcn"),
        (("train", "data", "--set", "run.epoch=3"), "did you mean 'epochs'?"),
        (("ingest", "log.csv", "--max-bad", "2"), "max_bad: Input should be less than or equal"),
        (("ingest", "log.csv", "--split", "tim"), "did you mean 'time'?"),
        (("evaluate", "run", "--set", "ks=[0]"), "rising numbers"),
        (("recommend", "nowhere", "--user", "u"), "nowhere"),
    ],
)
def test_a_wrong_word_is_one_message_and_status_2(words: tuple[str, ...], message: str) -> None:
    result = invoke(*words)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_messages_name_options_that_there_are() -> None:
    command = typer.main.get_command(app)
    known = {"--help", "--version"}
    for part in command.commands.values():  # type: ignore[attr-defined]
        known |= {word for option in part.params for word in option.opts}
    assert {"--out", "--set", "--item-features"} <= known
    for path in sorted(Path(recssl.__file__).parent.rglob("*.py")):
        named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", path.read_text("utf-8")))
        assert not named - known, path


def test_the_way_out_of_times_in_another_form_leads_out(called: list[Any], tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user,item,time\n1,2,31/12/2024 10:00\n")
    source, progress = [tmp_path / "log.csv"], Progress("ingest", stream=StringIO())
    with pytest.raises(LogError) as refused:
        stage(source, IngestConfig(), tmp_path, progress)
    words = shlex.split(str(refused.value).rpartition("say how it is written with ")[2])
    assert invoke("ingest", "log.csv", *words).exit_code == 0
    assert called[0][0][1] == IngestConfig(time_format="%d/%m/%Y %H:%M")


def test_the_help_of_ingest_names_settings_that_there_are() -> None:
    shown = invoke("ingest", "--help").stdout.partition("form of the file): ")[2]
    named = {word.strip() for word in shown.split(",")}
    assert {"min_per_user", "duplicates", "since", "separator"} <= named
    assert named <= {*IngestConfig.model_fields}


def test_version_is_one_line() -> None:
    assert invoke("--version").stdout.startswith("recssl ")
