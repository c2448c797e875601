"""The data of a run: from a path to the manifest rows to learn from, and what follows from them."""

import tempfile
from contextlib import ExitStack
from pathlib import Path

import polars as pl

from medssl.backbones import choose_stem, side_multiple, takes_patches
from medssl.config import DataConfig, Dims, Preset, PretrainConfig
from medssl.errors import DataError
from medssl.hub_backbones import HUB_KNOWN, HUB_TRANSFORMERS, hub_side_multiple
from medssl.loading.canvas import choose_canvas, choose_channels, scales_of
from medssl.manifest import Manifest, read_manifest
from medssl.manifest_paths import absolute, as_written, is_remote
from medssl.scanning.scan import scan
from medssl.scanning.settings import ScanConfig
from medssl.sources.archives import is_archive
from medssl.views import choose_local_size, choose_preset
from medssl.volumes.samples import any_part, samples_of
from sslcore.config import suggest
from sslcore.console import Progress
from sslcore.device import choose_device, choose_precision
from sslcore.errors import ConfigError
from sslcore.methods.settings import Pooling
from sslcore.training.settings import RunConfig

VOLUMES_PER_STEP = 32  # where nobody says how many
_TRANSFORMER_RATE = 1e-3  # of AdamW, for 256 samples, at most


def open_data(
    path: Path,
    *,
    scanned_to: Path | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Manifest:
    """Read the manifest at `path`, or scan the folder or archive there.

    Args:
        path: Manifest, folder, also a remote one, or MedMNIST archive.
        scanned_to: Where the manifest of a scan is written, and rejected files are listed beside
            it; by default neither is kept.
        workers: Scanning processes, at least one; as many as cores by default.
        progress: Told about a scan; a bar of its own by default.

    Raises:
        DataError: Nothing is there, or nothing in it can be used.
    """
    if path.suffix == ".parquet":
        return read_manifest(path)
    if not is_remote(path) and not path.exists():
        raise DataError(f"{path} does not exist; expected a folder, manifest.parquet or .npz")
    with ExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory())
        manifest = scanned_to or Path(scratch) / "manifest.parquet"
        shown = progress or stack.enter_context(Progress("scan"))
        processes = None if workers is None else max(1, workers)
        scan(path, manifest, ScanConfig(workers=processes), shown)
        return read_manifest(manifest)


def require_scanned(path: Path) -> None:
    """Refuse what takes long to scan: the other processes would wait for one until they give up.

    Raises:
        ConfigError: `path` is a folder, or a zip or tar archive.
    """
    if path.is_dir() or is_remote(path) or is_archive(path):
        what, place = "archive" if is_archive(path) else "folder", as_written(path)
        raise ConfigError(
            f"{place}: several processes need a scanned {what}; run `medssl scan {place} --out"
            " manifest.parquet` first and give that file, or set run.devices=1"
        )


def usable_images(manifest: Manifest, data: DataConfig) -> Manifest:
    """Keep what shows no text, as far as is known, unless allowed, of usable modalities.

    Raises:
        DataError: Volumes are wanted, and there are none: see `as_samples`.
    """
    excluded = pl.col("modality").is_in(list(data.exclude_modalities))
    used = samples_of(manifest, data).where(~excluded.fill_null(value=False))
    if data.allow_burned_in:
        return used
    return used.where(~pl.lit(any_part(used, pl.col("burned_in").is_not_null())))


def tell_burned_in(manifest: Manifest, data: DataConfig) -> str | None:
    """Say how many images were left out because they may show text; None if it is none."""
    images = samples_of(manifest, data)
    count = any_part(images, pl.col("burned_in").is_not_null()).sum()
    if not count or data.allow_burned_in:
        return None
    return (
        f"{count} images may show text, such as a name: left out unless data.allow_burned_in is set"
    )


def training_rows(manifest: Manifest, data: DataConfig) -> Manifest:
    """Keep the images to learn from: of usable modalities and of the chosen splits.

    Raises:
        DataError: No image remains.
        ConfigError: A split that the data does not have.
    """
    used = usable_images(manifest, data)
    if data.splits is None:
        is_test = (pl.col("split") == "test").fill_null(value=False)
        used = used.where(~pl.lit(any_part(used, is_test)))
    else:
        present = sorted(manifest.rows["split"].drop_nulls().unique())
        for name in data.splits:
            if name not in present:
                way_out = suggest(name, present) if present else "the data has none"
                raise ConfigError(f"data.splits: no split {name!r}; {way_out}")
        used = used.where(pl.col("split").is_in(list(data.splits)))
    if not len(used):
        text = tell_burned_in(manifest, data)
        raise DataError(
            f"none of {len(manifest)} images remains to learn from; change data.splits"
            f" (now {data.splits or 'all but test'}) or data.exclude_modalities"
            f" ({list(data.exclude_modalities)})" + (f"; {text}" if text else "")
        )
    return used


def _choose_canvas(config: PretrainConfig, rows: Manifest) -> int:
    """Return the side by the size of images; of the view itself where it stands for a length."""
    has_scale = config.data.spacing_mm is not None
    return config.image_size if has_scale else choose_canvas(rows, config.image_size)


def _check_kind(data: DataConfig, channels: int, rows: Manifest) -> None:
    """Raise `ConfigError` for settings of another kind of image."""
    stain, dims = data.stain, data.dims
    if data.spacing_mm is not None and not any(scales_of(rows.rows, data.spacing_mm)):
        raise ConfigError(
            f"data.spacing_mm {data.spacing_mm:g}: none of {len(rows)} images says how large its"
            " pixels are; leave it out"
        )
    if stain and (channels != 3 or dims == 3):
        held = "volumes" if dims == 3 else "images without colour"
        raise ConfigError(f"data.stain {stain} is for sections, not for {held}; leave it out")


def choose_backbone(config: PretrainConfig) -> str:
    """Return the name of the network; by what the method needs, unless one is given."""
    return config.backbone.name or ("vit_tiny" if config.method.needs_tokens else "resnet18")


def image_shape(config: PretrainConfig) -> tuple[int, int]:
    """Return channels and canvas of a resolved configuration."""
    channels, canvas = config.data.channels, config.data.canvas
    if channels == "auto" or canvas is None:
        raise TypeError("expected a resolved configuration")
    return channels, canvas


def resolve(config: PretrainConfig, manifest: Manifest) -> PretrainConfig:
    """Replace every "auto" and default that depends on data or machine by its value.

    Resolving twice changes nothing.

    Raises:
        DataError: See `training_rows`.
        ConfigError: See there, and for a batch larger than the data, or than the method's queue.
    """
    data, run = config.data, config.run
    if data.patches and data.canvas is None:  # needed to know how many there are
        data = data.model_copy(update={"canvas": config.image_size})
    rows = training_rows(manifest, data)
    chosen = 3 if data.slab == 3 else choose_channels(rows)
    channels = chosen if data.channels == "auto" else data.channels
    _check_kind(data, channels, rows)
    batch = _choose_batch(len(rows), run, data.dims)
    config.method.require_room(batch)
    auto_preset = config.views.preset == Preset.AUTO
    auto_stem = config.backbone.stem == "auto"
    values: dict[str, dict[str, object]] = {
        "data": {
            "path": absolute(data.path),
            "store": data.store and absolute(data.store),
            "channels": channels,
            "canvas": data.canvas or _choose_canvas(config, rows),
        },
        "views": {
            "preset": choose_preset(rows) if auto_preset else config.views.preset,
            **_crops(config),
        },
        "backbone": {
            "name": choose_backbone(config),
            "stem": choose_stem(config.image_size) if auto_stem else config.backbone.stem,
            "pooling": _choose_pooling(config),
            "weights": _place(config.backbone.weights),
        },
        "optim": {"learning_rate": config.optim.learning_rate or _choose_rate(config)},
        "run": {
            "batch_size": batch,
            "precision": choose_precision("auto", choose_device(run.device))
            if run.precision == "auto"
            else run.precision,
        },
    }
    sections = {
        name: getattr(config, name).model_copy(update=update) for name, update in values.items()
    }
    return config.model_copy(update=sections)


def _choose_pooling(config: PretrainConfig) -> Pooling | None:
    """Return what was asked for, else the method's with given weights, which know that token."""
    name, settings = choose_backbone(config), config.backbone
    if settings.pooling:
        return settings.pooling
    if name in HUB_TRANSFORMERS:
        return config.method.pooling if settings.weights else "mean"
    return "mean" if takes_patches(name) else None


def _choose_rate(config: PretrainConfig) -> float:
    """Return the method's rate, lower for a transformer, which diverges earlier than others."""
    rate = config.method.default_learning_rate(config.optim.name)
    name = choose_backbone(config)
    is_transformer = takes_patches(name) or name in HUB_TRANSFORMERS or "swin" in name
    return min(rate, _TRANSFORMER_RATE) if config.optim.name == "adamw" and is_transformer else rate


def _place(weights: str | None) -> str | None:
    """Return the absolute path of a folder, and the name of anything else."""
    return str(Path(weights).absolute()) if weights and Path(weights).is_dir() else weights


def _side_multiple(config: PretrainConfig) -> int:
    name = choose_backbone(config)
    if name in HUB_KNOWN:
        return hub_side_multiple(name, config.backbone, config.image_size)
    return side_multiple(name, config.image_size, config.backbone.stem)


def _crops(config: PretrainConfig) -> dict[str, object]:
    """Return how many crops there are and how they are made, by what the method wants."""
    views, needs = config.views, config.method.views
    count = needs.local_views if views.local_views is None else views.local_views
    multiple = _side_multiple(config)
    size = views.local_size or choose_local_size(config.image_size, multiple_of=multiple)
    if count and size % multiple:
        raise ConfigError(
            f"views.local_size {size}: {choose_backbone(config)} has patches of {multiple} px; use"
            f" a multiple of it, such as {-(-size // multiple) * multiple}"
        )
    return {
        "local_views": count,
        "local_size": size if count else None,
        "crop_scale": views.crop_scale or needs.full_scale,
        "strength": needs.strength if views.strength is None else views.strength,
    }


def _choose_batch(count: int, run: RunConfig, dims: Dims) -> int:
    """Return what was asked for; all images where nobody asked and there are fewer than usual.

    Of volumes fewer are usual, which have as many voxels as more images.
    """
    asked = "batch_size" in run.model_fields_set
    wanted = run.batch_size if asked or dims == 2 else VOLUMES_PER_STEP
    if wanted <= count:
        return wanted
    largest = count - count % run.devices
    if largest < 2:
        raise ConfigError(
            f"expected at least {max(2, run.devices)} images to learn from on {run.devices}"
            f" process(es), got {count}"
        )
    if not asked:
        return largest
    raise ConfigError(
        f"run.batch_size {run.batch_size} is more than the {count} images to learn from;"
        f" the largest possible is --batch-size {largest}"
    )
