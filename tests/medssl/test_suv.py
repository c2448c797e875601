"""PET: SUV by body weight, by the formulas written out, and what is told where they need more."""

import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from medssl.identity import SiteKey
from medssl.intensity import Window, show_volume, to_display
from medssl.loading.canvas_keys import canvas_keys
from medssl.loading.dataset import CanvasDataset
from medssl.loading.store import StorePlan
from medssl.manifest import Manifest, read_manifest
from medssl.scanning.scan import scan
from medssl.scanning.settings import ScanConfig
from medssl.scanning.walk import Found
from medssl.scanning.worker import read_file
from medssl.sources.decoded import Decoded, VoiWindow
from medssl.sources.dicom import open_dicom
from medssl.volumes.geometry import volumes_of
from medssl.volumes.read import Slices, read_volume
from medssl.volumes.samples import as_samples
from tests.medssl.make import Values, dataset, ramp

WEIGHT, DOSE, HALF_LIFE = 70.0, 3.7e8, 6586.2
HOUR = 3600.0
PET = "1.2.840.10008.5.1.4.1.1.128"


def pet(values: Values | None = None, **changes: Any) -> Dataset:
    """Return a slice of FDG, injected at 9 and scanned at 10; `about` changes what was injected."""
    about = Dataset()
    injected = {
        "RadionuclideTotalDose": DOSE,
        "RadionuclideHalfLife": HALF_LIFE,
        "RadiopharmaceuticalStartDateTime": "20200102090000.00",
        "RadiopharmaceuticalStartTime": "090000.00",
        **changes.pop("about", {}),
    }
    for name, value in injected.items():
        if value is not None:
            setattr(about, name, value)
    attributes = {
        "SOPClassUID": uid.UID(PET),
        "Modality": "PT",
        "Units": "BQML",
        "CorrectedImage": ["ATTN", "DECY", "SCAT"],
        "DecayCorrection": "START",
        "SeriesDate": "20200102",
        "SeriesTime": "100000",
        "AcquisitionDate": "20200102",
        "AcquisitionTime": "100500",
        "ActualFrameDuration": "120000",
        "PatientWeight": WEIGHT,
        "RescaleSlope": 2,
        "RescaleIntercept": 0,
        "RadiopharmaceuticalInformationSequence": Sequence([about]),
    }
    given = {name: value for name, value in {**attributes, **changes}.items() if value is not None}
    return dataset(ramp(8, 8) if values is None else values, **given)


def private(data: Dataset, group: int, creator: str, element: int, vr: str, value: Any) -> Dataset:
    data.private_block(group, creator, create=True).add_new(element, vr, value)
    return data


def read(path: Path, data: Dataset) -> tuple[Decoded, str | None]:
    data.save_as(path, enforce_file_format=True)
    with open_dicom(path) as file:
        return file.decode(0), file.facts.suv


def factor(hours: float, *, weight: float = WEIGHT) -> float:
    """Return grams per becquerel of the dose that is left after some hours."""
    return 1000 * weight / (DOSE * 2 ** (-hours * HOUR / HALF_LIFE))


def average(seconds: float) -> float:
    """Return after which time the activity is that of the mean of a frame."""
    rate = math.log(2) / HALF_LIFE
    mean = (1 - math.exp(-rate * seconds)) / (rate * seconds)
    return -math.log(mean) / rate


NO_DATE = {"about": {"RadiopharmaceuticalStartDateTime": None}}
LATE = {"SeriesDate": "20200105"}  # made anew on another day


@pytest.mark.parametrize(
    ("changes", "how", "expected"),
    [
        ({}, "suv", factor(1)),
        ({"SeriesTime": "10:00:00"}, "suv", factor(1)),
        ({"DecayCorrection": "ADMIN"}, "suv", factor(0)),
        ({"DecayCorrection": "ADMIN", "SeriesTime": None, **NO_DATE}, "suv", factor(0)),
        (
            {"DecayCorrection": "NONE", "CorrectedImage": "ATTN"},
            "suv",
            factor(1 + (300 + average(120)) / HOUR),
        ),
        (NO_DATE, "suv_day_assumed", factor(1)),
        (  # in universal time, the rest an hour ahead of it
            {
                "about": {"RadiopharmaceuticalStartDateTime": "20200102080000.00+0000"},
                "TimezoneOffsetFromUTC": "+0100",
            },
            "suv",
            factor(1),
        ),
        (  # the time alone is told as the others are
            {"about": {"RadiopharmaceuticalStartDateTime": "20200102080000.00+0000"}},
            "suv",
            factor(1),
        ),
        ({"SeriesDate": "2020010", "AcquisitionDate": None}, "no_times", None),
        (
            {
                "about": {
                    "RadiopharmaceuticalStartDateTime": None,
                    "RadiopharmaceuticalStartTime": "233000",
                },
                "SeriesTime": "003000",
            },
            "suv_day_assumed",
            factor(1),
        ),
        (
            {"about": {"RadiopharmaceuticalStartDateTime": "19990101090000"}},
            "suv_day_assumed",
            factor(1),
        ),
        (
            {"SeriesDate": None, "AcquisitionDate": None},  # as by a profile that drops dates
            "suv_day_assumed",
            factor(1),
        ),
        (
            {"about": {"RadiopharmaceuticalStartDateTime": "20200102100100"}},  # a dynamic series
            "suv",
            factor(-1 / 60),
        ),
        (
            {**LATE, "FrameReferenceTime": str(1000 * (300 + average(120)))},
            "suv_time_reckoned",
            factor(1),
        ),
        ({"Units": "GML", "PatientWeight": None}, "suv", 1.0),
        ({"Units": "GML", "SUVType": "BW"}, "suv", 1.0),
        ({"Units": "GML", "SUVType": "LBM"}, "no_unit", None),
        ({"Units": "PROPCPS"}, "no_unit", None),
        ({"Units": None}, "no_unit", None),
        ({"Units": "CNTS"}, "no_unit", None),
        ({"PatientWeight": None}, "no_weight", None),
        ({"PatientWeight": "0"}, "no_weight", None),
        ({"about": {"RadionuclideTotalDose": None}}, "no_dose", None),
        ({"about": {"RadionuclideTotalDose": "370"}}, "no_dose", None),  # MBq
        ({"RadiopharmaceuticalInformationSequence": None}, "no_dose", None),
        ({"about": {"RadionuclideHalfLife": None}}, "no_half_life", None),
        ({"about": {"RadionuclideHalfLife": "1e300"}}, "no_half_life", None),
        ({"SeriesTime": None}, "no_times", None),
        (LATE, "no_times", None),
        ({**LATE, "FrameReferenceTime": "1e300"}, "no_times", None),
        ({"SeriesDate": "00010101", "AcquisitionDate": "00010101"}, "no_times", None),
        (
            {
                "about": {
                    "RadiopharmaceuticalStartDateTime": None,
                    "RadiopharmaceuticalStartTime": None,
                }
            },
            "no_times",
            None,
        ),
        ({"CorrectedImage": "DECY"}, "no_correction", None),
        ({"CorrectedImage": "ATTN"}, "no_correction", None),
        ({"DecayCorrection": None}, "no_correction", None),
        ({"Modality": "CT"}, None, None),
    ],
)
def test_the_factor_follows_from_weight_dose_and_decay(
    tmp_path: Path, changes: dict[str, Any], how: str | None, expected: float | None
) -> None:
    decoded, told = read(tmp_path / "a", pet(**changes))
    assert told == how
    assert decoded.suv == (None if expected is None else pytest.approx(expected, rel=1e-9))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(200, 1400), st.integers(0, 255)), min_size=1, max_size=8))
def test_damaged_headers_are_an_image_or_a_reason(changes: list[tuple[int, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a")
        pet().save_as(path, enforce_file_format=True)
        content = bytearray(path.read_bytes())
        for place, value in changes:
            content[place % len(content)] = value
        path.write_bytes(content)
        aside = read_file(Path(folder), Found("a", "stamp"), SiteKey(b"k")).aside
    assert aside is None or aside.reason != "reader_bug", aside


def test_private_attributes_of_two_makers_are_used(tmp_path: Path) -> None:
    philips = "Philips PET Private Group"
    counts = private(pet(Units="CNTS"), 0x7053, philips, 0x00, "DS", "0.25")
    decoded, how = read(tmp_path / "a", counts)
    assert (decoded.suv, how) == (0.25, "suv")
    activity = private(pet(Units="CNTS"), 0x7053, philips, 0x09, "DS", "4")
    assert read(tmp_path / "a", activity)[0].suv == pytest.approx(4 * factor(1))
    raw = private(pet(Units="CNTS"), 0x7053, philips, 0x00, "UN", b"0.5 ")
    assert read(tmp_path / "a", raw)[0].suv == 0.5
    other = private(pet(Units="CNTS"), 0x7053, "Somebody", 0x00, "DS", "0.25")
    assert read(tmp_path / "a", other)[1] == "no_unit"
    scan_time = private(pet(**LATE), 0x0009, "GEMS_PETD_01", 0x0D, "DT", "20200102110000.00")
    decoded, how = read(tmp_path / "a", scan_time)
    assert (decoded.suv, how) == (pytest.approx(factor(2)), "suv")


def test_0_to_20_suv_become_0_to_1_whatever_the_file_asks_for(tmp_path: Path) -> None:
    slope = 1 / factor(1)  # so that a stored 1 is a SUV of 1
    values = np.array([[0, 5, 10, 20, 40]], np.uint16)
    data = pet(values, RescaleSlope=f"{slope:.10g}", WindowCenter="3", WindowWidth="4")
    decoded, _ = read(tmp_path / "a", data)
    for window, expected in (
        (Window.AUTO, [0, 0.25, 0.5, 1, 1]),
        (Window.LUNG, [0, 0.25, 0.5, 1, 1]),
        (Window.SUV_10, [0, 0.5, 1, 1, 1]),
        (Window.SUV_5, [0, 1, 1, 1, 1]),
    ):
        assert to_display(decoded, window)[0, 0].tolist() == pytest.approx(expected, abs=1e-5)
    assert decoded.voi == VoiWindow(3, 4)
    assert to_display(decoded, Window.FILE)[0, 0].tolist() == [0, 1, 1, 1, 1]
    unknown, _ = read(tmp_path / "a", pet(values, PatientWeight=None))
    shown = to_display(unknown, Window.AUTO)
    assert np.array_equal(shown, to_display(unknown, Window.PERCENTILE))
    assert np.array_equal(shown, to_display(unknown, Window.SUV_5))


def write_series(folder: Path, **changes: Any) -> None:
    """Write 3 slices, each with a slope of its own, as GE does."""
    folder.mkdir()
    for number in range(3):
        data = pet(
            np.full((8, 8), 10 + number, np.uint16) + ramp(8, 8, top=3),
            RescaleSlope=str(1000 * (number + 1)),
            ImagePositionPatient=[0, 0, 4.0 * number],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            PixelSpacing=[2, 2],
            **changes,
        )
        data.save_as(folder / f"{number}.dcm", enforce_file_format=True)


@pytest.mark.slow
def test_volumes_are_in_suv_slice_by_slice_and_the_scan_tells_of_the_rest(tmp_path: Path) -> None:
    write_series(tmp_path / "in")
    lacking = pet(ramp(8, 8, top=99), PatientWeight=None, SeriesInstanceUID="1.2.9")
    lacking.save_as(tmp_path / "in" / "z.dcm", enforce_file_format=True)
    out = tmp_path / "manifest.parquet"
    summary = scan(tmp_path / "in", out, ScanConfig(workers=1), key=SiteKey(b"k"))
    assert summary.suv == {"suv": 3, "no_weight": 1}
    assert "3 images in SUV (suv 3), 1 not, shown by percentiles (no_weight 1)" in summary.table()
    manifest = read_manifest(out)
    (rows,) = volumes_of(manifest.rows)
    values = read_volume(manifest, rows).values
    stored = [np.full((8, 8), 10 + number) + ramp(8, 8, top=3) for number in range(3)]
    expected = [plane * 1000 * (number + 1) * factor(1) for number, plane in enumerate(stored)]
    np.testing.assert_allclose(values, expected, rtol=1e-6)
    assert Slices.of(rows).in_suv
    shown = show_volume(values, Window.AUTO, modality="PT", bits=16, in_suv=True)
    np.testing.assert_allclose(shown, np.clip(values / 20, 0, 1), rtol=1e-5)
    mixed = rows.with_columns(pl.Series("suv", ["suv", "no_weight", "suv"]))
    assert not Slices.of(mixed).in_suv
    assert Slices.of(mixed).read(manifest.root)[1].min() == 2000 * 11


def test_stored_slabs_are_of_the_unit_of_the_whole_volume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDSSL_KEY_FILE", str(tmp_path / "site.key"))

    def write_slice(number: int, **changes: Any) -> None:
        values = ramp(8, 8) + np.uint16(number)
        place = {
            "ImagePositionPatient": [0, 0, 3.0 * number],
            "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
            "PixelSpacing": [1, 1],
            "InstanceNumber": number,
        }
        data = pet(values, SeriesInstanceUID="1.2.7", **place, **changes)
        data.save_as(tmp_path / "d" / f"{number}.dcm", enforce_file_format=True)

    def slabs() -> CanvasDataset:
        scan(tmp_path / "d", tmp_path / "m.parquet", ScanConfig(workers=1))
        manifest = as_samples(read_manifest(tmp_path / "m.parquet"), 2, 3)
        assert len(manifest) == 6
        plan = StorePlan(tmp_path / "store", 1.0)
        return CanvasDataset(manifest, canvas=8, channels=3, store=plan)

    (tmp_path / "d").mkdir()
    for number in range(6):
        write_slice(number)
    images = slabs()
    for row in range(6):
        images[row]
    assert images.store is not None
    assert images.store.get(0) is not None
    write_slice(5, PatientWeight=None)
    store = slabs().store
    assert store is not None
    assert [store.get(row) for row in range(6)] == [None] * 6


def test_stored_canvases_of_another_unit_are_not_taken_for_these(tmp_path: Path) -> None:
    rows = pl.DataFrame(
        {
            "sample": ["a", "a", "b"],
            "stamp": "s",
            "content": "c",
            "modality": ["PT", "PT", "MR"],
            "bits": 16,
            "photometric": "MONOCHROME2",
            "suv": ["suv", "no_weight", None],
        }
    )
    keys = canvas_keys(Manifest(rows, tmp_path), "", {})
    assert len(set(keys)) == 3
    plain = Manifest(rows.with_columns(suv=pl.lit(None, pl.String)), tmp_path)
    assert canvas_keys(plain, "", {})[2] == keys[2]
