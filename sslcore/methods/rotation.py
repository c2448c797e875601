"""Rotation: tell by how many quarters an image was turned."""

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from sslcore.errors import ShapeError
from sslcore.methods.images import require_square_images
from sslcore.methods.method import StepOutput, ViewMethod, average
from sslcore.methods.settings import About, MethodSection, Rates
from sslcore.modules.branch import Branch
from sslcore.objectives.classification import classification_loss
from sslcore.views import ViewBatch

NUM_TURNS = 4


class RotationConfig(MethodSection):
    """Rotation: tell by how many quarters an image was turned."""

    about: ClassVar[About] = About(
        family="pretext",
        title="Rotation",
        source='Gidaris et al., "Unsupervised representation learning by predicting image'
        ' rotations", ICLR 2018, arXiv:1803.07728',
        needs="images with an up and a down; every view is encoded four times",
        choose="as a simple baseline, for radiographs, CT, MR and photographs; never for"
        " microscopy and histology, whose views are turned by quarters anyway, so that there is"
        " nothing to tell",
    )
    rates: ClassVar[Rates] = Rates(adamw=4e-3, sgd=0.03, lars=0.2)
    needs_squares: ClassVar[bool] = True
    projects: ClassVar[bool] = False

    name: Literal["rotation"] = "rotation"

    def build(self, encoder: nn.Module, feature_dim: int) -> ViewMethod:
        """See `MethodSection.build`."""
        return Rotation(Branch(encoder, nn.Linear(feature_dim, NUM_TURNS)))


class Rotation(ViewMethod):
    """Classify all four quarter turns of each full view.

    Where views are already turned by quarters at random, as for microscopy and histology, the
    answer cannot be known and the loss stays at `log(4)`.

    Source:
        Gidaris et al., ICLR 2018, arXiv:1803.07728, section 3.1. All four turns of an image are in
        the same batch, as the paper found best: batch norm must not see one turn alone. One linear
        layer names the turn; the paper's is that of its supervised network.
    """

    def __init__(self, student: Branch) -> None:
        """Take a branch whose projections are the scores of the four turns."""
        super().__init__()
        self.student = student

    def forward(self, batch: ViewBatch[Any]) -> StepOutput:
        """Name the turns of the full views; see `Method.forward`. Smaller crops have no part.

        Raises:
            ShapeError: A view that is not `[batch, channels, side, side]`, or segments, which
                images do not have.
        """
        if batch.segments:
            raise ShapeError("rotation takes images, which have no segments")
        return average([self._name_turns(view) for view in batch.views[:2]])

    def _name_turns(self, view: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        turned = quarter_turns(view)
        answers = torch.arange(NUM_TURNS, device=view.device).repeat_interleave(len(view))
        return classification_loss(self.student(turned), answers=answers)


def quarter_turns(view: Tensor) -> Tensor:
    """Return `view` turned by 0, 90, 180 and 270 degrees, `[4 * batch, channels, side, side]`.

    Raises:
        ShapeError: It is not `[batch, channels, side, side]`.
    """
    require_square_images(view, method="rotation")
    return torch.cat([torch.rot90(view, turn, dims=(2, 3)) for turn in range(NUM_TURNS)])
