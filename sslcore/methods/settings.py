"""What every method's configuration says of itself."""

from abc import ABC, abstractmethod
from typing import Annotated, ClassVar, Literal, NamedTuple

from pydantic import Field, PositiveInt
from torch import nn

from sslcore.config import Section, suggest
from sslcore.errors import ConfigError
from sslcore.methods.method import ViewMethod

# Defaults are for some thousand small images and a ResNet-18: a few thousand steps, batch 256.
# Each description says what the paper takes for ImageNet. A teacher's momentum must fit the number
# of steps: with the papers' 0.996 and 0.999 it would still be half random after 200 or 700 steps.

HeadDims = Annotated[tuple[PositiveInt, ...], Field(min_length=1)]

Pooling = Literal["mean", "class"]

Family = Literal[
    "contrastive",
    "clustering",
    "non-contrastive",
    "self-distillation",
    "masked",
    "pretext",
    "metric learning",
]


class About(NamedTuple):
    """What `docs/methods.md` says of a method.

    Attributes:
        family: Where it belongs.
        title: Its name as its authors write it.
        source: Paper, venue, year, identifier.
        needs: What it cannot do without.
        choose: When to take it.
    """

    family: Family
    title: str
    source: str
    needs: str
    choose: str


class Rates(NamedTuple):
    """Peak learning rates per 256 samples of batch."""

    adamw: float
    sgd: float
    lars: float


class ViewNeeds(NamedTuple):
    """The views that a method takes unless the user says otherwise.

    Attributes:
        local_views: Smaller crops beside the two full views.
        full_scale: Share of the area that a full view shows; None for that of the kind of image.
        local_scale: Likewise of a smaller crop.
        strength: Of all changes of intensity, 1 as the kind of image wants them.
    """

    local_views: int = 0
    full_scale: tuple[float, float] | None = None
    local_scale: tuple[float, float] = (0.05, 0.4)
    strength: float = 1.0


class MethodSection(Section, ABC):
    """Settings of one method, and how it is built from them.

    Attributes:
        about: For the reader who chooses.
        rates: LARS and SGD where a paper gives them, AdamW for small runs.
        views: What it takes by default.
        needs_tokens: Whether the encoder must be a `TokenEncoder`.
        needs_squares: Whether views must be square images, not volumes.
        pooling: Where the feature of a transformer comes from in its paper: the mean of its
            patches, or a class token. From random weights, in few steps, the mean is better.
        keeps_head_layer: Whether the first layer of its head, see `first_layer`, stays with the
            encoder that a run leaves.
        uses_labels: Whether it learns from labels where there are some.
        projects: Whether its head gives projections that are compared, and so are spread unless
            the run collapses.
        queue_field: Which setting is the size of its queue, 0 for none; None if it never has one.
    """

    about: ClassVar[About]
    rates: ClassVar[Rates]
    views: ClassVar[ViewNeeds] = ViewNeeds()
    needs_tokens: ClassVar[bool] = False
    needs_squares: ClassVar[bool] = False
    pooling: ClassVar[Pooling] = "mean"
    keeps_head_layer: ClassVar[bool] = False
    uses_labels: ClassVar[bool] = False
    projects: ClassVar[bool] = True
    queue_field: ClassVar[str | None] = None

    @abstractmethod
    def build(self, encoder: nn.Module, feature_dim: int) -> ViewMethod:
        """Assemble the method around `encoder`, whose output has `feature_dim` columns.

        New weights, and a first queue, are drawn from torch's global generator.

        Raises:
            ConfigError: The encoder does not give what the method needs.
        """

    def require_room(self, rows: int, *, section: str = "method") -> None:
        """Refuse a queue, if there is one, that does not hold the `rows` of one step.

        Raises:
            ConfigError: It is smaller; `section` is where it was set.
        """
        size = 0 if self.queue_field is None else getattr(self, self.queue_field)
        if 0 < size < rows:
            raise ConfigError(
                f"{section}.{self.queue_field} {size}: smaller than the {rows} rows of one step;"
                f" make it {rows} or more, or lower run.batch_size"
            )

    def default_learning_rate(self, optimizer: str) -> float:
        """Return a peak learning rate for a batch of 256; scale it with the batch.

        Args:
            optimizer: `adamw`, `sgd` or `lars`.

        Raises:
            ConfigError: An optimiser without a default.
        """
        if optimizer not in Rates._fields:
            raise ConfigError(
                f"unknown optimizer {optimizer!r}; {suggest(optimizer, Rates._fields)}"
            )
        peak: float = getattr(self.rates, optimizer)
        return peak
