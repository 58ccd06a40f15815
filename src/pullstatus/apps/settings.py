"""Settings of every kind that there is, proven to be what was set."""

from __future__ import annotations

from typing import Final

import msgspec

from pullstatus.apps.routing import read_rules
from pullstatus.apps.sources import read_kept
from pullstatus.apps.values import (
    ADVICE,
    APPLICATIONS,
    ID,
    INDEX_KEY,
    PAIRS,
    REWRITE_DUE,
    ROUTING,
    SEALING,
    SOURCES,
    TOKENS,
    Sealing,
    decoded,
    read_application,
    read_pair,
    read_token,
    told,
)
from pullstatus.errors import StoreCorrupt
from pullstatus.store import segments

__all__ = ["read_sealing", "read_setting"]


def read_sealing(name: str, value: bytes) -> Sealing:
    """What the store says of the master key that it seals under.

    Raises:
        StoreCorrupt: it is not what was set.
    """
    sealing = decoded(name, value, _decode_sealing)
    if ID.fullmatch(sealing.id) is None:
        raise StoreCorrupt(f"the setting {told(name)} is not what was set; {ADVICE}")
    return sealing


def read_setting(name: str, value: bytes) -> object:
    """A setting of any kind that there is.

    Raises:
        StoreCorrupt: it is not what was set, or nobody sets one of that name.
    """
    if name.startswith(APPLICATIONS):
        return read_application(name, value)
    if name.startswith(TOKENS):
        return read_token(name, value)
    if name.startswith(PAIRS):
        return read_pair(name, value)
    if name == SEALING:
        return read_sealing(name, value)
    if name == ROUTING:
        return read_rules(name, value)
    if name.startswith(SOURCES):
        return read_kept(name, value)
    if name == REWRITE_DUE:
        return _read_mark(name, value)
    if name == INDEX_KEY:
        if len(value) != segments.KEY_BYTES:
            raise StoreCorrupt(f"the setting {told(name)} is not what was set; {ADVICE}")
        return value
    raise StoreCorrupt(f"the setting {told(name)} is none that there is; {ADVICE}")


def _read_mark(name: str, value: bytes) -> str | bool:
    """That the files are to be written anew, as an id; before 0.2.0 it was no more than so."""
    mark: str | bool = decoded(name, value, _decode_mark)
    if isinstance(mark, str) and ID.fullmatch(mark) is None:
        raise StoreCorrupt(f"the setting {told(name)} is not what was set; {ADVICE}")
    return mark


_decode_sealing: Final = msgspec.json.Decoder(Sealing).decode
_decode_mark: Final = msgspec.json.Decoder(str | bool).decode
