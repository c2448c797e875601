"""A data set and a configuration so small that a whole run takes seconds.

Also a program: `python -m tests.medssl.tiny_run RUN --resume key=value ...` pretrains on the
manifest that `write_tiny_data` left beside RUN.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import typer
from torch import nn

import medssl.encoder
import medssl.pretrain
import medssl.run_parts
from medssl.backbones import Backbone
from medssl.config import PretrainConfig
from medssl.manifest import SCHEMA, Manifest, write_manifest
from sslcore.config import resolve_config
from sslcore.console import user_errors

COUNT = 24
SIDE = 16


def tiny_backbone(name: str, *, channels: int, **_: object) -> Backbone:
    """Stand in for `build_backbone`; like the real ones, only transformers lack batch norm."""
    first, second = nn.Conv2d(channels, 8, 3, stride=2), nn.Conv2d(8, 16, 3)
    norms = (nn.Identity(), nn.Identity())
    if not name.startswith("vit"):
        norms = (nn.BatchNorm2d(8), nn.BatchNorm2d(16))
    layers = (first, norms[0], nn.ReLU(), second, norms[1], nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    return Backbone(nn.Sequential(*layers).to(memory_format=torch.channels_last), 16)  # type: ignore[call-overload]


def use_tiny_backbone(patch: pytest.MonkeyPatch) -> None:
    """Let every backbone be the tiny one."""
    patch.setattr(medssl.run_parts, "build_backbone", tiny_backbone)
    patch.setattr(medssl.encoder, "build_backbone", tiny_backbone)


def tiny_images(count: int = COUNT) -> np.ndarray:
    """Noise on which odd images have stripes, `[count, 16, 16]`, uint8."""
    random = np.random.default_rng(0)
    stripes = 60 * np.sin(2.0 * np.arange(SIDE)) * (np.arange(count) % 2)[:, None, None]
    images = 90 + 80 * random.random((count, SIDE, SIDE)) + stripes
    return images.clip(0, 255).astype(np.uint8)


def write_tiny_data(folder: Path, *, count: int = COUNT, **columns: Sequence[object]) -> Path:
    """Write an archive with a manifest; `columns` go before the manifest's own values."""
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "images.npz", train_images=tiny_images(count))
    values: dict[str, object] = dict.fromkeys(SCHEMA.names())
    values |= {
        "sample": [f"sample{row:04d}" for row in range(count)],
        "path": ["images.npz"] * count,
        "member": ["train_images"] * count,
        "frame": range(count),
        "kind": ["npz"] * count,
        "rows": [SIDE] * count,
        "columns": [SIDE] * count,
        "channels": [1] * count,
        "patient": [f"patient{row // 3}" for row in range(count)],
        "label": ["striped" if row % 2 else "plain" for row in range(count)],
        **columns,
    }
    rows = pl.DataFrame(
        {
            name: pl.Series(name, [None] * count if value is None else list(value), dtype=kind)  # type: ignore[call-overload]
            for (name, kind), value in zip(SCHEMA.items(), values.values(), strict=True)
        }
    )
    path = folder / "manifest.parquet"
    write_manifest(Manifest(rows, folder), path)
    return path


def tiny_config(data: Path, *assignments: str) -> PretrainConfig:
    """Five steps of SimCLR."""
    small = (
        f"data.path={data}",
        "data.workers=0",
        "image_size=16",
        "backbone.name=resnet10",
        "method.head_dims=[16, 8]",
        "run.batch_size=8",
        "run.steps=5",
        "run.checkpoint_minutes=0",
        "run.device=cpu",
    )
    return resolve_config(PretrainConfig, assignments=[*small, *assignments])


if __name__ == "__main__":
    run = Path(sys.argv[1])
    config = tiny_config(
        run.parent / "manifest.parquet", *(text for text in sys.argv[2:] if text != "--resume")
    )
    use_tiny_backbone(pytest.MonkeyPatch())
    try:
        with user_errors():
            medssl.pretrain.pretrain(config, run, resume="--resume" in sys.argv)
    except typer.Exit as end:
        sys.exit(end.exit_code)
