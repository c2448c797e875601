"""Any loss and miner of pytorch-metric-learning, by name."""

import inspect
from types import ModuleType
from typing import Any, ClassVar, Literal

from pydantic import Field
from pytorch_metric_learning import losses, miners
from torch import Tensor, nn

from sslcore.config import suggest
from sslcore.distributed import gather_rows
from sslcore.errors import ConfigError, ShapeError
from sslcore.methods.joint_embedding import JointEmbedding
from sslcore.methods.method import StepOutput, ViewMethod
from sslcore.methods.settings import About, HeadDims, MethodSection, Rates
from sslcore.modules.branch import Branch
from sslcore.modules.heads import projection_mlp
from sslcore.objectives.metric_learning import AlignedViews
from sslcore.random import seeded
from sslcore.views import ViewBatch

# These hold weights of classes, wrap other losses, take no labels, want rows in an order, are not
# whole, or keep what a checkpoint does not hold.
_UNSUITED = (
    *("VICRegLoss", "CrossBatchMemory", "SelfSupervisedLoss", "MultipleLosses"),
    *("EmbeddingsAlreadyPackagedAsTriplets", "GenericPairLoss", "DynamicSoftMarginLoss"),
)


class MetricLearningConfig(MethodSection):
    """A loss of pytorch-metric-learning, each sample a class of its own."""

    about: ClassVar[About] = About(
        family="metric learning",
        title="Metric learning",
        source='Musgrave et al., "PyTorch Metric Learning", 2020, arXiv:2008.09164',
        needs="what the chosen loss needs; most need a large batch",
        choose="to try a loss that has no method of its own here",
    )
    rates: ClassVar[Rates] = Rates(adamw=4e-3, sgd=0.06, lars=0.3)

    name: Literal["metric_learning"] = "metric_learning"
    head_dims: HeadDims = Field((512, 128), description="layers after the encoder")
    loss: str = Field("MultiSimilarityLoss", description="name of the class")
    loss_args: dict[str, float | int | bool | str] = Field({}, description="its arguments")
    miner: str | None = Field(None, description="name of the class; takes all pairs without")
    miner_args: dict[str, float | int | bool | str] = Field({}, description="its arguments")

    def build(self, encoder: nn.Module, feature_dim: int) -> ViewMethod:
        """See `MethodSection.build`.

        Raises:
            ConfigError: An unknown name, arguments that do not fit, or a loss that learns a weight
                for each class.
        """
        loss = _make(losses, "loss", self.loss, self.loss_args)
        if any(True for _ in loss.parameters()):
            raise ConfigError(
                f"method.loss {self.loss}: learns weights of classes, which views lack"
            )
        miner = None
        if self.miner is not None:
            miner = _make(miners, "miner", self.miner, self.miner_args)
        student = Branch(encoder, projection_mlp([feature_dim, *self.head_dims]))
        return MetricLearning(student, AlignedViews(loss, miner))


class MetricLearning(JointEmbedding):
    """Joint embedding whose loss or miner may draw at random, from torch's global generator.

    What they draw depends on the samples of the step, their epoch and the seed of the run, by the
    keys of the batch. So each step draws anew, a resumed run goes on as the unbroken one, and all
    processes choose alike.
    """

    def _compare_all(self, z: list[Tensor], batch: ViewBatch[Any]) -> StepOutput:
        if batch.keys is None:
            raise ShapeError("metric_learning draws from the keys of a batch; this one has none")
        with seeded(int(gather_rows(batch.keys).sum())):
            return super()._compare_all(z, batch)


def known_names(module: ModuleType) -> list[str]:
    """Return the classes of `losses` or `miners` that can be asked for."""
    return sorted(
        key
        for key, value in vars(module).items()
        if inspect.isclass(value) and not key.startswith("Base") and not key.endswith("Mixin")
        if key not in _UNSUITED
    )


def _make(module: ModuleType, kind: str, name: str, arguments: dict[str, Any]) -> nn.Module:
    known = known_names(module)
    if name not in known:
        raise ConfigError(f"method.{kind}: unknown {name!r}; {suggest(name, known)}")
    try:
        made: nn.Module = getattr(module, name)(**arguments)
    except (TypeError, ValueError, KeyError) as error:
        raise ConfigError(
            f"method.{kind} {name}: cannot be made from method.{kind}_args {arguments} ({error});"
            " losses that need num_classes do not fit, since views have no classes"
        ) from error
    return made
