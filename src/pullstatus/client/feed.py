"""The other direction: batches of records into a mailbox, each at most once, bad ones set apart.

    lines --> [ batch, with a key made of its content and place ] --> POST /ingest/...
                 |                                    |
                 | no answer, 503: the same again     | 400 with an index: that one is set apart,
                 | with the same key                  | the rest is sent again; without an index
                 |                                    | the batch is halved until one is left

A batch is accepted whole or not at all, so what is left of a refused one is a new batch. The same
lines at the same place of the same run have the same key: sent twice, they are stored once.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from random import Random
from typing import Final

import msgspec

from pullstatus import limits
from pullstatus.client.errors import (
    BatchRefused,
    ClientError,
    GatewayFailed,
    InvalidArgument,
    shown,
)
from pullstatus.client.exchange import Answer, Flow, Send, Wait, send
from pullstatus.client.flow import (
    HEADERS,
    RETRY_S,
    check_base_url,
    whole,
)
from pullstatus.client.outage import RETRY_AFTER_S_MAX
from pullstatus.client.pauses import Pauses
from pullstatus.client.reading import retry_after_s
from pullstatus.records import Kind

__all__ = ["Fed", "Feeder", "SetApart"]

SPLIT: Final = (400, 413)
"""HTTP statuses of refusals that are about records; others are about the whole push."""


class SetApart(msgspec.Struct, frozen=True):
    """A record that was refused: its 0-based place among the lines, and the service's reason.

    The reason is on one line, and not endless.
    """

    place: int
    reason: str


class Fed(msgspec.Struct, frozen=True):
    """What became of some lines: how many were accepted, and which were refused."""

    accepted: int
    refused: list[SetApart]


class Feeder:
    """One application's mailbox of one kind, from outside.

    Args:
        run: tells this push from others that may send the same lines.
    """

    def __init__(
        self,
        base_url: str,
        sdkappid: int,
        kind: Kind,
        token: str,
        *,
        run: str,
        attempts_max: int,
        random: Random,
    ) -> None:
        self._address = f"{check_base_url(base_url)}/ingest/{sdkappid}/{kind.path}"
        if not token or not all("!" <= c <= "~" for c in token):
            raise InvalidArgument("the token is empty, or has blanks or line ends in it")
        self._token = token
        self._run = run
        self._attempts_max = attempts_max
        self._random = random

    def feed(self, lines: Sequence[bytes], first: int) -> Flow[Fed]:
        """Put lines, each the JSON of a record, into the mailbox, in their order.

        Args:
            first: the place of the first line in the whole push.

        Raises:
            BatchRefused: all is refused, for a reason that is not in the records.
            ClientError: the service can't be reached. What was accepted before stays so, and
                sending the same lines again does not double it.
        """
        accepted = 0
        refused: list[SetApart] = []
        work = [list(enumerate(lines, first))]
        while work:
            batch = work.pop()
            try:
                accepted += yield from self._batch(batch)
            except BatchRefused as refusal:
                if refusal.http_status not in SPLIT:
                    raise
                bad = 0 if len(batch) == 1 else refusal.index
                if bad is None or not 0 <= bad < len(batch):
                    half = len(batch) // 2
                    work += [batch[half:], batch[:half]]
                    continue
                place, _ = batch.pop(bad)
                reason = refusal.detail.removeprefix(f"record {refusal.index}: ")
                refused.append(SetApart(place, shown(reason)))
                if batch:
                    work.append(batch)
        refused.sort(key=lambda one: one.place)
        return Fed(accepted, refused)

    def _batch(self, batch: list[tuple[int, bytes]]) -> Flow[int]:
        body = b"\n".join(line for _, line in batch) + b"\n"
        salt = f"{self._run} {batch[0][0]} ".encode()
        headers = {
            **HEADERS,
            "Content-Type": "application/x-ndjson",
            "Authorization": f"Bearer {self._token}",
            "Idempotency-Key": blake2b(salt + body, digest_size=16).hexdigest(),
        }
        pauses = Pauses(*RETRY_S, self._random)
        attempt = 1
        while True:
            outcome = yield from send(Send(self._address, body, headers))
            try:
                return _accepted(whole(outcome), len(batch))
            except ClientError as error:
                if not error.retry_can_help or attempt >= self._attempts_max:
                    error.may_have_consumed = False  # nothing is taken out here
                    raise
                pause_s = max(pauses.next_s(), min(error.retry_after_s or 0, RETRY_AFTER_S_MAX))
            yield Wait(pause_s)
            attempt += 1


class _Accepted(msgspec.Struct):
    accepted: int


class _Problem(msgspec.Struct):
    title: str = ""
    detail: str = ""
    index: int | None = None


_decode_accepted: Final = msgspec.json.Decoder(_Accepted).decode
_decode_problem: Final = msgspec.json.Decoder(_Problem).decode


def _accepted(answer: Answer, count: int) -> int:
    status = answer.http_status
    if status == 200:
        try:
            accepted = _decode_accepted(answer.content).accepted
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            accepted = None
        if accepted != count:  # a batch is accepted whole, by a service that has read it
            raise _trouble(answer, "an answer that is not the service's")
        return count
    if status >= 500 or status in (408, 429):
        raise _trouble(answer, f"HTTP {status}")
    try:
        problem = _decode_problem(answer.content)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        problem = _Problem(f"HTTP {status}", "check the address: this is no answer of the service")
    raise BatchRefused(status, problem.title or f"HTTP {status}", problem.detail, problem.index)


def _trouble(answer: Answer, what: str) -> GatewayFailed:
    error = GatewayFailed(
        f"the batch was not acknowledged: {what}",
        http_status=answer.http_status,
        content=answer.content,
        fix=f"try again; the same batch is stored once for {limits.INGEST_REPEAT_S // 3600} hours",
    )
    error.retry_after_s = retry_after_s(answer.headers)
    return error
