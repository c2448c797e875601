"""Chapters that show the embeddings: a map of the images, and nearest neighbours."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import polars as pl
import torch

from medssl.config import ReportConfig, Window
from medssl.embed import encoded_table
from medssl.encoder import load_encoder
from medssl.errors import DataError
from medssl.report import words
from medssl.report.inputs import Inputs
from medssl.report.run_figures import THUMBNAIL_SHARE, thumbnail_map
from medssl.report.sheets import Images, fitted, open_images, picture
from sslcore.device import choose_device
from sslcore.errors import CheckpointError
from sslcore.plots import MUTED, series, to_svg
from sslcore.report import writing
from sslcore.report.choosing import IntArray, apart, evenly, in_turns
from sslcore.report.maps import point_map
from sslcore.report.parts import (
    Drawing,
    Drawings,
    Note,
    Part,
    Picture,
    Prose,
    Section,
    Sheet,
    Strip,
)
from sslcore.report.projection import (
    FEWEST,
    FloatArray,
    nearest,
    project,
    share_of_equal_neighbours,
    unit_rows,
)

_MOST_THUMBNAILS = 110
_MAP_THUMBNAIL = 44  # px stored
_GAP = 1.12  # between thumbnails on the map, in their sides


@dataclass(frozen=True, slots=True)
class Embedded:
    """Some images and where the encoder puts them.

    Attributes:
        samples: Keys of the images.
        patients: Keys, None where unknown.
        labels: None where unknown.
        names: The different labels, in the order of their colours.
        embeddings: `[images, dim]`.
    """

    samples: list[str]
    patients: list[str | None]
    labels: list[str | None]
    names: list[str]
    embeddings: FloatArray

    @classmethod
    def from_table(cls, table: pl.DataFrame, most: int, classes: Sequence[str] = ()) -> Self:
        """Take `most` rows or fewer, evenly spaced, in the order of the table."""
        kept = table[evenly(len(table), most).tolist()]
        found = sorted(set(kept["label"].drop_nulls().to_list()))
        return cls(
            samples=kept["sample"].to_list(),
            patients=kept["patient"].to_list(),
            labels=kept["label"].to_list(),
            names=[name for name in classes if name in found]
            + [name for name in found if name not in classes],
            embeddings=np.array(kept["embedding"].to_list(), dtype=np.float64),
        )

    def groups(self) -> IntArray:
        """Return the number of each image's label, -1 for none."""
        numbers: dict[str | None, int] = {name: at for at, name in enumerate(self.names)}
        return np.array([numbers.get(label, -1) for label in self.labels], dtype=np.int64)

    def color(self, index: int) -> str:
        """Return the CSS colour of an image's label."""
        label = self.labels[index]
        tone = MUTED if label is None else series(self.names.index(label))
        return f"var(--{tone.name})"


def map_sections(inputs: Inputs, config: ReportConfig) -> list[Section]:
    """Return the map of the images and the nearest neighbours."""
    table, total = _embeddings(inputs, config)
    if table is None or len(table) < FEWEST:
        reason = (
            f"A map needs the embeddings of at least {FEWEST} images: either embeddings.parquet in"
            " this folder, or the encoder of the run and its images."
        )
        return [Section("map", "Map of the images", (Note(reason),))]
    results = inputs.results
    classes = results.classes if results and results.task == "classification" else ()
    embedded = Embedded.from_table(table, config.map_points, classes)
    images = _open(inputs, embedded)
    return [_map(embedded, images, total, config.seed), _neighbours(embedded, images, config)]


def _embeddings(inputs: Inputs, config: ReportConfig) -> tuple[pl.DataFrame | None, int]:
    """Return embeddings that were found, or of some images of the run; and how many there are."""
    if inputs.embeddings is not None:
        return inputs.embeddings, len(inputs.embeddings)
    has_own = inputs.results is not None and inputs.results.task == "classification"
    if inputs.run is None or inputs.gallery is None or has_own:
        return None, 0
    rows = inputs.gallery.rows
    some = replace(inputs.gallery, rows=rows[evenly(len(rows), config.map_points).tolist()])
    try:
        encoder = load_encoder(inputs.run, device=torch.device(choose_device(config.device)))
        table, _ = encoded_table(encoder, some, config.batch_size)
    except (CheckpointError, DataError):
        return None, 0
    return table, len(rows)


def _open(inputs: Inputs, embedded: Embedded) -> Images | None:
    if inputs.gallery is None:
        return None
    window = inputs.config.data.window if inputs.config else Window.AUTO
    images = open_images(inputs.gallery, window, embedded.samples)
    return images if images.rows else None


def _map(embedded: Embedded, images: Images | None, total: int, seed: int) -> Section:
    points = project(embedded.embeddings, seed=seed)
    groups = embedded.groups()
    number = len(points)
    shown = writing.count(number, "image") if number == total else f"{number:,} of {total:,} images"
    by_label = (
        f" Colours are the labels: {writing.listed(embedded.names)}." if embedded.names else ""
    )
    drawings = [
        Drawing(
            to_svg(
                point_map(points, groups, embedded.names),
                name="map",
                alt=f"Map of {shown}; near points are alike to the encoder.{by_label}",
            ),
            f"{shown}.{by_label}",
        )
    ]
    parts: list[Part] = []
    thumbnails = _thumbnails(embedded, images, points) if images else []
    if thumbnails:
        figure = thumbnail_map(points, groups, thumbnails)
        alt = f"The same map with {len(thumbnails)} of the images at their places."
        caption = f"The same map: {len(thumbnails)} of the images at their places."
        drawings.append(Drawing(to_svg(figure, name="thumbnails", alt=alt), caption))
    else:
        parts.append(Note(_NO_IMAGES))
    parts.insert(0, Drawings(tuple(drawings)))
    lead = "Images that look alike to the encoder lie near each other. It was not told the labels."
    return Section("map", "Map of the images", tuple(parts), lead)


_NO_IMAGES = (
    "The images themselves can't be shown: they are no longer where the manifest says, or can't"
    " be read now."
)


def _thumbnails(
    embedded: Embedded, images: Images, points: FloatArray
) -> list[tuple[int, np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]]:
    distance = THUMBNAIL_SHARE * _GAP
    made = []
    for index in apart(points, distance=distance, most=_MOST_THUMBNAILS):
        pixels = images.pixels(embedded.samples[index])
        if pixels is not None:
            made.append((index, fitted(pixels, _MAP_THUMBNAIL)))
    return made


def _neighbours(embedded: Embedded, images: Images | None, config: ReportConfig) -> Section:
    units = unit_rows(embedded.embeddings)
    parts: list[Part] = []
    strips = []
    for query in in_turns(embedded.groups(), config.queries) if images else []:
        strip = _strip(embedded, images, units, query, config.neighbours) if images else None
        if strip:
            strips.append(strip)
    known = any(patient is not None for patient in embedded.patients)
    if strips:
        whose = "of other patients" if known else "(patients are not known)"
        caption = (
            f"The nearest images {whose}, with their cosine similarity; 1 is equal to the encoder."
            " Frames have the colour of the label on the map. Image and patient are named by the"
            " first letters of their keys in the Parquet files."
        )
        parts.append(Sheet(caption, "Image", "Nearest, from the left", tuple(strips)))
    else:
        parts.append(Note(_NO_IMAGES))
    parts.extend(_neighbour_notes(embedded, units))
    lead = "What the encoder takes for similar. It should be the disease, not the scanner."
    return Section("neighbours", "Nearest neighbours", tuple(parts), lead)


def _neighbour_notes(embedded: Embedded, units: FloatArray) -> list[Part]:
    notes: list[Part] = []
    label = share_of_equal_neighbours(units, embedded.labels, apart_from=embedded.patients)
    if label:
        of_another = "image of another patient" if any(embedded.patients) else "image"
        notes.append(
            Prose(
                f"The nearest {of_another} has the same label in {writing.percent(label[0])} of"
                f" cases; chance would give {writing.percent(label[1])}."
            )
        )
    patient = share_of_equal_neighbours(units, embedded.patients)
    if patient:
        text = (
            "The nearest of all images is one of the same patient in"
            f" {writing.percent(patient[0])} of cases; chance would give"
            f" {writing.percent(patient[1])}. The higher, the more the encoder recognises patients"
            " or their scanner, which is why results need a split by patient."
        )
        notes.append(Prose(text))
    return notes


def _strip(
    embedded: Embedded, images: Images, units: FloatArray, query: int, most: int
) -> Strip | None:
    lead = _picture(embedded, images, query, None)
    found = nearest(units, embedded.patients, query, most=most)
    others = [_picture(embedded, images, index, similarity) for index, similarity in found]
    shown = tuple(item for item in others if item)
    return Strip(lead, shown) if lead and shown else None


def _picture(
    embedded: Embedded, images: Images, index: int, similarity: float | None
) -> Picture | None:
    sample, patient = embedded.samples[index], embedded.patients[index]
    label = embedded.labels[index]
    pixels = images.pixels(sample)
    if pixels is None:
        return None
    near = () if similarity is None else (f"{similarity:.2f}",)
    named = (label,) if label else ()
    keys = (
        f"image {words.short(sample)}",
        *([f"patient {words.short(patient)}"] if patient else []),
    )
    alt = f"Image {words.short(sample)}, label {label or 'unknown'}" + (
        f", similarity {similarity:.2f}" if similarity is not None else ""
    )
    lines = (*named, *keys) if similarity is None else (*near, *named)
    return picture(pixels, alt=alt, lines=lines, color=embedded.color(index))
