"""What methods share that hide patches of a view and predict them from the others."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from sslcore.errors import ShapeError
from sslcore.methods.method import StepOutput, all_views, average
from sslcore.random import SampleRandom
from sslcore.views import ViewBatch

Reconstruct = Callable[[Tensor, SampleRandom], tuple[Tensor, dict[str, Tensor]]]


def reconstruct_views(
    batch: ViewBatch[Any], reconstruct: Reconstruct, *, method: str
) -> StepOutput:
    """Reconstruct each view for itself, and average over the views.

    The papers see one view of a sample in a step. Here a batch brings two, or more; each is an
    image of its own with its own mask, so that no view is made in vain.

    Args:
        batch: Images, with keys.
        reconstruct: From a view and the streams of its samples to a loss and terms for the log.
        method: Its name, for messages.

    Raises:
        ShapeError: The batch has segments, or no keys.
    """
    if batch.segments:
        raise ShapeError(f"{method} hides parts of images and cannot keep segments apart")
    if batch.keys is None:
        raise ShapeError(f"{method} draws its masks from the keys of a batch; this one has none")
    random = SampleRandom(batch.keys)
    return average([reconstruct(view, random) for view in all_views(batch)])
