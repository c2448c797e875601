"""Views per second on one core: batched transforms against MONAI's, one image at a time.

Both make two views' worth of the same kinds of change: a random resized crop, a small rotation,
shift and stretch of intensity, gamma, Gaussian blur, sharpening, noise. Processor time is
compared, so that other work on the machine falls on neither side, and the best of several
interleaved rounds is kept.

Run: python benchmarks/views.py
"""

import os
import time
from collections.abc import Callable
from typing import Any

import torch
from monai.transforms import (
    Compose,
    RandAdjustContrast,
    RandGaussianNoise,
    RandGaussianSharpen,
    RandGaussianSmooth,
    RandRotate,
    RandScaleIntensity,
    RandShiftIntensity,
    RandSpatialCrop,
    Resize,
)
from record import keep
from torch import Tensor

from medssl.config import Preset, ViewsConfig
from medssl.loading.canvas import MARGIN
from medssl.presets import PRESETS
from medssl.views import build_views

_SIZES = {28: 256, 64: 256, 224: 32}  # side of a view in px, images of a batch
_ROUNDS = 5
_SINGLES = 48  # images per round of MONAI's pipeline


def monai_pipeline(size: int, canvas: int) -> Compose:
    """Put MONAI's transforms for the preset of radiographs together."""
    plan = PRESETS[Preset.RADIOGRAPH]
    smallest = int(canvas * plan.crop_scale[0] ** 0.5)
    angle = plan.rotation * 3.1416 / 180
    return Compose(
        [
            RandSpatialCrop((smallest, smallest), max_roi_size=(canvas, canvas), random_size=True),
            Resize((size, size), mode="bilinear"),
            RandRotate(range_x=angle, prob=1.0, padding_mode="reflection"),
            RandScaleIntensity(factors=plan.contrast, prob=0.8),
            RandShiftIntensity(offsets=plan.brightness, prob=0.8),
            RandAdjustContrast(gamma=(1 / plan.gamma, plan.gamma), prob=0.3),
            RandGaussianSmooth(sigma_x=(0.1, 1.0), sigma_y=(0.1, 1.0), prob=0.5),
            RandGaussianSharpen(prob=0.3),
            RandGaussianNoise(std=plan.noise, prob=0.3),
        ]
    )


def seconds(work: Callable[[], object]) -> float:
    """Return the processor time of one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def measure(size: int, batch: int, preset: Preset, channels: int) -> dict[str, Any]:
    """Return views per second of both ways for one size, kind of image and channels."""
    canvas = -(-int(size * MARGIN * 100) // 100)
    values = torch.rand(batch, channels, canvas, canvas, generator=torch.Generator().manual_seed(0))
    pixels = values.mul(65535).to(torch.uint16)
    maker = build_views(ViewsConfig(), preset, size, channels)
    index = torch.arange(batch)
    singles: list[Tensor] = list(values[:_SINGLES])
    pipeline = monai_pipeline(size, canvas)
    pipeline.set_random_state(seed=0)
    ours, theirs = [], []
    for epoch in range(_ROUNDS):
        ours.append(seconds(lambda epoch=epoch: maker(pixels, index, seed=0, epoch=epoch)))
        if preset is Preset.RADIOGRAPH:
            theirs.append(seconds(lambda: [pipeline(image) for image in singles]))
    result: dict[str, Any] = {
        "size_px": size,
        "preset": preset.value,
        "channels": channels,
        "batched_views_per_s": round(2 * batch / min(ours)),
    }
    if theirs:
        result["monai_views_per_s"] = round(len(singles) / min(theirs))
    return result


def main() -> None:
    """Measure all sizes and presets."""
    torch.set_num_threads(1)
    rows = [
        measure(size, batch, preset, channels)
        for size, batch in _SIZES.items()
        for preset, channels in (
            (Preset.RADIOGRAPH, 1),
            (Preset.CT, 1),
            (Preset.MR, 1),
            (Preset.HISTOLOGY, 3),
            (Preset.MICROSCOPY, 3),
            (Preset.PHOTOGRAPH, 3),
        )
    ]
    about = {"threads": 1, "clock": "processor time, best of rounds"}
    keep("views", {**about, "load_average": round(os.getloadavg()[0], 1), "rows": rows})


if __name__ == "__main__":
    main()
