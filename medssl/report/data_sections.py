"""Chapters about the images, and how to read the report."""

import polars as pl

from medssl.manifest import count_copies
from medssl.report import tables, words
from medssl.report.inputs import Inputs
from medssl.volumes.geometry import describe_volumes
from sslcore.report import writing
from sslcore.report.parts import Note, Part, Section, Table, Tables, Terms


def data_section(inputs: Inputs) -> Section:
    """Return what images the run saw, and what was set aside."""
    parts: list[Part] = []
    lead = ""
    if inputs.manifest is None:
        parts.append(Note("The manifest of the run is missing, so its images can't be described."))
    else:
        rows = inputs.manifest.rows
        lead = _overview(rows)
        parts.append(Tables(tuple(_describe(rows))))
    if inputs.rejected is None:
        parts.append(
            Note(
                "No list of rejected files stands in the run: it was pretrained on a manifest or"
                " an array; rejected.parquet then lies beside that."
            )
        )
    elif inputs.rejected.is_empty():
        parts.append(Note("Every file of the folder could be used.", "good"))
    else:
        parts.append(tables.rejected_by_reason(inputs.rejected))
    return Section("data", "The images", tuple(parts), lead)


def reading_section() -> Section:
    """Return the explanations in plain words."""
    return Section("reading", "How to read this", (Terms(words.HOW_TO_READ),))


def _overview(rows: pl.DataFrame) -> str:
    patients = rows["patient"].n_unique() - rows["patient"].has_nulls()
    whose = f"of {writing.count(patients, 'patient')}" if patients else "of unknown patients"
    copies = count_copies(rows)
    text = f"{writing.count(len(rows), 'image')} {whose}."
    if patients and rows["patient"].has_nulls():
        text += (
            f" The patient of {writing.count(rows['patient'].null_count(), 'image')} is unknown."
        )
    if copies:
        text += f" {writing.count(copies, 'exact copy', 'exact copies')} among them."
    text += _volumes(rows)
    if patients:
        sizes = rows.drop_nulls("patient").group_by("patient").len()["len"].to_list()
        text += f" A patient has {min(sizes):,} to {max(sizes):,} images."
    return text


def _volumes(rows: pl.DataFrame) -> str:
    found = describe_volumes(rows)
    if found.is_empty():
        return ""
    slices = int(found["slices"].sum())
    text = (
        f" {writing.count(slices, 'image')} are the slices of {writing.count(len(found), 'volume')}"
    )
    problems = found["problems"].explode().drop_nulls().value_counts().sort("problems")
    if len(problems):
        told = (f"{words.PROBLEMS[name]} {count:,}" for name, count in problems.iter_rows())
        text += f" ({', '.join(told)})"
    return f"{text}."


def _describe(rows: pl.DataFrame) -> list[Table]:
    named = rows.with_columns(
        pl.col("kind").replace(words.KINDS),
        size=pl.format(f"{{}} {writing.TIMES} {{}}", pl.col("columns"), pl.col("rows")),
        depth=pl.format("{} bit, {}", pl.col("bits"), _color()),
    )
    columns = (
        ("kind", "Kinds of file", "Kind"),
        ("modality", "Modalities", "Code"),
        ("size", "Sizes", f"Columns {writing.TIMES} rows, px"),
        ("depth", "Depth", "Stored"),
        ("photometric", "Photometric interpretation", "As DICOM names it"),
        ("label", "Labels", "Label"),
        ("split", "Splits of the data", "Part"),
    )
    made = (tables.value_counts(named, *column) for column in columns)
    return [table for table in made if table]


def _color() -> pl.Expr:
    return pl.when(pl.col("channels") == 1).then(pl.lit("grey")).otherwise(pl.lit("colour"))
