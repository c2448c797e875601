"""Masks beside images and DICOM objects with structures: found by a scan, read in their place."""

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.sequence import Sequence as Items

from medssl.errors import DataError, IngestError
from medssl.identity import SiteKey
from medssl.manifest import Manifest, read_manifest, rejected_path
from medssl.masks.polygons import fill
from medssl.masks.read import MaskReader, Survey
from medssl.scanning.mask_paths import beside
from medssl.scanning.scan import scan
from medssl.scanning.settings import ScanConfig
from medssl.sources.open import open_image
from medssl.volumes.samples import as_samples
from sslcore.console import Progress
from sslcore.errors import ConfigError
from tests.medssl.make import Values, metaimage, nifti, nrrd_file, ramp, write_png
from tests.medssl.make_masks import (
    SHAPE,
    write_oblique_series,
    write_segmentation,
    write_structure_set,
)

KEY = SiteKey(b"k")
Floats = NDArray[np.float64]


def scanned(folder: Path, **options: Any) -> Manifest:
    out = folder.parent / "manifest.parquet"
    scan(folder, out, ScanConfig(workers=1, **options), key=KEY)
    return read_manifest(out)


def masked(manifest: Manifest, dims: Any = 2) -> Manifest:
    return as_samples(manifest, dims).where(pl.col("masks").is_not_null())


def survey(manifest: Manifest, *structures: str, binary: bool = False) -> Survey:
    with Progress("masks") as progress:
        return MaskReader(manifest, structures, binary=binary).survey(progress)


def blobs() -> NDArray[np.bool_]:
    """Return two structures that lie in some of the slices, and touch the border."""
    mask = np.zeros((2, *SHAPE), bool)
    mask[0, 1:4, 3:9, 0:7] = True
    mask[1, 2:5, 11:20, 10:24] = True
    return mask


def drawn() -> NDArray[np.int64]:
    first, second = blobs()
    return np.where(second, 2, first.astype(np.int64))


# beside images


def write_pair(folder: Path, name: str, mask: NDArray[Any]) -> None:
    write_png(folder / "images" / f"{name}.png", ramp(*mask.shape[:2], top=250, dtype="uint8"))
    write_png(folder / "masks" / f"{name}_m.png", mask)


def test_a_mask_is_no_image_and_stands_beside_its_own(tmp_path: Path) -> None:
    root = tmp_path / "in"
    write_pair(root, "a", np.eye(9, 12, dtype=np.uint8) * 128)
    write_png(root / "images" / "b.png", ramp(9, 12, top=200, dtype="uint8"))
    manifest = scanned(root, masks="masks/{stem}_m.png")
    assert manifest.rows.select("path", "masks").rows() == [
        ("images/a.png", ["masks/a_m.png"]),
        ("images/b.png", None),
    ]
    reader = MaskReader(masked(manifest), (), binary=False)
    np.testing.assert_array_equal(reader.values(0), np.eye(9, 12) * 128)


@pytest.mark.parametrize(
    ("template", "image", "mask"),
    [
        ("{folder}/{stem}.png", "x/y/a.bmp", "x/y/a.png"),
        ("{folder}/{stem}.png", "a.bmp", "a.png"),
        ("labels/{name}", "images/a.nii.gz", "labels/a.nii.gz"),
        ("{folder}/../seg/{stem}.nii", "p1/img/a.nii.gz", "p1/seg/a.nii"),
    ],
)
def test_a_template_names_masks_by_folder_name_and_stem(
    template: str, image: str, mask: str
) -> None:
    assert beside(template, [image, mask, "other"]) == {image: mask}


@pytest.mark.parametrize(
    "template",
    [
        "{folder}/mask.png",
        "{stem}_{patient}.png",
        "{stem",
        "{}",
        "{stem:z}",
        "{stem!r}",
        "{name:{x}}",
    ],
)
def test_a_template_that_is_none_is_told(tmp_path: Path, template: str) -> None:
    write_pair(tmp_path / "in", "a", np.eye(9, dtype=np.uint8))
    with pytest.raises(ConfigError, match="--masks"):
        scanned(tmp_path / "in", masks=template)


def test_a_template_that_fits_nothing_or_leads_out_is_told_without_names(tmp_path: Path) -> None:
    write_pair(tmp_path / "in", "Doe", np.eye(9, dtype=np.uint8))
    write_png(tmp_path / "out" / "Doe.png", np.eye(9, dtype=np.uint8))
    for template in ("nowhere/{name}", "../out/{name}", str(tmp_path / "out" / "{name}")):
        with pytest.raises(DataError, match="none of 2 files has a mask there") as caught:
            scanned(tmp_path / "in", masks=template)
        assert "Doe" not in str(caught.value)


def test_a_second_scan_takes_masks_that_came_later(tmp_path: Path) -> None:
    root = tmp_path / "in"
    write_pair(root, "a", np.eye(9, dtype=np.uint8))
    write_png(root / "images" / "b.png", ramp(9, 9, top=200, dtype="uint8"))
    assert scanned(root, masks="masks/{stem}_m.png").rows["masks"].null_count() == 1
    write_png(root / "masks" / "b_m.png", np.eye(9, dtype=np.uint8))
    rows = scanned(root, masks="masks/{stem}_m.png").rows
    assert rows["masks"].null_count() == 0
    assert len(scanned(root).rows) == 4  # without the template they are images again


def test_private_paths_hide_those_of_masks_too(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("MEDSSL_KEY_FILE", str(tmp_path / "home" / "key"))
    for number in range(30):
        write_pair(tmp_path / "in", f"DoeJane{number:02d}", np.eye(9, dtype=np.uint8))
    out = tmp_path / "manifest.parquet"
    options = ScanConfig(workers=1, private=True, masks="masks/{stem}_m.png")
    scan(tmp_path / "in", out, options, key=KEY)
    stored = pl.read_parquet(out)
    assert "DoeJane" not in str(stored.to_dicts())
    rows = read_manifest(out).rows
    assert rows["path"].to_list() == [f"images/DoeJane{number:02d}.png" for number in range(30)]
    expected = [[f"masks/DoeJane{number:02d}_m.png"] for number in range(30)]
    assert rows["masks"].to_list() == expected


def test_images_that_would_share_a_mask_are_told(tmp_path: Path) -> None:
    for folder in ("p1", "p2"):
        write_png(tmp_path / "in" / folder / "001.png", ramp(9, 9, top=200, dtype="uint8"))
    write_png(tmp_path / "in" / "labels" / "001.png", np.eye(9, dtype=np.uint8))
    with pytest.raises(DataError, match="1 images would share the mask of another"):
        scanned(tmp_path / "in", masks="labels/{name}")


def test_values_name_the_classes_or_are_one(tmp_path: Path) -> None:
    mask = np.zeros((9, 12), np.uint8)
    mask[2:4], mask[6:8] = 128, 255
    write_pair(tmp_path / "in", "a", mask)
    manifest = masked(scanned(tmp_path / "in", masks="masks/{stem}_m.png"))
    values = MaskReader(manifest, (), binary=False).values(0)
    every = survey(manifest).classes
    assert every.names == ("128", "255")
    np.testing.assert_array_equal(every.codes(values), (mask == 128) + 2 * (mask == 255))
    chosen = survey(manifest, "255").classes
    assert chosen.names == ("255",)
    np.testing.assert_array_equal(chosen.codes(values), mask == 255)
    np.testing.assert_array_equal(survey(manifest, binary=True).classes.codes(values), mask > 0)
    with pytest.raises(DataError, match=r"--structure 7: no mask holds it.*they hold 128, 255"):
        survey(manifest, "7")


def test_numbers_of_objects_are_no_classes(tmp_path: Path) -> None:
    write_pair(tmp_path / "in", "a", np.arange(100, dtype=np.uint8).reshape(10, 10))
    manifest = masked(scanned(tmp_path / "in", masks="masks/{stem}_m.png"))
    with pytest.raises(DataError, match=r"99 values.*--binary"):
        survey(manifest)
    assert survey(manifest, binary=True).classes.names == ("structure",)


def test_colours_are_classes_also_those_of_a_palette(tmp_path: Path) -> None:
    codes = np.zeros((9, 12), np.uint8)
    codes[2:4], codes[6:8] = 1, 2
    palette = np.array([[0, 0, 0], [255, 0, 0], [0, 128, 255]], np.uint8)
    write_pair(tmp_path / "in", "a", palette[codes])
    picture = Image.fromarray(codes, "P")
    picture.putpalette(palette.tobytes())
    write_pair(tmp_path / "in", "b", codes)
    picture.save(tmp_path / "in" / "masks" / "b_m.png")
    manifest = masked(scanned(tmp_path / "in", masks="masks/{stem}_m.png"))
    found = survey(manifest)
    assert found.classes.names == ("#0080ff", "#ff0000")
    reader = MaskReader(manifest, (), binary=False)
    for row in range(2):
        np.testing.assert_array_equal(
            found.classes.codes(reader.values(row)), np.choose(codes, [0, 2, 1])
        )


@pytest.mark.parametrize(
    ("name", "detail"),
    [
        ("small", "other rows or columns"),
        ("jpeg", "JPEG, whose values are not exact"),
        ("text", "content of no known image format"),
    ],
)
def test_a_mask_that_does_not_fit_is_counted_with_its_reason(
    tmp_path: Path, name: str, detail: str
) -> None:
    root = tmp_path / "in"
    for each in ("a", "z"):
        write_pair(root, each, np.eye(9, 12, dtype=np.uint8))
    bad = root / "masks" / "a_m.png"
    match name:
        case "small":
            write_png(bad, np.eye(9, 11, dtype=np.uint8))
        case "jpeg":
            Image.fromarray(np.eye(9, 12, dtype=np.uint8)).save(bad, "JPEG")
        case "text":
            bad.write_text("Doe, Jane, 4711" * 9)
    found = survey(masked(scanned(root, masks="masks/{stem}_m.png")))
    assert found.present == [None, frozenset({1})]
    ((said, count),) = found.failures.items()
    assert detail in said
    assert count == 1


@pytest.mark.parametrize("dims", [2, 3])
def test_masks_of_volumes_are_turned_like_their_volume(tmp_path: Path, dims: Any) -> None:
    """Axes of the file are those of an odd orientation; the mask is told by its own brightness."""
    rng = np.random.default_rng(0)
    voxels = rng.integers(0, 5, (6, 9, 7)).astype(np.int16)
    affine = np.array([[0, 0, -1.0, 5], [3.0, 0, 0, 6], [0, 1.5, 0, 7], [0, 0, 0, 1]])
    (tmp_path / "in" / "img").mkdir(parents=True)
    (tmp_path / "in" / "seg").mkdir()
    nib.save(nib.Nifti1Image(voxels, affine), tmp_path / "in" / "img" / "a.nii.gz")
    nib.save(nib.Nifti1Image(voxels, affine), tmp_path / "in" / "seg" / "a.nii.gz")
    manifest = masked(scanned(tmp_path / "in", masks="seg/{name}"), dims)
    reader = MaskReader(manifest, (), binary=False)
    with open_image(tmp_path / "in" / "img" / "a.nii.gz", "nifti") as images:
        shown = np.stack([images.decode(frame).values for frame in range(6)])
    values = [reader.values(row) for row in range(len(manifest))]
    np.testing.assert_array_equal(values[0] if dims == 3 else np.stack(values), shown)


def in_nifti(voxels: Values, place: str) -> bytes:
    affine = np.diag([-1.0, -1, 2, 1])
    affine[:3, 3] = np.multiply((-1, -1, 1), list(map(float, place.split())))
    return nifti(voxels, affine)


def in_nrrd(voxels: Values, place: str) -> bytes:
    about = {"space_directions": "(1,0,0) (0,1,0) (0,0,2)"}
    about["space_origin"] = f"({place.replace(' ', ',')})"
    return nrrd_file(voxels, space="left-posterior-superior", **about)


def in_metaimage(voxels: Values, place: str) -> bytes:
    return metaimage(voxels, Offset=place, ElementSpacing="1 1 2")


FORMATS: Any = (in_nifti, in_nrrd, in_metaimage)


@pytest.mark.parametrize("image", FORMATS)
@pytest.mark.parametrize("mask", FORMATS)
def test_a_mask_of_a_volume_is_read_in_its_place_and_refused_in_another(
    tmp_path: Path, image: Any, mask: Any
) -> None:
    """Places, in LPS, are those of one volume in all formats."""
    voxels = np.ones((6, 9, 7), np.uint8)
    for name in ("img", "seg"):
        (tmp_path / "in" / name).mkdir(parents=True)
    (tmp_path / "in" / "img" / "a").write_bytes(image(voxels, "-120 -95 300"))
    (tmp_path / "in" / "seg" / "a").write_bytes(mask(voxels, "-120 -95 300"))
    reader = MaskReader(masked(scanned(tmp_path / "in", masks="seg/{name}")), (), binary=False)
    assert all(reader.values(row).all() for row in range(7))
    (tmp_path / "in" / "seg" / "a").write_bytes(mask(voxels, "-120 -95 -500"))
    with pytest.raises(DataError, match="mark nothing; 7 cannot be used: another place"):
        survey(masked(scanned(tmp_path / "in", masks="seg/{name}")))
    reader = MaskReader(masked(scanned(tmp_path / "in", masks="seg/{name}")), (), binary=False)
    with pytest.raises(IngestError, match="another place in the patient"):
        reader.values(0)


# DICOM objects


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_a_segmentation_is_found_by_its_series_and_drawn_in_place(
    tmp_path: Path, kind: str
) -> None:
    root = tmp_path / "in"
    write_oblique_series(root / "s")
    first, second = blobs()
    write_segmentation(root / "seg", {"Liver": first & ~second, "Doe": second}, kind=kind)
    manifest = scanned(root)
    assert manifest.rows["masks"].to_list() == [["seg"]] * SHAPE[0]
    assert pl.read_parquet(rejected_path(tmp_path / "manifest.parquet"))["series"].to_list() == [
        [KEY.series("1.2.3.4")]
    ]
    volume = masked(manifest, 3)
    whole = MaskReader(volume, (), binary=False).values(0)
    np.testing.assert_array_equal(whole, drawn() > 0)
    named = MaskReader(volume, ("liver", "DOE"), binary=False).values(0)
    np.testing.assert_array_equal(named, drawn())
    assert survey(volume, "liver").classes.names == ("liver",)
    slices = masked(manifest)
    places = slices.rows["slice"].to_list()
    reader = MaskReader(slices, ("liver", "doe"), binary=False)
    for row, place in enumerate(places):
        np.testing.assert_array_equal(reader.values(row), drawn()[place])


def test_objects_of_series_that_are_not_here_are_counted(tmp_path: Path) -> None:
    root = tmp_path / "in"
    write_oblique_series(root / "s")
    write_segmentation(root / "own", {"a": blobs()[0]})
    write_segmentation(root / "none", {"a": blobs()[0]}, ReferencedSeriesSequence=Items([]))
    summary = scan(root, tmp_path / "m.parquet", ScanConfig(workers=1), key=KEY)
    assert (summary.masks, summary.loose_masks) == (SHAPE[0], 1)
    assert "of 5 images; 1 DICOM objects refer to no series here of one patient" in summary.table()


def test_a_series_that_two_patients_share_gets_no_outlines(tmp_path: Path) -> None:
    root = tmp_path / "in"
    write_oblique_series(root / "one")
    write_oblique_series(root / "two", patient="P2")
    write_oblique_series(root / "own", patient="P2", series="1.2.3.5")
    write_segmentation(root / "seg", {"a": blobs()[0]})
    summary = scan(root, tmp_path / "m.parquet", ScanConfig(workers=1), key=KEY)
    assert (summary.masks, summary.loose_masks) == (0, 1)


def test_names_of_structures_that_nobody_asked_for_go_nowhere(tmp_path: Path) -> None:
    root = tmp_path / "in"
    write_oblique_series(root / "s")
    write_segmentation(root / "seg", {"DOEJANE": blobs()[0]})
    manifest = masked(scanned(root))
    assert survey(manifest).classes.names == ("structure",)
    with pytest.raises(DataError, match="--structure liver: no mask holds it") as caught:
        survey(manifest, "liver")
    assert "doejane" not in str(caught.value).lower()
    for table in tmp_path.glob("*.parquet"):
        assert "doejane" not in json.dumps(pl.read_parquet(table).to_dicts(), default=str).lower()


def test_several_segmentations_of_a_series_are_joined(tmp_path: Path) -> None:
    root = tmp_path / "in"
    write_oblique_series(root / "s")
    first, second = blobs()
    write_segmentation(root / "a.dcm", {"one": first})
    write_segmentation(root / "b.dcm", {"two": second})
    volume = masked(scanned(root), 3)
    np.testing.assert_array_equal(
        MaskReader(volume, ("one", "two"), binary=False).values(0), drawn()
    )


def test_a_segmentation_in_another_grid_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "in"
    write_oblique_series(root / "s")
    write_segmentation(root / "seg", {"a": np.ones(SHAPE, bool)}, Rows=10)
    with pytest.raises(IngestError, match="another grid or place"):
        MaskReader(masked(scanned(root), 3), (), binary=False).values(0)


def test_a_segmentation_without_segments_or_of_an_unknown_one_is_refused(tmp_path: Path) -> None:
    for name, changes in (("none", {"SegmentSequence": Items([])}), ("other", {})):
        root = tmp_path / name / "in"
        write_oblique_series(root / "s")
        path = write_segmentation(root / "seg", {"a": blobs()[0]}, **changes)
        if name == "other":
            content = path.read_bytes()
            tag = b"\x62\x00\x0b\x00US\x02\x00"  # ReferencedSegmentNumber
            assert tag + b"\x01" in content
            path.write_bytes(content.replace(tag + b"\x01", tag + b"\x07"))
        with pytest.raises(IngestError, match=r"without segments|no known segment"):
            MaskReader(masked(scanned(root), 3), (), binary=False).values(0)


def test_the_background_of_a_label_map_is_no_structure(tmp_path: Path) -> None:
    root = tmp_path / "in"
    write_oblique_series(root / "s")
    background = Items([Dataset()])
    path = write_segmentation(root / "seg", {"liver": blobs()[0]}, kind="LABELMAP")
    data = dcmread(path)
    background[0].SegmentNumber, background[0].SegmentLabel = 0, "background"
    data.SegmentSequence = Items([background[0], *data.SegmentSequence])
    data.save_as(path)
    whole = MaskReader(masked(scanned(root), 3), (), binary=False).values(0)
    np.testing.assert_array_equal(whole, blobs()[0])


def test_a_slice_that_is_gone_costs_its_own_mask_only(tmp_path: Path) -> None:
    root = tmp_path / "in"
    write_oblique_series(root / "s")
    write_segmentation(root / "seg", {"liver": blobs()[0]})
    manifest = scanned(root)
    kept = manifest.where(pl.col("slice") != 1)
    reader = MaskReader(masked(kept), (), binary=False)
    for row, place in enumerate(kept.rows["slice"].to_list()):
        np.testing.assert_array_equal(reader.values(row), blobs()[0][place])
    assert survey(masked(kept)).loose == 1


def test_a_damaged_segmentation_is_a_reason_not_a_missing_structure(tmp_path: Path) -> None:
    root = tmp_path / "in"
    write_oblique_series(root / "s")
    write_segmentation(root / "a", {"one": blobs()[0]})
    cut = write_segmentation(root / "b", {"two": blobs()[1]})
    cut.write_bytes(cut.read_bytes()[:-9])
    manifest = scanned(root)
    assert manifest.rows["masks"].to_list() == [["a", "b"]] * SHAPE[0]
    with pytest.raises(DataError, match="mark nothing; 5 cannot be used: the attributes ask for"):
        survey(masked(manifest))


def corners(place: float, *points: tuple[float, float]) -> NDArray[np.float64]:
    return np.array([(place, row, column) for row, column in points])


def test_contours_are_filled_in_the_slices_they_lie_in(tmp_path: Path) -> None:
    root = tmp_path / "in"
    write_oblique_series(root / "s")
    outer = [(2.5, 1.5), (2.5, 12.5), (9.5, 12.5), (9.5, 1.5)]
    hole = [(4.5, 4.5), (4.5, 7.5), (6.5, 7.5), (6.5, 4.5)]
    write_structure_set(
        root / "rt",
        {
            "Heart": [corners(1, *outer), corners(1, *hole), corners(3, *outer)],
            "Other": [corners(2, *hole)],
        },
    )
    manifest = scanned(root)
    assert manifest.rows["masks"].to_list() == [["rt"]] * SHAPE[0]
    expected = np.zeros(SHAPE, np.int64)
    expected[[1, 3], 3:10, 2:13] = 1
    expected[1, 5:7, 5:8] = 0
    found = MaskReader(masked(manifest, 3), ("heart",), binary=False).values(0)
    np.testing.assert_array_equal(found, expected)
    expected[2, 5:7, 5:8] = 1
    np.testing.assert_array_equal(
        MaskReader(masked(manifest, 3), (), binary=False).values(0), expected
    )


@pytest.mark.parametrize("step", [0.4, 2.5, 6.0])
def test_a_contour_is_in_its_nearest_slice_whatever_the_step(tmp_path: Path, step: float) -> None:
    """The step is that of the slices: the files do not say it."""
    root = tmp_path / "in"
    write_oblique_series(root / "s", step=step)
    square = [(2.5, 1.5), (2.5, 12.5), (9.5, 12.5), (9.5, 1.5)]
    drawn = [corners(place + shift, *square) for place, shift in ((0, 0), (1, 0.2), (3, -0.3))]
    write_structure_set(root / "rt", {"a": [*drawn, corners(7, *square)]}, step=step)
    manifest = scanned(root)
    found = MaskReader(masked(manifest, 3), (), binary=False).values(0)
    assert found.sum(axis=(1, 2)).tolist() == [77, 77, 0, 77, 0]
    assert survey(masked(manifest)).loose == 1


def test_contours_across_the_slices_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "in"
    write_oblique_series(root / "s")
    across = np.array([(0.0, 3.0, 3.0), (4.0, 3.0, 9.0), (4.0, 9.0, 9.0)])
    whole = corners(3, (2.5, 1.5), (2.5, 12.5), (9.5, 12.5), (9.5, 1.5))
    write_structure_set(root / "rt", {"a": [across * (0.25, 1, 1), whole]})
    manifest = scanned(root)
    with pytest.raises(IngestError, match="not in the plane"):
        MaskReader(masked(manifest, 3), (), binary=False).values(0)
    found = survey(masked(manifest))  # slices that it does not cross have theirs
    assert {place for place, held in zip(manifest.rows["slice"], found.present, strict=True)
            if held is None} == {0, 1}  # fmt: skip


@given(st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_a_polygon_holds_the_pixels_whose_centres_are_inside(count: int, seed: int) -> None:
    """Against the crossing rule, pixel by pixel; corners may lie outside of the image."""
    rng = np.random.default_rng(seed)
    polygon = rng.uniform(-4, 14, (count, 2))
    filled = fill([polygon], (9, 11))
    for row in range(9):
        for column in range(11):
            crossings, off = 0, np.inf
            for first, second in zip(polygon, np.roll(polygon, -1, 0), strict=True):
                (top, left), (bottom, right) = first, second
                off = min(off, distance(np.array([row, column]), first, second))
                if (top > row) != (bottom > row):
                    at = left + (row - top) / (bottom - top) * (right - left)
                    crossings += at > column
            if off > 0.02:  # else it may count as on the line
                assert filled[row, column] == crossings % 2


def distance(point: Floats, first: Floats, second: Floats) -> float:
    """Return how far a point is off an edge."""
    along = second - first
    share = np.clip((point - first) @ along / max(along @ along, 1e-9), 0, 1)
    return float(np.linalg.norm(first + share * along - point))


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.007]))
def test_contours_along_pixels_and_through_the_outermost_give_the_mask(
    seed: int, noise: float
) -> None:
    """A block with a hole, and a line and a pixel of their own: a contour is as thin as they."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((30, 40), np.bool_)
    mask[5:25, 8:38] = True
    hole = rng.integers((7, 10, 14, 17), (12, 15, 22, 30))
    mask[hole[0] : hole[2], hole[1] : hole[3]] = False
    mask[1, 3:9] = mask[28, 2] = True
    through = [box(5, 8, 24, 37), box(hole[0] - 1, hole[1] - 1, hole[2], hole[3])]
    through += [np.array([(1.0, 3.0), (1.0, 8.0)]), np.array([(28.0, 2.0)])]
    drawn = [each + rng.uniform(-noise, noise, each.shape) for each in through]
    np.testing.assert_array_equal(fill(drawn, mask.shape), mask)
    around = [box(4.5, 7.5, 24.5, 37.5), box(*(place - 0.5 for place in hole))]
    around += [box(0.5, 2.5, 1.5, 8.5), box(27.5, 1.5, 28.5, 2.5)]
    np.testing.assert_array_equal(fill(around, mask.shape), mask)


def box(top: float, left: float, bottom: float, right: float) -> Floats:
    return np.array([(top, left), (top, right), (bottom, right), (bottom, left)], np.float64)


def test_a_contour_of_many_corners_takes_little_memory() -> None:
    turn = np.linspace(0, 2 * np.pi, 200_001)[:-1]
    rough = 200 + 5 * np.sin(1000 * turn)
    circle = np.stack([256 + rough * np.cos(turn), 256 + rough * np.sin(turn)], axis=1)
    area = np.pi * (200**2 + 5**2 / 2)
    assert fill([circle], (512, 512)).sum() == pytest.approx(area, rel=2e-3)  # rim 20,000 px long
