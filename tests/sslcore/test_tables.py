from collections.abc import Callable
from functools import partial
from pathlib import Path

import polars as pl
import pytest

from sslcore.errors import OutputError
from sslcore.tables import write_delimited, write_parquet


def test_a_table_and_its_facts_can_be_read_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "table.parquet"
    write_parquet(pl.DataFrame({"a": [1, 2]}), path, about={"who": "test"})
    assert pl.read_parquet(path)["a"].to_list() == [1, 2]
    assert pl.read_parquet_metadata(path)["who"] == "test"


def test_a_table_as_text_can_be_read_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "table.tsv"
    write_delimited(pl.DataFrame({"a": ["x,\ty", None]}), path, separator="\t")
    assert pl.read_csv(path, separator="\t")["a"].to_list() == ["x,\ty", None]


@pytest.mark.parametrize(
    "write", [write_parquet, partial(write_delimited, separator=",")], ids=["parquet", "text"]
)
def test_a_full_disk_is_an_output_error_and_the_old_file_stays(
    tmp_path: Path, write: Callable[[pl.DataFrame, Path], None]
) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    path = tmp_path / "table.any"
    path.write_text("old")
    table = pl.DataFrame({"a": range(10_000)})

    class OnFullDisk(pl.DataFrame):
        def write_parquet(self, *args: object, **options: object) -> None:
            super().write_parquet(full)

        def write_csv(self, *args: object, **options: object) -> None:
            super().write_csv(full)

    with pytest.raises(OutputError, match=r"cannot write .*table\.any"):
        write(OnFullDisk(table), path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
