"""SimCLR: contrast with the other samples of the batch."""

from typing import ClassVar, Literal

from pydantic import Field, PositiveInt
from torch import nn

from sslcore.methods.joint_embedding import JointEmbedding
from sslcore.methods.method import ViewMethod
from sslcore.methods.settings import About, HeadDims, MethodSection, Rates
from sslcore.modules.branch import Branch
from sslcore.modules.heads import projection_mlp
from sslcore.objectives.nt_xent import NTXent


class SimCLRConfig(MethodSection):
    """SimCLR: contrast with the other samples of the batch."""

    about: ClassVar[About] = About(
        family="contrastive",
        title="SimCLR",
        source='Chen et al., "SimCLR", ICML 2020, arXiv:2002.05709',
        needs="a large batch, whose other samples are the negatives",
        choose="first: it learns in few steps and hardly ever collapses",
    )
    rates: ClassVar[Rates] = Rates(adamw=4e-3, sgd=0.06, lars=0.3)

    name: Literal["simclr"] = "simclr"
    head_dims: HeadDims = Field((512, 128), description="layers after the encoder; paper 2048, 128")
    temperature: float = Field(
        0.2, gt=0, description="paper 0.1 (ImageNet) to 0.5 (CIFAR-10, short runs)"
    )

    block: PositiveInt | None = Field(
        None, description="rows compared at a time, for large batches on small memory; exact"
    )

    def build(self, encoder: nn.Module, feature_dim: int) -> ViewMethod:
        """See `MethodSection.build`."""
        head = projection_mlp([feature_dim, *self.head_dims], final_norm=True)
        return JointEmbedding(
            Branch(encoder, head), NTXent(temperature=self.temperature, block=self.block)
        )
