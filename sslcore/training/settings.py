"""Settings of a training run, shared by both domains."""

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from sslcore.config import Section
from sslcore.schedules import cosine_ramp


class OptimConfig(Section):
    """Optimiser and learning-rate schedule."""

    name: Literal["adamw", "sgd", "lars"] = "adamw"
    learning_rate: float | None = Field(
        None, gt=0, description="peak, per 256 samples of batch; default by method and optimiser"
    )
    weight_decay: float = Field(1e-4, ge=0, description="not applied to biases and norms")
    last_weight_decay: float | None = Field(
        None, ge=0, description="at the end of the run, along a cosine; as at the start by default"
    )
    second_beta: float = Field(0.999, gt=0, lt=1, description="AdamW's; 0.95 to 0.999 in papers")
    momentum: float = Field(0.9, ge=0, lt=1, description="of SGD and LARS")
    warmup: float = Field(0.1, ge=0, lt=1, description="part of the run, not a step count")
    floor: float = Field(
        0.0, ge=0, le=1, description="last learning rate, share of the peak; 1 to stay there"
    )
    clip_norm: float = Field(5.0, gt=0, description="upper bound on the gradient norm")

    @model_validator(mode="after")
    def _decays_from_somewhere(self) -> Self:
        if self.last_weight_decay is not None and not self.weight_decay:
            raise ValueError(
                f"last_weight_decay {self.last_weight_decay:g} needs a weight_decay above 0"
            )
        return self

    def decay_factor(self, progress: float) -> float:
        """Return what the weight decay is multiplied by at `progress`, 0 to 1."""
        if self.last_weight_decay is None:
            return 1.0
        return cosine_ramp(progress, start=1.0, end=self.last_weight_decay / self.weight_decay)


class RunConfig(Section):
    """How much work one run does, and on what."""

    epochs: int = Field(100, gt=0)
    steps: int | None = Field(None, gt=0, description="optimiser steps; bounds the run instead")
    batch_size: int = Field(
        256, gt=1, description="samples per step, over all devices; fewer where there are fewer"
    )
    micro_batch: int | None = Field(
        None,
        gt=0,
        description="rows the encoder takes at a time, for large batches on small memory, at a"
        " third more time; same loss and gradient as the whole batch where the encoder has no"
        " batch norm (a transformer, or backbone.norm=group); with it, statistics are of the part",
    )
    seed: int = Field(0, ge=0)
    device: str = Field("auto", description="auto, cpu, cuda, mps")
    devices: int = Field(1, gt=0, description="processes, one per device")
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = Field(
        "auto", description="auto: bf16-mixed where the device has it"
    )
    checkpoint_minutes: float = Field(5.0, ge=0, description="at least this long between two")
    health_every: int | None = Field(None, gt=0, description="steps; default once an epoch")
    health_samples: int = Field(512, gt=7, description="images the health is measured on")

    @model_validator(mode="after")
    def _splits_evenly(self) -> Self:
        if self.batch_size % self.devices:
            raise ValueError(f"batch_size {self.batch_size} does not divide by {self.devices}")
        return self


# A setting to those whose place it takes when somebody gives it; see `resolve_config`.
INSTEAD_OF: Mapping[str, tuple[str, ...]] = {"run.epochs": ("run.steps",)}
