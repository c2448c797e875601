"""From a method's configuration to the method. A new method gets a config and two cases here."""

from typing import Annotated, Literal, NamedTuple, assert_never

from pydantic import Field, PositiveInt
from torch import nn

from sslcore.config import Section, suggest
from sslcore.errors import ConfigError
from sslcore.methods.byol import Byol
from sslcore.methods.joint_embedding import JointEmbedding
from sslcore.methods.method import ViewMethod
from sslcore.methods.moco import Moco
from sslcore.methods.simsiam import SimSiam
from sslcore.methods.triplet import Mining, Triplet, triplet_objective
from sslcore.modules.branch import Branch
from sslcore.modules.heads import prediction_mlp, projection_mlp
from sslcore.modules.queue import FeatureQueue
from sslcore.objectives.barlow_twins import BarlowTwins
from sslcore.objectives.nt_xent import NTXent
from sslcore.objectives.vicreg import VICReg

# Defaults are for some thousand small images and a ResNet-18: a few thousand steps, batch 256.
# Each description says what the paper takes for ImageNet. A teacher's momentum must fit the number
# of steps: with the papers' 0.996 and 0.999 it would still be half random after 200 or 700 steps.

HeadDims = Annotated[tuple[PositiveInt, ...], Field(min_length=1)]


class SimCLRConfig(Section):
    """SimCLR: contrast with the other samples of the batch."""

    name: Literal["simclr"] = "simclr"
    head_dims: HeadDims = Field((512, 128), description="layers after the encoder; paper 2048, 128")
    temperature: float = Field(
        0.2, gt=0, description="paper 0.1 (ImageNet) to 0.5 (CIFAR-10, short runs)"
    )


class MoCoV2Config(Section):
    """MoCo v2: contrast with a queue of past keys of a teacher."""

    name: Literal["moco_v2"] = "moco_v2"
    head_dims: HeadDims = Field((512, 128), description="layers after the encoder; paper 2048, 128")
    queue_size: int = Field(
        1024, gt=0, description="keys; fewer than there are samples; paper 65536"
    )
    momentum: float = Field(0.99, ge=0, lt=1, description="of the teacher; paper 0.999")
    temperature: float = Field(0.2, gt=0, description="paper 0.2")


class ByolConfig(Section):
    """BYOL: predict a teacher's projection of the other view."""

    name: Literal["byol"] = "byol"
    head_dims: HeadDims = Field((512, 128), description="layers after the encoder; paper 4096, 256")
    predictor_dim: PositiveInt = Field(512, description="hidden layer; paper 4096")
    momentum: float = Field(
        0.99, ge=0, lt=1, description="of the teacher at first, rising to 1; paper 0.996"
    )


class SimSiamConfig(Section):
    """SimSiam: predict the other view's projection, without a teacher."""

    name: Literal["simsiam"] = "simsiam"
    head_dims: HeadDims = Field(
        (512, 512, 512), description="layers after the encoder; paper 2048, 2048, 2048"
    )
    predictor_dim: PositiveInt = Field(
        128, description="hidden layer, narrower than the projection; paper 512"
    )


class BarlowTwinsConfig(Section):
    """Barlow Twins: make the cross-correlation of two views the identity."""

    name: Literal["barlow_twins"] = "barlow_twins"
    head_dims: HeadDims = Field(
        (512, 512, 512), description="layers after the encoder; paper 8192, 8192, 8192"
    )
    redundancy_weight: float = Field(5.1e-3, gt=0, description="paper 0.005, its code 0.0051")


class VICRegConfig(Section):
    """VICReg: agree across views, keep every dimension spread, keep dimensions unrelated."""

    name: Literal["vicreg"] = "vicreg"
    head_dims: HeadDims = Field(
        (512, 512, 512), description="layers after the encoder; paper 8192, 8192, 8192"
    )
    invariance: float = Field(25.0, ge=0, description="weight; paper 25")
    variance: float = Field(25.0, ge=0, description="weight; paper 25")
    covariance: float = Field(1.0, ge=0, description="weight; paper 1")


class TripletConfig(Section):
    """Triplet margin loss on mined negatives."""

    name: Literal["triplet"] = "triplet"
    head_dims: HeadDims = Field((512, 128), description="layers after the encoder; paper 128")
    margin: float = Field(0.2, gt=0, le=2, description="of distances at length 1; paper 0.2")
    mining: Mining = Field("semihard", description="negatives; paper semihard")
    memory_size: int = Field(0, ge=0, description="past projections as negatives; 0 for none")


MethodConfig = Annotated[
    SimCLRConfig
    | MoCoV2Config
    | ByolConfig
    | SimSiamConfig
    | BarlowTwinsConfig
    | VICRegConfig
    | TripletConfig,
    Field(discriminator="name"),
]

METHODS = ("simclr", "moco_v2", "byol", "simsiam", "barlow_twins", "vicreg", "triplet")


def build_method(config: MethodConfig, encoder: nn.Module, feature_dim: int) -> ViewMethod:
    """Assemble the method around `encoder`, whose output has `feature_dim` columns.

    New weights, and MoCo's first queue, are drawn from torch's global generator.
    """
    dims, width = [feature_dim, *config.head_dims], config.head_dims[-1]
    method: ViewMethod
    match config:
        case SimCLRConfig():
            student = Branch(encoder, projection_mlp(dims, final_norm=True))
            method = JointEmbedding(student, NTXent(temperature=config.temperature))
        case MoCoV2Config():
            student = Branch(encoder, projection_mlp(dims, hidden_norm=False))
            queue = FeatureQueue(config.queue_size, width)
            method = Moco(student, queue, momentum=config.momentum, temperature=config.temperature)
        case ByolConfig():
            student = Branch(encoder, projection_mlp(dims))
            predictor = prediction_mlp(width, config.predictor_dim)
            method = Byol(student, predictor, momentum=config.momentum)
        case SimSiamConfig():
            student = Branch(encoder, projection_mlp(dims, final_norm=True))
            method = SimSiam(student, prediction_mlp(width, config.predictor_dim))
        case BarlowTwinsConfig():
            student = Branch(encoder, projection_mlp(dims))
            method = JointEmbedding(
                student, BarlowTwins(redundancy_weight=config.redundancy_weight)
            )
        case VICRegConfig():
            student = Branch(encoder, projection_mlp(dims))
            weights = config.model_dump(include={"invariance", "variance", "covariance"})
            method = JointEmbedding(student, VICReg(**weights))
        case TripletConfig():
            student = Branch(encoder, projection_mlp(dims))
            objective = triplet_objective(margin=config.margin, mining=config.mining)
            memory = FeatureQueue(config.memory_size, width) if config.memory_size else None
            method = Triplet(student, objective, memory)
        case _:
            assert_never(config)
    return method


class _Peaks(NamedTuple):
    """Peak learning rates per 256 samples of batch."""

    adamw: float
    sgd: float
    lars: float


def default_learning_rate(config: MethodConfig, optimizer: str) -> float:
    """Return a peak learning rate for a batch of 256; scale it with the batch.

    Args:
        config: Of the method.
        optimizer: `adamw`, `sgd` or `lars`.

    Raises:
        ConfigError: An optimiser without a default.
    """
    if optimizer not in _Peaks._fields:
        raise ConfigError(f"unknown optimizer {optimizer!r}; {suggest(optimizer, _Peaks._fields)}")
    peak: float = getattr(_peaks(config), optimizer)
    return peak


def _peaks(config: MethodConfig) -> _Peaks:
    """Look up the rates: LARS and SGD where a paper gives them, AdamW for small runs."""
    match config:
        case SimCLRConfig() | MoCoV2Config() | TripletConfig():
            return _Peaks(adamw=1e-3, sgd=0.06, lars=0.3)
        case ByolConfig():
            return _Peaks(adamw=1e-3, sgd=0.06, lars=0.2)
        case SimSiamConfig():
            return _Peaks(adamw=5e-4, sgd=0.05, lars=0.1)
        case BarlowTwinsConfig() | VICRegConfig():
            return _Peaks(adamw=1e-3, sgd=0.03, lars=0.2)
        case _:
            assert_never(config)
