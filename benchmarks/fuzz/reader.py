"""Read what atheris makes of the files in a folder, as a scan does; see `images.py`.

Run: python benchmarks/fuzz/reader.py FORMAT FOUND CORPUS [option of libFuzzer ...]
"""

import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import above  # noqa: F401
import atheris  # type: ignore[import-not-found]
import checkout  # noqa: F401 - the packages of this checkout, before any that are installed

_READERS = ["medssl.sources", "medssl.masks", "pydicom", "nibabel", "tifffile"]
with atheris.instrument_imports(include=_READERS):
    from medssl.errors import IngestError
    from medssl.identity import SiteKey
    from medssl.masks.read import MaskReader
    from medssl.scanning.walk import Found
    from medssl.scanning.worker import place_of, read_file
    from tests.medssl.test_masks_fuzz import masked_images
    from tests.medssl.test_mirax_slides import small_slide

_MEMORY = Path("/dev/shm")
_KEY = SiteKey(b"k")

Read = Callable[[bytes], Iterator[str]]  # where it failed in a way that is not foreseen


def main() -> None:
    """Fuzz until the time is over; does not return."""
    name, found = sys.argv[1], Path(sys.argv[2])
    scratch = Path(tempfile.mkdtemp(dir=_MEMORY if _MEMORY.is_dir() else None))
    kind, _, what = name.partition(" ")
    read = {"mirax": _slide_part, "mask": _mask}.get(kind, _image)(scratch, what)

    def keep_bugs(content: bytes) -> None:
        for bug in read(content):
            (found / f"bug-{re.sub(r'[^0-9A-Za-z.]+', '_', bug)}").write_bytes(content)

    atheris.Setup([__file__, *sys.argv[3:]], keep_bugs)
    atheris.Fuzz()


def _image(folder: Path, _: str) -> Read:
    return lambda content: _scan(folder, "a", folder / "a", content)


def _slide_part(folder: Path, part: str) -> Read:
    small_slide().write(folder)
    return lambda content: _scan(folder, "a.mrxs", folder / "a" / part, content)


def _mask(folder: Path, name: str) -> Read:
    images, path = masked_images(folder, name)

    def read(content: bytes) -> Iterator[str]:
        yield from _scan(path.parent, path.name, path, content)
        reader = MaskReader(images, (), binary=False)
        for row in range(len(images)):
            try:
                with suppress(IngestError):
                    reader.values(row)
            except Exception as error:  # noqa: BLE001 - what this looks for
                yield place_of(error)

    return read


def _scan(root: Path, name: str, path: Path, content: bytes) -> Iterator[str]:
    path.write_bytes(content)
    aside = read_file(root, Found(name, "stamp"), _KEY).aside
    if aside is not None and aside.reason == "reader_bug":
        yield aside.detail


if __name__ == "__main__":
    main()
