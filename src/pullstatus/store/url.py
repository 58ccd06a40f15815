"""What a store's URL says: which engine, where, and what it may be trusted to."""

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
    """

    path: Path
    any_file_system: bool = False


def parse_url(url: str) -> Location:
    """Read `sqlite:///relative/path` or `sqlite:////absolute/path`, perhaps `?file-system=any`.

    Raises:
        InvalidSetting: no engine has such a URL.
    """
    prefix, _, rest = url.partition(":///")
    # The last one: a name may hold others.
    path, mark, query = rest.rpartition("?") if "?" in rest else (rest, "", "")
    if prefix != "sqlite" or not path or "\0" in path:
        raise InvalidSetting(
            "a store URL is sqlite:/// followed by the path of a file, "
            "for example sqlite:///pullstatus.db"
        )
    if mark and parse_qsl(query) != [("file-system", "any")]:
        raise InvalidSetting(
            "behind the ? of a store URL there can be file-system=any, which accepts a file system"
            " that pullstatus does not know, and nothing else"
        )
    return Location(Path(path), bool(mark))
