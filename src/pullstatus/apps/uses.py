"""When keys and tokens were used last is kept beside them, and forgotten with them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from pullstatus.errors import WorldError
from pullstatus.store import Noted, Store

_FORGOTTEN = Noted(0)


async def forget_uses(store: Store, begin: str, live: Iterable[str] = ()) -> None:
    """Forget when what is not live any more was used; what was committed is no failure without.

    Args:
        begin: what the marks begin with.
        live: those that stay.
    """
    with contextlib.suppress(WorldError):
        marks = await store.marks(begin)
        await store.mark(dict.fromkeys(marks.keys() - set(live), _FORGOTTEN))
