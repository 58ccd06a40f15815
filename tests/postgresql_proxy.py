"""A proxy before a PostgreSQL that knows where its messages begin and end.

    with MessageProxy(server.port) as proxy:
        psycopg.connect(server.tcp_url(port=proxy.port))
        proxy.cut(Way.TO_SERVER, 17)    # the next commit: so much of it arrives, then both are cut
        proxy.cut(Way.TO_CLIENT, 0)     # it is carried out; so much of its answer arrives
        with proxy.held() as flight:    # the next commit does not arrive until the block ends
            flight.wait()               # until there is one
        proxy.cut_at_random(rng, 0.01)  # from now on so many of them, anywhere
        proxy.cut_flight(3, Way.TO_SERVER, 0.5)  # the flight behind the next three, at its middle
        proxy.strike(3, server.kill)    # what is done when that one has come, before it goes on

A *flight* is what a client sends before it waits for an answer: messages up to one that asks for
it. A commit is a flight with a COMMIT in it. Flights are carried whole, so that it is known what
they are before their first byte goes on.
"""

from __future__ import annotations

import contextlib
import enum
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from random import Random
from typing import Final, NamedTuple, Self

ASKS_FOR_AN_ANSWER: Final = b"SQH"  # Sync, Query, Flush
FLUSH: Final = b"H"
READY: Final = ord("Z")
NO_ENCRYPTION: Final = (80877103, 80877104)  # may it be TLS, or GSS? It may not
PARSE: Final = ord("P")
SIMPLE_QUERY: Final = ord("Q")
BIND: Final = ord("B")
COMMIT: Final = b"COMMIT"
PATIENCE_S: Final = 60


class Way(enum.Enum):
    """Which of the two ways of a commit is cut."""

    TO_SERVER = "to the server"
    TO_CLIENT = "to the client"


class Sizes(NamedTuple):
    """How many bytes a commit had, and its answer."""

    to_server: int
    to_client: int


class MessageProxy:
    """Carries all connections to one server.

    Attributes:
        port: where it listens, on loopback.
        upstream: the port of the server.
        cuts: how many commits, or flights, were cut.
        flights: how many there were.
        commits: the sizes of those that were not, the last ones.
    """

    def __init__(self, upstream: int) -> None:
        self.upstream = upstream
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.cuts = 0
        self.flights = 0
        self.commits: list[Sizes] = []
        self._next: tuple[Way, float] | None = None
        self._flight: tuple[int, Way, float] | None = None
        self._strike: tuple[int, Callable[[], object]] | None = None
        self._random: tuple[Random, float] | None = None
        self._hold: tuple[threading.Event, threading.Event] | None = None
        self._lock = threading.Lock()
        self._open: set[socket.socket] = {self._listener}
        self._threads = [threading.Thread(target=self._accept)]

    def cut(self, way: Way, size: int) -> None:
        """Have the next commit cut after so many bytes of that way."""
        with self._lock:
            self._next = way, size

    def cut_at_random(self, rng: Random, rate: float) -> None:
        """Have that share of commits cut anywhere, either way; 0: none any more."""
        with self._lock:
            self._random = (rng, rate) if rate else None

    def cut_flight(self, number: int, way: Way, size: float) -> None:
        """Have the flight behind the next so many cut, whatever it is."""
        with self._lock:
            self._flight = self.flights + number, way, size

    def strike(self, number: int, act: Callable[[], object]) -> None:
        """Do something once the flight behind the next so many has come, before it goes on."""
        with self._lock:
            self._strike = self.flights + number, act

    @contextlib.contextmanager
    def held(self) -> Iterator[threading.Event]:
        """Hold the next commit back until the block ends; the event tells that there is one."""
        arrived, go_on = threading.Event(), threading.Event()
        with self._lock:
            self._hold = arrived, go_on
        try:
            yield arrived
        finally:
            go_on.set()

    def plan(self, *, commits: bool) -> tuple[Way, float] | None:
        """What is to become of a flight that has come: a way, and a size or a share of it."""
        with self._lock:
            number, self.flights = self.flights, self.flights + 1
            if self._strike is not None and self._strike[0] == number:
                (_, act), self._strike = self._strike, None
                act()
            if self._flight is not None and self._flight[0] == number:
                (_, way, size), self._flight = self._flight, None
                self.cuts += 1
                return way, size
            if not commits:
                return None
            hold, self._hold = self._hold, None
            plan: tuple[Way, float] | None
            plan, self._next = self._next, None
            if plan is None and self._random is not None:
                rng, rate = self._random
                if rng.random() < rate:
                    plan = rng.choice(list(Way)), rng.random()
            self.cuts += plan is not None
        if hold is not None:
            arrived, go_on = hold
            arrived.set()
            go_on.wait(PATIENCE_S)
        return plan

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_error: object) -> None:
        with self._lock:
            doomed, self._open = self._open, set()
        for one in doomed:
            _cut(one)
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.upstream), PATIENCE_S)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            connection = _Connection(self, client, server)
            with self._lock:
                self._open |= {client, server}
                for way in (connection.to_server, connection.to_client):
                    self._threads.append(threading.Thread(target=self._carry, args=(way,)))
                    self._threads[-1].start()

    def _carry(self, way: _Pump) -> None:
        with contextlib.suppress(OSError):
            way.run()
        way.connection.cut()
        with self._lock:
            self._open -= {way.connection.client, way.connection.server}


class _Connection:
    """One client's; ended by the end of either way."""

    def __init__(self, proxy: MessageProxy, client: socket.socket, server: socket.socket) -> None:
        self.proxy = proxy
        self.client = client
        self.server = server
        for one in (client, server):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.answer_left: float | None = None  # bytes or, below 1, the share of the next answer
        self.commit_size = 0  # of the one that is being answered
        self.to_server = _ToServer(self)
        self.to_client = _ToClient(self)

    def cut(self) -> None:
        """End both ways at once; what has not arrived never will."""
        for one in (self.client, self.server):
            _cut(one)


class _Pump:
    def __init__(self, connection: _Connection) -> None:
        self.connection = connection

    def run(self) -> None:
        """Carry until an end."""
        raise NotImplementedError


class _ToServer(_Pump):
    """Gathers messages to flights, and lets each go as it is planned."""

    def __init__(self, connection: _Connection) -> None:
        super().__init__(connection)
        self._prepared: set[bytes] = set()  # names of statements that are COMMIT

    def run(self) -> None:
        connection = self.connection
        data = self._start_up()
        flight = b""
        while True:
            for kind, message in _messages(data):
                flight += message
                data = data[len(message) :]
                if kind in ASKS_FOR_AN_ANSWER or kind in b"pX":
                    self._send(flight)
                    flight = b""
            more = connection.client.recv(1 << 16)
            if not more:
                return
            data += more

    def _start_up(self) -> bytes:
        """Carry what comes before messages have a type; returns what has come behind it."""
        connection, data = self.connection, b""
        while True:
            while len(data) < 8 or len(data) < struct.unpack("!I", data[:4])[0]:
                more = connection.client.recv(1 << 16)
                if not more:
                    raise ConnectionError
                data += more
            size, code = struct.unpack("!II", data[:8])
            if code not in NO_ENCRYPTION:
                connection.server.sendall(data[:size])
                return data[size:]
            connection.client.sendall(b"N")
            data = data[size:]

    def _send(self, flight: bytes) -> None:
        connection = self.connection
        if flight[:1] == FLUSH:  # alone, behind a flight that has been answered or will be
            connection.server.sendall(flight)
            return
        commits = self._commits(flight)
        plan = connection.proxy.plan(commits=commits)
        if commits or plan:
            connection.commit_size = len(flight)
        if plan is None:
            connection.server.sendall(flight)
            return
        way, size = plan
        if way is Way.TO_CLIENT:
            connection.answer_left = size
            connection.server.sendall(flight)
            return
        connection.server.sendall(flight[: _bytes_of(size, len(flight))])
        # Gone in order, so that what was sent is read: a reset would throw it away.
        connection.server.shutdown(socket.SHUT_WR)
        _cut(connection.client)
        raise ConnectionError

    def _commits(self, flight: bytes) -> bool:
        """Whether a COMMIT is among its messages: a query, or a statement that is prepared."""
        found = False
        for kind, message in _messages(flight):
            texts = message[5:].split(b"\0", 2)
            if kind == SIMPLE_QUERY:
                found = found or texts[0].upper() == COMMIT
            elif kind == PARSE:  # its name, and what it is
                self._prepared.discard(texts[0])
                if texts[1].upper() == COMMIT:
                    self._prepared.add(texts[0])
            elif kind == BIND:  # a portal, and the statement's name
                found = found or texts[1] in self._prepared
        return found


class _ToClient(_Pump):
    """Carries answers; one that is to be cut is gathered until it is whole."""

    def run(self) -> None:
        connection = self.connection
        answer = data = b""
        while more := connection.server.recv(1 << 16):
            if not connection.commit_size:
                connection.client.sendall(more)
                continue
            data += more
            ends = False
            for kind, message in _messages(data):
                answer += message
                data = data[len(message) :]
                ends = ends or kind == READY
            if ends:
                self._answer(answer + data)
                answer = data = b""

    def _answer(self, answer: bytes) -> None:
        connection = self.connection
        left, connection.answer_left = connection.answer_left, None
        if left is not None:
            connection.client.sendall(answer[: _bytes_of(left, len(answer))])
            raise ConnectionError
        sizes = Sizes(connection.commit_size, len(answer))
        connection.proxy.commits = [*connection.proxy.commits[-9:], sizes]
        connection.commit_size = 0
        connection.client.sendall(answer)


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The whole messages at the beginning of it, each with its type."""
    place = 0
    while len(data) >= place + 5:
        end = place + 1 + struct.unpack_from("!I", data, place + 1)[0]
        if len(data) < end:
            return
        yield data[place], data[place:end]
        place = end


def _bytes_of(size: float, whole: int) -> int:
    return int(size * whole) if size < 1 else int(size)


def _cut(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
