"""What slides say in XML of the size of their pixels: Philips' scanners, and OME-TIFF.

Source:
    OpenSlide, "Philips format", openslide.org/formats/philips; The OME Consortium, "OME-TIFF
    specification" and schema 2016-06, docs.openmicroscopy.org/ome-model.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from medssl.sources.xml_text import parse_xml

_SCANNED = './/DataObject[@ObjectType="DPScannedImage"]'
_KIND = 'Attribute[@Name="PIM_DP_IMAGE_TYPE"]'
_LEVEL = './/DataObject[@ObjectType="PixelDataRepresentation"]/'
_SPACING = 'Attribute[@Name="DICOM_PIXEL_SPACING"]'
_MICRO = "\u00b5m"  # as the schema has it; some write the Greek letter
_MICRONS = {"m": 1e6, "cm": 1e4, "mm": 1e3, _MICRO: 1.0, "\u03bcm": 1.0, "nm": 1e-3}
_NUMBER = re.compile(r"(?:\d{1,9}(?:\.\d{0,30})?|\.\d{1,30})(?:[eE][+-]?\d{1,2})?")
_BESIDE = re.compile(r"\s*(label|macro|overview|thumbnail)( image)?\s*", re.IGNORECASE)


def philips_pixel(path: Path, text: str) -> tuple[float, float] | None:
    """Return the sides of a pixel in a description of Philips' scanners, um, down and across.

    Those of the finest level; where levels say none, of the image. Never of the pictures of the
    glass, which say theirs too.

    Raises:
        IngestError: A description that is not harmless.
    """
    root = _root(path, text)
    for way in (_LEVEL + _SPACING, _SPACING):
        if found := [*_spacings(root, way)]:
            return min(found)
    return None


def _spacings(root: Element, way: str) -> Iterator[tuple[float, float]]:
    for image in root.iterfind(_SCANNED):
        if image.findtext(_KIND, "WSI").strip() != "WSI":
            continue
        for each in image.iterfind(way):
            words = (each.text or "")[:200].replace('"', " ").split()
            if len(words) == 2 and all(map(_NUMBER.fullmatch, words)):
                yield 1000 * float(words[0]), 1000 * float(words[1])


def ome_pixel(path: Path, text: str) -> tuple[float, float] | None:
    """Return the sides of a pixel of the first image in OME-XML, um, down and across.

    Raises:
        IngestError: A description that is not harmless.
    """
    pixels = _root(path, text).find("{*}Image/{*}Pixels")
    if pixels is None:
        return None
    across, down = (_physical(pixels, f"PhysicalSize{axis}") for axis in "XY")
    return (down or across, across) if across else None


def ome_pictures(path: Path, text: str) -> set[int]:
    """Return the pages that OME-XML names as label, macro picture and the like.

    Raises:
        IngestError: A description that is not harmless.
    """
    return {
        int(page)
        for image in _root(path, text).iterfind("{*}Image")
        if _BESIDE.fullmatch(image.get("Name", ""))
        for data in image.iterfind("{*}Pixels/{*}TiffData")
        if (page := data.get("IFD", "0")).isdecimal()
    }


def _physical(pixels: Element, name: str) -> float | None:
    """Return a length in um; None if there is none, or in a unit that is no length."""
    number = _NUMBER.fullmatch(pixels.get(name, ""))
    unit = _MICRONS.get(pixels.get(name + "Unit", _MICRO))
    return float(number[0]) * unit if number and unit else None


def _root(path: Path, text: str) -> Element:
    """Return the root; of a description that is no XML, one that says nothing."""
    try:
        return parse_xml(path, text)
    except ParseError:
        return Element("nothing")
