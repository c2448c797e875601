"""SimCLR v2: a deeper head, whose first layer stays with the encoder."""

from typing import ClassVar, Literal

from pydantic import Field, PositiveInt
from torch import nn

from sslcore.methods.joint_embedding import JointEmbedding
from sslcore.methods.method import ViewMethod
from sslcore.methods.settings import About, MethodSection, Rates
from sslcore.modules.branch import Branch
from sslcore.modules.heads import projection_mlp
from sslcore.objectives.nt_xent import NTXent


class SimCLRv2Config(MethodSection):
    """SimCLR v2: a deeper head, whose first layer stays with the encoder."""

    about: ClassVar[About] = About(
        family="contrastive",
        title="SimCLR v2",
        source='Chen et al., "Big self-supervised models", NeurIPS 2020, arXiv:2006.10029',
        needs="a large batch, whose other samples are the negatives",
        choose="where few labels follow: fine-tuning starts in the middle of the head, and"
        " `medssl distill` passes the result on to a small network",
    )
    rates: ClassVar[Rates] = Rates(adamw=4e-3, sgd=0.06, lars=0.3)
    keeps_head_layer: ClassVar[bool] = True

    name: Literal["simclr_v2"] = "simclr_v2"
    head_dims: tuple[PositiveInt, ...] = Field(
        (512, 512, 128),
        min_length=2,
        description="layers after the encoder, of which the first stays; paper: three, the hidden"
        " ones as wide as the encoder's features",
    )
    temperature: float = Field(0.2, gt=0, description="paper 0.1")
    block: PositiveInt | None = Field(
        None, description="rows compared at a time, for large batches on small memory; exact"
    )

    def build(self, encoder: nn.Module, feature_dim: int) -> ViewMethod:
        """See `MethodSection.build`."""
        head = projection_mlp([feature_dim, *self.head_dims], final_norm=True)
        return JointEmbedding(
            Branch(encoder, head), NTXent(temperature=self.temperature, block=self.block)
        )
