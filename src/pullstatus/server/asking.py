"""Questions to the store: so many at a time, so that what one may have to look at keeps no one out.

A question reads and takes nothing, and nobody knows before what it costs: the tail of a log that is
in no index yet is looked through, record by record. So only some are asked at once, the others wait
in line, applications in turn; few may wait, and none for long.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TypeVar

from pullstatus import limits
from pullstatus.apps import LiveApplication
from pullstatus.apps.admission import CHANGED_AGAIN, Admission, Call, PairCall
from pullstatus.errors import Overloaded, StoreUnavailable
from pullstatus.server.budget import SAID, Budget, Over
from pullstatus.server.http import Disconnected, Scope, gone, share_of
from pullstatus.store import Store, While
from pullstatus.turns import Turns

T = TypeVar("T")


class Asking:
    """What is asked of a store by one server, over all its faces."""

    def __init__(
        self, store: Store, admission: Admission, budget: Budget, *, sharers: int = 1
    ) -> None:
        """Nothing is asked.

        Args:
            sharers: so many processes share what there may be.
        """
        self._store = store
        self._admission = admission
        self._budget = budget
        self._free = max(1, limits.QUESTIONS_AT_ONCE // sharers)
        self._count_max = max(limits.SHARE_OF_ONE, limits.QUESTIONS_MAX // sharers)
        self._of: Counter[int] = Counter()  # in hand, of each application that has some
        self._line: Turns[asyncio.Future[None]] = Turns()

    @property
    def count(self) -> int:
        """Questions in hand: those that are asked, and those in line."""
        return self._of.total()

    async def ask(
        self,
        scope: Scope,
        call: Call | PairCall,
        live: LiveApplication,
        question: Callable[[LiveApplication], Awaitable[T]],
    ) -> T:
        """What a question has for an answer, of an application as it is at that moment.

        Args:
            call: that was let in, and is once more if what lets it in is changed meanwhile.
            live: the application, as the call was let in.
            question: reads the store; may be asked again.

        Raises:
            Overloaded: too much is in hand, of the application or at all.
            Disconnected: the peer went before its turn came.
            StoreUnavailable: no answer in `limits.QUESTION_S`; the store cannot be read now, or
                what lets the call in is changed at each try.
            UnknownApplication, UnknownSecret, NotAdmitted: it may not any more.
            Exception: whatever `question` raises.
        """
        sdkappid = live.application.sdkappid
        over = self._full(sdkappid) or self._budget.full(sdkappid)
        if over:
            self._budget.refused[over] += 1
            raise Overloaded(SAID[over])
        self._of[sdkappid] += 1
        try:
            with share_of(scope, self._budget, sdkappid):
                # A limit of time needs a task, which a server's request has not.
                return await asyncio.create_task(self._in_time(scope, call, live, question))
        finally:
            self._of[sdkappid] -= 1
            if not self._of[sdkappid]:
                del self._of[sdkappid]

    def _full(self, sdkappid: int) -> Over | None:
        if self.count >= self._count_max:
            return Over.TOTAL
        if self._of[sdkappid] >= self._count_max // limits.SHARE_OF_ONE:
            return Over.APPLICATION
        return None

    async def _in_time(
        self,
        scope: Scope,
        call: Call | PairCall,
        live: LiveApplication,
        question: Callable[[LiveApplication], Awaitable[T]],
    ) -> T:
        try:
            async with asyncio.timeout(limits.QUESTION_S):
                await self._turn(live.application.sdkappid)
                try:
                    if gone(scope):
                        raise Disconnected
                    return await self._settled(call, live, question)
                finally:
                    self._next()
        except TimeoutError:
            raise StoreUnavailable(
                f"no answer within {limits.QUESTION_S} s: ask for less, or again later"
            ) from None

    async def _settled(
        self,
        call: Call | PairCall,
        live: LiveApplication,
        question: Callable[[LiveApplication], Awaitable[T]],
    ) -> T:
        """Ask; again, if what lets the call in was changed meanwhile."""
        for _ in range(limits.OVERTAKEN_MAX):
            answer = await question(live)
            if await self._holds(live.while_set) and await self._holds(live.while_proven):
                return answer
            live = await self._admission.admit_anew(call)
        raise StoreUnavailable(CHANGED_AGAIN)

    async def _holds(self, condition: While | None) -> bool:
        if condition is None:
            return True
        setting = await self._store.setting(condition.name)
        return setting is not None and setting.revision == condition.revision

    async def _turn(self, sdkappid: int) -> None:
        if self._free:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._line.push(sdkappid, turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it came at the moment of the deadline
                self._next()
            raise

    def _next(self) -> None:
        """One is done: let in who is next."""
        while self._line:
            turn = self._line.pop()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
