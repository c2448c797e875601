"""Text files as blocks of whole lines, so that no file has to fit into memory."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from recssl.errors import LogError

BLOCK_BYTES = 16 << 20
_LONGEST = 8  # blocks without the end of a record: an open quote, or no text at all
_BOM = b"\xef\xbb\xbf"
_WIDE_BOMS = (b"\xff\xfe", b"\xfe\xff")


def read_blocks(path: Path, *, quotes: bool = False, size: int = BLOCK_BYTES) -> Iterator[bytes]:
    """Yield a text file, plain, `.gz` or `.zst`, in blocks that end with a newline.

    Args:
        path: The name's end decides about compression.
        quotes: A newline between double quotes does not end a line.
        size: Bytes, about, after decompression.

    Raises:
        LogError: The file is cut off, not text, or a quote in it is never closed.
    """
    rest = b""
    first = True
    for chunk in _chunks(path, size):
        if first:
            if chunk.startswith(_WIDE_BOMS):
                raise LogError(f"{path} is UTF-16; save it as UTF-8")
            chunk = chunk.removeprefix(_BOM)  # noqa: PLW2901
            first = False
        data = rest + chunk
        end = _last_end(data, quotes=quotes)
        if end == 0 and len(data) > _LONGEST * size:
            raise LogError(f"{path}: {len(data)} bytes without an end of line; is it a text file?")
        rest = data[end:]
        if end:
            yield data[:end]
    if rest.strip():
        yield rest + b"\n"


def lines_of(data: bytes) -> pl.Series:
    """Split into lines without their ends; what is not UTF-8 becomes U+FFFD."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = data.decode(errors="replace")
    lines = pl.Series("line", [text]).str.split("\n").explode(empty_as_null=True)
    lines = lines.head(len(lines) - 1)  # after the last newline
    return lines.str.strip_chars_end("\r") if "\r" in text else lines


def _last_end(data: bytes, *, quotes: bool) -> int:
    if not quotes or b'"' not in data:
        return data.rfind(b"\n") + 1
    array = np.frombuffer(data, np.uint8)
    inside = np.bitwise_xor.accumulate(array == ord('"'))
    ends = np.flatnonzero((array == ord("\n")) & ~inside)
    return int(ends[-1]) + 1 if len(ends) else 0


def _chunks(path: Path, size: int) -> Iterator[bytes]:
    try:
        if path.suffix.lower() == ".zst":
            yield from _zstd_chunks(path, size)
            return
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            while chunk := file.read(size):
                yield chunk
    except (OSError, EOFError, zlib.error, pl.exceptions.ComputeError) as error:
        raise LogError(f"{path}: cannot be read to its end: {error}") from error


def _zstd_chunks(path: Path, size: int) -> Iterator[bytes]:
    frame = pl.scan_csv(
        path,
        has_header=False,
        separator="\x01",  # never met: one column, the line
        quote_char=None,
        schema={"line": pl.String},
        encoding="utf8-lossy",
        truncate_ragged_lines=True,
        low_memory=True,
        glob=False,
    )
    for batch in frame.collect_batches(chunk_size=max(1, size // 32), maintain_order=True):
        joined = batch["line"].fill_null("").str.join("\n").item()
        yield joined.encode() + b"\n"
