"""Read what atheris makes of the files in a folder, as a scan does; see `fuzz_images.py`.

Run: python benchmarks/fuzz_reader.py FOUND CORPUS [option of libFuzzer ...]
"""

import re
import sys
import tempfile
from pathlib import Path

import atheris  # type: ignore[import-not-found]
import checkout  # noqa: F401 - the packages of this checkout, before any that are installed

with atheris.instrument_imports(include=["medssl.sources", "pydicom", "nibabel", "tifffile"]):
    from medssl.identity import SiteKey
    from medssl.scanning.walk import Found
    from medssl.scanning.worker import read_file

_MEMORY = Path("/dev/shm")


def main() -> None:
    """Fuzz until the time is over; does not return."""
    found = Path(sys.argv[1])
    scratch = Path(tempfile.mkdtemp(dir=_MEMORY if _MEMORY.is_dir() else None))
    key = SiteKey(b"k")

    def read(content: bytes) -> None:
        (scratch / "a").write_bytes(content)
        aside = read_file(scratch, Found("a", "stamp"), key).aside
        if aside is not None and aside.reason == "reader_bug":
            (found / f"bug-{re.sub(r'[^0-9A-Za-z.]+', '_', aside.detail)}").write_bytes(content)

    atheris.Setup([__file__, *sys.argv[2:]], read)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
