"""The batch every self-supervised method takes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

ViewT = TypeVar("ViewT")


@dataclass(frozen=True, slots=True)
class ViewBatch(Generic[ViewT]):
    """Several views of the same samples.

    Attributes:
        views: What the encoder takes, one entry per view; rows correspond across views. The first
            two are full views, further ones smaller crops.
        segments: Row counts of groups that must not be compared with each other, such as users
            and items. Empty means one group.
        keys: Of what a method draws at random for each sample, `[batch]`, int64, as
            `sslcore.random.SampleRandom` takes them.
        labels: Class of each sample, from 0, -1 where it is unknown, `[batch]`; for methods that
            learn from labels.
        ids: Number of each sample, from 0, the same in every epoch, `[batch]`, int64. By it a
            queue tells the own past keys of a sample, which are no negatives of it; without it
            all keys are negatives.
    """

    views: tuple[ViewT, ...]
    segments: tuple[int, ...] = ()
    keys: Tensor | None = None
    labels: Tensor | None = None
    ids: Tensor | None = None


def per_segment(
    compare: Callable[[Tensor, Tensor], tuple[Tensor, dict[str, Tensor]]],
    z_a: Tensor,
    z_b: Tensor,
    segments: tuple[int, ...],
) -> tuple[Tensor, dict[str, Tensor]]:
    """Apply `compare` within each segment and average, so that groups weigh the same."""
    if not segments:
        return compare(z_a, z_b)
    parts = zip(torch.split(z_a, list(segments)), torch.split(z_b, list(segments)), strict=True)
    losses, logs = zip(*(compare(a, b) for a, b in parts), strict=True)
    means = {name: torch.stack([log[name] for log in logs]).mean() for name in logs[0]}
    return torch.stack(losses).mean(), means
