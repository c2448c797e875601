"""Section of `recssl train`."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from recssl.methods.settings import (
    BUIRConfig,
    ContrastConfig,
    LightGCLConfig,
    NCLConfig,
    RankingConfig,
    SampledSoftmaxConfig,
    SelfCFConfig,
    SGLConfig,
    XSimGCLConfig,
)
from recssl.settings.sampling import SamplingConfig, require_use
from sslcore.config import Section
from sslcore.training.settings import RunConfig as CoreRunConfig

Perturbation = Literal["auto", "edge_drop", "node_drop", "random_walk", "noise", "svd", "none"]


class DataConfig(Section):
    """What is learnt from."""

    path: Path = Field(description="folder that `recssl ingest` wrote")
    fingerprint: str | None = Field(None, description="of the data set; taken from it")
    learn_from: Literal["train", "train+valid"] = Field(
        "train", description="train+valid: for a last run; nothing is left to choose the best step"
    )


class MFConfig(Section):
    """Matrix factorisation: an embedding per user and per item."""

    name: Literal["mf"] = "mf"
    dim: int = Field(64, gt=0)
    start: Literal["svd", "random"] = Field("svd", description="svd of the normalised graph")


class LightGCNConfig(Section):
    """LightGCN: embeddings averaged over propagations along the graph."""

    name: Literal["lightgcn"] = "lightgcn"
    dim: int = Field(64, gt=0)
    start: Literal["svd", "random"] = Field("svd", description="svd of the normalised graph")
    layers: int = Field(2, gt=0, le=4)
    skip_input: bool = Field(False, description="mean without the table itself, as in SimGCL")


class TowersConfig(Section):
    """Two towers: embeddings from features; a side without any is a table, as in mf."""

    name: Literal["towers"] = "towers"
    dim: int = Field(64, gt=0)
    hidden_dims: tuple[PositiveInt, ...] = Field((128,), description="layers of each tower")


EncoderConfig = Annotated[MFConfig | LightGCNConfig | TowersConfig, Field(discriminator="name")]


class ViewsConfig(Section):
    """How the views of the self-supervised part differ."""

    perturb: Perturbation = Field(
        "auto",
        description="auto: edge_drop for sgl, svd for lightgcl, none for ncl, else noise; svd: the"
        " clean graph against its best copy of low rank",
    )
    rate: float = Field(0.1, ge=0, lt=1, description="share of edges or nodes dropped")
    noise: float = Field(0.1, ge=0, description="length of SimGCL's noise")
    rank: int = Field(5, gt=0, description="singular values kept by svd; paper 5")


class ReadoutConfig(Section):
    """How stored embeddings come from trained ones; None chooses by encoder."""

    layers: int | None = Field(None, ge=0, le=4, description="propagations added; mf 1, else 0")
    weight: float = Field(1.0, gt=0, description="of each propagation")
    popularity: float = Field(
        0.0,
        ge=0,
        description="weight of the items' log popularity, a further column of what is stored;"
        " after a softmax with in-batch negatives its temperature, with layers 0",
    )


class OptimConfig(Section):
    """Adam on the rows of the batch."""

    learning_rate: float = Field(0.002, gt=0, description="peak")
    weight_decay: float = Field(0.0, ge=0, description="of the rows of the batch")
    warmup: float = Field(0.0, ge=0, lt=1, description="part of the run")
    floor: float = Field(0.0, ge=0, lt=1, description="last learning rate, share of the peak")
    clip_norm: float = Field(5.0, gt=0, description="upper bound on the gradient norm")


class RunConfig(CoreRunConfig):
    """How much work one run does, and on what."""

    epochs: int = Field(20, gt=0, description="passes over the interactions")
    batch_size: int = Field(2048, gt=1, description="pairs per step")
    precision: Literal["32-true"] = Field(
        "32-true", description="the only one: row-wise Adam and sparse products have no other"
    )
    health_samples: int = Field(5000, gt=7, description="validation users measured, at most")
    patience: int = Field(
        3, ge=0, description="checks without a better validation recall that end the run; 0: none"
    )

    @model_validator(mode="after")
    def _one_process(self) -> Self:
        if self.devices != 1:
            raise ValueError(f"run.devices {self.devices}: a recommender trains on one device")
        return self

    @model_validator(mode="after")
    def _whole_batches(self) -> Self:
        if self.micro_batch is not None:
            raise ValueError(
                f"run.micro_batch {self.micro_batch}: embeddings are looked up, not computed row by"
                " row, so that parts of a batch would save no memory; leave it out"
            )
        return self


class TrainConfig(Section):
    """Everything that decides the result of a run."""

    data: DataConfig
    encoder: EncoderConfig = MFConfig()
    ranking: RankingConfig = SampledSoftmaxConfig()
    contrast: ContrastConfig | None = Field(
        None, description="self-supervised part; none by default"
    )
    contrast_weight: float = Field(0.1, gt=0, description="of the self-supervised loss")
    views: ViewsConfig = ViewsConfig()
    sampling: SamplingConfig = SamplingConfig()
    readout: ReadoutConfig = ReadoutConfig()
    optim: OptimConfig = OptimConfig()
    run: RunConfig = RunConfig()

    @property
    def perturbation(self) -> Perturbation:
        """How views are made, `auto` resolved."""
        if self.views.perturb != "auto":
            return self.views.perturb
        match self.contrast:
            case SGLConfig():
                return "edge_drop"
            case LightGCLConfig():
                return "svd"
            case NCLConfig():
                return "none"
            case _:
                return "noise"

    @property
    def readout_layers(self) -> int:
        """Propagations of the readout, None resolved."""
        if self.readout.layers is not None:
            return self.readout.layers
        return 1 if isinstance(self.encoder, MFConfig) else 0

    @model_validator(mode="after")
    def _parts_fit_together(self) -> Self:
        require_use(self.sampling, self.ranking)
        if 0 < self.sampling.queue < self.run.batch_size:
            raise ValueError(
                f"sampling.queue {self.sampling.queue} does not hold the items of one step; make"
                f" it at least run.batch_size, {self.run.batch_size}"
            )
        if isinstance(self.encoder, TowersConfig) and isinstance(
            self.ranking, BUIRConfig | SelfCFConfig
        ):
            raise ValueError(
                f"ranking {self.ranking.name} scores by its predictor, which new items do not go"
                " through; set encoder.name: mf or lightgcn"
            )
        if self.contrast is not None:
            self._require_views(self.contrast)
        return self

    def _require_views(self, contrast: ContrastConfig) -> None:
        """Refuse views that the contrast cannot take, or that the encoder cannot tell apart."""
        is_layered = isinstance(contrast, XSimGCLConfig | LightGCLConfig | NCLConfig)
        if is_layered and not isinstance(self.encoder, LightGCNConfig):
            raise ValueError(
                f"contrast {contrast.name} compares layers; set encoder.name: lightgcn"
            )
        if isinstance(contrast, LightGCLConfig) and self.perturbation != "svd":
            raise ValueError("contrast lightgcl compares with the svd; set views.perturb: auto")
        if isinstance(contrast, NCLConfig) != (self.perturbation == "none"):
            raise ValueError(
                "contrast ncl, and no other, takes the graph as it is; set views.perturb: auto"
            )
        if isinstance(contrast, XSimGCLConfig) and self.perturbation == "svd":
            raise ValueError("contrast xsimgcl takes one view, of noise; set views.perturb: auto")
        if isinstance(self.encoder, TowersConfig):
            raise ValueError("encoder towers has no views; leave contrast out")
        if isinstance(self.encoder, MFConfig) and self.perturbation != "noise":
            raise ValueError(
                f"encoder mf does not see the graph, so views by {self.perturbation} are equal;"
                " set views.perturb: noise, or encoder.name: lightgcn"
            )
