"""Masked pixels: images as rows of patches, and the error of what was hidden (MAE, SimMIM)."""

from typing import Literal

from torch import Tensor

from sslcore.errors import ShapeError
from sslcore.numerics import in_full_precision


def patchify(images: Tensor, patch_size: tuple[int, ...]) -> Tensor:
    """Cut images or volumes into patches.

    Args:
        images: `[batch, channels, *sides]`.
        patch_size: Sides of a patch, px, one per dimension of the image.

    Returns:
        `[batch, count, values]`, patches row by row (and slice by slice). The values of a patch
        are ordered likewise, the channels of a pixel side by side.

    Raises:
        ShapeError: The dimensions differ, or a side is no multiple of the patch's.
    """
    sides = images.shape[2:]
    if len(sides) != len(patch_size) or any(
        side % patch for side, patch in zip(sides, patch_size, strict=True)
    ):
        raise ShapeError(
            f"expected images [batch, channels, *sides] with sides in multiples of {patch_size} px,"
            f" got {tuple(images.shape)}"
        )
    pairs = zip(sides, patch_size, strict=True)
    shape = [number for side, patch in pairs for number in (side // patch, patch)]
    split = images.reshape(*images.shape[:2], *shape)  # each side is now (patches, pixels)
    counts, pixels = range(2, split.ndim, 2), range(3, split.ndim, 2)
    return split.permute(0, *counts, *pixels, 1).flatten(1, len(counts)).flatten(2)


@in_full_precision
def normalise_patches(patches: Tensor, *, eps: float = 1e-6) -> Tensor:
    """Give each patch mean 0 and variance 1, `[batch, count, values]`; a flat one becomes 0.

    Args:
        patches: `[batch, count, values]`.
        eps: Added to the variance.

    Raises:
        ShapeError: Fewer than two values, for which no variance exists.

    Source:
        He et al., "Masked autoencoders are scalable vision learners", CVPR 2022,
        arXiv:2111.06377, section 3. The variance is the unbiased one, as in the published code.
    """
    if patches.ndim != 3 or patches.shape[2] < 2:
        raise ShapeError(f"expected patches [batch, count, values > 1], got {tuple(patches.shape)}")
    centred = patches - patches.mean(dim=2, keepdim=True)
    return centred / (patches.var(dim=2, keepdim=True) + eps).sqrt()


@in_full_precision
def masked_pixel_loss(
    prediction: Tensor,
    target: Tensor,
    *,
    hidden: Tensor,
    distance: Literal["squared", "absolute"] = "squared",
) -> Tensor:
    """Return the mean error of the values in hidden patches; visible ones do not count.

    Args:
        prediction: `[batch, count, values]`.
        target: Same shape; see `patchify` and `normalise_patches`.
        hidden: `[batch, count]`, bool.
        distance: `squared` for MAE, `absolute` for SimMIM.

    Returns:
        A scalar, the mean over all hidden values of all samples; 0 if nothing is hidden. On
        normalised patches a prediction of zeros has a squared error of about 1.

    Raises:
        ShapeError: The shapes differ.

    Source:
        He et al., "Masked autoencoders", CVPR 2022, arXiv:2111.06377, section 3 (mean squared
        error), and Xie et al., "SimMIM", CVPR 2022, arXiv:2111.09886, section 3.4 (L1 per masked
        pixel). SimMIM's published code divides by the number of masked pixels plus 1e-5.
    """
    if target.ndim != 3 or prediction.shape != target.shape or hidden.shape != target.shape[:2]:
        raise ShapeError(
            f"expected two [batch, count, values] tensors of one shape and [batch, count] hidden,"
            f" got {tuple(prediction.shape)}, {tuple(target.shape)} and {tuple(hidden.shape)}"
        )
    gap = prediction - target
    errors = gap.square() if distance == "squared" else gap.abs()
    weights = hidden.to(errors.dtype)
    return (errors.mean(dim=2) * weights).sum() / weights.sum().clamp_min(1)
