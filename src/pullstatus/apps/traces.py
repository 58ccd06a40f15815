"""No traces of what was to vanish: the store's files are written anew.

That they are to be is on record in the store: if this is cut off, whoever comes next does it.

    mark   ->  remove, seal anew ...  ->  write the files anew  ->  take the mark away
"""

from __future__ import annotations

from pullstatus.apps.values import REWRITE_DUE as DUE
from pullstatus.store import Change, Store, rewrite_store

_YES = b"true"


async def mark(store: Store) -> None:
    """Have the files written anew, before anything vanishes."""
    while not await is_due(store):
        await store.change(Change(DUE, _YES, None))


async def is_due(store: Store) -> bool:
    """Whether the files are to be written anew."""
    setting = await store.setting(DUE)
    return setting is not None and setting.value is not None


async def rewrite_if_due(store: Store, url: str, *, serving: bool = True) -> bool:
    """Write the files of the store at `url` anew if they are to be; returns whether they were.

    Args:
        store: that store, open.
        serving: see `rewrite_store`.

    Raises:
        StoreRefused, StoreUnavailable: they were not, and are still to be.
    """
    if not await is_due(store):
        return False
    await rewrite_store(url, serving=serving)
    await store.change(Change(DUE, None, _YES))
    return True
