"""What every ranking loss must stand: gradients, autocast, degenerate batches, a batch of one."""

import pytest
import torch
from torch import Tensor

from recssl.encoders.mf import MatrixFactorisation
from recssl.methods.bootstrap import BUIR, SelfCF
from recssl.methods.ranking import Ranked, TripletRanking
from recssl.objectives.bilateral_softmax import bilateral_softmax_loss
from recssl.objectives.bpr import bpr_loss
from recssl.objectives.direct_au import direct_au_terms
from recssl.objectives.sampled_softmax import sampled_softmax_loss
from sslcore.errors import ShapeError
from tests.reference.checks import (
    Objective,
    assert_autocast_changes_nothing,
    assert_finite_at_the_edge,
    assert_gradient_is_right,
)


def ids(rows: Tensor) -> Tensor:
    """Number the rows by twos, so that a user or an item has several."""
    return torch.arange(len(rows)) // 2


def bpr(users: Tensor, items: Tensor) -> Tensor:
    return bpr_loss(users, items, torch.stack([items.roll(1, 0), items.flip(0)], dim=1))


def softmax(users: Tensor, items: Tensor) -> Tensor:
    return sampled_softmax_loss(users, items)


def softmax_of_products(users: Tensor, items: Tensor) -> Tensor:
    return sampled_softmax_loss(users, items, cosine=False)


def softmax_of_drawn(users: Tensor, items: Tensor) -> Tensor:
    return sampled_softmax_loss(users, items, negatives=items.flip(0)[:, None])


def bilateral(users: Tensor, items: Tensor) -> Tensor:
    return bilateral_softmax_loss(users, items, user_ids=ids(users))


def direct_au(users: Tensor, items: Tensor) -> Tensor:
    terms = direct_au_terms(users, items, user_ids=ids(users), item_ids=ids(items))
    return terms.alignment + terms.uniformity


def of_encoder(kind: type[BUIR] | type[SelfCF], users: Tensor, items: Tensor) -> Tensor:
    """Return the loss of the batch, with weights that are the same for the same width."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = MatrixFactorisation(len(users), len(items), users.shape[1])
        loss = BUIR(encoder, momentum=0.9) if kind is BUIR else SelfCF(encoder, dropout=0.3)
    numbers = torch.arange(len(users))
    value: Tensor = loss.to(users.dtype)(Ranked(users, items, numbers, numbers, seed=3))[0]
    return value


def buir(users: Tensor, items: Tensor) -> Tensor:
    return of_encoder(BUIR, users, items)


def selfcf(users: Tensor, items: Tensor) -> Tensor:
    return of_encoder(SelfCF, users, items)


def triplet(users: Tensor, items: Tensor) -> Tensor:
    loss = TripletRanking(margin=0.5, mining="hard")
    value: Tensor = loss(Ranked(users, items, torch.arange(len(users)), ids(items)))[0]
    return value


PURE = [bpr, softmax, softmax_of_products, softmax_of_drawn, bilateral, direct_au]
LOSSES = [*PURE, triplet, buir, selfcf]


@pytest.mark.parametrize("loss", PURE)
def test_the_gradient_is_that_of_the_value(loss: Objective) -> None:
    assert_gradient_is_right(loss)


def test_no_gradient_of_selfcf_reaches_its_targets() -> None:
    def fixed(users: Tensor, items: Tensor) -> Tensor:
        """Return the loss, its targets put in the place of those that it makes of the batch."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            loss = SelfCF(MatrixFactorisation(5, 5, users.shape[1]), dropout=0.3).double()
            targets = torch.randn(2, *users.shape, dtype=torch.float64)
        loss._target = lambda rows, _: targets[int(torch.equal(rows, items.detach()))]  # type: ignore[method-assign]
        numbers = torch.arange(len(users))
        value: Tensor = loss(Ranked(users, items, numbers, numbers))[0]
        return value

    assert_gradient_is_right(fixed)


@pytest.mark.parametrize("loss", PURE)
def test_objectives_leave_autocast(loss: Objective) -> None:
    assert_autocast_changes_nothing(loss)


@pytest.mark.parametrize("loss", [buir, selfcf])
def test_only_the_predictor_of_bootstrapping_losses_is_cast(loss: Objective) -> None:
    users, items = torch.randn(2, 64, 32, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        cast = loss(users, items)
    assert cast.dtype == torch.float32
    torch.testing.assert_close(cast, loss(users, items), rtol=0, atol=2e-3)


@pytest.mark.parametrize("loss", LOSSES)
def test_zeros_equal_rows_and_huge_values_give_finite_losses_and_gradients(
    loss: Objective,
) -> None:
    assert_finite_at_the_edge(loss)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("size", [1e-30, 1e15])
def test_embeddings_of_any_size_give_finite_losses_and_gradients(
    loss: Objective, size: float
) -> None:
    generator = torch.Generator().manual_seed(0)
    users, items = (
        (size * side).requires_grad_() for side in torch.randn(2, 6, 4, generator=generator)
    )
    value = loss(users, items)
    value.backward()  # type: ignore[no-untyped-call]
    assert value.isfinite()
    for side in (users, items):
        assert side.grad is None or side.grad.isfinite().all()


@pytest.mark.parametrize("loss", [bpr, softmax_of_drawn, buir, selfcf])
def test_a_batch_of_one_has_a_loss_where_nothing_is_compared_with_other_rows(
    loss: Objective,
) -> None:
    users, items = torch.randn(2, 1, 4, generator=torch.Generator().manual_seed(0))
    assert loss(users, items).isfinite()


@pytest.mark.parametrize("loss", [softmax, softmax_of_products, bilateral, direct_au])
def test_a_batch_of_one_is_refused_where_rows_are_compared(loss: Objective) -> None:
    with pytest.raises(ShapeError, match="at least 2 rows"):
        loss(torch.ones(1, 4), torch.ones(1, 4))


def test_direct_au_of_one_user_alone_spreads_the_items_only() -> None:
    users, items = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    one = torch.zeros(4, dtype=torch.int64)
    several = torch.arange(4)
    alone = direct_au_terms(users, items, user_ids=one, item_ids=several)
    both = direct_au_terms(items, items, user_ids=several, item_ids=several)
    torch.testing.assert_close(alone.uniformity, both.uniformity / 2)
