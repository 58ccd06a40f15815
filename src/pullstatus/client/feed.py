"""The other direction: batches of records into a mailbox, each at most once, bad ones set apart.

    lines --> [ batch, with a key made of its content and place ] --> POST /ingest/...
                 |                                    |
                 | no answer, 503: the same again     | 400 with an index: those before it are a
                 | with the same key                  | batch, it is set apart, the rest follows;
                 |                                    | without an index, or 413: it is halved

A batch is accepted whole or not at all, so what is left of a refused one is a new batch. The same
lines at the same place of the same run have the same key: sent twice, they are stored once. So
whoever goes on after a kill has to cut them alike: how one is cut is the caller's to note first.

Who says no for the service, such as a proxy with a page of HTML, has not read the records: nothing
is known of them, and the push ends. Only that a body is too large is believed of anybody.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from random import Random
from typing import Final

import msgspec

from pullstatus import limits
from pullstatus.client.arguments import check_base_url
from pullstatus.client.errors import (
    BatchRefused,
    ClientError,
    GatewayFailed,
    InvalidArgument,
    WrongAddress,
    shown,
)
from pullstatus.client.exchange import Answer, Flow, Send, Wait, send
from pullstatus.client.flow import HEADERS, RETRY_S, whole
from pullstatus.client.outage import RETRY_AFTER_S_MAX
from pullstatus.client.pauses import Pauses
from pullstatus.client.reading import retry_after_s
from pullstatus.records import Kind

__all__ = ["Cut", "Feeder"]

SPLIT: Final = (400, 413)
"""HTTP statuses of refusals that are about records; others are about the whole push."""
TOO_LARGE: Final = 413


class Cut(msgspec.Struct, frozen=True):
    """Of lines that are not taken as one batch: the first `count` are one, then the others follow.

    Attributes:
        count: of lines; 0 if the first one is refused.
        reason: why the one behind those is refused, on one line and not endless; None if it is not
            known to be.
    """

    count: int
    reason: str | None = None


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

    def feed(self, lines: Sequence[bytes], first: int) -> Flow[Cut | None]:
        """Put lines, each the JSON of a record, into the mailbox, in their order, as one batch.

        Args:
            first: the place of the first line in the whole push.

        Returns:
            None if they were accepted; else nothing of them was, and how to go on.

        Raises:
            BatchRefused: all is refused, for a reason that is not in the records.
            ClientError: the service can't be reached. What was accepted before stays so, and
                sending the same lines again does not double it.
        """
        try:
            yield from self._batch(lines, first)
        except BatchRefused as refusal:
            if refusal.http_status not in SPLIT:
                raise
            return _cut(refusal, len(lines))
        except WrongAddress as error:
            if error.http_status != TOO_LARGE or len(lines) == 1:
                raise
            return Cut(len(lines) // 2)
        return None

    def _batch(self, lines: Sequence[bytes], first: int) -> Flow[None]:
        body = b"\n".join(lines) + b"\n"
        salt = f"{self._run} {first} ".encode()
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
                return _check_accepted(whole(outcome), len(lines))
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
    title: str
    status: int
    detail: str
    index: int | None = None


_decode_accepted: Final = msgspec.json.Decoder(_Accepted).decode
_decode_problem: Final = msgspec.json.Decoder(_Problem).decode


def _check_accepted(answer: Answer, count: int) -> None:
    status = answer.http_status
    if status == 200:
        try:
            accepted = _decode_accepted(answer.content).accepted
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            accepted = None
        if accepted != count:  # a batch is accepted whole, by a service that has read it
            raise _trouble(answer, "an answer that is not the service's")
        return
    if status >= 500 or status in (408, 429):
        raise _trouble(answer, f"HTTP {status}")
    try:
        problem = _decode_problem(answer.content)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise _somebody_else(answer) from None
    if problem.status != status or not (problem.title and problem.detail):
        raise _somebody_else(answer)
    raise BatchRefused(status, problem.title, problem.detail, problem.index)


def _cut(refusal: BatchRefused, count: int) -> Cut:
    """How to go on with `count` lines of which at least one is refused."""
    bad = 0 if count == 1 else refusal.index
    if bad is None or not 0 <= bad < count:
        return Cut(count // 2)
    return Cut(bad, shown(refusal.detail.removeprefix(f"record {refusal.index}: ")))


def _somebody_else(answer: Answer) -> WrongAddress:
    """Whoever has answered is not the service, and will say the same the next time."""
    what = f"HTTP {answer.http_status}"
    if 300 <= answer.http_status < 400:
        what += f", moved to {answer.headers.get('location', 'another address')}"
    fix = "check the address, https or http, and what is between here and the service"
    if answer.http_status == TOO_LARGE:
        fix = "raise the bound for bodies of whatever is between here and the service"
    return WrongAddress(
        f"the batch was not acknowledged: {what}, and this is no answer of the service",
        http_status=answer.http_status,
        content=answer.content,
        fix=fix,
    )


def _trouble(answer: Answer, what: str) -> GatewayFailed:
    error = GatewayFailed(
        f"the batch was not acknowledged: {what}",
        http_status=answer.http_status,
        content=answer.content,
        fix=f"try again; the same batch is stored once for {limits.INGEST_REPEAT_S // 3600} hours",
    )
    error.retry_after_s = retry_after_s(answer.headers)
    return error
