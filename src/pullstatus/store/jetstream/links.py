"""Connections to a cluster, each made anew whenever it is lost, and questions asked over them.

There are two, which end at different nodes where they can: one that ends at a node which was paused
hears nothing until its pings are given up, and meanwhile the other goes on. What was asked over a
connection that is lost has no answer, at once; nothing of it is sent again here, nor kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import ssl
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.transport import TcpTransport

from pullstatus.errors import InvalidSetting, StoreUnavailable
from pullstatus.store.jetstream.location import (
    CREDENTIALS,
    PASSWORD,
    USER,
    Address,
    Location,
    Login,
)

LINKS: Final = 2
CONNECT_S: Final = 2  # a node that is paused takes a connection, and says nothing over it
PING_S: Final = 1.0
PONG_S: Final = 2
PAUSE_S: Final = 0.2  # once all nodes were tried in vain
CLOSE_S: Final = 1.0
CANCEL_S: Final = 0.1
START_S: Final = 10.0
APPLICATION: Final = "pullstatus"  # as the cluster calls our connections

STATUS: Final = "Status"
NO_RESPONDERS: Final = "503"
DENIED: Final = "permissions violation"

Headers = Mapping[str, str]
# Whatever the client stumbles at, its own assertions included: the connection is of no use.
_FAILURES: Final = (Exception,)


class NoAnswer(Exception):
    """It may have arrived, or not; what came of it is not known."""


class NobodyThere(Exception):
    """No node takes it now, so nothing came of it: a stream without a leader, or none at all."""


class Answer(NamedTuple):
    """What came back."""

    headers: Headers
    data: bytes

    @property
    def status(self) -> str | None:
        """A number, if it is no message of a stream's, nor an answer of the API."""
        return self.headers.get(STATUS)


class _Waiting:
    """Who waits for one answer, or for several, the last of which has a status."""

    def __init__(self, bytes_max: int | None) -> None:
        self.done: asyncio.Future[list[Answer]] = asyncio.get_running_loop().create_future()
        self._several = bytes_max is not None
        self._left = bytes_max or 0
        self._found: list[Answer] = []

    def take(self, answer: Answer) -> None:
        if self.done.done():
            return
        self._found.append(answer)
        self._left -= len(answer.data)
        if not self._several or answer.status is not None:
            self.done.set_result(self._found)
        elif self._left < 0:
            self.done.set_exception(NoAnswer("more came than was asked for"))


class Link:
    """One of the connections.

    Attributes:
        address: the node that it is with; None: there is no connection now.
    """

    def __init__(self, links: Links, number: int) -> None:
        self.address: Address | None = None
        self._links = links
        self._number = number
        self._lost: Address | None = None
        self._client: _Client | None = None
        self._inbox = ""
        self._waiting: dict[str, _Waiting] = {}
        self._numbers = itertools.count(1)

    async def ask(
        self, subject: str, data: bytes, headers: Headers | None = None, *, patience_s: float
    ) -> Answer:
        """The answer to a request.

        Raises:
            NoAnswer: within that time, or the connection is lost.
            NobodyThere: nobody listens.
        """
        [answer] = await self._ask(subject, data, headers, patience_s, None)
        return answer

    async def gather(
        self, subject: str, data: bytes, *, patience_s: float, bytes_max: int
    ) -> list[Answer]:
        """All answers to a request; the last one has a status.

        Raises:
            NoAnswer: not all of them within that time, or more than so many bytes.
            NobodyThere: nobody listens.
        """
        return await self._ask(subject, data, None, patience_s, bytes_max)

    async def send(self, subject: str, data: bytes, headers: Headers | None = None) -> None:
        """Send what nobody answers.

        Raises:
            NoAnswer: there is no connection.
        """
        await self._publish(subject, data, headers, "")

    async def keep(self) -> None:
        """Be connected, for as long as this runs."""
        while True:
            for address in self._links.order(self._number, self._lost):
                try:
                    client, down = await self._connect(address)
                except _FAILURES as error:
                    self._links.fault = _said(error)
                    continue
                await self._talk(client, down, address)
                break
            else:
                self._links.went_round(self._number)
                await asyncio.sleep(PAUSE_S * random.uniform(0.5, 1.5))  # noqa: S311

    async def _connect(self, address: Address) -> tuple[_Client, asyncio.Event]:
        down = asyncio.Event()
        client = _Client(wants_tls=self._links.tls is not None)

        async def closed() -> None:
            down.set()

        async def wrong(error: Exception) -> None:  # or the client would log it
            if DENIED in str(error):
                self._links.denied = f"the user may not do what is due: {error}"

        try:
            async with asyncio.timeout(2 * CONNECT_S):
                await client.connect(
                    [f"nats://{address}"],
                    error_cb=wrong,
                    closed_cb=closed,
                    name=APPLICATION,
                    allow_reconnect=False,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    connect_timeout=CONNECT_S,
                    pending_size=0,  # nothing is kept for later
                    tls=self._links.tls,
                    tls_hostname=address.host,
                    user=self._links.login.user,
                    password=self._links.login.password,
                    user_credentials=self._links.login.credentials,
                )
                self._inbox = client.new_inbox()
                await client.subscribe(f"{self._inbox}.*", cb=self._heard)
        except BaseException:
            await client.drop()
            raise
        return client, down

    async def _talk(self, client: _Client, down: asyncio.Event, address: Address) -> None:
        """Have others ask over a connection until it is lost."""
        self._client, self.address = client, address
        self._links.came()
        try:
            while not down.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(PING_S):
                        await down.wait()
                await client.rtt(PONG_S)
        except _FAILURES:
            pass
        finally:
            self._client, self.address, self._lost = None, None, address
            for waiting in self._waiting.values():
                if not waiting.done.done():
                    waiting.done.set_exception(NoAnswer("the connection is lost"))
            self._links.went()
            await client.drop()

    async def _ask(
        self,
        subject: str,
        data: bytes,
        headers: Headers | None,
        patience_s: float,
        bytes_max: int | None,
    ) -> list[Answer]:
        name = str(next(self._numbers))
        waiting = self._waiting[name] = _Waiting(bytes_max)
        try:
            await self._publish(subject, data, headers, f"{self._inbox}.{name}")
            answers = await asyncio.wait_for(waiting.done, patience_s)
        except TimeoutError:
            raise NoAnswer(self._links.denied or "it says nothing in time") from None
        finally:
            del self._waiting[name]
        if answers[0].status == NO_RESPONDERS:
            raise NobodyThere
        return answers

    async def _publish(self, subject: str, data: bytes, headers: Headers | None, to: str) -> None:
        if self._client is None:
            raise NoAnswer("there is no connection")
        try:
            await self._client.publish(subject, data, to, dict(headers) if headers else None)
        except _FAILURES as error:
            raise NoAnswer("the connection is lost") from error

    async def _heard(self, message: Msg) -> None:
        waiting = self._waiting.get(message.subject.rpartition(".")[2])
        if waiting is not None:
            waiting.take(Answer(message.headers or {}, message.data))


class Links:
    """The connections of a process; made, used and closed in one event loop.

    Args:
        on_up: told whenever there is a new connection.

    Attributes:
        fault: why the last try to connect failed, for people.
        denied: what the user was last refused, who hears of it beside; None: nothing was.
    """

    def __init__(self, location: Location, login: Login, on_up: Callable[[], None]) -> None:
        self.login = login
        self.tls = _tls(location)
        self.fault = "no node was tried yet"
        self.denied: str | None = None
        self._addresses = location.servers
        self._links = [Link(self, number) for number in range(LINKS)]
        self._keepers: list[asyncio.Task[None]] = []
        self._up = asyncio.Event()
        self._tried = asyncio.Event()
        self._untried = set(range(LINKS))
        self._on_up = on_up

    async def open(self) -> None:
        """Connect, and stay connected.

        Raises:
            StoreUnavailable: all nodes were tried, and none can be reached now.
        """
        self._keepers = [asyncio.create_task(link.keep()) for link in self._links]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_S):
                await self._tried.wait()
        if not self._up.is_set():
            await self.close()
            raise StoreUnavailable(self.fault)

    async def close(self) -> None:
        """Be connected no more; what is asked has no answer."""
        await end(set(self._keepers))

    async def link(self, turn: int, patience_s: float) -> Link:
        """One that is connected; with another turn it is another one, if there is one.

        Raises:
            NoAnswer: there is none, in that time.
        """
        try:
            async with asyncio.timeout(patience_s):
                while not (live := [link for link in self._links if link.address is not None]):
                    await self._up.wait()
        except TimeoutError:
            raise NoAnswer(self.fault) from None
        return live[turn % len(live)]

    def order(self, number: int, lost: Address | None) -> list[Address]:
        """In which order a link tries nodes: last those that others are with, or it was just."""
        held = [link.address for link in self._links]
        begin = number % len(self._addresses)
        turned = self._addresses[begin:] + self._addresses[:begin]
        return sorted(turned, key=lambda address: (address in held, address == lost))

    def came(self) -> None:
        """There is a new connection."""
        self._tried.set()
        self._up.set()
        self._on_up()

    def went_round(self, number: int) -> None:
        """A link has tried all nodes in vain."""
        self._untried.discard(number)
        if not self._untried:
            self._tried.set()

    def went(self) -> None:
        """A connection is lost."""
        if all(link.address is None for link in self._links):
            self._up.clear()


class _Client(Client):
    """One that says no password before there is TLS, if it is due, and that ends at once.

    By itself it has TLS where a node says so, or whoever is between. Here alone are private parts
    of the client known; a test names them.
    """

    def __init__(self, *, wants_tls: bool) -> None:
        super().__init__()
        self._wants_tls = wants_tls

    def _connect_command(self) -> bytes:
        if self._wants_tls and not self._server_info.get("tls_required"):
            raise nats.errors.SecureConnWantedError
        return super()._connect_command()

    async def _close(self, status: int, do_cbs: bool = True) -> None:  # noqa: FBT001, FBT002
        """End without what is still to be sent: if the connection is lost the client stumbles."""
        self._pending, self._pending_data_size = [], 0
        await super()._close(status, do_cbs)

    async def drop(self) -> None:
        """End it, whatever the node does: one that is paused would take no last bytes."""
        for subscription in self._subs.values():
            subscription._stop_processing()  # noqa: SLF001 it is one of ours
        if isinstance(self._transport, TcpTransport) and self._transport._io_writer:  # noqa: SLF001
            self._transport._io_writer.transport.abort()  # noqa: SLF001
        with contextlib.suppress(*_FAILURES):
            await asyncio.wait_for(self.close(), CLOSE_S)


async def end(tasks: set[asyncio.Task[Any]]) -> None:
    """Cancel tasks, and see them end.

    A cancellation is lost that comes together with what `wait_for` waited for, and the client keeps
    some to itself: so it is said again.
    """
    while tasks:
        for task in tasks:
            task.cancel()
        _, tasks = await asyncio.wait(tasks, timeout=CANCEL_S)


def _tls(location: Location) -> ssl.SSLContext | None:
    if location.tls is None:
        return None
    authorities = None if location.tls == "yes" else location.tls
    try:
        context = ssl.create_default_context(cafile=authorities)
        if location.certificate is not None:
            context.load_cert_chain(*location.certificate)
    except (OSError, ssl.SSLError) as error:
        raise InvalidSetting(
            f"what tls, tls-certificate and tls-key name in a store URL cannot be read ({error})"
        ) from error
    return context


def _said(error: BaseException) -> str:
    """Why a node cannot be used; no secret is in it."""
    text = str(error)
    if "Authorization" in text or "Authentication" in text:
        return (
            "a node does not let us in: set a user and a password, as"
            f" {USER} and {PASSWORD}, or {CREDENTIALS}"
        )
    if isinstance(error, nats.errors.SecureConnWantedError):
        return "a node has no TLS, or does not insist on it: set tls in its configuration"
    if isinstance(error, ssl.SSLError):
        return f"a node's TLS is not to be trusted: {error.reason}"
    return "no node can be reached"
