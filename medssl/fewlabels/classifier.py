"""A network that names classes, and what of it stays on disk.

FOLDER/
    classifier.safetensors   encoder and last layer
    classifier.json          how to rebuild it, its classes, and what it learnt from
    learnt.parquet           the labelled images it learnt from: `sample`, `label`, `part`
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medssl.backbone import Backbone
from medssl.encoder import Encoder, build_spec_backbone
from medssl.encoder_spec import EncoderSpec, parse_spec
from medssl.fewlabels.metrics import FloatArray
from medssl.fewlabels.probe import LinearProbe
from sslcore.errors import CheckpointError
from sslcore.methods.method import Method, StepOutput
from sslcore.tables import write_parquet
from sslcore.training.checkpoint import (
    load_encoder_weights,
    read_encoder_description,
    save_encoder,
)

LEARNT_SCHEMA = pl.Schema({"sample": pl.String(), "label": pl.String(), "part": pl.String()})

_WEIGHTS = "classifier.safetensors"
_LEARNT = "learnt.parquet"


@dataclass(frozen=True, slots=True)
class LabelledBatch:
    """Views and their classes, on the device."""

    pixels: Tensor
    codes: Tensor


class Classifier(Method[LabelledBatch]):
    """A backbone and a linear layer, trained by cross-entropy.

    Attributes:
        is_fitted: Whether it began at a probe.
    """

    def __init__(
        self, backbone: Backbone, num_classes: int, *, keep_statistics: bool = False
    ) -> None:
        """Put a last layer of zeros on `backbone`.

        Args:
            backbone: Trained with the rest.
            num_classes: Columns of the result.
            keep_statistics: Whether batch norms keep their running statistics in training: those
                of a pretrained network are better than those of a few labelled images, and the
                probe (`begin_at`) was fitted on them.
        """
        super().__init__()
        self.is_fitted = False
        self._keep_statistics = keep_statistics
        self.backbone = backbone
        self.head = nn.Linear(backbone.feature_dim, num_classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def train(self, mode: bool = True) -> Self:  # noqa: FBT001, FBT002 - as torch has it
        """Change between training and evaluation, as far as `keep_statistics` allows."""
        super().train(mode)
        if self._keep_statistics:
            for part in self.backbone.modules():
                if isinstance(part, nn.modules.batchnorm._BatchNorm):  # noqa: SLF001
                    part.eval()
        return self

    @property
    def encoder(self) -> nn.Module:
        """The backbone."""
        return self.backbone

    def forward(self, batch: LabelledBatch) -> StepOutput:
        """Return the cross-entropy of one batch."""
        return StepOutput(F.cross_entropy(self.logits(batch.pixels).float(), batch.codes))

    def logits(self, pixels: Tensor) -> Tensor:
        """Return `[batch, classes]`."""
        scores: Tensor = self.head(self.backbone(pixels))
        return scores

    @torch.no_grad()
    def begin_at(self, probe: LinearProbe) -> None:
        """Start the last layer where the linear probe ended.

        Source:
            Kumar et al., "Fine-tuning can distort pretrained features and underperform
            out-of-distribution", ICLR 2022, arXiv:2202.10054: a random last layer would first
            spoil the features.
        """
        self.head.weight.copy_(torch.from_numpy(probe.weight))
        self.head.bias.copy_(torch.from_numpy(probe.bias))
        self.is_fitted = True


@dataclass(frozen=True, slots=True)
class Trained:
    """A classifier with all that is needed to use it, and to judge it.

    Attributes:
        network: On the device where it computes.
        spec: How its images are read, and its backbone is built.
        classes: In the order of its columns.
        shares: Of each class among the labels it learnt from, `[classes]`; `decide` needs them.
        learnt: See `LEARNT_SCHEMA`; `part` is train or val.
        about: Further facts for the reader: which model, how many labels.
    """

    network: Classifier
    spec: EncoderSpec
    classes: tuple[str, ...]
    shares: FloatArray
    learnt: pl.DataFrame
    about: dict[str, Any]

    @property
    def encoder(self) -> Encoder:
        """The part before the last layer."""
        return Encoder(self.network.backbone, self.spec)

    @property
    def probe(self) -> LinearProbe:
        """The last layer."""
        weight, bias = (
            each.detach().double().cpu().numpy()
            for each in (self.network.head.weight, self.network.head.bias)
        )
        return LinearProbe(weight, bias, np.nan)

    def store(self, folder: Path) -> None:
        """Write the files of the module's docstring into `folder`."""
        about = {"classes": self.classes, "shares": self.shares.tolist(), "about": self.about}
        save_encoder(folder / _WEIGHTS, self.network, {**asdict(self.spec), **about})
        write_parquet(self.learnt, folder / _LEARNT)


def load_classifier(folder: Path, *, device: torch.device) -> Trained:
    """Load what `Trained.store` wrote, in evaluation mode.

    Raises:
        CheckpointError: There is none, or it is damaged.
    """
    path = folder / _WEIGHTS
    if not path.exists():
        raise CheckpointError(
            f"{folder} holds no classifier; give a folder that medssl finetune or distill made"
        )
    about = read_encoder_description(path)
    spec = parse_spec(about, path)
    try:
        classes = tuple(map(str, about["classes"]))
        shares = np.array(about["shares"], np.float64)
        learnt = pl.read_parquet(folder / _LEARNT)
        described = dict(about["about"])
    except (OSError, KeyError, ValueError, TypeError, pl.exceptions.PolarsError) as error:
        raise CheckpointError(f"{folder}: no whole classifier: {error}") from error
    if shares.shape != (len(classes),) or learnt.schema != LEARNT_SCHEMA:
        raise CheckpointError(f"{folder}: the parts of its classifier do not belong together")
    network = Classifier(build_spec_backbone(spec), len(classes))
    load_encoder_weights(path, network)
    return Trained(network.to(device).eval(), spec, classes, shares, learnt, described)
