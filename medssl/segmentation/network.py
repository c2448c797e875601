"""A network that names the class of each pixel: an encoder and the way back up."""

from dataclasses import dataclass
from typing import Self

import torch
from monai.losses.dice import DiceCELoss
from monai.networks.blocks.convolutions import Convolution
from torch import Tensor, nn
from torch.nn import functional as F

from medssl.backbone import Backbone
from medssl.encoder_spec import EncoderSpec
from medssl.segmentation.feature_maps import FeatureMaps, map_shapes
from medssl.transforms.resizing import resize
from sslcore.methods.method import Method, StepOutput

_WIDEST = 128
_NARROWEST = 16
_MULTIPLE = 8  # of channels
_LINEAR = {2: "bilinear", 3: "trilinear"}


@dataclass(frozen=True, slots=True)
class MaskedBatch:
    """Views and the classes of their pixels, `[batch, *sides]`, 0 for none, on the device."""

    pixels: Tensor
    codes: Tensor


class Segmenter(Method[MaskedBatch]):
    """A backbone and a decoder, trained by the sum of Dice loss and cross-entropy.

    The decoder goes from the coarsest map up, doubling its sides; at every size it sees the map of
    the encoder, or where there is none, as of a transformer, the view itself.

    Source:
        Ronneberger et al., "U-Net", MICCAI 2015, arXiv:1505.04597, for maps of equal size that
        join; the loss is that of Isensee et al., "nnU-Net", Nature Methods 2021, arXiv:1809.10486,
        section 2, Dice over the whole batch and without the background.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        *,
        channels: int,
        sides: tuple[int, ...],
        frozen: bool = False,
    ) -> None:
        """Draw the weights of a decoder.

        Args:
            backbone: Trained with the rest, unless `frozen`.
            num_classes: Without the background.
            channels: Of a view.
            sides: Of a view, equal ones, px.
            frozen: Whether the backbone stays as it is, its batch norms too.
        """
        super().__init__()
        self._frozen = frozen
        if frozen:
            backbone.requires_grad_(requires_grad=False)
        self.maps = FeatureMaps(backbone)  # holds the backbone, once
        shapes = map_shapes(self.maps, channels, sides)
        self.decoder = _Decoder(shapes, channels, sides, num_classes + 1)
        self._loss = DiceCELoss(
            include_background=False, to_onehot_y=True, softmax=True, batch=True
        )

    @property
    def backbone(self) -> Backbone:
        """The network before the decoder."""
        return self.maps.backbone

    @property
    def encoder(self) -> nn.Module:
        """The backbone."""
        return self.backbone

    def train(self, mode: bool = True) -> Self:  # noqa: FBT001, FBT002 - as torch has it
        """Change between training and evaluation, as far as `frozen` allows."""
        super().train(mode)
        if self._frozen:
            self.backbone.eval()
        return self

    def forward(self, batch: MaskedBatch) -> StepOutput:
        """Return the loss of one batch."""
        return StepOutput(self.loss(self.logits(batch.pixels), batch.codes))

    def loss(self, logits: Tensor, codes: Tensor) -> Tensor:
        """Return the loss of `logits`, `[batch, 1 + classes, *sides]`, in float32."""
        loss: Tensor = self._loss(logits.float(), codes[:, None].long())
        return loss

    def logits(self, pixels: Tensor) -> Tensor:
        """Return `[batch, 1 + classes, *sides]`, of the same sides as the view."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self._frozen):
            maps = self.maps(pixels)
        scores: Tensor = self.decoder(pixels, maps)
        return scores


def segmenter_of(
    backbone: Backbone, spec: EncoderSpec, num_classes: int, *, frozen: bool = False
) -> Segmenter:
    """Put a decoder on the network of an encoder, for views of its size; see `Segmenter`."""
    sides = (spec.image_size,) * spec.dims
    return Segmenter(backbone, num_classes, channels=spec.channels, sides=sides, frozen=frozen)


class _Decoder(nn.Module):
    def __init__(
        self,
        shapes: list[tuple[int, int]],
        channels: int,
        sides: tuple[int, ...],
        num_outputs: int,
    ) -> None:
        super().__init__()
        dims = len(sides)
        self._mode = _LINEAR[dims]
        self._known = [side for _, side in shapes]
        self._sizes = _sizes(self._known, sides[0])
        widths = dict(zip(self._known, (width for width, _ in shapes), strict=True))
        width = _width(shapes[0][0])
        self.enter = _convolution(dims, shapes[0][0], width)
        steps = []
        for side in self._sizes[1:]:
            beside = widths.get(side, 0) + (channels if self._sees_view(side, sides[0]) else 0)
            wider = _width(widths.get(side, width // 2))
            steps.append(_convolution(dims, width + beside, wider))
            width = wider
        self.steps = nn.ModuleList(steps)
        self.leave = Convolution(dims, width, num_outputs, kernel_size=1, conv_only=True)

    def _sees_view(self, side: int, largest: int) -> bool:
        return side not in self._known or side == largest

    def forward(self, view: Tensor, maps: list[Tensor]) -> Tensor:
        found = dict(zip(self._known, maps, strict=True))
        x = self.enter(maps[0])
        for side, step in zip(self._sizes[1:], self.steps, strict=True):
            sides = [side] * (view.ndim - 2)
            parts = [F.interpolate(x, sides, mode=self._mode)]
            if side in found:
                parts.append(found[side])
            if self._sees_view(side, view.shape[2]):
                parts.append(resize(view, sides))
            x = step(torch.cat(parts, dim=1))
        scores: Tensor = self.leave(x)
        return scores


def _sizes(known: list[int], largest: int) -> list[int]:
    """Return the sides on the way up, at most twice the one before, roughly."""
    sizes = [known[0]]
    for goal in [*known[1:], largest]:
        while goal > 2.5 * sizes[-1]:
            sizes.append(2 * sizes[-1])
        if goal > sizes[-1]:
            sizes.append(goal)
    return sizes


def _width(channels: int) -> int:
    return min(_WIDEST, max(_NARROWEST, channels // 2 // _MULTIPLE * _MULTIPLE))


def _convolution(dims: int, channels: int, width: int) -> nn.Module:
    """Normalise each channel of each sample: batches are small, and groups of channels learn worse.

    With eight groups, a narrow network on volumes stayed at "nothing" for hundreds of steps.
    """
    norm = ("INSTANCE", {"affine": True})
    return Convolution(dims, channels, width, kernel_size=3, norm=norm, act="LEAKYRELU")
