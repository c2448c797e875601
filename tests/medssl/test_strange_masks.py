"""Masks that are strange but legal, and such as claim what cannot be: read right, or refused."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.sequence import Sequence as Items

from medssl.errors import (
    DataError,
    IngestError,
    SegmentationError,
    TooLargeError,
    UnreadableFileError,
)
from medssl.masks import read as mask_reading
from medssl.masks import structures
from medssl.masks.dicom_objects import open_structures
from medssl.masks.read import MaskReader
from medssl.masks.slices import Slice
from medssl.masks.values import ValueFiles
from medssl.sources.open import open_image
from medssl.sources.place import plane_of
from tests.medssl.make_masks import (
    SHAPE,
    SPACING,
    in_patient,
    write_oblique_series,
    write_segmentation,
    write_structure_set,
)
from tests.medssl.test_masks import blobs, box, corners, masked, scanned, survey, write_pair
from tests.medssl.test_masks_fuzz import image

SQUARE = [(2.5, 1.5), (2.5, 12.5), (9.5, 12.5), (9.5, 1.5)]


def drawn(path: Path, *wanted: str) -> dict[int, dict[str, int]]:
    """Return how many pixels of each structure are in each slice that has some."""
    images = [image(place) for place in range(SHAPE[0])]
    found = open_structures(path, images)
    counts = {each.frame: found.draw(each, wanted) for each in images}
    return {at: {name: int(pixels.sum()) for name, pixels in own.items()}
            for at, own in counts.items() if own}  # fmt: skip


def changed(path: Path, change: Any) -> Path:
    data = dcmread(path)
    change(data)
    data.save_as(path)
    return path


# segmentations


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_sixty_segments_may_share_their_name(tmp_path: Path, kind: str) -> None:
    masks = {str(number): np.zeros(SHAPE, bool) for number in range(60)}
    for number, mask in enumerate(masks.values()):
        mask[1, number // 20, number % 20] = True
    path = write_segmentation(tmp_path / "seg", masks, kind=kind)

    def rename(data: Dataset) -> None:
        for item in data.SegmentSequence:
            item.SegmentLabel = "Lesion"

    assert drawn(changed(path, rename)) == {1: {"lesion": 60}}


def test_segments_may_overlap_and_their_frames_have_any_order(tmp_path: Path) -> None:
    first = np.zeros(SHAPE, bool)
    first[1:4, 3:9, 3:9] = True
    second = np.roll(first, 2, axis=1)
    path = write_segmentation(tmp_path / "seg", {"a": first, "b": second})
    expected = {place: {"a": 36, "b": 36} for place in (1, 2, 3)}
    assert drawn(path) == expected
    turned = write_segmentation(
        tmp_path / "turned", {"a": first[:, ::-1], "b": second[:, ::-1]}, kind="BINARY"
    )

    def backwards(data: Dataset) -> None:
        data.PerFrameFunctionalGroupsSequence = Items(data.PerFrameFunctionalGroupsSequence[::-1])
        bits = np.unpackbits(np.frombuffer(data.PixelData, np.uint8), bitorder="little")
        frames = bits[: 6 * 20 * 24].reshape(6, -1)[::-1]
        data.PixelData = np.packbits(frames, bitorder="little").tobytes()

    assert drawn(changed(turned, backwards)) == expected


@pytest.mark.parametrize(("spacing", "fits"), [(0.7501, True), (0.8, False), (0.375, False)])
def test_the_pixels_of_a_segmentation_are_as_far_apart_as_those_of_the_image(
    tmp_path: Path, spacing: float, fits: bool
) -> None:
    path = write_segmentation(tmp_path / "seg", {"a": blobs()[0]})

    def measure(data: Dataset) -> None:
        item = Dataset()
        item.PixelSpacing = [spacing, SPACING[2]]
        data.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence = Items([item])

    changed(path, measure)
    if fits:
        assert set(drawn(path)) == {1, 2, 3}
    else:
        with pytest.raises(IngestError, match="another grid"):
            drawn(path)


def test_more_frames_than_are_described_are_refused_before_one_is_decoded(tmp_path: Path) -> None:
    path = write_segmentation(tmp_path / "seg", {"a": np.ones(SHAPE, bool)})

    def claim(data: Dataset) -> None:
        data.NumberOfFrames = 100_000_000
        data.Rows = data.Columns = 1
        data.PixelData = bytes(100_000_000 // 8)

    with pytest.raises(UnreadableFileError, match="fewer descriptions of frames"):
        drawn(changed(path, claim))


def test_segments_in_colours_are_refused(tmp_path: Path) -> None:
    path = write_segmentation(tmp_path / "seg", {"a": np.ones(SHAPE, bool)}, kind="LABELMAP")

    def colour(data: Dataset) -> None:
        data.SamplesPerPixel, data.PhotometricInterpretation = 3, "RGB"
        data.PlanarConfiguration = 0
        data.PixelData *= 3

    with pytest.raises(IngestError, match="segments in colours"):
        drawn(changed(path, colour))


@pytest.mark.parametrize("kind", ["LABELMAP", "structure set"])
def test_what_an_object_holds_has_a_budget(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(structures, "HELD_BUDGET", 2000)
    if kind == "LABELMAP":
        values = np.arange(np.prod(SHAPE)).reshape(SHAPE) % 200
        masks = {str(number): values == number for number in range(1, 200)}
        write_segmentation(tmp_path / "a", masks, kind=kind)
    else:
        write_structure_set(tmp_path / "a", {"a": [corners(1, *SQUARE)] * 9})
    with pytest.raises(TooLargeError, match="structures of more than"):
        drawn(tmp_path / "a")


def test_objects_that_do_not_fit_into_memory_together_are_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "in"
    write_oblique_series(root / "s")
    for name, mask in zip("ab", blobs(), strict=True):
        write_segmentation(root / name, {name: mask})
    volume, opened = masked(scanned(root), 3), []

    def spy(path: Path, images: Any) -> Any:
        opened.append(path.name)
        return open_structures(path, images)

    monkeypatch.setattr(mask_reading, "open_structures", spy)
    for budget, times in ((1 << 30, 2), (1, 2 * SHAPE[0])):
        monkeypatch.setattr(mask_reading, "_OBJECT_BYTES", budget)
        opened.clear()
        found = MaskReader(volume, ("a", "b"), binary=False).values(0)
        np.testing.assert_array_equal(found, np.where(blobs()[1], 2, blobs()[0].astype(int)))
        assert len(opened) == times


def test_an_error_that_comes_for_every_slice_does_not_grow(tmp_path: Path) -> None:
    root = tmp_path / "in"
    write_oblique_series(root / "s")
    path = write_segmentation(root / "a", {"a": blobs()[0]})
    path.write_bytes(path.read_bytes()[:-9])
    reader = MaskReader(masked(scanned(root)), (), binary=False)
    lengths = []
    for row in range(SHAPE[0]):
        with pytest.raises(UnreadableFileError) as caught:
            reader.values(row)
        lengths.append(len(caught.traceback))
    assert len(set(lengths)) == 1


# structure sets


def test_structures_of_one_name_are_joined(tmp_path: Path) -> None:
    """Where they overlap, one is no hole in the other."""
    path = write_structure_set(
        tmp_path / "rt", {"a": [corners(1, *SQUARE)], "b": [corners(1, *SQUARE)]}
    )

    def rename(data: Dataset) -> None:
        for item in data.StructureSetROISequence:
            item.ROIName = "Doe"

    assert drawn(changed(path, rename)) == {1: {"doe": 77}}


def test_a_contour_that_is_written_twice_is_no_hole_in_itself(tmp_path: Path) -> None:
    path = write_structure_set(tmp_path / "rt", {"a": [corners(1, *SQUARE)] * 2})
    assert drawn(path) == {1: {"a": 77}}


def test_of_contours_closer_than_slices_the_nearest_count(tmp_path: Path) -> None:
    """Those of other planes are no holes in it."""
    small = box(4.5, 4.5, 6.5, 7.5)
    hole = corners(1.0, *small)
    planes = [corners(1 + off, *box(2.5, 1.5, 9.5 + 10 * off, 12.5)) for off in (-0.4, 0, 0.25)]
    assert drawn(write_structure_set(tmp_path / "rt", {"a": [*planes, hole]})) == {1: {"a": 71}}


def test_a_contour_half_way_between_slices_is_in_both(tmp_path: Path) -> None:
    halves = [corners(place, *SQUARE) for place in (0.5, 1.5)]
    shifted = corners(1.5, *box(2.5, 1.5, 9.5, 13.5))
    path = write_structure_set(tmp_path / "rt", {"a": [halves[0], shifted]})
    assert drawn(path) == {0: {"a": 77}, 1: {"a": 84}, 2: {"a": 84}}


@pytest.mark.parametrize("points", [1, 2])
def test_a_contour_of_one_or_two_corners_spoils_nothing(tmp_path: Path, points: int) -> None:
    few = corners(1, *[(15.3, 15.3), (17.3, 18.1)][:points])
    path = write_structure_set(tmp_path / "rt", {"a": [corners(1, *SQUARE), few, few[:0]]})
    assert drawn(path) == {1: {"a": 77}}


def test_a_hole_may_be_joined_with_its_structure(tmp_path: Path) -> None:
    """Keyhole: one contour that goes in along a line and comes back along it."""
    inner = [(4.5, 4.5), (6.5, 4.5), (6.5, 7.5), (4.5, 7.5), (4.5, 4.5)]
    keyhole = [*SQUARE, SQUARE[0], *inner, SQUARE[0]]
    assert drawn(write_structure_set(tmp_path / "rt", {"a": [corners(2, *keyhole)]})) == {
        2: {"a": 71}
    }


def test_contours_outside_of_the_image_are_cut(tmp_path: Path) -> None:
    large = box(-1e4, -1e4, 1e4, 4.5)
    path = write_structure_set(tmp_path / "rt", {"a": [corners(1, *large)]})
    assert drawn(path) == {1: {"a": 20 * 5}}
    beside = write_structure_set(tmp_path / "b", {"a": [corners(1, *box(-9, -9, -5, -5))]})
    assert drawn(beside) == {1: {"a": 0}}


def test_contours_across_slices_concern_only_who_wants_them(tmp_path: Path) -> None:
    across = np.array([(0.0, 3.0, 3.0), (4.0, 3.0, 9.0), (4.0, 9.0, 9.0)])
    path = write_structure_set(tmp_path / "rt", {"a": [corners(1, *SQUARE)], "Couch": [across]})
    assert drawn(path, "a") == {1: {"a": 77}}
    for wanted in ((), ("couch",)):
        with pytest.raises(IngestError, match="not in the plane"):
            drawn(path, *wanted)


def test_slices_of_other_directions_in_the_series_change_nothing(tmp_path: Path) -> None:
    """A scout lies across all slices, and nearer to a contour than they."""
    images = [image(place) for place in range(SHAPE[0])]
    middle = in_patient(np.array([[0.0, 6.0, 0.0]]))[0]
    first = images[0].plane
    assert first is not None
    plane = plane_of(middle, np.array(first.right), np.cross(first.right, first.down))
    scouts = [Slice("scout", 0, 1, 20, 24, plane, (None, 0.75, 0.5), ("mask",))]
    path = write_structure_set(tmp_path / "rt", {"a": [corners(1, *SQUARE)]})
    found = open_structures(path, [*scouts, *images])
    assert {each.frame for each in images if found.draw(each)} == {1}
    assert not found.draw(scouts[0])
    write_segmentation(tmp_path / "seg", {"a": blobs()[0]})
    assert open_structures(tmp_path / "seg", [*scouts, *images]).loose == 0


def test_slices_at_almost_one_place_are_no_step(tmp_path: Path) -> None:
    images = [image(place) for place in range(SHAPE[0])]
    plane = images[1].plane
    assert plane is not None
    near = plane._replace(position=tuple(np.add(plane.position, 0.004)))
    again = images[1]._replace(path="again", plane=near)
    write_segmentation(tmp_path / "seg", {"a": blobs()[0]})
    found = open_structures(tmp_path / "seg", [*images, again])
    assert found.loose == 0
    assert found.draw(again)["a"].sum() == found.draw(images[1])["a"].sum()


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"1\\2\\3\\4", "incomplete corners"),
        (b"1\\2\\77777777", "contour: ValueError"),
        (b"nan\\2\\3", "such as no patient has"),
        (b"1\\2\\1e308", "such as no patient has"),
        (b"1\\2\\inf ", "such as no patient has"),
        (b"0\\" * (3 << 20) + b"0", "too many corners"),
    ],
)
def test_corners_that_cannot_be_are_refused_without_a_word_of_them(
    tmp_path: Path, data: bytes, match: str
) -> None:
    path = write_structure_set(tmp_path / "rt", {"a": [corners(1, *SQUARE)]})

    def spoil(header: Dataset) -> None:
        contour = header.ROIContourSequence[0].ContourSequence[0]
        contour.add_new("ContourData", "UN", data)

    changed(path, spoil)
    path.write_bytes(path.read_bytes().replace(b"77777777", b"Doe^Jane"))
    with pytest.raises(IngestError, match=match) as caught:
        drawn(path)
    assert "Doe" not in str(caught.value)


def test_a_structure_set_without_contours_says_so(tmp_path: Path) -> None:
    with pytest.raises(SegmentationError, match="without contours"):
        drawn(write_structure_set(tmp_path / "rt", {}))


# values


def test_pictures_that_are_no_masks_end_the_survey_early(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in "abc":
        write_pair(tmp_path / "in", name, rng.integers(0, 256, (50, 60, 3), dtype=np.uint8))
    manifest = masked(scanned(tmp_path / "in", masks="masks/{stem}_m.png"))
    with pytest.raises(DataError, match=r"more than 4096 values.*pictures that are no masks"):
        survey(manifest)
    assert survey(manifest, binary=True).classes.names == ("structure",)


def nifti_values(path: Path, **image: Any) -> NDArray[np.int64]:
    """Return what a mask holds for the image of its own grid, or one that is told."""
    with open_image(path, "nifti") as reader:
        decoded = reader.decode(0)
        own = Slice(
            "a", 0, reader.facts.frames, *decoded.values.shape[:2],
            decoded.place.plane if decoded.place else None,
            (decoded.spacing_slice_mm, *(decoded.spacing_mm or (None, None))), ("mask",),
        )  # fmt: skip
    return ValueFiles().read(path, own._replace(**image))


@pytest.mark.parametrize(
    ("top", "stored", "is_read"), [(1, np.uint8, True), (5, np.int16, True), (2, np.uint8, False)]
)
def test_scaled_values_are_whole_numbers_if_they_are_close(
    tmp_path: Path, top: int, stored: Any, is_read: bool
) -> None:
    """As nibabel scales floating-point masks to the whole range of a type."""
    voxels = np.zeros((6, 5, 4))
    voxels[1], voxels[2] = 1, top
    volume = nib.Nifti1Image(voxels, np.eye(4))
    volume.set_data_dtype(stored)
    nib.save(volume, tmp_path / "a.nii")
    if is_read:
        values = nifti_values(tmp_path / "a.nii")
        assert set(np.unique(values)) == {0, 1, top}
    else:
        with pytest.raises(IngestError, match=r"other values than whole numbers.*integer"):
            nifti_values(tmp_path / "a.nii")


def test_the_pixels_of_a_mask_are_as_far_apart_as_those_of_the_image(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.ones((9, 8, 3), np.uint8), np.eye(4)), tmp_path / "a.nii")
    assert nifti_values(tmp_path / "a.nii").all()
    with pytest.raises(IngestError, match="another place"):
        nifti_values(tmp_path / "a.nii", spacing_mm=(1.0, 1.0, 2.0))
