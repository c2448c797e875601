"""SimMIM: replace patches by one learnt token, and read their pixels off the encoder's output."""

import math
from typing import Any, ClassVar, Literal

from pydantic import Field, PositiveInt
from torch import Tensor, nn

from sslcore.diagnostics import spread
from sslcore.methods.masked_views import reconstruct_views
from sslcore.methods.method import StepOutput, ViewMethod
from sslcore.methods.settings import About, MethodSection, Rates, ViewNeeds
from sslcore.modules.branch import Branch
from sslcore.modules.random_masks import random_mask
from sslcore.modules.tokens import TokenEncoder, require_tokens
from sslcore.objectives.masked_pixels import masked_pixel_loss, patchify
from sslcore.random import SampleRandom
from sslcore.views import ViewBatch


class SimmimConfig(MethodSection):
    """SimMIM: predict the pixels of masked patches with one linear layer."""

    about: ClassVar[About] = About(
        family="masked",
        title="SimMIM",
        source='Xie et al., "SimMIM: a simple framework for masked image modeling", CVPR 2022,'
        " arXiv:2111.09886",
        needs="a transformer; no decoder, no negatives, no teacher, and a batch of any size",
        choose="instead of MAE where the decoder is in the way; a step costs a plain pass of all"
        " patches",
    )
    rates: ClassVar[Rates] = Rates(adamw=3e-4, sgd=0.05, lars=0.2)  # paper: 8e-4 at 2048 images
    views: ClassVar[ViewNeeds] = ViewNeeds(full_scale=(0.67, 1.0), strength=0.0)  # crops alone
    needs_tokens: ClassVar[bool] = True
    projects: ClassVar[bool] = False

    name: Literal["simmim"] = "simmim"
    hidden_share: float = Field(0.6, gt=0, lt=1, description="of the patches; paper 0.6")
    block: PositiveInt = Field(
        1,
        description="patches along the side of what is masked as a whole; paper 32 px, which is 2"
        " patches of 16 px",
    )

    def build(self, encoder: nn.Module, feature_dim: int) -> ViewMethod:
        """See `MethodSection.build`."""
        seer = require_tokens(encoder, method="simmim")
        head = nn.Linear(feature_dim, seer.channels * math.prod(seer.patch_size))
        return Simmim(seer, head, hidden_share=self.hidden_share, block=self.block)


class Simmim(ViewMethod):
    """An encoder that sees a learnt token in place of hidden patches, and a linear layer.

    Source:
        Xie et al., "SimMIM", CVPR 2022, arXiv:2111.09886, with the L1 error of masked pixels. The
        log shows the spread of the pooled features of masked views.
    """

    def __init__(
        self, encoder: TokenEncoder, head: nn.Module, *, hidden_share: float = 0.6, block: int = 1
    ) -> None:
        """Join an encoder and a layer.

        Args:
            encoder: Gives the tokens of patches.
            head: From a patch's token to its values.
            hidden_share: Of the patches, 0 to 1.
            block: See `random_mask`.
        """
        super().__init__()
        self.student = Branch(encoder, nn.Identity())
        self.head = head
        self.hidden_share = hidden_share
        self.block = block

    def forward(self, batch: ViewBatch[Any]) -> StepOutput:
        """Return the error of the masked patches, the mean over all views; see `Method.forward`.

        Raises:
            ShapeError: If the batch has segments, or no keys.
        """
        return reconstruct_views(batch, self._reconstruct, method="SimMIM")

    def _reconstruct(self, view: Tensor, random: SampleRandom) -> tuple[Tensor, dict[str, Tensor]]:
        encoder = require_tokens(self.encoder, method="simmim")
        mask = random_mask(random, encoder.grid(view), share=self.hidden_share, block=self.block)
        tokens = encoder.tokens(view, masked=mask.hidden)
        target = patchify(view, encoder.patch_size)
        loss = masked_pixel_loss(
            self.head(tokens.patches), target, hidden=mask.hidden, distance="absolute"
        )
        return loss, {"spread": spread(tokens.pooled.detach())}
