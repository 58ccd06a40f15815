"""A write is stored once or not at all, whatever is lost on the way, and it is known which."""

import asyncio
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import msgspec
import pytest

from pullstatus.errors import OutcomeUnknown, StoreFailed, StoreUnavailable
from pullstatus.store.jetstream import writing
from pullstatus.store.jetstream.api import Fault
from pullstatus.store.jetstream.bus import Bus
from pullstatus.store.jetstream.links import NoAnswer
from pullstatus.store.jetstream.location import Address, Login, parse_url
from pullstatus.store.jetstream.wire import Put, Stale
from pullstatus.store.jetstream.writing import Writing, _Outcome
from tests.nats_proxy import NatsProxy
from tests.store.engines import cluster
from tests.store.jetstream.conftest import STREAM, op
from tools.nats import PATIENCE_S


@pytest.fixture
def proxy(made: str) -> Iterator[NatsProxy]:
    with NatsProxy(cluster().nodes[0].port) as proxy:
        yield proxy


@pytest.fixture
def through(made: str, proxy: NatsProxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bus]:
    """A bus of which all goes through the proxy, and which is not patient."""
    monkeypatch.setattr(writing, "TRY_S", 0.3)
    location = parse_url(made)
    near = msgspec.structs.replace(location, servers=(Address("127.0.0.1", proxy.port),))
    with Bus(near, Login()) as bus:
        yield bus


@pytest.fixture
def healed() -> Iterator[None]:
    """Nodes may be broken."""
    try:
        yield
    finally:
        cluster().heal()


def puts(app: str, size: int, last: int, mine: bytes, text: bytes = b"") -> list[Put]:
    """So many messages, of which the last one has a condition."""
    logs = [Put(f"{app}.log", mine + text)] * (size - 1)
    return [*logs, Put(f"{app}.c", mine + text, last)]


def count(bus: Bus, app: str) -> int:
    return len(bus.following(STREAM, f"{app}.>", 0, count=2000, leader=True))


@pytest.mark.parametrize("size", [1, 7])
@pytest.mark.parametrize("times", [1, 2])
def test_a_write_whose_answer_is_lost_was_stored_once(
    bus: Bus, through: Bus, proxy: NatsProxy, app: str, size: int, times: int
) -> None:
    mine = op()
    proxy.drop(times)
    last = through.write(STREAM, puts(app, size, 0, mine), mine)
    assert proxy.dropped == times  # the second one says that it was stored already
    found = bus.following(STREAM, f"{app}.>", 0, count=100, leader=True)
    assert [message.sequence for message in found] == list(range(last - size + 1, last + 1))


@pytest.mark.parametrize("size", [1, 7])
def test_a_write_that_is_lost_is_stored_once(
    bus: Bus, through: Bus, proxy: NatsProxy, app: str, size: int
) -> None:
    mine = op()
    proxy.lose(2)
    through.write(STREAM, puts(app, size, 0, mine), mine)
    assert (proxy.lost, count(bus, app)) == (2, size)


@pytest.mark.parametrize("size", [1, 7])
@pytest.mark.parametrize("code", [writing.WRONG_LAST, 10164, 10008])
@pytest.mark.usefixtures("unhurried")
def test_a_write_that_one_node_refuses_may_have_been_stored(
    bus: Bus, app: str, size: int, code: int
) -> None:
    """It led, and does not know yet that another one does, which stores it; or it gives up."""
    real = Writing._send
    sent = []

    async def send(*arguments: object) -> _Outcome:
        sent.append(await real(*arguments))  # type: ignore[arg-type]
        return sent[-1] if len(sent) > 1 else _Outcome(error=Fault(code))

    mine = op()
    with mock.patch.object(Writing, "_send", send):
        last = bus.write(STREAM, puts(app, size, 0, mine), mine)
    assert (sent[0].seq, count(bus, app)) == (last, size)


@pytest.mark.parametrize("size", [1, 7])
def test_a_write_that_one_node_refuses_may_be_stored_a_moment_later(
    bus: Bus, app: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It took itself for the leader; who leads has it in hand just then."""
    real = Writing._send
    under_way: list[asyncio.Task[_Outcome]] = []
    leads, nap = Writing._leads, asyncio.sleep

    async def store(*arguments: object) -> _Outcome:
        await paused.wait()
        return await real(*arguments)  # type: ignore[arg-type]

    async def send(*arguments: object) -> _Outcome:
        under_way.append(asyncio.create_task(store(*arguments)))
        return _Outcome(error=Fault(writing.WRONG_LAST))

    async def look(self: Writing, stream: str) -> bool:
        while not await leads(self, stream):
            pass  # who leads may say nothing for seconds, on a busy machine
        return True

    async def sleep(for_s: float) -> None:
        """A moment is as long as it takes to store it."""
        if for_s == writing.BOTH_LEAD_S:
            paused.set()
            await asyncio.wait(under_way)
        else:
            await nap(for_s)

    paused = asyncio.Event()
    monkeypatch.setattr(Writing, "_send", send)
    monkeypatch.setattr(Writing, "_leads", look)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    mine = op()
    last = bus.write(STREAM, puts(app, size, 0, mine), mine)
    assert len(under_way) == 1
    assert (under_way[0].result().seq, count(bus, app)) == (last, size)


@pytest.mark.parametrize("size", [1, 7])
def test_a_write_that_is_late_is_stored_once(
    bus: Bus, through: Bus, proxy: NatsProxy, app: str, size: int
) -> None:
    mine = op()
    proxy.hold(1)
    last = through.write(STREAM, puts(app, size, 0, mine), mine)
    proxy.release()
    # What comes over the same connection is behind it.
    other = op()
    through.write(STREAM, puts(app, size, last, other), other)
    assert count(bus, app) == 2 * size


@pytest.mark.parametrize("size", [1, 7])
def test_a_write_that_was_lost_gives_way_to_another(
    bus: Bus, through: Bus, proxy: NatsProxy, app: str, size: int
) -> None:
    mine, other = op(), op()
    proxy.hold(100)
    with ThreadPoolExecutor(1) as pool:
        written = pool.submit(through.write, STREAM, puts(app, size, 0, mine), mine)
        while not proxy._held:
            time.sleep(0.005)
        bus.write(STREAM, puts(app, 1, 0, other), other)
        proxy.spare()
        with pytest.raises(Stale):
            written.result()
    proxy.release()
    assert count(bus, app) == 1


def test_of_several_conditions_any_may_have_been_overtaken(
    bus: Bus, through: Bus, proxy: NatsProxy, app: str
) -> None:
    mine, other = op(), op()
    proxy.lose(1)
    bus.write(STREAM, puts(f"{app}.a", 1, 0, other), other)
    with pytest.raises(Stale):
        through.write(STREAM, [Put(f"{app}.{name}.c", mine, 0) for name in "abc"], mine)
    assert count(bus, app) == 1


def test_what_is_not_known_in_time_is_said(
    bus: Bus, through: Bus, proxy: NatsProxy, app: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "RESOLVE_S", 1.0)
    mine = op()
    proxy.lose(100)
    with pytest.raises(OutcomeUnknown):
        through.write(STREAM, puts(app, 1, 0, mine), mine)
    assert count(bus, app) == 0


def test_batches_that_were_left_open_hold_others_up_for_a_while(bus: Bus, app: str) -> None:
    """At most 50 of a stream are open; those that nobody ends are dropped after 10 s."""

    async def leave_open(number: int) -> None:
        link = await bus._links.link(0, PATIENCE_S)
        headers = {writing.BATCH: f"{app}.{number}", writing.NUMBER: "1"}
        await link.send(f"{app}.open", op(), headers)

    for number in range(51):
        bus.begin(leave_open(number)).result()
    mine = op()
    last = bus.write(STREAM, puts(app, 1, 0, mine), mine)  # one alone is none
    mine = op()
    bus.write(STREAM, puts(app, 5, last, mine), mine)
    assert count(bus, app) == 6


# --- nodes fail -----------------------------------------------------------------------------------


class Chains:
    """Writers that each add to a chain of their own and to one that they share, as lanes do.

    Each says which of its writes were stored, and which may have been.
    """

    def __init__(self, bus: Bus, app: str) -> None:
        self.bus = bus
        self.app = app
        self.stored: list[bytes] = []
        self.open: list[bytes] = []
        self.ends = threading.Event()
        self.moved = threading.Semaphore(0)

    def write(self, chain: str, size: int) -> None:
        """Add once, however often it must be begun anew."""
        text = op()
        while True:
            try:
                newest = self.bus.last(STREAM, f"{self.app}.{chain}.c", leader=True)
                mine = op()
                last = newest.sequence if newest else 0
                self.bus.write(STREAM, puts(f"{self.app}.{chain}", size, last, mine, text), mine)
            except StoreFailed:
                raise  # it would be for good
            except (Stale, StoreUnavailable):
                continue
            except OutcomeUnknown:
                self.open.append(text)
            else:
                self.stored.append(text)
            self.moved.release()
            return

    def run(self, number: int) -> None:
        turn = 0
        while not self.ends.is_set():
            turn += 1
            self.write("shared" if turn % 4 == 0 else str(number), 1 + turn % 3)

    def verdict(self) -> None:
        """Every write that was said to be stored is there, once and whole; no other one is."""
        found: Counter[bytes] = Counter()
        at, size = 0, 1000
        while messages := self.bus.following(
            STREAM, f"{self.app}.*.c", at, count=size, leader=True
        ):
            found.update(message.data[16:] for message in messages)
            at = messages[-1].sequence + 1
        twice = [text for text, times in found.items() if times > 1]
        lost = [text for text in self.stored if text not in found]
        phantom = [text for text in found if text not in {*self.stored, *self.open}]
        assert (twice, lost, phantom) == ([], [], [])


FAULTS = int(os.environ.get("PULLSTATUS_NATS_FAULTS", "1"))


def under_load(bus: Bus, app: str, fault: Callable[[], None], writes: int = 20) -> Chains:
    """Have something happen while chains grow, so many times, and have them grow on behind it."""
    chains = Chains(bus, app)
    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(chains.run, number) for number in range(4)]
        try:
            for number in range(FAULTS):
                if number:
                    cluster().heal()
                for _ in range(writes):
                    assert chains.moved.acquire(timeout=120)
                fault()
                for _ in range(writes):
                    assert chains.moved.acquire(timeout=120)
        finally:
            chains.ends.set()
        for one in running:
            one.result()
    return chains


def test_the_leader_is_killed(bus: Bus, app: str, healed: None) -> None:
    def kill() -> None:
        leader = cluster().leader(STREAM)
        leader.kill()

    under_load(bus, app, kill).verdict()


def test_all_nodes_are_killed(bus: Bus, app: str, healed: None) -> None:
    def kill() -> None:
        for node in cluster().nodes:
            node.kill()
        for node in cluster().nodes:
            node.start()

    under_load(bus, app, kill).verdict()


def test_the_leader_stands_still(bus: Bus, app: str, healed: None) -> None:
    """Nodes agree on another one, and it is asked over a connection that ends elsewhere."""
    chains = under_load(bus, app, lambda: cluster().leader(STREAM).pause())
    cluster().heal()
    chains.verdict()


def test_a_replica_that_is_behind_is_no_harm(bus: Bus, app: str, healed: None) -> None:
    behind = next(node for node in cluster().nodes if node is not cluster().leader(STREAM))
    mine = op()
    first = bus.write(STREAM, puts(app, 1, 0, mine), mine)
    behind.pause()
    mine = op()
    bus.write(STREAM, puts(f"{app}.more", 24, 0, mine, bytes(900_000)), mine)
    newest = bus.write(STREAM, puts(app, 1, first, mine), mine)
    behind.resume()
    told = [bus.last(STREAM, f"{app}.c") for _ in range(30)]
    assert {message.sequence for message in told if message is not None} <= {first, newest}
    assert bus.lasts(STREAM, [f"{app}.c"], at_least=newest)[f"{app}.c"].sequence == newest
    mine = op()
    with pytest.raises(Stale):
        bus.write(STREAM, puts(app, 1, first, mine), mine)
    found = bus.last(STREAM, f"{app}.c", leader=True)
    assert found is not None
    assert found.sequence == newest


# --- planted mistakes, which these tests see ------------------------------------------------------


def answers_are_lost(through: Bus, proxy: NatsProxy, app: str) -> Chains:
    chains = Chains(through, app)
    for turn in range(4):
        proxy.drop(turn % 2)
        chains.write("a", 1 + turn)
    return chains


def test_a_bus_as_it_is_loses_and_doubles_nothing(through: Bus, proxy: NatsProxy, app: str) -> None:
    answers_are_lost(through, proxy, app).verdict()
    assert proxy.dropped == 2


def test_an_unknown_outcome_that_is_taken_for_a_refusal_is_seen(
    through: Bus, proxy: NatsProxy, app: str
) -> None:
    real = Writing._send

    async def send(*arguments: object) -> _Outcome:
        try:
            return await real(*arguments)  # type: ignore[arg-type]
        except NoAnswer:
            return _Outcome(error=Fault(writing.WRONG_LAST))

    with (
        mock.patch.object(Writing, "_send", send),
        mock.patch.object(Writing, "_resolved", side_effect=Stale),
    ):
        chains = answers_are_lost(through, proxy, app)
    with pytest.raises(AssertionError):
        chains.verdict()


def test_a_blind_repeat_is_seen(through: Bus, proxy: NatsProxy, app: str) -> None:
    with mock.patch.object(writing, "_condition", side_effect=lambda _put: {}):
        chains = answers_are_lost(through, proxy, app)
    with pytest.raises(AssertionError):
        chains.verdict()
