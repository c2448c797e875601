"""Whole images and volumes at another size."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def resize(images: Tensor, sides: Sequence[int]) -> Tensor:
    """Return images or volumes of other sides, each voxel taking part; the same ones where equal.

    Images shrink and grow by antialiased bilinear interpolation. For volumes there is none: sides
    that shrink are averaged, those that grow interpolated.

    Args:
        images: `[batch, channels, *old sides]`, of two or three sides.
        sides: The new ones.
    """
    wanted = list(sides)
    if list(images.shape[2:]) == wanted:
        return images
    if len(wanted) == 2:
        return F.interpolate(images, wanted, mode="bilinear", antialias=True)
    smaller = [min(pair) for pair in zip(images.shape[2:], wanted, strict=True)]
    if list(images.shape[2:]) != smaller:
        images = F.interpolate(images, smaller, mode="area")
    return images if smaller == wanted else F.interpolate(images, wanted, mode="trilinear")


def resize_labels(labels: Tensor, sides: Sequence[int]) -> Tensor:
    """Return labels at another size, each that of the nearest pixel or voxel, uint8.

    Args:
        labels: `[batch, *old sides]`, of two or three sides, uint8.
        sides: The new ones.
    """
    found = F.interpolate(labels[:, None].float(), list(sides), mode="nearest-exact")
    return found[:, 0].to(torch.uint8)
