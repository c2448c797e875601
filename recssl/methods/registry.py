"""From the settings of a method to the method. A new loss gets a config and a case here."""

from typing import assert_never

from torch import nn

from recssl.encoders.encoder import NodeEncoder
from recssl.encoders.lightgcn import LightGCN
from recssl.methods.bootstrap import BUIR, SelfCF
from recssl.methods.joint import JointRecommendation, PerSide, Recommendation
from recssl.methods.lightgcl import LowRankRecommendation
from recssl.methods.ncl import NeighbourhoodRecommendation
from recssl.methods.prototypes import PrototypeContrast
from recssl.methods.ranking import (
    BPR,
    BilateralSoftmax,
    DirectAU,
    Ranking,
    SampledSoftmax,
    TripletRanking,
)
from recssl.methods.settings import (
    BilateralSoftmaxConfig,
    BPRConfig,
    BUIRConfig,
    ContrastConfig,
    DirectAUConfig,
    LightGCLConfig,
    NCLConfig,
    RankingConfig,
    SampledSoftmaxConfig,
    SelfCFConfig,
    SGLConfig,
    SimGCLConfig,
    TripletRankingConfig,
    XSimGCLConfig,
)
from recssl.methods.xsimgcl import CrossLayerRecommendation
from sslcore.errors import ConfigError
from sslcore.methods.joint_embedding import JointEmbedding
from sslcore.methods.method import ViewMethod
from sslcore.methods.settings import MethodSection
from sslcore.modules.branch import Branch
from sslcore.modules.queue import FeatureQueue
from sslcore.objectives.info_nce import InfoNCE


def build_ranking(config: RankingConfig, encoder: NodeEncoder) -> Ranking:
    """Build the loss of the clean graph on embeddings of `encoder`.

    New weights are drawn from torch's global generator.
    """
    ranking: Ranking
    match config:
        case BPRConfig():
            ranking = BPR()
        case SampledSoftmaxConfig():
            ranking = SampledSoftmax(temperature=config.temperature, cosine=config.cosine)
        case BilateralSoftmaxConfig():
            ranking = BilateralSoftmax(
                positive_temperature=config.positive_temperature,
                negative_temperature=config.negative_temperature,
            )
        case DirectAUConfig():
            ranking = DirectAU(uniformity_weight=config.uniformity_weight)
        case TripletRankingConfig():
            ranking = TripletRanking(margin=config.margin, mining=config.mining)
        case BUIRConfig():
            ranking = BUIR(encoder, momentum=config.momentum)
        case SelfCFConfig():
            ranking = SelfCF(encoder, dropout=config.dropout)
        case _:
            assert_never(config)
    return ranking


def build_recommendation(
    ranking: RankingConfig,
    contrast: ContrastConfig | None,
    encoder: NodeEncoder,
    *,
    weight: float,
    queue_size: int = 0,
) -> Recommendation:
    """Assemble the method around `encoder`. New heads draw from torch's global generator.

    Args:
        ranking: Loss of the clean graph.
        contrast: Self-supervised part, if any.
        encoder: Of users and items.
        weight: Of the self-supervised part.
        queue_size: Items of past steps that are candidates too.

    Raises:
        ConfigError: XSimGCL or NCL without a LightGCN of enough layers, LightGCL without a
            LightGCN.
    """
    loss = build_ranking(ranking, encoder)
    queue = FeatureQueue(queue_size, encoder.dim) if queue_size else None
    match contrast:
        case None:
            return Recommendation(encoder, loss, queue)
        case XSimGCLConfig():
            return CrossLayerRecommendation(
                _lightgcn(encoder, contrast),
                loss,
                weight=weight,
                layer=contrast.layer,
                temperature=contrast.temperature,
                queue=queue,
            )
        case LightGCLConfig():
            return LowRankRecommendation(
                _lightgcn(encoder, contrast),
                loss,
                weight=weight,
                temperature=contrast.temperature,
                queue=queue,
            )
        case NCLConfig():
            return _ncl(contrast, _lightgcn(encoder, contrast), loss, weight, queue)
        case _:
            return JointRecommendation(
                encoder, loss, _build_views(contrast, encoder), weight=weight, queue=queue
            )


def _lightgcn(
    encoder: NodeEncoder, contrast: XSimGCLConfig | LightGCLConfig | NCLConfig
) -> LightGCN:
    if not isinstance(encoder, LightGCN):
        raise ConfigError(
            f"contrast {contrast.name} compares layers of the graph; it needs encoder.name lightgcn"
        )
    return encoder


def _ncl(
    config: NCLConfig,
    encoder: LightGCN,
    ranking: Ranking,
    weight: float,
    queue: FeatureQueue | None,
) -> NeighbourhoodRecommendation:
    prototypes = PrototypeContrast(
        encoder,
        count=config.prototypes,
        temperature=config.temperature,
        warmup=config.warmup,
        every=config.every,
    )
    return NeighbourhoodRecommendation(
        encoder,
        ranking,
        prototypes,
        weight=weight,
        prototype_weight=config.prototype_weight,
        item_weight=config.item_weight,
        layer=config.layer,
        queue=queue,
    )


def _build_views(
    config: SGLConfig | SimGCLConfig | MethodSection, encoder: NodeEncoder
) -> ViewMethod:
    match config:
        case SGLConfig() | SimGCLConfig():
            objective = InfoNCE(temperature=config.temperature)
            return JointEmbedding(Branch(encoder, nn.Identity()), objective)
        case _:
            return _per_side(config, encoder)


def _per_side(config: MethodSection, encoder: NodeEncoder) -> ViewMethod:
    of_users, of_items = (config.build(encoder, encoder.dim) for _ in range(2))
    return PerSide(of_users, of_items)
