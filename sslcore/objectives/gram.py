"""Gram anchoring: keep which patches of an image look alike as it once was."""

from torch import Tensor
from torch.nn import functional as F

from sslcore.errors import ShapeError
from sslcore.numerics import in_full_precision, unit_rows


@in_full_precision
def gram_loss(patches: Tensor, anchor: Tensor) -> Tensor:
    """Return the mean squared difference of the cosine similarities of an image's patches.

    Args:
        patches: Tokens, `[batch, count, dim]`, normalised here.
        anchor: Tokens of the same patches by another encoder, `[batch, count, any dim]`. A method
            detaches them.

    Returns:
        A scalar below 4; 0 if patches are as alike as those of the anchor are, whatever their
        directions.

    Raises:
        ShapeError: The inputs are not 3-D, or differ in samples or patches, or are empty.

    Source:
        Simeoni et al., "DINOv3", 2025, arXiv:2508.10104, section 4.2. The paper writes the squared
        norm of the difference; the mean over all pairs is that of the authors' code.
    """
    if patches.ndim != 3 or anchor.ndim != 3 or patches.shape[:2] != anchor.shape[:2]:
        raise ShapeError(
            f"expected tokens [batch, count, dim] of the same patches,"
            f" got {tuple(patches.shape)} and {tuple(anchor.shape)}"
        )
    if not patches.numel():
        raise ShapeError(f"expected at least one patch, got {tuple(patches.shape)}")
    mine, theirs = unit_rows(patches), unit_rows(anchor)
    return F.mse_loss(mine @ mine.mT, theirs @ theirs.mT)
