"""The fixed images on which the health of a run is measured."""

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl
import torch
from torch import Tensor

from medssl.loading.dataset import CanvasDataset
from medssl.manifest import Manifest
from medssl.view_maker import MultiViewMaker, move_canvases
from sslcore.modules.branch import Branch
from sslcore.random import derive_keys
from sslcore.training.health import Classes, HealthMonitor

_CHOICE = 0x4EA1  # keeps the choice's keys apart from those of the data order
_BLOCK = 128  # images encoded at a time
_LEAST_STD = 1e-3  # of values from 0 to 1; below, it is noise that would be blown up
_PAIRED = 128  # images whose two views are compared: alignment is a mean and needs few


@dataclass(frozen=True, slots=True)
class HealthImages:
    """A fixed part of the data.

    Attributes:
        pixels: Canvases, `[count, channels, canvas, canvas]`, uint16.
        index: Their rows of the manifest, `[count]`.
        classes: Labels and patients; None without labels.
    """

    pixels: Tensor
    index: Tensor
    classes: Classes | None

    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return mean and standard deviation of each channel, of values from 0 to 1.

        The deviation of a channel without any contrast is not 0, so that it can be divided by.
        """
        values = self.pixels.to(torch.float64).div(65535).transpose(0, 1).flatten(1)
        std = values.std(dim=1).clamp(min=_LEAST_STD)
        return tuple(values.mean(dim=1).tolist()), tuple(std.tolist())


def pick_images(
    manifest: Manifest, dataset: CanvasDataset, *, count: int, seed: int
) -> HealthImages:
    """Read up to `count` images, the same ones whenever data and seed are the same."""
    order = torch.argsort(derive_keys(torch.arange(len(dataset)), _CHOICE, seed), stable=True)
    batch = dataset.read_batch(order[:count].sort().values)
    return HealthImages(batch.pixels, batch.index, _classes(manifest.rows, batch.index))


def build_monitor(
    images: HealthImages,
    branch: Branch,
    maker: MultiViewMaker,
    *,
    device: torch.device,
    seed: int,
    projects: bool = True,
) -> HealthMonitor:
    """Let `branch` be measured on `images`.

    Args:
        images: See `pick_images`.
        branch: What is trained.
        maker: Of its views.
        device: Where the branch is.
        seed: Of the two views that are compared, the same at every measurement.
        projects: See `HealthMonitor`.
    """

    def samples() -> Iterator[Tensor]:
        for block in torch.split(images.pixels, _BLOCK):
            yield maker.plain(move_canvases(block, device))

    def pairs() -> Iterator[tuple[Tensor, Tensor]]:
        pixels = move_canvases(images.pixels[:_PAIRED], device)
        view_a, view_b, *_ = maker(pixels, images.index[:_PAIRED], seed=seed, epoch=0).views
        yield view_a, view_b

    return HealthMonitor(branch, samples, pairs, classes=images.classes, projects=projects)


def class_numbers(labels: pl.Series) -> Tensor:
    """Number the labels in their order; -1 for none, `[count]`."""
    names = {name: number for number, name in enumerate(sorted(labels.drop_nulls().unique()))}
    return torch.tensor([names.get(name, -1) for name in labels])


def _classes(rows: pl.DataFrame, index: Tensor) -> Classes | None:
    chosen = rows[index.tolist()]
    if chosen["label"].null_count() == len(chosen):
        return None
    patients: dict[object, int] = {}
    groups = [
        patients.setdefault(patient or ("unknown", row), len(patients))
        for row, patient in enumerate(chosen["patient"])
    ]
    return Classes(class_numbers(chosen["label"]), torch.tensor(groups))
