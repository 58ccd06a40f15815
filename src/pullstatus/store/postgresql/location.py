"""What a store's URL says: which database, how it is reached, and where commits are made.

A URL of libpq, as every tool of PostgreSQL takes it, with two words of our own behind the `?`. No
password is in it: what a store is called is shown in lists of processes, in logs and in errors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import msgspec

from pullstatus.errors import InvalidSetting


class Location(msgspec.Struct, frozen=True):
    """Where a store is.

    Attributes:
        conninfo: for libpq; without a password.
        name: a URL of the database, the same whoever connects to it, and how.
        shown: host and database, for people.
        apart: whether a process of its own makes the commits; None: it does for a server.
        bytes_max: of the database, above which no more entries are taken; None: the operator sees
            to that.
    """

    conninfo: str
    name: str
    shown: str
    apart: bool | None = None
    bytes_max: int | None = None


FORM = "postgresql://[USER@]HOST[:PORT][,HOST...]/DATABASE"

_PASSWORDS = frozenset({"password", "sslpassword"})
APPLICATION: Final = "pullstatus"  # as the database calls our connections
CONNECT_S: Final = 5  # for each host of a URL
SET_HERE: Final[Mapping[str, int | str]] = {
    "connect_timeout": CONNECT_S,
    "keepalives": 1,
    "keepalives_idle": 2,
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "tcp_user_timeout": 5000,
    "application_name": APPLICATION,
    "client_encoding": "UTF8",  # or the driver has no text of what a server says of itself
}
"""Parameters of libpq that every connection has, whatever the URL; so it may not have them."""

_NOT_TAKEN = frozenset({*SET_HERE, "options", "load_balance_hosts", "replication"})
_WRITES = ("read-write", "primary")  # as which server is looked for anyway
_WHERE = ("host", "hostaddr", "port")
_BYTES = re.compile(r"[1-9][0-9]{0,17}")


def parse_url(url: str) -> Location:
    """Read `postgresql://USER@HOST:PORT,HOST:PORT/DATABASE?OPTIONS`.

    Raises:
        InvalidSetting: it is none, or says what must not be in it.
    """
    try:
        parts = urlsplit(url)
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise InvalidSetting(_WRONG) from None
    options = dict(pairs)
    user, _, hosts = parts.netloc.rpartition("@")
    if (
        not url.startswith("postgresql://")
        or "#" in url
        or "\0" in url
        or len(options) != len(pairs)
    ):
        raise InvalidSetting(_WRONG)
    if ":" in user or _PASSWORDS.intersection(options):
        raise InvalidSetting(
            "a password in a store URL can be read by everybody who sees the list of processes:"
            " put it into a file that PGPASSFILE names, or into PGPASSWORD, and leave it out"
        )
    if options.get("target_session_attrs", "primary") not in _WRITES:
        raise InvalidSetting("a store is at the server that writes: leave out target_session_attrs")
    if meant := sorted(_NOT_TAKEN.intersection(options)):
        raise InvalidSetting(f"a store URL cannot have {meant[0]}: pullstatus sets it itself")
    commits = options.pop("commits", None)
    bytes_max = options.pop("max-bytes", None)
    if commits not in (None, "process", "thread") or not (
        bytes_max is None or _BYTES.fullmatch(bytes_max)
    ):
        raise InvalidSetting(_WRONG)
    query = urlencode(options, quote_via=quote)
    conninfo = f"postgresql://{parts.netloc}{parts.path}" + (f"?{query}" if query else "")
    where = options.get("host") or hosts or "localhost"
    database = options.get("dbname") or parts.path.removeprefix("/") or user or "its default"
    place = {name: value for name, value in options.items() if name in _WHERE}
    named = f"postgresql://{hosts}/{database}"
    return Location(
        conninfo,
        f"{named}?{urlencode(place, quote_via=quote)}" if place else named,
        f"database {database} at {where}",
        None if commits is None else commits == "process",
        None if bytes_max is None else int(bytes_max),
    )


_WRONG = (
    f"a store URL of PostgreSQL is {FORM}, perhaps with ? and parameters of libpq, such as"
    " sslmode=verify-full; of our own there are commits=process or commits=thread, which says where"
    " commits are made, and max-bytes=NUMBER, the size of the database from which on nothing more"
    " is accepted"
)
