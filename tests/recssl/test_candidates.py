"""New items stand in lists beside those of the log, each under its own id."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recssl.candidates import Candidates, run_note
from recssl.errors import UnknownIdError
from recssl.run_folder import RunFolder
from recssl.settings.export import RecommendConfig
from recssl.trained_run import TrainedRun, open_run
from sslcore.errors import ConfigError
from sslcore.tables import write_parquet
from tests.recssl.runs import DIM, ITEMS, grouped_dataset, make_run

CONFIG = RecommendConfig()


@pytest.fixture
def opened(tmp_path: Path) -> TrainedRun:
    """Items 0 to 39, of which all but the last are trained."""
    dataset = grouped_dataset(tmp_path / "data", item_ids=list(range(ITEMS)))
    return open_run(make_run(tmp_path / "run", dataset), CONFIG.data)


def new_items(opened: TrainedRun, ids: list[str]) -> Path:
    vectors = np.arange(len(ids) * DIM, dtype=np.float32).reshape(-1, DIM)
    table = pl.DataFrame({"id": ids, "embedding": vectors.tolist()})
    table = table.cast({"embedding": pl.List(pl.Float32)})
    path = opened.folder / "new.parquet"
    write_parquet(table, path, about=run_note(RunFolder(opened.folder).read_embeddings().info))
    return path


@pytest.mark.parametrize("new", ["007", "+7", "-07", " 7", "7.0", "n7"])
def test_an_id_that_is_no_plain_integer_stays_as_it_is(opened: TrainedRun, new: str) -> None:
    found = Candidates.of(opened, CONFIG, new_items(opened, [new, "100"]))
    assert found.ids.to_list() == [*map(str, range(ITEMS - 1)), new, "100"]
    places = found.find(["7", new, "100"], opened)
    assert places.tolist() == [7, ITEMS - 1, ITEMS]


@pytest.mark.parametrize("new", ["100", "-5"])
def test_plain_integers_stay_integers(opened: TrainedRun, new: str) -> None:
    found = Candidates.of(opened, CONFIG, new_items(opened, [new]))
    assert found.ids.to_list() == [*range(ITEMS - 1), int(new)]
    assert found.find([new], opened).tolist() == [ITEMS - 1]
    with pytest.raises(UnknownIdError, match=r"\+9"):
        found.find(["+9"], opened)


def test_an_id_that_stands_twice_is_refused(opened: TrainedRun) -> None:
    with pytest.raises(ConfigError, match=r"new\.parquet: 80 stands in it twice"):
        Candidates.of(opened, CONFIG, new_items(opened, ["90", "80", "80"]))


def test_an_id_that_the_data_set_has_is_refused(opened: TrainedRun) -> None:
    with pytest.raises(ConfigError, match="7 is no new item"):
        Candidates.of(opened, CONFIG, new_items(opened, ["007", "7"]))
