"""By which token an entry came: its sender's mark, in the ticket of what appended it.

    ticket = 8 bytes at random, once | 2 bytes: the mark | 6 bytes that count

A ticket is stored with each entry anyway, and whoever gives it has two bytes to spare (`Tickets`).
They tell few tokens apart from one another, so an entry's sender is looked for among those that may
have fed its application; where two of these have one mark, both are named.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from typing import Final

from pullstatus.apps.values import TOKENS, read_token
from pullstatus.store import Store

_MARK: Final = slice(8, 10)
_NONE: Final = bytes(2)  # of what came before there were marks, or has no sender


@functools.lru_cache(maxsize=1024)
def _mark(sender: str) -> bytes:
    mark = hashlib.blake2b(sender.encode(), digest_size=2, person=b"sender").digest()
    return b"\0\1" if mark == _NONE else mark


def marked(ticket: bytes, sender: str) -> bytes:
    """The ticket of what this sender sent: no other has it if no other had the one given.

    Args:
        sender: the name of a token.
    """
    return ticket[: _MARK.start] + _mark(sender) + ticket[_MARK.stop :]


class Senders:
    """All tokens that there are, and the names of those that are no more, as of one moment."""

    def __init__(self, feeds: Mapping[str, int | None]) -> None:
        """From the name of each to the only application that it feeds."""
        self._feeds = feeds

    @classmethod
    async def read(cls, store: Store) -> Senders:
        """Those of a store. What a revoked one fed is not known any more."""
        return cls(
            {
                setting.name.removeprefix(TOKENS): (
                    None
                    if setting.value is None
                    else read_token(setting.name, setting.value).sdkappid
                )
                async for setting in store.settings(prefix=TOKENS)
            }
        )

    def of(self, ticket: bytes, sdkappid: int) -> list[str]:
        """The token by which an entry of an application came, or the few of which one was it.

        None if that is not known: it came before entries had marks, or not by a token of this
        store. An entry that is a copy tells nothing; its original does.
        """
        mark = ticket[_MARK]
        if mark == _NONE:
            return []
        return [
            name
            for name, fed in self._feeds.items()
            if fed in (None, sdkappid) and _mark(name) == mark
        ]
