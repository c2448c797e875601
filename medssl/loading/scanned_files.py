"""Whether the files of an image are still those that were scanned."""

from itertools import groupby

import polars as pl

from medssl.identity import SiteKey, key_file, load_site_key
from medssl.manifest import Manifest
from medssl.scanning.walk import current_stamp


class ScannedFiles:
    """The files behind each row of one manifest, as plain values, so that workers can have them."""

    def __init__(self, manifest: Manifest) -> None:
        """Remember the stamps of the scan.

        Raises:
            ConfigError: The site key cannot be read.
        """
        self._root = manifest.root
        self._key = _key_of(manifest)
        self._files: list[tuple[tuple[str, str], ...]]
        if manifest.slices is None:
            self._files = [((path, stamp),) for path, stamp in _rows(manifest.rows)]
        else:
            slices = _rows(manifest.slices.sort("volume"), "volume")
            found = {
                name: tuple({(path, stamp) for _, path, stamp in rows})
                for name, rows in groupby(slices, lambda row: row[0])
            }
            self._files = [found[name] for name in manifest.rows["volume"]]

    def are_unchanged(self, row: int) -> bool:
        """Tell whether all files of a row have their stamps of the scan.

        Stamps are keyed. Under another site key than that of the scan they tell nothing, and so
        nothing counts as unchanged.
        """
        key = self._key
        return key is not None and all(
            current_stamp(self._root, path, key) == stamp for path, stamp in self._files[row]
        )


def _rows(table: pl.DataFrame, *names: str) -> list[tuple[str, ...]]:
    return table.select(*names, "path", "stamp").rows()


def _key_of(manifest: Manifest) -> SiteKey | None:
    """Return the site key if the manifest was made with it; never make a new one."""
    rows = manifest.rows if manifest.slices is None else manifest.slices
    if rows.is_empty() or not key_file().exists():
        return None
    key, row = load_site_key(), rows.row(0, named=True)
    sample = key.hash("sample", row["path"], row["member"] or "", str(row["frame"]))
    return key if sample == row["sample"] else None
