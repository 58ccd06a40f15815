"""A page of records, and a page somebody has yet to finish with."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

import msgspec

from pullstatus.client.records import Record
from pullstatus.records import Kind

__all__ = ["Batch", "Page"]

R_co = TypeVar("R_co", bound=Record, covariant=True)


class Page(msgspec.Struct, Generic[R_co], frozen=True, kw_only=True):
    """What one pull brought. Iterating gives its records, oldest first; empty pages are falsy.

    Attributes:
        kind: which mailbox they are from.
        records: 0 to 100 of them.
        key: the Idempotency-Key that brings this page again, for 24 hours, from a service that
            knows such keys. An empty page has not used its key up: keep it for the next pull.
            "" if a reader has pulled it.
        keyed: the service knows them.
        waiting: how many records were left in the mailbox; None if the service doesn't say.
        pull_id: the page's name in the service's journal, which no other page ever gets; None if it
            is empty, or if the service doesn't say.
        given: how often the service has handed this page to its reader, this time included: 1, or
            more if somebody has had it before.
        in_doubt: this page is empty, but an attempt with its key that had no answer may yet take
            one: ask again with the key within 24 hours.
        ack_refused: what the service said when it refused the acknowledgement that went before this
            page; "" if it didn't. Its hand was released, or restored, or another program reads
            under the same name.
    """

    kind: Kind
    records: tuple[R_co, ...]
    key: str
    keyed: bool
    waiting: int | None = None
    pull_id: str | None = None
    given: int = 1
    in_doubt: bool = False
    ack_refused: str = ""

    def __repr__(self) -> str:
        return f"<Page of {len(self)} {self.kind.path}, {_named(self)}>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """As `repr`: without the records, which are personal data."""
        name = ("key", self.key) if self.key else ("pull_id", self.pull_id)
        return [("kind", self.kind), ("count", len(self)), name]

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[R_co]:
        return iter(self.records)


class Finish(Protocol):
    """Who is told that a batch is finished with."""

    def __call__(self, *, acknowledged: bool) -> None:
        """It was acknowledged, or its receiver failed."""


class Batch(Generic[R_co]):
    """A page that its receiver acknowledges; until then no other page is asked for.

    Use it as a context manager, which acknowledges when the block ends well:

        for batch in client.delivery_statuses():
            with batch:
                database.store(batch)

    or call `ack` yourself. A client with a reader tells the service with the next pull, or when it
    is closed. When the block raises, the same batch comes again, if the iterator is asked once
    more, or another one of the same client. So does a batch that was dropped, with its iterator,
    before its `ack`.

    Attributes:
        page: the page itself.
        attempt: 1, then one more each time that the batch is handed over again.
    """

    def __init__(self, page: Page[R_co], attempt: int, on_finish: Finish) -> None:
        self.page = page
        self.attempt = attempt
        self._on_finish = on_finish
        self._finished: bool | None = None  # by an acknowledgement, or a failure

    @property
    def records(self) -> tuple[R_co, ...]:
        """The records, oldest first."""
        return self.page.records

    @property
    def pull_id(self) -> str | None:
        """The page's name, which no other page ever gets; None if the service doesn't say.

        Whoever stores it in the transaction that stores the records does each page exactly once.
        """
        return self.page.pull_id

    @property
    def acknowledged(self) -> bool:
        """Whether the receiver has finished with it."""
        return self._finished is True

    @property
    def failed(self) -> bool:
        """Whether the receiver's block raised, so that the batch is due again."""
        return self._finished is False

    def ack(self) -> None:
        """Say that these records are safe now, so that the next may be asked for."""
        self._finished = True
        self._on_finish(acknowledged=True)

    def __len__(self) -> int:
        return len(self.page)

    def __iter__(self) -> Iterator[R_co]:
        return iter(self.page)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error: type[BaseException] | None,
        _value: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.ack()
        elif not self.acknowledged:
            self._finished = False
            self._on_finish(acknowledged=False)

    def __repr__(self) -> str:
        state = {None: "open", True: "acknowledged", False: "failed"}[self._finished]
        return f"<Batch of {len(self)} {self.page.kind.path}, {state}, {_named(self.page)}>"


def _named(page: Page[Any]) -> str:
    return f"key {page.key}" if page.key else f"pull {page.pull_id}"
