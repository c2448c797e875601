"""Turn each image of a folder into a vector."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from medssl.config import EmbedConfig
from medssl.encoder import Encoder, load_encoder, unfinished
from medssl.manifest import Manifest
from medssl.run_data import open_data
from medssl.volumes.samples import samples_of
from sslcore.console import Progress
from sslcore.device import choose_device
from sslcore.tables import require_parquet, require_replaceable, write_parquet

KNOWN = ("sample", "patient", "label", "split")  # columns beside what a network says of an image


@dataclass(frozen=True, slots=True)
class EmbedResult:
    """What was written.

    Attributes:
        count: Images embedded.
        failures: Images that could not be read any more.
    """

    count: int
    failures: int


def embed(run: Path, data: Path, out: Path, config: EmbedConfig) -> EmbedResult:
    """Write the embeddings of all images of `data`, with `sample`, `patient`, `label`, `split`.

    Args:
        run: Folder that pretraining made.
        data: Folder, manifest.parquet or MedMNIST archive.
        out: Parquet file. The manifest of a folder is kept beside it, as `OUT.manifest.parquet`:
            its column `sample` joins paths and sizes to the vectors.
        config: Settings.

    Raises:
        OutputError: `out` exists and is something else than such a table.
        SSLError: The run has no encoder, or the data cannot be used.
    """
    require_replaceable(out, (*KNOWN, "embedding"), "table of embeddings")
    require_parquet(out)
    encoder = load_encoder(run, device=torch.device(choose_device(config.device)))
    found = open_data(data, scanned_to=out.with_suffix(".manifest.parquet"))
    manifest = samples_of(found, encoder.spec)
    with Progress("embed") as progress:
        if warning := unfinished(run):
            progress.note(warning)
        table, failures = encoded_table(encoder, manifest, config.batch_size, progress)
        if failures:
            progress.note(f"{failures} images could not be read and are left out")
    write_parquet(table, out)
    return EmbedResult(len(table), failures)


def encoded_table(
    encoder: Encoder, manifest: Manifest, batch_size: int, progress: Progress | None = None
) -> tuple[pl.DataFrame, int]:
    """Return one row per readable image, in the manifest's order, and how many were not."""
    found = encoder.encode(manifest, batch_size=batch_size, progress=progress)
    return embedding_table(manifest, found.rows, found.values), len(found.failures)


def embedding_table(
    manifest: Manifest, rows: npt.NDArray[np.int64], values: npt.NDArray[np.float32]
) -> pl.DataFrame:
    """Return what is known of the `rows` of a manifest beside their embeddings, `[rows, dim]`."""
    column = pl.Series("embedding", values, dtype=pl.Array(pl.Float32, values.shape[1]))
    known = manifest.rows[rows.tolist()].select(KNOWN)
    table: pl.DataFrame = known.with_columns(column.cast(pl.List(pl.Float32)))
    return table
