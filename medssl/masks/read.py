"""Masks of the samples of a manifest, in their own grid, as numbers of classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medssl.errors import DataError, IngestError, Reason, UnsupportedImageError
from medssl.manifest import Manifest
from medssl.manifest_paths import decode_path
from medssl.masks.dicom_objects import Structures, open_structures
from medssl.masks.slices import Slice
from medssl.masks.values import ValueFiles, Values, name_of
from medssl.sources.local import local_file
from medssl.sources.place import Plane
from medssl.sources.sniff import sniff
from medssl.volumes.samples import parts_of
from sslcore.console import Progress

ANY = "structure"  # the class of whatever is marked, where nobody asks for more
MOST_CLASSES = 32
_COLUMNS = (
    "path", "frame", "frames", "rows", "columns", "plane",
    "spacing_slice_mm", "spacing_row_mm", "spacing_column_mm", "masks",
)  # fmt: skip

Codes = NDArray[np.uint8]


class MaskReader:
    """Reads the masks of a manifest whose every row has one."""

    def __init__(self, manifest: Manifest, structures: Sequence[str], *, binary: bool) -> None:
        """Prepare to read.

        Args:
            manifest: As `medssl.volumes.samples.as_samples` returns it.
            structures: What to look for: values of masks, or names that DICOM objects give their
                structures, small and capital letters alike; by default all values, or whatever a
                DICOM object marks.
            binary: Whether all of that is one class.
        """
        self._root = manifest.root
        self._wanted = tuple(name.lower() for name in structures)
        self._binary = binary
        self._samples = [[_slice(row) for row in parts] for parts in _own_parts(manifest)]
        self._flat = manifest.slices is None or manifest.slab > 1
        self._files = ValueFiles()
        self._objects: dict[str, Structures] = {}
        self._kinds: dict[str, bool] = {}

    def values(self, index: int) -> Values:
        """Return what the mask of a sample holds, `[rows, columns]`, of volumes with slices first.

        Raises:
            IngestError: A mask cannot be read, or does not fit the image.
        """
        slices = [self._of_slice(each) for each in self._samples[index]]
        return slices[0] if self._flat else np.stack(slices)

    def _of_slice(self, image: Slice) -> Values:
        if not image.masks:
            detail = "a slice without a mask, in a volume of slices that have some"
            place = self._root / decode_path(image.path)
            raise UnsupportedImageError(place, Reason.UNSUPPORTED, detail)
        if not self._is_object(image.masks[0]):
            return self._files.read(self._root / decode_path(image.masks[0]), image)
        marked = np.zeros(image.shape, np.int64)
        for path in image.masks:
            drawn = self._object(path).draw(image)
            for name, pixels in drawn.items():
                if not self._wanted:
                    marked[pixels] = 1
                elif name in self._wanted:
                    own = self._wanted.index(name) + 1
                    marked[pixels] = np.maximum(marked[pixels], own)
        return marked

    def _object(self, path: str) -> Structures:
        """Read a DICOM object once, and see to it that it fits all images that name it."""
        if path not in self._objects:
            place = self._root / decode_path(path)
            read = open_structures(place)
            images = [each for parts in self._samples for each in parts if path in each.masks]
            if not read.fits(images):
                detail = "a segmentation in another grid than the images"
                raise UnsupportedImageError(place, Reason.UNSUPPORTED, detail)
            self._objects = {path: read}  # the last one only: images of one object are together
        return self._objects[path]

    def survey(self, progress: Progress) -> "Survey":
        """Read every mask once, to know the classes and which masks cannot be used.

        Raises:
            DataError: No class, or so many that they are no classes.
        """
        progress.expect(len(self._samples), unit="masks")
        present: list[frozenset[int] | None] = []
        failures: dict[str, int] = {}
        for index in range(len(self._samples)):
            try:
                present.append(frozenset(np.unique(self.values(index)).tolist()) - {0})
            except IngestError as error:
                failures[error.detail] = failures.get(error.detail, 0) + 1
                present.append(None)
            progress.advance()
        found = sorted(frozenset().union(*(each for each in present if each is not None)))
        kinds = set(self._kinds.values())
        if len(kinds) == 2:
            raise DataError("some images have masks beside them, others DICOM objects: scan apart")
        names = self._names(found) if True in kinds else [name_of(value) for value in found]
        return Survey(present, failures, self._classes(names, found))

    def _names(self, found: Sequence[int]) -> list[str]:
        return [self._wanted[value - 1] if self._wanted else ANY for value in found]

    def _classes(self, names: Sequence[str], found: Sequence[int]) -> "Classes":
        missing = [name for name in self._wanted if name not in names]
        if missing:
            held = f"; they hold {', '.join(map(name_of, found[:20]))}" if found else ""
            raise DataError(f"--structure {missing[0]}: no mask holds it{held}")
        chosen = [
            (name, value)
            for name, value in zip(names, found, strict=True)
            if not self._wanted or name in self._wanted
        ]
        if not chosen:
            raise DataError("the masks mark nothing")
        if self._binary:
            return Classes((ANY,), (tuple(value for _, value in chosen),))
        if len(chosen) > MOST_CLASSES:
            raise DataError(
                f"the masks hold {len(chosen)} values: numbers of objects, or not exact? Take all"
                " of them as one class with --binary, or name some with --structure"
            )
        return Classes(tuple(name for name, _ in chosen), tuple((value,) for _, value in chosen))

    def _is_object(self, path: str) -> bool:
        """Tell a DICOM object, whose structures have names, from an image."""
        if path not in self._kinds:
            self._kinds[path] = _is_dicom(self._root / decode_path(path))
        return self._kinds[path]


@dataclass(frozen=True, slots=True)
class Classes:
    """What the values of masks mean.

    Attributes:
        names: Of the classes; number 0 is none of them.
        values: Of each class in a mask.
    """

    names: tuple[str, ...]
    values: tuple[tuple[int, ...], ...]

    def codes(self, values: Values) -> Codes:
        """Return the number of the class of each value, from 1; 0 for others."""
        codes = np.zeros(values.shape, np.uint8)
        for number, own in enumerate(self.values, start=1):
            codes[np.isin(values, own)] = number
        return codes


@dataclass(frozen=True, slots=True)
class Survey:
    """What the masks of a manifest hold.

    Attributes:
        present: Values of each sample's mask but 0; None where it cannot be used.
        failures: How many cannot, by what is wrong.
        classes: What the values mean.
    """

    present: list[frozenset[int] | None]
    failures: dict[str, int]
    classes: Classes


def _own_parts(manifest: Manifest) -> list[list[tuple[Any, ...]]]:
    """Return the slices whose masks make that of a sample: of a slab that in the middle."""
    if manifest.slices is None or manifest.slab > 1:
        return [[row] for row in manifest.rows.select(_COLUMNS).iter_rows()]
    return parts_of(manifest, _COLUMNS)


def _slice(row: Sequence[Any]) -> Slice:
    path, frame, frames, rows, columns, sides, *spacing, masks = row
    plane = sides and Plane(*(tuple(sides[at : at + 3]) for at in (0, 3, 6)))
    return Slice(path, frame, frames, rows, columns, plane, tuple(spacing), tuple(masks or ()))


def _is_dicom(path: Path) -> bool:
    with local_file(path) as local:
        return sniff(local) == "dicom"
