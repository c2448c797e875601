"""DICOMDIR: the list of the files on a medium. A hint only: nothing that it names is looked at.

It is searched for names of files, byte by byte. Offsets from record to record, which may lead in
circles, are not followed, and sequences are not read, so that no list is too deep or too long.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from medssl.sources.local import local_file
from medssl.sources.reading import reading

DICOMDIR = "1.2.840.10008.1.3.10"  # SOP class, which stands in the file meta information only
DETAIL = "a DICOMDIR, which lists files and holds no image"
MOST_BYTES = 1 << 26  # of one list that are looked at; about 200,000 files
# (0004,1500), Referenced File ID, and the length of its value: explicit VR, little and big endian,
# and implicit VR. Lengths beyond 16 bit are none.
_FILE_ID = re.compile(
    rb"\x04\0\0\x15(?:CS(?P<little>..)|(?P<plain>..)\0\0)|\0\x04\x15\0CS(?P<big>..)", re.DOTALL
)
_PADDING = b" \0"
# A folder or file is called by printed ASCII without the signs of paths. No name is empty or begins
# with a dot, so that no path leads up, or is absolute.
_NAME = re.compile(rb"(?![. ~])[^\0-\x1f\x7f-\xff/:]+")


def listed_files(path: Path) -> Iterator[str]:
    """Give the files that a DICOMDIR lists, relative to its folder, always below it.

    Raises:
        IngestError: It cannot be read.

    Source:
        DICOM PS3.3, F.3 (records); PS3.10, 8.2 and 8.5 (names of files).
    """
    with local_file(path) as local, reading(path, "file"), local.open("rb") as file:
        content = file.read(MOST_BYTES)
    for found in _FILE_ID.finditer(content):
        is_big = found["big"] is not None
        length = int.from_bytes(b"".join(found.groups(b"")), "big" if is_big else "little")
        value = content[found.end() : found.end() + length]
        names = [name.strip(_PADDING) for name in value.split(b"\\")]
        if len(value) == length and all(map(_NAME.fullmatch, names)):
            yield b"/".join(names).decode("ascii")
