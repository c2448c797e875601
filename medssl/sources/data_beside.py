"""Headers of volumes whose data are in a file beside them: which file that is.

Such headers go by their names, so that a walk through a folder, which opens nothing else, sees
when their data change.
"""

import os
import re
from pathlib import Path, PurePath

from medssl.errors import Reason, UnreadableFileError, UnsupportedImageError

_HEADER_BYTES = 1 << 20  # in which a header ends
_NAMED = (".mhd", ".mha", ".nhdr", ".nrrd")  # headers that name the file
_NAME = re.compile(
    rb"^[ \t]*(?:ElementDataFile[ \t]*=|data ?file[ \t]*:=?)[ \t]*([^\r\n]+)", re.MULTILINE
)
_BLANK = re.compile(rb"\r?\n\r?\n")  # after the header of an NRRD file
_PAIR = ".hdr"  # of NIfTI, with its data in .img
_ZIPPED = ".gz"


def require_data(path: Path, name: str) -> Path:
    """Return the file that a header names.

    Raises:
        UnsupportedImageError: The name leads out of the folder or to more than one file, or the
            header's own name does not tell that its data are elsewhere.
        UnreadableFileError: There is no such file.
    """
    if name.upper().startswith("LIST") or "%" in name:
        raise UnsupportedImageError(path, Reason.UNSUPPORTED, "data in several files")
    data = path.parent / name
    if PurePath(name).name != name or "\\" in name or data.is_symlink():
        detail = "data outside of the folder of the header"
        raise UnsupportedImageError(path, Reason.UNSUPPORTED, detail)
    if not data.is_file():
        detail = "the data, in a file beside the header, are not there"
        raise UnreadableFileError(path, Reason.VANISHED, detail)
    if not (_is_named(path.name) or _is_pair(path.name)):
        detail = f"a header without its data; it needs a name in {', '.join((*_NAMED, _PAIR))}"
        raise UnsupportedImageError(path, Reason.UNSUPPORTED, detail)
    return data


def require_img(path: Path) -> Path:
    """Return the file with the data of a NIfTI header in a file of its own: `.img`, `.img.gz`.

    Raises:
        UnsupportedImageError: The header's name does not end in `.hdr` or `.hdr.gz`.
        UnreadableFileError: There is no such file.
    """
    if not _is_pair(path.name):
        detail = "a NIfTI header without its data; its name has to end in .hdr, theirs in .img"
        raise UnsupportedImageError(path, Reason.UNSUPPORTED, detail)
    names = _img_names(path.name)
    there = next((name for name in names if (path.parent / name).is_file()), names[0])
    return require_data(path, there)


def data_beside(place: str) -> list[str]:
    """Return the files in which a header may have its data; none for any other file.

    Args:
        place: Path of a file. One that cannot be read has none.
    """
    folder, slash, name = place.rpartition("/")
    if _is_pair(name):
        return [f"{folder}{slash}{each}" for each in _img_names(name)]
    if not _is_named(name):
        return []
    try:
        with Path(place).open("rb") as file:
            head = file.read(_HEADER_BYTES)
    except OSError:
        return []  # the reader says what is wrong with it
    if head.startswith(b"NRRD"):
        head = _BLANK.split(head, maxsplit=1)[0]
    found = _NAME.search(head)
    data = os.fsdecode(found[1].strip()) if found else ""
    return [f"{folder}{slash}{data}"] if data and PurePath(data).name == data else []


def _is_named(name: str) -> bool:
    return name.lower().endswith(_NAMED)


def _is_pair(name: str) -> bool:
    return name.lower().removesuffix(_ZIPPED).endswith(_PAIR)


def _img_names(header: str) -> list[str]:
    stem = header[: header.lower().rindex(_PAIR)]
    ending = ".IMG" if header[len(stem) :].isupper() else ".img"
    return [f"{stem}{ending}", f"{stem}{ending}.gz"]
