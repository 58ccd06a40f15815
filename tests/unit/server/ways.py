"""A server over a store of its own, without a network, whose time stands still; two are equal.

    with Side(template, folder, quick=True) as side:
        side.say(0, request)
        side.answers(0)     # what has come back over that connection
        side.saw()          # all that anybody can see of it, its store included

Bytes go in and out as over a network: through `Connection`, uvicorn's middleware for proxies, the
routes and a store of the embedded engine. Clocks and chance are the test's. What is done returns
when the server has nothing more to do until time passes.
"""

from __future__ import annotations

import asyncio
import random
import re
import shutil
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar, cast
from unittest import mock

import apsw
import msgspec
import structlog

from pullstatus import apps, limits
from pullstatus.apps import Application, Operator, Registry
from pullstatus.apps.networks import site_of
from pullstatus.errors import CallerGone, PullstatusError
from pullstatus.server.at_once import Later
from pullstatus.server.connection import Connection, Connections
from pullstatus.server.connection_state import Phase
from pullstatus.server.crowd import Crowd, Seat
from pullstatus.server.routes import Routes
from pullstatus.server.serve import ServeOptions, Server
from pullstatus.server.uvicorn_server import IDLE_GRACE_S
from pullstatus.server.whole import Whole
from pullstatus.store import Append, Gone, Page, Park, Pull, PutAside, Store, chunk, open_store
from pullstatus.store.fingerprints import keys_of
from pullstatus.store.gathering.committer import Committer, Report
from pullstatus.store.gathering.operations import Operation
from pullstatus.store.sqlite import SqliteStore
from pullstatus.store.sqlite.connection import open_reader
from tests.harness import App
from tests.sealing import keyring_of, masters_of
from tests.unit.server.test_connection import Crowd as Others
from tests.unit.server.test_connection import Transport

T = TypeVar("T")

NOW_MS: Final = 1_767_600_000_000
SHORT_S: Final = 1.5
"""Timers that end sooner end at once: looks at the store, and answers that are held back."""

PROXY: Final = "10.0.0.1"
ADDRESSES: Final = ("192.0.2.7", "192.0.2.7", PROXY, "198.51.100.9", "2001:db8::1")
"""Where the peer of each connection is; there are two of the first, and the third is trusted."""

WATCHING: Final = len(ADDRESSES)  # the connection by which the test asks for /metrics

PLAIN, STRICT, PATIENT, SLOW, LISTED, ABSENT = (
    App(1_400_000_001 + place, f"{place:032x}") for place in range(6)
)
APPS: Final = (PLAIN, STRICT, PATIENT, SLOW, LISTED, ABSENT)
CONDITIONS: Final[dict[int, dict[str, object]]] = {
    STRICT.sdkappid: {"strict": True},
    PATIENT.sdkappid: {"wait_s": 3},
    SLOW.sdkappid: {"pull_rate_max": 2},
    LISTED.sdkappid: {"allow": ("198.51.100.0/24",)},
}
SECRET_ID: Final = f"AKID{'I' * 32}"
SECRET_KEY: Final = "k" * 32
"""A pair for all of `APPS` but the absent one; it may sign in every way."""

TOKENS: Final = ("own", "any", "short", "unknown")


class Still(asyncio.SelectorEventLoop):
    """A loop whose time goes on only when a test says so, and which leaves nothing to threads."""

    now_s = 1000.0

    def time(self) -> float:
        return self.now_s

    def run_in_executor(
        self, executor: Executor | None, func: Callable[..., T], *args: object
    ) -> asyncio.Future[T]:
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - it is whose future it is
            future.set_exception(error)
        return future

    @property
    def ready(self) -> bool:
        """Whether something is to be done now."""
        return bool(cast("Any", self)._ready)

    def next_s(self) -> float | None:
        """When the next timer ends."""
        timers = cast("Any", self)._scheduled
        return min((timer.when() for timer in timers if not timer.cancelled()), default=None)


class Near:
    """A channel to a committer on the loop itself."""

    def __init__(self, committer: Committer) -> None:
        self._committer = committer
        self._loop = asyncio.get_running_loop()

    def start(self, on_report: Callable[[Report], None]) -> None:
        self._on_report = on_report
        on_report(self._committer.opening())

    def send(self, operations: Sequence[Operation]) -> None:
        self._loop.call_soon(self._commit, operations)

    def _commit(self, operations: Sequence[Operation]) -> None:
        self._on_report(self._committer.commit(operations))
        report = self._committer.tend()
        if report is not None:
            self._on_report(report)

    async def close(self) -> None:
        self._committer.close()


class Wire(Transport):
    """The near end of a connection, in memory."""

    def __init__(self, loop: Still, end: socket.socket, peer: tuple[str, int]) -> None:
        super().__init__(end)
        self.about["peername"] = peer
        self._loop = loop
        self.lost: Callable[[], None] = lambda: None

    def close(self) -> None:
        self._end("in order")

    def abort(self) -> None:
        self._end("cut")

    def _end(self, how: str) -> None:
        if self.closed is None:
            self.closed = how
            self._loop.call_soon(self._tell)

    def _tell(self) -> None:
        self.lost()


class Moody:
    """A store that fails, or does not answer, when a test says so.

    Attributes:
        fault: raised instead of the next answer, once.
        does: whether what fails so was done all the same.
        shut: nothing is handed to the store while it is.
    """

    def __init__(self, store: Store, loop: Still) -> None:
        self._store = store
        self._loop = loop
        self._waiting: list[asyncio.Future[None]] = []
        self.fault: Exception | None = None
        self.does = False
        self.shut = False

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - the store's
        return getattr(self._store, name)

    async def append(self, operation: Append, gone: Gone | None = None) -> int:
        return await self._do(gone, lambda: self._store.append(operation, gone))

    async def park(self, operation: Park, gone: Gone | None = None) -> PutAside:
        return await self._do(gone, lambda: self._store.park(operation, gone))

    async def pull(self, operation: Pull, gone: Gone | None = None) -> Page:
        leaves_no_trace = (operation.key, operation.once, operation.reader) == (None, None, None)
        if leaves_no_trace and self._store.surely_empty(operation.mailbox):
            return await self._store.pull(operation, gone)  # which does nothing that could fail
        return await self._do(gone, lambda: self._store.pull(operation, gone))

    async def _do(self, gone: Gone | None, do: Callable[[], Awaitable[T]]) -> T:
        if self.shut:
            since_s = self._loop.time()
            self._waiting.append(opened := self._loop.create_future())
            await opened
            if gone is not None and gone(self._loop.time() - since_s):
                raise CallerGone("the store does not answer in time")
        fault, self.fault = self.fault, None
        if fault is None:
            return await do()
        if self.does:
            await do()
        raise fault

    def open(self) -> None:
        """Hand over what has waited."""
        self.shut = False
        waiting, self._waiting = self._waiting, []
        for opened in waiting:
            opened.set_result(None)


class Line:
    """One connection and its peer."""

    def __init__(self, connection: Connection, transport: Wire, far: socket.socket) -> None:
        self.connection = connection
        self.transport = transport
        self.far = far
        self.read = 0  # bytes of answers that were looked at
        self.lost = False
        self.said_all = False  # the peer, who may still listen
        transport.lost = self.lose

    @property
    def over(self) -> bool:
        return self.lost or self.transport.is_closing()

    @property
    def gone(self) -> bool:
        """Whether the peer is, whoever knows."""
        return self.far.fileno() == -1

    @property
    def is_behind(self) -> bool:
        """Whether something has come behind a request that is not answered."""
        state = self.connection.state
        return bool(state.owed and (self.connection._put_off or state.owed > 1)) or (
            state.owed == 1 and state.phase is not Phase.IDLE
        )

    def lose(self) -> None:
        """The connection has ended."""
        if not self.lost:
            self.lost = True
            self.transport.closed = self.transport.closed or "lost"
            self.connection.connection_lost(None)
            self.far.close()
            self.transport.about["socket"].close()  # type: ignore[attr-defined]


class Side:
    """One of two equal servers.

    Attributes:
        quick: whether usual requests are answered without the parser and without a scope.
        answered_at_once: how many were.
    """

    def __init__(self, template: Path, folder: Path, *, quick: bool) -> None:
        """Over a copy of the store in `template`."""
        self.quick = quick
        self.answered_at_once = 0
        self.loop = Still()
        self.now_ms = NOW_MS
        self._chance = random.Random(1)
        shutil.copytree(template, folder)
        self.path = folder / "a.db"
        self.run(self._open())

    async def _open(self) -> None:
        url = f"sqlite:///{self.path}?file-system=any&commits=thread"
        with mock.patch("pullstatus.store.sqlite.engine.ThreadChannel", Near):
            self.inner = await open_store(url, server=True, reserve_bytes=0)
        self.store = Moody(self.inner, self.loop)
        self.registry = Registry(self.inner, masters_of(self.inner))
        await self.registry.begin()
        self.routes = Routes(
            cast("Store", self.store),
            self.registry,
            now_ms=lambda: self.now_ms,
            monotonic_s=self.loop.time,
            random_bytes=self._chance.randbytes,
        )
        options = ServeOptions(url, trusted_proxies=PROXY)
        self._config = Server(options)._config(self.routes)
        self._state = Connections(self.routes.figures)
        self._state.default_headers = [(b"date", b"Mon, 05 Jan 2026 08:00:00 GMT")]
        self._crowd = Crowd(100, speaks_for_many=lambda address: address == PROXY)
        self.others = Others(self.loop)
        self.others._application_of = self.routes.owner
        self._lines: dict[int, Line] = {}
        self._over: list[tuple[int, str | None]] = []  # connections that have ended, and how
        self._seen = ""
        self._rows: dict[str, list[Any]] = {}
        self._version: object = None
        self.draining = False
        self.full: dict[int | str | None, int] = {}
        self.sent: list[bytes] = []  # requests, as they were given to `say`
        self.pages: list[str] = []  # ids of pages, as they were told
        self._reader = open_reader(self.path)

    # -- what goes on ----------------------------------------------------------------------------

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What it returns, once the server has nothing more to do."""
        return self.loop.run_until_complete(self._run(work))

    async def _run(self, work: Coroutine[Any, Any, T]) -> T:
        task = self.loop.create_task(work)
        while not (await self._quiet() and task.done()):
            next_s = self.loop.next_s()
            if next_s is None or next_s > self.loop.now_s + SHORT_S:
                assert task.done(), "it waits for what does not come"
                break
            self.loop.now_s = max(self.loop.now_s, next_s)
        return task.result()

    async def _quiet(self) -> bool:
        """Wait until nothing is to be done; whether no timer ends shortly, either."""
        await asyncio.sleep(0)
        while self.loop.ready:  # noqa: ASYNC110 - whatever that is
            await asyncio.sleep(0)
        next_s = self.loop.next_s()
        return next_s is None or next_s > self.loop.now_s + SHORT_S

    def do(self, *works: Callable[[], object]) -> None:
        """Have things happen, one in each turn of the loop; then let it do what there is to do."""

        async def happen() -> None:
            for work in works:
                work()
                await asyncio.sleep(0)

        self.run(happen())
        if self.draining:
            self.run(self._drain())

    async def _drain(self) -> None:
        for line in list(self._lines.values()):
            if not line.over:
                line.connection.drain(self.loop.time(), IDLE_GRACE_S)

    # -- what a peer does ------------------------------------------------------------------------

    def line(self, place: int) -> Line | None:
        """The connection at this place: a new one if there is none; None: none is accepted."""
        line = self._lines.get(place)
        if line is not None and (line.over or line.gone):
            line.lose()
            self._over.append((place, line.transport.closed))
            del self._lines[place]
            line = None
        if line is None and not self.draining:
            address = PROXY if place == WATCHING else ADDRESSES[place]
            seat = self._crowd.enter(address)
            assert seat is not None
            line = self._lines[place] = self._connect((address, 40_000 + place), seat)
        return line

    def _connect(self, peer: tuple[str, int], seat: Seat) -> Line:
        near, far = socket.socketpair()
        transport = Wire(self.loop, near, peer)
        connection = Connection(
            self._config,
            self._state,
            {},
            self.loop,
            seat=seat,
            budget=self.routes.budget,
            schedule=self.others,
            at_once=self._at_once,
        )
        connection.connection_made(transport)
        connection.client = peer  # which uvicorn asks the socket for
        if not self.quick:
            setattr(connection, "_at_once", lambda _data: False)  # noqa: B010 - a method of its
        return Line(connection, transport, far)

    def _at_once(self, whole: Whole, client: tuple[str, int] | None, gone: Gone) -> Any:  # noqa: ANN401
        assert self.quick
        said = self.routes.at_once(whole, client, gone)
        self.answered_at_once += isinstance(said, tuple | Later)
        return said

    def say(self, place: int, *reads: bytes) -> None:
        """Have a peer say something, each piece in a read of its own."""

        def read(data: bytes) -> None:
            line = self.line(place)
            if line is not None and data and not line.said_all:
                line.connection.data_received(data)

        self.do(*(partial(read, data) for data in reads))

    def leave(self, place: int, how: str) -> None:
        """Have a peer say no more, or go; told to the server, or known to the kernel only."""
        line = self._lines.get(place)
        if line is None or line.over or line.gone:
            return
        if how.startswith("half"):
            line.said_all = True
            line.far.shutdown(socket.SHUT_WR)
            if how == "half":
                self.do(line.connection.eof_received)
        else:
            line.far.close()
            if how == "gone":
                self.do(line.lose)

    def pause(self, place: int) -> None:
        """Have a peer read nothing, or all that there is if it has read nothing.

        It turns out that a peer reads nothing when an answer is written, and so not before one.
        """
        line = self._lines.get(place)
        if line is None or line.over or (line.connection.state.owed and not line.transport.unread):
            return
        if line.transport.unread:
            line.transport.unread = 0
            self.do(line.connection.resume_writing)
        else:
            line.transport.unread = 100_000
            self.do(line.connection.pause_writing)

    # -- what becomes of the server --------------------------------------------------------------

    def wait(self, time_s: float) -> None:
        """Let time pass, and the server look at its deadlines."""
        self.loop.now_s += time_s
        self.now_ms += int(time_s * 1000)
        open_ones = [line for line in self._lines.values() if not line.over]
        self.do(*(partial(line.connection.sweep, self.loop.time()) for line in open_ones))

    def drain(self) -> None:
        """Have the server stop, once what is at hand is answered.

        What lies behind that is read by then or it is not, which is a matter of the moment, as with
        what the kernel has. So nothing does.
        """
        self._read_all()
        self.draining = True
        self.routes.ready = False
        self.do(self.routes.held.end)

    def _read_all(self) -> None:
        """Have the store answer, if something lies behind what it was asked."""
        if any(line.is_behind for line in self._lines.values()):
            self.do(self.store.open)

    def finish(self) -> None:
        """Have all that waits answered, but for what a peer does not read."""
        self.store.fault = None
        self.do(self.store.open, self.others.leave, self.routes.held.end)

    def fill(self, owner: int | str | None) -> None:
        """Have too much in hand of an application, an address or at all; or no longer.

        What is refused for that is refused when it is read: as `drain`, not with anything behind.
        """
        self._read_all()
        budget = self.routes.budget
        owner = site_of(owner) if isinstance(owner, str) else owner
        size = self.full.pop(owner, 0)
        if size:
            budget.take(-size) if owner is None else budget.share(owner, -size)
            return
        size = limits.IN_HAND_BYTES_MAX + 1
        self.full[owner] = size
        budget.take(size) if owner is None else budget.share(owner, size)

    def shut(self) -> None:
        """Have the store not answer, or answer again."""
        if self.store.shut:
            self.do(self.store.open)
        else:
            self.store.shut = True

    def crowd(self) -> None:
        """Have others be there who come first, or leave."""
        if self.others.is_there:
            self.do(self.others.leave)
        else:
            self.others.is_there = True

    def change(self, sdkappid: int, *, look: bool, **members: object) -> None:
        """Have an operator change an application. `look`: the server knows."""

        def changed(application: Application) -> Application:
            return msgspec.structs.replace(application, **members)

        work = apps.change_application(
            self.inner, sdkappid, changed, by=self.by(), action="app set"
        )
        self._command(work, look)

    def exchange(self, sdkappid: int, *, look: bool) -> None:
        """Have a number get another owner, with the same key."""

        async def work() -> None:
            await apps.delete_application(self.inner, sdkappid, by=self.by(), erase=True)
            await create(self.inner, App(sdkappid, APPS[0].appkey), self.by())

        self._command(work(), look)

    def revoke(self, name: str, *, look: bool) -> None:
        """Have an operator revoke a token."""
        self._command(apps.revoke_token(self.inner, name, by=self.by()), look)

    def by(self) -> Operator:
        return Operator("test", self.now_ms, lambda size: self._chance.randbytes(size).hex())

    def _command(self, work: Coroutine[Any, Any, object], look: bool) -> None:
        async def done() -> None:
            try:
                await work
            except PullstatusError as error:
                structlog.get_logger().info("command refused", reason=str(error))
            if look:
                await self.registry.refresh()

        self.run(done())
        self.do()

    # -- what can be seen ------------------------------------------------------------------------

    @property
    def unread(self) -> bool:
        """Whether something has come that is not read yet."""
        return any(line.connection._put_off for line in self._lines.values() if not line.lost)

    def answers(self, place: int) -> bytes:
        """What came over a connection since this was asked last, whose requests have no names.

        Without a 100: who sends on without one may get it or not.
        """
        line = self._lines.get(place)
        if line is None:
            return b""
        written = line.transport.written[line.read :]
        line.read = len(line.transport.written)
        self.pages += re.findall(r"pullstatus-pull-id: (\S+)", written.decode("latin-1"))
        written = written.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
        written = re.sub(rb"request-id: \S+", b"request-id: (one)", written)
        return re.sub(rb'"RequestId":"[^"]{36}"', b'"RequestId":"(one)"', written)

    def saw(self) -> dict[str, object]:
        """All that anybody can see of it since this was called last."""
        figures = self.routes.figures
        counted = {name: value for name, value in vars(figures).items() if name != "seconds"}
        counted |= {"replays": figures.replays.total}
        counted |= {call: sum(seconds.counts) for call, seconds in figures.seconds.items()}
        return {
            "answers": {place: self.answers(place) for place in self._lines},
            "closed": {place: line.transport.closed for place, line in self._lines.items()},
            "ended": list(self._over),
            "figures": {name: _plain(value) for name, value in counted.items()},
            "shed": dict(self.routes.budget.refused),
            "at hand": self._at_hand(),
            "held": self.routes.held.count,
            "used": dict(self.registry.used),
            "tries": (len(self.routes.guesses.tries.addresses)),
            "store": self._stored(),
        }

    def _at_hand(self) -> object:
        """What connections are at, which that owe nothing are not read, and what is in hand."""
        lines = {place: line for place, line in self._lines.items() if not line.lost}
        states = {place: line.connection.state for place, line in lines.items()}
        return (
            {place: (state.phase, state.owed) for place, state in states.items()},
            {place for place in lines if lines[place].transport.paused and not states[place].owed},
            (self.routes.budget.bytes, dict(self.routes.budget.of)),
        )

    def metrics(self) -> dict[str, str]:
        """What /metrics tells, but for how long things take and what the process is."""
        self.say(WATCHING, b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
        _, _, text = self.answers(WATCHING).decode().partition("\r\n\r\n")
        pairs = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
        return {name: value for name, value in pairs if _NOT_COUNTED.match(name) is None}

    def _stored(self) -> dict[str, list[Any]]:
        """The rows of each table, by entry and record, since commits may have been others."""
        version = self._reader.pragma("data_version")
        if version != self._version:
            self._version = version
            self._rows = {table: self._table(table) for table in _TABLES}
        return self._rows

    def _table(self, table: str) -> list[Any]:
        rows = [
            tuple(value for name, value in row.items() if not name.startswith("ticket"))
            for row in _rows(self._reader, table)
        ]
        if table in ("chunk", "quarantine"):
            return [entry for row in rows for entry in _entries(*row)]
        if table == "fingerprint_step":
            return sorted((at_ms, key) for _, at_ms, keys in rows for key in keys_of(keys))
        return rows

    # -- its end ---------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.finish()
        self.do(*(line.lose for line in self._lines.values()))
        self._reader.close()
        self.loop.run_until_complete(self.inner.close())
        # Whose reading connections end with their threads; here that is this one.
        vars(cast("SqliteStore", self.inner)._reads._local)["connection"].close()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.close()
        shutil.rmtree(self.path.parent)


_NOT_COUNTED: Final = re.compile(
    "process_|python_|pullstatus_build|pullstatus_log_lines|pullstatus_store_|pullstatus_commit"
    "|.*_seconds_(?:bucket|sum)|.*oldest"
)
_TABLES: Final = (
    *("mailbox", "chunk", "journal", "repeat_key", "fingerprint_step", "once", "setting", "act"),
    *("reader", "again", "quarantine", "mark", "epoch", "fingerprint_secret"),
)


def _plain(value: object) -> object:
    """A count, without what was only asked for and is 0."""
    if isinstance(value, dict):
        return {key: count for key, count in value.items() if count}
    return value


def _rows(connection: apsw.Connection, table: str) -> Iterator[dict[str, Any]]:
    cursor = connection.execute(f"SELECT * FROM {table}")
    for row in cursor:
        names = [column[0] for column in cursor.get_description()]
        yield dict(zip(names, row, strict=True))


def _entries(
    key: int, count: int, accepted_ms: int, _checksum: int, bounds: bytes, body: bytes
) -> Iterator[tuple[int, int, bytes]]:
    joined, begin = chunk.opened(bounds, body), 0
    for place, size in enumerate(chunk.sizes(bounds)):
        yield key + place, accepted_ms, joined[begin : begin + size]
        begin += size + 1
    assert place + 1 == count


# --- the store that both begin with ---------------------------------------------------------------


async def create(store: Store, app: App, by: Operator) -> None:
    """Make an application as `CONDITIONS` has it."""
    keyring = await keyring_of(store)
    await apps.create_application(
        store, app.sdkappid, by=by, keyring=keyring, appkey=app.appkey, pull=True
    )
    members = CONDITIONS.get(app.sdkappid, {})
    if members:
        await apps.change_application(
            store,
            app.sdkappid,
            lambda application: msgspec.structs.replace(application, **members),
            by=by,
            action="app set",
        )


def make_template(folder: Path) -> dict[str, str]:
    """A store with all of `APPS` but the absent one, and with a pair of `SECRET_ID`.

    Returns:
        the secrets of `TOKENS` by name.
    """
    chance = random.Random(2)
    by = Operator("test", NOW_MS, lambda size: chance.randbytes(size).hex())

    folder.mkdir()

    async def make() -> dict[str, str]:
        store = await open_store(
            f"sqlite:///{folder}/a.db?file-system=any&commits=thread", server=True
        )
        try:
            for app in APPS[:-1]:
                await create(store, app, by)
            await apps.create_pair(
                store,
                [app.sdkappid for app in APPS[:-1]],
                by=by,
                keyring=await keyring_of(store),
                unsigned_payload=True,
                v1=True,
                secret_id=SECRET_ID,
                secret_key=SECRET_KEY,
            )
            _, own = await apps.create_token(store, "own", by=by, sdkappid=PLAIN.sdkappid)
            _, every = await apps.create_token(store, "any", by=by)
            _, short = await apps.create_token(
                store, "short", by=by, sdkappid=PATIENT.sdkappid, not_after_ms=NOW_MS + 60_000
            )
        finally:
            await store.close()
        return {"own": own, "any": every, "short": short, "unknown": "pst_" + "0" * 64}

    return asyncio.run(make())


@contextmanager
def log_lines() -> Iterator[list[dict[str, object]]]:
    """What is logged meanwhile, without the names of requests."""
    found: list[dict[str, object]] = []
    with structlog.testing.capture_logs() as lines:
        yield found
    unlike = ("request", "exc_info")
    found += [{name: line[name] for name in line if name not in unlike} for line in lines]
