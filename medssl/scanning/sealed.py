"""The numbers that put a series in order, in files unreadable without the site key.

They come from the files as they are, and what a scan adds later has to be sorted among what it
keeps, so that neither ranks nor hashes would do.
"""

import numpy as np
import polars as pl

from medssl.identity import SiteKey
from medssl.manifest import SCHEMA

_COUNT = 3  # numbers of a moment
_BYTES = 4  # of one


def sealed(rows: pl.DataFrame, key: SiteKey) -> pl.DataFrame:
    """Seal the column `moment`; open it if it is sealed.

    Each image has a pad of its own, by its name and the stamp of its file, that nobody can tell
    from chance without the key. Adding it once more takes it away.

    Args:
        rows: Of a manifest.
        key: The same for both.
    """
    is_there = rows["moment"].is_not_null()
    some = rows.filter(is_there)
    if some.is_empty():
        return rows
    names = some.select(pl.concat_str("sample", "stamp", separator="\x1f")).to_series()
    pads = key.pads(names, _COUNT * _BYTES)
    moments = np.zeros((len(rows), _COUNT), np.int32)
    moments[is_there.to_numpy()] = some["moment"].to_numpy()
    moments[is_there.to_numpy()] ^= np.frombuffer(pads, "<i4").reshape(-1, _COUNT)
    column = pl.Series("moment", moments, SCHEMA["moment"])
    return rows.with_columns(pl.when(is_there).then(column).alias("moment"))
