"""What sets MoCo v3, NNCLR, InfoNCE and the metric-learning adapter apart."""

from typing import Any

import pytest
import torch
from pytorch_metric_learning.losses import MultiSimilarityLoss
from torch import nn

from sslcore.errors import ConfigError, ShapeError
from sslcore.methods.metric_learning import MetricLearningConfig
from sslcore.methods.moco import MoCoConfig
from sslcore.methods.moco_v3 import MoCoV3
from sslcore.methods.nnclr import NNCLR
from sslcore.modules.branch import Branch
from sslcore.modules.queue import FeatureQueue
from sslcore.numerics import unit_rows
from sslcore.objectives.info_nce import InfoNCE, info_nce_loss
from sslcore.random import derive_keys
from sslcore.views import ViewBatch


def plain_branch() -> Branch:
    return Branch(nn.Identity(), nn.Identity())


def two_batches(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    first, second = torch.randn(2, 8, 4, generator=torch.Generator().manual_seed(seed)).unbind()
    return first, second


def test_infonce_takes_the_mean_of_both_directions() -> None:
    z_a, z_b = two_batches()
    loss, _ = InfoNCE(temperature=0.3, symmetric=True)(z_a, z_b)
    forth, back = info_nce_loss(z_a, z_b, temperature=0.3), info_nce_loss(z_b, z_a, temperature=0.3)
    torch.testing.assert_close(loss, (forth + back) / 2)
    torch.testing.assert_close(InfoNCE(temperature=0.3)(z_a, z_b)[0], forth)
    assert not torch.allclose(forth, back)


def test_moco_v3_sums_both_directions_times_twice_the_temperature() -> None:
    z_a, z_b = two_batches()
    method = MoCoV3(plain_branch(), nn.Identity(), temperature=0.3)
    forth, back = info_nce_loss(z_a, z_b, temperature=0.3), info_nce_loss(z_b, z_a, temperature=0.3)
    torch.testing.assert_close(method(ViewBatch((z_a, z_b))).loss, 2 * 0.3 * (forth + back))


def test_nnclr_compares_predictions_with_the_nearest_past_projection() -> None:
    z_a, z_b = two_batches()
    queue = FeatureQueue(8, 4)
    order = torch.tensor([3, 1, 0, 2, 7, 6, 5, 4])
    queue.push(unit_rows(z_a)[order])
    method = NNCLR(plain_branch(), nn.Identity(), queue, temperature=0.3)
    nearest_b = unit_rows(z_a)[(unit_rows(z_b) @ unit_rows(z_a).T).argmax(dim=1)]
    expected = (
        info_nce_loss(z_a, z_b, temperature=0.3)  # the nearest of a past projection is itself
        + info_nce_loss(nearest_b, z_a, temperature=0.3)
    ) / 2
    torch.testing.assert_close(method(ViewBatch((z_a, z_b))).loss, expected)


def test_nnclr_queues_the_first_views_projections_after_the_step_only() -> None:
    z_a, z_b = two_batches()
    method = NNCLR(plain_branch(), nn.Identity(), FeatureQueue(12, 4))
    before = method.queue.keys.clone()
    method(ViewBatch((z_a, z_b)))
    assert torch.equal(method.queue.keys, before)
    method.after_step(0.1)
    method.after_step(0.2)
    torch.testing.assert_close(method.queue.keys[:8], unit_rows(z_a))
    assert torch.equal(method.queue.keys[8:], before[8:])


def test_moco_projects_through_one_linear_layer() -> None:
    head = MoCoConfig().build(nn.Identity(), 16).student.head
    assert [type(layer) for layer in head.children()] == [nn.Linear]


def test_a_loss_and_a_miner_by_name_get_their_arguments() -> None:
    config = MetricLearningConfig(
        loss="MultiSimilarityLoss",
        loss_args={"alpha": 3, "base": 0.4},
        miner="MultiSimilarityMiner",
        miner_args={"epsilon": 0.2},
        head_dims=(8, 4),
    )
    method = config.build(nn.Identity(), 4).eval()
    z_a, z_b = two_batches()
    with torch.no_grad():
        views = torch.cat([method.student(z_a), method.student(z_b)])
    rows = torch.arange(8).repeat(2)
    loss = MultiSimilarityLoss(alpha=3, base=0.4)
    miner = method.get_submodule("objective.miner")
    assert miner.epsilon == 0.2
    expected = loss(views, rows, miner(views, rows))
    torch.testing.assert_close(method(ViewBatch((z_a, z_b), keys=torch.arange(8))).loss, expected)


@pytest.mark.parametrize(
    "drawing",
    [
        {"miner": "DistanceWeightedMiner"},
        {"miner": "UniformHistogramMiner", "miner_args": {"pos_per_bin": 1, "neg_per_bin": 1}},
        {"loss_args": {"triplets_per_anchor": 2}},
    ],
)
def test_what_draws_draws_anew_in_each_step_and_alike_for_the_same_one(
    drawing: dict[str, Any],
) -> None:
    config = MetricLearningConfig.model_validate(
        {"loss": "TripletMarginLoss", "head_dims": (8, 4), **drawing}
    )
    method = config.build(nn.Identity(), 4).eval()

    def loss(seed: int, epoch: int) -> float:
        keys = derive_keys(torch.arange(8), seed, epoch)
        return method(ViewBatch(two_batches(), keys=keys)).loss.item()

    state = torch.get_rng_state()
    first = loss(0, 0)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(7)
    assert loss(0, 0) == first
    assert len({first, *(loss(0, epoch) for epoch in (1, 2)), loss(1, 0)}) == 4


def test_metric_learning_needs_keys_to_draw_from() -> None:
    method = MetricLearningConfig().build(nn.Identity(), 4)
    with pytest.raises(ShapeError, match="keys of a batch; this one has none"):
        method(ViewBatch(two_batches()))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": "MultiSimilarity"}, "did you mean 'MultiSimilarityLoss'"),
        ({"loss": "ArcFaceLoss"}, "num_classes"),
        ({"loss": "SubCenterArcFaceLoss"}, "num_classes"),
        ({"loss": "CrossBatchMemory"}, "unknown"),
        ({"loss": "DynamicSoftMarginLoss"}, "unknown"),
        ({"loss": "GenericPairLoss", "loss_args": {"mat_based_loss": True}}, "unknown"),
        (
            {"loss": "ProxyAnchorLoss", "loss_args": {"num_classes": 3, "embedding_size": 128}},
            "weights of classes",
        ),
        ({"loss_args": {"alpha_": 1}}, "alpha_"),
        ({"miner": "BatchHard"}, "did you mean 'BatchHardMiner'"),
        ({"miner": "EmbeddingsAlreadyPackagedAsTriplets"}, "method.miner: unknown"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_reason(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MetricLearningConfig.model_validate(settings).build(nn.Identity(), 4)
