"""Nearest neighbours: weights written out, blocks, groups, errors."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sslcore.errors import ShapeError
from sslcore.knn import knn_scores, leave_one_out_scores
from tests.reference.contrastive import cosine


def data(seed: int, count: int = 12, queries: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    train = torch.randn(count, 4, generator=generator)
    labels = torch.randint(0, 3, (count,), generator=generator)
    return train, labels, torch.randn(queries, 4, generator=generator)


def by_hand(train: Tensor, labels: Tensor, query: Tensor, k: int, temperature: float) -> Tensor:
    rows = []
    for point in query.double().tolist():
        near = sorted(
            (
                (cosine(point, other), label)
                for other, label in zip(train.double().tolist(), labels.tolist(), strict=True)
            ),
            reverse=True,
        )[:k]
        votes = [0.0] * 3
        for similarity, label in near:
            votes[label] += math.exp(similarity / temperature)
        rows.append([vote / sum(votes) for vote in votes])
    return torch.tensor(rows)


@given(st.integers(0, 2**31), st.integers(1, 20), st.floats(0.05, 2))
def test_matches_the_vote_written_out(seed: int, k: int, temperature: float) -> None:
    train, labels, query = data(seed)
    actual = knn_scores(train, labels, query, num_classes=3, k=k, temperature=temperature)
    expected = by_hand(train, labels, query, k, temperature)
    torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-4)


def test_blocks_change_nothing() -> None:
    train, labels, query = data(0, queries=7)
    groups = (torch.arange(12) % 4, torch.arange(7) % 4)
    whole = knn_scores(train, labels, query, num_classes=3, groups=groups)
    for block in (1, 2, 7):
        parts = knn_scores(train, labels, query, num_classes=3, groups=groups, block=block)
        torch.testing.assert_close(parts, whole)


def test_length_of_rows_changes_nothing() -> None:
    train, labels, query = data(0)
    expected = knn_scores(train, labels, query, num_classes=3)
    torch.testing.assert_close(knn_scores(9 * train, labels, query / 9, num_classes=3), expected)


def test_a_copy_of_a_training_row_gets_its_class() -> None:
    train, labels, _ = data(0)
    scores = knn_scores(train, labels, train, num_classes=3, k=1)
    assert torch.equal(scores.argmax(dim=1), labels)
    assert torch.equal(scores.sum(dim=1), torch.ones(12))


def test_a_small_temperature_does_not_overflow() -> None:
    train, labels, query = data(0)
    assert knn_scores(train, labels, query, num_classes=3, temperature=1e-4).isfinite().all()


def test_classes_without_a_training_row_score_zero() -> None:
    train, labels, query = data(0)
    scores = knn_scores(train, labels, query, num_classes=5)
    assert scores.shape == (5, 5)
    assert (scores[:, 3:] == 0).all()


def test_leave_one_out_never_asks_the_same_patient() -> None:
    # Every patient has two equal images of a label of its own; the label of the nearest other
    # patient is the only honest answer.
    embeddings = torch.eye(6).repeat_interleave(2, dim=0)
    embeddings += 0.5 * torch.eye(6).roll(1, dims=1).repeat_interleave(2, dim=0)
    labels = groups = torch.arange(6).repeat_interleave(2)
    blind = leave_one_out_scores(embeddings, labels, num_classes=6, k=1)
    assert torch.equal(blind.argmax(dim=1), labels)
    honest = leave_one_out_scores(embeddings, labels, groups, num_classes=6, k=12)
    assert (honest.gather(1, labels[:, None]) == 0).all()


@given(st.integers(0, 2**31))
def test_leave_one_out_is_a_query_without_the_own_group(seed: int) -> None:
    train, labels, _ = data(seed)
    groups = torch.arange(12) % 5
    together = leave_one_out_scores(train, labels, groups, num_classes=3, k=4)
    for row in range(12):
        others = groups != groups[row]
        alone = knn_scores(train[others], labels[others], train[row : row + 1], num_classes=3, k=4)
        torch.testing.assert_close(together[row], alone[0], rtol=1e-4, atol=1e-5)


def test_leave_one_out_without_groups_leaves_out_the_row_itself() -> None:
    train, labels, _ = data(0)
    expected = leave_one_out_scores(train, labels, torch.arange(12), num_classes=3)
    assert torch.equal(leave_one_out_scores(train, labels, num_classes=3), expected)


def test_refuses_a_single_group() -> None:
    train, labels, _ = data(0)
    with pytest.raises(ShapeError, match="no neighbour outside its own group"):
        leave_one_out_scores(train, labels, torch.zeros(12), num_classes=3)


@pytest.mark.parametrize(
    ("train", "labels", "query", "message"),
    [
        ((4, 3), [0, 1, 2, 0], (2, 4), "of one width"),
        ((4,), [0, 1, 2, 0], (2, 4), "of one width"),
        ((4, 3), [0, 1, 2, 0], (0, 3), "count > 0"),
        ((4, 3), [0, 1, 2], (2, 3), r"one label per training row, got \(3,\) for \(4, 3\)"),
        ((0, 3), [], (2, 3), "one label per training row"),
        ((4, 3), [0, 1, 2, 3], (2, 3), "labels from 0 to 2, got 0 to 3"),
        ((4, 3), [0, -1, 2, 0], (2, 3), "got -1 to 2"),
    ],
)
def test_refuses_what_it_cannot_vote_on(
    train: tuple[int, ...], labels: list[int], query: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ShapeError, match=message):
        knn_scores(
            torch.zeros(train),
            torch.tensor(labels, dtype=torch.long),
            torch.zeros(query),
            num_classes=3,
        )
