"""The images of a run, as its configuration says they are read."""

from medssl.config import DataConfig, PretrainConfig
from medssl.loading.dataset import CanvasDataset
from medssl.loading.store import StorePlan
from medssl.manifest import Manifest
from medssl.run_data import image_shape


def open_images(
    manifest: Manifest, config: PretrainConfig, *, cache_gb: float | None = None
) -> CanvasDataset:
    """Read the images of `manifest` as a run does.

    Args:
        manifest: Of images or of volumes, as the run wants them.
        config: Resolved.
        cache_gb: Instead of what the configuration says; without a store then.
    """
    channels, canvas = image_shape(config)
    data = config.data
    return CanvasDataset(
        manifest,
        canvas=canvas,
        channels=channels,
        window=data.window,
        stain=data.stain,
        spacing_mm=data.spacing_mm,
        cache_gb=data.cache_gb if cache_gb is None else cache_gb,
        store=plan_store(data) if cache_gb is None else None,
    )


def plan_store(data: DataConfig) -> StorePlan | None:
    """Return the store that the settings name."""
    return None if data.store is None else StorePlan(data.store, data.store_gb)
