"""How a mailbox is emptied, without any input or output: both clients drive these generators.

A pull is repeated when that can help and cannot lose anything:

    | what happened                        | the service knows keys | it doesn't, or we can't know |
    |--------------------------------------|------------------------|------------------------------|
    | nothing was sent; too frequent       | again                  | again                        |
    | no answer, half of one, HTTP 5xx,    | again, with the same   | raised: may_have_consumed    |
    | malformed, 1007, 60008               | key: the same page     |                              |
    | refused for another reason           | raised                 | raised                       |

Whether it knows keys shows in its answers: ours have `Pullstatus-Waiting`. Each attempt is signed
anew, since a service may refuse a signature it has seen.

Behind an empty page and behind a failure the next pull asks with the same key, whoever makes it:
see `keys`. A key is done with when its page was acknowledged, or handed to a caller of `pull`.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final, Generic, TypeVar, cast
from urllib.parse import urlsplit

from pullstatus import limits
from pullstatus.client.errors import (
    AnswerLost,
    ClientError,
    InvalidArgument,
    KeyExpired,
    NoAnswer,
    NotAcknowledged,
    NotConnected,
)
from pullstatus.client.exchange import Answer, Flow, Send, Unanswered, Wait, send
from pullstatus.client.keys import Claim, Claims
from pullstatus.client.pages import Batch, Page
from pullstatus.client.pauses import Pauses
from pullstatus.client.reading import Found, clock_skew_s, read_pull
from pullstatus.client.records import Record
from pullstatus.records import Kind
from pullstatus.wire.request import PULL_PATH, pull_request

R = TypeVar("R", bound=Record)

RETRY_S: Final = (0.5, 30.0)
"""Seconds before the first retry, and at most."""

IDLE_S: Final = (0.5, 10.0)
"""Seconds between looks into an empty mailbox: at first, and at most."""

RETRY_AFTER_S_MAX: Final = 120.0
"""Seconds of a `Retry-After` that are obeyed; a peer must not be able to park us for a day."""

HEADERS: Final = {
    "Content-Type": "application/json",
    "Accept": "application/json",
    "User-Agent": "pullstatus",
}


class Puller:
    """One application at one service, and what is known about that service.

    Attributes:
        keyed: whether the service knows `Idempotency-Key`; None until an answer tells.
        clock_skew_s: how far our clock was ahead of the last answer's `Date`, in seconds.
        claims: the pages that its callers are owed.
    """

    def __init__(
        self,
        base_url: str,
        sdkappid: int,
        appkey: str,
        *,
        keyed: bool | None,
        attempts_max: int,
        clock: Callable[[], float],
        random: Random,
    ) -> None:
        self._base_url = check_base_url(base_url).removesuffix(PULL_PATH)
        if not 0 < sdkappid <= limits.SDKAPPID_MAX:
            raise InvalidArgument(f"sdkappid must be from 1 to {limits.SDKAPPID_MAX}")
        check_appkey(appkey)
        if attempts_max < 1:
            raise InvalidArgument("attempts_max must be 1 or more")
        self._sdkappid = sdkappid
        self._appkey = appkey
        self._attempts_max = attempts_max
        self._clock = clock
        self.random = random
        self.claims = Claims(self._new_key)
        self.keyed = keyed
        self.clock_skew_s: float | None = None

    def __repr__(self) -> str:
        return f"{self._base_url!r}, sdkappid={self._sdkappid}"

    def pull(self, kind: Kind, count_max: int, key: str | None) -> Flow[Page[Record]]:
        """One page for a caller who takes it as it is: nobody acknowledges it."""
        check_max(count_max)
        claim = self.claims.take(kind, count_max, None if key is None else check_key(key))
        page = yield from self.ask(claim)
        if page:
            self.claims.settle(claim)
        return page

    def ask(self, claim: Claim) -> Flow[Page[Record]]:
        """The page of a claim, with retries as far as they cannot lose one.

        Unless records came, the claim is given back, for the next caller.
        """
        page: Page[Record] | None = None
        try:
            page = claim.page or (yield from self._ask(claim))
            return page
        finally:
            if not page:
                self.claims.give_back(claim)

    def _ask(self, claim: Claim) -> Flow[Page[Record]]:
        pauses = Pauses(*RETRY_S, self.random)
        attempt = 1
        while True:
            try:
                return (yield from self._attempt(claim))
            except ClientError as error:
                hopeful = error.retry_can_help and (self.keyed or not error.may_have_consumed)
                if not hopeful or attempt >= self._attempts_max:
                    _explain(error, claim, keyed=self.keyed)
                    if self.keyed is False:
                        self.claims.settle(claim)  # its key brings nothing here
                    raise
                pause_s = max(pauses.next_s(), min(error.retry_after_s or 0, RETRY_AFTER_S_MAX))
            yield Wait(pause_s)
            attempt += 1

    def _attempt(self, claim: Claim) -> Flow[Page[Record]]:
        now_s = self._clock()
        before = claim.next
        if before.forgotten(now_s):
            self.claims.settle(claim)
            raise _expired(before.key)
        claim.next = before.ask(now_s)  # and stays so if this ends in any other way than these
        try:
            found = yield from self._send(claim, int(now_s))
        except ClientError as error:
            if not error.may_have_consumed:
                claim.next = before
            raise
        if not found.records and self.keyed:
            claim.next = before.empty(now_s)
        elif not found.records:
            self.claims.settle(claim)
        return self._page(claim, found)

    def _send(self, claim: Claim, now_s: int) -> Flow[Found]:
        # Digits only: some servers read it as a number.
        random = str(self.random.randrange(10**8, 10**9))
        target, content = pull_request(
            self._sdkappid, self._appkey, claim.kind, claim.next.count_max, random, now_s
        )
        headers = {**HEADERS, "Idempotency-Key": claim.next.key}
        outcome = yield from send(Send(self._base_url + target, content, headers))
        answer = whole(outcome)
        answered_s = self._clock()
        self.clock_skew_s = clock_skew_s(answer.headers, answered_s)
        found = read_pull(answer, claim.kind, keyed=self.keyed, now_s=answered_s)
        self.keyed = found.waiting is not None
        return found

    def _page(self, claim: Claim, found: Found) -> Page[Record]:
        assert self.keyed is not None
        return Page(
            kind=claim.kind,
            records=tuple(found.records),
            key=claim.next.key,
            keyed=self.keyed,
            waiting=found.waiting,
            pull_id=found.pull_id,
            in_doubt=self.keyed and not found.records and claim.next.in_doubt,
        )

    def _new_key(self) -> str:
        return f"{self.random.getrandbits(128):032x}"


class Follower(Generic[R]):
    """Goes after one mailbox, batch after batch.

    It can be asked again after an exception: it then asks for the same page with the same key. So
    does another one of the same client.

    Args:
        follow: wait for more when the mailbox is empty; otherwise that is the end.
        key: the first page's key.
    """

    def __init__(
        self, puller: Puller, kind: Kind, count_max: int, *, follow: bool, key: str | None
    ) -> None:
        check_max(count_max)
        self._puller = puller
        self._claims = puller.claims
        self._kind = kind
        self._count_max = count_max
        self._follow = follow
        self._key = None if key is None else check_key(key)
        self._batch: Batch[R] | None = None
        self._idle = Pauses(*IDLE_S, puller.random)
        self._again = Pauses(*RETRY_S, puller.random)

    def next(self) -> Flow[Batch[R] | None]:
        """The next batch; None at the end.

        Raises:
            NotAcknowledged: the last one is neither acknowledged nor failed.
            ClientError: the next page could not be had.
        """
        last = self._batch
        waiting = None
        if last is not None and last.failed:
            yield Wait(self._again.next_s())
        elif last is not None and not last.acknowledged:
            raise NotAcknowledged(
                "the last batch is not finished",
                fix="call its ack(), or work on it within `with batch:`",
            )
        else:
            self._again.reset()
            waiting = None if last is None else last.page.waiting
        self._batch = None
        while True:
            if waiting == 0:
                if not self._follow:
                    return None
                yield Wait(self._idle.next_s())
            claim = self._claims.take(self._kind, self._count_max, self._key, keep=True)
            page = yield from self._puller.ask(claim)
            if page:
                self._key = None
                self._idle.reset()
                self._batch = self._hand_over(claim, cast("Page[R]", page))
                return self._batch
            waiting = 0

    def _hand_over(self, claim: Claim, page: Page[R]) -> Batch[R]:
        claim.page = page
        claim.attempts += 1

        def finish(*, acknowledged: bool) -> None:
            if acknowledged:
                self._claims.settle(claim)
            else:
                self._claims.give_back(claim)

        return Batch(page, claim.attempts, finish)


# --- what both kinds of call share ----------------------------------------------------------------


def check_base_url(base_url: str) -> str:
    """The address without a slash at its end.

    Raises:
        InvalidArgument: it is no http or https address.
    """
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise InvalidArgument(
            "base_url must be like https://yun.tim.qq.com or http://127.0.0.1:8080"
        )
    return base_url.rstrip("/")


def check_appkey(appkey: str) -> None:
    """Refuse a key that was copied with something around it (InvalidArgument)."""
    if not appkey or appkey.strip() != appkey:
        raise InvalidArgument(
            "appkey has a blank or line end around it" if appkey else "appkey is empty"
        )


def check_max(count_max: int) -> None:
    """Refuse what the service would refuse, before anything is sent (InvalidArgument)."""
    if not 1 <= count_max <= limits.PULL_COUNT_MAX:
        raise InvalidArgument(f"max must be from 1 to {limits.PULL_COUNT_MAX}")


def check_key(key: str) -> str:
    """A key itself, if it is one (InvalidArgument)."""
    if not 0 < len(key) <= limits.IDEMPOTENCY_KEY_CHARS_MAX or not all(
        "!" <= c <= "~" for c in key
    ):
        raise InvalidArgument(
            f"key must be 1 to {limits.IDEMPOTENCY_KEY_CHARS_MAX} visible ASCII characters"
        )
    return key


def whole(outcome: Answer | Unanswered) -> Answer:
    """The answer, if there is one.

    Raises:
        NotConnected: nothing was sent.
        AnswerLost: something was, and nobody knows what became of it.
    """
    if isinstance(outcome, Answer):
        return outcome
    error: NoAnswer
    if outcome.begun:
        error = AnswerLost(f"no whole answer: {outcome.reason}", may_have_consumed=True)
    else:
        error = NotConnected(
            f"no connection: {outcome.reason}", fix="check base_url, the network and the service"
        )
    raise error


def _expired(key: str) -> KeyExpired:
    error = KeyExpired(
        f"a page may have been taken under the key {key} more than {limits.PULL_KEY_S // 3600}"
        " hours ago, and the service keeps it no longer",
        fix=f"ask the operator to look with `pullstatus pulls list --key {key}` and to redeliver"
        " what is found; the next pull goes on with a new key",
        may_have_consumed=True,
    )
    error.key = key
    return error


def _explain(error: ClientError, claim: Claim, *, keyed: bool | None) -> None:
    if error.key is not None:
        return  # it says all of it by itself
    error.key = claim.next.key
    error.may_have_consumed = claim.next.in_doubt
    if not claim.next.in_doubt:
        return
    if keyed:
        way = (
            "a page may be on its way: the next pull of this client brings it, and so does any"
            f" with this exception's key within {limits.PULL_KEY_S // 3600} hours"
        )
    elif keyed is None:
        way = (
            "a page may be lost, since no answer has told yet whether the service knows"
            " Idempotency-Key: pull again, elsewhere with this exception's key; if it does, the"
            " page comes"
        )
    else:
        way = (
            "a page may be lost, since the service does not know Idempotency-Key: look for it"
            " by number, if the service offers that, or ask the operator"
        )
    error.fix = f"{error.fix}; {way}" if error.fix else way
