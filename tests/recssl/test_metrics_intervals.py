"""Intervals come from drawing users again; equal seeds pair the methods."""

import numpy as np
import pytest

from recssl.bootstrap import interval, resampled_means


def test_each_resample_is_the_mean_of_the_users_it_drew() -> None:
    rng = np.random.default_rng(0)
    values, groups = rng.normal(size=(6, 2)), np.array([0, 1, 0, 1, 1, 0])
    found = resampled_means(values, groups, 2, count=40, seed=3)
    picks = np.random.default_rng(3).integers(6, size=(40, 6))
    for row, drawn in enumerate(picks):
        assert found[row, 0].tolist() == pytest.approx(values[drawn].mean(0).tolist())
        for group in (0, 1):
            inside = drawn[groups[drawn] == group]
            expected = values[inside] if len(inside) else values[groups == group]
            assert found[row, 1 + group].tolist() == pytest.approx(expected.mean(0).tolist())


def test_the_interval_is_about_that_of_a_normal_mean() -> None:
    values = np.random.default_rng(1).normal(size=(4000, 1))
    found = resampled_means(values, np.zeros(4000, np.int64), 1, count=2000, seed=0)
    bounds = interval(float(values.mean()), found[:, 0, 0])
    assert bounds["low"] == pytest.approx(values.mean() - 1.96 / 4000**0.5, abs=0.003)
    assert bounds["high"] == pytest.approx(values.mean() + 1.96 / 4000**0.5, abs=0.003)


def test_many_users_are_drawn_in_blocks_of_resamples() -> None:
    values = np.ones((1_500_000, 1))
    found = resampled_means(values, np.zeros(1_500_000, np.int64), 1, count=3, seed=0)
    assert found.tolist() == [[[1.0], [1.0]]] * 3


def test_equal_seeds_draw_equal_users_whatever_is_measured() -> None:
    values = np.random.default_rng(2).normal(size=(30, 4))
    groups = np.zeros(30, np.int64)
    both = resampled_means(values, groups, 1, count=10, seed=7)
    alone = resampled_means(values[:, :1], groups, 1, count=10, seed=7)
    np.testing.assert_allclose(both[:, :, :1], alone, rtol=1e-12)


def test_without_resamples_there_is_no_interval() -> None:
    found = resampled_means(np.ones((3, 2)), np.zeros(3, np.int64), 1, count=0, seed=0)
    assert found.shape == (0, 2, 2)
    assert interval(0.5, found[:, 0, 0]) == {"value": 0.5, "low": None, "high": None}
