"""Master keys of stores that tests make: where their commands and servers find them."""

from __future__ import annotations

from pathlib import Path

from pullstatus import apps
from pullstatus.apps import Keyring, MasterKey, OwnFile
from pullstatus.apps.masters import SUFFIX
from pullstatus.store import Store
from pullstatus.store.sqlite import SqliteStore

NO_MASTERS = OwnFile(Path("/proc/none"), Path("/proc/none"))
"""For what never meets a sealed appkey."""

KEYRING = Keyring([MasterKey(b"m" * 32)], "here")
"""For what never meets a store."""


def masters_of(store: Store) -> OwnFile:
    """The master key's file beside a store, there or not; also of one that stands for it."""
    inner = vars(store).get("_store", store)
    assert isinstance(inner, SqliteStore)
    return OwnFile(inner.path.with_name(inner.path.name + SUFFIX), inner.path)


async def keyring_of(store: Store) -> Keyring:
    """What seals appkeys in a store; made if there is none yet."""
    return await apps.open_keyring(store, masters_of(store))
