"""What every transform here is: batched, per-sample random, and at home in a MONAI `Compose`."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from monai.transforms.transform import RandomizableTransform
from torch import Tensor

from sslcore.random import SampleRandom

Params = Mapping[str, Tensor]


class BatchedTransform(RandomizableTransform, ABC):
    """One random change of images, usable in three ways.

    `batch(images, random)` draws parameters for each sample and applies them; `apply(images,
    params)` applies parameters from elsewhere; calling it with one image `[channels, rows,
    columns]` is what MONAI's `Compose` does, with the random state of `set_random_state`. Equal
    parameters give equal results in all three, and no row of a batch depends on another.

    Images are float32, of two sides or, where a transform says so, of three: a volume is `[batch,
    channels, slices, rows, columns]`. Every parameter has one row per sample. A sample that a
    transform leaves alone gets neutral parameters, so that no branch depends on the data; on the
    CPU, where asking costs nothing, expensive transforms work on the chosen rows only.
    """

    def __init__(self, prob: float = 1.0) -> None:
        """Apply to a sample with probability `prob`."""
        super().__init__(prob=prob)

    @abstractmethod
    def sample(self, random: SampleRandom) -> dict[str, Tensor]:
        """Draw the parameters of each sample."""

    @abstractmethod
    def apply_(self, images: Tensor, params: Params) -> Tensor:
        """Like `apply`, but may overwrite `images`; use the result."""

    def apply(self, images: Tensor, params: Params) -> Tensor:
        """Return changed images and leave `images` as they are.

        Args:
            images: `[batch, channels, rows, columns]`.
            params: What `sample` returned for these samples, on the same device.
        """
        return self.apply_(images.clone(), params)

    def batch(self, images: Tensor, random: SampleRandom) -> Tensor:
        """Draw parameters for each image and apply them."""
        return self.apply(images, self.sample(random))

    def randomize(self, data: Any = None) -> None:
        """Draw the key of the next image from MONAI's random state."""
        self._key = int(self.R.randint(np.iinfo(np.int64).max, dtype=np.int64))

    def __call__(self, image: Tensor) -> Tensor:
        """Change one image, `[channels, rows, columns]`."""
        self.randomize()
        keys = torch.tensor([self._key], device=image.device)
        return self.batch(image[None], SampleRandom(keys))[0]


class Chain(BatchedTransform):
    """Transforms one after the other, as one transform."""

    def __init__(self, *transforms: BatchedTransform) -> None:
        """Apply `transforms` in this order."""
        super().__init__()
        self.transforms = transforms

    def sample(self, random: SampleRandom) -> dict[str, Tensor]:
        """Draw all parameters; each name is preceded by the transform's place, as in `0.gamma`."""
        return {
            f"{place}.{name}": values
            for place, transform in enumerate(self.transforms)
            for name, values in transform.sample(random).items()
        }

    def apply_(self, images: Tensor, params: Params) -> Tensor:
        """Like `apply`, but may overwrite `images`."""
        own: list[dict[str, Tensor]] = [{} for _ in self.transforms]
        for key, values in params.items():
            place, _, name = key.partition(".")
            own[int(place)][name] = values
        for transform, parameters in zip(self.transforms, own, strict=True):
            images = transform.apply_(images, parameters)
        return images


def per_image(values: Tensor, images: Tensor) -> Tensor:
    """Reshape `[batch]` so that it broadcasts over `images`, `[batch, channels, *sides]`."""
    return values.view(-1, *[1] * (images.ndim - 1))


def unless(applied: Tensor, values: Tensor, neutral: float) -> Tensor:
    """Return `values` where `applied`, else `neutral`."""
    return torch.where(applied, values, torch.full_like(values, neutral))


def change_rows(
    change: Callable[..., Tensor], images: Tensor, applied: Tensor, *values: Tensor
) -> Tensor:
    """Return `images` with `change(images, *values)` where `applied`; may overwrite `images`.

    On the CPU only the rows that need it are worked on. On an accelerator, which would have to
    wait for their number, all are: there the parameters must be neutral where not `applied`.

    Args:
        change: From images and values, one row per sample, to images of the same shape.
        images: `[batch, channels, rows, columns]`.
        applied: `[batch]`.
        values: Parameters, one row per sample.
    """
    if applied.device.type != "cpu":
        return change(images, *values)
    rows = applied.nonzero().flatten()
    if len(rows) == 0:
        return images
    if len(rows) == len(images):
        return change(images, *values)
    chosen = change(images.index_select(0, rows), *(value[rows] for value in values))
    return images.index_copy_(0, rows, chosen)
