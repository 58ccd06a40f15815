"""The two clients: each does what the same flows ask for, one blocking, one with await."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from random import Random, SystemRandom
from typing import Generic, Literal, Self, TypeVar, cast, overload

import httpx

from pullstatus import limits
from pullstatus.client.arguments import check_kind
from pullstatus.client.bodies import Looked, Whole
from pullstatus.client.cancellation import cancellable
from pullstatus.client.connections import Connections
from pullstatus.client.counts import Statistics
from pullstatus.client.deadline import by_httpcore, is_ours
from pullstatus.client.errors import ClientError, InvalidArgument
from pullstatus.client.exchange import Answer, Flow, Look, Outcome, Send, Unanswered, Wait
from pullstatus.client.flow import IDLE_S, LONG_POLL_S, RETRY_S, Follower, Puller, client_closed
from pullstatus.client.interruptions import interruption
from pullstatus.client.opening import open_puller
from pullstatus.client.outage import OnRetry
from pullstatus.client.pages import Batch, Page
from pullstatus.client.questions import Moment, find, statistics
from pullstatus.client.records import DeliveryStatus, Record, Reply
from pullstatus.client.route import certificate_fix, open_async_http, open_http
from pullstatus.records import Kind

__all__ = [
    "AsyncBatches",
    "AsyncClient",
    "Batches",
    "Client",
    "drive",
    "drive_async",
    "unix_time",
]

T = TypeVar("T")
R_co = TypeVar("R_co", bound=Record, covariant=True)

TIMEOUT_S = 30.0
ATTEMPTS_MAX = 5

# What httpx raises before it has sent anything; all else may have reached the other side.
_NOT_BEGUN = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)


def _unanswered(
    error: Exception,
    http: httpx.Client | httpx.AsyncClient,
    handled: BaseException | None,
) -> Unanswered:
    """Whatever was raised; unless it is known to come before a request, some of it may be sent.

    What does not come of asking, but from outside, leaves as it is.
    """
    outside = interruption(error, known_below=is_ours(http), handled=handled)
    if outside is not None:
        raise outside
    reason = str(error).rstrip(".") or type(error).__name__  # it goes on in our sentence
    if not isinstance(error, httpx.TransportError | httpx.DecodingError):
        reason = f"{type(error).__name__}: {error}"  # unforeseen: its text may say too little
    return Unanswered(
        not isinstance(error, _NOT_BEGUN), reason, certificate_fix(error), cause=error
    )


def unix_time() -> float:
    """The wall clock; looked up at each call, so that a test that sets the clock sets ours too."""
    return time.time()


def drive(flow: Flow[T], mine: Callable[[], httpx.Client], sleep: Callable[[float], object]) -> T:
    """Do what a flow asks for, until it ends; each request by the client that `mine` gives then."""
    _check_open(mine())
    handled = sys.exception()
    outcome: Outcome = None
    with contextlib.closing(flow):
        while True:
            try:
                step = flow.send(outcome)
            except StopIteration as end:
                return cast("T", end.value)
            if isinstance(step, Wait):
                outcome = None
                sleep(step.s)
                continue
            http = mine()
            _check_open(http)  # somebody may have closed it since
            try:
                outcome = _post(http, step) if isinstance(step, Send) else _get(http, step)
            except Exception as error:  # noqa: BLE001 - only our own tree leaves
                outcome = _unanswered(error, http, handled)


def _post(http: httpx.Client, step: Send) -> Answer:
    with http.stream(
        "POST",
        step.address,
        content=step.content,
        headers=step.headers,
        timeout=_send_timeout(http, step),
    ) as response:
        body = Whole(response, _send_timeout(http, step))
        for part in _parts(response):
            body.add(part)
        return body.answer()


def _get(http: httpx.Client, step: Look) -> Answer:
    with http.stream(
        "GET", step.address, headers=step.headers, timeout=_look_timeout(http, step)
    ) as response:
        body = Looked(response, step)
        for part in _parts(response):
            if body.ends_with(part):
                break
        return body.answer()


def _parts(response: httpx.Response) -> Iterator[bytes]:
    """A body as it came; of a response that was made, not read, all at once, and unpacked."""
    return iter([response.content]) if response.is_stream_consumed else response.iter_raw()


async def drive_async(
    flow: Flow[T],
    mine: Callable[[], httpx.AsyncClient],
    sleep: Callable[[float], Awaitable[object]],
) -> T:
    """The same as `drive`, with await."""
    _check_open(mine())
    handled = sys.exception()
    outcome: Outcome = None
    with contextlib.closing(flow):
        while True:
            try:
                step = flow.send(outcome)
            except StopIteration as end:
                return cast("T", end.value)
            if isinstance(step, Wait):
                outcome = None
                await sleep(step.s)
                continue
            http = mine()
            _check_open(http)  # somebody may have closed it since
            try:
                exchange = (
                    _post_async(http, step) if isinstance(step, Send) else _get_async(http, step)
                )
                # A transport of somebody's own is cancelled once, as all but anyio's code expects.
                outcome = await (cancellable(exchange) if by_httpcore(http) else exchange)
            except Exception as error:  # noqa: BLE001 - only our own tree leaves
                outcome = _unanswered(error, http, handled)


async def _post_async(http: httpx.AsyncClient, step: Send) -> Answer:
    async with http.stream(
        "POST",
        step.address,
        content=step.content,
        headers=step.headers,
        timeout=_send_timeout(http, step),
    ) as response:
        body = Whole(response, _send_timeout(http, step))
        async for part in _parts_async(response):
            body.add(part)
        return body.answer()


async def _get_async(http: httpx.AsyncClient, step: Look) -> Answer:
    async with http.stream(
        "GET", step.address, headers=step.headers, timeout=_look_timeout(http, step)
    ) as response:
        body = Looked(response, step)
        async for part in _parts_async(response):
            if body.ends_with(part):
                break
        return body.answer()


async def _parts_async(response: httpx.Response) -> AsyncIterator[bytes]:
    if response.is_stream_consumed:
        yield response.content
        return
    async for part in response.aiter_raw():
        yield part


def _send_timeout(http: httpx.Client | httpx.AsyncClient, step: Send) -> httpx.Timeout:
    """An answer that was asked to be late is as much later due."""
    usual = http.timeout
    read_s = None if usual.read is None else usual.read + step.held_s
    return httpx.Timeout(connect=usual.connect, pool=usual.pool, read=read_s, write=usual.write)


def _look_timeout(http: httpx.Client | httpx.AsyncClient, step: Look) -> httpx.Timeout:
    """To connect takes as long as for any other request: the next one has to, too."""
    usual = http.timeout
    wait_s = step.wait_s if usual.read is None else min(usual.read, step.wait_s)
    return httpx.Timeout(connect=usual.connect, pool=usual.pool, read=wait_s, write=wait_s)


def _check_open(http: httpx.Client | httpx.AsyncClient) -> None:
    if http.is_closed:
        raise client_closed()


def _running_loop() -> asyncio.AbstractEventLoop:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise InvalidArgument(
            "AsyncClient works in an event loop of asyncio, and none runs here",
            fix="await it within asyncio.run, or take Client",
        ) from None


class _Known:
    """What both clients know about their service."""

    _puller: Puller

    @property
    def keyed(self) -> bool | None:
        """Whether the service knows `Idempotency-Key`; None until an answer tells."""
        return self._puller.keyed

    @property
    def clock_skew_s(self) -> float | None:
        """Seconds that our clock was ahead of the last answer's `Date` (negative: behind).

        Beyond 600 either way, or 300 over API 3.0, the service refuses. None before the first
        answer, or without `Date`.
        """
        return self._puller.clock_skew_s

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._puller!r})"


class Client(_Known):
    """Pulls one application's records; with a `reader` each comes until it is acknowledged.

    That holds whatever gets lost on the way, and whenever this process is stopped or killed. With
    `state` it holds against services that know `Idempotency-Key`. With neither, a page that this
    process has in hand when it ends is gone with it.

        with Client("http://127.0.0.1:8080", 1400006666, appkey, reader="billing") as client:
            for batch in client.delivery_statuses():
                with batch:
                    database.store(batch)

    A page that was done with may come once more, if the process was killed before the service was
    told: whoever stores `batch.pull_id` with the records can pass over it.

    It blocks. Usable from several threads, and after a fork: each process has connections of its
    own, and keys of its own, so that no two are handed the same page. Under a reader's name there
    is one page of each kind at a time, so a second thread or a forked process needs a client with
    another name.

    What one thread's failure has left, the next pull of any thread gets.

    Args:
        base_url: where the service is: scheme, host and port, and a path if a proxy put one in
            front. For the original service "https://yun.tim.qq.com". There is no default: pulls
            take records away, so nobody should pull from somewhere by accident.
        sdkappid: the application; its digits as text will do.
        appkey: its key, for the old call.
        secret_id: in place of an appkey, the id of a key pair of API 3.0 (2021-01-11) that may read
            the application; everything is then asked for over that, at "/". For the original
            service base_url is "https://sms.tencentcloudapi.com".
        secret_key: that pair's key.
        reader: this consumer's name, the same at each start: 1 to 64 letters, digits, dots,
            underscores and hyphens. The service keeps the page that it gave to this name until the
            next pull, or `close`, tells that it was acknowledged. Consumers with other names share
            the mailbox's records; two under one name are handed the same pages. A service that
            knows no readers is not pulled from: `ReaderUnsupported`.
        state: where the keys of pages in flight are kept instead: a small file, for one process at
            a time. After a kill the page in flight comes again within 24 hours, from a service that
            knows `Idempotency-Key`; of others the log says then how many records may be lost. A
            forked process that does not use this client keeps the file from nobody.
        timeout_s: seconds to wait for a connection, for the whole head of an answer, and for each
            part of its body; where this client lets the service hold it, after that time. A body
            that has come for so long is given up below 1 KiB a second.
        attempts_max: how often one page is asked for before the last failure is raised. Whether a
            failure is repeated at all depends on what is known: see `pull`. Iterators that
            follow a mailbox go by time instead: see `delivery_statuses`.
        retry_pause_s: seconds before the first repeat, and at most; in between they double, with
            some jitter. Each from 0.01 to 3600.
        on_retry: called before each repeat with what the attempt failed of (a `ClientError`), the
            attempt's number, from 1 on, and the seconds until the next. It is a plain function for
            `AsyncClient`, too; what it raises ends the pull. The logger `pullstatus` has a line
            when a page can't be had at first, and one when it comes after all.
        keyed: True if the service is known to know `Idempotency-Key`, False if it is known not to.
            None asks it, once, by a `GET /` before the first pull, which takes nothing; whoever
            answers that otherwise than a pullstatus server is judged by its answers to pulls. One
            that is not asked holds no pulls (`long_poll_s`). Not for clients with a reader, which
            always ask.
        transport: httpx transport to use instead of the network, for tests and special routes. It
            is used as it is: proxies and certificates are then its own affair, and so is a fork.
        clock: Unix seconds.
        sleep: waits so many seconds.
        random: where keys, jitter and `random` come from.

    Whatever goes wrong, what is raised is of our own tree of errors. An exception from outside,
    such as that of a signal's handler, or of a time limit of Celery or RQ, ends a call as it is,
    whatever its class. The next pull asks for the same page, over connections of its own.

    Raises:
        InvalidArgument: an argument is wrong.
        InvalidEnvironment: a variable of the environment names a proxy, or certificates, of no use.
    """

    def __init__(
        self,
        base_url: str,
        sdkappid: int | str,
        appkey: str | None = None,
        *,
        secret_id: str | None = None,
        secret_key: str | None = None,
        reader: str | None = None,
        state: str | os.PathLike[str] | None = None,
        timeout_s: float = TIMEOUT_S,
        attempts_max: int = ATTEMPTS_MAX,
        retry_pause_s: tuple[float, float] = RETRY_S,
        on_retry: OnRetry | None = None,
        keyed: bool | None = None,
        transport: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = unix_time,
        sleep: Callable[[float], object] = time.sleep,
        random: Random | None = None,
    ) -> None:
        self._puller = open_puller(
            base_url,
            sdkappid,
            appkey,
            secret_id=secret_id,
            secret_key=secret_key,
            reader=reader,
            state=state,
            keyed=keyed,
            attempts_max=attempts_max,
            retry_pause_s=retry_pause_s,
            on_retry=on_retry,
            clock=clock,
            random=random or SystemRandom(),
        )
        open_new = partial(open_http, base_url, timeout_s, transport)
        self._connections = Connections(open_new, self._puller.forked)
        self._sleep = sleep

    def features(self) -> frozenset[str] | None:
        """What the service can do beyond the old call, as it says by `GET /`, which takes nothing.

        Returns:
            Names such as "reader", "idempotency-key" and "wait"; none of a service that is no
            pullstatus server; None if no answer tells, so that asking again may.

        Raises:
            NotConnected: nobody could be asked.
        """
        return self._drive(self._puller.ask_features())

    @overload
    def pull(
        self,
        kind: Literal[Kind.DELIVERY_STATUS],
        *,
        max: int = ...,
        key: str | None = ...,
        ack: str | None = ...,
        long_poll_s: int = ...,
    ) -> Page[DeliveryStatus]: ...
    @overload
    def pull(
        self,
        kind: Literal[Kind.REPLY],
        *,
        max: int = ...,
        key: str | None = ...,
        ack: str | None = ...,
        long_poll_s: int = ...,
    ) -> Page[Reply]: ...
    @overload
    def pull(
        self,
        kind: Kind,
        *,
        max: int = ...,
        key: str | None = ...,
        ack: str | None = ...,
        long_poll_s: int = ...,
    ) -> Page[Record]: ...
    def pull(
        self,
        kind: Kind,
        *,
        max: int = limits.PULL_COUNT_MAX,  # noqa: A002 - the wire's word
        key: str | None = None,
        ack: str | None = None,
        long_poll_s: int = 0,
    ) -> Page[Record]:
        """Take one page out of a mailbox; an empty one if nothing waits.

        A failure is repeated by itself, after a growing pause, if that can help and cannot lose a
        page: always when nothing was consumed; when a page may be on its way only against a
        service that knows `Idempotency-Key`, with the same key.

        A key stands for the next page, and is kept until it has brought one. Behind a failure or
        an empty page the next pull of this client asks with the same key again: an earlier attempt
        may be held up on its way, and take a page later.

        With a reader it is the page in this reader's hand, until a pull says by `ack` that it was
        done with; a page that was done with may also be left to the next start.

        Args:
            kind: which mailbox.
            max: how many records at most, 1 to 100. A page that an earlier pull may have taken
                comes first, as large as that one asked for.
            key: the page's Idempotency-Key, if you keep it yourself, so that another process can
                go on with it: write it down before, and change it when you have stored records
                that came with it, not when the page was empty. A key of an exception, too, brings
                the page that it may have cost. Not for readers.
            ack: for readers: the `pull_id` of the page that was done with.
            long_poll_s: seconds for which a service that can may hold this pull of an empty
                mailbox, 0 to 50; as for `delivery_statuses`.

        Raises:
            KeyExpired: a page may have been taken that can't be had again.
            ClientError: it failed. `may_have_consumed` and `key` say about the page.
        """
        return self._drive(self._puller.pull(check_kind(kind), max, key, ack, long_poll_s))

    def delivery_statuses(
        self,
        *,
        max: int = limits.PULL_COUNT_MAX,  # noqa: A002 - the wire's word
        follow: bool = True,
        wait_s: float = IDLE_S[1],
        long_poll_s: int = LONG_POLL_S,
        give_up_after_s: float | None = None,
        key: str | None = None,
    ) -> Batches[DeliveryStatus]:
        """Iterate over the delivery statuses, in batches to be acknowledged.

        The next page is asked for when the last batch was acknowledged. When the mailbox is empty
        the iterator waits until there is more: a service whose `GET /` says that it can (the
        feature `wait`) holds the pull until a record comes, and others are asked again after pauses
        that grow up to `wait_s`. When the service is away it waits for that, too.

        A cancelled task ends a held pull at once. A blocking one goes on when another thread closes
        the client, for `long_poll_s` and `timeout_s` at most; a signal's exception ends it. Neither
        loses a page more than any other failure.

        Until its page is acknowledged a key stays this client's: a new iterator begins with what
        an exception or a failed batch has left. With a reader the next pull tells the service of
        each acknowledgement; so an iterator that doesn't follow ends with a pull of nothing.

        Args:
            max: how many records a batch has at most, 1 to 100.
            follow: False ends the iterator when the mailbox is empty.
            wait_s: seconds at most between two looks into an empty mailbox, 0.01 to 3600; at first
                half a second. For services that can't hold a pull, and for empty pages that come
                too early, as from one that stops.
            long_poll_s: seconds for which the service may hold a pull of an empty mailbox, 0 to 50;
                0 for pauses instead. `timeout_s` is counted on top of it. Proxies in between must
                have that patience. Without `follow` nothing is held.
            give_up_after_s: seconds after which an outage is raised. None, and `follow`: never,
                as long as a repeat can help and cannot lose a page; an answer that can't be read,
                and a doubt that can't be settled, end it after `attempts_max` all the same. None,
                and not `follow`: after `attempts_max`.
            key: the first page's Idempotency-Key, as for `pull`.

        Raises:
            InvalidArgument: an argument is wrong.
        """
        follower: Follower[DeliveryStatus] = Follower(
            self._puller,
            Kind.DELIVERY_STATUS,
            max,
            follow=follow,
            wait_s=wait_s,
            long_poll_s=long_poll_s,
            give_up_after_s=give_up_after_s,
            key=key,
        )
        return Batches(follower, self._drive)

    def replies(
        self,
        *,
        max: int = limits.PULL_COUNT_MAX,  # noqa: A002 - the wire's word
        follow: bool = True,
        wait_s: float = IDLE_S[1],
        long_poll_s: int = LONG_POLL_S,
        give_up_after_s: float | None = None,
        key: str | None = None,
    ) -> Batches[Reply]:
        """Iterate over the replies, in batches to be acknowledged; see `delivery_statuses`."""
        follower: Follower[Reply] = Follower(
            self._puller,
            Kind.REPLY,
            max,
            follow=follow,
            wait_s=wait_s,
            long_poll_s=long_poll_s,
            give_up_after_s=give_up_after_s,
            key=key,
        )
        return Batches(follower, self._drive)

    @overload
    def find(
        self,
        kind: Literal[Kind.DELIVERY_STATUS],
        mobile: str,
        *,
        nationcode: str,
        since: Moment | None = ...,
        until: Moment | None = ...,
        max: int = ...,
        sid: str | None = ...,
    ) -> tuple[DeliveryStatus, ...]: ...
    @overload
    def find(
        self,
        kind: Literal[Kind.REPLY],
        mobile: str,
        *,
        nationcode: str,
        since: Moment | None = ...,
        until: Moment | None = ...,
        max: int = ...,
        sid: str | None = ...,
    ) -> tuple[Reply, ...]: ...
    @overload
    def find(
        self,
        kind: Kind,
        mobile: str,
        *,
        nationcode: str,
        since: Moment | None = ...,
        until: Moment | None = ...,
        max: int = ...,
        sid: str | None = ...,
    ) -> tuple[Record, ...]: ...
    def find(
        self,
        kind: Kind,
        mobile: str,
        *,
        nationcode: str,
        since: Moment | None = None,
        until: Moment | None = None,
        max: int = limits.PULL_COUNT_MAX,  # noqa: A002 - the wire's word
        sid: str | None = None,
    ) -> tuple[Record, ...]:
        """Look for the records of one number, pulled or not; nothing is taken out.

        Those that the service still keeps, by their own time (`received_at`, `replied_at`); of a
        pullstatus server the oldest first, and each once, however often it was handed out. A
        failure is repeated by itself wherever that can help.

        Args:
            kind: which records.
            mobile: the number in digits, without its calling code.
            nationcode: that code in digits, such as "86".
            since: not before this: a datetime with its time zone, or Unix seconds. None: seven days
                ago, the most that API 3.0 looks back.
            until: not after this; None: now.
            max: how many at most, 1 to 100. Where there are so many, ask again from the time of the
                last one.
            sid: only the delivery statuses of this send.

        Raises:
            ClientError: it failed; nothing was consumed.
        """
        flow = find(self._puller, check_kind(kind), mobile, nationcode, since, until, max, sid)
        return self._drive(flow)

    def statistics(self, *, since: Moment, until: Moment | None = None) -> Statistics:
        """What was sent and what carriers reported in some hours.

        Two calls: of sends, which a service may not have been told of, and of receipts.

        Args:
            since: the hour that this is in is the first one: a datetime with its time zone, or Unix
                seconds. Hours are those of UTC+8, and begin with those of UTC.
            until: the last hour is the one that this ends: midnight ends a day. None: now. A
                pullstatus server answers for 32 days at most.

        Raises:
            ClientError: it failed.
        """
        return self._drive(statistics(self._puller, since, until))

    def close(self) -> None:
        """Tell the service what was acknowledged since the last pull, and close the connections.

        Those of this process, never its parent's. What can't be told is a line in the log, and that
        page comes again.
        """
        if not self._mine().is_closed:
            try:
                self._drive(self._puller.close())
            finally:
                self._mine().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _drive(self, flow: Flow[T]) -> T:
        try:
            return drive(flow, self._mine, self._sleep)
        except ClientError:
            raise
        except BaseException:
            self._connections.abandon()
            raise

    def _mine(self) -> httpx.Client:
        return self._connections.mine()


class AsyncClient(_Known):
    """Pulls one application's records; the same as `Client`, with await.

        async with AsyncClient("http://127.0.0.1:8080", 1400006666, appkey) as client:
            async for batch in client.delivery_statuses():
                with batch:
                    await database.store(batch)

    Its arguments and exceptions are those of `Client`; `sleep` returns an awaitable. It may be used
    from one event loop of asyncio after another, and after a fork, like `Client`. Outside of
    asyncio it raises `InvalidArgument`.

    A call can be cancelled at any moment, by `task.cancel()` or `asyncio.timeout`: what it has
    under way ends with it, and the client's other calls go on.
    """

    def __init__(
        self,
        base_url: str,
        sdkappid: int | str,
        appkey: str | None = None,
        *,
        secret_id: str | None = None,
        secret_key: str | None = None,
        reader: str | None = None,
        state: str | os.PathLike[str] | None = None,
        timeout_s: float = TIMEOUT_S,
        attempts_max: int = ATTEMPTS_MAX,
        retry_pause_s: tuple[float, float] = RETRY_S,
        on_retry: OnRetry | None = None,
        keyed: bool | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = unix_time,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        random: Random | None = None,
    ) -> None:
        self._puller = open_puller(
            base_url,
            sdkappid,
            appkey,
            secret_id=secret_id,
            secret_key=secret_key,
            reader=reader,
            state=state,
            keyed=keyed,
            attempts_max=attempts_max,
            retry_pause_s=retry_pause_s,
            on_retry=on_retry,
            clock=clock,
            random=random or SystemRandom(),
        )
        open_new = partial(open_async_http, base_url, timeout_s, transport)
        self._connections = Connections(open_new, self._puller.forked)
        self._sleep = sleep

    async def features(self) -> frozenset[str] | None:
        """What the service can do; see `Client.features`."""
        return await self._drive(self._puller.ask_features())

    @overload
    async def pull(
        self,
        kind: Literal[Kind.DELIVERY_STATUS],
        *,
        max: int = ...,
        key: str | None = ...,
        ack: str | None = ...,
        long_poll_s: int = ...,
    ) -> Page[DeliveryStatus]: ...
    @overload
    async def pull(
        self,
        kind: Literal[Kind.REPLY],
        *,
        max: int = ...,
        key: str | None = ...,
        ack: str | None = ...,
        long_poll_s: int = ...,
    ) -> Page[Reply]: ...
    @overload
    async def pull(
        self,
        kind: Kind,
        *,
        max: int = ...,
        key: str | None = ...,
        ack: str | None = ...,
        long_poll_s: int = ...,
    ) -> Page[Record]: ...
    async def pull(
        self,
        kind: Kind,
        *,
        max: int = limits.PULL_COUNT_MAX,  # noqa: A002 - the wire's word
        key: str | None = None,
        ack: str | None = None,
        long_poll_s: int = 0,
    ) -> Page[Record]:
        """Take one page out of a mailbox; see `Client.pull`.

        A cancelled pull may have consumed a page as well: the next pull of this client brings it.
        """
        return await self._drive(self._puller.pull(check_kind(kind), max, key, ack, long_poll_s))

    def delivery_statuses(
        self,
        *,
        max: int = limits.PULL_COUNT_MAX,  # noqa: A002 - the wire's word
        follow: bool = True,
        wait_s: float = IDLE_S[1],
        long_poll_s: int = LONG_POLL_S,
        give_up_after_s: float | None = None,
        key: str | None = None,
    ) -> AsyncBatches[DeliveryStatus]:
        """Iterate over the delivery statuses; see `Client.delivery_statuses`."""
        follower: Follower[DeliveryStatus] = Follower(
            self._puller,
            Kind.DELIVERY_STATUS,
            max,
            follow=follow,
            wait_s=wait_s,
            long_poll_s=long_poll_s,
            give_up_after_s=give_up_after_s,
            key=key,
        )
        return AsyncBatches(follower, self._drive)

    def replies(
        self,
        *,
        max: int = limits.PULL_COUNT_MAX,  # noqa: A002 - the wire's word
        follow: bool = True,
        wait_s: float = IDLE_S[1],
        long_poll_s: int = LONG_POLL_S,
        give_up_after_s: float | None = None,
        key: str | None = None,
    ) -> AsyncBatches[Reply]:
        """Iterate over the replies; see `Client.delivery_statuses`."""
        follower: Follower[Reply] = Follower(
            self._puller,
            Kind.REPLY,
            max,
            follow=follow,
            wait_s=wait_s,
            long_poll_s=long_poll_s,
            give_up_after_s=give_up_after_s,
            key=key,
        )
        return AsyncBatches(follower, self._drive)

    @overload
    async def find(
        self,
        kind: Literal[Kind.DELIVERY_STATUS],
        mobile: str,
        *,
        nationcode: str,
        since: Moment | None = ...,
        until: Moment | None = ...,
        max: int = ...,
        sid: str | None = ...,
    ) -> tuple[DeliveryStatus, ...]: ...
    @overload
    async def find(
        self,
        kind: Literal[Kind.REPLY],
        mobile: str,
        *,
        nationcode: str,
        since: Moment | None = ...,
        until: Moment | None = ...,
        max: int = ...,
        sid: str | None = ...,
    ) -> tuple[Reply, ...]: ...
    @overload
    async def find(
        self,
        kind: Kind,
        mobile: str,
        *,
        nationcode: str,
        since: Moment | None = ...,
        until: Moment | None = ...,
        max: int = ...,
        sid: str | None = ...,
    ) -> tuple[Record, ...]: ...
    async def find(
        self,
        kind: Kind,
        mobile: str,
        *,
        nationcode: str,
        since: Moment | None = None,
        until: Moment | None = None,
        max: int = limits.PULL_COUNT_MAX,  # noqa: A002 - the wire's word
        sid: str | None = None,
    ) -> tuple[Record, ...]:
        """Look for the records of one number; see `Client.find`."""
        flow = find(self._puller, check_kind(kind), mobile, nationcode, since, until, max, sid)
        return await self._drive(flow)

    async def statistics(self, *, since: Moment, until: Moment | None = None) -> Statistics:
        """Counts of some hours; see `Client.statistics`."""
        return await self._drive(statistics(self._puller, since, until))

    async def aclose(self) -> None:
        """Tell of what was acknowledged, and close the connections; see `Client.close`.

        Those of this process and this event loop.
        """
        if not self._mine().is_closed:
            try:
                await self._drive(self._puller.close())
            finally:
                http = self._mine()
                await (cancellable(http.aclose()) if by_httpcore(http) else http.aclose())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.aclose()

    async def _drive(self, flow: Flow[T]) -> T:
        try:
            return await drive_async(flow, self._mine, self._sleep)
        except (ClientError, asyncio.CancelledError, GeneratorExit):
            raise  # a cancelled exchange lets go of all by itself
        except BaseException:
            self._connections.abandon()
            raise

    def _mine(self) -> httpx.AsyncClient:
        return self._connections.mine(_running_loop())


class Batches(Iterator[Batch[R_co]], Generic[R_co]):
    """The batches of one mailbox; for one thread.

    An exception does not end it: asked again, it goes on with the same page and the same key.
    """

    def __init__(
        self,
        follower: Follower[R_co],
        drive: Callable[[Flow[Batch[R_co] | None]], Batch[R_co] | None],
    ) -> None:
        self._follower = follower
        self._drive = drive

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch[R_co]:
        batch = self._drive(self._follower.next())
        if batch is None:
            raise StopIteration
        return batch


class AsyncBatches(AsyncIterator[Batch[R_co]], Generic[R_co]):
    """The batches of one mailbox; for one task.

    An exception, a cancellation included, does not end it: asked again, it goes on with the same
    page and the same key.
    """

    def __init__(
        self,
        follower: Follower[R_co],
        drive: Callable[[Flow[Batch[R_co] | None]], Awaitable[Batch[R_co] | None]],
    ) -> None:
        self._follower = follower
        self._drive = drive

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Batch[R_co]:
        batch = await self._drive(self._follower.next())
        if batch is None:
            raise StopAsyncIteration
        return batch
