"""Configuration of the medical commands: everything that changes a result, and its defaults."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_serializer, model_validator

from medssl.intensity import Window as Window  # noqa: PLC0414, for those who import it from here
from medssl.manifest_paths import as_written
from sslcore.config import Section
from sslcore.methods.registry import MethodConfig
from sslcore.methods.settings import Pooling
from sslcore.methods.simclr import SimCLRConfig
from sslcore.training.settings import OptimConfig, RunConfig

Dims = Literal[2, 3]
Slab = Literal[1, 3]
Stem = Literal["auto", "small", "medium", "large"]
Norm = Literal["batch", "group"]
SplitBy = Literal["auto", "given", "patient", "study", "image", "site", "scanner"]
StainMethod = Literal["macenko", "vahadane", "reinhard"]


class Preset(StrEnum):
    """Kinds of image that want different augmentations."""

    AUTO = "auto"
    RADIOGRAPH = "radiograph"
    CT = "ct"
    MR = "mr"
    HISTOLOGY = "histology"
    MICROSCOPY = "microscopy"
    PHOTOGRAPH = "photograph"


class DataConfig(Section):
    """What is read, and how it becomes one tensor."""

    path: Path = Field(description="folder, manifest.parquet, MedMNIST .npz, or s3://bucket/folder")
    dims: Dims = Field(2, description="2 learns from images, 3 from volumes")
    channels: Literal["auto", 1, 3] = Field("auto", description="3 if any image has colour")
    window: Window = Window.AUTO
    slab: Slab = Field(
        1,
        description="3 gives each slice of a volume those before and after it as channels (2.5-D),"
        " with dims 2; images in no volume are left out",
    )
    spacing_mm: float | None = Field(
        None,
        ge=1e-4,
        le=100,
        description="between the pixels or voxels of the canvas, the middle of an image cut out or"
        " its borders repeated; by default the longest side fills the canvas",
    )
    patches: bool = Field(False, description="of volumes: all cubes that cover one are samples")
    stain: StainMethod | None = Field(
        None,
        description="bring the colours of haematoxylin and eosin to those of a reference, image by"
        " image; the encoder does it wherever it is used",
    )
    exclude_modalities: tuple[str, ...] = ("SEG", "RTDOSE", "PR", "KO")
    allow_burned_in: bool = Field(
        False, description="also images that may show text, such as a name, in their pixels"
    )
    splits: tuple[str, ...] | None = Field(
        None, description="pretrain on these of the data's own splits; all but test by default"
    )
    canvas: int | None = Field(None, gt=7, description="px the loader delivers; default by size")
    workers: int | None = Field(None, ge=0, description="decoding processes; default by cores")
    cache_gb: float = Field(1.0, ge=0, description="decoded images kept in memory, at most")
    store: Path | None = Field(
        None, description="folder where decoded images are kept on disk, as medssl cache makes it"
    )
    store_gb: float = Field(100.0, gt=0, description="what it may take, at most")

    @field_serializer("path")
    def _as_written(self, path: Path) -> str:
        return as_written(path)

    @model_validator(mode="after")
    def _has_parts_of_volumes(self) -> Self:
        if self.slab == 3 and (self.dims == 3 or self.channels == 1 or self.stain):
            raise ValueError("data.slab 3 is for dims 2, 3 channels and no stain; leave one out")
        if self.patches and (self.dims == 2 or self.spacing_mm is None):
            raise ValueError("data.patches needs data.dims=3 and data.spacing_mm, such as 1.5")
        return self


class ViewsConfig(Section):
    """How views are made; None takes the preset's value."""

    preset: Preset = Preset.AUTO
    crop_scale: tuple[float, float] | None = Field(None, description="share of the area")
    local_views: int | None = Field(
        None, ge=0, description="smaller crops beside the two full views; default by method"
    )
    local_size: int | None = Field(
        None,
        gt=7,
        description="their side, px; default 3/7 of full; for transformers a multiple of the patch",
    )
    local_scale: tuple[float, float] = Field((0.05, 0.4), description="their share of the area")
    horizontal_flip: float | None = Field(None, ge=0, le=1, description="probability")
    vertical_flip: float | None = Field(None, ge=0, le=1, description="probability")
    rotation: float | None = Field(None, ge=0, le=180, description="degrees, either way")
    strength: float | None = Field(
        None,
        ge=0,
        le=2,
        description="of all intensity changes; 1, but 0 for methods that predict pixels",
    )

    @model_validator(mode="after")
    def _crops_a_part(self) -> Self:
        for name in ("crop_scale", "local_scale"):
            low, high = getattr(self, name) or (1.0, 1.0)
            if not 0 < low <= high <= 1:
                raise ValueError(f"{name}: expected 0 < low <= high <= 1, got {low:g}, {high:g}")
        return self


class BackboneConfig(Section):
    """The encoder's network; see `medssl.backbones.KNOWN` and `medssl.hub_backbones`."""

    name: str | None = Field(
        None, description="default resnet18; vit_tiny for methods that need the tokens of patches"
    )
    stem: Stem = Field("auto", description="small to 48 px, medium to 128 px, else large")
    width: int | None = Field(
        None, gt=7, description="channels of a ResNet's first stage; 64 as published"
    )
    norm: Norm = Field("batch", description="of a ResNet; with group, run.micro_batch is exact")
    pooling: Pooling | None = Field(
        None, description="of a transformer; default mean, but with given hf_ weights the paper's"
    )
    registers: int = Field(0, ge=0, description="of a transformer, tokens without a place")
    weights: str | None = Field(
        None,
        description="to go on from: the folder of an earlier run with the same network; of an hf_"
        " network a folder with config.json and model.safetensors, or with download a name on the"
        " hub; random by default",
    )
    download: bool = Field(False, description="fetch the weights from the hub if they are not here")
    compile: bool = Field(False, description="torch.compile; methods that hide patches go past it")


class PretrainConfig(Section):
    """One pretraining run, complete: everything that changes its result is in here."""

    data: DataConfig
    image_size: int = Field(64, gt=7, description="side of a view, px")
    views: ViewsConfig = ViewsConfig()
    backbone: BackboneConfig = BackboneConfig()
    method: MethodConfig = SimCLRConfig()
    optim: OptimConfig = OptimConfig()
    run: RunConfig = RunConfig()


# What a run's own config.yaml has resolved, by the setting it was resolved from.
# Without this, `--config RUN/config.yaml` would treat other images like those of the old run.
DERIVED: Mapping[str, tuple[str, ...]] = {
    "data.path": ("data.channels", "data.canvas", "views.preset"),
    "data.dims": ("data.canvas",),
    "data.slab": ("data.channels", "data.canvas"),
    "data.spacing_mm": ("data.canvas",),
    "image_size": ("data.canvas", "backbone.stem", "views.local_size"),
    "method.name": (
        "method",
        "optim.learning_rate",
        "views.local_views",
        "views.local_size",
        "views.crop_scale",
        "views.strength",
        "backbone.pooling",
    ),
    "backbone.name": ("backbone.pooling", "views.local_size"),
    "backbone.stem": ("views.local_size",),
    "backbone.weights": ("views.local_size",),
    "optim.name": ("optim.learning_rate",),
}


class EmbedConfig(Section):
    """How images become vectors."""

    batch_size: int = Field(256, gt=0, description="images at a time")
    device: str = Field("auto", description="auto, cpu, cuda, mps")


class FewLabelConfig(Section):
    """What learning from few labels has in common, be they of images or of pixels."""

    split: SplitBy = Field(
        "auto",
        description="the data's own where it has one, else by patient; study where patients are"
        " unknown; site, scanner: tested on those that nothing was learnt from",
    )
    test_share: float = Field(0.3, gt=0, lt=1, description="of the patients")
    val_share: float = Field(0.15, gt=0, lt=1, description="of the patients")
    fractions: tuple[Annotated[float, Field(gt=0, le=1)], ...] | None = Field(
        None, description="of the training labels; 0.01, 0.1 and 1 unless shots are given"
    )
    shots: tuple[Annotated[int, Field(gt=0)], ...] = Field(
        (), description="labels per class, instead of fractions, or beside given ones"
    )
    repeats: int = Field(3, gt=0, description="label draws per fraction, and per fold")
    learning_rate: float = Field(1e-3, gt=0, description="peak, of full training")
    bootstrap: int = Field(1000, gt=0, description="resamples of the patients")
    device: str = Field("auto", description="auto, cpu, cuda, mps")
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _leaves_images_to_train_on(self) -> Self:
        if self.test_share + self.val_share >= 1:
            raise ValueError(
                f"test_share {self.test_share} + val_share {self.val_share} leave nothing to"
                " train on"
            )
        return self


class FinetuneConfig(FewLabelConfig):
    """Few-label training and evaluation of one encoder."""

    labels: Path | None = Field(None, description="CSV; default: the labels of the manifest")
    class_folders: bool = Field(False, description="the name of an image's folder is its label")
    mode: Literal["linear", "full"] = "linear"
    folds: int = Field(
        1,
        gt=0,
        description="test parts, so that every patient is tested, by models that did not see him;"
        " each repeat divides the patients anew; test_share does not matter then; 1: one split",
    )
    steps: int = Field(400, gt=0, description="optimiser steps of full training, at most")
    batch_size: int = Field(64, gt=1, description="images per step of full training")
    neighbours: int = Field(20, gt=0, description="of the kNN classifier, at most")

    @model_validator(mode="after")
    def _has_one_source_of_labels(self) -> Self:
        if self.labels is not None and self.class_folders:
            raise ValueError("labels and class_folders exclude each other; give one of them")
        return self


class SegmentConfig(FewLabelConfig):
    """Few-label training and evaluation of outlines.

    A label is the mask of an image, or those of all slices of a volume.
    """

    structures: tuple[str, ...] = Field(
        (),
        description="what to outline: values of masks, #rrggbb in colour, or names in DICOM"
        " objects, of which later ones cover earlier ones; default: all values, or whatever is"
        " marked",
    )
    binary: bool = Field(False, description="all of these are one class")
    mode: Literal["frozen", "full"] = Field(
        "full", description="whether the pretrained encoder stays as it is, or is trained too"
    )
    learning_rate: float = Field(3e-3, gt=0, description="peak")
    encoder_rate: float = Field(
        0.1, gt=0, description="share of that rate which a pretrained encoder learns at"
    )
    steps: int = Field(400, gt=0, description="optimiser steps, at most")
    batch_size: int = Field(16, gt=0, description="images or volumes per step")


class DistillConfig(Section):
    """Passing on what a fine-tuned classifier knows to a small network."""

    backbone: str = Field("resnet10", description="name of the student, a network of MONAI")
    width: int | None = Field(None, gt=0, description="of a ResNet's first stage; default: its own")
    temperature: float = Field(
        1.0, gt=0, description="divides the logits of both; lower makes the teacher surer"
    )
    steps: int = Field(1000, gt=0, description="optimiser steps")
    batch_size: int = Field(64, gt=1, description="images per step")
    learning_rate: float = Field(1e-3, gt=0, description="peak")
    scratch_steps: int = Field(
        400, gt=0, description="of the same network trained on the labels alone, at most"
    )
    bootstrap: int = Field(1000, gt=0, description="resamples of the patients")
    device: str = Field("auto", description="auto, cpu, cuda, mps")
    seed: int = Field(0, ge=0)


class ReportConfig(Section):
    """What a report shows of many images."""

    sources: int = Field(6, gt=0, description="images whose views are shown")
    map_points: int = Field(1500, gt=7, description="images on the map, at most")
    queries: int = Field(6, gt=0, description="images whose neighbours are shown")
    neighbours: int = Field(6, gt=0, description="of each")
    batch_size: int = Field(128, gt=0, description="images at a time, where a run is embedded")
    device: str = Field("auto", description="auto, cpu, cuda, mps; likewise")
    seed: int = Field(0, ge=0, description="of the map")
