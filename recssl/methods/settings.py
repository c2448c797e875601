"""Settings of the ranking losses, and of what is contrasted beside them."""

from typing import Annotated, Literal

from pydantic import Field

from sslcore.config import Section
from sslcore.methods.barlow_twins import BarlowTwinsConfig
from sslcore.methods.byol import ByolConfig
from sslcore.methods.moco import MoCoV2Config
from sslcore.methods.simclr import SimCLRConfig
from sslcore.methods.simsiam import SimSiamConfig
from sslcore.methods.triplet import Mining, TripletConfig
from sslcore.methods.vicreg import VICRegConfig


class BPRConfig(Section):
    """BPR: the liked item above drawn ones; arXiv:1205.2618."""

    name: Literal["bpr"] = "bpr"


class SampledSoftmaxConfig(Section):
    """Sampled softmax, in-batch InfoNCE: find the liked item among the candidates."""

    name: Literal["sampled_softmax"] = "sampled_softmax"
    temperature: float = Field(
        0.1, gt=0, description="decides more than anything else: 0.05 to 0.2"
    )
    cosine: bool = Field(True, description="compare directions, not inner products")


class BilateralSoftmaxConfig(Section):
    """BSL: a temperature of its own for the liked items; arXiv:2312.12882."""

    name: Literal["bilateral_softmax"] = "bilateral_softmax"
    positive_temperature: float = Field(0.12, gt=0, description="higher for noisier logs")
    negative_temperature: float = Field(0.1, gt=0)


class DirectAUConfig(Section):
    """DirectAU: alignment and uniformity, without negatives; arXiv:2206.12811."""

    name: Literal["direct_au"] = "direct_au"
    uniformity_weight: float = Field(
        0.5, gt=0, description="paper 0.2 to 10, by data set; less where popularity counts"
    )


class TripletRankingConfig(Section):
    """Triplet margin loss with mined items."""

    name: Literal["triplet"] = "triplet"
    margin: float = Field(0.5, gt=0, le=2, description="of distances at length 1")
    mining: Mining = Field("semihard", description="negatives")


class BUIRConfig(Section):
    """BUIR: user and item predict each other's embedding of a teacher; arXiv:2105.06323."""

    name: Literal["buir"] = "buir"
    momentum: float = Field(0.995, ge=0, lt=1, description="of the teacher; paper 0.995")


class SelfCFConfig(Section):
    """SelfCF: user and item predict each other, with dropout on the target; arXiv:2107.03019."""

    name: Literal["selfcf"] = "selfcf"
    dropout: float = Field(
        0.2, ge=0, lt=1, description="of the entries of the target; its code 0.05 to 0.2"
    )


RankingConfig = Annotated[
    BPRConfig
    | SampledSoftmaxConfig
    | BilateralSoftmaxConfig
    | DirectAUConfig
    | TripletRankingConfig
    | BUIRConfig
    | SelfCFConfig,
    Field(discriminator="name"),
]


class SGLConfig(Section):
    """SGL: InfoNCE between two graphs that each lack some edges; arXiv:2010.10783."""

    name: Literal["sgl"] = "sgl"
    temperature: float = Field(0.2, gt=0, description="paper 0.2")


class SimGCLConfig(Section):
    """SimGCL: InfoNCE between two passes with noise; arXiv:2112.08679."""

    name: Literal["simgcl"] = "simgcl"
    temperature: float = Field(0.2, gt=0, description="paper 0.2")


class XSimGCLConfig(Section):
    """XSimGCL: InfoNCE between two depths of one noisy pass; arXiv:2209.02544."""

    name: Literal["xsimgcl"] = "xsimgcl"
    temperature: float = Field(0.2, gt=0, description="paper 0.2")
    layer: int = Field(1, gt=0, description="contrasted with the final embeddings")


class LightGCLConfig(Section):
    """LightGCL: InfoNCE between the graph and its best copy of low rank; arXiv:2302.08191."""

    name: Literal["lightgcl"] = "lightgcl"
    temperature: float = Field(0.2, gt=0, description="its code 0.2")


class NCLConfig(Section):
    """NCL: InfoNCE with the neighbourhood and with prototypes; arXiv:2202.06200.

    What is called "its code" is that of its authors.
    """

    name: Literal["ncl"] = "ncl"
    temperature: float = Field(0.1, gt=0, description="its code 0.05 to 0.1")
    layer: int = Field(
        2,
        gt=0,
        multiple_of=2,
        description="contrasted with the embeddings before the first; paper 2",
    )
    item_weight: float = Field(
        1.0, ge=0, description="of items beside users; its code 0.5 to 1.5, by data set"
    )
    prototypes: int = Field(
        100,
        gt=0,
        description="of users and of items, at most one for four; its code 10 to 2000",
    )
    prototype_weight: float = Field(
        0.5, ge=0, description="beside the neighbourhood; its code 0.05 to 0.8, by data set"
    )
    warmup: float = Field(
        0.1, ge=0, lt=1, description="part of the run without prototypes; its code 20 epochs"
    )
    every: float = Field(
        0.05, gt=0, le=1, description="part of the run with the same ones; its code an epoch"
    )


ContrastConfig = Annotated[
    SGLConfig
    | SimGCLConfig
    | XSimGCLConfig
    | LightGCLConfig
    | NCLConfig
    | SimCLRConfig
    | MoCoV2Config
    | ByolConfig
    | SimSiamConfig
    | BarlowTwinsConfig
    | VICRegConfig
    | TripletConfig,
    Field(discriminator="name"),
]
