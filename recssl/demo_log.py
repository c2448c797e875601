"""The log of an invented bookshop, for demos and tests.

Books belong to a subject, readers like one to three subjects, and their taste moves with time. A
few books are taken by many; each is taken most soon after it came out. Nobody and nothing in the
log exists.
"""

import csv
import gzip
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sslcore.files import write_text

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

SUBJECTS: dict[str, tuple[str, ...]] = {
    "Cooking": ("Kitchen", "Table", "Orchard", "Oven", "Harvest", "Pantry", "Spoon", "Bakery"),
    "Crime": ("Witness", "Alibi", "Motive", "Verdict", "Suspect", "Cellar", "Stranger", "Letter"),
    "Gardening": ("Garden", "Meadow", "Hedge", "Rose", "Greenhouse", "Seed", "Pond", "Willow"),
    "History": ("Empire", "Throne", "Treaty", "Siege", "Archive", "Voyage", "Castle", "Chronicle"),
    "Music": ("Sonata", "Violin", "Chorus", "Rhythm", "Melody", "Drum", "Overture", "Echo"),
    "Poetry": ("Verse", "Silence", "Lantern", "Shadow", "Tide", "Mirror", "Elegy", "Feather"),
    "Science": ("Orbit", "Atom", "Proof", "Cell", "Quantum", "Fossil", "Comet", "Signal"),
    "Travel": ("Harbour", "Mountain", "Island", "Railway", "Desert", "Border", "Compass", "Ferry"),
}
FILES = ("log-1.csv.gz", "log-2.csv.gz")
BAD_LINES = (
    "10017,b0001",
    "10017,,4,1650000000",
    ",b0001,4,1650000000",
    "10017,b0001,good,1650000000",
    "10017,b0001,4,yesterday",
    "10017,b0001,4,1650000000,5,6",
    "\N{REPLACEMENT CHARACTER}",
)

_QUALITIES = (
    *("Amber", "Broken", "Distant", "Early", "Forgotten", "Golden", "Hidden", "Last", "Little"),
    *("Long", "Lost", "Northern", "Old", "Open", "Paper", "Quiet", "Second", "Silver", "Winter"),
)
_START = 1_640_995_200  # 1 January 2022, UTC
_SPAN = 2 * 365 * 86_400  # seconds
_HALF_LIFE = 1.2  # of a book's novelty, in spans
_TASTE = 8.0  # how strongly taste decides, against popularity
_SPREAD = 0.55  # of books and readers around their subjects
_DRIFT = 0.35  # of a reader's taste over the whole span
_POWER = 0.7  # of popularity over rank
_DIM = 12


@dataclass(frozen=True, slots=True)
class InventedLog:
    """Who and what in the log is good to ask about.

    Attributes:
        user: The id of an active reader.
        item: The id of a popular book.
    """

    user: str
    item: str


@dataclass(frozen=True, slots=True)
class _Shop:
    """What decides who takes what.

    Attributes:
        subjects: Of each book, `[items]`.
        books: `[items, dim]`.
        popularity: Logarithm, `[items]`.
        released: In spans, `[items]`; before 0 for books that were there already.
        before: Taste of each reader at the beginning, `[users, dim]`.
        after: And at the end.
        active: Interactions of each reader, `[users]`.
    """

    subjects: IntArray
    books: FloatArray
    popularity: FloatArray
    released: FloatArray
    before: FloatArray
    after: FloatArray
    active: IntArray


def write_log(
    folder: Path,
    items_file: Path,
    *,
    users: int = 2000,
    items: int = 600,
    interactions: int = 60_000,
    seed: int = 0,
    on_user: Callable[[], None] | None = None,
) -> InventedLog:
    """Write a log in two gzipped CSV files, with a few bad lines, and a table of the items.

    Equal arguments give equal bytes.

    Args:
        folder: For the log: user_id, item_id, rating (1 to 5), timestamp (seconds since 1970).
        items_file: CSV of item_id, title, category.
        users: Readers.
        items: Books.
        interactions: About; nobody takes more than half of the books.
        seed: Of everything.
        on_user: Called after each reader.
    """
    rng = np.random.default_rng(seed)
    shop = _open_shop(rng, users, items, interactions)
    taken = [_visit(rng, shop, user, on_user) for user in range(users)]
    readers = np.repeat(np.arange(users), [len(rows) for rows, _, _ in taken])
    books, times, ratings = (np.concatenate(column) for column in zip(*taken, strict=True))
    user_ids = rng.permutation(np.arange(10_000, 10_000 + 4 * users))[:users]
    item_ids = [f"b{number:04d}" for number in rng.permutation(4 * items)[:items]]
    lines = [
        f"{user_ids[readers[row]]},{item_ids[books[row]]},{ratings[row]},{times[row]}"
        for row in np.argsort(times, kind="stable")
    ]
    _write_lines(folder, _with_bad_lines(rng, lines))
    _write_items(items_file, rng, shop.subjects, item_ids)
    best = np.bincount(books, minlength=items).argmax()
    return InventedLog(str(user_ids[shop.active.argmax()]), item_ids[best])


def _open_shop(rng: np.random.Generator, users: int, items: int, interactions: int) -> _Shop:
    centres = rng.normal(size=(len(SUBJECTS), _DIM))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    subjects = rng.integers(len(SUBJECTS), size=items)
    books = centres[subjects] + _SPREAD * rng.normal(size=(items, _DIM)) / np.sqrt(_DIM)
    ranks = rng.permutation(items) + 1
    likes = rng.dirichlet(np.full(len(SUBJECTS), 0.25), size=users)
    other = rng.dirichlet(np.full(len(SUBJECTS), 0.25), size=users)
    noise = _SPREAD * rng.normal(size=(users, _DIM)) / np.sqrt(_DIM)
    before = likes @ centres + noise
    after = ((1 - _DRIFT) * likes + _DRIFT * other) @ centres + noise
    weights = rng.lognormal(0, 0.8, users)
    active = np.round(weights * interactions / weights.sum()).astype(np.int64)
    return _Shop(
        subjects,
        books,
        -_POWER * np.log(ranks),
        rng.uniform(-1.2, 0.85, items),
        before,
        after,
        np.clip(active, min(4, items // 2), items // 2),
    )


def _visit(
    rng: np.random.Generator, shop: _Shop, user: int, on_user: Callable[[], None] | None
) -> tuple[IntArray, IntArray, IntArray]:
    """Draw the books of one reader, each once, with times and ratings."""
    begin = rng.uniform(0, 0.7)
    moments = np.sort(
        rng.uniform(begin, min(1.0, begin + rng.uniform(0.15, 1)), 3 * shop.active[user])
    )
    taste = shop.before[user] + moments[:, None] * (shop.after[user] - shop.before[user])
    liking = taste @ shop.books.T
    age = moments[:, None] - shop.released
    wish = _TASTE * liking + shop.popularity - np.log(2) * age / _HALF_LIFE
    wish = np.where(age >= 0, wish, -np.inf) + rng.gumbel(size=wish.shape)
    books = wish.argmax(1)
    first = np.sort(np.unique(books, return_index=True)[1])
    kept = np.sort(rng.permutation(first)[: shop.active[user]])
    liked = liking[kept, books[kept]]
    scale = liking.std() or 1.0
    marks = 3.4 + 0.7 * (liked - liking.mean()) / scale + 0.7 * rng.normal(size=len(kept)) - 0.6
    if on_user:
        on_user()
    times = _START + (moments[kept] * _SPAN).astype(np.int64)
    return books[kept], times, np.clip(np.round(marks), 1, 5).astype(np.int64)


def _with_bad_lines(rng: np.random.Generator, lines: list[str]) -> list[str]:
    """Put in what goes wrong in logs: cut lines, words instead of numbers, missing ids."""
    lines = list(lines)
    places = np.sort(rng.integers(len(lines), size=len(BAD_LINES)))[::-1]
    for place, line in zip(places, BAD_LINES, strict=True):
        lines.insert(int(place), line)
    return lines


def _write_lines(folder: Path, lines: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    half = len(lines) // 2
    for name, part in zip(FILES, (lines[:half], lines[half:]), strict=True):
        text = "\n".join(["user_id,item_id,rating,timestamp", *part]) + "\n"
        (folder / name).write_bytes(gzip.compress(text.encode(), mtime=0))


def _write_items(
    path: Path, rng: np.random.Generator, subjects: IntArray, item_ids: list[str]
) -> None:
    """Write titles that are different and sound like their subject."""
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\n")
    table.writerow(("item_id", "title", "category"))
    names = list(SUBJECTS)
    titles = {name: _titles(rng, name) for name in names}
    used = dict.fromkeys(names, 0)
    for item, subject in zip(item_ids, subjects, strict=True):
        name = names[subject]
        volume, place = divmod(used[name], len(titles[name]))
        used[name] += 1
        title = titles[name][place] + (f", volume {volume + 1}" if volume else "")
        table.writerow((item, title, name))
    write_text(path, buffer.getvalue())


def _titles(rng: np.random.Generator, subject: str) -> list[str]:
    pairs = [f"The {quality} {thing}" for quality in _QUALITIES for thing in SUBJECTS[subject]]
    return [pairs[place] for place in rng.permutation(len(pairs))]
