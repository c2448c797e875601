"""How an encoder does during training: collapse measures always, nearest neighbours with labels."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from sslcore.diagnostics import Health, measure_health
from sslcore.errors import DivergedError
from sslcore.knn import leave_one_out_scores
from sslcore.modules.branch import Branch
from sslcore.training.loop import WAY_OUT


class Classes(NamedTuple):
    """What the nearest-neighbour measure needs.

    Attributes:
        labels: Class of each sample, from 0; -1 for unknown, `[count]`.
        groups: Of each sample, `[count]`; neighbours in the same group have no vote.
    """

    labels: Tensor
    groups: Tensor


class Measured(Protocol):
    """What the recorder needs of a measurement."""

    @property
    def health(self) -> Health:
        """What tells collapse."""
        ...

    def as_record(self) -> dict[str, float]:
        """Return all numbers that were measured, by name."""
        ...

    def facts(self) -> dict[str, str]:
        """Return what is worth showing during training."""
        ...


class Monitor(Protocol):
    """Measures what is trained, and leaves no trace in it."""

    def measure(self) -> Measured:
        """Measure now; may raise `DivergedError`."""
        ...


class Measurement(NamedTuple):
    """One line of the health log.

    Attributes:
        health: See `sslcore.diagnostics`; spread, rank and uniformity without augmentation.
        knn: Balanced accuracy of leave-one-out neighbours; None where labels do not allow it.
    """

    health: Health
    knn: float | None

    def as_record(self) -> dict[str, float]:
        """Return all numbers that were measured, by name."""
        numbers = {**asdict(self.health), "knn": self.knn}
        return {name: value for name, value in numbers.items() if value is not None}

    def facts(self) -> dict[str, str]:
        """Return what is worth showing during training."""
        return {} if self.knn is None else {"kNN": f"{self.knn:.3f}"}


def as_health(record: Mapping[str, Any]) -> Health:
    """Read back the health from what `Measurement.as_record` gave.

    In a log null stands for a number that was not finite; what was not measured is not there.
    """
    names = [name for name in Health.__dataclass_fields__ if name in record]
    return Health(**{name: math.nan if record[name] is None else record[name] for name in names})


class HealthMonitor:
    """Measures one branch on fixed samples, and leaves no trace in it."""

    def __init__(
        self,
        branch: Branch,
        samples: Callable[[], Iterable[Tensor]],
        pairs: Callable[[], Iterable[tuple[Tensor, Tensor]]],
        *,
        classes: Classes | None = None,
        projects: bool = True,
    ) -> None:
        """Prepare to measure.

        Args:
            branch: What gradients train.
            samples: The samples in batches, without augmentation.
            pairs: Two views of samples, in batches; a part of the samples is enough.
            classes: Of the samples, if they have any.
            projects: Whether the head's results are worth measuring: those of a pretext task,
                whose answer for all samples as they are is one and the same, are not.
        """
        self._branch = branch
        self._projects = projects
        self._samples = samples
        self._pairs = pairs
        self._classes = classes

    @torch.no_grad()
    def measure(self) -> Measurement:
        """Encode the samples as they would be for a user, and measure their embeddings.

        Raises:
            DivergedError: An embedding or a projection is not finite.
        """
        with evaluating(self._branch):
            encoder = self._branch.encoder
            z = torch.cat([encoder(batch).float() for batch in self._samples()])
            projections = self._branch.head(z) if self._projects else z
            views = [[encoder(view).float() for view in pair] for pair in self._pairs()]
        z_a, z_b = (torch.cat(side) for side in zip(*views, strict=True))
        if not all(rows.isfinite().all() for rows in (z, z_a, z_b, projections)):
            raise DivergedError(f"the encoder gives embeddings that are not finite; {WAY_OUT}")
        health = measure_health(z, (z_a, z_b), projections if self._projects else None)
        return Measurement(health, neighbour_accuracy(z, self._classes))


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put `module` into evaluation mode, and each part back into its own mode afterwards."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


def neighbour_accuracy(z: Tensor, classes: Classes | None) -> float | None:
    """Return the balanced accuracy of leave-one-out nearest neighbours.

    None without at least two classes and two groups.
    """
    if classes is None:
        return None
    known = classes.labels >= 0
    labels, groups = classes.labels[known], classes.groups[known]
    present = sorted(set(labels.tolist()))
    if len(present) < 2 or len(set(groups.tolist())) < 2:
        return None
    scores = leave_one_out_scores(
        z[known.to(z.device)],
        labels.to(z.device),
        groups.to(z.device),
        num_classes=present[-1] + 1,
    )
    right = scores.argmax(dim=1).cpu() == labels
    recalls = [right[labels == label].float().mean() for label in present]
    return torch.stack(recalls).mean().item()
