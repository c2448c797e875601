"""Settings of a scan. Imports nothing heavy: a second scan takes less time than torch to load."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from medssl.sources.label_terms import LabelTag
from sslcore.config import Section


class ScanConfig(Section):
    """How a folder is scanned."""

    labels: Path | None = Field(None, description="CSV; see `medssl.labels.join_labels`")
    class_folders: bool = Field(False, description="the name of an image's folder is its label")
    label_tag: LabelTag | None = Field(
        None, description="DICOM attribute that is the label; see `medssl.sources.label_terms`"
    )
    masks: str | None = Field(
        None,
        description="path of an image's mask below the folder, by {folder}, {name} and {stem} of"
        " the image; see `medssl.scanning.mask_paths`",
    )
    patient_pattern: str | None = Field(
        None,
        description="regular expression with one group, searched for in the relative path of"
        " every image; what the group finds is the patient, whatever the file says",
    )
    site_pattern: str | None = Field(
        None, description="likewise for the site; where it finds none, the site is unknown"
    )
    tile_px: int = Field(256, gt=15, description="side of the tiles that whole slides are cut to")
    tile_mpp: float = Field(0.5, gt=0, description="their microns per pixel; 0.5 is about 20 x")
    tile_tissue: float = Field(0.5, ge=0, le=1, description="share of tissue that a tile needs")
    slide_mpp: float | None = Field(
        None,
        gt=0,
        description="assumed of slides that do not say their microns per pixel; by default such"
        " slides are set aside",
    )
    private: bool = Field(
        False,
        description="keys instead of paths in every table; what they stand for is kept beside the"
        " site key",
    )
    workers: int | None = Field(None, gt=0, description="processes; as many as cores by default")
    file_seconds: float = Field(
        300.0, gt=0, description="for one file; one that takes longer is set aside"
    )
    memory_gb: float | None = Field(
        None,
        gt=0,
        description="of each process; a file that needs more is set aside; by default its share of"
        " the machine's memory, and at least 4",
    )

    @model_validator(mode="after")
    def _has_one_source_of_labels(self) -> Self:
        if self.label_tag and (self.labels or self.class_folders):
            raise ValueError("label_tag excludes labels and class_folders; give one of them")
        return self
