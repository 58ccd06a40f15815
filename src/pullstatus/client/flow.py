"""How a mailbox is emptied, without any input or output: both clients drive these generators.

A pull is repeated when that can help and cannot lose anything:

    | what happened                        | the service knows keys | it doesn't, or we can't know |
    |--------------------------------------|------------------------|------------------------------|
    | nothing was sent; too frequent       | again                  | again                        |
    | no answer, half of one, HTTP 5xx,    | again, with the same   | raised: may_have_consumed    |
    | malformed, 1007, 60008               | key: the same page     |                              |
    | refused for another reason           | raised                 | raised                       |

Whether it knows keys shows in its answers: ours have `Pullstatus-Waiting`. Before the first pull it
is asked by `GET /`, which takes nothing; and again after an attempt that may have taken a page, if
that brought no answer. What a service answers that is not ours does not matter. Each attempt is
signed anew, since a service may refuse a signature it has seen.

Whoever follows a mailbox lets a service that can (its feature `wait`) hold a pull until there is a
record, instead of looking again and again. An empty page that comes too early is paused behind: the
service stops, or holds too many, or it is another one by now. To every service of ours it is said
how long a pull may be held, if only 0 seconds: its operator may have set more, for clients that
say nothing.

Behind an empty page and behind a failure the next pull asks with the same key, whoever makes it:
see `keys`. A key is done with when its page was acknowledged, or handed to a caller of `pull`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from random import Random, SystemRandom
from typing import ClassVar, Final, Generic, TypedDict, TypeVar, Unpack, cast

from pullstatus import limits
from pullstatus.client.arguments import (
    PAUSE_S_MAX,
    PAUSE_S_MIN,
    check_integer,
    check_key,
    check_long_poll,
    check_max,
    check_pauses,
    check_seconds,
)
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
from pullstatus.client.exchange import Answer, Flow, Look, Send, Unanswered, Wait, send
from pullstatus.client.faces import Call, Face, Sent
from pullstatus.client.keys import Claim, Claims, Holder
from pullstatus.client.outage import OnRetry, Outage, Patience
from pullstatus.client.pages import Batch, Page
from pullstatus.client.pauses import Pauses
from pullstatus.client.reading import Found, clock_skew_s, not_the_service, read_answer, read_pull
from pullstatus.client.records import Record
from pullstatus.records import Kind
from pullstatus.version import VERSION
from pullstatus.wire.about import ABOUT_PATH, Feature, read_features

R = TypeVar("R", bound=Record)
T = TypeVar("T")

RETRY_S: Final = (0.5, 30.0)
"""Seconds before the first retry, and at most."""

IDLE_S: Final = (0.5, 10.0)
"""Seconds between looks into an empty mailbox: at first, and at most."""

LONG_POLL_S: Final = 20
"""Seconds for which a follower lets the service hold a pull of an empty mailbox. What stands in
between mostly cuts what is silent for 30 or 60."""

_NOBODY_THERE: Final = (502, 503, 504)
"""HTTP statuses by which a gateway says that nobody is behind it."""

_LOOKS_MAX: Final = 5
"""How often a service that is known to be ours is asked what it can do, until it has answered."""

LOST: Final = (
    "%s: the last page that was asked for had no answer or was not finished with, and the service"
    " does not know Idempotency-Key: up to %d records may be lost"
)

log = logging.getLogger("pullstatus")

HEADERS: Final = {
    "Content-Type": "application/json",
    "Accept": "application/json",
    "Accept-Encoding": "gzip",
    "User-Agent": f"pullstatus/{VERSION}",
}


class PullerOptions(TypedDict):
    """How patient a `Puller` is, and what is passed in for tests; see `Client`."""

    attempts_max: int
    retry_pause_s: tuple[float, float]
    on_retry: OnRetry | None
    clock: Callable[[], float]
    random: Random


class Puller:
    """One application at one service, and what is known about that service.

    Attributes:
        keyed: whether the service knows `Idempotency-Key`; None until an answer tells.
        features: what the service says of itself on `GET /`; none unless it is ours and was asked.
        acknowledges: whether the next pull tells the service what was done with the last page.
        clock_skew_s: how far our clock was ahead of the last answer's `Date`, in seconds.
        claims: the pages that its callers are owed.
        face: how the service is spoken to.
        clock: Unix seconds.
    """

    acknowledges: ClassVar[bool] = False

    def __init__(
        self,
        base_url: str,
        face: Face,
        *,
        keyed: bool | None,
        **options: Unpack[PullerOptions],
    ) -> None:
        self._base_url = base_url
        self.face = face
        self._attempts_max = check_integer("attempts_max", options["attempts_max"])
        self._retry_pause_s = check_pauses("retry_pause_s", options["retry_pause_s"])
        on_retry = options["on_retry"]
        if on_retry is not None and not callable(on_retry):
            raise InvalidArgument(
                "on_retry must be a function, called with error, attempt, pause_s"
            )
        self._on_retry = on_retry
        self.clock = options["clock"]
        self.random = options["random"]
        self.claims = Claims(self._new_key)
        self.keyed = keyed
        self.features: frozenset[str] = frozenset()
        self.clock_skew_s: float | None = None
        self._looks = 0  # how often `GET /` was asked
        self._told = False  # whether whoever is there has answered it

    def __repr__(self) -> str:
        return f"{self._base_url!r}, sdkappid={self.face.sdkappid}"

    def forked(self) -> None:
        """In a forked process: ask for no page under a key under which the parent asks, too."""
        self.random = SystemRandom()  # a given one makes the same keys there
        self.claims.forsake()

    def check_key(self, key: str | None) -> str | None:
        """A caller's key itself, if it is one (InvalidArgument)."""
        return None if key is None else check_key(key)

    def ask_features(self) -> Flow[frozenset[str] | None]:
        """What the service says that it can do; None if no answer tells.

        Raises:
            NotConnected: there is no connection, nor would there be one for a pull.
        """
        if not self._told:
            yield from self._ask_about(in_doubt=False)
        return self.features if self._told else None

    def pull(
        self, kind: Kind, count_max: int, key: str | None, ack: str | None, long_poll_s: int
    ) -> Flow[Page[Record]]:
        """One page for a caller who takes it as it is: nobody acknowledges it."""
        check_max(count_max)
        check_long_poll(long_poll_s)
        if ack is not None:
            raise InvalidArgument("ack is for a client with a reader: give Client reader=")
        with Holder() as holder:
            claim = self.claims.take(holder, kind, count_max, self.check_key(key))
            page = yield from self.ask(claim, self.patience(long_poll_s=long_poll_s))
            if page:
                self.claims.settle(claim)
            return page

    def close(self) -> Flow[None]:
        """What is still to be said before the end."""
        self.claims.close()
        yield from ()

    def patience(
        self,
        *,
        endless: bool = False,
        give_up_after_s: float | None = None,
        long_poll_s: int = 0,
    ) -> Patience:
        """How long to ask for a page: so often as the client was told, or for so long."""
        return Patience(self._attempts_max, endless, give_up_after_s, long_poll_s)

    def holds(self, long_poll_s: int) -> bool:
        """Whether the service is known to hold a pull that may be held for so long."""
        return long_poll_s > 0 and Feature.WAIT in self.features

    def pauses(self) -> Pauses:
        """The pauses between attempts."""
        return Pauses(*self._retry_pause_s, self.random)

    def ask(self, claim: Claim, patience: Patience) -> Flow[Page[Record]]:
        """The page of a claim, with retries as far as they cannot lose one.

        Unless records came, the claim is given back, for the next caller.
        """
        page: Page[Record] | None = None
        try:
            page = claim.page or (yield from self._ask(claim, patience))
            return page
        finally:
            if not page:
                claim.let_go()

    def _ask(self, claim: Claim, patience: Patience) -> Flow[Page[Record]]:
        outage = Outage(
            self._where(claim.kind.path), patience, self.pauses(), self.clock, self._on_retry
        )
        doubt: ClientError | None = None  # a page may be taken, and nobody knows about keys yet
        while True:
            try:
                yield from self._look(in_doubt=doubt is not None, held=patience.long_poll_s > 0)
                if doubt is None or self.keyed:
                    page = yield from self._attempt(claim, patience.long_poll_s)
                    outage.end()
                    return page
                error = doubt
            except ClientError as failure:
                error = failure
            if error.may_have_consumed and self.keyed is None:
                doubt = error
            pause_s = None
            if self._may_repeat(error):
                pause_s = outage.pause_s(error, in_doubt=error is doubt and not self.keyed)
            if pause_s is None:
                error = error if self.keyed else doubt or error
                self._explain(error, claim)
                if self.keyed is False:
                    self.claims.settle(claim)  # its key brings nothing here
                raise error
            yield Wait(pause_s)

    def _may_repeat(self, error: ClientError) -> bool:
        """Whether it can help and cannot lose a page, or that can yet be found out."""
        knowable = self.keyed is None and not self._told
        safe = not error.may_have_consumed or self.keyed or knowable
        return bool(error.retry_can_help and safe)

    def _look(self, *, in_doubt: bool, held: bool) -> Flow[None]:
        """Ask the service what it can do, if that is not known: once, and again in doubt.

        A service that is not ours costs this one request: whatever it answers, or if it doesn't,
        nothing is known and nothing is wrong. One that is ours, and has not answered then, is asked
        some more times by whoever wants to be `held`.

        Raises:
            NotConnected: there is no connection, nor would there be one for a pull.
            GatewayFailed: in doubt only: nobody is there who could tell.
        """
        again = self.keyed and held and 0 < self._looks < _LOOKS_MAX
        if not self._told and (again or (self.keyed is None and (in_doubt or not self._looks))):
            yield from self._ask_about(in_doubt=in_doubt)

    def _ask_about(self, *, in_doubt: bool) -> Flow[None]:
        """Ask it, as `_look` says."""
        outcome = yield from send(self._question())
        if isinstance(outcome, Unanswered) and not outcome.begun:
            whole(outcome)
        self._looks += 1
        if isinstance(outcome, Unanswered):
            return
        status = outcome.http_status
        if in_doubt and status in _NOBODY_THERE:
            error = not_the_service(outcome)
            error.may_have_consumed = False
            raise error
        self._told = status < 500 and status not in (408, 429)
        if status == 200:
            self.features = read_features(outcome.content)
        if Feature.IDEMPOTENCY_KEY in self.features:
            self.keyed = True

    def _question(self) -> Look:
        headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": HEADERS["User-Agent"],
            # Some servers close without a word behind an answer like 404: a pull that is sent
            # into such a connection would be lost.
            "Connection": "close",
        }
        address = self._base_url + ABOUT_PATH
        return Look(address, headers, limits.ABOUT_WAIT_S, limits.ABOUT_BYTES_MAX)

    def _attempt(self, claim: Claim, long_poll_s: int) -> Flow[Page[Record]]:
        now_s = self.clock()
        before = claim.next
        if before.forgotten(now_s) and before.forgotten((yield from self._service_s())):
            self.claims.settle(claim)
            raise _expired(before.key)
        # It stays so if this ends in any other way than these.
        self.claims.asks(claim, before.ask(now_s))
        try:
            found = yield from self._send(
                claim, {"Idempotency-Key": before.key}, now_s, long_poll_s
            )
        except ClientError as error:
            if not error.may_have_consumed:
                claim.next = before
            raise
        if not found.records and self.keyed:
            claim.next = before.empty(now_s)
        elif not found.records:
            self.claims.settle(claim)
        if before.in_flight and not self.keyed:
            log.warning(LOST, self._where(claim.kind.path), before.count_max)
        return self._page(claim, found)

    def _service_s(self) -> Flow[float]:
        """The service's clock, by its answer to `GET /`; ours if that says nothing of it.

        By ours alone no key is dropped: it may be wrong for a moment. As long as it is, the service
        refuses a pull, and nothing is taken.

        Raises:
            NoAnswer: nobody tells. Nothing was taken.
        """
        try:
            answer = whole((yield from send(self._question())))
        except NoAnswer as error:
            error.may_have_consumed = False
            raise
        now_s = self.clock()
        return now_s - (clock_skew_s(answer.headers, now_s) or 0.0)

    def _where(self, what: str) -> str:
        """What is asked for and of whom, for the log."""
        return f"{what} of {self.face.sdkappid} at {self._base_url}"

    def _send(
        self, claim: Claim, words: Mapping[str, str], now_s: float, long_poll_s: int
    ) -> Flow[Found]:
        """Ask once, with these headers, which say how the page can be had again."""
        call = self.face.pull(claim.kind, claim.next.count_max, self._sent(now_s))
        held_s = long_poll_s if self.holds(long_poll_s) else 0
        if self.keyed:
            words = {**words, "Pullstatus-Wait": str(held_s)}
        answer, answered_s = yield from self._answer(call, words, held_s)
        claim.answer_s = answered_s - now_s
        found = read_pull(answer, call.read, keyed=self.keyed, now_s=answered_s)
        self.keyed = found.waiting is not None
        return found

    def inquire(self, what: str, asked: Callable[[Sent], Call[T]]) -> Flow[T]:
        """The answer to a question that takes nothing out; `what` is its name in the log.

        Raises:
            ClientError: it failed, and a repeat cannot help, or has not. Nothing was consumed.
        """
        outage = Outage(
            self._where(what), self.patience(), self.pauses(), self.clock, self._on_retry
        )
        while True:
            try:
                call = asked(self._sent(self.clock()))
                answer, answered_s = yield from self._answer(call, {}, 0)
                found = read_answer(answer, call.read, keyed=self.keyed, now_s=answered_s)
            except ClientError as error:
                error.may_have_consumed = False
                pause_s = outage.pause_s(error, in_doubt=False) if error.retry_can_help else None
                if pause_s is None:
                    raise
            else:
                outage.end()
                return found
            yield Wait(pause_s)

    def _answer(
        self, call: Call[T], words: Mapping[str, str], held_s: int
    ) -> Flow[tuple[Answer, float]]:
        """What a call was answered, and when, by our clock."""
        headers = {**HEADERS, **call.headers, **words}
        step = Send(self._base_url + call.target, call.content, headers, held_s)
        answer = whole((yield from send(step)))
        answered_s = self.clock()
        self.clock_skew_s = clock_skew_s(answer.headers, answered_s)
        return answer, answered_s

    def _sent(self, now_s: float) -> Sent:
        # Digits only: some servers read it as a number.
        return Sent(int(now_s), str(self.random.randrange(10**8, 10**9)))

    def _page(self, claim: Claim, found: Found) -> Page[Record]:
        assert self.keyed is not None
        return Page(
            kind=claim.kind,
            records=tuple(found.records),
            key=claim.next.key,
            keyed=self.keyed,
            waiting=found.waiting,
            pull_id=found.pull_id,
            given=found.given,
            in_doubt=self.keyed and not found.records and claim.next.in_doubt,
            ack_refused=claim.ack_refused,
        )

    def _explain(self, error: ClientError, claim: Claim) -> None:
        """Say what is known of the page, and how it can be had."""
        _explain(error, claim, keyed=self.keyed)

    def _new_key(self) -> str:
        return f"{self.random.getrandbits(128):032x}"


class Follower(Generic[R]):
    """Goes after one mailbox, batch after batch.

    It can be asked again after an exception: it then asks for the same page with the same key. So
    does another one of the same client.

    Args:
        follow: wait for more when the mailbox is empty; otherwise that is the end.
        wait_s: seconds at most between two looks into an empty mailbox.
        long_poll_s: seconds for which the service may hold each look, if it can, in place of that.
        give_up_after_s: seconds for which an outage is waited out. None is without end, or, when
            it doesn't follow, as often as its client asks for a page.
        key: the first page's key.
    """

    def __init__(
        self,
        puller: Puller,
        kind: Kind,
        count_max: int,
        *,
        follow: bool,
        wait_s: float,
        long_poll_s: int,
        give_up_after_s: float | None,
        key: str | None,
    ) -> None:
        check_max(count_max)
        check_seconds("wait_s", wait_s, PAUSE_S_MIN, PAUSE_S_MAX)
        check_long_poll(long_poll_s)
        if give_up_after_s is not None:
            check_seconds("give_up_after_s", give_up_after_s, 0, None)
        self._puller = puller
        self._claims = puller.claims
        self._kind = kind
        self._count_max = count_max
        self._follow = follow
        self._long_poll_s = long_poll_s if follow else 0
        self._patience = puller.patience(
            endless=follow or give_up_after_s is not None,
            give_up_after_s=give_up_after_s,
            long_poll_s=self._long_poll_s,
        )
        self._key = puller.check_key(key)
        self._batch: Batch[R] | None = None
        self._idle = Pauses(min(IDLE_S[0], wait_s), wait_s, puller.random)
        self._again = puller.pauses()

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
            waiting = None if last is None or self._puller.acknowledges else last.page.waiting
        self._batch = None
        paused = self._puller.holds(self._long_poll_s)  # in what is asked next
        while True:
            if waiting == 0:
                if not self._follow:
                    return None
                if not paused:
                    yield Wait(self._idle.next_s())
            with Holder() as holder:
                claim = self._claims.take(holder, self._kind, self._count_max, self._key, keep=True)
                page = yield from self._puller.ask(claim, self._patience)
                if page:
                    self._key = None
                    self._idle.reset()
                    self._batch = self._hand_over(claim, cast("Page[R]", page))
                    return self._batch
            waiting = 0
            paused = self._was_held(claim)
            if paused:
                self._idle.reset()

    def _was_held(self, claim: Claim) -> bool:
        """Whether its empty page came late enough to ask again at once."""
        held = self._puller.holds(self._long_poll_s)
        return held and was_held(claim.answer_s, self._long_poll_s)

    def _hand_over(self, claim: Claim, page: Page[R]) -> Batch[R]:
        claim.page = page
        claim.attempts += 1

        batch = Batch(page, claim.attempts, partial(self._claims.finish, claim))
        claim.hold(batch)
        return batch


def was_held(answer_s: float, long_poll_s: float) -> bool:
    """Whether an answer that took so long was held.

    Half of the time is enough for that, and may be lost to a clock that is being set.
    """
    return answer_s >= long_poll_s / 2


def client_closed() -> InvalidArgument:
    """What whoever uses a closed client is told."""
    return InvalidArgument("the client is closed", fix="use it before close, or make another")


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
