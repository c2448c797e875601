import math
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from recssl.objectives.bilateral_softmax import bilateral_softmax_loss
from recssl.objectives.bpr import bpr_loss
from recssl.objectives.candidates import compare_with_candidates, count_candidates
from recssl.objectives.direct_au import direct_au_terms
from recssl.objectives.sampled_softmax import sampled_softmax_loss
from sslcore.errors import ShapeError

BATCH, DIM = 5, 3
USERS = torch.tensor([0, 1, 0, 2, 3])
ITEMS = torch.tensor([7, 8, 9, 7, 6])


def rows(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def dot(a: Tensor, b: Tensor) -> float:
    return sum(float(x) * float(y) for x, y in zip(a, b, strict=True))


def cosine(a: Tensor, b: Tensor) -> float:
    return dot(a, b) / math.sqrt(dot(a, a) * dot(b, b))


def test_bpr_is_the_mean_log_sigmoid_of_the_margin() -> None:
    users, items, others = rows(0, BATCH, DIM), rows(1, BATCH, DIM), rows(2, BATCH, 2, DIM)
    terms = [
        -math.log(1 / (1 + math.exp(-(dot(users[i], items[i]) - dot(users[i], others[i, j])))))
        for i in range(BATCH)
        for j in range(2)
    ]
    assert bpr_loss(users, items, others).item() == pytest.approx(sum(terms) / len(terms))


class Shared(NamedTuple):
    """Candidates that all rows share, in three layouts, and what a plain loop needs of them."""

    negatives: Tensor | None
    with_batch: bool
    log_q: Tensor
    excluded: Tensor

    @property
    def has_own(self) -> bool:
        return self.negatives is None or self.with_batch

    def of_row(self, i: int, items: Tensor) -> list[tuple[Tensor, float]]:
        """Return the candidates of a row with their log_q."""
        columns = [*items] if self.has_own else []
        columns += [] if self.negatives is None else [*self.negatives]
        log_q = self.log_q[-len(columns) :]
        return [
            (column, float(log_q[j]))
            for j, column in enumerate(columns)
            if not self.excluded[i, j] and not (self.has_own and i == j)
        ]

    def options(self) -> dict[str, Any]:
        return self._asdict()


def shared(layout: str) -> Shared:
    same_item = ITEMS[:, None] == ITEMS
    drawn = torch.tensor([[r % 3 == c % 4 for c in range(4)] for r in range(BATCH)])
    if layout == "batch":
        return Shared(None, False, rows(2, BATCH), same_item)
    if layout == "drawn":
        return Shared(rows(3, 4, DIM), False, rows(2, BATCH + 4), drawn)
    both = torch.cat([same_item, drawn], dim=1)
    return Shared(rows(3, 4, DIM), True, rows(2, BATCH + 4), both)


each_layout = pytest.mark.parametrize("layout", ["batch", "drawn", "batch and drawn"])


@each_layout
def test_sampled_softmax_corrects_and_masks(layout: str) -> None:
    users, items, others = rows(0, BATCH, DIM), rows(1, BATCH, DIM), shared(layout)
    total = 0.0
    for i in range(BATCH):
        liked = cosine(users[i], items[i]) / 0.3 - float(others.log_q[i])
        logits = [cosine(users[i], c) / 0.3 - log_q for c, log_q in others.of_row(i, items)]
        total += math.log(sum(map(math.exp, [liked, *logits]))) - liked
    loss = sampled_softmax_loss(users, items, **others.options(), temperature=0.3)
    assert loss.item() == pytest.approx(total / BATCH, rel=1e-9)


@each_layout
@pytest.mark.parametrize("objective", ["softmax", "bilateral"])
def test_the_gradient_of_shared_candidates_is_that_of_the_value(
    layout: str, objective: str
) -> None:
    others = shared(layout)

    def loss(users: Tensor, items: Tensor, negatives: Tensor | None = None) -> Tensor:
        options = others.options() | {"negatives": negatives}
        if objective == "softmax":
            return sampled_softmax_loss(users, items, **options, temperature=0.3)
        return bilateral_softmax_loss(users, items, **options, user_ids=USERS)

    inputs = [rows(seed, BATCH, DIM) for seed in (0, 1)]
    inputs += [] if others.negatives is None else [others.negatives]
    assert torch.autograd.gradcheck(loss, tuple(z.requires_grad_() for z in inputs))


def test_shared_negatives_equal_the_same_negatives_for_each_user() -> None:
    users, items, others = rows(0, BATCH, DIM), rows(1, BATCH, DIM), rows(2, 4, DIM)
    shared = sampled_softmax_loss(users, items, negatives=others, cosine=False)
    each = sampled_softmax_loss(users, items, negatives=others.expand(BATCH, 4, DIM), cosine=False)
    assert shared.item() == pytest.approx(each.item(), rel=1e-12)


def test_a_row_whose_candidates_are_all_masked_costs_nothing_and_has_a_finite_gradient() -> None:
    users = rows(0, BATCH, DIM).requires_grad_()
    everything = torch.ones(BATCH, BATCH, dtype=torch.bool)
    loss = sampled_softmax_loss(users, rows(1, BATCH, DIM), excluded=everything)
    loss.backward()
    assert loss.item() == 0.0
    assert users.grad is not None
    assert users.grad.isfinite().all()


@each_layout
def test_bilateral_softmax_is_the_formula_written_out(layout: str) -> None:
    users, items, given = rows(0, BATCH, DIM), rows(1, BATCH, DIM), shared(layout)
    high, low = 0.5, 0.2
    total = 0.0
    for i in range(BATCH):
        liked = [
            math.exp(cosine(users[k], items[k]) / high)
            for k in range(BATCH)
            if USERS[k] == USERS[i]
        ]
        others = [
            math.exp(cosine(users[i], c) / low - log_q) for c, log_q in given.of_row(i, items)
        ]
        total += low / high * math.log(sum(others) / len(others))
        total -= math.log(sum(liked) / len(liked))
    loss = bilateral_softmax_loss(
        users,
        items,
        user_ids=USERS,
        **given.options(),
        positive_temperature=high,
        negative_temperature=low,
    )
    assert loss.item() == pytest.approx(total / BATCH, rel=1e-9)


@each_layout
def test_candidates_are_counted_as_a_loop_does(layout: str) -> None:
    users, items, others = rows(0, BATCH, DIM), rows(1, BATCH, DIM), shared(layout)
    options = others.options()
    del options["log_q"]
    counts = count_candidates(users, **options)
    assert counts.tolist() == [len(others.of_row(i, items)) for i in range(BATCH)]
    options["excluded"] = None
    columns = (BATCH if others.has_own else 0) + (0 if others.negatives is None else 4)
    assert count_candidates(users, **options).tolist() == [columns - others.has_own] * BATCH


def test_bilateral_softmax_of_a_row_without_candidates_has_a_finite_gradient() -> None:
    users = rows(0, BATCH, DIM).requires_grad_()
    everything = torch.ones(BATCH, BATCH, dtype=torch.bool)
    items = rows(1, BATCH, DIM)
    bilateral_softmax_loss(users, items, user_ids=USERS, excluded=everything).backward()
    assert users.grad is not None
    assert users.grad.isfinite().all()


def test_direct_au_takes_each_user_and_each_item_once() -> None:
    users, items = rows(0, BATCH, DIM), rows(1, BATCH, DIM)
    users[2], items[3] = users[0], items[0]

    def apart(side: Tensor, kept: list[int]) -> float:
        pairs = [(i, j) for i in kept for j in kept if i < j]
        distances = [2 - 2 * cosine(side[i], side[j]) for i, j in pairs]
        return math.log(sum(math.exp(-2 * d) for d in distances) / len(pairs))

    terms = direct_au_terms(users, items, user_ids=USERS, item_ids=ITEMS)
    near = sum(2 - 2 * cosine(users[i], items[i]) for i in range(BATCH)) / BATCH
    assert terms.alignment.item() == pytest.approx(near, rel=1e-9)
    even = (apart(users, [0, 1, 3, 4]) + apart(items, [0, 1, 2, 4])) / 2
    assert terms.uniformity.item() == pytest.approx(even, rel=1e-9)


def test_user_numbers_beyond_float32_stay_apart() -> None:
    users, items = rows(0, 2, DIM), rows(1, 2, DIM)
    near, far = torch.tensor([2**24, 2**24 + 1]), torch.tensor([1, 2])
    one = bilateral_softmax_loss(users, items, user_ids=near)
    other = bilateral_softmax_loss(users, items, user_ids=far)
    assert one.item() == other.item()


@pytest.mark.parametrize(
    "options",
    [
        {"negatives": rows(2, BATCH, 0, DIM)},
        {"negatives": rows(2, BATCH, 2, DIM + 1)},
        {"negatives": rows(2, 4, DIM + 1)},
        {"negatives": rows(2, 0, DIM), "with_batch": True},
        {"negatives": rows(2, BATCH, 2, DIM), "with_batch": True},
        {"negatives": rows(2, BATCH, 2, DIM), "log_q": rows(3, 2 * BATCH)},
        {"negatives": rows(2, 4, DIM + 1), "with_batch": True},
        {"negatives": rows(2, 4, DIM), "log_q": rows(3, BATCH)},
        {"negatives": rows(2, 4, DIM), "excluded": torch.zeros(BATCH, BATCH, dtype=torch.bool)},
        {"log_q": rows(3, BATCH + 1)},
        {"excluded": torch.zeros(BATCH, dtype=torch.bool)},
    ],
)
def test_candidates_that_do_not_fit_are_refused(options: dict[str, Tensor]) -> None:
    with pytest.raises(ShapeError):
        compare_with_candidates(rows(0, BATCH, DIM), rows(1, BATCH, DIM), **options)  # type: ignore[arg-type]


def test_bpr_without_negatives_is_refused() -> None:
    with pytest.raises(ShapeError, match="count > 0"):
        bpr_loss(rows(0, BATCH, DIM), rows(1, BATCH, DIM), rows(2, BATCH, 0, DIM))
