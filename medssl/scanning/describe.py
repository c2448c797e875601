"""What a scan knows of an image beside its file: patient, site, label and split."""

from collections.abc import Mapping

import polars as pl

from medssl.errors import DataError
from medssl.identity import SiteKey
from medssl.labels import folder_labels, folder_splits
from medssl.scanning.path_pattern import PathPattern
from medssl.scanning.settings import ScanConfig


def describe(
    rows: pl.DataFrame, patterns: Mapping[str, PathPattern], config: ScanConfig, key: SiteKey
) -> pl.DataFrame:
    """Add what follows from the paths to the rows of a manifest.

    The labels of `label_tag` are in the rows already, and so is all that archives of arrays bring.
    """
    paths = rows["path"].unique(maintain_order=True).to_list()
    patients = [patterns["patient"].find(path) for path in paths]
    sites = [patterns["site"].find(path) for path in paths]
    facts = pl.DataFrame(
        {
            "path": paths,
            "named_patient": [name and key.patient(name) for name in patients],
            "named_site": [name and key.site(name) for name in sites],
            "folder": folder_labels(paths) if config.class_folders else [None] * len(paths),
            "folder_split": folder_splits(paths),
        },
        schema=dict.fromkeys(
            ("path", "named_patient", "named_site", "folder", "folder_split"), pl.String
        ),
    )
    is_archive = pl.col("kind") == "npz"
    has_label = is_archive | pl.lit(config.label_tag is not None)
    return (
        rows.join(facts, on="path", how="left", maintain_order="left")
        .with_columns(
            pl.coalesce("named_patient", "patient").alias("patient"),
            pl.col("named_site" if config.site_pattern else "site").alias("site"),
            pl.when(has_label).then("label").otherwise("folder").alias("label"),
            pl.when(is_archive).then("split").otherwise("folder_split").alias("split"),
        )
        .select(rows.columns)
    )


def require_tagged(rows: pl.DataFrame, label_tag: str | None) -> None:
    """Raise if a DICOM attribute was to give the labels, and gave none.

    Raises:
        DataError: No image has it, with a word of `label_terms.TERMS`.
    """
    if label_tag and rows["label"].null_count() == len(rows):
        raise DataError(
            f"--label-tag {label_tag}: none of {len(rows)} images has it with a known word (others"
            " are no labels: they could name a patient); take another one, or give --labels"
        )
