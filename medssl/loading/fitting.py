"""Where an image or a volume lies in its canvas: there, for pixels and for labels, and back."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from medssl.transforms.resizing import resize, resize_labels


class Scale(NamedTuple):
    """How large the pixels of an image are, and of its canvas.

    Attributes:
        spacing_mm: Between rows, between columns.
        wanted_mm: Between the pixels of the canvas.
    """

    spacing_mm: tuple[float, float]
    wanted_mm: float


@dataclass(frozen=True, slots=True)
class Fitting:
    """The place of an image in a square, or of a volume in a cube, its aspect kept.

    Attributes:
        shape: Sides of the image, px, two or three.
        kept: First and last place of each side that is kept, the last excluded.
        sides: What the kept part becomes, px.
        canvas: Every side of the canvas, px.
    """

    shape: tuple[int, ...]
    kept: tuple[tuple[int, int], ...]
    sides: tuple[int, ...]
    canvas: int

    @classmethod
    def of_image(cls, rows: int, columns: int, canvas: int, scale: Scale | None = None) -> Self:
        """Let the longer side of an image fill the canvas, or give its pixels a size."""
        if scale is not None:
            return cls.of_volume((rows, columns), scale.spacing_mm, canvas, scale.wanted_mm)
        factor = canvas / max(rows, columns)
        sides = (max(1, round(rows * factor)), max(1, round(columns * factor)))
        return cls((rows, columns), ((0, rows), (0, columns)), sides, canvas)

    @classmethod
    def of_volume(
        cls,
        shape: Sequence[int],
        spacing_mm: Sequence[float],
        canvas: int,
        wanted_mm: float | None = None,
    ) -> Self:
        """Let the longest side of a volume in mm fill the canvas, or give its voxels a size.

        Args:
            shape: Slices, rows, columns; of an image the last two.
            spacing_mm: Between them.
            canvas: Side of the cube or square, px.
            wanted_mm: Between its voxels: what is larger than it is cut off on both sides alike,
                to half a voxel.
        """
        kept = [(0, count) for count in shape]
        if wanted_mm is not None:
            most = [max(1, round(canvas * wanted_mm / step)) for step in spacing_mm]
            kept = [_middle(count, limit) for count, limit in zip(shape, most, strict=True)]
        lengths = [
            (last - first) * step for (first, last), step in zip(kept, spacing_mm, strict=True)
        ]
        step = wanted_mm or max(lengths) / canvas
        sides = tuple(min(canvas, max(1, round(length / step))) for length in lengths)
        return cls(tuple(shape), tuple(kept), sides, canvas)

    def pixels(self, image: Tensor) -> Tensor:
        """Put an image in the middle of a canvas, its borders repeated.

        Args:
            image: `[channels, *shape]`, 0 to 1.

        Returns:
            `[channels, canvas, canvas(, canvas)]`, uint16, 65535 for 1.
        """
        return stored(padded(resize(self._cut(image)[None], self.sides), self.canvas)[0])

    def labels(self, labels: Tensor) -> Tensor:
        """Do the same with the labels of its pixels, each that of the nearest pixel.

        Args:
            labels: `[*shape]`, uint8.

        Returns:
            `[canvas, canvas(, canvas)]`, uint8.
        """
        fitted = resize_labels(self._cut(labels[None]), self.sides)
        return padded(fitted[None].float(), self.canvas)[0, 0].to(torch.uint8)

    def back(self, maps: Tensor) -> Tensor:
        """Bring maps of the canvas back to the pixels of the image.

        Args:
            maps: `[maps, *sides]`, of any size that stands for the whole canvas.

        Returns:
            `[maps, *shape]`; beyond what is kept NaN.
        """
        whole = resize(maps[None], [self.canvas] * len(self.shape))
        before = [(self.canvas - side) // 2 for side in self.sides]
        for axis, (first, side) in enumerate(zip(before, self.sides, strict=True), start=2):
            whole = whole.narrow(axis, first, side)
        found = resize(whole, [last - first for first, last in self.kept])
        result = maps.new_full((len(maps), *self.shape), math.nan)
        self._cut(result).copy_(found[0])
        return result

    def _cut(self, image: Tensor) -> Tensor:
        for axis, (first, last) in enumerate(self.kept, start=1):
            image = image.narrow(axis, first, last - first)
        return image


def padded(images: Tensor, canvas: int) -> Tensor:
    """Put images or volumes in the middle of canvases, `[batch, channels, ...]`, borders repeated.

    Args:
        images: `[batch, channels, *sides]`, none of them longer than the canvas.
        canvas: Every side of it, px.
    """
    free = [canvas - side for side in reversed(images.shape[2:])]  # the last side first
    margins = [part for gap in free for part in (gap // 2, gap - gap // 2)]
    return F.pad(images, margins, mode="replicate") if any(margins) else images


def stored(image: Tensor) -> Tensor:
    """Return values of 0 to 1 as uint16, 65535 for 1."""
    values: Tensor = image.clamp(0, 1).mul(65535).round().to(torch.uint16)
    return values


def _middle(count: int, limit: int) -> tuple[int, int]:
    """Cut both ends of a side off, so that at most `limit` remain."""
    kept = min(count, limit)
    first = (count - kept) // 2
    return first, first + kept
