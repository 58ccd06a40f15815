"""No traces of what was to vanish: the store's files are written anew.

That they are to be is on record in the store: if this is cut off, whoever comes next does it.

    mark  ->  remove, seal anew ...  ->  mark  ->  write the files anew  ->  take the mark away

Several may do so at once, and whoever writes the files does it for all whose mark he found. So each
mark is another, the one that is found is taken away and no other, and who has removed marks once
more: what was written meanwhile had not all of it. He does so where he fails, too; who is killed,
and whose first mark somebody took away before, has left none.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import msgspec

from pullstatus.apps.operator import Operator
from pullstatus.apps.sealing import KEY_ID_BYTES
from pullstatus.apps.values import REWRITE_DUE as DUE
from pullstatus.errors import WorldError
from pullstatus.store import Change, Store, rewrite_store


@contextlib.asynccontextmanager
async def removing(store: Store, by: Operator) -> AsyncIterator[None]:
    """What vanishes from the store within this is to leave no traces in its files."""
    await mark(store, by)
    try:
        yield
    except BaseException:  # what has vanished until then has
        with contextlib.suppress(WorldError):
            await mark(store, by)
        raise
    await mark(store, by)


async def mark(store: Store, by: Operator) -> None:
    """Have the files written anew, for what has vanished until now."""
    made = msgspec.json.encode(by.random_hex(KEY_ID_BYTES))
    while not await store.change(Change(DUE, made, await _mark(store))):
        pass


async def is_due(store: Store) -> bool:
    """Whether the files are to be written anew."""
    return await _mark(store) is not None


async def rewrite_if_due(store: Store, url: str, *, serving: bool = True) -> bool:
    """Write the files of the store at `url` anew if they are to be; returns whether they were.

    Args:
        store: that store, open.
        serving: see `rewrite_store`.

    Raises:
        StoreRefused, StoreUnavailable: they were not, and are still to be.
    """
    found = await _mark(store)
    if found is None:
        return False
    await rewrite_store(url, serving=serving)
    await store.change(Change(DUE, None, found))
    return True


async def _mark(store: Store) -> bytes | None:
    setting = await store.setting(DUE)
    return None if setting is None else setting.value
