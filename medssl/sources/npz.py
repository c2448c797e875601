"""NumPy archives in the layout of MedMNIST: `train_images`, `train_labels`, and so on.

Of MedMNIST's volumes every slice across the first axis is an image; nothing is known of their
geometry.
"""

import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from medssl.errors import Reason, TooLargeError, UnreadableFileError, UnsupportedImageError
from medssl.sources.decoded import Decoded, FileFacts, Values
from medssl.sources.place import UNKNOWN, Moment, Place
from medssl.sources.reading import reading, require_budget, require_frame

ARRAY_BUDGET = 4 << 30  # bytes of one array
_IMAGES = re.compile(r"^(?:(train|val|test)_)?images$")
_KINDS = ("bool", "uint8", "uint16", "int16", "float32")


@dataclass(frozen=True, slots=True)
class Member:
    """One array of images in an archive.

    Attributes:
        name: Of the array, such as `train_images`.
        count: Images in it, or slices of all its volumes.
        split: `train`, `val`, `test`, or None.
        labels: One text for each of them; None where the archive has no single label per image.
    """

    name: str
    count: int
    split: str | None
    labels: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class NpzImages:
    """The images of one array. An `ImageReader`.

    Attributes:
        path: The archive.
        images: `[images or slices of volumes, rows, columns]`, in colour `[..., 3]`.
        depth: Slices of each volume; None for images.
    """

    path: Path
    images: Values
    depth: int | None

    @property
    def facts(self) -> FileFacts:
        """What holds for the whole array."""
        return FileFacts(frames=len(self.images))

    def decode(self, frame: int) -> Decoded:
        """Return one image of the array."""
        require_frame(self.path, frame, len(self.images))
        values = self.images[frame]
        bits = 1 if values.dtype == np.bool_ else values.dtype.itemsize * 8
        if values.dtype == np.bool_:
            values = values.astype(np.uint8)
        return Decoded(
            values, "RGB" if values.ndim == 3 else "MONOCHROME2", bits, place=self._place(frame)
        )

    def _place(self, frame: int) -> Place | None:
        if self.depth is None:
            return None
        volume, number = divmod(frame, self.depth)
        return Place(Moment(volume, UNKNOWN, number))


def list_members(path: Path) -> list[Member]:
    """List the arrays of images in an archive; images are not loaded.

    Raises:
        UnreadableFileError: Damaged.
        UnsupportedImageError: No array of images or grey volumes.
        TooLargeError: An array of more than `ARRAY_BUDGET` bytes, judged before loading.
    """
    with reading(path, "archive"):
        shapes = _read_shapes(path)
        names = [name for name in shapes if _IMAGES.match(name)]
        if not names:
            detail = "an archive without train_images, val_images, test_images or images"
            raise UnsupportedImageError(path, Reason.UNSUPPORTED, detail)
        return [_describe(path, name, shapes) for name in names]


@contextmanager
def open_npz(path: Path, member: str) -> Iterator[NpzImages]:
    """Load one array; the last ones are kept, because their images are asked for one by one.

    Raises:
        IngestError: As `list_members`; also if there is no such array.
    """
    with reading(path, "archive"):
        status = path.stat()
        images = _load(path, member, status.st_mtime_ns, status.st_size)
    depth = _depth(images.shape)
    flat = images if depth is None else images.reshape(-1, *images.shape[2:])
    yield NpzImages(path, flat, depth)


@lru_cache(maxsize=3)  # train, val and test: volumes are asked for in random order
def _load(path: Path, member: str, _modified: int, _size: int) -> Values:
    shapes = _read_shapes(path)
    if member not in shapes:
        raise UnreadableFileError(path, Reason.CORRUPT, "no array of that name in the archive")
    _require_images(path, *shapes[member])
    with np.load(path, allow_pickle=False) as archive:
        images: Values = archive[member]
    return np.ascontiguousarray(images, images.dtype.newbyteorder("="))


def _read_shapes(path: Path) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """Read the headers of all arrays, which are small, without their content."""
    shapes = {}
    with zipfile.ZipFile(path) as archive:
        for item in archive.namelist():
            if not item.endswith(".npy"):
                continue
            with archive.open(item) as file:
                version = np.lib.format.read_magic(file)
                read = (
                    np.lib.format.read_array_header_1_0
                    if version == (1, 0)
                    else np.lib.format.read_array_header_2_0
                )
                shape, _, dtype = read(file)
            shapes[item.removesuffix(".npy")] = (shape, dtype)
    return shapes


def _describe(
    path: Path, name: str, shapes: dict[str, tuple[tuple[int, ...], np.dtype[Any]]]
) -> Member:
    shape, dtype = shapes[name]
    _require_images(path, shape, dtype)
    found = _IMAGES.match(name)
    split = found.group(1) if found else None
    depth = _depth(shape) or 1
    labels = _read_labels(path, name, shapes)
    repeated = None if labels is None else tuple(label for label in labels for _ in range(depth))
    return Member(name, shape[0] * depth, split, repeated)


def _depth(shape: tuple[int, ...]) -> int | None:
    """Return how many slices each volume of an array has; None if it holds images."""
    return shape[1] if len(shape) == 4 and shape[3] != 3 else None


def _read_labels(
    path: Path, name: str, shapes: dict[str, tuple[tuple[int, ...], np.dtype[Any]]]
) -> tuple[str, ...] | None:
    labels = name.replace("images", "labels")
    count = shapes[name][0][0]
    if labels not in shapes:
        return None
    shape, dtype = shapes[labels]
    if shape[:1] != (count,):
        detail = f"{name} has {count} entries, {labels} another number"
        raise UnreadableFileError(path, Reason.CORRUPT, detail)
    if dtype.kind not in "iub" or shape not in ((count,), (count, 1)):
        return None
    with np.load(path, allow_pickle=False) as archive:
        return tuple(map(str, archive[labels].reshape(-1).astype(int).tolist()))


def _require_images(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if dtype.hasobject:
        detail = "pickled objects, which are never loaded"
        raise UnsupportedImageError(path, Reason.UNSUPPORTED, detail)
    if dtype.newbyteorder("=").name not in _KINDS:
        raise UnsupportedImageError(path, Reason.UNSUPPORTED, "numbers of another kind than pixels")
    if len(shape) not in (3, 4):
        detail = f"arrays of {len(shape)} axes, neither images nor grey volumes"
        raise UnsupportedImageError(path, Reason.UNSUPPORTED, detail)
    rows = 1 if _depth(shape) is None else 2
    require_budget(path, shape[rows], shape[rows + 1])
    size = int(np.prod([float(side) for side in shape])) * dtype.itemsize
    if size > ARRAY_BUDGET:
        raise TooLargeError(path, Reason.TOO_LARGE, f"array of more than {ARRAY_BUDGET >> 30} GiB")
