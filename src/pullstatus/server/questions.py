"""The v5 calls that ask and take nothing: what became of one number, and counts of some hours.

Read, let in and refused as a pull is, in the order of protocol.md section 4; a question is counted,
and leaves no row in any journal.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec
import structlog

from pullstatus import limits
from pullstatus.apps import LiveApplication
from pullstatus.apps.admission import Admission
from pullstatus.apps.values import Purpose
from pullstatus.errors import Overloaded, StoreCorrupt
from pullstatus.mailbox.questions import records_of
from pullstatus.mailbox.statistics import Statistics, statistics
from pullstatus.server.asking import Asking
from pullstatus.server.figures import Figures
from pullstatus.server.guesses import Guesses
from pullstatus.server.http import (
    JSON,
    NO_STORE,
    Disconnected,
    Receive,
    Scope,
    Send,
    address_of_peer,
    hang_up,
    is_for,
    request_id_header,
    respond,
    whose,
)
from pullstatus.server.pauses import Shed
from pullstatus.server.signed import TRIES, call_of, read_posted
from pullstatus.store import Store
from pullstatus.wire.v5 import answer
from pullstatus.wire.v5 import statistics as counts
from pullstatus.wire.v5.codes import Result
from pullstatus.wire.v5.query import QUERY_PATH, QueryRequest, parse_query
from pullstatus.wire.v5.refusals import ANSWERED, refusal
from pullstatus.wire.v5.signed import SignedRequest
from pullstatus.wire.v5.statistics import StatisticsRequest, parse_statistics

log = structlog.get_logger(__name__)

_Question = Callable[[LiveApplication], Awaitable[bytes]]


class _Way(msgspec.Struct, frozen=True):
    """How one call goes.

    Attributes:
        name: of the call, in figures and in the log.
        parse: reads a request as far as its signature goes.
        ask: reads the rest of it (check 17), and says what then is the answer.
        failure: an answer to one that failed.
    """

    name: str
    purpose: Purpose
    parse: Callable[[bytes, bytes], SignedRequest]
    ask: Callable[[Store, Any], _Question]
    failure: Callable[[int, str], bytes] = counts.failure


def _records(store: Store, request: QueryRequest) -> _Question:
    asked = request.question()

    async def question(live: LiveApplication) -> bytes:
        found = await records_of(
            store,
            live.mailboxes[asked.kind],
            asked.digits,
            sid=asked.sid,
            from_s=asked.from_s,
            to_s=asked.to_s,
            count_max=asked.count_max,
        )
        return answer.success(asked.kind, len(found), b",".join(found))

    return question


def _counts(said: Callable[[Statistics], bytes]) -> Callable[[Store, StatisticsRequest], _Question]:
    """What counts some hours, and says it so."""

    def ask(store: Store, request: StatisticsRequest) -> _Question:
        first_hour, last_hour = request.hours()

        async def question(live: LiveApplication) -> bytes:
            sdkappid = live.application.sdkappid
            return said(await statistics(store, sdkappid, first_hour, last_hour))

        return question

    return ask


def _sends(counted: Statistics) -> bytes:
    return counts.sends(*counted.sends())


def _receipts(counted: Statistics) -> bytes:
    return counts.receipts(counted.accepted, counted.success, counted.failed)


_WAYS: Final[Mapping[str, _Way]] = {
    QUERY_PATH: _Way("pullstatus4mobile", Purpose.QUERY, parse_query, _records, answer.failure),
    counts.SENDS_PATH: _Way(
        "pullsendstatus", Purpose.STATISTICS, parse_statistics, _counts(_sends)
    ),
    counts.RECEIPTS_PATH: _Way(
        "pullcallbackstatus", Purpose.STATISTICS, parse_statistics, _counts(_receipts)
    ),
}
QUESTIONS: Final = frozenset(_WAYS)
"""The paths of these calls."""


class QuestionCall:
    """These calls as an ASGI application."""

    def __init__(
        self,
        store: Store,
        admission: Admission,
        asking: Asking,
        figures: Figures,
        guesses: Guesses,
        shed: Shed,
        *,
        now_ms: Callable[[], int],
    ) -> None:
        self._store = store
        self._admission = admission
        self._asking = asking
        self._figures = figures
        self._guesses = guesses
        self._shed = shed
        self._now_ms = now_ms

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request to a path of `QUESTIONS`."""
        way = _WAYS[scope["path"]]
        headers = [JSON, NO_STORE]
        result = 0
        try:
            body = await self._ask(way, scope, receive)
        except ANSWERED as error:
            refused = refusal(error)
            result = int(refused.result)
            body = way.failure(result, refused.errmsg)
            log.info(
                "question refused",
                call=way.name,
                result=result,
                reason=refused.errmsg,
                **whose(scope),
            )
            headers.append(request_id_header(scope))
            if result in TRIES:
                await self._guesses.failed(scope, TRIES[result])
            elif isinstance(error, Overloaded):
                await self._shed.shed(scope)
        except Disconnected:
            hang_up(scope)
            return
        except Exception as error:
            log.exception("question failed", call=way.name, **whose(scope))
            headers.append(request_id_header(scope))
            result = int(Result.OTHER)
            damaged = isinstance(error, StoreCorrupt)
            body = way.failure(result, "the store is damaged" if damaged else "internal error")
        self._figures.questions[way.name, result] += 1
        await respond(scope, send, 200, headers, body)

    async def _ask(self, way: _Way, scope: Scope, receive: Receive) -> bytes:
        body = await read_posted(scope, receive, limits.PULL_BODY_BYTES_MAX)
        request = way.parse(scope["query_string"], body)
        call = call_of(request, address_of_peer(scope), self._now_ms(), way.purpose)
        live = await self._admission.admit(call)
        is_for(scope, live.application.sdkappid)
        return await self._asking.ask(scope, call, live, way.ask(self._store, request))
