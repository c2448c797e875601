"""Whatever bytes a mask is made of: values in the grid of its image, or an `IngestError`."""

import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from medssl.errors import IngestError
from medssl.identity import SiteKey
from medssl.manifest import Manifest, read_manifest
from medssl.masks.dicom_objects import open_structures
from medssl.masks.read import MaskReader
from medssl.masks.slices import Slice
from medssl.masks.values import ValueFiles
from medssl.scanning.scan import scan
from medssl.scanning.settings import ScanConfig
from medssl.sources.place import plane_of
from medssl.volumes.samples import as_samples
from tests.medssl.make_masks import (
    ORIGIN,
    SHAPE,
    SIDES,
    SPACING,
    write_oblique_series,
    write_segmentation,
    write_structure_set,
)
from tests.medssl.test_fuzz import FORMATS, damage, flips, places, sample

_OBJECTS = ("BINARY", "FRACTIONAL", "LABELMAP", "structure set")
_VALUES = tuple(name for name in FORMATS if name in ("PNG", "TIFF", "nifti", "nrrd", "metaimage"))
MASKS = (*_OBJECTS, *_VALUES)


@cache
def mask(name: str) -> bytes:
    """Return a small valid file."""
    if name in _VALUES:
        return sample(name)
    structures = {"a": np.zeros(SHAPE, bool), "b": np.zeros(SHAPE, bool)}
    structures["a"][1:3, 4:9, 5:20] = structures["b"][2:, 10:12, :3] = True
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a"
        if name == "structure set":
            corners = np.array([(1.0, 2.0, 3.0), (1.0, 2.0, 9.0), (1.0, 9.0, 9.0)])
            return write_structure_set(path, {"a": [corners, corners * 2]}).read_bytes()
        return write_segmentation(path, structures, kind=name).read_bytes()


def masked_images(folder: Path, name: str) -> tuple[Manifest, Path]:
    """Write images and their mask; return their manifest, and where the mask is."""
    root = folder / "in"
    if name in _OBJECTS:
        write_oblique_series(root / "s")
    else:
        root.mkdir(parents=True)
        (root / "a").write_bytes(mask(name))
    (root / "a_mask").write_bytes(mask(name))
    config = ScanConfig(workers=1, masks=None if name in _OBJECTS else "{name}_mask")
    scan(root, folder / "manifest.parquet", config, key=SiteKey(b"k"))
    return as_samples(read_manifest(folder / "manifest.parquet"), 2), root / "a_mask"


def image(place: int) -> Slice:
    right, down = np.array(SIDES[:3]), np.array(SIDES[3:])
    position = ORIGIN + place * SPACING[0] * np.cross(right, down)
    plane = plane_of(position, right, down)
    return Slice("a", place, SHAPE[0], *SHAPE[1:], plane, SPACING, ("mask",))


def read(path: Path, name: str) -> None:
    images = [image(place) for place in range(SHAPE[0])]
    if name in _VALUES:
        for each in images:
            assert ValueFiles().read(path, each).shape == each.shape
        return
    found = open_structures(path, images)
    for each in images:
        assert all(drawn.shape == each.shape for drawn in found.draw(each).values())


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from(MASKS), flips, st.one_of(st.just(1.0), places))
@example("BINARY", [(0.53515625, 0)], 1.0)  # a kind of value that does not exist, without pixels
def test_damaged_masks_are_read_or_refused(
    tmp_path: Path, name: str, bits: list[tuple[float, int]], keep: float
) -> None:
    path = tmp_path / "mask"
    path.write_bytes(damage(mask(name), bits, keep))
    with suppress(IngestError):
        read(path, name)


@pytest.mark.parametrize("name", MASKS)
def test_the_whole_masks_are_read(tmp_path: Path, name: str) -> None:
    manifest, _ = masked_images(tmp_path, name)
    assert any(
        MaskReader(manifest, (), binary=True).values(row).any() for row in range(len(manifest))
    )
