"""Masks of the samples of a manifest, in their own grid, as numbers of classes."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from medssl.errors import DataError, IngestError, Reason, UnsupportedImageError
from medssl.manifest import Manifest
from medssl.manifest_paths import decode_path
from medssl.masks.dicom_objects import open_structures
from medssl.masks.slices import Slice
from medssl.masks.structures import Structures
from medssl.masks.values import ValueFiles, Values, name_of
from medssl.sources.local import local_file
from medssl.sources.place import Plane
from medssl.sources.sniff import sniff
from medssl.volumes.samples import parts_of
from sslcore.console import Progress

ANY = "structure"  # the class of whatever is marked, where nobody asks for more
MOST_CLASSES = 32
_MOST_VALUES = 4096  # of all masks; so many are no masks, and pictures fill the memory
_OBJECT_BYTES = 1 << 30  # of DICOM objects in memory
_COLUMNS = (
    "path", "frame", "frames", "rows", "columns", "plane",
    "spacing_slice_mm", "spacing_row_mm", "spacing_column_mm", "masks",
)  # fmt: skip

Codes = NDArray[np.uint8]


class MaskReader:
    """Reads the masks of a manifest whose every row has one."""

    def __init__(
        self,
        manifest: Manifest,
        structures: Sequence[str],
        *,
        binary: bool,
        known: pl.DataFrame | None = None,
    ) -> None:
        """Prepare to read.

        Args:
            manifest: As `medssl.volumes.samples.as_samples` returns it.
            structures: What to look for: values of masks, or names that DICOM objects give their
                structures, small and capital letters alike; by default all values, or whatever a
                DICOM object marks.
            binary: Whether all of that is one class.
            known: Rows of all images, among them those that a DICOM object may belong to though
                they are not in `manifest`; by default its own.
        """
        self._root = manifest.root
        self._wanted = tuple(name.lower() for name in structures)
        self._binary = binary
        self._samples = [[_slice(row) for row in parts] for parts in _own_parts(manifest)]
        self._flat = manifest.slices is None or manifest.slab > 1
        self._files = ValueFiles()
        self._links = _links(known if known is not None else manifest.slices, manifest)
        self._objects: dict[str, Structures | IngestError] = {}
        self._held = 0  # bytes of these
        self._kinds: dict[str, bool] = {}
        self.loose: dict[str, int] = {}  # frames and contours of objects that are in no image

    def keep(self, rows: Iterable[int]) -> None:
        """Leave all other rows out; those that remain count from 0."""
        self._samples = [self._samples[row] for row in rows]

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
            drawn = self._object(path).draw(image, self._wanted)
            for name, pixels in drawn.items():
                own = self._wanted.index(name) + 1 if self._wanted else 1
                marked[pixels] = np.maximum(marked[pixels], own)
        return marked

    def _object(self, path: str) -> Structures:
        """Read a DICOM object once; those of the last series stay in memory."""
        if path not in self._objects:
            found = self._read_object(path)
            while self._objects and self._held > _OBJECT_BYTES - _size(found):
                self._held -= _size(self._objects.pop(next(iter(self._objects))))
            self._objects[path] = found
            self._held += _size(found)
        found = self._objects[path]
        if isinstance(found, IngestError):
            raise found.bare()  # its traceback would grow, and hold what was read
        return found

    def _read_object(self, path: str) -> Structures | IngestError:
        try:
            read = open_structures(self._root / decode_path(path), self._links.get(path, []))
        except IngestError as error:
            return error.bare()
        self.loose[path] = read.loose
        return read

    def survey(self, progress: Progress) -> "Survey":
        """Read every mask once, to know the classes and which masks cannot be used.

        Raises:
            DataError: No class, or so many that they are no classes.
        """
        progress.expect(len(self._samples), unit="masks")
        present: list[frozenset[int] | None] = []
        every: set[int] = set()
        failures: Counter[str] = Counter()
        for index in range(len(self._samples)):
            try:
                held = frozenset(np.unique(self.values(index)).tolist()) - {0}
                present.append(held)
                every |= held
            except IngestError as error:
                failures[error.detail] += 1
                present.append(None)
            progress.advance()
            if len(every) > _MOST_VALUES and not (self._binary or self._wanted):
                raise _too_many(f"more than {_MOST_VALUES}")
        found = sorted(every)
        if len(set(self._kinds.values())) == 2:
            raise DataError("some images have masks beside them, others DICOM objects: scan apart")
        is_named = True in self._kinds.values()
        names = self._names(found) if is_named else [name_of(value) for value in found]
        try:
            classes = self._classes(names, found)
        except DataError as error:
            told = "".join(f"; {count} cannot be used: {why}" for why, count in failures.items())
            raise DataError(f"{error}{told}") from error
        return Survey(present, dict(failures), classes, sum(self.loose.values()))

    def _names(self, found: Sequence[int]) -> list[str]:
        return [self._wanted[value - 1] if self._wanted else ANY for value in found]

    def _classes(self, names: Sequence[str], found: Sequence[int]) -> "Classes":
        missing = [name for name in self._wanted if name not in names]
        if missing:
            held = f"; they hold {', '.join(names[:20])}" if names else ""
            raise DataError(
                f"--structure {missing[0]}: no mask holds it, or later ones cover it{held}"
            )
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
            raise _too_many(str(len(chosen)))
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
        loose: Frames and contours of DICOM objects that are at the place of no image.
    """

    present: list[frozenset[int] | None]
    failures: dict[str, int]
    classes: Classes
    loose: int


def _too_many(count: str) -> DataError:
    return DataError(
        f"the masks hold {count} values: numbers of objects, not exact, or pictures that are no"
        " masks? Take all of them as one class with --binary, or name some with --structure"
    )


def _own_parts(manifest: Manifest) -> list[list[tuple[Any, ...]]]:
    """Return the slices whose masks make that of a sample: of a slab that in the middle."""
    if manifest.slices is None or manifest.slab > 1:
        return [[row] for row in manifest.rows.select(_COLUMNS).iter_rows()]
    return parts_of(manifest, _COLUMNS)


def _links(known: pl.DataFrame | None, manifest: Manifest) -> dict[str, list[Slice]]:
    """Return all slices that name a mask, by its path."""
    rows = manifest.rows if known is None else known
    links: dict[str, list[Slice]] = {}
    for row in rows.filter(pl.col("masks").is_not_null()).select(_COLUMNS).iter_rows():
        image = _slice(row)
        for path in image.masks:
            links.setdefault(path, []).append(image)
    return links


def _slice(row: Sequence[Any]) -> Slice:
    path, frame, frames, rows, columns, sides, *spacing, masks = row
    plane = sides and Plane(*(tuple(sides[at : at + 3]) for at in (0, 3, 6)))
    return Slice(path, frame, frames, rows, columns, plane, tuple(spacing), tuple(masks or ()))


def _size(read: Structures | IngestError) -> int:
    return read.held if isinstance(read, Structures) else 0


def _is_dicom(path: Path) -> bool:
    with local_file(path) as local:
        return sniff(local) == "dicom"
