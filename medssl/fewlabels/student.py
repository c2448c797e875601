"""The small network that learns from a fine-tuned one, and how it learns."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from medssl.backbones import KNOWN, choose_stem
from medssl.config import DistillConfig
from medssl.encoder import build_spec_backbone
from medssl.encoder_spec import EncoderSpec
from medssl.fewlabels.classifier import Classifier
from sslcore.config import suggest
from sslcore.errors import ConfigError
from sslcore.methods.method import Method, StepOutput
from sslcore.objectives.self_distillation import assignment_loss
from sslcore.random import seeded


class Distillation(Method[Tensor]):
    """A student that learns the probabilities a teacher gives to the same view; no label counts.

    A batch is one view of each image, `[batch, channels, side, side]`.

    Source:
        Chen et al., "Big self-supervised models are strong semi-supervised learners", NeurIPS
        2020, arXiv:2006.10029, equation 2: the cross-entropy, with one temperature for both.
    """

    def __init__(self, student: Classifier, teacher: Classifier, *, temperature: float) -> None:
        """Keep the teacher as it is: it gets no gradient and stays in evaluation mode."""
        super().__init__()
        self.student = student
        self._teacher = [teacher]  # no module of this one: neither trained nor stored
        self._temperature = temperature

    @property
    def encoder(self) -> nn.Module:
        """The student's."""
        return self.student.backbone

    def forward(self, batch: Tensor) -> StepOutput:
        """Return the cross-entropy of one batch, averaged."""
        logits, targets = self.student.logits(batch), self._targets(batch)
        return StepOutput(assignment_loss(logits, targets, temperature=self._temperature))

    @torch.no_grad()
    def _targets(self, pixels: Tensor) -> Tensor:
        logits = self._teacher[0].logits(pixels)
        return (logits.float() / self._temperature).softmax(1)


def student_spec(teacher: EncoderSpec, config: DistillConfig) -> EncoderSpec:
    """Describe a student that reads images as its teacher does.

    Raises:
        ConfigError: Its network is unknown.
    """
    if config.backbone not in KNOWN:
        raise ConfigError(
            f"backbone: unknown {config.backbone!r}; {suggest(config.backbone, KNOWN)}"
        )
    spec = replace(
        teacher,
        backbone=config.backbone,
        stem=choose_stem(teacher.image_size),
        width=config.width,
        norm="batch",
        pooling=None,
        registers=0,
        network=None,
        head_layer=False,
    )
    with seeded(0):
        return replace(spec, feature_dim=build_spec_backbone(spec).feature_dim)
