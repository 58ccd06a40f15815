"""A pull that was let in, put to the store: once, or until it has something; for every face alike.

It takes or it does not, and what it raises says which: see `Taking.take`. How that is said to who
asked is his face's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

import msgspec
import structlog

from pullstatus import limits, mailbox
from pullstatus.apps import LiveApplication
from pullstatus.apps.admission import CHANGED_AGAIN, Admission, Call, PairCall, as_of
from pullstatus.errors import (
    AcknowledgementRefused,
    CallerError,
    CallerGone,
    KeyReused,
    OutcomeUnknown,
    Overloaded,
    PeerError,
    ReplayRefused,
    SettingChanged,
    StoreCorrupt,
    StoreUnavailable,
    TooManyReaders,
)
from pullstatus.mailbox.held import Held
from pullstatus.mailbox.repeats import NEVER, Repeat
from pullstatus.records import Kind
from pullstatus.server.budget import SAID, Budget
from pullstatus.server.figures import Figures
from pullstatus.server.http import (
    HELD_S,
    Disconnected,
    Headers,
    Scope,
    gone,
    gone_after,
    leaving,
    share_of,
    whose,
)
from pullstatus.server.words import ACK_REFUSED
from pullstatus.store import Gone, Once, Page, Store, pull_id

log = structlog.get_logger(__name__)

SIGNATURE_USED = "this signature was used before; sign each request anew"


Say = Callable[[Page], bytes]
"""How a face says a page."""

Answer = tuple[Page, Headers, bytes]


class Signed(Protocol):
    """What is known of a pull by its signature."""

    @property
    def proof(self) -> str:
        """What was signed, for the journal."""

    @property
    def nonce(self) -> str:
        """What no other pull of the application has in common with this one."""

    @property
    def time(self) -> int:
        """When it says that it was signed, in Unix seconds."""


class Asked(msgspec.Struct):
    """A pull that was let in: what the store is asked, once or until it has something.

    Attributes:
        call: as which it was let in, and is once more if what lets it in is changed meanwhile.
        wait_s: for how long.
        now_ms: when the store is asked.
        known: the store knows the signature already, from this very request.
        failed: what the store said, if it has been asked already and that is not told yet.
    """

    request: Signed
    call: Call | PairCall
    live: LiveApplication
    kind: Kind
    count_max: int
    repeat: Repeat
    wait_s: int
    now_ms: int
    known: bool = False
    failed: Exception | None = None

    def again(self, now_ms: int) -> None:
        """The store has been asked and had nothing: what the next time is not to say again."""
        self.now_ms = now_ms
        self.call = as_of(self.call, now_ms)
        self.known = self.known or self.live.application.strict
        self.repeat = self.repeat.acknowledged()

    @property
    def once(self) -> Once | None:
        """The signature, until it is refused as too old in any case, where it comes once only."""
        if self.known or not self.live.application.strict:
            return None
        return Once(self.request.nonce, (self.request.time + limits.SIGNATURE_KEPT_S) * 1000)


class Taking:
    """Takes pages out of a store, for the faces of a server."""

    def __init__(
        self,
        store: Store,
        admission: Admission,
        held: Held,
        figures: Figures,
        budget: Budget,
        *,
        now_ms: Callable[[], int],
        tickets: Callable[[], bytes],
    ) -> None:
        self._store = store
        self._admission = admission
        self._held = held
        self._figures = figures
        self._budget = budget
        self._now_ms = now_ms
        self._tickets = tickets

    def asking(self, asked: Asked, gone: Gone) -> Awaitable[Page]:
        """Put a pull to the store; raises what that does."""
        return mailbox.pull(
            self._store,
            asked.live,
            asked.kind,
            asked.count_max,
            address=asked.call.address,
            proof=asked.request.proof,
            once=asked.once,
            repeat=asked.repeat,
            now_ms=asked.now_ms,
            ticket=self._tickets(),
            gone=gone,
        )

    def told(self, asked: Asked, page: Page) -> Headers:
        """What headers say of a page that was taken, which is counted."""
        headers = [(b"pullstatus-waiting", b"%d" % page.waiting)]
        if page.count:
            name = pull_id(asked.live.mailboxes[asked.kind], page.first_seq, self._store.epoch)
            headers.append((b"pullstatus-pull-id", name.encode()))
            if not page.repeated:
                self._figures.records_out[asked.kind] += page.count
            if page.given > 1:
                headers.append((b"pullstatus-given", b"%d" % page.given))
                self._figures.pages_given_again += 1
        return headers

    def take(self, asked: Asked, scope: Scope, said: Say) -> Awaitable[Answer]:
        """The page that a pull gets, what headers tell of it, and how its face says it.

        Many wait here, so none of them has a frame of this.

        Raises:
            KeyReused, AcknowledgementRefused, TooManyReaders, ReplayRefused, StoreUnavailable:
                nothing was consumed.
            UnknownApplication, UnknownSecret, NotAdmitted: nor then; the application was changed,
                or the pair that lets the call in.
            Disconnected: nor then; the peer went while this waited for the store.
            OutcomeUnknown: something may have been, and that is all that can be said after an
                error which nobody foresaw once the store was asked, in `said` as well.
        """
        return (self._hold if asked.wait_s else self._ask_once)(asked, scope, said)

    def waits(self, asked: Asked) -> bool:
        """Whether it may have to wait for a record, or for room: its scope is needed for that."""
        if asked.wait_s:
            return True
        return self._budget.full(asked.live.application.sdkappid) is not None

    def finds_nothing(self, asked: Asked) -> bool:
        """Whether it would find nothing and leave no trace, at this moment."""
        return (
            asked.repeat is NEVER
            and not asked.live.application.strict
            and self._store.surely_empty(asked.live.mailboxes[asked.kind])
        )

    async def take_at_once(self, asked: Asked, gone: Gone, said: Say) -> tuple[Headers, bytes]:
        """The page of a pull that does not wait; raises what the store does, and `said`.

        Whoever gets such an error has it told by `take`, as `Asked.failed`.
        """
        page = await self.asking(asked, gone)
        return self.told(asked, page), said(page)

    async def _ask_once(self, asked: Asked, scope: Scope, said: Say) -> Answer:
        self._check_room(asked)
        with share_of(scope, self._budget, asked.live.application.sdkappid):
            return await self._ask(asked, scope, said)

    def _check_room(self, asked: Asked) -> None:
        """Refuse what there is no room for; what was asked already has its own answer.

        Nor is it refused later: what it takes out makes room.
        """
        if asked.failed is None and (over := self._budget.over(asked.live.application.sdkappid)):
            raise Overloaded(SAID[over])

    async def _ask(self, asked: Asked, scope: Scope, said: Say) -> Answer:
        """Put a pull to the store: again, as it is let in now, when a change overtook it."""
        for _ in range(limits.OVERTAKEN_MAX):
            if asked.failed is not None:
                asking: Awaitable[Page] = _raise(asked.failed)
                asked.failed = None
            else:
                if gone(scope):
                    raise Disconnected
                asking = self.asking(asked, partial(gone_after, scope))
            try:
                return await self._answered(asked, asking, scope, said)
            except SettingChanged:
                asked.live = await self._admission.admit_anew(asked.call)
        raise StoreUnavailable(CHANGED_AGAIN)

    async def _hold(self, asked: Asked, scope: Scope, said: Say) -> Answer:
        """The same, but an empty page is an answer only when nothing came for `wait_s` seconds.

        Or when the peer says no more, who may still listen, or the server stops, or those that wait
        would leave their application too little room. A peer that has gone is not asked for, so
        nothing is taken then.

        Who has a key or is a reader is asked for once more when his time is over: another pull of
        his may have been handed a page meanwhile, which is his, too.
        """
        loop = asyncio.get_running_loop()
        until_s = loop.time() + asked.wait_s
        held_s = 0.0
        may_repeat = asked.repeat != NEVER
        try:
            application = asked.live.application.sdkappid
            self._check_room(asked)
            with (
                share_of(scope, self._budget, application),
                self._held.enter(asked.live.mailboxes[asked.kind]) as place,
            ):
                while True:
                    answered: Answer | None = await self._ask(asked, scope, said)
                    assert answered is not None
                    page = answered[0]
                    if page.count or page.waiting:
                        place.leaves_some = page.waiting > 0
                        break
                    if not self._budget.lets_wait(application):
                        break
                    answered = None  # many others may wait beside: it is said again at the end
                    began_s = loop.time()
                    scope["headers"].clear()  # they are read
                    for unused in ("asgi", "state"):
                        scope.pop(unused, None)
                    if leaving(scope, place.end):
                        place.end()
                    woken = await place.sleep(until_s)
                    held_s += loop.time() - began_s
                    left = leaving(scope, None)
                    if gone(scope):
                        raise Disconnected
                    over = not woken and loop.time() >= until_s
                    if left or not (woken or (over and may_repeat)):
                        break
                    may_repeat = may_repeat and not over
                    asked.again(self._now_ms())
                    if asked.live.timed:  # its key may have ended meanwhile
                        asked.live = self._admission.check_still(asked.call)
        except (Disconnected, PeerError, CallerError, StoreUnavailable, OutcomeUnknown):
            raise
        except Exception as error:
            raise OutcomeUnknown("an error that nobody foresaw in waiting for a page") from error
        scope[HELD_S] = held_s
        return answered or (page, self.told(asked, page), said(page))

    async def _answered(
        self, asked: Asked, asking: Awaitable[Page], scope: Scope, said: Say
    ) -> Answer:
        """What the store hands out, said; errors as `take` raises them, and `SettingChanged`."""
        try:
            page = await asking
            return page, self.told(asked, page), said(page)
        except CallerGone as error:
            if gone(scope):
                raise Disconnected from error
            raise
        except ReplayRefused as error:
            raise ReplayRefused(SIGNATURE_USED) from error
        except AcknowledgementRefused as error:
            raise AcknowledgementRefused(ACK_REFUSED) from error
        except (KeyReused, TooManyReaders, StoreUnavailable, OutcomeUnknown):
            raise
        except StoreCorrupt as error:
            log.exception("pull failed", **whose(scope))
            raise StoreUnavailable("the store is damaged") from error
        except Exception as error:
            raise OutcomeUnknown("an error that nobody foresaw in taking a page") from error


async def _raise(error: Exception) -> Page:
    raise error
