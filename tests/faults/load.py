"""Clients in a closed loop against a server that fails, and the judgement of what they saw.

    load = Load(program, Random(seed))
    with doomed(program):
        asyncio.run(load.live(fault))       # clients work until `fault` is over
    with program:
        report = load.settle()              # heal: nothing may be missing, nothing come twice

Each client sends one request at a time and takes the next step from its answer. Feeders use every
door, with and without keys; pullers use keys or don't; readers acknowledge each page with the pull
of the next one. What has an unknown outcome and can safely be sent again is sent again, also to the
next life of the server; what cannot is left unknown, and `settle` looks it up in the journal and
has it redelivered. A puller keeps its key until it has brought a page, over lost answers, refusals
and empty pages; now and then one gives a key up. A reader never does, and in the end acknowledges
what it has in hand: each record is then acknowledged by the one reader that was handed it, or was
taken by one pull of somebody else.

Record ids stand in `sid`, or in the text of a reply. A copy has its original's id plus `COPY`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random

import msgspec

from pullstatus.records import Kind
from pullstatus.store import JournalRow, Mailbox, Outcome, Store, open_store
from pullstatus.wire.v5.pull import read_proof
from tests.harness import PATIENCE_S, App, Program, http_request, reply, status
from tests.sim.checker import Delivery, Operation, Report, Seen, Verb, check

COPY = 1 << 40
RECORD_ID = re.compile(rb'"(?:sid":"8:|text":"text )([0-9]+)"')
REFUSED_PAUSE_S = 0.01
GIVES_UP = 0.2  # how many of the keyed pulls with a lost answer are never asked again


class UnreachableError(Exception):
    """Nobody accepts connections: nothing was sent."""


class BrokenError(Exception):
    """The connection ended before the whole answer had come."""


class Link:
    """One client's connection, made anew when it is needed."""

    def __init__(self, address: Callable[[], tuple[str, int]]) -> None:
        self._address = address
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.pull_id = ""  # of the last answer, if it was a page

    async def connect(self) -> None:
        """Have a connection.

        Raises:
            UnreachableError: there is nobody.
        """
        if self._streams is None:
            try:
                self._streams = await asyncio.open_connection(*self._address())
            except OSError as error:
                raise UnreachableError from error

    async def exchange(self, request: bytes) -> tuple[int, bytes]:
        """Send a request, return HTTP status and body of the answer.

        Raises:
            BrokenError: the outcome is unknown; the connection is given up.
        """
        assert self._streams is not None
        reader, writer = self._streams
        try:
            async with asyncio.timeout(PATIENCE_S):
                writer.write(request)
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                size = int(head.partition(b"\r\ncontent-length: ")[2].split(b"\r\n")[0])
                body = await reader.readexactly(size)
        except (OSError, asyncio.IncompleteReadError) as error:
            self.close()
            raise BrokenError from error
        self.pull_id = head.partition(b"\r\npullstatus-pull-id: ")[2].split(b"\r\n")[0].decode()
        if b"\r\nconnection: close\r\n" in head:
            self.close()
        return int(head.split()[1]), body

    def close(self) -> None:
        """Give the connection up."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


@dataclass
class Request:
    """Something a client wants done, however many attempts that takes.

    Attributes:
        build: the request's bytes, and the `random` if it is a pull; anew for each attempt.
        repeatable: sending it again does no harm.
        key: what stands for the page, whoever sends it.
        reader: who pulls, if the server remembers it; it never gives a page up.
    """

    verb: Verb
    mailbox: Mailbox
    build: Callable[[], tuple[bytes, str]]
    repeatable: bool
    records: Sequence[Delivery] = ()
    count_max: int = 100
    key: str | None = None
    reader: str | None = None

    def done(self, operation: Operation) -> bool:
        """Whether that attempt was the last that is needed."""
        return operation.outcome is Seen.OK and (self.key is None or bool(operation.records))


class Client:
    """One loop: a request, its answer, the next one. `pending` outlives the server."""

    def __init__(
        self, load: Load, name: str, rng: Random, invent: Callable[[Client], Request]
    ) -> None:
        self.load = load
        self.name = name
        self.rng = rng
        self.pending: Request | None = None
        self._invent = invent

    async def run(self) -> None:
        """Work until the load stops or nobody listens any more."""
        link = Link(self.load.address)
        try:
            while not self.load.stopping:
                await link.connect()
                await self.step(link)
        except UnreachableError:
            return
        finally:
            link.close()

    async def step(self, link: Link) -> Operation:
        """One attempt at what is pending, or at something new."""
        request = self.pending or self._invent(self)
        operation = await self.load.attempt(link, request, self.name)
        self.pending = None
        if request.repeatable and not request.done(operation):
            doubtful = request.verb is Verb.PULL and operation.outcome is not Seen.OK
            forgets = request.reader is None and self.rng.random() < GIVES_UP
            operation.gives_up = doubtful and forgets
            dropped = self.load.drops_keys and operation.outcome is Seen.OK
            self.pending = None if operation.gives_up or dropped else request
        if operation.outcome is Seen.FAIL:
            await asyncio.sleep(REFUSED_PAUSE_S)
        return operation


class _Answer(msgspec.Struct):
    result: int
    count: int = 0
    data: list[msgspec.Raw] = []


@dataclass
class Mix:
    """How much of what a load consists of."""

    feeders: int = 6
    pullers: int = 6
    readers: int = 3
    batch_max: int = 20
    keyed: float = 0.6  # how many pulls, and ingest requests, carry a key


@dataclass
class Load:
    """All clients of one store, over all lives of its server, and all that they saw.

    Attributes:
        through: where clients connect instead of to the server itself.
        now_s: the clock that clients sign with.
        refusals: `result` codes that a pull may be refused with.
        drops_keys: a planted bug: an empty page uses a key up.
    """

    program: Program
    rng: Random
    mix: Mix = field(default_factory=Mix)
    through: Callable[[], tuple[str, int]] | None = None
    now_s: Callable[[], float] = time.time
    refusals: frozenset[int] = frozenset({1007})
    drops_keys: bool = False

    def __post_init__(self) -> None:
        self.stopping = False
        self.answers = 0
        self.history: list[Operation] = []
        self._randoms: dict[str, list[int]] = {}
        self._numbers = itertools.count(1)
        self._keys = itertools.count(1)
        self._copied: set[int] = set()
        self._readings: set[tuple[str, App, Kind]] = set()  # who has read what
        self._in_hand: dict[tuple[str, Mailbox], str] = {}  # each reader's last page, by pull ID
        self._awaited: list[tuple[int, asyncio.Event]] = []
        self.apps = [self.program.create_app() for _ in range(2)]
        self._tokens = {
            app.sdkappid: self.program.create_token(f"callback-{app.sdkappid}", app=app)
            for app in self.apps
        }
        self.clients = [
            Client(self, f"{name} {number}", Random(self.rng.random()), invent)
            for name, count, invent in (
                ("feeder", self.mix.feeders, self.batch),
                ("puller", self.mix.pullers, self.pull),
                ("reader", self.mix.readers, self.read),
            )
            for number in range(count)
        ]

    def address(self) -> tuple[str, int]:
        """Where clients connect."""
        return self.through() if self.through else (self.program.host, self.program.port)

    # -- a life --------------------------------------------------------------------------------

    async def live(self, fault: Callable[[], Awaitable[None]]) -> None:
        """Let all clients work until `fault` is over and their last requests have ended."""
        self.stopping = False
        async with asyncio.TaskGroup() as tasks:
            for client in self.clients:
                tasks.create_task(client.run())
            await fault()
            self.stopping = True

    async def answered(self, count: int) -> None:
        """Wait for so many more answers."""
        event = asyncio.Event()
        self._awaited.append((self.answers + count, event))
        await event.wait()

    async def attempt(self, link: Link, request: Request, client: str) -> Operation:
        """Send a request once and put what came of it on record."""
        content, random = request.build()
        mailbox = (request.mailbox.sdkappid, request.mailbox.kind)
        operation = Operation(
            request.verb,
            mailbox,
            time.monotonic(),
            records=request.records,
            count_max=request.count_max,
            key=request.key,
            client=client,
            keeps_key=request.repeatable and request.key is not None,
            reader=request.reader,
        )
        if random:
            self._randoms.setdefault(random, []).append(len(self.history))
        self.history.append(operation)
        try:
            http_status, body = await link.exchange(content)
        except BrokenError:
            return operation
        operation.completed = time.monotonic()
        if request.verb is Verb.PULL:
            self._read_page(operation, http_status, body)
            if request.reader is not None and operation.records:
                self._in_hand[request.reader, request.mailbox] = link.pull_id
        else:
            assert http_status in (200, 503), (http_status, body)
            operation.outcome = Seen.OK if http_status == 200 else Seen.FAIL
        self.answers += 1
        for count, event in self._awaited:
            if self.answers >= count:
                event.set()
        self._awaited = [item for item in self._awaited if not item[1].is_set()]
        return operation

    def _read_page(self, operation: Operation, http_status: int, body: bytes) -> None:
        assert http_status == 200, (http_status, body)
        answer = msgspec.json.decode(body, type=_Answer)
        if answer.result == 0:
            operation.outcome = Seen.OK
            operation.count = answer.count
            operation.records = [self._delivery(bytes(raw)) for raw in answer.data]
        else:
            assert answer.result in self.refusals, body
            operation.outcome = Seen.FAIL

    def _delivery(self, data: bytes) -> Delivery:
        number = record_id(data)
        return (number + COPY if number in self._copied else number), hash(data)

    # -- what clients want ---------------------------------------------------------------------

    def batch(self, client: Client) -> Request:
        """Records for one of the doors."""
        rng = client.rng
        app = rng.choice(self.apps)
        kind = rng.choice(list(Kind))
        door = rng.choice(("callback", "ingest", "lines"))
        alone = door == "callback" and kind is Kind.REPLY
        count = 1 if alone else rng.randint(1, self.mix.batch_max)
        make = status if kind is Kind.DELIVERY_STATUS else reply
        numbers = [next(self._numbers) for _ in range(count)]
        encoded = [json.dumps(make(number), separators=(",", ":")) for number in numbers]
        records = [
            (number, hash(data.encode())) for number, data in zip(numbers, encoded, strict=True)
        ]
        if door == "callback":
            # Their records are known by themselves, so repeats are harmless without a key.
            content = encoded[0] if alone else f"[{','.join(encoded)}]"
            sent = http_request(
                "POST", f"/callbacks/{self._tokens[app.sdkappid]}", content.encode()
            )
            return Request(Verb.INGEST, app_mailbox(app, kind), lambda: (sent, ""), True, records)
        key = rng.random() < self.mix.keyed
        lines = door == "lines"
        content = "\n".join(encoded) if lines else f"[{','.join(encoded)}]"
        headers = [
            f"Authorization: Bearer {self.program.token}",
            f"Content-Type: application/{'x-ndjson' if lines else 'json'}",
        ]
        if key:
            headers.append(f"Idempotency-Key: batch-{next(self._keys)}")
        target = f"/ingest/{app.sdkappid}/{kind.path}"
        sent = http_request("POST", target, content.encode(), headers)
        return Request(Verb.INGEST, app_mailbox(app, kind), lambda: (sent, ""), key, records)

    def pull(self, client: Client) -> Request:
        """A page of some size, signed anew for each attempt."""
        rng = client.rng
        app = rng.choice(self.apps)
        kind = rng.choice(list(Kind))
        key = f"page-{next(self._keys)}" if rng.random() < self.mix.keyed else None
        count_max = rng.choice((1, 7, 30, 100))
        return self.page_request(app, kind, count_max, key)

    def read(self, client: Client) -> Request:
        """A reader's next page, whose pull acknowledges the page before."""
        rng = client.rng
        app = rng.choice(self.apps)
        kind = rng.choice(list(Kind))
        reader = client.name.replace(" ", "-")
        self._readings.add((reader, app, kind))
        return self._reading(reader, app, kind, rng.choice((1, 7, 30, 100)))

    def _reading(
        self, reader: str, app: App, kind: Kind, count_max: int, *, takes: bool = True
    ) -> Request:
        """A reader's pull; one that only acknowledges, unless it `takes`.

        It has a key here alone: which page it is, is said by the one before.
        """
        before = self._in_hand.get((reader, app_mailbox(app, kind)))
        headers = [f"Pullstatus-Reader: {reader}"]
        if before is not None:
            headers.append(f"Pullstatus-Ack: {before}")
        if not takes:
            headers.append("Pullstatus-Take: 0")
        request = self.page_request(app, kind, count_max, headers=headers)
        request.reader = reader
        if takes:
            request.key, request.repeatable = f"{reader} after {before}", True
        else:
            request.count_max = 0
        return request

    def page_request(
        self,
        app: App,
        kind: Kind,
        count_max: int = 100,
        key: str | None = None,
        headers: Sequence[str] = (),
    ) -> Request:
        """A pull of one mailbox."""
        if key is not None:
            headers = [*headers, f"Idempotency-Key: {key}"]

        def build() -> tuple[bytes, str]:
            random = f"{next(self._keys)}"
            target, body = app.request(kind, count_max, random=random, at=int(self.now_s()))
            return http_request("POST", target, body, headers), random

        return Request(
            Verb.PULL,
            app_mailbox(app, kind),
            build,
            key is not None,
            count_max=count_max,
            key=key,
        )

    # -- the end -------------------------------------------------------------------------------

    def settle(self) -> Report:
        """Heal and judge, on a server that runs: returns a report that is valid.

        What is pending is sent again; readers acknowledge what they have; what lost answers took is
        found in the journal and redelivered; everything is pulled until three answers are empty;
        the audit must be content.
        """
        self.through = None
        asyncio.run(self._finish_pending())
        asyncio.run(self._finish_reading())
        rows = asyncio.run(self._journal())
        journal = self._by_operation(rows)
        self._redeliver(rows, journal)
        asyncio.run(self._drain())
        assert self.program.cli("audit", "--json")["sound"]
        report = check(self.history, journal, _acknowledged(rows))
        assert report.valid, str(report)
        return report

    async def _finish_pending(self) -> None:
        """Ask again for what is open; nothing is late any more, so an empty page is the end."""
        link = Link(self.address)
        for client in self.clients:
            operation = None
            while client.pending and not (operation and operation.outcome is Seen.OK):
                await link.connect()
                operation = await client.step(link)
        link.close()

    async def _finish_reading(self) -> None:
        """Let each reader fetch what it has in hand, late attempts having come, and acknowledge."""
        link = Link(self.address)
        for reader, app, kind in sorted(self._readings, key=str):
            for takes in (True, False):
                if not takes and (reader, app_mailbox(app, kind)) not in self._in_hand:
                    break  # it was never handed anything
                await link.connect()
                request = self._reading(reader, app, kind, 1, takes=takes)
                operation = await self.attempt(link, request, reader)
                assert operation.outcome is Seen.OK
                assert takes or not operation.records
        link.close()

    async def _journal(self) -> list[tuple[JournalRow, list[int]]]:
        """Every page that was handed out, with the ids in it."""
        store = await open_store(self.program.store)
        try:
            return [
                page for app in self.apps for kind in Kind for page in await pages(store, app, kind)
            ]
        finally:
            await store.close()

    def _by_operation(
        self, rows: Sequence[tuple[JournalRow, list[int]]]
    ) -> dict[int, Sequence[int]]:
        journal: dict[int, Sequence[int]] = {}
        brought = {
            (operation.reader, operation.records[0][0]): place
            for place, operation in enumerate(self.history)
            if operation.reader is not None and operation.records
        }
        for row, ids in rows:
            places = self._randoms[read_proof(row.proof)[0]]  # nobody else pulls
            # The same bytes may have been sent twice; an empty answer was not given for this row.
            place = max(places, key=lambda place: self._took(self.history[place]))
            if row.reader is not None:
                # A late attempt may have taken what others have fetched for the same reader.
                assert row.reader == self.history[place].reader
                place = brought.get((row.reader, ids[0]), place)
            journal[place] = ids
        return journal

    @staticmethod
    def _took(operation: Operation) -> int:
        """How likely it is that this attempt, of several that were the same, took a page."""
        if operation.outcome is Seen.OK:
            return 3 if operation.records else 1
        return 2 if operation.outcome is Seen.UNKNOWN else 0

    def _redeliver(
        self, rows: Sequence[tuple[JournalRow, list[int]]], journal: dict[int, Sequence[int]]
    ) -> None:
        """Bring back what only lost answers hold."""
        received = {
            record
            for operation in self.history
            if operation.verb is Verb.PULL
            for record, _ in operation.records
        }
        digests = dict(
            itertools.chain.from_iterable(
                operation.records for operation in self.history if operation.verb is Verb.INGEST
            )
        )
        for row, ids in rows:
            if received.isdisjoint(ids):
                began = time.monotonic()
                done = self.program.cli("redeliver", "--pull", row.pull_id, "--reason", "a test")
                assert done["redelivered"] == len(ids)
                self.history.append(
                    Operation(
                        Verb.REDELIVER,
                        (row.mailbox.sdkappid, row.mailbox.kind),
                        began,
                        time.monotonic(),
                        Seen.OK,
                        [(number + COPY, digests[number]) for number in ids],
                    )
                )
                self._copied.update(ids)

    async def _drain(self) -> None:
        link = Link(self.address)
        for app in self.apps:
            for kind in Kind:
                empty = 0
                # Without a key it may take the server a moment to see what a command appended.
                key: str | None = f"page-{next(self._keys)}"
                while empty < 3:
                    await link.connect()
                    request = self.page_request(app, kind, key=key)
                    key = None
                    operation = await self.attempt(link, request, "drain")
                    assert operation.outcome is Seen.OK
                    empty = 0 if operation.records else empty + 1
        link.close()

    def since(self, moment: float) -> list[Operation]:
        """What was begun after a moment."""
        return [operation for operation in self.history if operation.invoked > moment]


@contextlib.contextmanager
def doomed(program: Program) -> Iterator[None]:
    """Start a program that will not end well; whatever happens, nothing is left of it."""
    program.start()
    try:
        yield
    finally:
        program.kill()


def app_mailbox(app: App, kind: Kind) -> Mailbox:
    """One of an application's mailboxes."""
    return Mailbox(app.sdkappid, kind)


def record_id(data: bytes) -> int:
    """The id that a record carries."""
    match = RECORD_ID.search(data)
    assert match is not None, data
    return int(match[1])


def _acknowledged(rows: Iterable[tuple[JournalRow, list[int]]]) -> dict[int, list[str]]:
    """Who has acknowledged each record that was handed out, as the journal says."""
    found: dict[int, list[str]] = {}
    for row, ids in rows:
        for number in ids:
            readers = found.setdefault(number, [])
            if row.reader is not None and row.acked_ms is not None:
                readers.append(row.reader)
    return found


async def pages(store: Store, app: App, kind: Kind) -> list[tuple[JournalRow, list[int]]]:
    """Every page of a mailbox that was handed out, with the ids in it."""
    mailbox = app_mailbox(app, kind)
    ids = {entry.seq: record_id(entry.data) async for entry in store.entries(mailbox)}
    return [
        (row, [ids[seq] for seq in range(row.first_seq, row.first_seq + row.count)])
        async for row in store.journal(mailbox)
        if row.outcome is Outcome.PULLED
    ]
