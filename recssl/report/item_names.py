"""What items are called, if a column of their features tells."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

_TITLES = (
    *("title", "name", "itemtitle", "itemname", "productname", "producttitle", "movietitle"),
    *("moviename", "booktitle", "songtitle", "trackname", "artistname", "artist", "headline"),
)
_CATEGORIES = (
    *("category", "categories", "genre", "genres", "class", "topic", "topics", "department"),
    *("maincategory", "itemcategory", "categoryid", "type", "brand"),
)
_LONGEST = 48
_SHOWN_KINDS = 8  # as many as there are colours
_ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"


@dataclass(frozen=True, slots=True)
class ItemNames:
    """Names and kinds of the items, in row order.

    Attributes:
        ids: As in the log.
        titles: None if no column looks like one.
        kinds: Likewise, such as a genre; None for an item without one.
        kind_column: What the features call it.
    """

    ids: pl.Series
    titles: pl.Series | None
    kinds: pl.Series | None
    kind_column: str

    @classmethod
    def of(cls, items: pl.DataFrame) -> Self:
        """Find a title and a category among the columns of `items`."""
        text = [name for name, dtype in items.schema.items() if dtype == pl.String and name != "id"]
        title = _find(text, _TITLES)
        kind = _find([name for name in text if _is_kind(items[name])], _CATEGORIES)
        return cls(
            items["id"], items[title] if title else None, items[kind] if kind else None, kind or ""
        )

    def name(self, item: int) -> str:
        """Return the title of an item, or its id."""
        title = self.titles[item] if self.titles is not None else None
        text = str(title or self.ids[item])
        return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}{_ELLIPSIS}"

    def note(self, item: int) -> str:
        """Return what else is known: the kind, and the id of an item that has a title."""
        kind = self.kinds[item] if self.kinds is not None else None
        named = self.titles is not None and self.titles[item]
        known = [kind, f"id {self.ids[item]}" if named else None]
        return " · ".join(text for text in known if text)

    def kind_groups(self, items: NDArray[np.int64]) -> tuple[NDArray[np.int64], list[str]]:
        """Number the most frequent kinds of some items; -1 for the others."""
        if self.kinds is None:
            return np.full(len(items), -1), []
        kinds = self.kinds[items.tolist()]
        counts = kinds.drop_nulls().value_counts(sort=True, name="items")
        names = sorted(counts[kinds.name].head(_SHOWN_KINDS).to_list())
        numbers: dict[str | None, int] = {name: number for number, name in enumerate(names)}
        return np.array([numbers.get(kind, -1) for kind in kinds], dtype=np.int64), names


def _find(columns: Sequence[str], known: Sequence[str]) -> str | None:
    plain = {"".join(filter(str.isalnum, name.lower())): name for name in reversed(columns)}
    return next((plain[name] for name in known if name in plain), None)


def _is_kind(values: pl.Series) -> bool:
    """Whether values repeat often enough to group items by them."""
    different = values.drop_nulls().n_unique()
    return 2 <= different <= max(2, (len(values) - values.null_count()) // 3)
