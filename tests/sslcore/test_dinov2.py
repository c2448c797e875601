"""DINOv2 and DINOv3: their terms, masks, the two heads, and the teacher that is kept."""

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sslcore.errors import ConfigError, ShapeError
from sslcore.methods.dinov2 import DinoV2, DinoV2Config, Masking, TokenBranch, Weights
from sslcore.methods.dinov3 import Anchoring, DinoV3, DinoV3Config
from sslcore.methods.self_distillation import Schedule
from sslcore.modules.center import RunningCenter, SinkhornCentering
from sslcore.modules.distillation_head import DistillationHead
from sslcore.modules.patch_masks import draw_patch_mask
from sslcore.objectives.gram import gram_loss
from sslcore.objectives.koleo import koleo_loss
from sslcore.objectives.self_distillation import masked_patch_loss
from sslcore.objectives.sinkhorn import sinkhorn
from sslcore.random import SampleRandom, derive_keys
from sslcore.views import ViewBatch
from tests.sslcore.toy_tokens import ToyTokens, as_image


def student() -> TokenBranch:
    torch.manual_seed(0)
    heads = [DistillationHead([8, 6, 4], 5) for _ in range(2)]
    return TokenBranch(ToyTokens(8), *heads).double()


def apart(method: DinoV2) -> DinoV2:
    """Let student and teacher differ."""
    with torch.no_grad():
        for parameter in method.student.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return method


def dinov2(**options: Any) -> DinoV2:
    return apart(DinoV2(student(), (SinkhornCentering(), SinkhornCentering()), **options))


def dinov3(**options: Any) -> DinoV3:
    method = DinoV3(student(), (SinkhornCentering(), SinkhornCentering()), **options)
    apart(method)
    return method


def some_batch(count: int = 2) -> ViewBatch[Tensor]:
    generator = torch.Generator().manual_seed(0)
    views = torch.randn(count, 6, 8, generator=generator, dtype=torch.float64)
    images = tuple(as_image(view) for view in views)
    return ViewBatch(images, keys=derive_keys(torch.arange(6)))


def masks_of(batch: ViewBatch[Tensor], masking: Masking) -> list[Tensor]:
    assert batch.keys is not None
    random = SampleRandom(batch.keys)
    return [draw_patch_mask(random, (4, 4), **masking._asdict()) for _ in range(2)]


def test_loss_is_the_weighted_sum_of_its_terms() -> None:
    output = dinov2(weights=Weights(patches=0.5, koleo=0.25))(some_batch(3))
    terms = output.logs
    expected = terms["views"] + 0.5 * terms["patches"] + 0.25 * terms["koleo"]
    torch.testing.assert_close(output.loss.detach(), expected)


def test_the_student_sees_masked_full_views_and_the_teacher_whole_ones() -> None:
    method, batch = dinov2(), some_batch()
    encoder, masks = method.student.encoder, masks_of(batch, Masking())
    mine = [
        encoder.tokens(view, masked=mask) for view, mask in zip(batch.views, masks, strict=True)
    ]
    teacher = method.teacher.module
    assert isinstance(teacher, TokenBranch)
    theirs = [teacher.encoder.tokens(view) for view in batch.views]
    logs, masked = method(batch).logs, torch.cat(masks)
    koleo = koleo_loss(mine[0].pooled) + koleo_loss(mine[1].pooled)
    torch.testing.assert_close(logs["koleo"], koleo.detach())

    scores = method.student.patch_head(torch.cat([each.patches for each in mine])[masked])
    hidden = teacher.patch_head(torch.cat([each.patches for each in theirs])[masked])
    patches = masked_patch_loss(scores, sinkhorn(hidden, epsilon=0.04), masked=masked)
    torch.testing.assert_close(logs["patches"], patches.detach())

    targets = sinkhorn(torch.cat([teacher.head(each.pooled) for each in theirs]), epsilon=0.04)
    guesses = [method.student.head(each.pooled) / 0.1 for each in mine]
    cross = nn.functional.cross_entropy
    views = (cross(guesses[1], targets[:6]) + cross(guesses[0], targets[6:])) / 2
    torch.testing.assert_close(logs["views"], views.detach())


def test_masks_follow_the_keys() -> None:
    method, batch = dinov2(), some_batch()
    other = replace(batch, keys=derive_keys(torch.arange(6), 1))
    assert method(batch).loss == method(replace(batch)).loss
    assert method(batch).loss != method(other).loss


def test_without_masks_there_is_no_loss_of_patches() -> None:
    method = dinov2(masking=Masking(probability=0.0))
    output = method(some_batch())
    output.loss.backward()
    assert output.logs["patches"] == 0
    for key, parameter in method.student.named_parameters():
        assert parameter.grad is not None, key


def test_heads_of_views_and_of_patches_share_nothing() -> None:
    method = dinov2()
    views = {value.data_ptr() for value in method.student.head.parameters()}
    patches = {value.data_ptr() for value in method.student.patch_head.parameters()}
    assert not views & patches


def test_prototypes_of_both_heads_stand_still_at_first() -> None:
    method = dinov2(schedule=Schedule(frozen_until=0.1), masking=Masking(probability=1.0))
    for done, still in ((0.0, True), (0.1, False)):
        method.progress.move(done)
        method.zero_grad()
        method(some_batch()).loss.backward()
        for head in (method.student.head, method.student.patch_head):
            assert isinstance(head, DistillationHead)
            assert head.prototypes.vectors.grad is not None
            assert bool((head.prototypes.vectors.grad == 0).all()) == still


def test_softmax_centering_has_one_center_for_views_and_one_for_patches() -> None:
    method = DinoV2Config(centering="softmax", num_prototypes=5).build(ToyTokens(8), 8).double()
    assert isinstance(method, DinoV2)
    method(some_batch())
    method.after_step(0.1)
    assert isinstance(method.centering, RunningCenter)
    assert isinstance(method.patch_centering, RunningCenter)
    centers = method.centering.center, method.patch_centering.center
    assert all(center.abs().sum() > 0 for center in centers)
    assert not torch.equal(*centers)


def test_refuses_a_batch_without_keys() -> None:
    with pytest.raises(ShapeError, match=r"needs ViewBatch\.keys"):
        dinov2()(replace(some_batch(), keys=None))


@pytest.mark.parametrize("config", [DinoV2Config(), DinoV3Config()])
def test_refuses_an_encoder_without_patches(config: DinoV2Config | DinoV3Config) -> None:
    with pytest.raises(ConfigError, match=f"{config.name} needs a transformer"):
        config.build(nn.Linear(8, 16), 16)


def test_patches_are_held_from_their_share_of_the_run_on() -> None:
    method, batch = dinov3(anchoring=Anchoring(weight=3.0, start=0.6)), some_batch(3)
    base = method(batch)
    assert base.logs["gram"] == 0
    method.progress.move(0.6)
    held = method(batch)
    mine = [
        method.student.encoder.tokens(view, masked=mask).patches
        for view, mask in zip(batch.views, masks_of(batch, Masking()), strict=False)
    ]
    kept = method.teacher_kept.module
    assert isinstance(kept, ToyTokens)
    theirs = [kept.tokens(view).patches for view in batch.views[:2]]
    expected = gram_loss(torch.cat(mine), torch.cat(theirs)).detach()
    torch.testing.assert_close(held.logs["gram"], expected)
    assert expected > 0
    terms = held.logs
    total = terms["views"] + terms["patches"] + 0.1 * terms["koleo"] + 3 * expected
    torch.testing.assert_close(held.loss.detach(), total)


def same(mine: nn.Module, theirs: nn.Module) -> bool:
    pairs = zip(mine.parameters(), theirs.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_the_teacher_is_kept_at_set_shares_of_the_run() -> None:
    method = dinov3(anchoring=Anchoring(kept_at=0.25, start=0.5, every=0.125))
    teacher = method.teacher.module
    assert isinstance(teacher, TokenBranch)
    kept_at = []
    for step in range(1, 17):
        before = copy.deepcopy(method.teacher_kept.state_dict())
        method.after_step(step / 16)
        after = method.teacher_kept.state_dict()
        if any(not torch.equal(value, after[key]) for key, value in before.items()):
            assert same(method.teacher_kept.module, teacher.encoder)
            kept_at.append(step / 16)
    assert kept_at == [0.25, 0.625, 0.75, 0.875, 1.0]


def test_no_gradient_reaches_the_teacher_that_is_kept() -> None:
    method = dinov3(anchoring=Anchoring(kept_at=0.0, start=0.0))
    method(some_batch()).loss.backward()
    assert all(p.grad is None for p in method.teacher_kept.parameters())
    assert all(p.grad is None for p in method.teacher.parameters())


def test_settings_reach_the_method() -> None:
    config = DinoV3Config(
        num_prototypes=9,
        momentum=0.5,
        patch_weight=0.3,
        koleo_weight=0.2,
        mask_probability=0.7,
        mask_share=(0.2, 0.3),
        mask_shape="random",
        gram_weight=4.0,
        gram_kept_at=0.1,
        gram_from=0.2,
        gram_every=0.05,
    )
    method = config.build(ToyTokens(8), 8)
    assert isinstance(method, DinoV3)
    assert method.schedule.momentum == 0.5
    assert method.weights == Weights(0.3, 0.2)
    assert method.masking == Masking((0.2, 0.3), 0.7, "random")
    assert method.anchoring == Anchoring(4.0, 0.1, 0.2, 0.05)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"gram_kept_at": 0.7}, "gram_kept_at 0.7 > gram_from 0.6"),
        ({"mask_share": (0.5, 0.4)}, "mask_share: expected 0 < low <= high <= 1, got 0.5, 0.4"),
        ({"mask_share": (0.0, 0.4)}, "mask_share: expected"),
    ],
)
def test_impossible_settings_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DinoV3Config(**values)
