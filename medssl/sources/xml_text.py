"""XML in the description of a file, which damage or malice can make anything."""

from pathlib import Path
from xml.etree.ElementTree import Element, fromstring

from medssl.errors import Reason, TooLargeError, UnreadableFileError

_CHARACTERS = 32 << 20  # Philips' scanners put pictures of the glass into theirs
_TAGS = 1_000_000  # beginnings and ends; each element takes some hundred bytes of memory


def require_harmless(path: Path, text: str) -> None:
    """Raise if a description could name other files, or grow while it is parsed.

    Raises:
        UnreadableFileError: Entities of its own, or a type of document.
        TooLargeError: More text or elements than any slide has.
    """
    if len(text) > _CHARACTERS or text.count("<") > _TAGS:
        raise TooLargeError(path, Reason.TOO_LARGE, "a description larger than a slide needs")
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise UnreadableFileError(path, Reason.CORRUPT, "a description with entities of its own")


def parse_xml(path: Path, text: str) -> Element:
    """Return the root of a description.

    Raises:
        IngestError: As `require_harmless`.
        ParseError: It is no XML.
    """
    require_harmless(path, text)
    return fromstring(text)
