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
from functools import partial
from random import Random, SystemRandom
from typing import Final, Generic, TypeVar, cast
from urllib.parse import SplitResult, urlsplit

from pullstatus import limits
from pullstatus.client.errors import (
    AnswerLost,
    CertificateRefused,
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
from pullstatus.version import VERSION
from pullstatus.wire.v5.pull import PULL_PATH, pull_request

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
    "User-Agent": f"pullstatus/{VERSION}",
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
        _check_integer("sdkappid", sdkappid, limits.SDKAPPID_MAX)
        check_appkey(appkey)
        _check_integer("attempts_max", attempts_max)
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

    def forked(self) -> None:
        """In a forked process: ask for no page under a key under which the parent asks, too."""
        self.random = SystemRandom()  # a given one makes the same keys there
        self.claims.forsake()

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
                claim.let_go()

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

        batch = Batch(page, claim.attempts, partial(self._claims.finish, claim))
        claim.hand_over(batch)
        return batch


# --- what both kinds of call share ----------------------------------------------------------------
#
# Arguments are `object`s here: not every caller has a type checker.


def check_base_url(base_url: object) -> str:
    """The address without a slash at its end.

    Raises:
        InvalidArgument: it is no http or https address.
    """
    wrong = InvalidArgument("base_url must be like https://yun.tim.qq.com or http://127.0.0.1:8080")
    if not isinstance(base_url, str):
        raise wrong
    try:
        parts = split_address(base_url)
    except ValueError as error:
        raise wrong from error
    if parts.scheme not in ("http", "https") or parts.query or parts.fragment:
        raise wrong
    if "@" in parts.netloc:
        raise InvalidArgument(
            "base_url has a user or password in it, which would come to stand in logs and state"
            " files; the service asks for neither"
        )
    return base_url.rstrip("/")


def split_address(address: str) -> SplitResult:
    """The parts of an address that has a host.

    Raises:
        ValueError: a bracket is not closed, a port is none, a blank is in it: what `urlsplit`
            refuses, and what it would let pass or drop.
    """
    parts = urlsplit(address)
    if not all(c.isprintable() and not c.isspace() for c in address) or not parts.hostname:
        raise ValueError("no host, or characters that no address has")
    _ = parts.port
    return parts


def check_appkey(appkey: object) -> None:
    """Refuse a key that was copied with something around it (InvalidArgument)."""
    if not isinstance(appkey, str):
        raise InvalidArgument("appkey must be a str")
    if not appkey or appkey.strip() != appkey:
        raise InvalidArgument(
            "appkey has a blank or line end around it" if appkey else "appkey is empty"
        )
    if not appkey.isprintable():
        raise InvalidArgument("appkey has control characters in it")


def check_kind(kind: object) -> Kind:
    """The kind itself, of 0 or 1 too (InvalidArgument)."""
    try:
        return Kind(kind)  # type: ignore[arg-type]  # it says so if it is none
    except ValueError as error:
        raise InvalidArgument("kind must be Kind.DELIVERY_STATUS or Kind.REPLY") from error


def _check_integer(name: str, value: object, value_max: int | None = None) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidArgument(f"{name} must be an int, not a {type(value).__name__}")
    if value < 1 or (value_max is not None and value > value_max):
        bounds = "1 or more" if value_max is None else f"from 1 to {value_max}"
        raise InvalidArgument(f"{name} must be {bounds}")


def check_max(count_max: object) -> None:
    """Refuse what the service would refuse, before anything is sent (InvalidArgument)."""
    _check_integer("max", count_max, limits.PULL_COUNT_MAX)


def check_key(key: object) -> str:
    """A key itself, if it is one (InvalidArgument)."""
    if (
        not isinstance(key, str)
        or not 0 < len(key) <= limits.IDEMPOTENCY_KEY_CHARS_MAX
        or not all("!" <= c <= "~" for c in key)
    ):
        raise InvalidArgument(
            f"key must be 1 to {limits.IDEMPOTENCY_KEY_CHARS_MAX} visible ASCII characters"
        )
    return key


def whole(outcome: Answer | Unanswered) -> Answer:
    """The answer, if there is one.

    Raises:
        CertificateRefused: nothing was sent, since the other side could not prove who it is.
        NotConnected: nothing was sent.
        AnswerLost: something was, and nobody knows what became of it.
    """
    if isinstance(outcome, Answer):
        return outcome
    error: NoAnswer
    if outcome.certificate_fix:
        error = CertificateRefused(
            f"the service's certificate is refused: {outcome.reason}", fix=outcome.certificate_fix
        )
    elif outcome.begun:
        error = AnswerLost(f"no whole answer: {outcome.reason}", may_have_consumed=True)
    else:
        error = NotConnected(
            f"no connection: {outcome.reason}", fix="check base_url, the network and the service"
        )
    raise error from outcome.cause


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
