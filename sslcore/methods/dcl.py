"""DCL: contrast in which the partner is no competitor of itself."""

from typing import ClassVar, Literal

from pydantic import Field
from torch import nn

from sslcore.methods.joint_embedding import JointEmbedding
from sslcore.methods.method import ViewMethod
from sslcore.methods.settings import About, HeadDims, MethodSection, Rates
from sslcore.modules.branch import Branch
from sslcore.modules.heads import projection_mlp
from sslcore.objectives.decoupled import Decoupled


class DCLConfig(MethodSection):
    """DCL: SimCLR whose loss does not weaken as partners come near."""

    about: ClassVar[About] = About(
        family="contrastive",
        title="DCL",
        source='Yeh et al., "Decoupled contrastive learning", ECCV 2022, arXiv:2110.06848',
        needs="other samples as negatives, but fewer of them than SimCLR",
        choose="instead of SimCLR where the batch is small",
    )
    rates: ClassVar[Rates] = Rates(adamw=4e-3, sgd=0.06, lars=0.3)

    name: Literal["dcl"] = "dcl"
    head_dims: HeadDims = Field((512, 128), description="layers after the encoder; paper 2048, 128")
    temperature: float = Field(0.2, gt=0, description="paper 0.1 (ImageNet), 0.07 (CIFAR-10)")

    def build(self, encoder: nn.Module, feature_dim: int) -> ViewMethod:
        """See `MethodSection.build`."""
        head = projection_mlp([feature_dim, *self.head_dims], final_norm=True)
        return JointEmbedding(Branch(encoder, head), Decoupled(temperature=self.temperature))
