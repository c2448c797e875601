"""NIfTI volumes: the same slices however they are stored, and bad headers set aside."""

import gzip
import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, ornt_transform

from medssl.errors import IngestError, Reason
from medssl.identity import SiteKey
from medssl.intensity import Window, to_display
from medssl.manifest import read_manifest
from medssl.presets import Preset
from medssl.scanning.scan import scan
from medssl.scanning.settings import ScanConfig
from medssl.sources.decoded import Decoded, Linear
from medssl.sources.volume import VolumeSlices
from medssl.sources.volumes import open_volume
from medssl.views import choose_preset
from tests.medssl.make import PLAIN_AFFINE, Values, nifti

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
BODY = np.arange(3 * 4 * 5, dtype=np.int16).reshape(3, 4, 5)  # [to the left, back, head]
AXES = [
    codes
    for order in itertools.permutations(("LR", "PA", "SI"))
    for codes in itertools.product(*order)
]


def load(path: Path, content: bytes) -> list[Decoded]:
    path.write_bytes(content)
    with open_volume(path, "nifti") as reader:
        return [reader.decode(frame) for frame in range(reader.facts.frames)]


def slices(path: Path, content: bytes) -> Values:
    return np.stack([decoded.values for decoded in load(path, content)])


def refusal(path: Path, content: bytes) -> IngestError:
    with pytest.raises(IngestError) as caught:
        load(path, content)
    return caught.value


def spaced(*spacing: float) -> Values:
    return LPS @ np.diag([*spacing, 1.0])


@pytest.mark.parametrize("codes", AXES, ids="".join)
def test_every_orientation_gives_the_axial_slices_that_dicom_shows(
    tmp_path: Path, codes: tuple[str, str, str]
) -> None:
    change = ornt_transform(axcodes2ornt(("L", "P", "S")), axcodes2ornt(codes))
    stored = nib.Nifti1Image(BODY, spaced(1.0, 1.1, 1.0)).as_reoriented(change)
    found = load(tmp_path / "a", nifti(np.asarray(stored.dataobj), stored.affine))
    for height, decoded in enumerate(found):
        np.testing.assert_array_equal(decoded.values, BODY[:, :, height].T)
        assert decoded.spacing_mm == pytest.approx((1.1, 1.0))
        assert decoded.spacing_slice_mm == pytest.approx(1.0)
    assert len(found) == 5


def test_slices_are_those_across_the_widest_spacing_with_the_head_on_top(tmp_path: Path) -> None:
    coronal = slices(tmp_path / "a", nifti(BODY, spaced(1, 5, 1)))
    np.testing.assert_array_equal(coronal, BODY[:, :, ::-1].transpose(1, 2, 0))
    sagittal = slices(tmp_path / "b", nifti(BODY, spaced(5, 1, 1)))
    np.testing.assert_array_equal(sagittal, BODY[:, :, ::-1].transpose(0, 2, 1))
    axial = slices(tmp_path / "c", nifti(BODY, spaced(1, 1, 5)))
    np.testing.assert_array_equal(axial, BODY.transpose(2, 1, 0))


def test_an_oblique_volume_is_taken_by_its_nearest_axes(tmp_path: Path) -> None:
    angle = np.deg2rad(20)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    found = slices(tmp_path / "a", nifti(BODY, turn @ LPS))
    np.testing.assert_array_equal(found, BODY.transpose(2, 1, 0))


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("kind", ["u1", "i2", "u2", "i4", "f4", "f8"])
def test_version_byte_order_compression_and_type_change_nothing(
    tmp_path: Path, version: int, order: str, zipped: bool, kind: str
) -> None:
    content = nifti(BODY.astype(order + kind), LPS, version=version)
    found = slices(tmp_path / "a", gzip.compress(content) if zipped else content)
    np.testing.assert_array_equal(found, BODY.transpose(2, 1, 0))
    assert found.dtype == np.dtype(kind)


def test_the_slices_of_a_later_volume_follow_those_of_the_first(tmp_path: Path) -> None:
    both = np.stack([BODY, BODY + 100], axis=-1)
    found = slices(tmp_path / "a", nifti(both, LPS))
    np.testing.assert_array_equal(found[:5], BODY.transpose(2, 1, 0))
    np.testing.assert_array_equal(found[5:], BODY.transpose(2, 1, 0) + 100)


def test_colour_stays_colour(tmp_path: Path) -> None:
    rgb = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
    values = np.zeros(BODY.shape, rgb)
    values["R"], values["G"], values["B"] = BODY, BODY + 60, BODY + 120
    found = load(tmp_path / "a", nifti(values, LPS))
    assert found[0].channels == 3
    assert found[0].photometric == "RGB"
    first = BODY[:, :, 0].T
    expected = np.stack([first, first + 60, first + 120], axis=-1)
    np.testing.assert_array_equal(found[0].values, expected)


def test_deep_slices_of_one_volume_share_its_window_in_the_rescaled_unit(tmp_path: Path) -> None:
    plain = load(tmp_path / "a", nifti(BODY, LPS))
    scaled = bytearray(nifti(BODY, LPS))
    scaled[112:120] = np.array([-2.0, 7.0], "<f4").tobytes()  # scl_slope, scl_inter
    found = load(tmp_path / "b", bytes(scaled))
    assert found[0].rescale == Linear(-2.0, 7.0)
    assert len({str(decoded.voi) for decoded in found}) == 1
    for dark, bright in zip(plain, found, strict=True):
        shown = to_display(bright, Window.AUTO)
        np.testing.assert_allclose(shown, 1 - to_display(dark, Window.AUTO), atol=1e-6)
    ends = [to_display(decoded, Window.AUTO) for decoded in (plain[0], plain[-1])]
    assert ends[0].min() == 0
    assert ends[0].max() < 1  # a slice does not stretch to its own brightest
    assert ends[1].max() == 1


def test_values_of_8_bit_and_volumes_without_contrast_have_no_window(tmp_path: Path) -> None:
    assert load(tmp_path / "a", nifti(BODY.astype("u1")))[0].voi is None
    assert load(tmp_path / "b", nifti(np.full_like(BODY, 7)))[0].voi is None
    empty = load(tmp_path / "c", nifti(np.full(BODY.shape, np.nan, "f4")))[0]
    assert empty.voi is None
    assert not to_display(empty, Window.AUTO).any()


def test_a_file_that_ends_too_early_is_truncated(tmp_path: Path) -> None:
    content = nifti(BODY)
    for number, part in enumerate(
        (content[:-1], content[:350], gzip.compress(content)[:-9], gzip.compress(content[:-1]))
    ):
        assert refusal(tmp_path / f"{number}", part).reason is Reason.TRUNCATED


@pytest.mark.parametrize("zipped", [False, True])
def test_a_size_beyond_the_budget_is_refused_before_anything_is_loaded(
    tmp_path: Path, zipped: bool
) -> None:
    content = bytearray(nifti(BODY))
    content[42:48] = np.array([32767] * 3, "<i2").tobytes()
    found = refusal(tmp_path / "a", gzip.compress(content) if zipped else bytes(content))
    assert found.reason is Reason.TOO_LARGE


@pytest.mark.parametrize(
    ("place", "kind", "value", "reason", "words"),
    [
        (42, "<i2", 0, Reason.CORRUPT, "without voxels"),
        (42, "<i2", -3, Reason.CORRUPT, "without voxels"),
        (40, "<i2", 9, Reason.UNSUPPORTED, "axes"),
        (70, "<i2", 32, Reason.UNSUPPORTED, "kind of number"),  # complex
        (70, "<i2", 12345, Reason.CORRUPT, "Error"),
        (108, "<f4", np.nan, Reason.CORRUPT, "begin nowhere"),
        (108, "<f4", -1.0, Reason.CORRUPT, "begin nowhere"),
        (108, "<f4", 5e8, Reason.TRUNCATED, "less data"),
        (280, "<f4", np.inf, Reason.CORRUPT, "no number"),  # of the sform
        (344, "S4", b"ni1", Reason.UNSUPPORTED, "end in .hdr"),
    ],
)
def test_a_header_that_makes_no_sense_is_set_aside(
    tmp_path: Path, place: int, kind: str, value: object, reason: Reason, words: str
) -> None:
    content = bytearray(nifti(BODY))
    new = np.array([value], kind).tobytes()
    content[place : place + len(new)] = new
    found = refusal(tmp_path / "a", bytes(content))
    assert found.reason is reason
    assert words in found.detail


def test_an_affine_without_an_axis_is_set_aside(tmp_path: Path) -> None:
    content = bytearray(nifti(BODY))
    content[280:328] = bytes(48)  # the rows of the sform
    found = refusal(tmp_path / "a", bytes(content))
    assert found.reason is Reason.CORRUPT
    assert "lacks an axis" in found.detail


def test_more_than_four_axes_are_unsupported(tmp_path: Path) -> None:
    content = nifti(np.zeros((2, 2, 2, 1, 3), np.int16))
    assert refusal(tmp_path / "a", content).reason is Reason.UNSUPPORTED


def test_a_scan_lists_slices_and_shows_no_word_of_a_header(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "manifest.parquet"
    data.mkdir()
    content = nifti(BODY, spaced(1, 1, 5), descrip=b"Jane Doe", aux_file=b"Jane Doe", db_name=b"D")
    (data / "P1.nii.gz").write_bytes(gzip.compress(content))
    (data / "P2.bin").write_bytes(nifti(BODY[::-1], spaced(1, 1, 5)))
    scan(data, out, ScanConfig(patient_pattern=r"(P\d)"), key=SiteKey(b"k"))
    manifest = read_manifest(out)
    assert manifest.rows.select("kind", "frames", "rows", "columns").unique().rows() == [
        ("nifti", 5, 4, 3)
    ]
    assert manifest.rows["spacing_slice_mm"].to_list() == [5.0] * 10
    assert manifest.rows["patient"].n_unique() == 2
    assert manifest.rows["content"].n_unique() == 10
    assert choose_preset(manifest) is Preset.MR
    assert b"Jane" not in b"".join(file.read_bytes() for file in tmp_path.glob("*.parquet"))


def test_the_reader_has_the_facts_of_a_reader(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(nifti(BODY, PLAIN_AFFINE))
    with open_volume(tmp_path / "a", "nifti") as reader:
        assert isinstance(reader, VolumeSlices)
        with pytest.raises(IngestError, match="frame 5 of 5"):
            reader.decode(5)
