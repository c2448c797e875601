"""What a scan found, for the person who started it."""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from medssl.errors import Reason
from medssl.manifest import count_copies
from medssl.sources.cut import ASSUMED, LEFT_OUT
from medssl.sources.decoded import Suv
from medssl.volumes.assemble import OWNED, is_first
from medssl.volumes.geometry import describe_volumes

_IN_PATIENT = ("CT", "MR", "PT")  # whose images all have a place


@dataclass(frozen=True, slots=True)
class ScanSummary:
    """Counts of one scan.

    Attributes:
        files: Looked at.
        reused: Of these, unchanged since an earlier scan, so not opened.
        images: Rows of the manifest.
        kinds: Images per kind of file.
        modalities: Images per DICOM modality.
        burned_in: Images that may show text in their pixels, per reason.
        suv: PET images, by whether their SUV are known, and if not, why.
        reasons: Files set aside, per reason.
        volumes: Series, or parts of series, that are volumes.
        problems: Volumes per problem of `medssl.volumes.geometry.PROBLEMS`.
        outside: Images that lie in the patient, or should, and are in no volume, per reason.
        slides: Whole slides with tiles.
        assumed: Of these, how many do not say their microns per pixel.
        left_out: Tiles of these slides without a row, per reason.
        duplicates: Images whose pixels another image before them has too.
        patients: Different patients; 0 where none is known.
        studies: Different studies.
        labels: Images per label.
        masks: Images with masks.
        loose_masks: DICOM segmentations and structure sets that refer to no series here, or to one
            of several patients or studies.
        missing: Files that DICOMDIRs list and that are not there.
        label_tag: The DICOM attribute that they were read from, or None.
        unused_labels: Names in the table of labels that fit no image.
        splits: Images per split that the data brings.
        seconds: Duration.
    """

    files: int
    reused: int
    images: int
    kinds: Mapping[str, int]
    modalities: Mapping[str, int]
    burned_in: Mapping[str, int]
    suv: Mapping[str, int]
    reasons: Mapping[str, int]
    volumes: int
    problems: Mapping[str, int]
    outside: Mapping[str, int]
    slides: int
    assumed: int
    left_out: Mapping[str, int]
    duplicates: int
    patients: int
    studies: int
    labels: Mapping[str, int]
    masks: int
    loose_masks: int
    missing: int
    label_tag: str | None
    unused_labels: int
    splits: Mapping[str, int]
    seconds: float

    @property
    def labelled(self) -> int:
        """Images with a label."""
        return sum(self.labels.values())

    @property
    def rejected(self) -> int:
        """Files set aside."""
        return sum(self.reasons.values())

    def _burned_in(self) -> str:
        if not self.burned_in:
            return ""
        number = sum(self.burned_in.values())
        way_in = "left out of training unless data.allow_burned_in=true"
        return f"{number} images may show text ({_list(self.burned_in)}): {way_in}"

    def _pet(self) -> str:
        known = {how: count for how, count in self.suv.items() if how.startswith(Suv.KNOWN)}
        others = {how: count for how, count in self.suv.items() if how not in known}
        told = [f"{sum(known.values())} images in SUV ({_list(known)})"] if known else []
        if others:
            told.append(f"{sum(others.values())} not, shown by percentiles ({_list(others)})")
        return ", ".join(told)

    def _labels(self) -> str:
        told = f"{self.labelled} ({_list(self.labels)})" if self.labels else "none"
        if self.unused_labels:
            told += f"; {self.unused_labels} names in the table fit no image"
        missing = self.images - self.labelled
        if not self.label_tag or not missing:
            return told
        return f"{told}; {missing} images without a known word in {self.label_tag}"

    def _masks(self) -> str:
        told = [f"of {self.masks} images"] if self.masks else []
        if self.loose_masks:
            told.append(f"{self.loose_masks} DICOM objects refer to no series here of one patient")
        return "; ".join(told)

    def _slides(self) -> str:
        if not self.slides:
            return ""
        told = f"{self.slides}"
        told += f" ({self.assumed} with assumed microns per pixel)" if self.assumed else ""
        return told + (f"; tiles left out: {_list(self.left_out)}" if self.left_out else "")

    def _volumes(self) -> str:
        if not self.volumes and not self.outside:
            return ""
        told = f"{self.volumes}" + (f" ({_list(self.problems)})" if self.problems else "")
        return told + (f"; images in none: {_list(self.outside)}" if self.outside else "")

    def table(self) -> str:
        """Return the summary as lines of two columns."""
        lines = [
            ("files", f"{self.files}, of which {self.reused} unchanged since the last scan"),
            ("images", f"{self.images} ({_list(self.kinds)})"),
            ("volumes", self._volumes()),
            ("slides", self._slides()),
            ("modalities", _list(self.modalities)),
            ("burned in", self._burned_in()),
            ("PET", self._pet()),
            ("patients", str(self.patients) if self.patients else "unknown"),
            ("studies", str(self.studies) if self.studies else ""),
            ("duplicates", f"{self.duplicates} images repeat the pixels of another"),
            ("labels", self._labels()),
            ("masks", self._masks()),
            ("splits", _list(self.splits)),
            ("set aside", f"{self.rejected} ({_list(self.reasons)})" if self.reasons else "none"),
            ("DICOMDIR", f"lists {self.missing} files that are not here" if self.missing else ""),
            ("time", f"{self.seconds:.1f} s"),
        ]
        return "\n".join(f"{name:<12}{text}" for name, text in lines if text)


def summarise(
    rows: pl.DataFrame,
    rejected: pl.DataFrame,
    *,
    files: int,
    reused: int,
    missing: int,
    seconds: float,
    label_tag: str | None = None,
    unused_labels: int = 0,
) -> ScanSummary:
    """Count what is in the two tables of a scan."""
    volumes = describe_volumes(rows)
    slides = rows.filter(pl.col("kind") == "slide").unique("path")
    return ScanSummary(
        files=files,
        reused=reused,
        images=len(rows),
        kinds=_counts(rows["kind"]),
        modalities=_counts(rows["modality"]),
        burned_in=_counts(rows["burned_in"]),
        suv=_counts(rows["suv"]),
        reasons=_counts(rejected["reason"]),
        volumes=len(volumes),
        problems=_counts(volumes["problems"].explode()),
        outside=_counts(_outside(rows)),
        slides=len(slides),
        assumed=int(slides["member"].str.ends_with(ASSUMED).sum()),
        left_out=_left_out(slides["left_out"]),
        duplicates=count_copies(rows),
        patients=rows["patient"].drop_nulls().n_unique(),
        studies=rows["study"].drop_nulls().n_unique(),
        labels=_counts(rows["label"]),
        masks=rows["masks"].count(),
        loose_masks=_loose_masks(rows, rejected),
        missing=missing,
        label_tag=label_tag,
        unused_labels=unused_labels,
        splits=_counts(rows["split"]),
        seconds=seconds,
    )


def _left_out(slides: pl.Series) -> dict[str, int]:
    counts = [int(slides.arr.get(place).sum()) for place in range(len(LEFT_OUT))]
    return {name: count for name, count in zip(LEFT_OUT, counts, strict=True) if count}


def _loose_masks(rows: pl.DataFrame, rejected: pl.DataFrame) -> int:
    objects = rejected.filter(pl.col("reason") == Reason.SEGMENTATION)["path"]
    used = rows["masks"].drop_nulls().explode().unique()
    return int((~objects.is_in(used.implode())).sum())


def _outside(rows: pl.DataFrame) -> pl.Series:
    """Return why images that lie in the patient, or should, are in no volume.

    At one place are images whose planes are equal to the digit.
    """
    among = (*OWNED, "rows", "columns")
    placed = rows.filter(pl.col("plane").is_not_null()).with_columns(first=is_first(*among))
    at_place = pl.col("first").sum().over(*among, "plane")
    placed = placed.with_columns(
        outside=pl.when(pl.col("stack").is_null())
        .then(pl.lit("localiser"))
        .when(pl.col("channels") > 1)
        .then(pl.lit("colour"))
        .when(~pl.col("first"))
        .then(pl.lit("copy"))
        .when(at_place > 1)
        .then(pl.lit("other at its place"))
        .otherwise(pl.lit("single"))
    )
    is_loose = pl.col("volume").is_null()
    is_lost = pl.col("plane").is_null() & pl.col("modality").is_in(_IN_PATIENT)
    lost = rows.filter(is_loose & is_lost & (pl.col("channels") == 1))
    lost = lost.with_columns(outside=pl.lit("without a place"))
    both = (each.select("outside") for each in (placed.filter(is_loose), lost))
    return pl.concat(both)["outside"]


def _counts(column: pl.Series) -> dict[str, int]:
    """Return how often each value occurs, the most frequent first."""
    counted = (
        column.drop_nulls().value_counts().sort(["count", column.name], descending=[True, False])
    )
    return dict(zip(counted[column.name].to_list(), counted["count"].to_list(), strict=True))


def _list(counts: Mapping[str, int], most: int = 8) -> str:
    words = [f"{name} {count}" for name, count in list(counts.items())[:most]]
    more = len(counts) - most
    return ", ".join([*words, f"{more} more"] if more > 0 else words)
