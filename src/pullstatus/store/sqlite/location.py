"""What a store's URL says: which file, what it may be trusted to, and where commits are made."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qsl

import msgspec

from pullstatus.errors import InvalidSetting


class Location(msgspec.Struct, frozen=True):
    """Where an embedded store is.

    Attributes:
        path: of its file, as it was written.
        any_file_system: whoever wrote the URL vouches for the file system it lies on.
        apart: whether a process of its own makes the commits; None: it does for a server.
    """

    path: Path
    any_file_system: bool = False
    apart: bool | None = None


def parse_url(url: str) -> Location:
    """Read `sqlite:///relative/path` or `sqlite:////absolute/path`, perhaps with `?OPTIONS`.

    Raises:
        InvalidSetting: it is none of these.
    """
    prefix, _, rest = url.partition(":///")
    # The last one: a name may hold others.
    path, mark, query = rest.rpartition("?") if "?" in rest else (rest, "", "")
    if prefix != "sqlite" or not path or "\0" in path or "#" in rest or path == ":memory:":
        raise InvalidSetting(
            "a store URL is sqlite:/// followed by the path of a file, for example"
            " sqlite:///pullstatus.db; it has no # in it, and no store is in memory only"
        )
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True)
    except ValueError:
        pairs = []
    options = dict(pairs)
    if len(options) != (query.count("&") + 1 if mark else 0) or not _KNOWN.issuperset(pairs):
        raise InvalidSetting(
            "behind the ? of a store URL there can be file-system=any, which accepts a file system"
            " that pullstatus does not know, and commits=process or commits=thread, which says"
            " where commits are made; & stands between two; and there can be nothing else"
        )
    commits = options.get("commits")
    return Location(
        Path(path), "file-system" in options, None if commits is None else commits == "process"
    )


_KNOWN = {("file-system", "any"), ("commits", "process"), ("commits", "thread")}
