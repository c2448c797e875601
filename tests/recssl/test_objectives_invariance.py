"""What changes no ranking loss, and what the best and the worst embeddings cost."""

import math

import pytest
import torch
from torch import Tensor

from recssl.methods.ranking import (
    BPR,
    BilateralSoftmax,
    DirectAU,
    Ranked,
    Ranking,
    SampledSoftmax,
    TripletRanking,
)

DIM, ROWS = 6, 8
LOSSES: dict[str, Ranking] = {
    "bpr": BPR(),
    "softmax": SampledSoftmax(temperature=0.2),
    "softmax of products": SampledSoftmax(temperature=0.2, cosine=False),
    "bilateral": BilateralSoftmax(positive_temperature=0.2, negative_temperature=0.1),
    "direct_au": DirectAU(uniformity_weight=0.5),
    "triplet hard": TripletRanking(margin=0.5, mining="hard"),
    "triplet semihard": TripletRanking(margin=0.5, mining="semihard"),
}
NAMES = pytest.mark.parametrize("name", list(LOSSES))


def ranked(name: str, seed: int = 0) -> Ranked:
    """Draw a batch in which users and items come several times, with negatives where needed."""
    generator = torch.Generator().manual_seed(seed)
    tables = torch.randn(2, 20, DIM, generator=generator, dtype=torch.float64)
    users, items = torch.randint(5, (2, ROWS), generator=generator)
    items += 5 * torch.arange(ROWS) % 2
    drawn = torch.randint(20, (ROWS, 3), generator=generator)
    negatives = tables[1][drawn] if name == "bpr" else None
    return Ranked(tables[0][users], tables[1][items], users, items, negatives)


def value(name: str, batch: Ranked) -> float:
    return LOSSES[name](batch)[0].item()


def changed(batch: Ranked, change: Tensor) -> Ranked:
    """Multiply all embeddings with a matrix."""
    negatives = None if batch.negatives is None else batch.negatives @ change
    users, items = batch.users @ change, batch.items @ change
    return batch._replace(users=users, items=items, negatives=negatives)


@NAMES
def test_the_order_of_the_pairs_changes_nothing(name: str) -> None:
    batch = ranked(name)
    order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(1))
    negatives = None if batch.negatives is None else batch.negatives[order]
    sides = (batch.users, batch.items, batch.user_ids, batch.item_ids)
    other = Ranked(*(side[order] for side in sides), negatives)
    assert value(name, other) == pytest.approx(value(name, batch), rel=1e-6)


@NAMES
def test_a_rotation_of_all_embeddings_changes_nothing(name: str) -> None:
    batch = ranked(name)
    generator = torch.Generator().manual_seed(1)
    random = torch.randn(DIM, DIM, generator=generator, dtype=torch.float64)
    rotation = torch.linalg.qr(random).Q
    assert value(name, changed(batch, rotation)) == pytest.approx(value(name, batch), rel=1e-5)
    assert value(name, changed(batch, random)) != pytest.approx(value(name, batch), rel=1e-2)


@NAMES
def test_the_length_counts_only_where_products_are_scores(name: str) -> None:
    batch = ranked(name)
    longer = value(name, changed(batch, 3 * torch.eye(DIM, dtype=torch.float64)))
    if LOSSES[name].cosine:
        assert longer == pytest.approx(value(name, batch), rel=1e-6)
    else:
        assert longer != pytest.approx(value(name, batch), rel=1e-2)


@NAMES
def test_other_numbers_for_the_same_users_and_items_change_nothing(name: str) -> None:
    batch = ranked(name)
    other = batch._replace(user_ids=batch.user_ids * 7 + 3, item_ids=100 - batch.item_ids)
    assert value(name, other) == pytest.approx(value(name, batch), rel=1e-6)


def apart(sign: float, count: int = 4) -> Ranked:
    """Return users that equal their items (1) or are their opposites (-1), all at right angles."""
    items = torch.eye(count, dtype=torch.float64)
    numbers = torch.arange(count)
    return Ranked(sign * items, items, numbers, numbers, -items[:, None])


@pytest.mark.parametrize(
    ("name", "best", "worst"),
    [
        ("bpr", math.log1p(math.exp(-2)), math.log1p(math.exp(2))),
        # cosine 1 against three of 0, at temperature 0.2; then -1 against three of 0
        ("softmax", math.log1p(3 * math.exp(-5)), math.log1p(3 * math.exp(5))),
        ("softmax of products", math.log1p(3 * math.exp(-5)), math.log1p(3 * math.exp(5))),
        ("triplet hard", 0.0, 2 - math.sqrt(2) + 0.5),
    ],
)
def test_the_best_and_the_worst_embeddings(name: str, best: float, worst: float) -> None:
    for sign, expected in ((1.0, best), (-1.0, worst)):
        batch = apart(sign)
        given = batch if name == "bpr" else batch._replace(negatives=None)
        assert value(name, given) == pytest.approx(expected, abs=1e-6)


def test_bilateral_softmax_at_both_extremes() -> None:
    values = [value("bilateral", apart(sign)._replace(negatives=None)) for sign in (1.0, -1.0)]
    assert values == pytest.approx([-1 / 0.2, 1 / 0.2])  # means of exp(0) beside them


def test_direct_au_at_both_extremes() -> None:
    equal = torch.ones(4, DIM, dtype=torch.float64)
    numbers = torch.arange(4)
    together, logs = LOSSES["direct_au"](Ranked(equal, equal, numbers, numbers))
    assert logs["alignment"].item() == pytest.approx(0)
    assert together.item() == pytest.approx(0, abs=1e-9)  # log of the mean of exp(0)
    spread, logs = LOSSES["direct_au"](apart(1.0)._replace(negatives=None))
    assert logs["alignment"].item() == pytest.approx(0)
    assert logs["uniformity"].item() == pytest.approx(-4)  # of right angles: exp(-2 * 2)
    assert spread.item() == pytest.approx(-2)
    opposite = LOSSES["direct_au"](apart(-1.0)._replace(negatives=None))[1]
    assert opposite["alignment"].item() == pytest.approx(4)
