"""From a folder to a manifest: every image a row, every other file a reason."""

import hashlib
import os
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Protocol

import polars as pl

from medssl.errors import DataError, Reason
from medssl.identity import SiteKey, load_site_key
from medssl.labels import Labelled, join_labels, require_labels
from medssl.manifest import REJECTED_SCHEMA, Manifest, rejected_path
from medssl.manifest_paths import as_written, encode_path, is_remote
from medssl.private_paths import keep_paths
from medssl.scanning.describe import describe, require_tagged
from medssl.scanning.listed_files import count_missing
from medssl.scanning.mask_paths import beside, with_masks
from medssl.scanning.outcome import READER_VERSION, Outcome
from medssl.scanning.parts import Parts, Tables, require_replaceable
from medssl.scanning.path_pattern import PathPattern
from medssl.scanning.pool import CrashProofPool
from medssl.scanning.settings import ScanConfig
from medssl.scanning.stamps import stamp_of
from medssl.scanning.summary import ScanSummary, summarise
from medssl.scanning.walk import (
    Found,
    SetAside,
    look_into,
    walk,
    walk_remote,
    without_slide_parts,
)
from medssl.sources.cut import Cut, TileWishes
from medssl.volumes.assemble import assemble
from sslcore.cores import usable_cores
from sslcore.errors import OutputError
from sslcore.tables import require_parquet

_LEAST_MEMORY = 4_000_000_000  # bytes
_CHUNK = 16  # files per task; a crash costs reading up to 4 of these per process again


class ScanProgress(Protocol):
    """Where a scan reports to; `sslcore.console.Progress` is one."""

    def expect(self, total: int | None, *, done: int = 0, unit: str | None = None) -> None:
        """Take note of how many files there are."""

    def advance(self, count: int = 1, **facts: str) -> None:
        """Take note of files that are done."""


def scan(
    folder: Path,
    out: Path,
    config: ScanConfig,
    progress: ScanProgress | None = None,
    *,
    key: SiteKey | None = None,
) -> ScanSummary:
    """Write the manifest of a folder, or of a MedMNIST archive, and the rejected files beside it.

    Files that have not changed since the last scan into `out`, or since one that was interrupted,
    are not opened again, unless folder, settings or site key differ. `out` is replaced when all is
    done.

    Args:
        folder: Folder, also a remote one; zip or tar archive, or .npz file.
        out: The manifest to write.
        config: Settings.
        progress: Told about files that are done.
        key: The site key; that of this site by default.

    Raises:
        DataError: No files, or none that can be used; labels that fit no image; a remote folder
            that does not answer.
        ConfigError: A pattern that is none; a URL that is wrong, or its package missing.
        OutputError: `out` cannot be written, is something else than a manifest, or another scan
            writes it.
    """
    began = time.monotonic()
    patterns = {
        "patient": PathPattern.of("--patient-pattern", config.patient_pattern),
        "site": PathPattern.of("--site-pattern", config.site_pattern),
    }
    if config.labels:
        require_labels(config.labels)
    require_replaceable(out)
    require_parquet(out)
    key = key or load_site_key()
    parts = Parts(out.absolute(), _settings(folder, config, key), key)
    root, files, aside = _list_files(folder, parts, out, key)
    for pattern in patterns.values():
        pattern.require_matches([file.path for file in files])

    counted = len(files) + len(aside)
    masks, files = _take_masks(files, config.masks)

    with parts.claimed():
        reused = parts.earlier(_as_table(files))
        known = set(reused.rows["path"].unique()) | set(reused.rejected["path"])
        todo = [file for file in files if file.path not in known]
        if progress:
            progress.expect(len(files), done=len(known), unit="files")
        _read_all(root, todo, parts, config, key, progress)

        tables = _assemble(reused, parts.collected(), files, aside)
        _require_complete(tables, files)
        if tables.rows.is_empty():
            parts.remove()
            raise _no_images(tables, folder)
        private = _keep_paths(tables, masks, root, key) if config.private else None
        rows = describe(tables.rows, patterns, config, key)
        is_same = reused.is_last and not todo
        rows = with_masks(rows if is_same else assemble(rows), tables.rejected, masks)
        manifest, unused = _labelled(Manifest(rows, root, private), config, key, parts)
        parts.complete(manifest, tables.rejected)
    return summarise(
        manifest.rows,
        tables.rejected,
        files=counted,
        reused=len(known),
        missing=count_missing(root, tables),
        seconds=time.monotonic() - began,
        label_tag=config.label_tag,
        unused_labels=unused,
    )


def _settings(folder: Path, config: ScanConfig, key: SiteKey) -> str:
    """Return what must be equal for rows of an earlier scan to be used again.

    The place is part of it: two folders may hold other images under equal names, sizes and times.
    """
    place = as_written(folder) if is_remote(folder) else encode_path(str(folder.resolve()))
    found = (config.patient_pattern or "", config.site_pattern or "", config.label_tag or "")
    cut = str(_wishes(config))
    text = "\n".join((READER_VERSION, key.fingerprint(), *found, cut, place))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _wishes(config: ScanConfig) -> TileWishes:
    cut = Cut(config.tile_px, config.tile_mpp, config.slide_mpp)
    return TileWishes(cut, config.tile_tissue)


def _list_files(
    folder: Path, parts: Parts, out: Path, key: SiteKey
) -> tuple[Path, list[Found], list[SetAside]]:
    if is_remote(folder):
        return folder, *walk_remote(folder, key)
    if not folder.exists():
        raise DataError(f"{folder} does not exist; expected a folder of images or a .npz file")
    place = folder.resolve()
    if place.is_file():
        found: list[Found] = []
        aside: list[SetAside] = []
        file = Found(encode_path(place.name), stamp_of(str(place), place.stat(), key))
        look_into(place, file, found, aside, key)
        if place.suffix != ".npz" and found == [file]:
            raise DataError(f"{folder}: expected a folder, a .zip, a .tar or a MedMNIST .npz")
        return place.parent, without_slide_parts(found), aside
    own = [out.absolute(), rejected_path(out.absolute()), parts.folder]
    own += [path.parent.resolve() / path.name for path in own]
    files, aside = walk(place, key, skip=frozenset(own))
    if not files and not aside:
        raise DataError(f"{folder}: no files in it")
    return place, files, aside


def _take_masks(files: list[Found], template: str | None) -> tuple[dict[str, str], list[Found]]:
    """Return the mask of each image that has one beside it, and the files that are no masks."""
    masks = beside(template, [file.path for file in files])
    taken = set(masks.values())
    return masks, [file for file in files if file.path not in taken]


def _as_table(files: list[Found]) -> pl.DataFrame:
    columns = {"path": [file.path for file in files], "stamp": [file.stamp for file in files]}
    return pl.DataFrame(columns, schema={"path": pl.String, "stamp": pl.String})


def _read_all(
    root: Path,
    todo: list[Found],
    parts: Parts,
    config: ScanConfig,
    key: SiteKey,
    progress: ScanProgress | None,
) -> None:
    if not todo:
        return
    # Late: the readers take half a second to load, and a second scan may need none.
    from medssl.scanning.worker import read_files, start_worker  # noqa: PLC0415

    workers = min(config.workers or usable_cores(), -(-len(todo) // 4))
    with tempfile.TemporaryDirectory(prefix="medssl-", ignore_cleanup_errors=True) as temporary:
        pool: CrashProofPool[Found, Outcome] = CrashProofPool(
            partial(read_files, root, key, config.file_seconds, _wishes(config), config.label_tag),
            partial(_crashed, config.file_seconds),
            workers=workers,
            chunk=_CHUNK,
            initializer=partial(start_worker, _memory(config, workers), temporary),
        )
        outcomes = pool.run(todo)
        images = 0
        try:
            for outcome in outcomes:
                parts.add(outcome)
                images += len(outcome.rows)
                if progress:
                    progress.advance(images=str(images))
        finally:
            outcomes.close()
            parts.flush()


def _memory(config: ScanConfig, workers: int) -> int:
    """Return the bytes that each process may take."""
    if config.memory_gb is not None:
        return int(config.memory_gb * 1e9)
    pages = os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    share = pages * os.sysconf("SC_PAGE_SIZE") // workers if pages > 0 else 0
    return max(share, _LEAST_MEMORY)


def _crashed(patience: float, file: Found, seconds: float) -> Outcome:
    reason, detail = Reason.DECODER_CRASHED, "the decoder crashed"
    if seconds >= patience:
        reason, detail = Reason.DECODER_TIMEOUT, f"not read after {patience:g} seconds"
    return Outcome(file.path, [], SetAside(file.path, reason, detail, file.stamp))


def _assemble(reused: Tables, fresh: Tables, files: list[Found], aside: list[SetAside]) -> Tables:
    """Join old and new results; parts may hold files that have vanished or changed since."""
    now = fresh.about(_as_table(files))
    rows = pl.concat([reused.rows, now.rows]).unique(["path", "member", "frame"], keep="last")
    walked = pl.DataFrame(
        [(item.path, item.reason, item.detail, item.stamp, item.series) for item in aside],
        schema=REJECTED_SCHEMA,
        orient="row",
    )
    rejected = pl.concat([reused.rejected, now.rejected, walked]).unique("path", keep="last")
    return Tables(rows.sort("path", "member", "frame"), rejected.sort("path"))


def _keep_paths(tables: Tables, masks: dict[str, str], root: Path, key: SiteKey) -> str:
    paths = [tables.rows["path"], tables.rejected["path"], pl.Series("path", masks.values())]
    return keep_paths(pl.concat([each.cast(pl.String) for each in paths]), root, key)


def _require_complete(tables: Tables, files: list[Found]) -> None:
    """Raise rather than lose an image in silence, such as by parts that somebody deleted."""
    done = {*tables.rows["path"], *tables.rejected["path"]}
    lost = [file.path for file in files if file.path not in done]
    if lost:
        raise OutputError(
            f"the results of {len(lost)} of {len(files)} files are lost; scan again: what is there"
            " will not be read again"
        )


def _no_images(tables: Tables, folder: Path) -> DataError:
    counts = tables.rejected.group_by("reason").agg(pl.len(), pl.col("detail").first())
    reasons = "; ".join(
        f"{reason} {count}, such as: {detail}"
        for reason, count, detail in counts.sort("reason").iter_rows()
    )
    none = f"none of {len(tables.rejected)} files holds an image that can be read"
    return DataError(f"{as_written(folder)}: {none}: {reasons}")


def _labelled(manifest: Manifest, config: ScanConfig, key: SiteKey, parts: Parts) -> Labelled:
    try:
        require_tagged(manifest.rows, config.label_tag)
        labels = config.labels
        return join_labels(manifest, labels, key) if labels else Labelled(manifest)
    except DataError as error:
        if config.label_tag:  # its words are in the rows, so that another one reads them anew
            raise
        raise DataError(
            f"{error}\nwhat was read of the images is kept in {parts.folder}: with another table,"
            " a scan to the same place goes on from there"
        ) from error
