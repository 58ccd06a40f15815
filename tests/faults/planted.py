"""Bugs to plant in a client's process of `Doors`, before it opens its door: what must be caught.

The first kind breaks answers of any embedded store, so that the judgement itself is tested.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec

from pullstatus.errors import OutcomeUnknown
from pullstatus.store import Append, Count, Follow, Page, Pull
from pullstatus.store.sqlite import SqliteStore

T = TypeVar("T")
LIVES = 5  # of a run in which a bug strikes by chance: one that shows it is enough
OFTEN = 0.1  # of the calls that can be answered wrongly
EMPTY = Page(0, 0, b"", 0)


def _at_times(
    verb: str, instead: Callable[[Callable[..., Awaitable[Any]], Any, Any], Awaitable[Any]]
) -> None:
    """Have `instead` done of some calls of a verb: it gets the verb, the store, the operation."""
    real = getattr(SqliteStore, verb)

    async def broken(self: SqliteStore, operation: Any, gone: Any = None) -> Any:  # noqa: ANN401
        if random.random() < OFTEN:
            return await instead(real, self, operation)
        return await real(self, operation, gone)

    setattr(SqliteStore, verb, broken)


def loses() -> None:
    """A batch is acknowledged, and was not stored."""

    async def instead(_real: object, _store: object, operation: Append) -> int:
        return operation.count

    _at_times("append", instead)


def stores_twice() -> None:
    """A batch is done again, as if it had not been stored, and by nothing known for the same."""

    async def instead(real: Callable[..., Awaitable[int]], store: object, operation: Append) -> int:
        await real(store, operation)
        return await real(
            store, msgspec.structs.replace(operation, repeat_key=None, fingerprints=None)
        )

    _at_times("append", instead)


def counts_twice() -> None:
    """What is derived is added to tallies once more, and the mark is moved once."""
    real = SqliteStore.follow

    async def follow(self: SqliteStore, operation: Follow) -> bool:
        if random.random() < 0.5:  # there are few
            await self.count(Count(operation.mailbox.sdkappid, operation.tallies, 0))
        return await real(self, operation)

    setattr(SqliteStore, "follow", follow)  # noqa: B010 - a method, for a type checker


def hands_out_twice() -> None:
    """A pull is answered with the page of another."""
    last: dict[object, Page] = {}
    real = SqliteStore.pull

    async def broken(self: SqliteStore, operation: Pull, gone: Any = None) -> Page:  # noqa: ANN401
        if random.random() < OFTEN and operation.mailbox in last and operation.count_max == 100:
            return last[operation.mailbox]
        page = await real(self, operation, gone)
        if page.count:
            last[operation.mailbox] = page
        return page

    SqliteStore.pull = broken  # type: ignore[method-assign]


def takes_and_is_silent() -> None:
    """A pull takes a page and answers that there is none."""

    async def instead(real: Callable[..., Awaitable[Page]], store: object, operation: Pull) -> Page:
        await real(store, operation)
        return EMPTY

    _at_times("pull", instead)


def does_not_look() -> None:
    """A pull says without a look that nothing waits."""

    async def instead(_real: object, _store: object, _operation: Pull) -> Page:
        return EMPTY

    _at_times("pull", instead)


def changes_repeats() -> None:
    """A page that comes again is not the same bytes."""
    real = SqliteStore.pull

    async def broken(self: SqliteStore, operation: Pull, gone: Any = None) -> Page:  # noqa: ANN401
        page = await real(self, operation, gone)
        data = page.data.replace(b"x,", b"x;", 1) if page.repeated else page.data
        return msgspec.structs.replace(page, data=data)

    SqliteStore.pull = broken  # type: ignore[method-assign]


def shrugs() -> None:
    """What has been done is said to be unknown."""

    async def instead(real: Callable[..., Awaitable[T]], store: object, operation: object) -> T:
        await real(store, operation)
        raise OutcomeUnknown("planted")

    _at_times("append", instead)


def forgets_once() -> None:
    """What must not come twice may."""
    real = SqliteStore.pull

    async def broken(self: SqliteStore, operation: Pull, gone: Any = None) -> Page:  # noqa: ANN401
        return await real(self, msgspec.structs.replace(operation, once=None), gone)

    SqliteStore.pull = broken  # type: ignore[method-assign]
