"""Views of whole batches, on the device where the images are."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from medssl.config import Dims
from medssl.transforms.base import BatchedTransform, Params
from medssl.transforms.resampling import resample_labels
from medssl.transforms.resizing import resize
from sslcore.errors import ShapeError
from sslcore.random import SampleRandom, derive_keys
from sslcore.views import ViewBatch

NUM_VIEWS = 2  # full ones

_AFFINE = "0.affine"  # of the geometry, the first transform of every preset
_METHOD_DRAWS = 1 << 16  # keeps the keys of what a method draws apart from those of the views
_CPU_CHUNK_BYTES = 4 << 20  # of canvases worked on together; bounds memory, measured fastest


class Crops(NamedTuple):
    """Views of one size.

    Attributes:
        transform: The random part, usable on its own and in a MONAI `Compose`.
        size: Side, px.
        number: Of each sample.
    """

    transform: BatchedTransform
    size: int
    number: int


class MultiViewMaker:
    """Makes random views for training and one plain view for evaluation.

    Attributes:
        transform: The random part of a full view, usable on its own and in a MONAI `Compose`.
        image_size: Side of a full view, px.
        local: Smaller crops beside the two full views.
        mean: Subtracted per channel, for values of 0 to 1.
        std: What the difference is divided by.
        dims: 2 for images, 3 for volumes.
    """

    def __init__(
        self,
        transform: BatchedTransform,
        *,
        image_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        local: Crops | None = None,
        dims: Dims = 2,
    ) -> None:
        """Normalise the results of `transform`; `mean` and `std` have one value per channel."""
        self.transform = transform
        self.image_size = image_size
        self.local = local
        self.mean = tuple(mean)
        self.std = tuple(std)
        self.dims = dims
        self._on_device: tuple[Tensor, Tensor] | None = None

    def __call__(
        self, pixels: Tensor, index: Tensor, *, seed: int, epoch: int
    ) -> ViewBatch[Tensor]:
        """Return two full views, and the smaller crops if there are any.

        What a sample gets depends on its index, `seed` and `epoch` only.

        Args:
            pixels: `[batch, channels, side, side(, side)]`, uint16 canvases or floats of 0 to 1.
            index: Row of the manifest of each image, `[batch]`, on any device.
            seed: Of the run.
            epoch: From 0.

        Raises:
            ShapeError: Another number of channels than `mean` has.
        """
        self._require_channels(pixels)
        index = index.to(pixels.device)
        kinds = [Crops(self.transform, self.image_size, NUM_VIEWS)]
        if self.local:
            kinds.append(self.local)
        plan = [kind for kind in kinds for _ in range(kind.number)]
        views = [
            self._view(pixels, _drawn(kind, index, seed, epoch, number), kind)
            for number, kind in enumerate(plan)
        ]
        keys = derive_keys(index, seed, epoch, _METHOD_DRAWS)
        return ViewBatch(tuple(views), keys=keys, ids=index)

    def one(self, pixels: Tensor, index: Tensor, *, seed: int, epoch: int) -> Tensor:
        """Return the first of the views that a call returns, without making the others."""
        return self._first(pixels, index, seed, epoch)[0]

    def one_with_labels(
        self, pixels: Tensor, labels: Tensor, index: Tensor, *, seed: int, epoch: int
    ) -> tuple[Tensor, Tensor]:
        """Return what `one` does, and the labels of its pixels, moved alike.

        Args:
            pixels: As for a call.
            labels: Of each pixel, `[batch, side, side(, side)]`, uint8.
            index: As for a call.
            seed: Of the run.
            epoch: From 0.
        """
        view, params = self._first(pixels, index, seed, epoch)
        return view, resample_labels(labels, params[_AFFINE], self.image_size)

    def plain(self, pixels: Tensor) -> Tensor:
        """Return the whole images, resized and normalised, without any chance.

        Args:
            pixels: As for a call.
        """
        self._require_channels(pixels)
        images = resize(to_unit(pixels), [self.image_size] * self.dims)
        mean, std = self._statistics(images.device)
        return images.sub_(mean).div_(std)

    def display(self, views: Tensor) -> Tensor:
        """Undo the normalisation: values of 0 to 1, to look at."""
        mean, std = self._statistics(views.device)
        return (views * std + mean).clamp(0, 1)

    def _first(self, pixels: Tensor, index: Tensor, seed: int, epoch: int) -> tuple[Tensor, Params]:
        """Return the first view, and what was drawn for it."""
        self._require_channels(pixels)
        full = Crops(self.transform, self.image_size, 1)
        params = _drawn(full, index.to(pixels.device), seed, epoch, 0)
        return self._view(pixels, params, full), params

    def _view(self, pixels: Tensor, params: Params, kind: Crops) -> Tensor:
        """Change a whole batch as was drawn; on the CPU a few images at a time."""
        mean, std = self._statistics(pixels.device)
        rows = max(1, len(pixels))
        if pixels.device.type == "cpu":
            rows = max(1, _CPU_CHUNK_BYTES // (4 * math.prod(pixels.shape[1:])))
        sides = [kind.size] * (pixels.ndim - 2)
        views = torch.empty((len(pixels), pixels.shape[1], *sides), device=pixels.device)
        for first in range(0, len(pixels), rows):
            part = slice(first, first + rows)
            own = {name: values[part] for name, values in params.items()}
            images = kind.transform.apply_(to_unit(pixels[part]), own)
            torch.sub(images, mean, out=views[part])
            views[part].div_(std)
        return views

    def _statistics(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return mean and deviation, ready to broadcast; moved to each device once."""
        if self._on_device is None or self._on_device[0].device != device:
            sides = [1] * self.dims
            mean = torch.tensor(self.mean, device=device).view(-1, *sides)
            std = torch.tensor(self.std, device=device).view(-1, *sides)
            self._on_device = mean, std
        return self._on_device

    def _require_channels(self, pixels: Tensor) -> None:
        if pixels.ndim != 2 + self.dims or pixels.shape[1] != len(self.mean):
            sides = ", side" * self.dims
            raise ShapeError(
                f"expected [batch, {len(self.mean)}{sides}], got {tuple(pixels.shape)}"
            )


def _drawn(kind: Crops, index: Tensor, seed: int, epoch: int, number: int) -> Params:
    """Draw for the whole batch at once."""
    return kind.transform.sample(SampleRandom(derive_keys(index, seed, epoch, number)))


def move_canvases(pixels: Tensor, device: torch.device) -> Tensor:
    """Bring uint16 canvases to `device`, as a `MultiViewMaker` takes them there."""
    if device.type == "mps":  # has no unsigned 16-bit integers
        return to_unit(pixels).to(device)
    return pixels.to(device, non_blocking=True)


def to_unit(pixels: Tensor) -> Tensor:
    """Return canvases as float32 of 0 to 1, always in memory of its own."""
    if pixels.dtype == torch.uint16:
        return pixels.to(torch.float32).mul_(1 / 65535)
    return pixels.to(torch.float32, copy=True)
