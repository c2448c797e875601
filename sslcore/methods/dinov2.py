"""DINOv2: DINO on views, the same on masked patches, and features kept apart."""

from abc import ABC
from typing import Any, ClassVar, Literal, NamedTuple, Self, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from sslcore.distributed import gather_rows
from sslcore.errors import ShapeError
from sslcore.methods.method import StepOutput, ViewMethod, all_views, detached
from sslcore.methods.self_distillation import Schedule, SelfDistillationSection, distil
from sslcore.methods.settings import About, Rates, ViewNeeds
from sslcore.modules.branch import Branch
from sslcore.modules.center import Centering, RunningCenter, SinkhornCentering
from sslcore.modules.distillation_head import DistillationHead
from sslcore.modules.ema import EmaTeacher
from sslcore.modules.patch_masks import MaskShape, draw_patch_mask
from sslcore.modules.progress import Progress
from sslcore.modules.tokens import TokenEncoder, require_tokens
from sslcore.objectives.koleo import koleo_loss
from sslcore.objectives.self_distillation import masked_patch_loss
from sslcore.random import SampleRandom
from sslcore.views import ViewBatch


class Masking(NamedTuple):
    """Of the student's full views; see `draw_patch_mask`."""

    share: tuple[float, float] = (0.1, 0.5)
    probability: float = 0.5
    shape: MaskShape = "block"


class Weights(NamedTuple):
    """Of the terms beside the one of whole views."""

    patches: float = 1.0
    koleo: float = 0.1


class TokenDistillationSection(SelfDistillationSection, ABC):
    """Settings of DINOv2 and DINOv3."""

    rates: ClassVar[Rates] = Rates(adamw=5e-4, sgd=0.03, lars=0.2)
    views: ClassVar[ViewNeeds] = ViewNeeds(local_views=4)
    needs_tokens: ClassVar[bool] = True

    centering: Literal["sinkhorn", "softmax"] = Field(
        "sinkhorn", description="of the teacher; paper sinkhorn; softmax with a running center"
    )
    patch_weight: float = Field(1.0, ge=0, description="of the masked patches; paper 1")
    koleo_weight: float = Field(0.1, ge=0, description="of keeping features apart; paper 0.1")
    mask_probability: float = Field(0.5, ge=0, le=1, description="share of masked views; paper 0.5")
    mask_share: tuple[float, float] = Field(
        (0.1, 0.5), description="of a masked view's patches, from and to; paper 0.1 to 0.5"
    )
    mask_shape: MaskShape = Field("block", description="block or random; paper block")

    @model_validator(mode="after")
    def _masks_a_part(self) -> Self:
        low, high = self.mask_share
        if not 0 < low <= high <= 1:
            raise ValueError(f"mask_share: expected 0 < low <= high <= 1, got {low:g}, {high:g}")
        return self

    def masking(self) -> Masking:
        """Return how patches are masked."""
        return Masking(self.mask_share, self.mask_probability, self.mask_shape)

    def weights(self) -> Weights:
        """Return the weights of the terms."""
        return Weights(self.patch_weight, self.koleo_weight)

    def new_student(self, encoder: nn.Module) -> "TokenBranch":
        """Put two heads on an encoder that gives tokens.

        Raises:
            ConfigError: It does not.
        """
        tokens = require_tokens(encoder, method=self.name)
        dims = [tokens.feature_dim, *self.head_dims]
        heads = [DistillationHead(dims, self.num_prototypes) for _ in range(2)]
        return TokenBranch(tokens, *heads)

    def new_centering(self) -> Centering:
        """Return what makes assignments of a teacher's scores."""
        if self.centering == "sinkhorn":
            return SinkhornCentering()
        return RunningCenter(self.num_prototypes)


class DinoV2Config(TokenDistillationSection):
    """DINOv2: DINO on views and on masked patches, and features kept apart."""

    about: ClassVar[About] = About(
        family="self-distillation",
        title="DINOv2",
        source='Oquab et al., "DINOv2", TMLR 2024, arXiv:2304.07193',
        needs="a vision transformer, a teacher, smaller crops; many images and steps",
        choose="where patches matter too, as for segmentation, and to go on from given weights",
    )

    name: Literal["dinov2"] = "dinov2"

    def build(self, encoder: nn.Module, feature_dim: int) -> ViewMethod:
        """See `MethodSection.build`."""
        return DinoV2(
            self.new_student(encoder),
            (self.new_centering(), self.new_centering()),
            schedule=self.schedule(),
            masking=self.masking(),
            weights=self.weights(),
        )


class TokenBranch(Branch):
    """Encoder with one head for the view and another for its patches."""

    encoder: TokenEncoder

    def __init__(self, encoder: TokenEncoder, head: nn.Module, patch_head: nn.Module) -> None:
        super().__init__(encoder, head)
        self.patch_head = patch_head


class FullViews(NamedTuple):
    """What the student makes of the two full views, and what the teacher makes of them.

    Attributes:
        pooled: Features of each view, `[batch, dim]`.
        patches: Tokens of both views, one after the other, `[2 * batch, count, dim]`.
        masked: Which of them were masked, `[2 * batch, count]`, bool.
        their_patches: The teacher's tokens, unmasked.
        their_scores: The teacher's scores of both views, `[2 * batch, prototypes]`.
    """

    pooled: tuple[Tensor, ...]
    patches: Tensor
    masked: Tensor
    their_patches: Tensor
    their_scores: Tensor


class DinoV2(ViewMethod):
    """Self-distillation of views and of masked patches.

    Source:
        Oquab et al., "DINOv2", TMLR 2024, arXiv:2304.07193, section 4: the loss of DINO, plus that
        of iBOT (arXiv:2111.07832) with a head of its own, plus that of KoLeo, which is summed over
        both full views. Weights and masks follow the authors' code. Nearest neighbours are those
        among the samples of all processes, not of one.
    """

    student: TokenBranch

    def __init__(
        self,
        student: TokenBranch,
        centerings: tuple[Centering, Centering],
        *,
        schedule: Schedule | None = None,
        masking: Masking | None = None,
        weights: Weights | None = None,
    ) -> None:
        """Start the teacher as a copy of the student.

        Args:
            student: Its heads are `DistillationHead`s.
            centerings: From the teacher's scores to assignments, of views and of patches.
            schedule: See there for the default.
            masking: That of the paper by default.
            weights: Likewise.
        """
        super().__init__()
        self.student = student
        self.teacher = EmaTeacher(student)
        self.centering, self.patch_centering = centerings
        self.progress = Progress()
        self.schedule = schedule or Schedule()
        self.masking = masking or Masking()
        self.weights = weights or Weights()

    def forward(self, batch: ViewBatch[Any]) -> StepOutput:
        """Predict the teacher's assignments of full views and of their patches.

        See `Method.forward`.

        Raises:
            ShapeError: If the batch has segments, or no keys.
        """
        views = all_views(batch)
        return self._loss(self._full_views(batch), views[2:])

    @property
    def _teacher_branch(self) -> TokenBranch:
        return cast("TokenBranch", self.teacher.module)

    def _full_views(self, batch: ViewBatch[Any]) -> FullViews:
        if batch.segments:
            raise ShapeError("DINOv2 compares the rows of a batch and cannot keep segments apart")
        if batch.keys is None:
            raise ShapeError("DINOv2 draws masks and needs ViewBatch.keys, got none")
        random, encoder = SampleRandom(batch.keys), self.student.encoder
        views = batch.views[:2]
        masks = [draw_patch_mask(random, encoder.grid(v), **self.masking._asdict()) for v in views]
        mine = [encoder.tokens(v, masked=mask) for v, mask in zip(views, masks, strict=True)]
        with torch.no_grad():
            teacher = self._teacher_branch
            theirs = [teacher.encoder.tokens(view) for view in views]
            their_scores = teacher.head(torch.cat([each.pooled for each in theirs]))
        return FullViews(
            pooled=tuple(each.pooled for each in mine),
            patches=torch.cat([each.patches for each in mine]),
            masked=torch.cat(masks),
            their_patches=torch.cat([each.patches for each in theirs]),
            their_scores=their_scores,
        )

    def _loss(self, full: FullViews, crops: tuple[Any, ...]) -> StepOutput:
        done = self.progress.value
        frozen = done < self.schedule.frozen_until
        pooled = [*full.pooled, *(self.student.encoder(crop) for crop in crops)]
        scores = [self.student.head(each, frozen=frozen) for each in pooled]
        temperature = self.schedule.temperature_at(done)
        targets = self.centering(full.their_scores, temperature=temperature)
        view_loss, logs = distil(
            scores, targets.chunk(2), temperature=self.schedule.student_temperature
        )
        terms = {
            "views": view_loss,
            "patches": self._patch_loss(full, temperature, frozen=frozen),
            "koleo": torch.stack([koleo_loss(gather_rows(each)) for each in full.pooled]).sum(),
        }
        loss = (
            terms["views"]
            + self.weights.patches * terms["patches"]
            + self.weights.koleo * terms["koleo"]
        )
        return StepOutput(loss, {**logs, **detached(terms)})

    def _patch_loss(self, full: FullViews, temperature: float, *, frozen: bool) -> Tensor:
        scores = self.student.patch_head(full.patches[full.masked], frozen=frozen)
        with torch.no_grad():
            theirs = self._teacher_branch.patch_head(full.their_patches[full.masked])
        targets = self.patch_centering(theirs, temperature=temperature)
        return masked_patch_loss(
            scores, targets, masked=full.masked, temperature=self.schedule.student_temperature
        )

    def after_step(self, progress: float) -> None:
        """Move the centers and the teacher; its momentum rises to 1 at the end of the run."""
        self.progress.move(progress)
        self.centering.update()
        self.patch_centering.update()
        self.teacher.update(self.student, momentum=self.schedule.momentum_at(progress))
