"""Batches from gateways.

    POST /ingest/{sdkappid}/delivery-statuses    a JSON array or NDJSON, 1 to 1,000 records
    POST /ingest/{sdkappid}/replies              the same
    POST /ingest/{sdkappid}/sends                likewise what was sent, to be counted

A batch is accepted whole or not at all, and durable before the answer leaves.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from functools import partial
from time import perf_counter
from typing import Final, NamedTuple, TypeVar

from pullstatus import limits
from pullstatus.apps import LiveApplication, Token
from pullstatus.errors import (
    BodyTooLarge,
    InvalidBody,
    InvalidRecord,
    InvalidSetting,
)
from pullstatus.mailbox import statistics
from pullstatus.receipts.batch import read_in_steps, read_usual
from pullstatus.receipts.sends import Sends, read_sends_in_steps
from pullstatus.records import Kind
from pullstatus.records.hours import hour_of
from pullstatus.server.at_once import BEGUN, Later, Said
from pullstatus.server.doors import (
    BegunBatch,
    Client,
    Door,
    Problem,
    check_owner,
    content_type_of,
)
from pullstatus.server.head import Header
from pullstatus.server.http import (
    BATCH,
    NO_SUCH_ADDRESS,
    Receive,
    Scope,
    Send,
    gone_after,
    header,
    share_of,
)
from pullstatus.server.whole import Whole
from pullstatus.server.words import check_key
from pullstatus.steps import Steps
from pullstatus.store import Gone

T = TypeVar("T")

KINDS = {kind.path: kind for kind in Kind}
SENDS: Final = "sends"
_BATCHES: Final = re.compile(f"{BATCH.pattern}({'|'.join(KINDS)})".encode())

NDJSON = {  # content type -> is it NDJSON
    "application/json": False,
    "application/x-ndjson": True,
    "application/ndjson": True,
    "application/jsonl": True,
}


class IngestDoor(Door):
    """`POST /ingest/{sdkappid}/{kind}`, or `.../sends`, with a bearer token."""

    name = "ingest"

    def at_once(self, whole: Whole, client: Client, gone: Gone) -> Later | None:
        """A POST of a usual batch, handed to the store; None: it is not, or there is no room.

        Args:
            client: where it came from.
            gone: whether the peer has.
        """
        began_s = perf_counter()
        named, words, body = _BATCHES.fullmatch(whole.path), _words(whole.headers), whole.body
        if named is None or words is None or len(body) > limits.USUAL_BODY_BYTES:
            return None
        now_ms = self._now_ms()
        sdkappid, kind = int(named[1]), KINDS[named[2].decode()]
        live = self._registry.applications.get(sdkappid)
        token = self._registry.token(words.secret, now_ms)
        if (
            token is None
            or token.signature is not None
            or live is None
            or token.sdkappid not in (None, sdkappid)
            or not token.feeds(live.application)
            or self._budget.full(sdkappid)
        ):
            return None
        receipts = read_usual(body, kind)
        if receipts is None:
            return None
        self._note_use(token, now_ms, client)
        begun = BegunBatch(
            began_s=began_s, token=token, live=live, receipts=receipts, key=words.key, body=body
        )
        return Later(self._store_usual(begun, gone), begun, sdkappid)

    async def _store_usual(self, begun: BegunBatch, gone: Gone) -> Said:
        """The answer to a batch that was handed over; raises what the store does."""
        return self._answered(begun, await self._append(begun.live, begun, gone))

    async def _take(self, scope: Scope, receive: Receive, _send: Send) -> int:
        begun: BegunBatch | None = scope.pop(BEGUN, None)  # the scope outlives the answer
        if begun is not None:
            scope["pullstatus.token"] = begun.token
            with share_of(scope, self._budget, begun.live.application.sdkappid):
                return await self._put_batch(begun, scope)
        path: str = scope["path"]
        named = BATCH.match(path)
        what = "" if named is None else path[named.end() :]
        kind = KINDS.get(what)
        if named is None or (kind is None and what != SENDS):
            raise Problem(
                404,
                NO_SUCH_ADDRESS,
                "POST to /ingest/SDKAPPID/delivery-statuses, .../replies or .../sends",
            )
        sdkappid = int(named[1])
        token = await self._authenticate(scope, sdkappid)
        with self._share(scope, sdkappid):
            return await self._take_of(token, sdkappid, kind, scope, receive)

    async def _take_of(
        self, token: Token, sdkappid: int, kind: Kind | None, scope: Scope, receive: Receive
    ) -> int:
        ndjson = self._format(scope)
        body = await self._body(scope, receive)
        token = await self._authenticate(scope, sdkappid)  # it may be none any more by now
        live = await self._application(sdkappid)
        check_owner(token, live)
        key = header(scope, b"idempotency-key")
        try:
            checked = None if key is None else check_key(key.decode("latin-1"))
        except InvalidSetting as error:
            raise Problem(400, "Invalid Idempotency-Key", str(error)) from error
        long = len(body) > limits.USUAL_BODY_BYTES
        if kind is None:
            steps = read_sends_in_steps(body, ndjson, hour_of(self._now_ms()))
            sends = await self._read(steps, sdkappid, long=long)
            return await self._put(
                live, None, partial(self._count_sends, sends, token, checked, body)
            )
        receipts = await self._read(read_in_steps(body, kind, ndjson), sdkappid, long=long)
        begun = BegunBatch(
            began_s=0.0, token=token, live=live, receipts=receipts, key=checked, body=body
        )
        return await self._put_batch(begun, scope)

    async def _put_batch(self, begun: BegunBatch, scope: Scope) -> int:
        gone = partial(gone_after, scope)
        await self._put(
            begun.live,
            begun.receipts,
            lambda live: self._append(live, begun, gone),
            begun.failed,
        )
        return len(begun.receipts.entries)

    async def _count_sends(
        self, sends: Sends, token: Token, key: str | None, body: bytes, live: LiveApplication
    ) -> int:
        now_ms = self._now_ms()
        if sends.names:  # first: what fails behind a count would have it counted again
            await self._used.note(live.application.sdkappid, now_ms)
        await statistics.count_sends(
            self._store,
            live,
            sends,
            sender=token.name,
            now_ms=now_ms,
            ticket=self._tickets(),
            key=key,
            body=body,
        )
        return sends.items

    async def _read(self, steps: Steps[T], sdkappid: int, *, long: bool) -> T:
        try:
            return await self._slices.do(steps, sdkappid, long=long)
        except InvalidRecord as error:
            members: dict[str, object] = {} if error.index is None else {"index": error.index}
            raise Problem(400, "Invalid record", str(error), members=members) from error
        except InvalidBody as error:
            raise Problem(400, "Invalid body", str(error)) from error
        except BodyTooLarge as error:
            raise Problem(413, "Body too large", str(error)) from error

    def _accepted(self, count: int) -> bytes:
        return b'{"accepted":%d}' % count

    async def _authenticate(self, scope: Scope, sdkappid: int) -> Token:
        scheme, _, secret = (header(scope, b"authorization") or b"").partition(b" ")
        challenge = [(b"www-authenticate", b"Bearer")]
        if scheme.lower() != b"bearer":
            raise Problem(
                401, "Token missing", "send Authorization: Bearer TOKEN", headers=challenge
            )
        token = await self._token(scope, secret.strip().decode("latin-1"))
        if token is None:
            raise Problem(
                401,
                "Unknown token",
                "no token has this secret; it may be revoked, or have expired",
                headers=challenge,
            )
        if token.sdkappid not in (None, sdkappid):
            raise Problem(403, "Token of another application", "use a token of this application")
        return token

    def _format(self, scope: Scope) -> bool:
        if scope["method"] != "POST":
            return False  # refused with 405 next
        ndjson = _is_ndjson(content_type_of(scope))
        if ndjson is None:
            raise Problem(
                415,
                "Unsupported Content-Type",
                "send application/json for an array, application/x-ndjson for one record a line",
            )
        return ndjson


class _Words(NamedTuple):
    """What the headers of a usual batch say.

    Attributes:
        secret: of the token.
        key: its Idempotency-Key.
    """

    secret: str
    key: str | None


def _words(headers: Sequence[Header]) -> _Words | None:
    said = dict(reversed(headers))
    scheme, _, secret = said.get(b"authorization", b"").partition(b" ")
    content_type = said.get(b"content-type", b"").decode("latin-1")
    key = said.get(b"idempotency-key")
    if (
        scheme.lower() != b"bearer"
        or _is_ndjson(content_type) is not False
        or said.get(b"content-encoding", b"identity") != b"identity"
    ):
        return None
    try:
        checked = None if key is None else check_key(key.decode("latin-1"))
    except InvalidSetting:
        return None
    return _Words(secret.strip().decode("latin-1"), checked)


@functools.lru_cache(maxsize=64)
def _is_ndjson(content_type: str) -> bool | None:
    return NDJSON.get(content_type.partition(";")[0].strip().lower())
