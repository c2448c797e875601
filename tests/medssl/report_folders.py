"""Folders as `medssl pretrain` and `medssl finetune` leave them, with numbers drawn at random."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from PIL import Image

from medssl.config import DataConfig, Preset, PretrainConfig, ViewsConfig
from medssl.fewlabels.metrics import (
    Predictions,
    confusion_matrix,
    resample_groups,
    summarise,
    weighted_metrics,
)
from medssl.manifest import REJECTED_SCHEMA, SCHEMA, Manifest, write_manifest
from sslcore.config import dump_config

AMOUNTS = (("1%", 0.01), ("10%", 0.1), ("100%", 1.0))
STRENGTHS = {
    "linear_probe": (1.5, 2.4, 2.8),
    "knn": (1.3, 2.1, 2.4),
    "scratch": (0.4, 1.2, 2.5),
    "untrained_probe": (0.5, 1.1, 1.6),
    "pixels_probe": (0.3, 0.8, 1.3),
}


def write_images(folder: Path, count: int) -> list[Path]:
    """Write grey PNG files, coarse and fine texture in turn."""
    rng = np.random.default_rng(5)
    folder.mkdir(parents=True)
    paths = []
    for number in range(count):
        grain = 2 if number % 2 else 8
        noise = rng.integers(40, 216, (32 // grain, 40 // grain), dtype=np.uint8)
        pixels = np.kron(noise, np.ones((grain, grain), np.uint8))
        paths.append(folder / f"secret-name-{number:03}.png")
        Image.fromarray(pixels).save(paths[-1])
    return paths


def manifest_rows(
    paths: Sequence[Path], root: Path, labels: Sequence[str], patients: Sequence[str | None]
) -> pl.DataFrame:
    rows = []
    for number, (path, label, patient) in enumerate(zip(paths, labels, patients, strict=True)):
        with Image.open(path) as image:
            columns, height = image.size
            channels = len(image.getbands())
        rows.append(
            dict.fromkeys(SCHEMA.names())
            | {
                "sample": f"{number:016x}"[::-1],
                "path": str(path.relative_to(root)),
                "frame": 0,
                "frames": 1,
                "kind": "png",
                "rows": height,
                "columns": columns,
                "channels": channels,
                "bits": 8,
                "photometric": "MONOCHROME2" if channels == 1 else "RGB",
                "patient": patient,
                "content": f"{number:032x}",
                "label": label,
            }
        )
    return pl.DataFrame(rows, schema=SCHEMA)


def write_run(folder: Path, rows: pl.DataFrame, root: Path, *, steps: int = 60) -> Path:
    """Write a pretraining run with everything but weights and checkpoints."""
    folder.mkdir(parents=True)
    data = DataConfig(path=root, canvas=40, channels=1)
    config = PretrainConfig(data=data, image_size=32, views=ViewsConfig(preset=Preset.RADIOGRAPH))
    (folder / "config.yaml").write_text(dump_config(config))
    write_manifest(Manifest(rows, root), folder / "manifest.parquet")
    rejected = [
        {"path": "secret-name-x.dcm", "reason": reason, "detail": "words", "stamp": "s"}
        for reason in ("truncated", "not_an_image", "not_an_image")
    ]
    pl.DataFrame(rejected, schema=REJECTED_SCHEMA).write_parquet(folder / "rejected.parquet")
    rng = np.random.default_rng(1)
    done = np.arange(1, steps + 1) / steps
    with (folder / "log.jsonl").open("w") as log:
        for step, part in enumerate(done, start=1):
            record = {
                "step": step,
                "loss": 1.2 + 3 * np.exp(-6 * part) + 0.12 * rng.normal(),
                "lr": 1e-3 * min(1, 10 * part) * (0.5 + 0.5 * np.cos(np.pi * part)),
                "grad_norm": float(np.exp(-part + 0.3 * rng.normal())),
                "terms": {"alignment_of_pairs": 0.9 * part},
                "samples_per_second": 190 + 20 * rng.normal(),
                "wait_share": float(np.clip(0.06 + 0.03 * rng.normal(), 0, 1)),
            }
            log.write(json.dumps(record) + "\n")
    with (folder / "health.jsonl").open("w") as health:
        for check in range(1, 11):
            part = check / 10
            record = {
                "step": round(part * steps),
                "spread": 0.9 - 0.3 * np.exp(-4 * part),
                "effective_rank": 12 + 40 * part**0.5,
                "alignment": 0.8 - 0.4 * part,
                "uniformity": -1.5 - 1.7 * part,
                "knn": 0.6 + 0.32 * part**0.5,
            }
            health.write(json.dumps(record) + "\n")
    return folder


def write_embeddings(folder: Path, rows: pl.DataFrame, features: np.ndarray | None = None) -> None:
    rng = np.random.default_rng(2)
    codes = rows["label"].rank("dense").fill_null(0).to_numpy()
    if features is None:
        features = rng.normal(size=(len(rows), 16)) + 1.5 * np.eye(16)[codes.astype(int) % 16]
    table = rows.select("sample", "patient", "label", split=pl.lit("train"))
    vectors = pl.Series(
        "embedding", features.astype(np.float32).tolist(), dtype=pl.List(pl.Float32)
    )
    table.with_columns(vectors).write_parquet(folder / "embeddings.parquet")


def write_finetune(
    folder: Path,
    rows: pl.DataFrame,
    run: Path,
    *,
    amounts: Sequence[tuple[str, float]] = AMOUNTS,
    draws: int = 3,
    bootstrap: int = 40,
    models: Sequence[str] = tuple(STRENGTHS),
) -> Path:
    """Write results of models that get better with more labels; `scratch` starts behind."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(3)
    classes = sorted(rows["label"].unique().to_list())
    test = rows[len(rows) // 2 :]
    truth = np.array([classes.index(label) for label in test["label"]])
    groups = test["patient"].fill_null(test["sample"]).rank("dense").to_numpy().astype(int) - 1
    blocks = resample_groups(groups, truth, len(classes), count=bootstrap, seed=0)
    weights = np.hstack(list(blocks))
    once = np.ones((len(truth), 1), np.uint16)
    tables, results, comparisons = [], [], []
    for place, (labels, fraction) in enumerate(amounts):
        resampled = {}
        for model in models:
            strength = STRENGTHS.get(model, (1.2, 2.0, 3.0))[min(place, 2)]
            points, spreads, confusion = [], [], np.zeros((len(classes), len(classes)))
            for draw in range(draws):
                noise = rng.normal(size=(len(truth), len(classes)))
                logits = noise + strength * np.eye(len(classes))[truth]
                chances = np.exp(1.6 * logits)
                chances /= chances.sum(1, keepdims=True)
                said = Predictions(chances, chances.argmax(1))
                points.append(weighted_metrics(truth, said, once))
                spreads.append(weighted_metrics(truth, said, weights))
                confusion += confusion_matrix(truth, said.decided, once, len(classes))[..., 0]
                table = test.select("sample", "patient", "label").with_columns(
                    pl.Series("probabilities", chances.tolist()),
                    labels=pl.lit(labels),
                    model=pl.lit(model),
                    draw=pl.lit(draw),
                )
                tables.append(table)
            resampled[model] = np.mean([spread["auroc"] for spread in spreads], axis=0)
            results.append(
                {
                    "labels": labels,
                    "fraction": fraction,
                    "shots": None,
                    "num_labels": max(2, round(fraction * len(rows) / 2)),
                    "draws": draws,
                    "model": model,
                    "metrics": {k: asdict(v) for k, v in summarise(points, spreads).items()},
                    "confusion": confusion.tolist(),
                }
            )
        for model in models:
            if model != "scratch" and "scratch" in models:
                paired = resampled[model] - resampled["scratch"]
                low, high = np.percentile(paired, (2.5, 97.5))
                difference = {"value": paired.mean(), "low": low, "high": high}
                comparisons.append(
                    {
                        "labels": labels,
                        "model": model,
                        "against": "scratch",
                        "metric": "auroc",
                        "difference": difference,
                    }
                )
    pl.concat(tables).write_parquet(folder / "predictions.parquet")
    metrics: dict[str, Any] = {
        "run": str(run),
        "classes": classes,
        "mode": "linear",
        "split": "patient",
        "data": {
            "train": _part(rows[: len(rows) // 2]),
            "val": _part(rows[:4]),
            "test": _part(test),
        },
        "leakage": {
            "patients_across_splits": 0,
            "duplicates_across_splits": 0,
            "conflicting_duplicates": 0,
            "test_seen_in_pretraining": 0,
            "note": "0 patient(s) have images in more than one part.",
        },
        "interval": {"note": "8 test patients drawn with replacement"},
        "notes": ["2 of 40 images have no label: left out"],
        "results": results,
        "comparisons": comparisons,
    }
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "config.yaml").write_text("labels: /secret/labels.csv\nmode: linear\nrepeats: 3\n")
    return folder


def _part(rows: pl.DataFrame) -> dict[str, Any]:
    counts = dict(rows["label"].value_counts().iter_rows())
    return {"images": len(rows), "patients": rows["patient"].n_unique(), "per_class": counts}
