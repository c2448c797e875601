"""The one door to volumes, whichever format they are in."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

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
        slices = _LAST.get(path, kind, status.st_mtime_ns, status.st_size)
    yield slices


class _Last:
    """The volume opened last; it goes before another is loaded, so that memory holds one."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._key: tuple[object, ...] | None = None
        self._slices: VolumeSlices | None = None

    def get(self, path: Path, kind: str, modified: int, size: int) -> VolumeSlices:
        key = (path, kind, modified, size)
        with self._lock:
            if self._slices is None or self._key != key:
                self._slices = None
                self._slices = _LOADERS[kind](path)
                self._key = key
            return self._slices


_LAST = _Last()
