"""Which column of a log is the user, the item, the time, the weight."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import polars as pl

from recssl.errors import LogError
from recssl.settings.ingest import IngestConfig
from sslcore.config import suggest

Role = Literal["user", "item", "time", "weight"]

# lower case, letters and digits only; the first that a log has is taken
NAMES: dict[Role, tuple[str, ...]] = {
    "user": (
        *("userid", "user", "uid", "useridx", "userindex", "usernumber", "username", "iduser"),
        *("reviewerid", "customerid", "customer", "visitorid", "memberid", "member", "accountid"),
        *("clientid", "personid", "profileid", "playerid", "listenerid", "readerid", "u"),
    ),
    "item": (
        *("itemid", "item", "iid", "itemidx", "itemindex", "iditem", "movieid", "movie"),
        *("productid", "product", "parentasin", "asin", "businessid", "bookid", "isbn"),
        *("artistid", "songid", "trackid", "articleid", "newsid", "videoid", "gameid", "appid"),
        *("locationid", "venueid", "poiid", "recipeid", "contentid", "sku", "stockcode", "i"),
    ),
    "time": (
        *("timestamp", "time", "datetime", "date", "ts", "unixreviewtime", "unixtime"),
        *("eventtime", "createdat", "created", "reviewtime", "visitedat", "invoicedate", "t"),
    ),
    "weight": (
        *("weight", "rating", "score", "stars", "overall", "count", "plays", "playcount"),
        *("interactions", "frequency", "quantity", "value", "r", "w"),
    ),
}


def find_columns(path: Path, names: Sequence[str], config: IngestConfig) -> dict[Role, str]:
    """Return the column of each role that a log has; user and item always.

    Args:
        path: Of the log, for messages.
        names: The columns there are.
        config: Whose `user`, `item`, `time` and `weight` come before any guess.

    Raises:
        LogError: A given column is missing, no column looks like a user or an item, or two roles
            would share one. The message lists the columns there are.
    """
    found: dict[Role, str] = {}
    for role, known in NAMES.items():
        given = getattr(config, role)
        if given is not None:
            if given not in names:
                raise LogError(f"{path}: no column {given!r}; {suggest(given, names)}")
            found[role] = given
        elif (guess := _guess(names, known)) is not None:
            found[role] = guess
    for role in ("user", "item"):
        if role not in found:
            lines = " If its lines are user item item ...: --set format=adjacency."
            raise LogError(
                f"{path}: no column looks like the {role}; name it with --{role}. "
                f"Columns: {', '.join(names)}" + (lines if _are_numbers(names) else "")
            )
    _require_different(path, found)
    return found


def _are_numbers(names: Sequence[str]) -> bool:
    return all(name.partition(" ")[0].isdecimal() for name in names)


def type_problem(name: str, role: Role, dtype: pl.DataType) -> str | None:
    """Say why a column of this type cannot have this role; None if it can."""
    match role:
        case "time":
            fits = dtype.is_numeric() or dtype in (pl.String, pl.Date, pl.Datetime, pl.Null)
            known = "numbers, texts, dates or moments"
        case "weight":
            fits = dtype.is_numeric() or dtype in (pl.String, pl.Boolean, pl.Null)
            known = "numbers"
        case _:
            fits = not (dtype.is_nested() or dtype in (pl.Duration, pl.Object))
            known = "numbers or texts"
    return None if fits else f"column {name!r} ({role}) is of type {dtype}; known: {known}"


def binary_as_text(path: Path, table: pl.DataFrame, columns: Mapping[Role, str]) -> pl.DataFrame:
    """Decode ids that a file holds as bytes.

    Args:
        path: For messages.
        table: Columns by role.
        columns: Their names in the file.

    Raises:
        LogError: They are not UTF-8.
    """
    for role, name in columns.items():
        if table[role].dtype != pl.Binary:
            continue
        try:
            table = table.with_columns(pl.col(role).cast(pl.String))
        except pl.exceptions.PolarsError as error:
            raise LogError(
                f"{path}: column {name!r} ({role}) is of type Binary and not UTF-8;"
                " write it as text, in hexadecimal for example"
            ) from error
    return table


def _guess(names: Sequence[str], known: Sequence[str]) -> str | None:
    plain = {re.sub(r"[^a-z0-9]", "", name.lower()): name for name in reversed(names)}
    return next((plain[name] for name in known if name in plain), None)


def _require_different(path: Path, found: dict[Role, str]) -> None:
    seen: dict[str, Role] = {}
    for role, name in found.items():
        if name in seen:
            raise LogError(f"{path}: column {name!r} is taken for both {seen[name]} and {role}")
        seen[name] = role
