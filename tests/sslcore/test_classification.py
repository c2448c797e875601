"""Hard and soft cross-entropy: parity with the formula, both ends, precision, errors."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sslcore.errors import ShapeError
from sslcore.objectives.classification import classification_loss, soft_label_loss
from tests.reference.checks import assert_autocast_changes_nothing, assert_finite_at_the_edge
from tests.reference.classification import classification_by_hand, soft_labels_by_hand
from tests.reference.waves import pair

shapes = st.tuples(st.integers(1, 9), st.integers(2, 6))
seeds = st.integers(0, 2**31)


@given(shapes, seeds)
def test_hard_labels_match_the_formula_written_out(shape: tuple[int, int], seed: int) -> None:
    scores, _ = pair(shape, seed)
    answers = torch.arange(shape[0]) % shape[1]
    loss, terms = classification_loss(scores, answers=answers)
    expected = classification_by_hand(scores.tolist(), answers.tolist())
    assert loss.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    right = [max(range(shape[1]), key=row.__getitem__) for row in scores.tolist()]
    assert terms["accuracy"].item() == pytest.approx(
        sum(a == b for a, b in zip(right, answers.tolist(), strict=True)) / shape[0]
    )


@given(shapes, seeds, st.floats(0.1, 4.0))
def test_soft_labels_match_the_formula_written_out(
    shape: tuple[int, int], seed: int, temperature: float
) -> None:
    scores, teacher = pair(shape, seed)
    expected = soft_labels_by_hand(scores.tolist(), teacher.tolist(), temperature)
    actual = soft_label_loss(scores, teacher, temperature=temperature).item()
    assert actual == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_both_ends_of_hard_labels() -> None:
    answers = torch.tensor([0, 3, 1])
    loss, terms = classification_loss(torch.zeros(3, 4), answers=answers)
    assert loss.item() == pytest.approx(math.log(4))
    certain = 100 * torch.nn.functional.one_hot(answers, 4).float()
    loss, terms = classification_loss(certain, answers=answers)
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert terms["accuracy"] == 1


def test_soft_labels_are_cheapest_where_both_agree_and_then_cost_their_entropy() -> None:
    scores, teacher = pair((7, 5), seed=3)
    chances = teacher.softmax(dim=1)
    entropy = -(chances * chances.log()).sum(dim=1).mean()
    torch.testing.assert_close(soft_label_loss(teacher + 3.0, teacher), entropy)
    assert soft_label_loss(scores, teacher) > entropy


def test_a_certain_teacher_is_a_hard_label() -> None:
    scores, teacher = pair((7, 5), seed=3)
    hard, _ = classification_loss(scores / 0.01, answers=teacher.argmax(dim=1))
    torch.testing.assert_close(
        soft_label_loss(scores / 0.01, 1e6 * teacher, temperature=1.0), hard, rtol=1e-6, atol=1e-6
    )


def test_the_teacher_gets_no_gradient() -> None:
    scores, teacher = (z.requires_grad_() for z in pair((4, 3), seed=0))
    soft_label_loss(scores, teacher).backward()
    assert scores.grad is not None
    assert teacher.grad is None


def test_gradients_are_right() -> None:
    scores, teacher = pair((5, 3), seed=0)
    scores.requires_grad_()
    answers = torch.tensor([0, 1, 2, 1, 0])
    assert torch.autograd.gradcheck(lambda z: classification_loss(z, answers=answers)[0], scores)
    assert torch.autograd.gradcheck(lambda z: soft_label_loss(z, teacher, temperature=0.5), scores)


def test_autocast_and_degenerate_inputs() -> None:
    def hard(z_a: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        answers = torch.zeros(len(z_a), dtype=torch.int64)
        return classification_loss(z_a, answers=answers)[0]

    for objective in (hard, soft_label_loss):
        assert_autocast_changes_nothing(objective)
        assert_finite_at_the_edge(objective)


@given(shapes, seeds)
def test_the_order_of_rows_and_classes_does_not_matter(shape: tuple[int, int], seed: int) -> None:
    scores, teacher = pair(shape, seed)
    rows, columns = torch.randperm(shape[0]), torch.randperm(shape[1])
    torch.testing.assert_close(
        soft_label_loss(scores[rows][:, columns], teacher[rows][:, columns]),
        soft_label_loss(scores, teacher),
    )
    answers = torch.arange(shape[0]) % shape[1]
    torch.testing.assert_close(
        classification_loss(scores[rows], answers=answers[rows]),
        classification_loss(scores, answers=answers),
    )


@pytest.mark.parametrize(("shape", "count"), [((4, 3), 3), ((4,), 4), ((0, 3), 0)])
def test_hard_labels_of_other_shapes_are_refused(shape: tuple[int, ...], count: int) -> None:
    with pytest.raises(ShapeError, match=r"expected scores \[batch, classes\] and as many answers"):
        classification_loss(torch.zeros(shape), answers=torch.zeros(count, dtype=torch.int64))


def test_soft_labels_of_other_shapes_are_refused() -> None:
    with pytest.raises(ShapeError, match="of one shape"):
        soft_label_loss(torch.zeros(4, 3), torch.zeros(4, 2))
    with pytest.raises(ShapeError, match="at least 1 rows"):
        soft_label_loss(torch.zeros(0, 3), torch.zeros(0, 3))
