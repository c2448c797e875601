import copy

import pytest
import torch
from torch import Tensor

from recssl.encoders.mf import MatrixFactorisation
from recssl.graph import GraphView
from recssl.methods.bootstrap import BUIR, Bootstrap, SelfCF
from recssl.methods.joint import RecBatch
from recssl.methods.ranking import Ranked
from recssl.methods.registry import build_recommendation
from recssl.methods.settings import BUIRConfig, SelfCFConfig

USERS, ITEMS, DIM = 4, 5, 3
GIVEN = RecBatch(torch.tensor([0, 3, 0]), torch.tensor([1, 4, 2]), seed=8)


def dot(a: Tensor, b: Tensor) -> float:
    return sum(x * y for x, y in zip(a.tolist(), b.tolist(), strict=True))


def cosine(a: Tensor, b: Tensor) -> float:
    return dot(a, b) / (dot(a, a) * dot(b, b)) ** 0.5


def encoder() -> MatrixFactorisation:
    torch.manual_seed(0)
    return MatrixFactorisation(USERS, ITEMS, DIM).double()


def predicted(loss: Bootstrap, row: Tensor) -> Tensor:
    weight, bias = loss.predictor.weight, loss.predictor.bias
    return torch.stack([bias[i] + dot(weight[i], row) for i in range(DIM)])


def ranked(model: MatrixFactorisation) -> Ranked:
    return GIVEN.ranked(model(GraphView(GIVEN.nodes(USERS))))


def test_buir_is_the_formula_written_out() -> None:
    model = encoder()
    loss = BUIR(model, momentum=0.9).double()
    table = model.table.weight.detach().clone()
    with torch.no_grad():
        model.table.weight.mul_(-0.5).add_(0.1)  # the teacher stays
    online = model.table.weight
    total = 0.0
    for user, item in zip(GIVEN.users.tolist(), GIVEN.items.tolist(), strict=True):
        total += 2 - 2 * cosine(predicted(loss, online[user]), table[USERS + item])
        total += 2 - 2 * cosine(predicted(loss, online[USERS + item]), table[user])
    assert loss(ranked(model))[0].item() == pytest.approx(total / 3, rel=1e-9)
    loss.after_step(model)
    expected = 0.9 * table + 0.1 * online
    torch.testing.assert_close(loss.teacher.module.table.weight, expected)


def test_selfcf_is_the_formula_written_out() -> None:
    model = encoder()
    loss = SelfCF(model, dropout=0.4).double()
    given = ranked(model)
    generator = torch.Generator().manual_seed(8)
    kept = [
        torch.bernoulli(torch.full((3, DIM), 0.6).double(), generator=generator) for _ in range(2)
    ]
    total = 0.0
    for i in range(3):
        total -= cosine(predicted(loss, given.users[i]), given.items[i] * kept[1][i]) / 2
        total -= cosine(predicted(loss, given.items[i]), given.users[i] * kept[0][i]) / 2
    assert loss(given)[0].item() == pytest.approx(total / 3, rel=1e-9)


def test_the_gradient_of_buir_is_that_of_the_value() -> None:
    model = encoder()
    loss = BUIR(model, momentum=0.9).double()
    sides = tuple(side.detach().requires_grad_() for side in ranked(model)[:2])
    assert torch.autograd.gradcheck(
        lambda users, items: loss(Ranked(users, items, GIVEN.users, GIVEN.items))[0], sides
    )


def test_no_gradient_reaches_the_target() -> None:
    model = encoder()
    for loss in (BUIR(model, momentum=0.9).double(), SelfCF(model, dropout=0.0).double()):
        users, items = (side.detach().requires_grad_() for side in ranked(model)[:2])
        target = items.detach()
        made = loss(Ranked(users, items, GIVEN.users, GIVEN.items))[0]
        of_users = torch.autograd.grad(made, users)[0]
        alone = users.detach().requires_grad_()
        pairs = zip(loss.predictor(alone), target, strict=True)
        by_hand = -torch.stack([torch.cosine_similarity(a, b, dim=0) for a, b in pairs]).mean()
        factor = 2.0 if isinstance(loss, BUIR) else 0.5
        expected = torch.autograd.grad(factor * by_hand, alone)[0]
        torch.testing.assert_close(of_users, expected)


@pytest.mark.parametrize("config", [BUIRConfig(), SelfCFConfig(dropout=0.5)])
def test_the_same_batch_gives_the_same_loss_and_forward_moves_nothing(
    config: BUIRConfig | SelfCFConfig,
) -> None:
    method = build_recommendation(config, None, encoder(), weight=1.0).double()
    before = copy.deepcopy(method.state_dict())
    assert method(GIVEN).loss.item() == method(GIVEN).loss.item()
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())


def test_stored_embeddings_multiply_to_the_symmetric_score() -> None:
    method = build_recommendation(BUIRConfig(), None, encoder(), weight=1.0).double()
    loss, table = method.ranking, method.encoder.table.weight
    users, items = method.embed_all()
    assert (users.shape, items.shape) == ((USERS, 2 * DIM), (ITEMS, 2 * DIM))
    user, item = table[2], table[USERS + 3]
    expected = dot(predicted(loss, user), item) + dot(user, predicted(loss, item))
    assert dot(users[2], items[3]) == pytest.approx(expected, rel=1e-9)
