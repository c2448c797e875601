"""What a scan does with one file. Runs in worker processes, so it imports neither torch nor polars.

The file is decoded in full: whatever has a row in the manifest could be decoded once.
"""

import faulthandler
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterable, Iterator
from itertools import compress
from pathlib import Path

from medssl.errors import (
    DataError,
    IngestError,
    Reason,
    SegmentationError,
    UnsupportedImageError,
)
from medssl.identity import SiteKey
from medssl.manifest_paths import decode_path, is_remote
from medssl.scanning.outcome import Outcome, Row
from medssl.scanning.walk import Found, SetAside
from medssl.sources.archives import find_archive
from medssl.sources.burned_in import BurnedIn, is_likely
from medssl.sources.cut import LEFT_OUT, USUAL_TILES, TileWishes
from medssl.sources.decoded import Decoded, FileFacts, content_of
from medssl.sources.local import local_file
from medssl.sources.mirax_files import is_mirax
from medssl.sources.npz import list_members
from medssl.sources.open import open_image
from medssl.sources.place import Place
from medssl.sources.slide import is_slide, open_slide
from medssl.sources.slide_series import require_best_level
from medssl.sources.slide_tissue import focus, in_focus, tissue_tiles
from medssl.sources.sniff import sniff
from medssl.sources.text_pixels import shows_text


def start_worker(memory: int, temporary: str) -> None:
    """Leave Ctrl-C to the parent, which keeps what is finished, and take `memory` bytes at most.

    Args:
        memory: Bytes.
        temporary: Folder for temporary files, which the parent removes: a process that is ended in
            the middle of a file cannot.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tempfile.tempdir = temporary
    if sys.platform == "linux":  # elsewhere the limit does not cover what NumPy takes
        import resource  # noqa: PLC0415, is not everywhere

        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (memory, most))


def read_files(
    root: Path,
    key: SiteKey,
    seconds: float,
    wishes: TileWishes,
    label_tag: str | None,
    files: list[Found],
) -> list[Outcome]:
    """Read several files, one after the other; a file that takes longer ends the process."""
    with open(os.devnull, "w", encoding="ascii") as nowhere:  # noqa: PTH123, not a data file
        outcomes = []
        for file in files:
            faulthandler.dump_traceback_later(seconds, exit=True, file=nowhere)
            try:
                outcomes.append(read_file(root, file, key, wishes, label_tag))
            finally:
                faulthandler.cancel_dump_traceback_later()
    return outcomes


def read_file(
    root: Path,
    file: Found,
    key: SiteKey,
    wishes: TileWishes = USUAL_TILES,
    label_tag: str | None = None,
) -> Outcome:
    """Decode all images of one file and describe each in a row of `medssl.manifest.SCHEMA`.

    Args:
        root: Folder of the paths.
        file: What to read.
        key: For what identifies.
        wishes: How slides are cut.
        label_tag: The DICOM attribute that is the label, of `label_terms.TERMS`.

    Raises:
        DataError: The store of a remote folder does not answer any more.
    """
    wanted = root / decode_path(file.path)
    try:
        with local_file(wanted) as path:
            rows = list(_rows(path, wanted, file, key, wishes, label_tag))
    except IngestError as error:
        named = error.series if isinstance(error, SegmentationError) else ()
        series = tuple(key.series(uid) for uid in named)
        aside = SetAside(file.path, str(error.reason), error.detail, file.stamp, series)
        return Outcome(file.path, [], aside)
    except DataError:
        raise
    except Exception as error:  # noqa: BLE001 - no mistake of ours may end a scan of a million files
        aside = SetAside(file.path, Reason.READER_BUG, place_of(error), file.stamp)
        return Outcome(file.path, [], aside)
    if not rows:
        aside = SetAside(file.path, Reason.NO_PIXELS, "an archive without images", file.stamp)
        return Outcome(file.path, [], aside)
    return Outcome(file.path, rows)


def place_of(error: Exception) -> str:
    """Say where an unforeseen error arose; its own words could quote the file."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}; please report it"


def _rows(
    path: Path, wanted: Path, file: Found, key: SiteKey, wishes: TileWishes, label_tag: str | None
) -> Iterable[Row]:
    if is_mirax(file.path):
        _require_in_place(wanted)
        return _slide_rows(path, file, key, wishes, label_tag)
    kind = sniff(path)
    if kind == "npz":
        return _archive_rows(path, file, key)
    if is_slide(path, kind):
        _require_in_place(wanted)
        if kind == "dicom":
            require_best_level(path, wishes.cut.mpp)
        return _slide_rows(path, file, key, wishes, label_tag)
    return _file_rows(path, kind, file, key, label_tag)


def _require_in_place(path: Path) -> None:
    """Refuse what would be copied as a whole for each of its tiles."""
    for is_elsewhere, detail in (
        (is_remote(path), "slide in a remote folder; copy it here"),
        (find_archive(path) is not None, "slide in an archive; unpack it"),
    ):
        if is_elsewhere:
            raise UnsupportedImageError(path, Reason.UNSUPPORTED, detail)


def _slide_rows(
    path: Path, file: Found, key: SiteKey, wishes: TileWishes, label_tag: str | None
) -> list[Row]:
    """Describe the tiles of tissue, and count the others.

    Raises:
        IngestError: There is none; or as `open_slide`.
    """
    with open_slide(path, wishes.cut) as slide:
        member = slide.cut.member
        shared = {"path": file.path, "member": member, "kind": "slide", "stamp": file.stamp}
        facts = {**_identity(slide.facts, key), "label": slide.facts.terms.get(label_tag or "")}
        rows: list[Row] = []
        sharpness: list[float] = []
        frames, glass, ink = tissue_tiles(slide, wishes)
        for frame in frames:
            decoded = slide.decode(frame)
            rows.append({**shared, **facts, **_image(decoded, file, member, frame, key)})
            sharpness.append(focus(decoded.values))
    is_sharp = in_focus(sharpness)
    left_out = (glass, ink, is_sharp.count(False))
    kept = [{**row, "left_out": left_out} for row in compress(rows, is_sharp)]
    if not kept:
        raise UnsupportedImageError(path, Reason.NO_TILES, _why_none(member, left_out))
    return kept


def _why_none(member: str, left_out: tuple[int, ...]) -> str:
    if not any(left_out):
        return f"a slide that is smaller than a tile of {member}"
    told = ", ".join(f"{name} {count}" for name, count in zip(LEFT_OUT, left_out, strict=True))
    return f"a slide without a tile of tissue; of {sum(left_out)} tiles: {told}"


def _file_rows(
    path: Path, kind: str, file: Found, key: SiteKey, label_tag: str | None
) -> list[Row]:
    """Describe all frames; text that is seen in one of them is suspected in all."""
    rows: list[Row] = []
    with open_image(path, kind) as reader:
        facts = reader.facts
        label = facts.terms.get(label_tag or "")
        shared = {"path": file.path, "kind": kind, "stamp": file.stamp, "label": label}
        burned_in = facts.burned_in
        for frame in range(facts.frames):
            decoded = reader.decode(frame)
            if not burned_in and is_likely(kind, decoded) and shows_text(decoded):
                burned_in = BurnedIn.PIXELS
            rows.append(_image(decoded, file, None, frame, key, series=facts.series_uid))
    shared |= {**_identity(facts, key), "burned_in": burned_in}
    return [{**shared, **row} for row in rows]


def _archive_rows(path: Path, file: Found, key: SiteKey) -> Iterator[Row]:
    for member in list_members(path):
        with open_image(path, "npz", member.name) as reader:
            shared = {
                "path": file.path,
                "member": member.name,
                "kind": "npz",
                "frames": member.count,
                "split": member.split,
                "stamp": file.stamp,
            }
            for frame in range(member.count):
                label = member.labels[frame] if member.labels else None
                image = _image(reader.decode(frame), file, member.name, frame, key)
                yield {**shared, **image, "label": label}


def _identity(facts: FileFacts, key: SiteKey) -> Row:
    return {
        "frames": facts.frames,
        "modality": facts.modality,
        "transfer_syntax": facts.transfer_syntax,
        "burned_in": facts.burned_in,
        "suv": facts.suv,
        "patient": key.patient(facts.patient_id) if facts.patient_id else None,
        "study": key.study(facts.study_uid) if facts.study_uid else None,
        "series": key.series(facts.series_uid) if facts.series_uid else None,
        "site": key.site(facts.site) if facts.site else None,
        "scanner": key.scanner(facts.scanner) if facts.scanner else None,
    }


def _image(
    decoded: Decoded,
    file: Found,
    member: str | None,
    frame: int,
    key: SiteKey,
    *,
    series: str | None = None,
) -> Row:
    rows, columns = decoded.values.shape[:2]
    spacing = decoded.spacing_mm or (None, None)
    content = content_of(decoded)
    return {
        "sample": key.hash("sample", file.path, member or "", str(frame)),
        "frame": frame,
        "rows": rows,
        "columns": columns,
        "channels": content.channels,
        "bits": decoded.bits,
        "photometric": decoded.photometric,
        "spacing_row_mm": spacing[0],
        "spacing_column_mm": spacing[1],
        "spacing_slice_mm": decoded.spacing_slice_mm,
        "content": None if content.is_blank else content.hash,
        **_place(decoded.place, series or "\n".join(filter(None, (file.path, member))), key),
    }


def _place(place: Place | None, series: str, key: SiteKey) -> Row:
    if place is None:
        return {}
    plane = place.plane
    return {
        "plane": None if plane is None else [*plane.position, *plane.right, *plane.down],
        "moment": list(place.moment),
        "stack": None if place.stack is None else key.hash("stack", series, *place.stack),
    }
