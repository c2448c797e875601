"""The one door to volumes, whichever format they are in."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from medssl.sources.metaimage import load_metaimage
from medssl.sources.nifti import load_nifti
from medssl.sources.nrrd import load_nrrd
from medssl.sources.reading import reading
from medssl.sources.volume import VolumeSlices

_LOADERS: dict[str, Callable[[Path], VolumeSlices]] = {
    "nifti": load_nifti,
    "nrrd": load_nrrd,
    "metaimage": load_metaimage,
}
VOLUMES = tuple(_LOADERS)


@contextmanager
def open_volume(path: Path, kind: str) -> Iterator[VolumeSlices]:
    """Load a file; the last one is kept, because its slices are asked for one by one.

    Args:
        path: The file, with its header.
        kind: One of `VOLUMES`.

    Raises:
        IngestError: The file cannot be used.
    """
    with reading(path, "volume"):
        status = path.stat()
        slices = _load(path, kind, status.st_mtime_ns, status.st_size)
    yield slices


@lru_cache(maxsize=1)
def _load(path: Path, kind: str, _modified: int, _size: int) -> VolumeSlices:
    return _LOADERS[kind](path)
