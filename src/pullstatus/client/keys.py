"""A key stands for its caller's next page, not for one request: kept until it has brought one.

    first attempt   -- held up on its way --------------------------> takes records 1 to 5
    the same again  ------> an empty page
                                           records 1 to 5 come in
    the next pull   -------------------------------------------------------> with that key: 1 to 5

With a new key after the empty page nobody would see them: the first attempt took them under a key
for which nobody asks any more.

An attempt that had no answer can take a page as long as its signature is fresh, and the service
forgets what a key has brought after a day. So a key remembers since when a page may have been taken
under it. Once that is a day ago, asking brings another page, and says nothing of the first. The
service's clock decides that: ours may be wrong.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any, Final, Self

import msgspec

from pullstatus import limits
from pullstatus.client.pages import Page
from pullstatus.records import Kind

__all__ = ["LATE_S", "Claim", "Claims", "Holder", "NextPage", "decode_next_page"]

LATE_S: Final = 3600.0
"""Seconds after which an attempt can take nothing any more. Its signature is refused after
`limits.SKEW_S_MAX`, by a clock that may differ by as much from ours; the rest is for the pauses
between the attempts of one pull."""


class NextPage(msgspec.Struct, frozen=True, omit_defaults=True):
    """A page that was asked for, or will be. A value: each step gives the next one.

    Attributes:
        key: its Idempotency-Key.
        count_max: how many records were asked for; a key that has brought a page is refused with
            another number.
        asked_s: the earliest moment, in Unix seconds, at which it can have been taken; None if it
            can't have been, since each attempt had its answer.
        in_flight: an attempt had no answer, and no other has been answered since.
    """

    key: str
    count_max: int
    asked_s: float | None
    in_flight: bool = True

    @classmethod
    def new(cls, key: str, count_max: int) -> NextPage:
        """One that nobody has asked for."""
        return cls(key, count_max, None, in_flight=False)

    @property
    def in_doubt(self) -> bool:
        """Whether it may have been taken, or may yet be by an attempt that is on its way."""
        return self.asked_s is not None

    def sized(self, count_max: int) -> NextPage:
        """With another number of records, unless a page of the old number may be there."""
        return self if self.in_doubt else msgspec.structs.replace(self, count_max=count_max)

    def ask(self, now_s: float) -> NextPage:
        """When an attempt begins; it remains so until there is an answer."""
        asked_s = now_s if self.asked_s is None else self.asked_s
        return msgspec.structs.replace(self, asked_s=asked_s, in_flight=True)

    def empty(self, asked_s: float) -> NextPage:
        """When an attempt that began at `asked_s` has brought an empty page.

        It says that nothing was taken before, and nothing of earlier attempts that are late.
        """
        if self.in_flight:
            return msgspec.structs.replace(self, asked_s=asked_s, in_flight=False)
        if self.asked_s is not None and asked_s - self.asked_s > LATE_S:
            return msgspec.structs.replace(self, asked_s=None)
        return self

    def forgotten(self, now_s: float) -> bool:
        """Whether the service may have forgotten that it took it."""
        return self.asked_s is not None and now_s - self.asked_s > limits.PULL_KEY_S


decode_next_page: Final = msgspec.json.Decoder(NextPage).decode


class Holder:
    """A call that asks for a page. However it ends, what it holds is free then.

    Attributes:
        ended: it has.
    """

    def __init__(self) -> None:
        self.ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.ended = True


class Claim:
    """One caller's claim to its next page.

    Attributes:
        next: the page, as far as it is known.
        page: the page itself, if it came and has yet to be acknowledged.
        attempts: how often the page was handed over.
        answer_s: how long the last answer took, in seconds of the wall clock.
        ack_refused: what the service said when it refused to acknowledge the page before.
    """

    def __init__(self, kind: Kind, next_page: NextPage) -> None:
        self.kind = kind
        self.next = next_page
        self.page: Page[Any] | None = None
        self.attempts = 0
        self.answer_s = 0.0
        self.ack_refused = ""
        self._holder: Callable[[], object] | None = None

    @property
    def free(self) -> bool:
        """Whether nobody has it in hand; a batch that was dropped without a word is in nobody's."""
        holder = None if self._holder is None else self._holder()
        return holder is None or (isinstance(holder, Holder) and holder.ended)

    def hold(self, holder: object) -> None:
        """Put it into the hands of whoever has this: a `Holder`, then the batch."""
        self._holder = weakref.ref(holder)

    def let_go(self) -> None:
        """Have it in hand no more."""
        self._holder = None


class Claims:
    """All claims of one client that are not settled; each is in the hands of one caller at a time.

    There are as many as callers have pulled at the same time.

    Attributes:
        forsaken: this process was forked, and what was there is its parent's.
    """

    def __init__(self, new_key: Callable[[], str]) -> None:
        self._new_key = new_key
        self._lock = threading.RLock()  # a signal's handler may pull, or close the client
        self._claims: list[Claim] = []
        self.forsaken = False

    def take(
        self, holder: Holder, kind: Kind, count_max: int, key: str | None, *, keep: bool = False
    ) -> Claim:
        """The oldest claim that nobody holds, or a new one.

        Args:
            holder: who holds it from now on.
            key: the claim with this key instead.
            keep: whether to keep it after this call if its key is not one of ours; it is its
                caller's to keep otherwise.
        """
        with self._lock:
            claim = self._find(kind, key)
            if claim is not None:
                claim.hold(holder)
                claim.next = claim.next.sized(count_max)
                return claim
            claim = Claim(kind, NextPage.new(key or self._new_key(), count_max))
            claim.hold(holder)
            if key is None or keep:
                self._claims.append(claim)
            return claim

    def asks(self, claim: Claim, page: NextPage) -> None:
        """Note that a claim's page is asked for, as it then stands, before that is done."""
        claim.next = page

    def forsake(self) -> None:
        """In a forked process: they are all the parent's, and the lock may be held there."""
        self._lock = threading.RLock()
        self._claims = []
        self.forsaken = True

    def finish(self, claim: Claim, *, acknowledged: bool) -> None:
        """Its page was acknowledged; or its receiver failed, and the next caller gets it."""
        if acknowledged:
            self.settle(claim)
        else:
            claim.let_go()

    def settle(self, claim: Claim) -> None:
        """Forget it: its page is safe, or will never come."""
        with self._lock:
            if claim in self._claims:
                self._claims.remove(claim)
                self._settled(claim)

    def close(self) -> None:
        """The client is closed."""

    def _find(self, kind: Kind, key: str | None) -> Claim | None:
        """The oldest that can be had; called with the lock."""
        for claim in self._claims:
            if claim.free and claim.kind is kind and key in (None, claim.next.key):
                return claim
        return None

    def _settled(self, claim: Claim) -> None:
        """One was done with; called with the lock."""
