"""Which column of a log is the user, the item, the time, the weight."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

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
            raise LogError(
                f"{path}: no column looks like the {role}; name it with --{role}. "
                f"Columns: {', '.join(names)}"
            )
    _require_different(path, found)
    return found


def _guess(names: Sequence[str], known: Sequence[str]) -> str | None:
    plain = {re.sub(r"[^a-z0-9]", "", name.lower()): name for name in reversed(names)}
    return next((plain[name] for name in known if name in plain), None)


def _require_different(path: Path, found: dict[Role, str]) -> None:
    seen: dict[str, Role] = {}
    for role, name in found.items():
        if name in seen:
            raise LogError(f"{path}: column {name!r} is taken for both {seen[name]} and {role}")
        seen[name] = role
