import numpy as np
import polars as pl
import pytest

from recssl.report import words
from recssl.report.item_names import ItemNames
from recssl.report.log_figures import (
    concentration_curve,
    history_lengths,
    over_time,
    popularity_curve,
)
from recssl.report.results import Results
from sslcore.plots import to_svg


def items(**columns: list[str | None]) -> pl.DataFrame:
    count = len(next(iter(columns.values())))
    return pl.DataFrame({"item": range(count), "id": [f"i{n}" for n in range(count)], **columns})


def test_a_title_column_is_found_by_name_and_gaps_fall_back_to_the_id() -> None:
    names = ItemNames.of(items(movie_title=["One", None], year=["1999", "2000"]))
    assert [names.name(item) for item in (0, 1)] == ["One", "i1"]
    assert [names.note(item) for item in (0, 1)] == ["id i0", ""]


def test_without_features_items_are_their_ids() -> None:
    names = ItemNames.of(items(x=["a", "b"]).drop("x"))
    assert names.name(1) == "i1"
    assert names.kind_groups(np.array([0, 1]))[1] == []


def test_a_column_whose_values_hardly_repeat_is_no_kind() -> None:
    assert ItemNames.of(items(genre=[str(n) for n in range(9)])).kinds is None
    assert ItemNames.of(items(genre=["a", "b"] * 5)).kind_column == "genre"


def test_rare_kinds_are_grouped_as_others() -> None:
    kinds = [f"k{n % 10}" for n in range(80)] + ["k0", "k1", None]
    names = ItemNames.of(items(Category=kinds))
    groups, shown = names.kind_groups(np.arange(83))
    assert len(shown) == 8
    assert {"k0", "k1"} <= set(shown)
    assert groups[-1] == -1
    assert all(shown[group] == kinds[item] for item, group in enumerate(groups) if group >= 0)


def test_a_long_title_is_cut() -> None:
    name = ItemNames.of(items(title=["x" * 99])).name(0)
    assert len(name) == 48
    assert name.endswith("\N{HORIZONTAL ELLIPSIS}")


def test_methods_are_described_in_words() -> None:
    assert words.described("lightgcn+bpr+simgcl") == "LightGCN with BPR and SimGCL"
    assert words.described("new") == "new"


def results(ks: list[int]) -> Results:
    def model(name: str, value: float) -> dict[str, object]:
        return {"name": name, "metrics": {f"recall@{k}": {"value": value} for k in ks}}

    return Results.model_validate(
        {
            "protocol": {"part": "test", "users": 1, "ks": ks},
            "models": [model("run", 0.5), model("ease", 0.7), model("popularity", 0.1)],
            "comparisons": [
                {"model": "run", "against": "ease", "differences": {"recall@20": {"value": -0.2}}}
            ],
        }
    )


@pytest.mark.parametrize(("ks", "k"), [([10, 20, 50], 20), ([1, 5, 9], 5), ([7], 7)])
def test_the_report_is_about_twenty_or_the_middle(ks: list[int], k: int) -> None:
    assert results(ks).k == k


def test_the_best_baseline_is_the_best_of_a_metric_without_the_run() -> None:
    found = results([20])
    best = found.best_baseline("recall@20")
    assert best is not None
    assert best.name == "ease"
    assert found.best_baseline("ndcg@20") is None
    ahead = found.ahead_of("ease", "recall@20")
    assert ahead is not None
    assert ahead.value == -0.2
    assert found.ahead_of("popularity", "recall@20") is None


@pytest.mark.parametrize("counts", [[0], [1], [3, 0, 1, 1], list(range(2000))])
def test_figures_of_a_log_can_be_drawn_for_any_counts(counts: list[int]) -> None:
    values = np.array(counts)
    for paint in (popularity_curve, concentration_curve, history_lengths):
        assert "<svg" in to_svg(paint(values), name="f", alt="f")


@pytest.mark.parametrize("width", [1, 60, 86_400, 30 * 86_400])
def test_a_log_of_any_duration_has_dates(width: int) -> None:
    starts = (1_700_000_000 + width * np.arange(41)).astype("datetime64[s]")
    counts = {"train": np.ones(40, np.int64), "test": np.zeros(40, np.int64)}
    assert "Nov" in to_svg(over_time(starts, counts), name="f", alt="f")
