"""NRRD and MetaImage: the same slices as NIfTI gives, and files that make no sense set aside."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from medssl.errors import IngestError, Reason, UnreadableFileError
from medssl.identity import SiteKey
from medssl.scanning.walk import Found
from medssl.scanning.worker import read_file
from medssl.sources.decoded import Decoded
from medssl.sources.sniff import sniff
from medssl.sources.volumes import open_volume
from medssl.volumes.geometry import Geometry
from medssl.volumes.turning import turned
from tests.medssl.make import Values, metaimage, nifti, nrrd_file

BODY = np.arange(3 * 4 * 5, dtype=np.int16).reshape(3, 4, 5)
# an affine to RAS that is oblique, flipped, permuted, of three spacings and far from the origin
TURN = np.array([[0.0, -0.6, -0.8], [-1.0, 0.0, 0.0], [0.0, 0.8, -0.6]])
SPACING = np.array([0.7, 1.3, 2.5])
AFFINE = np.eye(4)
AFFINE[:3, :3] = TURN * SPACING
AFFINE[:3, 3] = (120.5, -95.25, 300.0)


def load(path: Path, content: bytes) -> list[Decoded]:
    path.write_bytes(content)
    with open_volume(path, sniff(path)) as reader:
        return [reader.decode(frame) for frame in range(reader.facts.frames)]


def plane_of(decoded: Decoded) -> NDArray[np.float64]:
    assert decoded.place
    assert decoded.place.plane
    return np.concatenate(decoded.place.plane)


def refusal(path: Path, content: bytes) -> IngestError:
    with pytest.raises(IngestError) as caught:
        load(path, content)
    return caught.value


def vectors(rows: Values) -> str:
    return " ".join("(" + ",".join(map(repr, row.tolist())) + ")" for row in rows)


def as_nrrd(voxels: Values, *, space: str, to_ras: Values, **more: str) -> bytes:
    placed = (np.diag(to_ras) @ AFFINE[:3]).T
    about = {"space_directions": vectors(placed[:3]), "space_origin": vectors(placed[3:])}
    return nrrd_file(voxels, space=space, **about, **more)


def as_metaimage(voxels: Values, *, origin: str = "Offset", **more: str) -> bytes:
    to_lps = np.diag([-1.0, -1.0, 1.0])
    fields = {
        "TransformMatrix": (to_lps @ TURN).T.ravel(),
        origin: to_lps @ AFFINE[:3, 3],
        "ElementSpacing": SPACING,
    }
    words = {name: " ".join(map(repr, value.tolist())) for name, value in fields.items()}
    return metaimage(voxels, **words, **more)


SAME: dict[str, Callable[[Values], bytes]] = {
    "nrrd ras": lambda v: as_nrrd(v, space="right-anterior-superior", to_ras=np.ones(3)),
    "nrrd lps": lambda v: as_nrrd(v, space="left-posterior-superior", to_ras=[-1.0, -1.0, 1.0]),
    "nrrd las": lambda v: as_nrrd(v, space="LAS", to_ras=[-1.0, 1.0, 1.0]),
    "nrrd gzip": lambda v: as_nrrd(v, space="RAS", to_ras=np.ones(3), packing="gzip"),
    "nrrd bzip2": lambda v: as_nrrd(v, space="RAS", to_ras=np.ones(3), packing="bzip2"),
    "mha": as_metaimage,
    "mha zlib": lambda v: as_metaimage(v, packed=True),
    "mha position": lambda v: as_metaimage(v, origin="Position"),
    "mha origin": lambda v: as_metaimage(v, origin="Origin"),
}


@pytest.mark.parametrize("name", SAME)
@pytest.mark.parametrize("kind", ["<i2", ">i2", "<u1", "<f4", ">f8"])
def test_every_format_gives_the_slices_of_nifti(tmp_path: Path, name: str, kind: str) -> None:
    voxels = BODY.astype(kind)
    expected = load(tmp_path / "a", nifti(voxels, AFFINE))
    found = load(tmp_path / "b", SAME[name](voxels))
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.values, other.values)
        assert one.values.dtype == other.values.dtype
        assert one.spacing_mm == pytest.approx(other.spacing_mm)
        assert one.spacing_slice_mm == pytest.approx(other.spacing_slice_mm)
        assert one.voi == other.voi
        np.testing.assert_allclose(plane_of(one), plane_of(other), rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["nrrd", "metaimage"])
def test_colour_is_read_as_colour(tmp_path: Path, name: str) -> None:
    rgb = np.moveaxis(np.stack([BODY, BODY + 60, BODY + 120]).astype(np.uint8), 0, 0)
    if name == "nrrd":
        content = nrrd_file(rgb, kinds="RGB-color domain domain domain")
    else:
        fields = {"NDims": "3", "DimSize": "3 4 5", "ElementNumberOfChannels": "3"}
        content = metaimage(rgb, **fields)
    first = load(tmp_path / "a", content)[0]
    assert first.photometric == "RGB"
    np.testing.assert_array_equal(first.values, rgb[:, :, :, 0].T)
    assert first.spacing_mm is None  # nothing is invented where the file does not say


@pytest.mark.parametrize("write", [nrrd_file, metaimage])
def test_data_beside_the_header_are_read_from_its_own_folder_only(
    tmp_path: Path, write: Callable[..., bytes]
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for place in (folder / "voxels.raw", tmp_path / "secret.raw"):
        place.write_bytes(BODY.tobytes(order="F"))
    (folder / "link.raw").symlink_to(tmp_path / "secret.raw")
    header = folder / f"header.{'nrrd' if write is nrrd_file else 'mhd'}"
    found = load(header, write(BODY, data="voxels.raw"))
    np.testing.assert_array_equal(found[0].values, BODY[:, :, 0].T)
    for name in ("../secret.raw", str(tmp_path / "secret.raw"), "link.raw", "..\\secret.raw"):
        error = refusal(header, write(BODY, data=name))
        assert error.reason is Reason.UNSUPPORTED
        assert "outside" in error.detail
    assert refusal(header, write(BODY, data="gone.raw")).reason is Reason.VANISHED
    os.truncate(folder / "voxels.raw", 100)
    assert refusal(header, write(BODY, data="voxels.raw") + b"\n").reason is Reason.TRUNCATED


@pytest.mark.parametrize(
    "content",
    [
        nrrd_file(BODY)[:-1],
        nrrd_file(BODY, packing="gzip")[:-20],
        metaimage(BODY)[:-1],
        metaimage(BODY, packed=True)[:-9],
        metaimage(BODY)[: metaimage(BODY).index(b"ElementType")],
    ],
)
def test_a_file_that_ends_too_early_is_truncated(tmp_path: Path, content: bytes) -> None:
    assert refusal(tmp_path / "a", content).reason is Reason.TRUNCATED


HUGE = "30000 30000 30000"


@pytest.mark.parametrize(
    ("content", "reason", "words"),
    [
        (nrrd_file(BODY, sizes=HUGE), Reason.TOO_LARGE, "GiB"),
        (metaimage(BODY, packed=True, DimSize=HUGE), Reason.TOO_LARGE, "GiB"),
        (nrrd_file(BODY, sizes="3 4"), Reason.CORRUPT, "axes"),
        (nrrd_file(BODY, sizes="3 4 -5"), Reason.CORRUPT, "without voxels"),
        (metaimage(BODY, DimSize="3 4"), Reason.CORRUPT, "axes"),
        (metaimage(BODY, DimSize="3 4 0"), Reason.CORRUPT, "without voxels"),
        (metaimage(BODY, DimSize="3 4 many"), Reason.CORRUPT, "ValueError"),
        (nrrd_file(BODY, type="block"), Reason.UNSUPPORTED, "number"),
        (metaimage(BODY, ElementType="MET_STRING"), Reason.UNSUPPORTED, "number"),
        (nrrd_file(BODY, encoding="text"), Reason.UNSUPPORTED, "text"),
        (nrrd_file(BODY, byte_skip="9"), Reason.UNSUPPORTED, "gap"),
        (metaimage(BODY, BinaryData="False"), Reason.UNSUPPORTED, "text"),
        (metaimage(BODY, HeaderSize="-1"), Reason.UNSUPPORTED, "gap"),
        (nrrd_file(BODY, kinds="vector domain domain"), Reason.UNSUPPORTED, "vectors"),
        (metaimage(BODY, ElementNumberOfChannels="2"), Reason.UNSUPPORTED, "vectors"),
        (metaimage(BODY, data="LIST"), Reason.UNSUPPORTED, "several"),
        (metaimage(BODY, data="slice%03d.raw 1 9 1"), Reason.UNSUPPORTED, "several"),
        (nrrd_file(BODY, spacings="1 inf 1"), Reason.CORRUPT, "no number"),
        (nrrd_file(BODY, spacings="0 1 1"), Reason.CORRUPT, "lacks an axis"),
        (nrrd_file(BODY, spacings="1e-200 1 1"), Reason.CORRUPT, "lacks an axis"),
        (nrrd_file(BODY, spacings="1e160 1 1"), Reason.CORRUPT, "beyond 1 km"),
        (nrrd_file(BODY, spacings="1 1e308 1", space_units='"m" "m" "m"'), Reason.CORRUPT, "1 km"),
        (
            nrrd_file(BODY, space="lps", space_directions="(1,0,0) (2,0,0) (0,0,1)"),
            Reason.CORRUPT,
            "lacks an axis",
        ),
        (metaimage(BODY, ElementSpacing="1e-200 1 1"), Reason.CORRUPT, "lacks an axis"),
        (metaimage(BODY, ElementSpacing="-1e308 1 1", DistanceUnits="m"), Reason.CORRUPT, "1 km"),
        (metaimage(BODY, ElementSpacing="nan 1 1"), Reason.CORRUPT, "no number"),
        (metaimage(BODY, ElementSpacing="1 1"), Reason.CORRUPT, "axes"),
        (nrrd_file(BODY, spacings="1 1 1", space_origin="(0,nan,0)"), Reason.CORRUPT, "no number"),
        (nrrd_file(BODY, spacings="1 1 1", space_origin="(0,0,-2e6)"), Reason.CORRUPT, "1 km"),
        (nrrd_file(BODY, spacings="1 1 1", space_origin="(0,0)"), Reason.CORRUPT, "other axes"),
        (metaimage(BODY, ElementSpacing="1 1 1", Offset="0 inf 0"), Reason.CORRUPT, "no number"),
        (metaimage(BODY, ElementSpacing="1 1 1", Position="0 0 2e6"), Reason.CORRUPT, "1 km"),
        (metaimage(BODY, ElementSpacing="1 1 1", Origin="0 0"), Reason.CORRUPT, "axes"),
        (metaimage(BODY, ElementSpacing="1 1 1", Offset="0 0 x"), Reason.CORRUPT, "ValueError"),
        (nrrd_file(BODY, space_directions="(1,0) (0,1) none"), Reason.UNSUPPORTED, "other axes"),
        (b"NRRD0005\nno field\n\n", Reason.CORRUPT, "Error"),
        (b"NRRD0005\ntype: short\n\n", Reason.CORRUPT, "without sizes"),
        (b"NRRD0005\n" + b"# \n" * (1 << 19), Reason.CORRUPT, "without end"),
        (b"NDims = 1\nDimSize = 1\nElementDataFile = LOCAL\n", Reason.CORRUPT, "ElementType"),
        (b"NDims = 1\nDimSize = 1\n" + b"Comment = 9\n" * 6000, Reason.TRUNCATED, "header"),
        (b"Comment = hello\nworld\n", Reason.NOT_AN_IMAGE, "no known"),
        (b"ObjectType = Tube\nNDims = 3\nDimSize = 1\n", Reason.NOT_AN_IMAGE, "no known"),
        (nrrd_file(BODY, data="LIST"), Reason.UNSUPPORTED, "several"),
        (nrrd_file(BODY, data="a%03d.raw 1 6 1"), Reason.UNSUPPORTED, "several"),
        (metaimage(BODY, data="LIST 2"), Reason.UNSUPPORTED, "several"),
        (nrrd_file(BODY, space_directions="none (1,0,0) (0,1,0)"), Reason.UNSUPPORTED, "axes"),
        (nrrd_file(BODY, spacings="nan 1 1"), Reason.UNSUPPORTED, "axes"),
        (nrrd_file(np.zeros((1, 1, 200, 600), np.uint8)), Reason.TOO_LARGE, "slices"),
    ],
)
def test_a_header_that_makes_no_sense_is_set_aside(
    tmp_path: Path, content: bytes, reason: Reason, words: str
) -> None:
    error = refusal(tmp_path / "a", content)
    assert (error.reason, words in error.detail) == (reason, True), error.detail


@pytest.mark.parametrize(
    ("axes", "words"),
    [
        (np.diag([1, 1, np.nan]), "no number"),
        (np.diag([1, 1, 1e300]), "no number"),
        (np.diag([1, 1, 1e-200]), "lacks an axis"),
        (np.array([[1, 2, 0], [1, 2, 0], [0, 0, 1]]), "lacks an axis"),
    ],
)
def test_a_manifest_with_axes_that_are_none_gives_a_typed_error(
    tmp_path: Path, axes: NDArray[np.float64], words: str
) -> None:
    affine = np.eye(4)
    affine[:3, :3] = axes
    with pytest.raises(UnreadableFileError, match=words):
        turned(tmp_path / "a", np.zeros((2, 3, 4)), Geometry(affine, 0, 0.0, 0.0))


def test_a_header_may_begin_otherwise_and_planes_are_volumes_of_one_slice(tmp_path: Path) -> None:
    content = metaimage(BODY[:, :, 0]).removeprefix(b"ObjectType = Image\n")
    (decoded,) = load(tmp_path / "a", content)
    np.testing.assert_array_equal(decoded.values, BODY[:, :, 0].T)
    (plane,) = load(tmp_path / "b", nrrd_file(BODY[:, :, 0], spacings="2.0 3.0"))
    np.testing.assert_array_equal(plane.values, BODY[:, :, 0].T)


def test_the_row_of_a_slice_holds_no_word_of_the_header(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(nrrd_file(BODY, content="Jane Doe", **{"owner:": "Jane Doe"}))
    outcome = read_file(tmp_path, Found("a", "stamp"), SiteKey(b"k"))
    assert len(outcome.rows) == 5
    assert "Jane" not in repr(outcome)


@pytest.mark.parametrize("word", ["True", "T", "true", "1"])
def test_switches_of_a_metaimage_are_read_by_their_first_letter(tmp_path: Path, word: str) -> None:
    for packed, kind in ((True, "<i2"), (False, ">i2")):
        field = "CompressedData" if packed else "BinaryDataByteOrderMSB"
        content = metaimage(BODY.astype(kind), packed=packed, **{field: word, "BinaryData": word})
        np.testing.assert_array_equal(load(tmp_path / "a", content)[0].values, BODY[:, :, 0].T)


def test_distances_in_other_units_become_millimetres(tmp_path: Path) -> None:
    affine = np.diag([-500.0, -500.0, 2000.0, 1.0])
    affine[:3, 3] = -9000, -8000, 7000  # in RAS; to the right and the front are 9 and 8 in LPS
    units = " ".join(['"um"'] * 3)
    directions = "(500,0,0) (0,500,0) (0,0,2000)"
    places = {"space": "lps", "space_origin": "(9000,8000,7000)", "space_units": units}
    about = {"ElementSpacing": "500 500 2000", "Offset": "9000 8000 7000", "DistanceUnits": "um"}
    for content in (
        nifti(BODY, affine, xyzt_units=3),
        nrrd_file(BODY, space_directions=directions, **places),
        nrrd_file(BODY, spacings="500 500 2000", units=units, space_origin="(9000,8000,7000)"),
        metaimage(BODY, **about),
    ):
        first = load(tmp_path / "a", content)[0]
        assert plane_of(first) == pytest.approx([9, 8, 7, 1, 0, 0, 0, 1, 0])
        assert first.spacing_mm == pytest.approx((0.5, 0.5))
        assert first.spacing_slice_mm == pytest.approx(2.0)


def test_a_plane_in_a_space_of_its_own_and_one_without_thickness_are_read(tmp_path: Path) -> None:
    plane = BODY[:, :, 0]
    (found,) = load(tmp_path / "a", nrrd_file(plane, space_directions="(2,0) (0,3)"))
    np.testing.assert_array_equal(found.values, plane.T)
    content = bytearray(nifti(plane[..., None], np.diag([-2.0, -3.0, 1.0, 1.0])))
    content[252:256] = bytes(4)  # neither qform nor sform: the sizes of the voxels alone
    content[88:92] = bytes(4)  # of which the third is 0
    content[108:112] = bytes(4)  # and the data begin where they usually do
    (found,) = load(tmp_path / "b", bytes(content))
    assert found.values.shape == (4, 3)
    assert found.spacing_mm == pytest.approx((3.0, 2.0))


def test_images_without_content_are_no_copies_of_each_other(tmp_path: Path) -> None:
    voxels = BODY.copy()
    voxels[:, :, 0] = voxels[:, :, 4] = 0
    (tmp_path / "a").write_bytes(nrrd_file(voxels))
    rows = read_file(tmp_path, Found("a", "stamp"), SiteKey(b"k")).rows
    assert [row["content"] is None for row in rows] == [True, False, False, False, True]
