"""MAE: from the few patches that are left, paint the many that were hidden."""

import math
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from sslcore.diagnostics import spread
from sslcore.methods.masked_views import reconstruct_views
from sslcore.methods.method import StepOutput, ViewMethod
from sslcore.methods.settings import About, MethodSection, Rates, ViewNeeds
from sslcore.modules.branch import Branch
from sslcore.modules.masked_decoder import MaskedDecoder
from sslcore.modules.random_masks import random_mask
from sslcore.modules.tokens import TokenEncoder, require_tokens
from sslcore.objectives.masked_pixels import masked_pixel_loss, normalise_patches, patchify
from sslcore.random import SampleRandom
from sslcore.views import ViewBatch


class MaeConfig(MethodSection):
    """MAE: predict the pixels of hidden patches; the encoder sees only the others."""

    about: ClassVar[About] = About(
        family="masked",
        title="MAE",
        source='He et al., "Masked autoencoders are scalable vision learners", CVPR 2022,'
        " arXiv:2111.06377",
        needs="a transformer; no negatives, no teacher, and a batch of any size",
        choose="to fine-tune later, above all large images and volumes, whose hidden patches cost"
        " nothing; its features serve neighbours and linear probes less well",
    )
    rates: ClassVar[Rates] = Rates(adamw=6e-4, sgd=0.05, lars=0.2)  # paper: 2.4e-3 at 4096 images
    views: ClassVar[ViewNeeds] = ViewNeeds(full_scale=(0.2, 1.0), strength=0.0)  # crops alone
    needs_tokens: ClassVar[bool] = True
    projects: ClassVar[bool] = False

    name: Literal["mae"] = "mae"
    hidden_share: float = Field(0.75, gt=0, lt=1, description="of the patches; paper 0.75")
    decoder_dim: PositiveInt = Field(128, description="width of the decoder; paper 512")
    decoder_depth: PositiveInt = Field(2, description="its blocks; paper 8")
    decoder_heads: PositiveInt = Field(4, description="of its attention; paper 16")
    normalise: bool = Field(True, description="pixels of each patch for itself; paper true")

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> Self:
        if self.decoder_dim % self.decoder_heads:
            raise ValueError(
                f"decoder_heads {self.decoder_heads} do not divide decoder_dim {self.decoder_dim}"
            )
        return self

    def build(self, encoder: nn.Module, feature_dim: int) -> ViewMethod:
        """See `MethodSection.build`."""
        seer = require_tokens(encoder, method="mae")
        decoder = MaskedDecoder(
            feature_dim,
            width=self.decoder_dim,
            depth=self.decoder_depth,
            heads=self.decoder_heads,
            patch_values=seer.channels * math.prod(seer.patch_size),
        )
        return Mae(seer, decoder, hidden_share=self.hidden_share, normalise=self.normalise)


class Mae(ViewMethod):
    """An encoder that sees a part of the patches, and a light decoder that paints the others.

    Source:
        He et al., "Masked autoencoders are scalable vision learners", CVPR 2022,
        arXiv:2111.06377. The encoder's positions are its own affair, learnt or fixed; the log
        shows the spread of the features of what was visible.
    """

    def __init__(
        self,
        encoder: TokenEncoder,
        decoder: MaskedDecoder,
        *,
        hidden_share: float = 0.75,
        normalise: bool = True,
    ) -> None:
        """Join an encoder and a decoder.

        Args:
            encoder: Gives the tokens of patches.
            decoder: From its tokens to the values of all patches.
            hidden_share: Of the patches, 0 to 1.
            normalise: Whether each patch of the target has mean 0 and variance 1.
        """
        super().__init__()
        self.student = Branch(encoder, nn.Identity())
        self.decoder = decoder
        self.hidden_share = hidden_share
        self.normalise = normalise

    def forward(self, batch: ViewBatch[Any]) -> StepOutput:
        """Return the error of the hidden patches, the mean over all views; see `Method.forward`.

        Raises:
            ShapeError: If the batch has segments, or no keys.
        """
        return reconstruct_views(batch, self._reconstruct, method="MAE")

    def _reconstruct(self, view: Tensor, random: SampleRandom) -> tuple[Tensor, dict[str, Tensor]]:
        encoder = require_tokens(self.encoder, method="mae")
        grid = encoder.grid(view)
        mask = random_mask(random, grid, share=self.hidden_share)
        seen = encoder.tokens(view, visible=mask.visible)
        prediction = self.decoder(seen.pooled, seen.patches, mask.visible, grid)
        target = patchify(view, encoder.patch_size)
        if self.normalise:
            target = normalise_patches(target)
        loss = masked_pixel_loss(prediction, target, hidden=mask.hidden)
        return loss, {"spread": spread(seen.pooled.detach())}
