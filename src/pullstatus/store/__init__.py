"""The seam to the engines: a few verbs over mailboxes, each atomic, each durable on return.

A store keeps, for each mailbox, a log of entries and a cursor:

    append ->  [ 1 2 3 4 5 6 7 8 9 10 11 12 ]
                         ^cursor          ^tail

and, in the same commit as every move of a cursor, a journal row that says who took which range.
Beside that it keeps named *settings* (applications, tokens), opaque to it, changed by compare and
set. It must not know HTTP, signatures, what a record means, or what time it is.

`tests/store` holds one conformance suite that every engine passes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

from pullstatus.errors import InvalidSetting
from pullstatus.store.values import (
    Append,
    Backlog,
    Engine,
    Entry,
    Fingerprints,
    JournalRow,
    Mailbox,
    Outcome,
    Page,
    Pull,
    RepeatKey,
    Setting,
    pull_id,
)

__all__ = [
    "Append",
    "Backlog",
    "Engine",
    "Entry",
    "Fingerprints",
    "JournalRow",
    "Mailbox",
    "Outcome",
    "Page",
    "Pull",
    "RepeatKey",
    "Setting",
    "Store",
    "open_store",
    "pull_id",
]


class Store(Protocol):
    """An engine. Every verb is atomic; a returned `append`, `pull` or `change` is durable.

    Any verb may raise `StoreUnavailable`: nothing happened, trying again can help. `append`, `pull`
    and `change` may raise `OutcomeUnknown`: the commit may or may not have happened, the caller
    must not answer either way, and the store takes no more work.
    """

    async def append(self, operation: Append) -> int:
        """Put a batch at the tail. Returns how many records are acknowledged: all of them.

        Records that the store knows already (by key or fingerprint) are acknowledged, not stored.

        Raises:
            KeyReused: the key came before with another body.
        """
        ...

    async def pull(self, operation: Pull) -> Page:
        """Take a page from the head, move the cursor past it and write its journal row, as one.

        A page shorter than asked for means that everything accepted before is taken.

        Raises:
            KeyReused: the key came before with another mailbox or `count_max`.
            ReplayRefused: a single-use signature was used before.
        """
        ...

    def waiting(self, mailbox: Mailbox) -> int:
        """Entries between cursor and tail, as of the newest commit of this store object."""
        ...

    async def backlog(self) -> list[Backlog]:
        """How every mailbox stands, in order of mailbox."""
        ...

    async def oldest_waiting_ms(self) -> int | None:
        """When the oldest entry that waits anywhere was accepted; None when nothing waits."""
        ...

    def entries(self, mailbox: Mailbox, first_seq: int = 1) -> AsyncIterator[Entry]:
        """Stored entries from `first_seq` on, in order, taken or not."""
        ...

    def journal(self, mailbox: Mailbox, first_seq: int = 1) -> AsyncIterator[JournalRow]:
        """Journal rows of ranges that start at `first_seq` or later, in order."""
        ...

    async def forget(self, *, before_ms: int) -> int:
        """Drop remembered batches and records that were accepted before; returns how many."""
        ...

    async def settings(self, since: int = 0) -> Sequence[Setting]:
        """Settings written after revision `since`, oldest first; deleted ones have no value."""
        ...

    async def change(self, name: str, value: bytes | None, *, expected: bytes | None) -> bool:
        """Set a setting if its value is still `expected` (None: absent). Returns whether it was."""
        ...

    def engine(self) -> Engine:
        """Figures of the engine's work since it was opened."""
        ...

    async def close(self) -> None:
        """Finish what was begun, release the files. Calling it again does nothing."""
        ...


async def open_store(
    url: str, *, server: bool = False, on_failure: Callable[[BaseException], None] | None = None
) -> Store:
    """Open the store that `url` names; `sqlite:///relative` or `sqlite:////absolute/path`.

    Args:
        url: which engine, and where.
        server: this is the one serving process; a second one on the same store is refused.
        on_failure: called once, from any thread, when the store can take no more work.

    Raises:
        InvalidSetting: no engine has such a URL.
        StoreRefused: the store is not safe to open; the text says what to change.
    """
    scheme, separator, rest = url.partition("://")
    if scheme == "sqlite" and separator:
        from pullstatus.store.sqlite import SqliteStore

        return await SqliteStore.open(rest, server=server, on_failure=on_failure)
    raise InvalidSetting(
        "a store URL starts with sqlite:/// followed by the path of a file, "
        "for example sqlite:///pullstatus.db"
    )
