"""InfoNCE: find the other view of a sample among the other views of the batch."""

from typing import ClassVar, Literal

from pydantic import Field, PositiveInt
from torch import nn

from sslcore.methods.joint_embedding import JointEmbedding
from sslcore.methods.method import ViewMethod
from sslcore.methods.settings import About, HeadDims, MethodSection, Rates
from sslcore.modules.branch import Branch
from sslcore.modules.heads import projection_mlp
from sslcore.objectives.info_nce import InfoNCE


class InfoNCEConfig(MethodSection):
    """InfoNCE: find the other view among those of the batch, in both directions."""

    about: ClassVar[About] = About(
        family="contrastive",
        title="InfoNCE",
        source='van den Oord et al., "CPC", 2018, arXiv:1807.03748, section 2.3',
        needs="a large batch, whose other samples are the negatives",
        choose="where the two views are of different kinds",
    )
    rates: ClassVar[Rates] = Rates(adamw=4e-3, sgd=0.06, lars=0.3)

    name: Literal["infonce"] = "infonce"
    head_dims: HeadDims = Field((512, 128), description="layers after the encoder")
    temperature: float = Field(0.2, gt=0, description="CLIP begins at 0.07")

    block: PositiveInt | None = Field(
        None, description="rows compared at a time, for large batches on small memory; exact"
    )

    def build(self, encoder: nn.Module, feature_dim: int) -> ViewMethod:
        """See `MethodSection.build`."""
        head = projection_mlp([feature_dim, *self.head_dims], final_norm=True)
        objective = InfoNCE(temperature=self.temperature, symmetric=True, block=self.block)
        return JointEmbedding(Branch(encoder, head), objective)
