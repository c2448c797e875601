"""A method that learns from labels: it gets them, needs them, and is not tested on them."""

from pathlib import Path

import pytest

from medssl.config import FinetuneConfig
from medssl.errors import DataError
from medssl.fewlabels.cohort import gather_cohort
from medssl.pretrain import pretrain
from medssl.run_folder import RunFolder
from sslcore.console import Progress
from sslcore.errors import ConfigError
from sslcore.training.history import read_history
from tests.medssl.tiny_run import COUNT, tiny_config, write_tiny_data

PARTS = ["test" if row % 12 < 3 else "train" for row in range(4 * COUNT)]
CONTENTS = [f"c{row}" for row in range(4 * COUNT)]


def supcon(data: Path, *assignments: str) -> list[float]:
    run = data.parent / f"run{len(assignments)}"
    pretrain(tiny_config(data, "method.name=supcon", "run.steps=2", *assignments), run)
    return [record["loss"] for record in read_history(run / "log.jsonl")]


def gather(run: Path) -> None:
    config = FinetuneConfig(shots=(2,))
    with Progress("finetune") as progress:
        gather_cohort(RunFolder(run), config, None, progress)


def test_labels_of_the_manifest_reach_the_loss(tmp_path: Path) -> None:
    named = write_tiny_data(tmp_path / "named")
    # one label only, and one that no other image has: as if there were none
    alone = write_tiny_data(tmp_path / "alone", label=["plain", *[None] * (COUNT - 1)])
    assert supcon(named)[0] != pytest.approx(supcon(alone)[0], rel=1e-3)


def test_data_without_labels_is_refused_with_the_way_out(tmp_path: Path) -> None:
    data = write_tiny_data(tmp_path / "data", label=[None] * COUNT)
    with pytest.raises(ConfigError, match=r"none of the 24 images has one; give them to the scan"):
        supcon(data)
    assert not (tmp_path / "data" / "run0").exists()


def test_images_whose_labels_were_learnt_are_not_tested(tmp_path: Path) -> None:
    data = write_tiny_data(tmp_path / "data", count=4 * COUNT, content=CONTENTS)
    supcon(data)
    with pytest.raises(DataError, match=r"SupCon learnt from labels, and \d+ test images were"):
        gather(tmp_path / "data" / "run0")


def test_a_test_part_of_the_data_is_left_out_and_tested(tmp_path: Path) -> None:
    data = write_tiny_data(tmp_path / "data", count=4 * COUNT, content=CONTENTS, split=PARTS)
    supcon(data)
    gather(tmp_path / "data" / "run0")
