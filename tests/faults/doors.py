"""Clients of the verbs of a store, in processes that each have a door of their own to it.

    with Doors(url, folder, seed) as doors:
        doors.start(3)
        doors.answered(500)         # until so many more answers have come
        doors.kill("door 1")        # in the middle of whatever; its clients go on in its next life
        doors.start_again("door 1")
        doors.finish()
    verdict = asyncio.run(judge(url, folder))  # see verdict.py

Each client does one thing at a time and takes the next step from its answer. Feeders append, with a
key, with fingerprints, or with neither; pullers use keys or don't; readers acknowledge each page
with the pull of the next one; operators have pages redelivered, and let go what waits in a mailbox
that is theirs. Beside them each process follows what comes: see followers.py. What has an unknown
outcome, and can safely be repeated, is repeated until there is an outcome, also by the next life of
its process. What a client begins is in a file before the store is asked, and what it sees before it
goes on; so nothing is forgotten by a kill.

A *plant* is a function that breaks something in a process before it opens its door; see planted.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import multiprocessing
import os
import random
import re
import signal
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from random import Random
from typing import NamedTuple, Self

import msgspec

from pullstatus.errors import (
    AcknowledgementRefused,
    InvalidSetting,
    KeyReused,
    OutcomeUnknown,
    ReplayRefused,
    StoreRefused,
    StoreUnavailable,
)
from pullstatus.records import Kind
from pullstatus.store import (
    Act,
    Append,
    Discard,
    Fingerprints,
    Mailbox,
    Once,
    Outcome,
    Page,
    Pull,
    Reader,
    Redeliver,
    RepeatKey,
    Store,
    Tickets,
    open_store,
)
from tests.faults import followers
from tests.harness import PATIENCE_S
from tests.sim.checker import Seen, Verb

Plant = Callable[[], None]

WARM = multiprocessing.get_context("forkserver")
WARM.set_forkserver_preload([__name__])

LIFE_S_MAX = 3600
PAUSE_S = 0.02  # after a refusal
POLL_S = 0.02
ID = re.compile(rb'"sid":"8:([0-9]+)"')

# Of three partitions each has one of them.
APPLICATIONS = (1_400_000_001, 1_400_000_002, 1_400_000_006)
MAILBOXES = tuple(Mailbox(sdkappid, kind) for sdkappid in APPLICATIONS for kind in Kind)
LET_GO = Mailbox(1_400_000_003, Kind.REPLY)  # where operators empty what waits
LET_GO_SHARE = 0.1  # of what comes


class Load(NamedTuple):
    """How much clients want.

    Attributes:
        appends: how many records, one of these.
        pages: how many are asked for at most, one of these.
        clients: how many a process has of each one that it has otherwise.
        home: how many of the requests of a process are for one application, its own.
        rest_s: how long each client rests after an answer.
        traced: how many pulls by no reader have a key, or must not come twice.
    """

    appends: tuple[int, ...] = (1, 1, 3, 20, 120)
    pages: tuple[int, ...] = (1, 30, 100, 100)
    clients: int = 1
    home: float = 0.0
    rest_s: float = 0.0
    traced: float = 0.5


LARGE = Load((1, 20, 100, 300, 1000, 1000), (1, 30, *(10 * [100])), clients=4, home=0.7)
"""So many records that a run has millions."""

ONCE_MS = 3_600_000  # longer than anybody waits: what came before must be known when it comes again
RECORD_S = 1_800_000_000  # the records' own time: the same in a repeat, whenever that is

FAILED, REFUSED = 70, 78  # exit statuses: of a store that takes no more work, or never opened
PLANTED_PATIENCE_S = 15.0  # for who is to notice a bug, and may wait for ever then


class Request(msgspec.Struct, frozen=True):
    """Something a client wants done, however many attempts that takes.

    Attributes:
        first_id: of the records of an append, which follow each other.
        count: how many these are.
        how: of an append "key", "prints" or ""; of a pull what must not come twice, if anything; of
            a redelivery the act's ticket.
        key: of a pull: its Idempotency-Key.
        ack: of a reader's pull: first number of the page before, 0 for none; of a redelivery: of
            the page.
    """

    verb: Verb
    mailbox: Mailbox
    first_id: int = 0
    count: int = 0
    how: str = ""
    count_max: int = 0
    key: str | None = None
    reader: str | None = None
    ack: int = 0

    @property
    def ids(self) -> range:
        """Of the records of an append."""
        return range(self.first_id, self.first_id + self.count)

    @property
    def repeatable(self) -> bool:
        """Whether doing it again does no harm."""
        if self.verb is Verb.PULL:
            return bool(self.key or self.reader)
        return self.verb is Verb.REDELIVER or bool(self.how)

    @property
    def page_key(self) -> str | None:
        """What stands for a pull's page; of a reader, it is said by the page before."""
        return f"{self.reader} after {self.ack}" if self.reader and self.count_max else self.key


class Begun(msgspec.Struct, tag="begun"):
    """An attempt, before the store is asked; `number` counts those of a process in all its lives.

    Attributes:
        life: which life of its process.
    """

    number: int
    life: int
    client: str
    at: float
    request: Request
    ticket: bytes


class Ended(msgspec.Struct, tag="ended"):
    """What came of it.

    Attributes:
        runs: of ids of the records of a page, in its order: where one begins, how long it is.
        digest: of the bytes of a page.
        odd: whether these are not those of the records with its ids.
        problem: what no answer may be.
    """

    number: int
    at: float
    outcome: Seen
    first_seq: int = 0
    runs: tuple[tuple[int, int], ...] = ()
    digest: int = 0
    odd: bool = False
    problem: str = ""

    @property
    def count(self) -> int:
        """How many records a page has."""
        return sum(length for _, length in self.runs)

    @property
    def ids(self) -> Iterator[int]:
        """Of the records of a page."""
        return (number for begin, length in self.runs for number in range(begin, begin + length))


Line = Begun | Ended
ENDED = b'{"type":"ended"'

# --- what clients store ---------------------------------------------------------------------------


def record_of(number: int) -> bytes:
    """The record with this id; it has commas, and is one of several lengths."""
    return b'{"sid":"8:%d","pad":"%s"}' % (number, b"x," * (number % 11))


def ids_of(data: bytes) -> list[int]:
    """The ids of the records of a page."""
    return list(map(int, ID.findall(data)))


def runs_of(ids: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """The same as runs of ids that follow each other: see `Ended.runs`."""
    runs: list[tuple[int, int]] = []
    begin = end = 0
    for number in ids:
        if number != end:
            runs.append((begin, end - begin))
            begin = number
        end = number + 1
    return (*runs[1:], (begin, end - begin)) if runs else ()


def lines_of(file: Path) -> Iterator[Line]:
    """What a process has put on record; a line that a kill has cut off was never read."""
    decoder = msgspec.json.Decoder(Line)
    content = file.read_bytes() if file.exists() else b""
    for line in content.split(b"\n")[:-1]:
        with contextlib.suppress(msgspec.MsgspecError):
            yield decoder.decode(line)


# --- in the process -------------------------------------------------------------------------------


@dataclass
class Client:
    """One loop: a request, its answer, the next one."""

    name: str
    rng: Random
    invent: Callable[[Client], Request]
    pending: Request | None = None
    page: Request | None = None  # its last one's redelivery
    in_hand: dict[Mailbox, int] = field(default_factory=dict)  # first number of a reader's page

    def learn(self, request: Request, ended: Ended | None, *, late: bool = False) -> None:
        """Take the next step: repeat the request, or forget it.

        Args:
            ended: None if its process was killed meanwhile.
            late: nothing can come any more, so an empty page is an answer, too.
        """
        outcome = Seen.UNKNOWN if ended is None else ended.outcome
        done = outcome is Seen.OK or bool(ended and ended.problem)
        if ended is not None and ended.runs:
            if request.reader:
                self.in_hand[request.mailbox] = ended.first_seq
            self.page = Request(
                Verb.REDELIVER,
                request.mailbox,
                count_max=ended.count,
                ack=ended.first_seq,
            )
        elif request.verb is Verb.PULL and request.page_key and not late:
            done = False
        self.pending = request if request.repeatable and not done else None


class Live:
    """All clients of one process: what `Doors` starts.

    Args:
        name: of the process, and of the file that it writes.
        late: do what is pending, and no more.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        seed: object,
        load: Load = Load(),  # noqa: B008 it is a constant
        *,
        late: bool = False,
    ) -> None:
        self._load = load
        self._file = folder / f"{name}.log"
        self._late = late
        self.stopping = late
        lines = list(lines_of(self._file))
        begun = [line for line in lines if isinstance(line, Begun)]
        self._life = begun[-1].life + 1 if begun else 0
        self._rng = Random(f"{seed}/{name}/{self._life}")
        random.seed(f"planted/{seed}/{name}/{self._life}")  # which says when a planted bug strikes
        self._number = begun[-1].number + 1 if begun else 0
        place = int(name.rpartition(" ")[2])
        self._first_id = place * 10**9 + 1
        self._ticket = Tickets(os.urandom)
        self._output = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.clients = [
            Client(f"{role} {place}.{number}", Random(self._rng.random()), invent)
            for role, count, invent in (
                ("feeder", 3, self._append),
                ("puller", 3, self._pull),
                ("reader", 2, self._read),
                ("operator", 1, self._operate),
            )
            for number in range(count * load.clients)
        ]
        self._home = APPLICATIONS[place % len(APPLICATIONS)]
        self._redelivered: set[tuple[Mailbox, int]] = set()
        self._remember(begun, {line.number: line for line in lines if isinstance(line, Ended)})

    def _remember(self, begun: Sequence[Begun], ended: dict[int, Ended]) -> None:
        """What its clients know from its lives before."""
        by_name = {client.name: client for client in self.clients}
        for line in begun:
            by_name[line.client].learn(line.request, ended.get(line.number))
            if line.request.verb is Verb.INGEST:
                self._first_id = max(self._first_id, line.request.ids.stop)
            if line.request.verb is Verb.REDELIVER:
                self._redelivered.add((line.request.mailbox, line.request.ack))

    async def run(self, store: Store) -> None:
        """Let all clients work until `stopping`."""
        async with asyncio.TaskGroup() as tasks:
            for client in self.clients:
                tasks.create_task(self._work(client, store))
            rng = Random(self._rng.random())
            tasks.create_task(followers.follow(store, rng, lambda: self.stopping))
            tasks.create_task(followers.report(store, rng, APPLICATIONS, lambda: self.stopping))

    async def _work(self, client: Client, store: Store) -> None:
        while client.pending if self._late else not self.stopping:
            request = client.pending or client.invent(client)
            ended = await self.attempt(client, request, store)
            client.learn(request, ended, late=self._late)
            once = request.verb is Verb.PULL and request.how
            again = once or (request.repeatable and client.rng.random() < 0.3)
            if ended.outcome is Seen.OK and again and not client.pending and not request.reader:
                await self.attempt(client, request, store, again=True)
            if ended.outcome is Seen.FAIL:
                await asyncio.sleep(PAUSE_S)
            if self._load.rest_s and not self._late:
                await asyncio.sleep(self._load.rest_s)

    async def attempt(
        self, client: Client, request: Request, store: Store, *, again: bool = False
    ) -> Ended:
        """Ask once, and put on record what came of it; `again`: what was answered already."""
        number, self._number = self._number, self._number + 1
        ticket = self._ticket()
        self._write(Begun(number, self._life, client.name, time.monotonic(), request, ticket))
        try:
            page = await perform(store, request, ticket)
            ended = Ended(number, time.monotonic(), Seen.OK)
            if page is not None:
                ids = ids_of(page.data)
                expected = b",".join(map(record_of, ids))
                ended.first_seq, ended.runs = page.first_seq, runs_of(ids)
                ended.digest = zlib.crc32(page.data)
                ended.odd = page.data != expected
                if page.count != len(ids):
                    ended.problem = f"a page of {len(ids)} says that it has {page.count}"
                if request.how and again:
                    ended.problem = "what must not come twice did"
        except OutcomeUnknown:
            ended = Ended(number, time.monotonic(), Seen.UNKNOWN)
        except StoreUnavailable:
            ended = Ended(number, time.monotonic(), Seen.FAIL)
        except ReplayRefused as error:
            problem = "" if again else repr(error)
            ended = Ended(number, time.monotonic(), Seen.FAIL, problem=problem)
        except (KeyReused, AcknowledgementRefused, InvalidSetting) as error:
            ended = Ended(number, time.monotonic(), Seen.FAIL, problem=repr(error))
        self._write(ended)
        return ended

    def _write(self, line: Line) -> None:
        os.write(self._output, msgspec.json.encode(line) + b"\n")

    # -- what clients want ---------------------------------------------------------------------

    def _some_mailbox(self, rng: Random) -> Mailbox:
        if rng.random() < self._load.home:
            return Mailbox(self._home, rng.choice(list(Kind)))
        return rng.choice(MAILBOXES)

    def _append(self, client: Client) -> Request:
        rng = client.rng
        mailbox = LET_GO if rng.random() < LET_GO_SHARE else self._some_mailbox(rng)
        count = rng.choice(self._load.appends)
        first_id, self._first_id = self._first_id, self._first_id + count
        how = rng.choice(("key", "prints", "", ""))
        return Request(Verb.INGEST, mailbox, first_id, count, how)

    def _pull(self, client: Client) -> Request:
        rng = client.rng
        traced = rng.random() < self._load.traced
        key = f"page-{client.name}-{self._number}" if traced and rng.random() < 0.75 else None
        return Request(
            Verb.PULL,
            self._some_mailbox(rng),
            count_max=rng.choice(self._load.pages),
            key=key,
            how=self._ticket().hex() if traced and not key else "",
        )

    def _read(self, client: Client) -> Request:
        mailbox = self._some_mailbox(client.rng)
        return Request(
            Verb.PULL,
            mailbox,
            count_max=client.rng.choice(self._load.pages),
            reader=client.name.replace(" ", "-"),
            ack=client.in_hand.get(mailbox, 0),
        )

    def _operate(self, client: Client) -> Request:
        """A page that one of its process has taken once more, or what waits of a mailbox away."""
        page = client.rng.choice(self.clients).page
        if page is not None and client.rng.random() < 0.1:
            name = page.mailbox, page.ack
            if name not in self._redelivered:
                self._redelivered.add(name)
                return msgspec.structs.replace(page, how=self._ticket().hex())
        return Request(Verb.EXPIRE, LET_GO)


async def perform(store: Store, request: Request, ticket: bytes) -> Page | None:
    """Ask the store for it; returns what a pull was answered."""
    now_ms = time.time_ns() // 1_000_000
    box = request.mailbox
    match request.verb:
        case Verb.INGEST:
            await store.append(_append_of(request, now_ms, ticket))
        case Verb.PULL:
            reader = Reader(request.reader, request.ack or None) if request.reader else None
            once = Once(request.how, now_ms + ONCE_MS) if request.how else None
            pull = Pull(box, request.count_max, now_ms, "192.0.2.1", request.key, once=once)
            return await store.pull(msgspec.structs.replace(pull, reader=reader, ticket=ticket))
        case Verb.REDELIVER:
            act = Act("me", "redeliver", "lost", "{}", now_ms, bytes.fromhex(request.how))
            ranges = [(request.ack, request.count_max)]
            await store.redeliver(Redeliver(box, ranges, now_ms, act, ticket=ticket))
        case _:
            await store.discard(Discard(box, Outcome.EXPIRED, now_ms, now_ms + 1, ticket=ticket))
    return None


def _append_of(request: Request, now_ms: int, ticket: bytes) -> Append:
    entries = [record_of(number) for number in request.ids]
    key = prints = None
    if request.how == "key":
        key = RepeatKey("gateway", f"batch-{request.first_id}", _digest(str(request.ids)))
    elif request.how == "prints":
        items = [(RECORD_S, _digest(str(n))) for n in request.ids]
        prints = Fingerprints("gateway", items)
    return Append(request.mailbox, entries, now_ms, key, prints, ticket=ticket)


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


async def live(url: str, folder: Path, name: str, seed: object, load: Load) -> None:
    """What a process does until it is told to end."""
    clients = Live(folder, name, seed, load)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, lambda: setattr(clients, "stopping", True))
    store = await opened(url, lambda: clients.stopping, give_up)
    if store is not None:
        await clients.run(store)
        await store.close()


def give_up(_error: BaseException) -> None:
    """End the process: its store takes no more work."""
    os._exit(FAILED)


async def opened(
    url: str,
    stopping: Callable[[], bool] = lambda: False,
    on_failure: Callable[[BaseException], None] | None = None,
) -> Store | None:
    """A door, as soon as there is one; None if it is wanted no more."""
    due_s = time.monotonic() + PATIENCE_S
    while not stopping():
        try:
            return await open_store(url, on_failure=on_failure)
        except (StoreRefused, StoreUnavailable):  # a server that is not there refuses
            if time.monotonic() > due_s:
                raise
            await asyncio.sleep(PAUSE_S)
    return None


def process_main(
    url: str, folder: Path, name: str, seed: object, load: Load, plants: Sequence[Plant | None]
) -> None:
    """What a forked process does."""
    signal.alarm(LIFE_S_MAX)
    errors = os.open(folder / f"{name}.err", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(errors, 1)
    os.dup2(errors, 2)
    for plant in plants:
        if plant is not None:
            plant()
    try:
        asyncio.run(live(url, folder, name, seed, load))
    except StoreRefused as error:
        sys.stderr.write(f"{error}\n")
        sys.stderr.flush()
        os._exit(REFUSED)
    os._exit(0)


# --- outside --------------------------------------------------------------------------------------


class Doors:
    """The processes, by their names.

    Attributes:
        alarms: how many of them have ended since their store took no more work.
    """

    def __init__(
        self,
        url: str,
        folder: Path,
        seed: object = 1,
        plant: Plant | None = None,
        prepare: Plant | None = None,
        load: Load = Load(),  # noqa: B008 it is a constant
    ) -> None:
        """None is started yet.

        Args:
            prepare: changes something in each process that is no bug.
        """
        self.url = url
        self._folder = folder
        self._seed = seed
        self._plant = plant
        self._prepare = prepare
        self._load = load
        self.processes: dict[str, ForkServerProcess] = {}
        self.alarms = 0
        self._answers: dict[Path, tuple[int, int]] = {}  # bytes read, answers among them

    def start(self, count: int) -> None:
        """Have so many of them."""
        for number in range(1, count + 1):
            self.start_again(f"door {number}")

    def start_again(self, name: str, plant: Plant | None = None) -> None:
        """A first or a next life; `plant`: what this one has instead of that of all."""
        plants = (self._prepare, plant or self._plant)
        args = (self.url, self._folder, name, self._seed, self._load, plants)
        self.processes[name] = WARM.Process(target=process_main, args=args)
        self.processes[name].start()

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send one of them a signal."""
        pid = self.processes[name].pid
        assert pid is not None
        os.kill(pid, number)

    def end(self, name: str) -> None:
        """Have one of them end its last operations."""
        self.signal(name, signal.SIGTERM)
        self.processes[name].join(PATIENCE_S)

    def kill(self, name: str) -> None:
        """End one of them where it is."""
        self.signal(name, signal.SIGKILL)
        self.processes[name].join(PATIENCE_S)

    def answered(self, count: int, *, patience_s: float = PATIENCE_S) -> None:
        """Wait until so many more answers have come.

        Raises:
            AssertionError: a process has ended, or nothing comes.
        """
        due_s = time.monotonic() + patience_s
        so_far = self.count()
        wanted = so_far + count
        while so_far < wanted:
            self.check_alive()
            assert time.monotonic() < due_s, "no answers come"
            time.sleep(POLL_S)
            if (now := self.count()) > so_far:
                so_far, due_s = now, time.monotonic() + patience_s

    def check_alive(self) -> None:
        """Refuse that a process has ended by itself.

        With a bug planted a store may have noticed it, and given up: its process begins anew.
        """
        for name, process in list(self.processes.items()):
            if process.exitcode == FAILED and self._plant is not None:
                self.alarms += 1
                self.start_again(name)
            else:
                assert process.exitcode is None, self.told(name)

    def told(self, name: str) -> str:
        """How a process stands, and what it has written about itself."""
        errors = self._folder / f"{name}.err"
        text = errors.read_text("utf-8", "replace") if errors.exists() else ""
        return f"{name}, status {self.processes[name].exitcode}: {text[-3000:]}"

    def move(self, url: str) -> None:
        """Have each begin anew at another store, once it has ended since its own was moved there.

        Raises:
            AssertionError: one ends otherwise, or not at all.
        """
        for name, process in self.processes.items():
            process.join(PATIENCE_S)
            assert process.exitcode == FAILED, self.told(name)
        self.url = url
        for name in list(self.processes):
            self.start_again(name)

    def finish(self) -> None:
        """Have each end its last operations.

        With a bug planted nodes may have lost what a store waits for: that it waits is an alarm.
        """
        for name, process in self.processes.items():
            if process.exitcode is None:
                self.signal(name, signal.SIGTERM)
        for name, process in self.processes.items():
            process.join(5 * PATIENCE_S if self._plant is None else PLANTED_PATIENCE_S)
            if process.exitcode is None and self._plant is not None:
                self.signal(name, signal.SIGKILL)
                process.join(PATIENCE_S)
                self.alarms += 1
            assert process.exitcode is not None, f"{name} does not end"
            self.alarms += process.exitcode == FAILED

    def count(self) -> int:
        """How many answers have come."""
        for file in self._folder.glob("*.log"):
            place, answers = self._answers.get(file, (0, 0))
            with file.open("rb") as lines:
                lines.seek(place)
                content = lines.read()
            whole = content.rfind(b"\n") + 1
            answers += content.count(ENDED, 0, whole)
            self._answers[file] = place + whole, answers
        return sum(answers for _, answers in self._answers.values())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        for process in self.processes.values():
            if process.exitcode is None:
                process.kill()
                process.join(PATIENCE_S)
