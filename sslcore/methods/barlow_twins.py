"""Barlow Twins: make the cross-correlation of two views the identity."""

from typing import ClassVar, Literal

from pydantic import Field
from torch import nn

from sslcore.methods.joint_embedding import JointEmbedding
from sslcore.methods.method import ViewMethod
from sslcore.methods.settings import About, HeadDims, MethodSection, Rates
from sslcore.modules.branch import Branch
from sslcore.modules.heads import projection_mlp
from sslcore.objectives.barlow_twins import BarlowTwins


class BarlowTwinsConfig(MethodSection):
    """Barlow Twins: make the cross-correlation of two views the identity."""

    about: ClassVar[About] = About(
        family="non-contrastive",
        title="Barlow Twins",
        source='Zbontar et al., "Barlow Twins", ICML 2021, arXiv:2103.03230',
        needs="a wide head; no negatives, no teacher, and a batch of any size",
        choose="for small batches, and where images look so alike that negatives would be wrong",
    )
    rates: ClassVar[Rates] = Rates(adamw=2e-3, sgd=0.03, lars=0.2)

    name: Literal["barlow_twins"] = "barlow_twins"
    head_dims: HeadDims = Field(
        (512, 512, 512), description="layers after the encoder; paper 8192, 8192, 8192"
    )
    redundancy_weight: float = Field(5.1e-3, gt=0, description="paper 0.005, its code 0.0051")

    def build(self, encoder: nn.Module, feature_dim: int) -> ViewMethod:
        """See `MethodSection.build`."""
        student = Branch(encoder, projection_mlp([feature_dim, *self.head_dims]))
        return JointEmbedding(student, BarlowTwins(redundancy_weight=self.redundancy_weight))
