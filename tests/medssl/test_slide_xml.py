"""Slides in TIFF: microns per pixel in XML, of Philips' scanners and OME, and XML of ill will."""

from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from medssl.errors import IngestError, Reason
from medssl.sources.cut import Cut
from medssl.sources.slide import is_slide, open_slide
from medssl.sources.slide_xml import ome_pixel, philips_pixel
from medssl.sources.xml_text import parse_xml
from tests.medssl.test_slide_levels import BLACK, COMMON, TILED, other, shrunk
from tests.medssl.test_slides import SECRET, specimen

Pixels = NDArray[np.uint8]
PATH = Path("a.tiff")
LAUGHS = '<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb"><!ENTITY c "&b;&b;&b;&b;&b;&b;">]>'
SCHEMA = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
MICRO = "\u00b5m"


def attribute(name: str, value: str) -> str:
    return f'<Attribute Name="{name}" Group="0x0028" PMSVR="IString">{value}</Attribute>'


def spacing(down: object, across: object) -> str:
    return attribute("DICOM_PIXEL_SPACING", f"&quot;{down}&quot; &quot;{across}&quot;")


def philips_image(*levels: str, kind: str | None = "WSI", own: str = "") -> str:
    """Return the description of an image: spacings of its levels, and its own."""
    parts = "".join(
        f'<DataObject ObjectType="PixelDataRepresentation">{level}</DataObject>' for level in levels
    )
    told = attribute("PIM_DP_IMAGE_TYPE", kind) if kind else ""
    sequence = f'<Attribute Name="PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE"><Array>{parts}</Array>'
    return f'<DataObject ObjectType="DPScannedImage">{told}{own}{sequence}</Attribute></DataObject>'


def philips(*images: str, before: str = "") -> str:
    return (
        f'<?xml version="1.0" encoding="UTF-8" ?>{before}<DataObject ObjectType="DPUfsImport">'
        f"{attribute('PIM_DP_UFS_BARCODE', SECRET)}"
        f'<Attribute Name="PIM_DP_SCANNED_IMAGES"><Array>{"".join(images)}</Array></Attribute>'
        "</DataObject>"
    )


def write_philips(path: Path, description: str) -> Path:
    """Write a slide whose second level is filled up to whole tiles, and a macro picture."""
    picture = specimen(500, 630)
    padded = np.full((256, 320, 3), 255, np.uint8)
    padded[:250, :315] = shrunk(picture, 2)
    with tifffile.TiffWriter(path) as file:
        software = {"software": "Philips DP v1.0"}
        file.write(picture, description=description, **TILED, **software)
        file.write(padded, description="level=1 mag=20", **TILED, **software)
        file.write(BLACK, description="Macro", **COMMON, **software)
        file.write(BLACK, description="Label", **COMMON, **software)
    return path


LEVELS = (spacing(0.0005, 0.0005), spacing(0.001, 0.001))


def test_the_microns_of_a_slide_of_philips_are_those_of_its_finest_level(tmp_path: Path) -> None:
    macro = philips_image(spacing(0.0003, 0.0003), kind="MACROIMAGE", own=spacing(0.06, 0.06))
    path = write_philips(tmp_path / "a.tiff", philips(macro, philips_image(*LEVELS)))
    with tifffile.TiffFile(path) as file:
        assert file.is_philips
    with open_slide(path, Cut(96, 0.5)) as slide:
        assert slide.mpp == 0.5
        np.testing.assert_array_equal(slide.tile(1, 2), specimen(500, 630)[96:192, 192:288])


def test_levels_of_a_slide_of_philips_are_cut_to_what_they_show(tmp_path: Path) -> None:
    path = write_philips(tmp_path / "a.tiff", philips(philips_image(*LEVELS, kind=None)))
    with open_slide(path, Cut(96, 0.5)) as slide:
        assert [(level.rows, level.columns) for level in slide.levels] == [(500, 630), (250, 315)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (philips(philips_image(*LEVELS)), (0.5, 0.5)),
        (philips(philips_image(*LEVELS[::-1])), (0.5, 0.5)),
        (philips(philips_image(spacing("2.26891E-4", 0.000226907))), (0.226891, 0.226907)),
        (philips(philips_image(own=spacing(0.00025, 0.00025))), (0.25, 0.25)),
        (philips(philips_image(*LEVELS, kind="LABELIMAGE")), None),
        (philips(philips_image(spacing("nan", "inf"), spacing(-1, "1_0"))), None),
        (philips(philips_image(attribute("DICOM_PIXEL_SPACING", "&quot;0.1&quot;"))), None),
        (philips(), None),
        ("<DataObject", None),
        ("", None),
    ],
)
def test_spacings_of_philips_are_understood_or_passed_over(
    text: str, expected: tuple[float, float] | None
) -> None:
    found = philips_pixel(PATH, text)
    assert found is None if expected is None else found == pytest.approx(expected)


def ome(*images: str, before: str = "") -> str:
    root = f'<?xml version="1.0" encoding="UTF-8"?>{before}<OME xmlns="{SCHEMA}">'
    return f"{root}{''.join(images)}</OME>"


def ome_image(sizes: str, *, name: str = "a", data: str = 'IFD="0"', uuid: str = "") -> str:
    axes = 'DimensionOrder="XYCZT" SizeX="640" SizeY="512" SizeC="3" SizeZ="1" SizeT="1"'
    channel = '<Channel ID="Channel:0:0" SamplesPerPixel="3"/>'
    pixels = f'<Pixels ID="Pixels:0" Type="uint8" {axes} {sizes}>{channel}'
    planes = f"<TiffData {data}>{uuid}</TiffData>"
    return f'<Image ID="Image:0" Name="{name}">{pixels}{planes}</Pixels></Image>'


def physical(across: object, down: object | None = None, unit: str | None = MICRO) -> str:
    units = f' PhysicalSizeXUnit="{unit}" PhysicalSizeYUnit="{unit}"' if unit else ""
    second = f' PhysicalSizeY="{down}"' if down is not None else ""
    return f'PhysicalSizeX="{across}"{second}{units}'


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        (physical(0.25, 0.5), (0.5, 0.25)),
        (physical(0.25), (0.25, 0.25)),
        (physical(0.25, 0.25, None), (0.25, 0.25)),  # the unit that the schema takes then
        (physical(0.25, 0.25, "\u03bcm"), (0.25, 0.25)),
        (physical(250, 250, "nm"), (0.25, 0.25)),
        (physical("2.5E-4", 0.00025, "mm"), (0.25, 0.25)),
        (physical(0.25, 0.25, "pixel"), None),
        (physical("nan", 0.25), None),
        (physical("many", 0.25), None),
        ("", None),
    ],
)
def test_sizes_in_ome_xml_are_understood_or_passed_over(
    sizes: str, expected: tuple[float, float] | None
) -> None:
    found = ome_pixel(PATH, ome(ome_image(sizes)))
    assert found is None if expected is None else found == pytest.approx(expected)


def write_ome(path: Path, description: str, *more: tuple[Pixels, dict[str, Any]]) -> Path:
    picture = specimen()
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        file.write(picture, description=description.encode(), subifds=1, **TILED)
        file.write(shrunk(picture, 2), subfiletype=1, **TILED)
        for page, options in more:
            file.write(page, **{**TILED, **options})
    return path


def test_an_ome_tiff_is_of_the_microns_per_pixel_that_its_xml_says(tmp_path: Path) -> None:
    path = write_ome(tmp_path / "a.ome.tiff", ome(ome_image(physical(0.5, 0.5))))
    assert is_slide(path, "tiff")
    with open_slide(path, Cut(64, 0.5)) as slide:
        assert slide.mpp == 0.5
        assert [level.factor for level in slide.levels] == [1, 2]
        np.testing.assert_array_equal(slide.tile(2, 3), specimen()[128:192, 192:256])


@pytest.mark.parametrize("by", [2, 5, 8])
def test_levels_below_a_page_count_by_whatever_they_are_smaller(tmp_path: Path, by: int) -> None:
    picture = specimen(640, 640)
    with tifffile.TiffWriter(tmp_path / "a.tiff") as file:
        description = ome(ome_image(physical(0.5, 0.5))).encode()
        file.write(picture, description=description, subifds=1, **TILED)
        file.write(shrunk(picture, by), subfiletype=1, **TILED)
    assert is_slide(tmp_path / "a.tiff", "tiff")
    with open_slide(tmp_path / "a.tiff", Cut(64, 0.5)) as slide:
        assert [level.factor for level in slide.levels] == [1, by]


def test_scenes_in_an_ome_tiff_are_told_from_its_label(tmp_path: Path) -> None:
    """However large the page is that the XML names so."""
    slide_itself = ome_image(physical(0.5, 0.5))
    page = other(500, 300), {}
    for name, is_refused in (("label image", False), ("Macro", False), ("scene 2", True)):
        text = ome(slide_itself, ome_image(physical(9, 9), name=name, data='IFD="1"'))
        path = write_ome(tmp_path / "a.ome.tiff", text, page)
        if is_refused:
            with pytest.raises(IngestError, match="several slides"), open_slide(path, Cut(64, 0.5)):
                pass
        else:
            with open_slide(path, Cut(64, 0.5)) as slide:
                assert len(slide.levels) == 2


def test_pixels_that_are_not_square_are_refused(tmp_path: Path) -> None:
    path = write_ome(tmp_path / "a.ome.tiff", ome(ome_image(physical(0.5, 0.52))))
    with pytest.raises(IngestError, match="not square") as caught, open_slide(path, Cut(64, 0.5)):
        pass
    assert caught.value.reason == Reason.UNSUPPORTED


def test_other_files_and_sizes_that_ome_xml_names_are_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name may lead anywhere, and the pages of a number of planes would be made in memory."""
    elsewhere = f'<UUID FileName="{tmp_path}/elsewhere.tiff">urn:uuid:1</UUID>'
    data = 'IFD="0" PlaneCount="1000000000000"'
    described = ome_image(physical(0.5, 0.5), data=data, uuid=elsewhere)
    beyond = ome_image(physical(0.5, 0.5), data=data)
    tifffile.imwrite(tmp_path / "elsewhere.tiff", BLACK, **TILED)
    opened: list[Path] = []

    class Spy(tifffile.FileHandle):
        def __init__(self, file: Any, *about: Any, **more: Any) -> None:
            opened.append(Path(file))
            super().__init__(file, *about, **more)

    path = write_ome(tmp_path / "a.ome.tiff", ome(described, beyond))
    monkeypatch.setattr(tifffile.tifffile, "FileHandle", Spy)
    with open_slide(path, Cut(64, 0.5)) as slide:
        assert slide.mpp == 0.5
    assert opened == [path]


@pytest.mark.parametrize("maker", ["philips", "ome"])
def test_xml_with_entities_of_its_own_is_never_parsed(tmp_path: Path, maker: str) -> None:
    if maker == "philips":
        text = philips(philips_image(*LEVELS), before=LAUGHS)
        path = write_philips(tmp_path / "a.tiff", text)
    else:
        path = write_ome(tmp_path / "a.tiff", ome(ome_image(physical(0.5)), before=LAUGHS))
    with pytest.raises(IngestError, match="entities") as caught, open_slide(path, Cut(64, 0.5)):
        pass
    assert caught.value.reason == Reason.CORRUPT


@pytest.mark.parametrize("text", ["<a>" * 1_000_001, "<a>" + " " * (32 << 20) + "</a>"])
def test_xml_larger_than_a_slide_needs_is_refused_unparsed(text: str) -> None:
    with pytest.raises(IngestError) as caught:
        parse_xml(PATH, text)
    assert caught.value.reason == Reason.TOO_LARGE


def test_xml_within_the_limits_is_parsed() -> None:
    assert parse_xml(PATH, "<a><b>1</b></a>").findtext("b") == "1"
    with pytest.raises(ParseError):
        parse_xml(PATH, "<a><b>1</a>")
