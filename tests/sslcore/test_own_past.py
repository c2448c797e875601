"""Methods with a queue, where samples come again while it still holds their past keys."""

import pytest
import torch
from torch import Tensor, nn

from sslcore.errors import CheckpointError, ConfigError
from sslcore.methods.moco import Moco, MoCoConfig
from sslcore.methods.nnclr import NNCLR, NNCLRConfig
from sslcore.methods.registry import CONFIGS
from sslcore.methods.settings import MethodSection
from sslcore.methods.swav import SwavConfig
from sslcore.methods.triplet import TripletConfig
from sslcore.modules.branch import Branch
from sslcore.modules.queue import FeatureQueue
from sslcore.numerics import unit_rows
from sslcore.objectives.info_nce import info_nce_loss
from sslcore.training.checkpoint import Checkpoint
from sslcore.views import ViewBatch

IDS = torch.tensor([4, 0, 9])


def plain() -> Branch:
    return Branch(nn.Identity(), nn.Identity())


def views() -> tuple[Tensor, Tensor]:
    first, second = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0)).unbind()
    return first, second


def test_moco_compares_no_sample_with_its_own_past_keys() -> None:
    method = Moco(plain(), FeatureQueue(6, 4))
    past = torch.tensor([9, 4, 7, 4])
    method.queue.push(unit_rows(torch.randn(4, 4)), past)
    queries, keys = views()
    own = torch.zeros(3, 6, dtype=torch.bool)  # what was never pushed is nobody's
    own[:, :4] = IDS[:, None] == past
    losses = [
        info_nce_loss(queries[[row]], keys[[row]], negatives=method.queue.keys[~own[row]])
        for row in range(3)
    ]
    output = method(ViewBatch((queries, keys), ids=IDS))
    torch.testing.assert_close(output.loss, torch.stack(losses).mean())
    method.after_step(0.1)
    assert method.queue.ids.tolist() == [9, 4, 7, 4, 4, 0]  # and 9 in the place of the first


def test_nnclr_takes_no_samples_own_past_projection_for_its_neighbour() -> None:
    method = NNCLR(plain(), nn.Identity(), FeatureQueue(6, 4), temperature=0.3)
    z_a, z_b = views()
    past = torch.cat([unit_rows(z_a), unit_rows(torch.randn(3, 4))])
    method.queue.push(past, torch.tensor([4, 0, 9, 1, 2, 3]))
    nearest = []
    for z in (z_a, z_b):
        similarity = unit_rows(z) @ past.T
        similarity[range(3), range(3)] = -2
        nearest.append(past[similarity.argmax(dim=1)])
    expected = [info_nce_loss(nearest[full], (z_b, z_a)[full], temperature=0.3) for full in (0, 1)]
    output = method(ViewBatch((z_a, z_b), ids=IDS))
    torch.testing.assert_close(output.loss, torch.stack(expected).mean())


def test_without_ids_all_past_keys_are_negatives_as_published() -> None:
    method = Moco(plain(), FeatureQueue(6, 4))
    method.queue.push(unit_rows(torch.randn(4, 4)), torch.tensor([9, 4, 7, 4]))
    queries, keys = views()
    expected = info_nce_loss(queries, keys, negatives=method.queue.keys)
    torch.testing.assert_close(method(ViewBatch((queries, keys))).loss, expected)


def test_a_few_samples_that_come_again_and_again_are_told_apart() -> None:
    """With distinct features and all negatives others, the loss of a full queue is near its end."""
    method = Moco(plain(), FeatureQueue(12, 3), temperature=0.05)
    batch = ViewBatch((torch.eye(3), torch.eye(3)), ids=torch.arange(3))
    for _ in range(4):
        method(batch)
        method.after_step(0.5)
    assert method.queue.filled == 12
    assert method(batch).loss.item() < 1e-6


def test_nnclr_finds_the_same_neighbours_of_look_alikes_under_autocast() -> None:
    generator = torch.Generator().manual_seed(0)
    common = torch.randn(1, 32, generator=generator)
    rows = unit_rows(common + 0.1 * torch.randn(272, 32, generator=generator))
    method = NNCLR(plain(), nn.Identity(), FeatureQueue(256, 32))
    method.queue.push(rows[:256])
    batch = ViewBatch((rows[256:264], rows[264:]))
    expected = method(batch)
    with torch.autocast("cpu", torch.bfloat16):
        output = method(batch)
    assert output.loss == expected.loss
    assert output.logs["positive_similarity"] == expected.logs["positive_similarity"]


@pytest.mark.parametrize(
    ("config", "setting"),
    [
        (MoCoConfig(queue_size=31), "queue_size"),
        (NNCLRConfig(queue_size=31), "queue_size"),
        (SwavConfig(queue_size=31), "queue_size"),
        (TripletConfig(memory_size=31), "memory_size"),
    ],
)
def test_a_queue_that_does_not_hold_a_step_is_refused(config: MethodSection, setting: str) -> None:
    config.require_room(31)
    with pytest.raises(ConfigError, match=rf"contrast\.{setting} 31: smaller than .* 32 or more"):
        config.require_room(32, section="contrast")


@pytest.mark.parametrize("config", [SwavConfig(queue_size=0), TripletConfig()])
def test_without_a_queue_any_batch_has_room(config: MethodSection) -> None:
    config.require_room(10**6)


def test_every_setting_of_a_queue_is_known_as_one() -> None:
    for kind in CONFIGS:
        sizes = {"queue_size", "memory_size"} & set(kind.model_fields)
        assert sizes == ({kind.queue_field} if kind.queue_field else set())


def test_a_checkpoint_from_before_queues_knew_samples_is_refused_with_a_way_out() -> None:
    method = MoCoConfig(queue_size=8).build(nn.Linear(4, 4), 4)
    optimizer = torch.optim.SGD(method.student.parameters(), lr=0.1)
    older = {
        name: value
        for name, value in method.state_dict().items()
        if name not in ("queue.ids", "queue.filled")
    }
    with pytest.raises(CheckpointError, match=r"earlier version .* new run: [^\"]*\"queue\.ids"):
        Checkpoint(3, older, {}).restore(method, optimizer)
