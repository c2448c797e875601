import copy
from dataclasses import replace
from unittest import mock

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

from recssl.encoders import lightgcn as module
from recssl.encoders.lightgcn import LightGCN
from recssl.encoders.mf import MatrixFactorisation
from recssl.graph import GraphView, LowRank
from recssl.methods.joint import JointRecommendation, PerSide, RecBatch, Recommendation
from recssl.methods.ranking import Ranked, TripletRanking
from recssl.methods.registry import build_ranking, build_recommendation
from recssl.methods.settings import (
    BPRConfig,
    ContrastConfig,
    DirectAUConfig,
    LightGCLConfig,
    SampledSoftmaxConfig,
    XSimGCLConfig,
)
from recssl.objectives.sampled_softmax import sampled_softmax_loss
from sslcore.errors import ConfigError, ShapeError
from sslcore.methods.triplet import Mining
from sslcore.objectives.info_nce import info_nce_loss
from sslcore.views import ViewBatch
from tests.recssl.test_encoders import DIM, ITEMS, USERS, lightgcn

CONTRASTS = ("sgl", "simgcl", "simclr", "moco_v2", "byol", "simsiam", "barlow_twins", "vicreg")


def contrast(name: str, **settings: object) -> ContrastConfig:
    adapter: TypeAdapter[ContrastConfig] = TypeAdapter(ContrastConfig)
    small = {} if name.endswith(("sgl", "gcl")) else {"head_dims": [8, 8]}
    return adapter.validate_python({"name": name, **small, **settings})


def batch(*, views: bool = True) -> RecBatch:
    users, items = torch.tensor([0, 2, 3]), torch.tensor([1, 3, 1])
    nodes = torch.tensor([0, 2, 3, USERS + 1, USERS + 3])
    pair = tuple(GraphView(nodes, None, 0.1, seed) for seed in (1, 2))
    return RecBatch(users, items, contrast=ViewBatch(pair, (3, 2)) if views else None)


@pytest.mark.parametrize("name", [*CONTRASTS, "triplet"])
def test_every_self_supervised_method_trains_the_encoder_beside_the_ranking(name: str) -> None:
    encoder = lightgcn()
    config = contrast(name)
    method = build_recommendation(SampledSoftmaxConfig(), config, encoder, weight=0.5)
    output = method(batch())
    expected = output.logs["ranking"] + 0.5 * output.logs["contrast"]
    assert output.loss.item() == pytest.approx(expected.item(), rel=1e-6)
    output.loss.backward()
    method.after_step(0.5)
    assert encoder.table.weight.grad is not None
    assert encoder.table.weight.grad.norm() > 0


@pytest.mark.parametrize("name", ["sgl", "simclr", "byol", "simsiam", "barlow_twins", "vicreg"])
def test_users_are_not_compared_or_normalised_with_items(name: str) -> None:
    encoder = lightgcn()
    config = contrast(name)
    method = build_recommendation(SampledSoftmaxConfig(), config, encoder, weight=1.0)
    assert isinstance(method, JointRecommendation)
    whole = method.contrast
    heads = (whole.of_users, whole.of_items) if isinstance(whole, PerSide) else (whole, whole)
    both = batch().contrast
    assert both is not None
    sides = []
    for head, nodes in zip(heads, (both.views[0].nodes[:3], both.views[0].nodes[3:]), strict=True):
        views = tuple(GraphView(nodes, None, 0.1, seed) for seed in (1, 2))
        sides.append(head(ViewBatch(views)).loss)
    assert method.contrast(both).loss.item() == pytest.approx(
        (sides[0] + sides[1]).item() / 2, rel=1e-5
    )


def each_side_alone(method: JointRecommendation, given: RecBatch) -> Tensor:
    """Return the contrast's loss from encoding users and items each by themselves."""
    assert isinstance(method.contrast, PerSide)
    assert given.contrast is not None
    views, count = given.contrast.views, given.contrast.segments[0]
    sides = [
        side(ViewBatch(tuple(replace(view, nodes=view.nodes[rows]) for view in views)))
        for side, rows in (
            (method.contrast.of_users, slice(count)),
            (method.contrast.of_items, slice(count, None)),
        )
    ]
    return (sides[0].loss + sides[1].loss) / 2


def passes_of(method: JointRecommendation, given: RecBatch) -> int:
    """Count the passes over the graph that a step needs, by the products with its adjacency."""
    with mock.patch.object(module, "_product", wraps=module._product) as product:
        method(given)
    return product.call_count // lightgcn().layers


@pytest.mark.parametrize("name", CONTRASTS[2:])
def test_both_sides_share_the_passes_and_the_loss_stays_the_same(name: str) -> None:
    torch.manual_seed(0)
    encoder = lightgcn().double()
    config = contrast(name, **({"queue_size": 4} if name == "moco_v2" else {}))
    method = build_recommendation(SampledSoftmaxConfig(), config, encoder, weight=0.5).double()
    assert isinstance(method, JointRecommendation)
    encoder.graph.adjacency = encoder.graph.adjacency.double()
    with torch.no_grad():
        encoder.table.weight.mul_(1.5).add_(0.1)  # the teachers are not the student
    method.after_step(0.5)
    expected = 5 if name == "byol" else 3  # moco: a view of each kind
    assert passes_of(method, batch()) == expected
    table = encoder.table.weight
    together = method.contrast(batch().contrast).loss
    apart = each_side_alone(method, batch())
    torch.testing.assert_close(together, apart, rtol=1e-12, atol=0)
    gradients = [torch.autograd.grad(loss, table)[0] for loss in (together, apart)]
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-12)


def test_methods_with_a_queue_get_one_per_side() -> None:
    method = build_recommendation(
        SampledSoftmaxConfig(), contrast("moco_v2", queue_size=4), lightgcn(), weight=1.0
    )
    assert isinstance(method, JointRecommendation)
    assert isinstance(method.contrast, PerSide)
    method(batch())
    method.after_step(0.5)
    assert method.contrast.of_users.queue.cursor == 3
    assert method.contrast.of_items.queue.cursor == 2
    nodes = batch().contrast.views[0].nodes.tolist()
    assert method.contrast.of_users.queue.ids.tolist() == [*nodes[:3], -1]
    assert method.contrast.of_items.queue.ids.tolist() == [*nodes[3:], -1, -1]
    own = method.contrast.of_users.queue.owned(batch().contrast.views[0].nodes[:3])
    assert torch.equal(own, torch.eye(3, 4).bool())


def test_users_are_not_compared_with_their_own_past_keys() -> None:
    method = build_recommendation(
        SampledSoftmaxConfig(), contrast("moco_v2", queue_size=3), lightgcn(), weight=1.0
    )
    method(batch())
    method.after_step(0.5)  # now the queue of users holds their own keys and no others
    nodes = batch().contrast.views[0].nodes[:3]
    views = tuple(GraphView(nodes, None, 0.1, seed) for seed in (1, 2))
    side = method.contrast.of_users
    queries, keys = side.student(views[0]), side.teacher(views[1])
    expected = info_nce_loss(
        queries, keys, negatives=side.queue.keys, excluded=torch.eye(3).bool(), temperature=0.2
    )
    found = side(ViewBatch(views, ids=nodes)).loss
    torch.testing.assert_close(found, expected)
    losses = method(batch()).logs["contrast"]
    side.queue.ids.fill_(-1)  # of nobody
    assert method(batch()).logs["contrast"] != losses


def test_xsimgcl_contrasts_the_final_embeddings_with_a_layer_of_the_same_pass() -> None:
    encoder = lightgcn(layers=2)
    config = XSimGCLConfig(layer=1, temperature=0.3)
    method = build_recommendation(SampledSoftmaxConfig(), config, encoder, weight=0.5)
    output = method(batch())
    given = batch()
    assert given.contrast is not None
    view = given.contrast.views[0]
    final, between = encoder.forward_with_layer(view, 1)
    parts = [
        info_nce_loss(final[side], between[side], temperature=0.3)
        for side in (slice(0, 3), slice(3, 5))
    ]
    # the nodes of the ranking stand before them, so that only the graph's noise is shared
    assert output.logs["contrast"].item() == pytest.approx(
        (parts[0] + parts[1]).item() / 2, rel=1e-5
    )


def test_lightgcl_contrasts_the_graph_with_its_low_rank_copy() -> None:
    encoder = lightgcn(layers=2)
    method = build_recommendation(
        SampledSoftmaxConfig(), LightGCLConfig(temperature=0.3), encoder, weight=0.5
    )
    given = batch()
    assert given.contrast is not None
    nodes = given.contrast.views[0].nodes
    factors = LowRank(torch.rand(USERS, 2), torch.rand(ITEMS, 2))
    views = (GraphView(nodes), GraphView(nodes, factors))
    given = replace(given, contrast=ViewBatch(views, (3, 2)))
    output = method(given)
    local, spread = encoder.forward_with_low_rank(nodes, factors)
    parts = [
        info_nce_loss(local[side], spread[side], temperature=0.3)
        for side in (slice(0, 3), slice(3, 5))
    ]
    assert output.logs["contrast"].item() == pytest.approx(sum(parts).item() / 2, rel=1e-5)
    plain = build_recommendation(SampledSoftmaxConfig(), None, encoder, weight=1.0)(given)
    assert output.logs["ranking"].item() == pytest.approx(plain.loss.item(), rel=1e-6)
    expected = output.logs["ranking"] + 0.5 * output.logs["contrast"]
    assert output.loss.item() == pytest.approx(expected.item(), rel=1e-6)


def test_lightgcl_needs_a_lightgcn() -> None:
    with pytest.raises(ConfigError, match="lightgcn"):
        build_recommendation(
            SampledSoftmaxConfig(),
            LightGCLConfig(),
            MatrixFactorisation(USERS, ITEMS, DIM),
            weight=1.0,
        )


@pytest.mark.parametrize("encoder", [MatrixFactorisation(USERS, ITEMS, DIM), lightgcn(layers=1)])
def test_xsimgcl_without_enough_layers_is_refused(encoder: LightGCN) -> None:
    with pytest.raises(ConfigError, match="layer"):
        build_recommendation(SampledSoftmaxConfig(), XSimGCLConfig(layer=2), encoder, weight=1.0)


def test_a_batch_without_views_is_refused() -> None:
    for config in (contrast("sgl"), XSimGCLConfig(layer=1), LightGCLConfig()):
        method = build_recommendation(SampledSoftmaxConfig(), config, lightgcn(), weight=1.0)
        with pytest.raises(ShapeError, match=r"expected .* view"):
            method(batch(views=False))


def test_bpr_without_drawn_negatives_is_refused() -> None:
    method = build_recommendation(BPRConfig(), None, lightgcn(), weight=1.0)
    with pytest.raises(ShapeError, match="drawn negatives"):
        method(batch(views=False))


def triplet_by_hand(
    users: Tensor,
    items: Tensor,
    ids: Tensor,
    margin: float,
    *,
    semihard: bool = False,
    excluded: Tensor | None = None,
) -> float:
    """Take the nearest item of another row; semihard: of those farther away than the own one."""
    u, v = (side / side.norm(dim=1, keepdim=True) for side in (users, items))
    losses = []
    for i in range(len(u)):
        near = max((u[i] - v[j]).norm().item() for j in range(len(v)) if ids[j] == ids[i])
        others = [
            (u[i] - v[j]).norm().item()
            for j in range(len(v))
            if ids[j] != ids[i] and not (excluded is not None and excluded[i, j])
        ]
        far = [each for each in others if each > near or not semihard]
        if far:
            losses.append(max(0.0, near - min(far) + margin))
    wrong = [loss for loss in losses if loss > 0]
    return sum(wrong) / len(wrong)


def test_the_triplet_loss_never_takes_the_same_item_as_a_negative() -> None:
    generator = torch.Generator().manual_seed(3)
    users, items = (torch.randn(4, DIM, generator=generator) for _ in range(2))
    ids = torch.tensor([1, 3, 1, 2])
    items[2] = items[0]
    loss, _ = TripletRanking(margin=0.5, mining="hard")(Ranked(users, items, ids, ids))
    assert loss.item() == pytest.approx(triplet_by_hand(users, items, ids, 0.5), rel=1e-4)


@pytest.mark.parametrize("mining", ["hard", "semihard"])
@pytest.mark.parametrize("seed", range(5))
def test_the_triplet_loss_leaves_out_what_the_user_likes(mining: Mining, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    users, items = (torch.randn(7, DIM, generator=generator) for _ in range(2))
    ids = torch.tensor([1, 3, 1, 2, 5, 6, 7])
    items[2] = items[0]
    excluded = torch.rand(7, 7, generator=generator) < 0.5
    excluded[0] = True  # likes all there is, and so has no negative
    ranking = TripletRanking(margin=1.0, mining=mining)
    given = Ranked(users, items, ids, ids, excluded=excluded)
    expected = triplet_by_hand(
        users, items, ids, 1.0, semihard=mining == "semihard", excluded=excluded
    )
    assert ranking(given)[0].item() == pytest.approx(expected, rel=1e-4)
    whole = ranking(given._replace(excluded=None))[0].item()
    every = triplet_by_hand(users, items, ids, 1.0, semihard=mining == "semihard")
    assert whole == pytest.approx(every, rel=1e-4)
    assert whole != pytest.approx(expected, rel=1e-3)
    drawn = torch.randn(7, 2, DIM, generator=generator)
    assert ranking(given._replace(negatives=drawn))[0].isfinite()


def test_drawn_negatives_reach_the_loss_with_their_user() -> None:
    encoder = MatrixFactorisation(USERS, ITEMS, DIM)
    given = RecBatch(
        torch.tensor([0, 1]), torch.tensor([1, 2]), negatives=torch.tensor([[3, 4], [0, 3]])
    )
    rows = encoder(GraphView(given.nodes(USERS)))
    ranked = given.ranked(rows)
    assert ranked.negatives is not None
    table = encoder.table.weight
    assert torch.equal(ranked.negatives[1, 0], table[USERS])
    assert torch.equal(ranked.negatives[0, 1], table[USERS + 4])


def test_negatives_for_all_rows_reach_the_loss_once() -> None:
    encoder = MatrixFactorisation(USERS, ITEMS, DIM)
    given = RecBatch(torch.tensor([0, 1]), torch.tensor([1, 2]), negatives=torch.tensor([3, 4, 3]))
    ranked = given.ranked(encoder(GraphView(given.nodes(USERS))))
    assert ranked.negatives is not None
    assert torch.equal(ranked.negatives, encoder.table.weight[USERS + given.negatives])


def queued(*, negatives: Tensor | None = None) -> tuple[Recommendation, RecBatch]:
    torch.manual_seed(0)
    method = build_recommendation(
        SampledSoftmaxConfig(), None, lightgcn(), weight=1.0, queue_size=4
    )
    columns = (3 if negatives is None else len(negatives)) + 4
    excluded = torch.zeros(3, columns, dtype=torch.bool)
    excluded[:, -4:] = method.queue.ids == -1
    return method, replace(batch(views=False), negatives=negatives, excluded=excluded)


def test_a_queue_moves_after_the_step_only_and_wraps() -> None:
    method, given = queued()
    before = copy.deepcopy(method.state_dict())
    assert method(given).loss.item() == method(given).loss.item()
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())
    items = method.encoder(GraphView(given.items + USERS)).detach()
    method.after_step(0.5)
    assert method.queue.ids.tolist() == [1, 3, 1, -1]
    assert torch.equal(method.queue.keys[:3], items)
    method.after_step(0.5)  # nothing new
    method(given)
    method.after_step(0.5)
    assert method.queue.ids.tolist() == [3, 1, 1, 1]
    method.eval()
    method(given)
    method.after_step(0.5)
    assert method.queue.ids.tolist() == [3, 1, 1, 1]


@pytest.mark.parametrize("negatives", [None, torch.tensor([0, 4])])
def test_the_queue_is_more_columns_of_the_same_softmax(negatives: Tensor | None) -> None:
    method, given = queued(negatives=negatives)
    old = torch.randn(3, DIM, generator=torch.Generator().manual_seed(1))
    method.queue.push(old, torch.tensor([0, 2, 4]))
    given.excluded[:, -4:-1] = False
    rows = method.encoder(GraphView(given.nodes(USERS)))
    columns = rows[3:6] if negatives is None else rows[6:]
    expected = sampled_softmax_loss(
        rows[:3],
        rows[3:6],
        negatives=torch.cat([columns, old]),
        excluded=torch.eye(3, 6).bool() if negatives is None else None,
    )
    assert method(given).loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_queue_beside_negatives_of_each_row_is_refused() -> None:
    method, given = queued()
    given = replace(given, negatives=torch.tensor([[0], [1], [2]]), excluded=None)
    with pytest.raises(ShapeError, match=r"set sampling\.queue to 0"):
        method(given)


def test_direct_au_logs_its_terms() -> None:
    ids = torch.tensor([0, 1, 2])
    rows = torch.randn(3, DIM, generator=torch.Generator().manual_seed(0))
    ranking = build_ranking(DirectAUConfig(uniformity_weight=2.0), lightgcn())
    loss, terms = ranking(Ranked(rows, rows.flip(1), ids, ids))
    expected = terms["alignment"] + 2 * terms["uniformity"]
    assert loss.item() == pytest.approx(expected.item())
