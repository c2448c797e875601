"""Whole slides in DICOM: which tiles, from which file of the series, and what is left out."""

import os
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from pydicom import uid
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID

from medssl.errors import DataError, IngestError, Reason
from medssl.identity import SiteKey
from medssl.manifest import Manifest, read_manifest, rejected_path
from medssl.scanning.scan import scan
from medssl.scanning.settings import ScanConfig
from medssl.scanning.walk import Found
from medssl.scanning.worker import read_file
from medssl.sources.cut import USUAL_TILES, Cut
from medssl.sources.dicom_pixels import PixelSource
from medssl.sources.open import open_image
from medssl.sources.slide import is_slide, open_slide, open_tiles
from tests.medssl.make import dataset, encode, ramp, write_dicom
from tests.medssl.test_slides import SECRET, require_tiles, specimen

WHOLE_SLIDE = UID("1.2.840.10008.5.1.4.1.1.77.1.6")
TILE = 64
Pixels = NDArray[np.uint8]
Places = list[tuple[int, int]]


@pytest.fixture(autouse=True)
def site_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDSSL_KEY_FILE", str(tmp_path / "keys" / "site.key"))


def tiles_of(picture: Pixels, tile: int = TILE) -> tuple[Pixels, Places]:
    """Cut a picture to tiles, by rows, those at the rim filled up; and say where they begin."""
    rows, columns = picture.shape[:2]
    wide = np.pad(picture, ((0, -rows % tile), (0, -columns % tile), (0, 0)))
    places = [(top, left) for top in range(0, rows, tile) for left in range(0, columns, tile)]
    return np.stack([wide[y : y + tile, x : x + tile] for y, x in places]), places


def slide(
    picture: Pixels,
    *,
    mpp: float | None = 0.5,
    kind: str = "VOLUME",
    syntax: UID = uid.ExplicitVRLittleEndian,
    series: str = "1.2.3.4",
    **changes: Any,
) -> FileDataset:
    """Return a level of a slide as scanners write it."""
    frames, _ = tiles_of(picture)
    data = dataset(frames, syntax, Modality="SM", SeriesInstanceUID=series)
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = WHOLE_SLIDE
    data.ImageType = ["ORIGINAL", "PRIMARY", kind, "NONE"]
    data.FrameOfReferenceUID = f"{series}.1"
    data.DimensionOrganizationType = "TILED_FULL"
    data.NumberOfFrames = len(frames)
    data.TotalPixelMatrixRows, data.TotalPixelMatrixColumns = picture.shape[:2]
    if mpp is not None:
        data.SharedFunctionalGroupsSequence = [measures(mpp, mpp)]
    for name, value in changes.items():
        setattr(data, name, value)
    return data


def measures(row_um: float, column_um: float) -> Dataset:
    """Return shared functional groups with the spacing of pixels."""
    spacing, groups = Dataset(), Dataset()
    spacing.PixelSpacing = [row_um / 1000, column_um / 1000]
    groups.PixelMeasuresSequence = [spacing]
    return groups


def save(path: Path, data: FileDataset) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path


def write_slide(path: Path, picture: Pixels, **options: Any) -> Path:
    return save(path, slide(picture, **options))


def smaller(picture: Pixels, step: int) -> Pixels:
    rows, columns = (side // step for side in picture.shape[:2])
    cut = picture[: rows * step, : columns * step].reshape(rows, step, columns, step, 3)
    mean: NDArray[np.float64] = cut.mean(axis=(1, 3))
    return mean.round().astype(np.uint8)


def pyramid(folder: Path, *, name: str = "level", series: str = "1.2.3.4") -> Pixels:
    """Write three levels of 0.25, 0.5 and 1 micron per pixel, and return the finest."""
    picture = specimen(1024, 1280)
    for number, step in enumerate((1, 2, 4)):
        level = smaller(picture, step)
        write_slide(folder / f"{name}{number}.dcm", level, mpp=0.25 * step, series=series)
    return picture


def scanned(folder: Path, **config: object) -> tuple[Manifest, dict[str, str]]:
    out = folder.parent / "manifest.parquet"
    scan(folder, out, ScanConfig.model_validate({"workers": 1, "tile_px": TILE, **config}))
    rejected = pl.read_parquet(rejected_path(out))
    return read_manifest(out), dict(rejected.select("path", "reason").iter_rows())


def refusal(path: Path, cut: Cut = USUAL_TILES.cut) -> IngestError:
    with pytest.raises(IngestError) as caught, open_slide(path, cut):
        pass
    return caught.value


def reason(path: Path) -> tuple[str, str]:
    """Return why a scan sets a file aside."""
    aside = read_file(path.parent, Found(path.name, "stamp"), SiteKey(b"k")).aside
    assert aside is not None
    return aside.reason, aside.detail


@pytest.mark.parametrize(
    "syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.JPEG2000Lossless]
)
def test_a_tile_is_the_very_part_of_the_slide(tmp_path: Path, syntax: UID) -> None:
    picture = specimen(500, 630)
    path = write_slide(tmp_path / "a", picture, syntax=syntax)
    with open_slide(path, Cut(96, 0.5)) as opened:
        require_tiles(opened, picture)
        np.testing.assert_array_equal(opened.overview(630), picture)


@pytest.mark.parametrize("subsampling", ["444", "422", "420"])
def test_jpeg_in_ycbcr_comes_out_in_its_colours(tmp_path: Path, subsampling: str) -> None:
    picture = np.empty((128, 128, 3), np.uint8)
    picture[:, :64], picture[:, 64:] = (225, 150, 190), (120, 70, 150)
    data = slide(picture, syntax=uid.JPEGBaseline8Bit, PhotometricInterpretation="YBR_FULL_422")
    codes = [
        imagecodecs.jpeg8_encode(tile, level=95, subsampling=subsampling)
        for tile in tiles_of(picture)[0]
    ]
    data.PixelData = encapsulate(codes)
    path = save(tmp_path / "a", data)
    with open_slide(path, Cut(128, 0.5)) as opened:
        difference = np.abs(opened.decode(0).values.astype(int) - picture)
        assert difference.max() <= 4


def test_uncompressed_ycbcr_comes_out_in_its_colours(tmp_path: Path) -> None:
    """The colour (225, 150, 190) is (177, 135, 162) in YCbCr."""
    data = slide(np.zeros((64, 64, 3), np.uint8), PhotometricInterpretation="YBR_FULL")
    data.PixelData = np.full((64, 64, 3), (177, 135, 162), np.uint8).tobytes()
    with open_slide(save(tmp_path / "a", data), Cut(64, 0.5)) as opened:
        difference = opened.decode(0).values.astype(int) - (225, 150, 190)
        assert np.abs(difference).max() <= 2


def test_only_frames_that_a_tile_needs_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_slide(tmp_path / "a", specimen(), syntax=uid.JPEG2000Lossless)
    decoded: list[int] = []
    read = PixelSource.read

    def spy(self: PixelSource, frame: int) -> Any:
        decoded.append(frame)
        return read(self, frame)

    monkeypatch.setattr(PixelSource, "read", spy)
    with open_slide(path, Cut(64, 0.5)) as opened:
        assert not decoded
        opened.decode(12)
        opened.decode(12)
    assert decoded == [12]


def sparse(picture: Pixels, keep: list[int]) -> FileDataset:
    """Return a slide of some tiles only, in the order of `keep`, each with its place."""
    frames, places = tiles_of(picture)
    data = slide(picture, DimensionOrganizationType="TILED_SPARSE", NumberOfFrames=len(keep))
    data.PixelData = np.ascontiguousarray(frames[keep]).tobytes()
    groups = []
    for number in keep:
        place, group = Dataset(), Dataset()
        place.RowPositionInTotalImagePixelMatrix = places[number][0] + 1
        place.ColumnPositionInTotalImagePixelMatrix = places[number][1] + 1
        group.PlanePositionSlideSequence = [place]
        groups.append(group)
    data.PerFrameFunctionalGroupsSequence = groups
    return data


def test_tiles_of_a_sparse_slide_lie_where_they_say_and_others_are_glass(tmp_path: Path) -> None:
    picture = specimen(192, 256)
    path = save(tmp_path / "a", sparse(picture, [9, 0, 6]))
    with open_slide(path, Cut(64, 0.5)) as opened:
        for frame in range(12):
            top, left = (64 * place for place in divmod(frame, 4))
            expected = picture[top : top + 64, left : left + 64]
            if frame not in (9, 0, 6):
                expected = np.full_like(expected, 255)
            np.testing.assert_array_equal(opened.decode(frame).values, expected)


def test_sparse_slides_that_are_no_grid_are_set_aside(tmp_path: Path) -> None:
    picture = specimen(192, 256)
    moved = sparse(picture, [0, 1])
    place = moved.PerFrameFunctionalGroupsSequence[1].PlanePositionSlideSequence[0]
    for column in (60, 0, 257, 4097):
        place.ColumnPositionInTotalImagePixelMatrix = column
        assert "no grid" in refusal(save(tmp_path / "a", moved)).detail
    place.ColumnPositionInTotalImagePixelMatrix = 1
    assert "focal planes" in refusal(save(tmp_path / "a", moved)).detail
    del place.ColumnPositionInTotalImagePixelMatrix
    error = refusal(save(tmp_path / "a", moved))
    assert (error.reason, "ColumnPosition" in error.detail) == (Reason.CORRUPT, True)


def test_microns_per_pixel_may_come_from_the_width_of_the_whole(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "a", specimen(), mpp=None, ImagedVolumeWidth=640 * 0.0005)
    with open_slide(path, USUAL_TILES.cut) as opened:
        assert opened.mpp == pytest.approx(0.5)
        assert opened.cut.assumed is None
    wrong = write_slide(tmp_path / "b", specimen(), mpp=400.0, ImagedVolumeWidth=0.0)
    assert "without microns per pixel" in refusal(wrong).detail
    with open_slide(wrong, Cut(64, 0.5, 0.25)) as opened:
        assert opened.cut.member == "64 px at 0.5 um of 0.25 um assumed"


@pytest.mark.parametrize("kind", ["LABEL", "OVERVIEW", "THUMBNAIL", "LOCALIZER", ""])
def test_label_and_overview_are_set_aside_and_never_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(PixelSource, "read", refuse)
    path = write_slide(tmp_path / "a", specimen(), kind=kind)
    assert reason(path) == (
        "unsupported",
        "label, overview or thumbnail of a slide: only its VOLUME images are read",
    )
    path = write_slide(tmp_path / "b", specimen(), SpecimenLabelInImage="YES")
    assert "label is in the image" in reason(path)[1]


def test_of_a_series_only_the_label_free_level_has_rows(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    write_slide(folder / "0", specimen(), PatientID=SECRET, BarcodeValue=SECRET)
    write_slide(folder / "1", specimen(128, 128), kind="LABEL", PatientID=SECRET)
    manifest, rejected = scanned(folder)
    rows = manifest.rows
    assert rejected == {"1": "unsupported"}
    assert set(rows["path"]) == {"0"}
    assert set(rows["kind"]) == {"slide"}
    assert set(rows["modality"]) == {"SM"}
    assert rows["frame"].to_list() == [row * 10 + column for row in range(8) for column in range(5)]
    for name in ("patient", "study", "series"):
        assert rows[name].null_count() == 0
    assert rows["volume"].null_count() == len(rows)
    for file in tmp_path.glob("*.parquet"):
        assert b"Jane" not in file.read_bytes()


def test_a_slide_that_may_show_text_says_so(tmp_path: Path) -> None:
    write_slide(tmp_path / "d" / "0", specimen(), BurnedInAnnotation="YES")
    assert set(scanned(tmp_path / "d")[0].rows["burned_in"]) == {"said_so"}


@pytest.mark.parametrize(
    ("mpp", "best"), [(0.25, 0), (0.4, 0), (0.5, 1), (0.9, 1), (1.0, 2), (3.0, 2), (0.22, 0)]
)
def test_of_the_levels_of_a_slide_the_best_gives_tiles(
    tmp_path: Path, mpp: float, best: int
) -> None:
    pyramid(tmp_path / "d")
    manifest, rejected = scanned(tmp_path / "d", tile_mpp=mpp, tile_px=32)
    assert set(manifest.rows["path"]) == {f"level{best}.dcm"}
    others = {0, 1, 2} - {best}
    assert rejected == {f"level{number}.dcm": "other_level" for number in others}


def test_a_level_that_comes_after_an_interruption_gives_its_tissue_once(tmp_path: Path) -> None:
    pyramid(tmp_path / "all")
    (tmp_path / "d").mkdir()
    shutil.copy(tmp_path / "all" / "level0.dcm", tmp_path / "d")
    (tmp_path / "none.csv").write_text("path,label\nelsewhere.dcm,a\n")
    settings = {"tile_mpp": 0.5, "tile_px": 32}
    with pytest.raises(DataError):  # after the reading: its results are kept as by an interruption
        scanned(tmp_path / "d", labels=tmp_path / "none.csv", **settings)
    for number in (1, 2):
        shutil.copy(tmp_path / "all" / f"level{number}.dcm", tmp_path / "d")
    manifest, rejected = scanned(tmp_path / "d", **settings)
    assert set(manifest.rows["path"]) == {"level1.dcm"}
    assert rejected == {"level0.dcm": "other_level", "level2.dcm": "other_level"}


def test_the_whole_is_looked_at_in_a_coarser_level_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = pyramid(tmp_path)
    read: set[str] = set()
    true_read = PixelSource.read

    def spy(self: PixelSource, frame: int) -> Any:
        read.add(self.path.name)
        return true_read(self, frame)

    monkeypatch.setattr(PixelSource, "read", spy)
    with open_slide(tmp_path / "level0.dcm", Cut(64, 0.25)) as opened:
        assert [level.factor for level in opened.levels] == [1, 2, 4]
        overview = opened.overview(320)
        assert read == {"level2.dcm"}
        np.testing.assert_allclose(overview, smaller(picture, 4), atol=1)
        opened.decode(0)
        assert read == {"level0.dcm", "level2.dcm"}


def test_training_reads_tiles_from_the_file_of_the_manifest_alone(tmp_path: Path) -> None:
    picture = pyramid(tmp_path)
    with open_tiles(tmp_path / "level1.dcm", Cut(32, 0.5).member) as opened:
        assert [level.factor for level in opened.levels] == [1]
        np.testing.assert_array_equal(opened.decode(0).values, smaller(picture, 2)[:32, :32])


def test_slides_beside_each_other_are_not_taken_for_levels(tmp_path: Path) -> None:
    """Another series, another frame of reference, or another part of the glass."""
    folder, picture = tmp_path / "d", specimen()
    write_slide(folder / "0", picture, series="1.2.1")
    write_slide(folder / "1", smaller(picture, 2), mpp=1.0, series="1.2.2")
    write_slide(folder / "2", smaller(picture, 2), mpp=1.0, series="1.2.1", PyramidUID="9.9")
    write_slide(folder / "3", smaller(picture, 2)[:128], mpp=1.0, series="1.2.1")
    manifest, rejected = scanned(folder, tile_mpp=1.0, tile_px=32)
    assert set(manifest.rows["path"]) == {"0", "1", "2", "3"}
    assert not rejected


def test_of_copies_the_first_is_read(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        write_slide(tmp_path / "d" / name, specimen())
    manifest, rejected = scanned(tmp_path / "d")
    assert set(manifest.rows["path"]) == {"a"}
    assert rejected == {"b": "other_level", "c": "other_level"}


def test_links_beside_a_slide_are_not_followed(tmp_path: Path) -> None:
    pyramid(tmp_path / "elsewhere")
    (tmp_path / "d").mkdir()
    (tmp_path / "elsewhere" / "level0.dcm").rename(tmp_path / "d" / "level0.dcm")
    (tmp_path / "d" / "level1.dcm").symlink_to(tmp_path / "elsewhere" / "level1.dcm")
    manifest, rejected = scanned(tmp_path / "d", tile_px=32)
    assert set(manifest.rows["path"]) == {"level0.dcm"}
    assert rejected == {"level1.dcm": "unsupported"}


def test_a_second_scan_chooses_anew_only_where_files_came_or_went(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    pyramid(folder / "one")
    pyramid(folder / "two", series="1.2.9")
    aside = tmp_path / "aside"
    (folder / "one" / "level1.dcm").rename(aside)
    out, settings = tmp_path / "m.parquet", ScanConfig(workers=1, tile_px=32)

    def again() -> tuple[int, set[str]]:
        summary = scan(folder, out, settings)
        return summary.reused, set(read_manifest(out).rows["path"])

    two = "two/level1.dcm"
    assert again() == (0, {"one/level0.dcm", two})
    assert again() == (5, {"one/level0.dcm", two})
    aside.rename(folder / "one" / "level1.dcm")
    assert again() == (3, {"one/level1.dcm", two})
    assert again() == (6, {"one/level1.dcm", two})
    (folder / "one" / "level1.dcm").unlink()
    assert again() == (3, {"one/level0.dcm", two})


def test_what_cannot_be_a_level_is_set_aside_with_a_reason(tmp_path: Path) -> None:
    picture = specimen(128, 128)
    several = slide(picture, NumberOfFrames=8)
    several.PixelData = several.PixelData * 2
    cases = {
        "focal planes": several,
        "not square": slide(picture, SharedFunctionalGroupsSequence=[measures(0.5, 0.6)]),
        "coarser than": slide(picture, mpp=2.0),
        "TotalPixelMatrixRows": slide(picture),
        "a side of more": slide(picture, TotalPixelMatrixColumns=1 << 21),
        "sides that are none": slide(picture, TotalPixelMatrixRows=0),
    }
    del cases["TotalPixelMatrixRows"].TotalPixelMatrixRows
    for words, data in cases.items():
        assert words in refusal(save(tmp_path / "a", data)).detail
    grey = slide(picture)
    grey.SamplesPerPixel, grey.PhotometricInterpretation = 1, "MONOCHROME2"
    assert "8-bit colours" in refusal(save(tmp_path / "a", grey)).detail


@pytest.mark.parametrize("part", [0.3, 0.7, 0.95])
@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.JPEG2000Lossless])
def test_a_cut_slide_is_truncated(tmp_path: Path, syntax: UID, part: float) -> None:
    whole = write_slide(tmp_path / "a", specimen(), syntax=syntax).read_bytes()
    (tmp_path / "a").write_bytes(whole[: int(len(whole) * part)])
    assert reason(tmp_path / "a")[0] == "truncated"


def test_a_damaged_level_costs_itself_only(tmp_path: Path) -> None:
    """The overview is then made of another one."""
    picture = pyramid(tmp_path)
    coarse = tmp_path / "level2.dcm"
    coarse.write_bytes(coarse.read_bytes()[:-1000])
    with open_slide(tmp_path / "level0.dcm", Cut(64, 0.25)) as opened:
        assert [level.factor for level in opened.levels] == [1, 2]
        np.testing.assert_allclose(opened.overview(320), smaller(picture, 4), atol=1)


@lru_cache
def slide_bytes() -> bytes:
    """Return a small slide with places of its frames, in JPEG."""
    picture = specimen(128, 128)
    data = sparse(picture, [0, 1, 2, 3])
    data.file_meta.TransferSyntaxUID = uid.JPEGBaseline8Bit
    codes = [encode(tile, uid.JPEGBaseline8Bit) for tile in tiles_of(picture)[0]]
    data.PhotometricInterpretation = "YBR_FULL_422"
    data.PixelData = encapsulate(codes)
    data["PixelData"].is_undefined_length = True
    with tempfile.TemporaryDirectory() as folder:
        return save(Path(folder) / "a", data).read_bytes()


@pytest.mark.parametrize("seed", range(60))
def test_a_damaged_slide_is_read_or_has_a_reason_of_its_own(tmp_path: Path, seed: int) -> None:
    data = bytearray(slide_bytes())
    rng = np.random.default_rng(seed)
    header = data.find(b"\xe0\x7f\x10\x00")
    for place in (*rng.integers(0, len(data), 3), *rng.integers(132, header, 3)):
        data[place] = rng.integers(0, 256)
    (tmp_path / "a").write_bytes(data)
    wishes = USUAL_TILES._replace(cut=Cut(32, 0.5))
    outcome = read_file(tmp_path, Found("a", "stamp"), SiteKey(b"k"), wishes)
    assert outcome.aside is None or outcome.aside.reason != Reason.READER_BUG, outcome.aside


def test_the_sound_slide_of_the_damaged_ones_has_tiles(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(slide_bytes())
    wishes = USUAL_TILES._replace(cut=Cut(32, 0.5))
    assert read_file(tmp_path, Found("a", "stamp"), SiteKey(b"k"), wishes).rows


def test_an_image_that_refers_to_a_slide_is_none(tmp_path: Path) -> None:
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = WHOLE_SLIDE, "1.2.3"
    path = write_dicom(tmp_path / "a", ramp(), ReferencedImageSequence=[reference])
    assert WHOLE_SLIDE.encode() in path.read_bytes()[:8192]
    assert not is_slide(path, "dicom")
    assert len(read_file(tmp_path, Found("a", "stamp"), SiteKey(b"k")).rows) == 1


def test_a_file_of_a_slide_is_no_image(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "a", specimen())
    assert is_slide(path, "dicom")
    with pytest.raises(IngestError, match="no images by themselves"), open_image(path, "dicom"):
        pass


@pytest.mark.data
@pytest.mark.skipif("MEDREC_DATA" not in os.environ, reason="needs the real data sets")
def test_a_slide_that_pixelmed_wrote_is_read() -> None:
    folder = Path(os.environ["MEDREC_DATA"]) / "wsi_small"
    with open_slide(folder / "boxes_0.dcm", Cut(16, 0.499)) as opened:
        assert opened.mpp == pytest.approx(0.499)
        assert opened.grid == (1, 1)
        assert opened.decode(0).values.shape == (16, 16, 3)
    assert "only its VOLUME" in refusal(folder / "boxes_1.dcm").detail
