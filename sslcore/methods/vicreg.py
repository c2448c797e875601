"""VICReg: agree across views, keep every dimension spread, keep dimensions unrelated."""

from typing import ClassVar, Literal

from pydantic import Field
from torch import nn

from sslcore.methods.joint_embedding import JointEmbedding
from sslcore.methods.method import ViewMethod
from sslcore.methods.settings import About, HeadDims, MethodSection, Rates
from sslcore.modules.branch import Branch
from sslcore.modules.heads import projection_mlp
from sslcore.objectives.vicreg import VICReg


class VICRegConfig(MethodSection):
    """VICReg: agree across views, keep every dimension spread, keep dimensions unrelated."""

    about: ClassVar[About] = About(
        family="non-contrastive",
        title="VICReg",
        source='Bardes et al., "VICReg", ICLR 2022, arXiv:2105.04906',
        needs="a wide head; no negatives, no teacher",
        choose="where collapse must be ruled out by the loss itself, also without batch norm",
    )
    rates: ClassVar[Rates] = Rates(adamw=4e-3, sgd=0.03, lars=0.2)

    name: Literal["vicreg"] = "vicreg"
    head_dims: HeadDims = Field(
        (512, 512, 512), description="layers after the encoder; paper 8192, 8192, 8192"
    )
    invariance: float = Field(25.0, ge=0, description="weight; paper 25")
    variance: float = Field(25.0, ge=0, description="weight; paper 25")
    covariance: float = Field(1.0, ge=0, description="weight; paper 1")

    def build(self, encoder: nn.Module, feature_dim: int) -> ViewMethod:
        """See `MethodSection.build`."""
        student = Branch(encoder, projection_mlp([feature_dim, *self.head_dims]))
        weights = self.model_dump(include={"invariance", "variance", "covariance"})
        return JointEmbedding(student, VICReg(**weights))
