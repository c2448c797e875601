"""DICOM headers: where the data set begins, what it says about showing it, what is no image."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from medssl.errors import IngestError, Reason, SegmentationError
from medssl.identity import SiteKey
from medssl.scanning.walk import Found
from medssl.scanning.worker import read_file
from medssl.sources.decoded import Decoded, FileFacts, Linear, Lut, VoiWindow
from medssl.sources.dicom import open_dicom, open_frames
from medssl.sources.sniff import sniff
from tests.medssl.make import dataset, ramp, write_dicom


def decode(path: Path, frame: int = 0) -> Decoded:
    with open_dicom(path) as file:
        return file.decode(frame)


def facts(path: Path) -> FileFacts:
    with open_dicom(path) as file:
        return file.facts


def refusal(path: Path) -> IngestError:
    with pytest.raises(IngestError) as caught:
        decode(path)
    return caught.value


def without_preamble(path: Path, *, meta: bool) -> None:
    content = path.read_bytes()
    path.write_bytes(content[132:] if meta else content[content.index(b"\x08\x00\x16\x00") :])


@pytest.mark.parametrize("meta", [True, False])
@pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian])
def test_files_without_preamble_or_meta_are_read(tmp_path: Path, syntax: Any, meta: bool) -> None:
    path = write_dicom(tmp_path / "a", ramp(), syntax)
    without_preamble(path, meta=meta)
    assert sniff(path) == "dicom"
    assert np.array_equal(decode(path).values, ramp())
    assert facts(path).transfer_syntax == syntax


def test_big_endian_without_meta_is_read(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a", ramp(), uid.ExplicitVRBigEndian)
    content = path.read_bytes()
    path.write_bytes(content[content.index(b"\x00\x08\x00\x16") :])
    assert sniff(path) == "dicom"
    assert np.array_equal(decode(path).values, ramp())


def test_stray_bytes_before_the_data_set_are_passed_over(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a", ramp())
    without_preamble(path, meta=False)
    path.write_bytes(b" " + path.read_bytes())
    assert sniff(path) == "dicom"
    assert np.array_equal(decode(path).values, ramp())


def test_a_transfer_syntax_that_lies_about_explicit_types_is_seen_through(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a", ramp(), uid.ExplicitVRLittleEndian)
    wrong = path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2\0\0\0")
    path.write_bytes(wrong)
    assert np.array_equal(decode(path).values, ramp())


def test_facts_hold_the_identifiers_and_do_not_show_them(tmp_path: Path) -> None:
    found = facts(write_dicom(tmp_path / "a", ramp(), Modality="CT"))
    assert (found.patient_id, found.study_uid, found.series_uid) == ("P-4711", "1.2.3", "1.2.3.4")
    assert found.modality == "CT"
    assert "4711" not in repr(found)


def test_planted_words_do_not_leave_the_file(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a", ramp(), Modality="DOEJANE")
    assert facts(path).modality is None
    path = write_dicom(tmp_path / "b", ramp(), PhotometricInterpretation="DOEJANE")
    assert "DOEJANE" not in str(refusal(path))


def test_an_empty_patient_id_is_none(tmp_path: Path) -> None:
    for value in ("", "  ", None):
        assert facts(write_dicom(tmp_path / "a", ramp(), PatientID=value)).patient_id is None


def test_window_rescale_spacing_and_padding_are_read(tmp_path: Path) -> None:
    found = decode(
        write_dicom(
            tmp_path / "a",
            ramp().astype("int16"),
            RescaleSlope="2",
            RescaleIntercept="-1024",
            WindowCenter=["40", "300"],
            WindowWidth=["400", "1500"],
            VOILUTFunction="SIGMOID",
            PixelSpacing=["0.5", "0.75"],
            SpacingBetweenSlices="3",
            PixelPaddingValue=-2000,
            PixelPaddingRangeLimit=-1000,
        )
    )
    assert found.rescale == Linear(2, -1024)
    assert found.voi == VoiWindow(40, 400, "SIGMOID")
    assert found.spacing_mm == (0.5, 0.75)
    assert found.spacing_slice_mm == 3
    assert found.padding == (-2000, -1000)


def test_nonsense_in_display_attributes_is_left_out(tmp_path: Path) -> None:
    found = decode(
        write_dicom(
            tmp_path / "a",
            ramp(),
            RescaleSlope="0",
            RescaleIntercept="5",
            WindowCenter="10",
            WindowWidth="-3",
            PixelSpacing=["0", "1"],
        )
    )
    assert (found.rescale, found.voi, found.spacing_mm) == (None, None, None)


@pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian])
def test_lookup_tables_are_read_with_signed_first_value(tmp_path: Path, syntax: Any) -> None:
    item = Dataset()
    item.add_new("LUTDescriptor", "SS", [3, -1, 12])
    item.add_new("LUTData", "US", [10, 20, 4000])
    path = write_dicom(
        tmp_path / "a",
        np.array([[-5, 0], [1, 9]], np.int16),
        syntax,
        ModalityLUTSequence=Sequence([item]),
        VOILUTSequence=Sequence([item]),
    )
    found = decode(path)
    for lut in (found.rescale, found.voi):
        assert isinstance(lut, Lut)
        assert (lut.first, lut.bits) == (-1, 12)
        assert lut(found.values).tolist() == [[10, 20], [4000, 4000]]


def test_each_frame_has_its_own_functional_groups(tmp_path: Path) -> None:
    frames = []
    for center in (100, 200):
        voi, group = Dataset(), Dataset()
        voi.WindowCenter, voi.WindowWidth = center, 50
        group.FrameVOILUTSequence = Sequence([voi])
        frames.append(group)
    measures, rescale, shared = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = [2, 3]
    rescale.RescaleSlope, rescale.RescaleIntercept = 4, 5
    shared.PixelMeasuresSequence = Sequence([measures])
    shared.PixelValueTransformationSequence = Sequence([rescale])
    path = write_dicom(
        tmp_path / "a",
        np.stack([ramp(), ramp()]),
        PerFrameFunctionalGroupsSequence=Sequence(frames),
        SharedFunctionalGroupsSequence=Sequence([shared]),
    )
    for number, center in enumerate((100, 200)):
        found = decode(path, number)
        assert found.voi == VoiWindow(center, 50)
        assert found.rescale == Linear(4, 5)
        assert found.spacing_mm == (2, 3)


def save(path: Path, data: Dataset) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data.save_as(path, enforce_file_format=True)
    return path


def test_objects_without_image_have_no_pixels(tmp_path: Path) -> None:
    data = dataset(ramp())
    data.SOPClassUID = uid.UID("1.2.840.10008.5.1.4.1.1.88.11")  # a report
    del data.PixelData, data.Rows, data.Columns
    assert refusal(save(tmp_path / "a", data)).reason is Reason.NO_PIXELS


def test_an_image_cut_before_its_pixels_is_truncated(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a", ramp())
    content = path.read_bytes()
    for place in (content.index(b"\x28\x00\x11\x00"), content.index(b"\x20\x00\x0d\x00") + 3):
        path.write_bytes(content[:place])
        assert refusal(path).reason is Reason.TRUNCATED


def test_an_object_of_an_image_class_that_ends_before_rows_has_no_pixels(tmp_path: Path) -> None:
    """As in file sets that are there to try a DICOMDIR; a cut between two elements is rare."""
    path = write_dicom(tmp_path / "a", ramp())
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"\x28\x00\x02\x00")])
    assert refusal(path).reason is Reason.NO_PIXELS


def test_unknown_transfer_syntaxes_are_unsupported_and_known_ones_named(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a", ramp(), uid.JPEG2000Lossless)
    content = path.read_bytes()
    for syntax, words in ((b"1.2.840.10008.1.2.4.94", "JPIP"), (b"9.9.9.9.9.9.9.9.9.4711", "unkn")):
        path.write_bytes(content.replace(b"1.2.840.10008.1.2.4.90", syntax))
        error = refusal(path)
        assert error.reason is Reason.UNSUPPORTED
        assert words in error.detail
        assert "4711" not in error.detail


def test_whole_slides_are_not_read_frame_by_frame(tmp_path: Path) -> None:
    kind = uid.UID("1.2.840.10008.5.1.4.1.1.77.1.6")
    path = write_dicom(tmp_path / "a", ramp(), SOPClassUID=kind)
    assert refusal(path).reason is Reason.UNSUPPORTED


def test_a_text_that_names_itself_dicom_is_not_an_image(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_text("DICM is what this text is about. " * 50)
    assert refusal(tmp_path / "a.dcm").reason is Reason.NOT_AN_IMAGE


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({}, None),
        ({"BurnedInAnnotation": "YES"}, "said_so"),
        ({"BurnedInAnnotation": "NO", "Modality": "US"}, None),
        ({"BurnedInAnnotation": "", "Modality": "US"}, "ultrasound"),
        ({"Modality": "US"}, "ultrasound"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "secondary_capture"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7.4"}, "secondary_capture"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.77.1.5.1"}, None),
        ({"ConversionType": "WSD"}, "secondary_capture"),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "screenshot"),
        ({"ImageType": ["DERIVED", "SECONDARY", "REFORMATTED"]}, None),
        ({"ImageType": ["SCREEN SAVE"], "BurnedInAnnotation": "YES"}, "said_so"),
        ({"ImageType": ["DERIVED", "screen_save"]}, "screenshot"),
        ({"BurnedInAnnotation": "Y"}, "said_so"),
        ({"ConversionType": "sd"}, "secondary_capture"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.6.1", "Modality": None}, "ultrasound"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.3.1", "Modality": "OT"}, "ultrasound"),
    ],
)
def test_images_that_may_show_text_are_told_by_their_attributes(
    tmp_path: Path, attributes: dict[str, Any], expected: str | None
) -> None:
    assert facts(write_dicom(tmp_path / "a", ramp(), **attributes)).burned_in == expected


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP", "no class"])
def test_segmentations_are_set_aside_and_never_images(tmp_path: Path, kind: str) -> None:
    classes = {"LABELMAP": "1.2.840.10008.5.1.4.1.1.66.7", "no class": None}
    masks = np.indices((3, 16, 24)).sum(0).astype(np.uint8) % 2
    changes: dict[str, Any] = {"Modality": "SEG", "SegmentationType": kind}
    changes["SOPClassUID"] = classes.get(kind, "1.2.840.10008.5.1.4.1.1.66.4")
    if kind == "BINARY":
        bits = np.packbits(masks, bitorder="little").tobytes()
        changes |= {"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0, "PixelData": bits}
    write_dicom(tmp_path / "a", masks, **changes)
    outcome = read_file(tmp_path, Found("a", "stamp"), SiteKey(b"k"))
    assert outcome.rows == []
    assert outcome.aside is not None
    assert outcome.aside.reason == "segmentation"
    with pytest.raises(SegmentationError), open_dicom(tmp_path / "a"):
        pass
    with open_frames(tmp_path / "a") as file:  # they can be read as masks
        assert np.array_equal(file.pixels.read(1), masks[1])


@pytest.mark.parametrize(
    ("number", "modality", "reason"),
    [
        ("481.3", "RTSTRUCT", "segmentation"),
        ("88.33", "SR", "no_pixels"),
        ("11.1", "PR", "no_pixels"),
        ("88.59", "KO", "no_pixels"),
        ("66", "OT", "no_pixels"),  # raw data
        ("67", "RWV", "no_pixels"),
        ("481.5", "RTPLAN", "no_pixels"),
        ("66.5", "SEG", "segmentation"),  # of surfaces
    ],
)
def test_objects_without_pixels_are_told_from_images_that_were_cut(
    tmp_path: Path, number: str, modality: str, reason: str
) -> None:
    data = dataset(ramp(), Modality=modality)
    data.SOPClassUID = uid.UID(f"1.2.840.10008.5.1.4.1.1.{number}")
    for name in ("PixelData", "Rows", "Columns"):
        delattr(data, name)
    data.save_as(tmp_path / "a", enforce_file_format=True)
    assert refusal(tmp_path / "a").reason == reason
