"""From DICOM files, in any order and mixture, to volumes with the right voxels and affine."""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import UID

from medssl.errors import TooLargeError, UnreadableFileError
from medssl.fewlabels.groups import patient_groups
from medssl.manifest import Manifest, read_manifest
from medssl.scanning.scan import scan
from medssl.scanning.settings import ScanConfig
from medssl.sources.open import open_image
from medssl.sources.place import plane_of
from medssl.volumes.geometry import describe_volumes, volumes_of
from medssl.volumes.read import Volume, read_volume
from medssl.volumes.samples import as_samples
from medssl.volumes.turning import turned
from tests.medssl.make import dataset, write_dicom

Floats = NDArray[np.float64]
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
TURNED = (0.8, 0.6, 0.0, -0.48, 0.64, 0.6)  # oblique; both directions are 1 long
SPACING = (2.5, 0.75, 0.5)  # slices, rows, columns


def block(count: int = 6) -> NDArray[np.int16]:
    """Return voxels that all differ, `[slices, rows, columns]`."""
    return np.arange(count * 4 * 5, dtype=np.int16).reshape(count, 4, 5) - 30


def normal(sides: Sequence[float] = AXIAL) -> Floats:
    return np.cross(sides[:3], sides[3:])


def write_slice(path: Path, voxels: NDArray[Any], place: float, **changes: Any) -> Path:
    """Write one slice at `place` mm along the normal."""
    sides = changes.get("ImageOrientationPatient", AXIAL)
    about = {
        "ImageOrientationPatient": list(sides),
        "ImagePositionPatient": [float(f"{part:.6f}") for part in 10 + place * normal(sides)],
        "PixelSpacing": list(SPACING[1:]),
        "SliceThickness": 9.0,  # not the distance
    }
    return write_dicom(path, voxels, **{**about, **changes})


def write_series(folder: Path, voxels: NDArray[Any], name: str = "s", **changes: Any) -> None:
    """Write slices whose file names and numbers say nothing about their order in space."""
    rng = np.random.default_rng(0)
    for name_of, number, place in zip(
        rng.permutation(len(voxels)), rng.permutation(len(voxels)), range(len(voxels)), strict=True
    ):
        write_slice(
            folder / f"{name}{name_of}.dcm",
            voxels[place],
            SPACING[0] * place,
            **{"InstanceNumber": int(number), **changes},
        )


def scanned(folder: Path) -> Manifest:
    out = folder.parent / "manifest.parquet"
    scan(folder, out, ScanConfig(workers=1))
    return read_manifest(out)


def volumes(folder: Path) -> list[Volume]:
    manifest = scanned(folder)
    return [read_volume(manifest, slices) for slices in volumes_of(manifest.rows)]


@pytest.mark.parametrize("sides", [AXIAL, TURNED])
def test_slices_are_put_in_order_along_their_normal(tmp_path: Path, sides: Sequence[float]) -> None:
    write_series(tmp_path / "d", block(), ImageOrientationPatient=list(sides))
    (volume,) = volumes(tmp_path / "d")
    np.testing.assert_array_equal(volume.values, block())
    affine = volume.geometry.affine
    assert affine is not None
    np.testing.assert_allclose(affine[:3, 0], SPACING[0] * normal(sides), atol=1e-5)
    np.testing.assert_allclose(affine[:3, 1], SPACING[1] * np.asarray(sides[3:]), atol=1e-5)
    np.testing.assert_allclose(affine[:3, 2], SPACING[2] * np.asarray(sides[:3]), atol=1e-5)
    np.testing.assert_allclose(affine[:3, 3], 10)
    assert volume.geometry.spacing_mm == pytest.approx(SPACING, abs=1e-5)
    assert volume.geometry.problems == ()


def test_volumes_follow_the_files_from_scan_to_scan(tmp_path: Path) -> None:
    write_series(tmp_path / "d", block())
    places = ("path", "volume", "slice", "slices")
    first, again = (scanned(tmp_path / "d").rows.select(places) for _ in range(2))
    assert again.equals(first)
    assert first["slices"].to_list() == [6] * 6
    last = first.filter(pl.col("slice") == 5)["path"].item()
    content = (tmp_path / "d" / last).read_bytes()
    (tmp_path / "d" / last).unlink()
    fewer = scanned(tmp_path / "d").rows
    assert fewer["slices"].to_list() == [5] * 5
    assert sorted(fewer["slice"]) == list(range(5))
    (tmp_path / "d" / last).write_bytes(content)
    assert scanned(tmp_path / "d").rows.select(places).equals(first)


def test_a_series_in_dicom_and_its_nifti_are_the_same_volume(tmp_path: Path) -> None:
    """The same voxels as dcm2niix lays them out: columns, rows, slices, in RAS."""
    write_series(tmp_path / "d", block(), ImageOrientationPatient=list(TURNED))
    (series,) = volumes(tmp_path / "d")
    assert series.geometry.affine is not None
    to_ras = np.diag([-1, -1, 1, 1]) @ series.geometry.affine[:, (2, 1, 0, 3)]
    (tmp_path / "n").mkdir()
    nib.save(nib.Nifti1Image(block().T, to_ras), tmp_path / "n" / "same.nii")
    (nifti,) = volumes(tmp_path / "n")
    both = [
        nib.as_closest_canonical(nib.Nifti1Image(each.values, each.geometry.affine))
        for each in (series, nifti)
    ]
    np.testing.assert_array_equal(both[0].dataobj, both[1].dataobj)
    np.testing.assert_allclose(both[0].affine, both[1].affine, atol=1e-5)


def test_values_are_in_the_unit_of_the_modality_slice_by_slice(tmp_path: Path) -> None:
    """PET files have a slope of their own for each slice."""
    for number, plane in enumerate(block(3)):
        slope = {"RescaleSlope": number + 1.5, "RescaleIntercept": -4.0, "Modality": "PT"}
        write_slice(tmp_path / "d" / f"{number}.dcm", plane, 2.0 * number, **slope)
    (volume,) = volumes(tmp_path / "d")
    slopes = np.array([1.5, 2.5, 3.5])[:, None, None]
    np.testing.assert_allclose(volume.values, block(3) * slopes - 4)


@pytest.mark.parametrize(
    "mixed",
    [
        {"EchoNumbers": 2, "EchoTime": 9.5},
        {"EchoTime": 9.5},
        {"ImageType": ["ORIGINAL", "PRIMARY", "P"]},
        {"SeriesInstanceUID": "1.2.3.5"},
        {"ImageOrientationPatient": list(TURNED)},
    ],
)
def test_what_a_series_mixes_is_taken_apart(tmp_path: Path, mixed: dict[str, Any]) -> None:
    write_series(tmp_path / "d", block(), "a", EchoTime=4.0)
    write_series(tmp_path / "d", block() + 500, "b", **{"EchoTime": 4.0, **mixed})
    found = sorted(volumes(tmp_path / "d"), key=lambda volume: float(volume.values[0, 0, 0]))
    assert len(found) == 2
    for volume, more in zip(found, (0, 500), strict=True):
        np.testing.assert_array_equal(volume.values, block() + more)


def write_in_turns(folder: Path, first: dict[str, Any], second: dict[str, Any]) -> None:
    """Write six slices of one series, every other one with the second attributes."""
    for place, plane in enumerate(block()):
        write_slice(folder / f"{place}.dcm", plane, 2.0 * place, **(second if place % 2 else first))


@pytest.mark.parametrize(
    ("keyword", "values"),
    [
        ("PatientID", ("A", "B")),
        ("PatientID", ("A", "")),
        ("StudyInstanceUID", ("1.2.3", "1.2.4")),
        ("FrameOfReferenceUID", ("1.1", "1.2")),
        ("PixelSpacing", ([1, 1], [0.5, 0.5])),
        ("PixelSpacing", ([1, 1], [1, 0.5])),
        ("PixelSpacing", ([1, 1], [])),
    ],
)
def test_slices_that_complete_each_other_do_not_mix_what_a_volume_has_one_of(
    tmp_path: Path, keyword: str, values: tuple[Any, Any]
) -> None:
    """All share a SeriesInstanceUID, and would be one even volume."""
    write_in_turns(tmp_path / "d", *({keyword: value} for value in values))
    found = sorted(volumes(tmp_path / "d"), key=lambda volume: float(volume.values[0, 0, 0]))
    assert len(found) == 2
    for start, volume in enumerate(found):
        np.testing.assert_array_equal(volume.values, block()[start::2])


def test_spacings_that_are_printed_to_other_digits_are_one(tmp_path: Path) -> None:
    write_in_turns(
        tmp_path / "d", {"PixelSpacing": [0.4995, 0.75]}, {"PixelSpacing": [0.5, 0.7505]}
    )
    (volume,) = volumes(tmp_path / "d")
    assert len(volume.values) == 6


def test_patients_who_share_a_series_are_on_one_side_of_a_split(tmp_path: Path) -> None:
    write_in_turns(tmp_path / "d", {"PatientID": "A"}, {"PatientID": "B"})
    samples = as_samples(scanned(tmp_path / "d"), 3).rows
    assert samples["patient"].null_count() == 0
    assert samples["patient"].n_unique() == len(samples) == 2
    assert len(set(patient_groups(samples))) == 2


def test_diffusion_weights_stay_apart_where_an_image_is_missing(tmp_path: Path) -> None:
    """Without the b-values the images at each place would be dealt out by their numbers."""
    for weight in (0.0, 1000.0):
        for place in range(1 if not weight else 0, 4):
            number = place + (4 if weight else 0)
            about = {"DiffusionBValue": weight, "InstanceNumber": number}
            plane = block(4)[place] + int(weight)
            write_slice(tmp_path / "d" / f"{number}.dcm", plane, 3.0 * place, **about)
    few, many = sorted(volumes(tmp_path / "d"), key=lambda volume: len(volume.values))
    np.testing.assert_array_equal(few.values, block(4)[1:])
    np.testing.assert_array_equal(many.values, block(4) + 1000)


@pytest.mark.parametrize("told", ["TemporalPositionIdentifier", "AcquisitionNumber", None])
def test_moments_at_one_place_become_volumes_of_their_own(tmp_path: Path, told: str | None) -> None:
    """Even where only the numbers of the images, which run on, tell which comes first."""
    for time in range(3):
        for place in range(4):
            about = {"InstanceNumber": 4 * time + place, **({told: time + 1} if told else {})}
            plane = block(4)[place] + 1000 * time
            write_slice(tmp_path / "d" / f"{place}-{time}.dcm", plane, 3.0 * place, **about)
    found = sorted(volumes(tmp_path / "d"), key=lambda volume: float(volume.values[0, 0, 0]))
    assert len(found) == 3
    for time, volume in enumerate(found):
        np.testing.assert_array_equal(volume.values, block(4) + 1000 * time)


def test_slices_numbered_as_acquisitions_of_their_own_stay_together(tmp_path: Path) -> None:
    for place, plane in enumerate(block(4)):
        path = tmp_path / "d" / f"{place}.dcm"
        write_slice(path, plane, 3.0 * place, AcquisitionNumber=place)
    (volume,) = volumes(tmp_path / "d")
    assert len(volume.values) == 4


PARTS = {
    # places of each part, and of how many slices the volumes should be
    "disjoint, with a gap between": ((range(0, 12, 2), range(40, 50, 2)), [5, 6]),
    "one after the other": ((range(0, 8, 2), range(8, 14, 2)), [7]),
    "interleaved evenly": ((range(0, 12, 4), range(2, 14, 4)), [6]),
    "interleaved unevenly": ((range(0, 20, 4), range(1, 21, 4)), [5, 5]),
    "overlapping, of two lengths": (([0, 2, 4, 6], [4, 6, 8]), [3, 4]),
    "each even, steps unlike": ((range(0, 10, 2), range(13, 38, 5)), [5, 5]),
}

PIECES = {
    # places of each acquisition of one volume, and what is to be told of it
    "a turn is missing": (([0, 2, 4, 6], [8, 10, 12, 14], [24, 26, 28, 30]), "gap"),
    "a long turn is missing": ((range(0, 12, 2), range(12, 24, 2), range(36, 48, 2)), "gap"),
    "a slice is missing between": (([0, 2], [4, 6], [8], [12, 14]), "gap"),
    "pairs, one missing": (([0, 2], [4, 6], [12, 14], [16, 18]), "gap"),
    "wider steps in the end": (([0, 2], [4, 6], [8, 10], [14, 18], [22, 26]), "gap"),
    "taken in turns, unevenly": ((range(0, 40, 8), [4.4, 12.4, 20.4, 28.4, 36.4]), "uneven"),
}


@pytest.mark.parametrize("name", PIECES)
def test_acquisitions_that_are_pieces_of_one_volume_do_not_hide_its_gaps(
    tmp_path: Path, name: str
) -> None:
    parts, problem = PIECES[name]
    write_parts(tmp_path / "d", parts, "AcquisitionNumber")
    table = describe_volumes(scanned(tmp_path / "d").rows)
    assert table["slices"].to_list() == [sum(map(len, parts))]
    assert problem in table["problems"][0]


@pytest.mark.parametrize("counted", ["through a volume", "through a place"])
def test_a_slice_that_is_missing_of_one_moment_mixes_no_others(
    tmp_path: Path, counted: str
) -> None:
    values = np.random.default_rng(0).integers(0, 900, (3, 6, 4, 5)).astype(np.uint16)
    for time in range(3):
        for place in range(6):
            number = 6 * time + place if counted == "through a volume" else 3 * place + time
            if (time, place) != (0, 3):
                path = tmp_path / "d" / f"{number}.dcm"
                write_slice(path, values[time, place], 2.0 * place, InstanceNumber=number)
    found = {len(volume.values): volume.values for volume in volumes(tmp_path / "d")}
    both = [volume.values for volume in volumes(tmp_path / "d") if len(volume.values) == 6]
    np.testing.assert_array_equal(found[5], np.delete(values[0], 3, axis=0))
    assert {tuple(each[0].ravel()) for each in both} == {tuple(v[0].ravel()) for v in values[1:]}
    for each in both:
        (same,) = (v for v in values[1:] if (v[0] == each[0]).all())
        np.testing.assert_array_equal(each, same)


@pytest.mark.parametrize("counted", ["through a volume", "through a place"])
def test_a_second_scan_sorts_what_came_among_what_it_keeps(tmp_path: Path, counted: str) -> None:
    """By the numbers of images that it does not read again, which no file holds as they are."""
    late = [(1, 2), (0, 4), (2, 0)]
    early = [each for each in np.ndindex(3, 6) if each not in [*late, (0, 3)]]
    for pairs in (early, late):
        for time, place in pairs:
            number = 6 * time + place if counted == "through a volume" else 3 * place + time
            voxels = np.full((4, 5), 100 * time + place, np.int16)
            path = tmp_path / "d" / f"{number}.dcm"
            write_slice(path, voxels, 2.0 * place, InstanceNumber=number)
        summary = scan(tmp_path / "d", tmp_path / "m.parquet", ScanConfig(workers=1))
    assert summary.reused == len(early)
    manifest = read_manifest(tmp_path / "m.parquet")
    found = [read_volume(manifest, each).values[:, 0, 0] for each in volumes_of(manifest.rows)]
    expected = [np.delete(np.arange(6), 3), 100 + np.arange(6), 200 + np.arange(6)]
    for one, other in zip(sorted(found, key=max), expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", PARTS)
def test_acquisitions_are_parts_or_volumes_as_the_steps_between_slices_tell(
    tmp_path: Path, name: str
) -> None:
    parts, sizes = PARTS[name]
    write_parts(tmp_path / "d", parts, "AcquisitionNumber")
    table = describe_volumes(scanned(tmp_path / "d").rows)
    assert sorted(table["slices"]) == sizes
    assert table["problems"].to_list() == [[]] * len(sizes)


@pytest.mark.parametrize("name", PARTS)
def test_temporal_positions_are_volumes_wherever_they_lie(tmp_path: Path, name: str) -> None:
    parts, _ = PARTS[name]
    write_parts(tmp_path / "d", parts, "TemporalPositionIdentifier")
    table = describe_volumes(scanned(tmp_path / "d").rows)
    assert sorted(table["slices"]) == sorted(map(len, parts))


def write_parts(folder: Path, parts: Sequence[Sequence[float]], told: str) -> None:
    voxels = iter(block(sum(map(len, parts))))
    for number, places in enumerate(parts):
        for place in places:
            about = {told: number + 1, "InstanceNumber": place}
            write_slice(folder / f"{number}-{place}.dcm", next(voxels), place, **about)


def test_one_number_written_in_two_ways_is_one(tmp_path: Path) -> None:
    for place, plane in enumerate(block(4)):
        echo = ("4.6", "4.60")[place % 2]
        write_slice(tmp_path / "d" / f"{place}.dcm", plane, 3.0 * place, EchoTime=echo)
    (volume,) = volumes(tmp_path / "d")
    assert len(volume.values) == 4


def test_blank_slices_that_are_there_twice_are_in_the_volume_once(tmp_path: Path) -> None:
    voxels = block(4)
    voxels[[0, 3]] = 0
    write_series(tmp_path / "d", voxels, "a")
    write_series(tmp_path / "d" / "again", voxels, "b")
    (slices,) = volumes_of(scanned(tmp_path / "d").rows)
    assert len(slices) == 4


def test_localisers_and_colour_are_in_no_volume_and_are_told(tmp_path: Path) -> None:
    write_series(tmp_path / "d" / "v", block())
    scout = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"], "SeriesInstanceUID": "1.2.8"}
    write_series(tmp_path / "d" / "l", block(3), **scout)
    colour = {"SeriesInstanceUID": "1.2.9", "PhotometricInterpretation": "RGB"}
    painted = np.stack([block(2) % 100 + 100 * part for part in range(2)] + [block(2) % 7], -1)
    write_series(tmp_path / "d" / "c", painted.astype(np.uint8), **colour)
    summary = scan(tmp_path / "d", tmp_path / "m.parquet", ScanConfig(workers=1))
    assert summary.volumes == 1
    assert summary.outside == {"localiser": 3, "colour": 2}
    assert "volumes     1; images in none: localiser 3, colour 2" in summary.table()


def test_a_series_of_several_sizes_or_spacings_is_told(tmp_path: Path) -> None:
    others: tuple[dict[str, Any], ...] = (
        {"Rows": 3, "PixelData": block()[0, :3].tobytes()},
        {"PixelSpacing": [2, 2]},
        {"PixelSpacing": []},
        {"PixelSpacing": [0.7502, 0.5]},  # the same, printed otherwise
    )
    for series, other in enumerate(others):
        about = {"SeriesInstanceUID": f"1.2.{series}"}
        write_in_turns(tmp_path / "d" / str(series), about, about | other)
    summary = scan(tmp_path / "d", tmp_path / "manifest.parquet", ScanConfig(workers=1))
    assert summary.volumes == 7
    assert summary.problems == {"mixed_sizes": 6}
    assert "mixed_sizes 6" in summary.table()


def test_a_series_of_several_patients_is_told(tmp_path: Path) -> None:
    write_in_turns(tmp_path / "d", {"PatientID": "A"}, {"PatientID": "B"})
    write_series(tmp_path / "d" / "other", block(), SeriesInstanceUID="1.2.8")
    table = describe_volumes(scanned(tmp_path / "d").rows)
    assert table["problems"].to_list() == [["shared_series"], ["shared_series"], []]


def test_images_in_no_volume_are_told_apart(tmp_path: Path) -> None:
    root = tmp_path / "d"
    write_series(root / "v", block(), InstanceNumber=1)
    write_slice(root / "v" / "copy.dcm", block()[2], 2 * SPACING[0])
    write_slice(root / "v" / "other.dcm", block()[2] + 900, 2 * SPACING[0], InstanceNumber=2)
    lone = {"SeriesInstanceUID": "1.2.8"}
    write_slice(root / "lone.dcm", block()[0], 0, **lone)
    write_slice(root / "lone_copy.dcm", block()[0], 0, **lone)
    write_dicom(root / "no_plane.dcm", block()[1], Modality="PT")
    write_slice(root / "far.dcm", block()[3], 0, ImagePositionPatient=[0, 0, 1e300])
    nan = write_slice(root / "nan.dcm", block()[4], 0, ImagePositionPatient=[111.5, 222.5, 333.5])
    nan.write_bytes(nan.read_bytes().replace(b"111.5\\222.5\\333.5", b"NaN  \\NaN  \\NaN  "))
    write_dicom(root / "radiograph.dcm", block()[5], Modality="DX")
    summary = scan(root, tmp_path / "manifest.parquet", ScanConfig(workers=1))
    assert summary.volumes == 1
    assert summary.outside == {
        "without a place": 3,
        "copy": 2,
        "other at its place": 1,
        "single": 1,
    }


def test_a_volume_beyond_the_budget_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_series(tmp_path / "d", block(6))
    monkeypatch.setattr("medssl.volumes.read.MOST_VOXELS", 6 * 4 * 5 - 1)
    with pytest.raises(TooLargeError, match="a volume of more than 119 voxels"):
        volumes(tmp_path / "d")


def test_a_file_that_is_there_twice_is_in_the_volume_once(tmp_path: Path) -> None:
    write_series(tmp_path / "d", block(), "a")
    write_series(tmp_path / "d" / "again", block(), "b")
    manifest = scanned(tmp_path / "d")
    (slices,) = volumes_of(manifest.rows)
    assert len(slices) == 6
    assert manifest.rows["volume"].null_count() == 6


def test_gaps_uneven_steps_and_a_tilted_gantry_are_told(tmp_path: Path) -> None:
    places = {"gap": [0, 2, 4, 10, 12], "uneven": [0, 2, 4.3, 6, 8], "tilted": [0, 2, 4, 6, 8]}
    for number, (name, along) in enumerate(places.items()):
        for place, plane in zip(along, block(5), strict=True):
            shift = [10.0, 10 + place * (0.3 if name == "tilted" else 0), 10.0 + place]
            about = {"SeriesInstanceUID": f"1.2.{number}", "ImagePositionPatient": shift}
            write_slice(tmp_path / "d" / name / f"{place}.dcm", plane, 0, **about)
    table = describe_volumes(scanned(tmp_path / "d").rows)
    assert table["problems"].to_list() == [["gap"], ["tilted"], ["uneven"]]
    assert table["missing"].to_list() == [2, 0, 0]
    assert table["tilt_degrees"].to_list() == pytest.approx([0, np.degrees(np.arctan(0.3)), 0])
    assert table["uneven_mm"].to_list() == pytest.approx([0, 0, 0.3])


def test_other_sizes_and_single_images_are_in_no_volume_with_others(tmp_path: Path) -> None:
    write_series(tmp_path / "d", block())
    for number, sides in enumerate([TURNED, (0, 1, 0, 0, 0, -1)]):  # localisers
        path = tmp_path / "d" / f"l{number}.dcm"
        write_slice(path, block()[0] + 77, 1.0, ImageOrientationPatient=list(sides))
    write_slice(tmp_path / "d" / "small.dcm", block()[0, :3, :4], 40.0)
    manifest = scanned(tmp_path / "d")
    assert [len(part) for part in volumes_of(manifest.rows)] == [6]
    assert manifest.rows["volume"].null_count() == 3


@pytest.mark.parametrize(
    "sides",
    [(1, 0, 0, 1, 0, 0), (0, 0, 0, 0, 1, 0), (2, 0, 0, 0, 1, 0), (np.nan, 0, 0, 0, 1, 0)],
)
def test_directions_that_are_none_give_no_plane(sides: Sequence[float]) -> None:
    assert plane_of([0, 0, 0], sides[:3], sides[3:]) is None


@pytest.mark.parametrize("far", [1e308, -1e308, 1e160, 1e7])
def test_slices_far_off_have_no_place_and_spoil_no_volume(tmp_path: Path, far: float) -> None:
    write_series(tmp_path / "d", block())
    for number, place in enumerate([[0, 0, far], [-far, 0, far], [0, far, -far]]):
        about = {"ImagePositionPatient": place, "InstanceNumber": number}
        write_slice(tmp_path / "d" / f"far{number}.dcm", block()[number] + 900, 0, **about)
    (volume,) = volumes(tmp_path / "d")
    np.testing.assert_array_equal(volume.values, block())


@pytest.mark.parametrize("side", [1e300, 1e7, 1e-7, 1e-200, 0.0, -1.0])
def test_a_spacing_that_pixels_cannot_have_is_unknown(tmp_path: Path, side: float) -> None:
    write_series(tmp_path / "d", block(), PixelSpacing=[side, side], SpacingBetweenSlices=side)
    manifest = scanned(tmp_path / "d")
    for name in ("spacing_row_mm", "spacing_column_mm", "spacing_slice_mm"):
        assert manifest.rows[name].null_count() == len(manifest)
    (slices,) = volumes_of(manifest.rows)
    volume = read_volume(manifest, slices)
    assert volume.geometry.spacing_mm is None
    turned(tmp_path, volume.values, volume.geometry)


def test_a_scale_beyond_all_numbers_gives_no_warning(tmp_path: Path) -> None:
    write_series(tmp_path / "d", block(), RescaleSlope=1e308, RescaleIntercept=0)
    (volume,) = volumes(tmp_path / "d")
    assert np.isinf(volume.values).any()


@pytest.mark.parametrize("value", ["1e308", "-1e308", "inf", "nan"])
def test_a_mosaic_whose_slices_lead_nowhere_has_no_place(tmp_path: Path, value: str) -> None:
    header = csa(NumberOfImagesInMosaic=["5"], SliceNormalVector=["0", "0", value])
    path = write_mosaic(tmp_path / "mosaic.dcm", block(5), header)
    with open_image(path, "dicom") as reader:
        assert [reader.decode(frame).place for frame in range(reader.facts.frames)] == [None] * 5


def test_an_image_without_a_place_in_the_patient_is_in_no_volume(tmp_path: Path) -> None:
    for number in range(3):
        write_dicom(tmp_path / "d" / f"{number}.dcm", block()[number])
    manifest = scanned(tmp_path / "d")
    assert manifest.rows["volume"].null_count() == len(manifest) == 3


def test_frames_of_an_enhanced_file_are_sorted_by_their_functional_groups(tmp_path: Path) -> None:
    """Two echoes, their frames by turns, from the head to the feet."""
    groups, frames = [], []
    for place in reversed(range(4)):
        for echo in (5.0, 10.0):
            plane, echoes, group = Dataset(), Dataset(), Dataset()
            plane.ImagePositionPatient = [1.0, 2.0, 3.0 * place]
            echoes.EffectiveEchoTime = echo
            group.PlanePositionSequence = Items([plane])
            group.MREchoSequence = Items([echoes])
            groups.append(group)
            frames.append(block(4)[place] + 100 * int(echo))
    sides, measures, shared = Dataset(), Dataset(), Dataset()
    sides.ImageOrientationPatient = list(AXIAL)
    measures.PixelSpacing = list(SPACING[1:])
    shared.PlaneOrientationSequence = Items([sides])
    shared.PixelMeasuresSequence = Items([measures])
    write_dicom(
        tmp_path / "d" / "enhanced.dcm",
        np.stack(frames),
        PerFrameFunctionalGroupsSequence=Items(groups),
        SharedFunctionalGroupsSequence=Items([shared]),
    )
    found = sorted(volumes(tmp_path / "d"), key=lambda volume: float(volume.values[0, 0, 0]))
    for echo, volume in zip((5, 10), found, strict=True):
        np.testing.assert_array_equal(volume.values, block(4) + 100 * echo)
        assert volume.geometry.spacing_mm == pytest.approx((3.0, *SPACING[1:]))


def frame_groups(place: float, number: int, kind: str, slope: float) -> Dataset:
    """Return what an enhanced CT says of one frame at `place` mm along the normal of `TURNED`."""
    plane, content, about, scale = Dataset(), Dataset(), Dataset(), Dataset()
    plane.ImagePositionPatient = (10 + place * normal(TURNED)).round(6).tolist()
    content.StackID, content.InStackPositionNumber = "1", number
    content.FrameAcquisitionNumber = 1 + number % 2
    about.FrameType = ["ORIGINAL", "PRIMARY", kind, "NONE"]
    scale.RescaleSlope, scale.RescaleIntercept, scale.RescaleType = slope, -1024, "HU"
    group = Dataset()
    group.PlanePositionSequence = Items([plane])
    group.FrameContentSequence = Items([content])
    group.CTImageFrameTypeSequence = Items([about])
    group.PixelValueTransformationSequence = Items([scale])
    return group


def write_enhanced_ct(path: Path, groups: list[Dataset], frames: NDArray[Any]) -> Path:
    """Write one file of the class Enhanced CT; what frames differ in stands in their groups only.

    Source:
        DICOM PS3.3, A.38.1 and C.7.6.16.
    """
    sides, measures, shared = Dataset(), Dataset(), Dataset()
    sides.ImageOrientationPatient = list(TURNED)
    measures.PixelSpacing = list(SPACING[1:])
    measures.SliceThickness = 9.0  # not the distance
    shared.PlaneOrientationSequence = Items([sides])
    shared.PixelMeasuresSequence = Items([measures])
    return write_dicom(
        path,
        frames,
        SOPClassUID=UID("1.2.840.10008.5.1.4.1.1.2.1"),
        Modality="CT",
        ImageType=["ORIGINAL", "PRIMARY", "MIXED", "NONE"],
        FrameOfReferenceUID="1.2.9",
        PerFrameFunctionalGroupsSequence=Items(groups),
        SharedFunctionalGroupsSequence=Items([shared]),
    )


@pytest.mark.parametrize("scouts", [0, 2])
def test_an_enhanced_ct_gives_one_volume_in_hu_in_order_and_its_localisers_none(
    tmp_path: Path, scouts: int
) -> None:
    order = np.random.default_rng(1).permutation(6)
    slopes = 1 + 0.5 * np.arange(6)  # of each place
    groups = [
        frame_groups(SPACING[0] * place, number, "VOLUME", slopes[place])
        for number, place in enumerate(order)
    ]
    frames = [block()[place] for place in order]
    for number in range(scouts):  # at the start, and between slices
        groups.insert(3 * number, frame_groups(number, 90 + number, "LOCALIZER", 1))
        frames.insert(3 * number, np.full((4, 5), 7 + number, np.int16))
    write_enhanced_ct(tmp_path / "d" / "ct.dcm", groups, np.stack(frames))
    summary = scan(tmp_path / "d", tmp_path / "manifest.parquet", ScanConfig(workers=1))
    assert summary.outside == ({"localiser": scouts} if scouts else {})
    manifest = read_manifest(tmp_path / "manifest.parquet")
    (slices,) = volumes_of(manifest.rows)
    volume = read_volume(manifest, slices)
    np.testing.assert_allclose(volume.values, block() * slopes[:, None, None] - 1024)
    assert volume.geometry.problems == ()
    assert volume.geometry.affine is not None
    axes = [normal(TURNED), np.array(TURNED[3:]), np.array(TURNED[:3])]
    expected = np.stack([step * axis for step, axis in zip(SPACING, axes, strict=True)], axis=1)
    np.testing.assert_allclose(volume.geometry.affine[:3, :3], expected, atol=1e-5)
    np.testing.assert_allclose(volume.geometry.affine[:3, 3], 10, atol=1e-5)


def csa(**elements: Sequence[str]) -> bytes:
    """Return a private header of Siemens, CSA2."""
    parts = [b"SV10\4\3\2\1", struct.pack("<II", len(elements), 77)]
    for name, values in elements.items():
        parts.append(name.encode().ljust(64, b"\0"))
        parts.append(struct.pack("<i4siii", len(values), b"FD\0\0", 4, len(values), 77))
        for value in values:
            text = value.encode() + b"\0"
            parts.append(struct.pack("<iiii", len(text), len(text), 77, len(text)))
            parts.append(text.ljust(-(-len(text) // 4) * 4, b"\0"))
    return b"".join(parts)


def write_mosaic(path: Path, voxels: NDArray[Any], header: bytes, **changes: Any) -> Path:
    """Write five slices as tiles of a 3 x 3 grid, two slices of which are from a fourth corner."""
    rows, columns = voxels.shape[1:]
    whole = np.zeros((3 * rows, 3 * columns), voxels.dtype)
    for number, plane in enumerate(voxels):
        down, right = divmod(number, 3)
        whole[down * rows :, right * columns :][:rows, :columns] = plane
    first = np.array([10.0, 20.0, 30.0])
    first[0] -= columns * SPACING[2]  # of a slice as large as the mosaic, with the same middle
    first[1] -= rows * SPACING[1]
    data = {
        "ImageType": ["ORIGINAL", "PRIMARY", "M", "MOSAIC"],
        "ImageOrientationPatient": list(AXIAL),
        "ImagePositionPatient": first.tolist(),
        "PixelSpacing": list(SPACING[1:]),
        "SpacingBetweenSlices": 4.0,
    }
    made = dataset(whole, **{**data, **changes})
    made.private_block(0x0029, "SIEMENS CSA HEADER", create=True).add_new(0x10, "OB", header)
    path.parent.mkdir(parents=True, exist_ok=True)
    made.save_as(path, enforce_file_format=True)
    return path


GOOD_CSA = csa(NumberOfImagesInMosaic=["5"], SliceNormalVector=["0", "0", "-1"])


def test_tiles_of_a_mosaic_are_slices_that_follow_the_private_header(tmp_path: Path) -> None:
    write_mosaic(tmp_path / "d" / "mosaic.dcm", block(5), GOOD_CSA)
    (volume,) = volumes(tmp_path / "d")
    np.testing.assert_array_equal(volume.values, block(5)[::-1])  # from the feet upwards
    affine = volume.geometry.affine
    assert affine is not None
    np.testing.assert_allclose(affine[:3, 3], [10, 20, 30 - 4 * 4])
    np.testing.assert_allclose(affine[:3, 0], [0, 0, 4])


@pytest.mark.parametrize("length", range(0, len(GOOD_CSA), 7))
def test_a_mosaic_with_a_cut_private_header_is_still_read(tmp_path: Path, length: int) -> None:
    path = write_mosaic(tmp_path / "mosaic.dcm", block(5), GOOD_CSA[:length])
    with open_image(path, "dicom") as reader:
        assert reader.facts.frames in (1, 5)
        assert reader.decode(0).values.shape in ((12, 15), (4, 5))


def test_a_mosaic_whose_grid_does_not_fit_is_one_image(tmp_path: Path) -> None:
    header = csa(NumberOfImagesInMosaic=["26"], SliceNormalVector=["0", "0", "1"])
    path = write_mosaic(tmp_path / "mosaic.dcm", block(5), header)  # 12 rows, 6 tiles per side
    with open_image(path, "dicom") as reader:
        assert reader.facts.frames == 1


def test_a_slice_that_changed_its_size_after_the_scan_is_an_error(tmp_path: Path) -> None:
    write_series(tmp_path / "d", block())
    manifest = scanned(tmp_path / "d")
    (slices,) = volumes_of(manifest.rows)
    write_slice(manifest.file(slices["path"][2]), block()[0, :3, :4], 0)
    with pytest.raises(UnreadableFileError, match="size"):
        read_volume(manifest, slices)


def test_volumes_of_an_archive_have_an_order_and_no_geometry(tmp_path: Path) -> None:
    voxels = np.arange(2 * 5 * 6 * 7, dtype=np.uint16).reshape(2, 5, 6, 7)
    (tmp_path / "d").mkdir()
    np.savez(tmp_path / "d" / "a.npz", train_images=voxels, val_images=voxels[:1] + 7)
    found = volumes(tmp_path / "d")
    assert len(found) == 3
    for volume, expected in zip(found, [*voxels, voxels[0] + 7], strict=True):
        np.testing.assert_array_equal(volume.values, expected)
        assert volume.geometry.problems == ("no_geometry",)
