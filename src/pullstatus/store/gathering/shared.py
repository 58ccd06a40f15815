"""What is the same of every store that many servers may share: nobody has it alone."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import AbstractAsyncContextManager

from pullstatus.store.gathering.store import GatheredStore
from pullstatus.store.values import Mailbox


class SharedStore(GatheredStore):
    """A store that any number of processes may have open, anywhere."""

    @abstractmethod
    def following(self) -> AbstractAsyncContextManager[bool]:
        """See `Store.following`."""

    @abstractmethod
    def _removing(self) -> AbstractAsyncContextManager[bool]:
        """Whether this process is the one that removes what is too old, until the block ends."""

    def surely_empty(self, mailbox: Mailbox) -> bool:  # noqa: ARG002 - nobody can know
        """See `Store.surely_empty`. Another process may have filled it at any time."""
        return False

    async def forget(self, *, accepted_before_ms: int, now_ms: int, hours_before: int = 0) -> int:
        """See `Store.forget`. If another process does so already, nothing is left to do."""
        async with self._removing() as ours:
            if not ours:
                return 0
            return await super().forget(
                accepted_before_ms=accepted_before_ms, now_ms=now_ms, hours_before=hours_before
            )

    async def purge(self, *, left_before_ms: int) -> int:
        """See `Store.purge`. If another process removes what is too old, nothing is left to do."""
        async with self._removing() as ours:
            return await super().purge(left_before_ms=left_before_ms) if ours else 0

    async def commit_s(self) -> float:
        """See `Store.commit_s`."""
        return 0.0
