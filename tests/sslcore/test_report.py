import numpy as np
import pytest

from sslcore.plots import to_svg
from sslcore.report.choosing import apart, evenly, in_turns
from sslcore.report.comparing import difference_cell, number_cell, verdict
from sslcore.report.history import history_drawings, history_points, term_names
from sslcore.report.intervals import IntervalRow, interval_ends, interval_rows
from sslcore.report.maps import point_map
from sslcore.report.measures import Measure
from sslcore.report.page import render_page
from sslcore.report.parts import Note, Page, Section
from sslcore.report.projection import nearest, project, share_of_equal_neighbours, unit_rows
from sslcore.report.setup import setup_section, without_paths
from tests.page_reader import Reader


def test_configurations_lose_their_paths() -> None:
    tree = {"data": {"path": "x", "splits": ["a", "/b"]}, "labels": None, "deep": [{"p": "c\\d"}]}
    hidden = "(a path, not shown)"
    assert without_paths(tree) == {
        "data": {"path": hidden, "splits": ["a", hidden]},
        "labels": None,
        "deep": [{"p": hidden}],
    }


def test_neighbours_are_of_other_patients() -> None:
    units = unit_rows(np.array([[1, 0], [1, 0.01], [1, 0.1], [0, 1]]))
    patients = ["a", "a", None, "b"]
    assert [index for index, _ in nearest(units, patients, 0, most=3)] == [2, 3]
    assert [index for index, _ in nearest(units, patients, 2, most=2)] == [1, 0]


def test_the_share_of_equal_neighbours_counts_and_knows_chance() -> None:
    units = unit_rows(np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1]]))
    assert share_of_equal_neighbours(units, ["x", "x", "y", "y"]) == (1, pytest.approx(1 / 3))
    apart_from = ["p", "p", "q", "q"]
    share = share_of_equal_neighbours(units, ["x", "x", "y", "y"], apart_from=apart_from)
    assert share == (0, 0)
    assert share_of_equal_neighbours(units, ["x", None, None, "x"]) is None


def test_the_map_keeps_groups_together_and_repeats_itself() -> None:
    rng = np.random.default_rng(0)
    embeddings = np.concatenate([rng.normal(size=(20, 5)) + 9 * np.eye(5)[axis] for axis in (0, 1)])
    points = project(embeddings, seed=0)
    assert points.min() == 0
    assert points.max() == 1
    gap = np.linalg.norm(points[:20].mean(0) - points[20:].mean(0))
    assert gap > 2 * points[:20].std()
    np.testing.assert_array_equal(points, project(embeddings, seed=0))


def test_a_collapsed_encoder_is_one_point_on_the_map() -> None:
    assert (project(np.ones((12, 4)), seed=0) == 0.5).all()


def test_chosen_images_are_even_apart_and_of_all_groups() -> None:
    assert evenly(10, 3).tolist() == [0, 4, 9]
    assert evenly(2, 3).tolist() == [0, 1]
    points = np.random.default_rng(0).uniform(size=(200, 2))
    kept = points[apart(points, distance=0.1, most=50)]
    gaps = np.abs(kept[:, None] - kept).max(-1) + np.eye(len(kept))
    assert gaps.min() >= 0.1
    assert in_turns(np.array(["a", "a", "a", "b"]), 4) == [0, 3, 2]
    assert in_turns(np.array([]), 4) == []


def test_a_verdict_needs_an_interval_that_leaves_out_zero() -> None:
    assert verdict(Measure(value=0.1, low=0.05, high=0.2), "X") == ("+0.100, better than X", "good")
    worse = Measure(value=-0.1, low=-0.2, high=-0.01)
    assert verdict(worse, "X") == ("\N{MINUS SIGN}0.100, worse than X", "bad")
    unclear = Measure(value=0.1, low=-0.1, high=0.2)
    assert verdict(unclear, "X") == ("+0.100, no clear difference", "neutral")
    assert verdict(Measure(value=0.1), "X") == ("", "neutral")
    assert verdict(None, "X") == ("", "neutral")


def test_cells_show_a_dash_for_what_was_not_measured() -> None:
    assert number_cell(None, strong=True).text == "\N{EN DASH}"
    assert difference_cell(None).text == "\N{EN DASH}"
    assert difference_cell(Measure(value=0.1, low=0.05, high=0.2)).strong
    assert not difference_cell(Measure(value=0.1, low=-0.05, high=0.2)).strong


def test_history_skips_what_a_record_lacks_and_finds_terms() -> None:
    records = [{"step": 1, "loss": 2.0, "terms": {"a": 1}}, {"step": 2, "loss": None, "b": "x"}]
    assert history_points(records, "loss") == ([1], [2.0])
    assert history_points(records, "a") == ([1], [1.0])
    assert history_points(records, "b") == ([], [])
    assert "a" in term_names(records, frozenset({"step", "loss", "terms", "b"}), most=3)
    drawings = history_drawings(records, {"loss": ("Loss", "c"), "none": ("None", "d")}, "log")
    assert [drawing.caption for drawing in drawings] == ["c"]


def test_an_interval_that_is_missing_has_no_length() -> None:
    measures = [Measure(value=1.0), Measure(value=2.0, low=1.5, high=3.0)]
    low, high = interval_ends(measures, np.array([1.0, 2.0]))
    assert low.tolist() == [1.0, 1.5]
    assert high.tolist() == [1.0, 3.0]


def test_equal_values_without_intervals_can_be_drawn() -> None:
    rows = [IntervalRow(name, Measure(value=0.0), "0", 0) for name in "ab"]
    for from_zero in (True, False):
        figure = interval_rows(rows, title="t", from_zero=from_zero)
        assert "<svg" in to_svg(figure, name="rows", alt="rows")


def test_labels_of_a_map_stand_in_it_as_text() -> None:
    points = np.array([[0.1, 0.2], [0.9, 0.8]])
    groups = np.array([0, -1])
    weights = np.array([0.5, 2.0])
    figure = point_map(points, groups, ["a"], weights=weights, labels=[(1, "Five & <dime>")])
    svg = to_svg(figure, name="map", alt="map")
    assert "Five &amp; &lt;dime&gt;</text>" in svg


def test_a_page_escapes_what_it_shows_and_needs_no_network() -> None:
    section = Section("one", "One <b>", (Note("<script>alert(1)</script>"),))
    setup = setup_section({}, ("numpy", "no-such-package"))
    text = render_page(Page("kind", "head & line", "", "", (), (section, setup), "foot"))
    reader = Reader(text)
    assert "script" not in reader.tags
    assert "not installed" in text
    assert "default-src 'none'" in text
