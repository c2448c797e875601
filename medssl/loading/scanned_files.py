"""Whether the files of an image are still those that were scanned."""

from medssl.identity import SiteKey, key_file, load_site_key
from medssl.manifest import Manifest
from medssl.scanning.walk import current_stamp
from medssl.volumes.samples import parts_of


class ScannedFiles:
    """The files behind each row of one manifest, as plain values, so that workers can have them."""

    def __init__(self, manifest: Manifest) -> None:
        """Remember the stamps of the scan.

        Raises:
            ConfigError: The site key cannot be read.
        """
        self._root = manifest.root
        self._key = _key_of(manifest)
        found = parts_of(manifest, ("path", "stamp"))
        shared = {id(parts): frozenset(parts) for parts in found}  # patches of a volume have one
        self._files = [shared[id(parts)] for parts in found]

    def are_unchanged(self, row: int) -> bool:
        """Tell whether all files of a row have their stamps of the scan.

        Stamps are keyed. Under another site key than that of the scan they tell nothing, and so
        nothing counts as unchanged.
        """
        key = self._key
        return key is not None and all(
            current_stamp(self._root, str(path), key) == stamp for path, stamp in self._files[row]
        )


def _key_of(manifest: Manifest) -> SiteKey | None:
    """Return the site key if the manifest was made with it; never make a new one."""
    rows = manifest.rows if manifest.slices is None else manifest.slices
    if rows.is_empty() or not key_file().exists():
        return None
    key, row = load_site_key(), rows.row(0, named=True)
    sample = key.hash("sample", row["path"], row["member"] or "", str(row["frame"]))
    return key if sample == row["sample"] else None
