"""What an operator is told of nodes: each thing that can be wrong, where, and how much of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from random import Random

import httpx
import pytest
import structlog

from pullstatus import limits
from pullstatus.apps import OwnFile
from pullstatus.errors import CommitsLost, OutcomeUnknown, StoreFull, StoreUnavailable
from pullstatus.records import Kind
from pullstatus.server import serve
from pullstatus.server.serve import ServeOptions, Server
from pullstatus.store import Alarm, open_store
from pullstatus.store.gathering.operations import Forget
from pullstatus.store.jetstream import api, engine
from pullstatus.store.jetstream import log as lane
from pullstatus.store.jetstream import watchdog as dog
from pullstatus.store.jetstream.proven import ProvenBus
from pullstatus.store.jetstream.vitals import QUIET_S, Vitals
from pullstatus.store.jetstream.watchdog import (
    AGAIN_S,
    AWAY,
    BEHIND,
    COPIED_S,
    DOWN,
    ELECTED_S,
    LAG_MAX,
    MENDED,
    NEARLY_FULL,
    NO_WRITES,
    SHORT,
    UNPROVEN,
    UNWRITTEN_S,
    UPGRADED_S,
    VERSIONS,
    Watchdog,
)
from pullstatus.store.jetstream.wire import Copy, Led, Space, Stale
from tests.store.build import (
    NOW_MS,
    STATUSES,
    append,
    fingerprinted,
    pull,
    records,
    repeat_key,
    until,
)
from tests.store.engines import cluster as nodes
from tests.store.jetstream import real, scheme
from tests.store.jetstream.lanes import COMMON, LAYOUT, PARTITION, Clock, Process, cluster
from tests.store.jetstream.memory import MemoryBus
from tools.nats import PATIENCE_S
from tools.postgresql import free_port

pytestmark = pytest.mark.anyio

STREAMS = [stream for stream, _ in LAYOUT.streams]


class Watched:
    """A cluster in memory that somebody looks after."""

    def __init__(self) -> None:
        self.bus = cluster()
        self.clock = Clock()
        self.vitals = Vitals(self.clock)
        self.dog = Watchdog(self.bus, STREAMS, self.vitals, self.clock)

    def look(self, after_s: float = 0.0) -> dict[str, Alarm]:
        """What is alarming then, by what it is."""
        self.clock.now_s += after_s
        self.dog.look()
        return {alarm.event: alarm for alarm in self.dog.health.alarms}

    def lasts(self, event: str, least_s: float) -> Alarm:
        """The alarm that what is so now becomes, and not before."""
        assert self.look() == {}
        assert self.look(least_s - 1) == {}
        [(found, alarm)] = self.look(1).items()
        assert found == event
        assert alarm.reason
        return alarm

    def write(self, error: Exception | None, took_s: float = 20.0) -> None:
        """A write to the partition, and what comes of it."""
        try:
            with self.vitals.writing(PARTITION):
                self.clock.now_s += took_s
                if error is not None:
                    raise error
        except (OutcomeUnknown, StoreUnavailable, Stale):
            pass

    def copies(self, *copies: Copy) -> None:
        """Have streams such copies beside their leader's."""
        self.bus.led = lambda _stream, led: led._replace(copies=copies)


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_a_cluster_that_is_well_alarms_nobody(watched: Watched) -> None:
    watched.copies(Copy("n1", False, True, 0), Copy("n2", False, True, LAG_MAX))
    assert watched.look() == watched.look(1000) == {}
    health = watched.dog.health
    assert (health.streams, health.down, health.lag) == (2, 0, LAG_MAX)
    assert watched.dog.bytes == sum(map(watched.bus.size, STREAMS))
    assert watched.dog.silent_s() == 0


def test_a_stream_without_a_leader_is_named_once_no_election_explains_it(
    watched: Watched,
) -> None:
    def led(stream: str, led: Led) -> Led | None:
        return None if stream == PARTITION else led

    watched.bus.led = led
    alarm = watched.lasts(DOWN, ELECTED_S)
    assert alarm.where == {"stream": PARTITION, "streams": 1}
    assert watched.dog.health.down == 1
    assert watched.dog.silent_s() == 0, "others go on"
    watched.bus.led = lambda _stream, led: led
    assert watched.look() == {}


def test_nobody_who_answers_is_told_to_whoever_asks_whether_the_store_does(
    watched: Watched,
) -> None:
    watched.look()
    watched.bus.led = lambda _stream, _led: None
    assert watched.lasts(DOWN, ELECTED_S).where == {"stream": min(STREAMS), "streams": 2}
    assert watched.dog.silent_s() == ELECTED_S
    watched.bus.led = lambda _stream, led: led
    watched.look()
    assert watched.dog.silent_s() == 0


def test_a_leader_that_does_not_reach_most_of_its_nodes_is_none(watched: Watched) -> None:
    watched.copies(Copy("n1", True, True, 0), Copy("n2", False, True, 0))
    watched.look()
    assert (watched.dog.health.down, watched.dog.silent_s()) == (0, 0)
    watched.copies(Copy("n1", True, True, 0), Copy("n2", True, True, 0))
    watched.write(OutcomeUnknown("?"), UNWRITTEN_S)
    watched.look()
    found = watched.look(ELECTED_S)
    assert set(found) == {DOWN, AWAY}
    assert found[DOWN].where == {"stream": min(STREAMS), "streams": 2, "nodes": "n0"}
    assert (watched.dog.health.down, watched.dog.silent_s()) == (2, ELECTED_S)


@pytest.mark.parametrize(
    ("copy", "event"),
    [
        (Copy("n2", True, False, 0), AWAY),
        (Copy("n2", True, False, LAG_MAX + 1), AWAY),
        (Copy("n2", False, False, 0), BEHIND),
        (Copy("n2", False, True, LAG_MAX + 1), BEHIND),
    ],
)
def test_a_copy_that_is_not_as_it_should_be_for_a_minute_is_told_with_its_node(
    watched: Watched, copy: Copy, event: str
) -> None:
    watched.copies(Copy("n1", False, True, 0), copy)
    assert watched.lasts(event, COPIED_S).where == {
        "stream": min(STREAMS),
        "streams": 2,
        "nodes": "n2",
    }
    health = watched.dog.health
    assert (health.copies_away, health.copies_behind) == ((2, 0) if event == AWAY else (0, 2))
    assert health.lag == copy.lag


@pytest.mark.parametrize("leads", [False, True])
def test_a_copy_on_a_node_that_says_nothing_of_itself_is_told_after_a_minute(
    watched: Watched, leads: bool
) -> None:
    """Whether it syncs what it acknowledges, nobody knows: it may be new in the cluster."""
    nodes = ("n0", "n1") if leads else ("n1", "x")
    leader = "x" if leads else "n0"
    copies = [Copy(node, False, True, 0) for node in nodes]
    watched.bus.led = lambda _stream, led: led._replace(leader=leader, copies=copies)
    where = {"stream": min(STREAMS), "streams": 2, "nodes": "x"}
    assert watched.lasts(UNPROVEN, COPIED_S).where == where
    assert watched.dog.health.copies_unproven == 2
    watched.copies(Copy("n1", False, True, 0), Copy("x", True, True, 0))
    assert set(watched.look()) == set(), "it is away: another alarm"
    watched.copies(Copy("n1", False, True, 0), Copy("n2", False, True, 0))
    assert watched.look(COPIED_S) == {}
    assert watched.dog.health.copies_unproven == 0


def test_a_copy_that_no_node_has_any_more_is_away(watched: Watched) -> None:
    """Of a node that was taken out of a cluster of three its leader does not speak."""
    copy = Copy("n1", False, True, 0)
    watched.bus.led = lambda _stream, led: led._replace(copies=[copy], missing=1)
    assert watched.lasts(AWAY, COPIED_S).where == {"stream": min(STREAMS), "streams": 2}
    assert watched.dog.health.copies_away == 2


@pytest.mark.parametrize(("others", "missing"), [(["n1", "n2"], 0), (["n1"], 1), ([], 2)])
def test_how_many_copies_no_node_has_is_told_by_how_many_there_are_to_be(
    others: list[str], missing: int
) -> None:
    replicas = [api.Peer(name, current=True) for name in others]
    group = api.Group("n0", "g", replicas)
    led = api.led_of(api.Said(config={"num_replicas": 3}, cluster=group))
    assert led is not None
    assert (led.nodes, led.missing) == (["n0", *others], missing)
    alone = api.led_of(api.Said(config={"num_replicas": 1}))
    assert alone is not None
    assert (alone.nodes, alone.missing) == ([], 0)


def test_nodes_that_nobody_can_ask_about_themselves_are_told(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watched.bus, "copies", dict)
    watched.copies(Copy("n1", False, True, 0), Copy("n2", False, True, 0))
    assert watched.lasts(UNPROVEN, COPIED_S).where["nodes"] == "n0, n1, n2"


def test_a_node_that_is_not_named_is_told_before_it_has_a_copy(watched: Watched) -> None:
    watched.bus.unnamed = ["n3"]
    assert watched.lasts(UNPROVEN, COPIED_S).where == {"nodes": "n3"}
    assert watched.dog.health.copies_unproven == 0
    watched.bus.unnamed = []
    assert watched.look() == {}


def test_an_upgrade_of_nodes_that_was_left_half_done_is_told_after_a_day(
    watched: Watched,
) -> None:
    watched.bus.older = ["n1", "n2"]
    assert watched.look() == {}
    watched.bus.older = ["n2"]
    assert watched.look(UPGRADED_S - 1) == {}
    assert watched.look(1)[VERSIONS].where == {"nodes": "n2"}
    watched.bus.older = []
    assert watched.look() == {}


def test_a_copy_that_catches_up_between_is_no_alarm(watched: Watched) -> None:
    for _ in range(5):
        watched.copies(Copy("n1", False, False, 7))
        assert watched.look(COPIED_S - 1) == {}
        watched.copies(Copy("n1", False, True, 0))
        assert watched.look(1) == {}


@pytest.mark.parametrize("error", [OutcomeUnknown("?"), StoreUnavailable("no writes")])
def test_a_leader_that_answers_no_write_for_a_minute_is_named(
    watched: Watched, error: Exception
) -> None:
    watched.write(None)
    for _ in range(2):
        watched.write(error)
        assert watched.look() == {}
    watched.write(error)
    alarm = watched.look()[NO_WRITES]
    assert alarm.where == {"stream": PARTITION, "streams": 1, "nodes": "n0"}
    assert "step-down" in alarm.reason
    assert alarm.own
    health = watched.dog.health
    assert (health.without_writes, health.unanswered) == (1, 3)
    watched.bus.led = lambda _stream, _led: None
    assert NO_WRITES not in watched.look(), "it is known why"


@pytest.mark.parametrize("answer", [None, Stale(), StoreFull("full")])
def test_any_answer_to_a_write_shows_that_its_leader_writes(
    watched: Watched, answer: Exception | None
) -> None:
    for error in [OutcomeUnknown("?")] * 2 + [answer] + [OutcomeUnknown("?")] * 2:
        watched.write(error, UNWRITTEN_S / 2 - 1)
        assert watched.look() == {}


def test_who_tries_no_more_knows_no_more(watched: Watched) -> None:
    watched.write(OutcomeUnknown("?"))
    assert watched.look(QUIET_S) == {}
    watched.write(OutcomeUnknown("?"))
    assert watched.look() == {}


def test_a_write_that_hangs_is_seen_before_it_ends(watched: Watched) -> None:
    with watched.vitals.writing(PARTITION):
        assert set(watched.look(UNWRITTEN_S)) == {NO_WRITES}
    assert watched.look() == {}


def test_writes_of_lanes_are_met(watched: Watched) -> None:
    def silent(_stream: str) -> None:
        raise OutcomeUnknown("?")

    one = Process(watched.bus, watched.clock)
    vitals = watched.dog._vitals = vitals_of(one)
    vitals._clock = watched.clock
    one.do(append(STATUSES, records(1)))
    watched.bus.overtake = silent
    with pytest.raises(OutcomeUnknown):
        one.do(append(STATUSES, records(1)))
    watched.clock.now_s += 7
    assert (vitals.unanswered, vitals.unanswered_s(PARTITION)) == (1, 7)
    watched.bus.overtake = lambda _stream: None
    one.do(append(STATUSES, records(1)))
    assert vitals.unanswered_s(PARTITION) == 0


def test_what_is_nearly_full_is_named_or_is_a_node(watched: Watched) -> None:
    watched.bus.led = lambda stream, led: led._replace(used=79 + (stream == COMMON), limit=100)
    watched.bus.node = Space(799, 1000)
    [alarm] = watched.look().values()
    assert (alarm.event, alarm.where) == (NEARLY_FULL, {"percent": 80, "stream": COMMON})
    watched.bus.node = Space(95, 100)
    assert watched.look()[NEARLY_FULL].where == {"percent": 95}
    assert watched.dog.health.full == 0.95
    watched.bus.node = None
    watched.bus.led = lambda _stream, led: led
    assert watched.look() == {}


def test_subjects_are_counted(watched: Watched) -> None:
    """Nodes have them in memory. One of a pull with a key stays for longer than the key is good."""
    one = Process(watched.bus, watched.clock)
    one.do(append(STATUSES, records(2)))
    watched.look()
    before = watched.dog.health.subjects
    assert before == sum(len(watched.bus.subjects(stream, ">")) for stream in STREAMS) > 0
    for number in range(2):
        one.do(pull(STATUSES, 1, key=f"{number}"))
    later_ms = NOW_MS + limits.PULL_KEY_S * 1000 + 1
    one.do(Forget(later_ms, later_ms, 1000, 1.0))
    watched.look()
    assert watched.dog.health.subjects == before + 2


# --- nodes that lack messages ---------------------------------------------------------------------


def lost(bus: MemoryBus, *, leads: Callable[[], bool]) -> None:
    """Have the leader lack the newest message of the partition while the same node leads."""
    newest = bus.newest(PARTITION)
    bus.judges_by_loss = True
    bus.has = lambda _stream, message, leader: (
        None if leader and leads() and message.sequence == newest else message
    )


def test_a_leader_that_lacks_messages_is_asked_to_lead_no_more(watched: Watched) -> None:
    Process(watched.bus).do(append(STATUSES, records(3)))
    asked = watched.bus.stepped_down
    lost(watched.bus, leads=lambda: not asked)
    assert watched.look() == {}, "somebody may not have come as far"
    alarm = watched.look(dog.LOOK_S)[SHORT]
    assert alarm.where == {"stream": PARTITION, "streams": 1, "nodes": "n0"}
    assert watched.dog.health.copies_short == 1
    assert asked == [PARTITION]
    watched.look(dog.SOON_S)
    assert watched.look(dog.SOON_S) == {}
    assert watched.dog.health.copies_short == 0


def test_one_that_goes_on_leading_is_asked_again_after_a_while(watched: Watched) -> None:
    Process(watched.bus).do(append(STATUSES, records(3)))
    lost(watched.bus, leads=lambda: True)
    for _ in range(3):
        watched.look()
    assert watched.bus.stepped_down == [PARTITION]
    watched.look(AGAIN_S - 1)
    assert watched.bus.stepped_down == [PARTITION]
    watched.look(1)
    assert watched.bus.stepped_down == [PARTITION] * 2


def test_one_that_does_not_lead_is_named_and_left(watched: Watched) -> None:
    Process(watched.bus).do(append(STATUSES, records(3)))
    lost(watched.bus, leads=lambda: True)
    watched.bus.led = lambda _stream, led: led._replace(leader="n1")
    watched.look()
    assert watched.look()[SHORT].where["nodes"] == "n0"
    assert watched.bus.stepped_down == []


@pytest.mark.parametrize("key", ["row", "fingerprint"])
def test_who_starts_serves_no_leader_that_lacks_what_repeats_are_known_by(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """Whoever is asked is that leader: who does not look takes a repeat for new."""
    monkeypatch.setattr(dog, "SOON_S", 0.01)
    first = append(STATUSES, records(3), key=repeat_key("k"))
    if key == "fingerprint":
        first = fingerprinted(STATUSES, records(2), [1, 2])
    Process(watched.bus).do(first)
    place, asked = LAYOUT.application(STATUSES.sdkappid), watched.bus.stepped_down
    rows = {row for pattern in place.remembered for row in watched.bus.subjects(PARTITION, pattern)}
    watched.bus.judges_by_loss = True
    watched.bus.has = lambda _stream, message, _leader: (
        None if not asked and message.subject in rows else message
    )
    with monkeypatch.context() as patch:
        patch.setattr(watched.bus, "_store", lambda *_: pytest.fail("it was taken for new"))
        with pytest.raises(pytest.fail.Exception):
            Process(watched.bus).do(first)
    watched.dog.start()
    watched.dog.close()
    assert asked == [PARTITION]
    assert Process(watched.bus).do(first) == 0


# --- messages that another node has ---------------------------------------------------------------


def flipped(bus: MemoryBus, subject: str) -> None:
    """Have all but the leader a damaged newest message of a subject."""
    newest = bus.last(PARTITION, subject, leader=True)
    assert newest is not None
    other = newest._replace(data=newest.data[:-1] + bytes([newest.data[-1] ^ 1]))
    bus.has = lambda _s, message, leader: other if message == newest and not leader else message


def vitals_of(process: Process) -> Vitals:
    assert isinstance(process.bus, ProvenBus)
    return process.bus.vitals


def test_a_message_that_one_node_has_damaged_is_served_and_told(watched: Watched) -> None:
    Process(watched.bus).do(append(STATUSES, records(3)))
    flipped(watched.bus, LAYOUT.application(STATUSES.sdkappid).log(STATUSES.holds))
    one = Process(watched.bus)
    watched.dog._vitals = vitals_of(one)
    assert watched.look() == {}
    assert one.pull(pull(STATUSES)).count == 3
    alarm = watched.look()[MENDED]
    assert alarm.where == {"stream": PARTITION, "streams": 1, "messages": 1}
    assert alarm.own
    assert watched.look() == {}, "it is told once"
    assert watched.dog.health.mended == 1


def test_a_message_that_one_node_has_lost_is_served_and_told(watched: Watched) -> None:
    """The one node has what lies behind it, so it is not only late."""
    process = Process(watched.bus)
    for _ in range(3):
        process.do(append(STATUSES, records(2)))
    place = LAYOUT.application(STATUSES.sdkappid)
    lost = watched.bus.following(PARTITION, place.log(STATUSES.holds), 1, count=3)[1]
    watched.bus.has = lambda _s, message, leader: (
        None if message == lost and not leader else message
    )
    one = Process(watched.bus)
    assert sum(one.pull(pull(STATUSES)).count for _ in range(3)) == 6
    assert vitals_of(one).take_mended()[PARTITION] > 0


def test_a_replica_that_is_late_has_damaged_nothing() -> None:
    bus = cluster()
    choose = Random(1)
    bus.lag = lambda _stream: choose.choice([0, 1, 3, 100])
    one, other = Process(bus), Process(bus)
    for _ in range(20):
        one.do(append(STATUSES, records(2)))
        other.pull(pull(STATUSES, 1))
        one.pull(pull(STATUSES, 1))
    assert vitals_of(one).mended == vitals_of(other).mended == 0


# --- a store --------------------------------------------------------------------------------------


async def test_a_server_looks_after_its_nodes_and_asks_nobody_for_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dog, "LOOK_S", 0.01)
    with scheme.cluster(tmp_path) as url:
        store = await open_store(url, server=True)
        await store.append(append(STATUSES, records(2)))
        bus = scheme._clusters[url]
        streams = scheme.LAYOUT.partitions + 1
        size = sum(bus.size(stream) for stream, _ in scheme.LAYOUT.streams)
        await until(lambda: store._watchdog.bytes == size)  # type: ignore[attr-defined]
        assert (await store.engine()).bytes == size
        assert (await store.totals()).of[Kind.DELIVERY_STATUS].waiting == 2
        bus.led = lambda _stream, _led: None
        await until(lambda: store.under_way().oldest_s > 0)
        await until(lambda: store._watchdog.health.down == streams)  # type: ignore[attr-defined]
        with pytest.raises(StoreUnavailable, match="is down"):
            await store.totals()
        assert (await store.engine()).bytes == size
        health = store.health()
        assert health is not None
        assert health.down == health.streams == streams
        await store.close()
        assert not store._watchdog._thread.is_alive()  # type: ignore[attr-defined]


async def test_sums_that_were_asked_for_before_nodes_went_are_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each question waits for an election, and they wait for each other: it would be minutes."""
    monkeypatch.setattr(dog, "LOOK_S", 0.01)
    monkeypatch.setattr(engine, "DOWN_S", 0.01)
    asked, answered = threading.Event(), threading.Event()

    def waits(_worst: int) -> None:
        asked.set()
        assert answered.wait(PATIENCE_S)

    with scheme.cluster(tmp_path) as url:
        store = await open_store(url, server=True)
        monkeypatch.setattr(store._survey, "totals", waits)  # type: ignore[attr-defined]
        try:
            totals = asyncio.create_task(store.totals())
            await until(asked.is_set)
            scheme._clusters[url].led = lambda _stream, _led: None
            with pytest.raises(StoreUnavailable, match="is down"):
                await totals
        finally:
            answered.set()
        await store.close()


async def test_a_server_tells_its_log_its_figures_and_whoever_asks_whether_it_is_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dog, "LOOK_S", 0.01)
    monkeypatch.setattr(dog, "ELECTED_S", 0.0)
    monkeypatch.setattr(serve, "REFRESH_S", 0.01)
    monkeypatch.setattr(limits, "STALLED_S", 0.0)
    with scheme.cluster(tmp_path) as url, structlog.testing.capture_logs() as lines:
        await (await open_store(url, create=True)).close()
        masters = OwnFile(tmp_path / "key", tmp_path)
        server = Server(ServeOptions(url, port=0, masters=masters))
        serving = asyncio.create_task(server.run())
        await until(lambda: server.started.is_set() or serving.done())
        async with httpx.AsyncClient(
            base_url=server.address, trust_env=False, timeout=PATIENCE_S
        ) as http:

            async def figures() -> dict[str, float]:
                said = [
                    line.rpartition(" ") for line in (await http.get("/metrics")).text.split("\n")
                ]
                return {name: float(value) for name, _, value in said if name[:1] not in ("", "#")}

            well = await figures()
            assert well["pullstatus_cluster_streams"] == scheme.LAYOUT.partitions + 1
            assert well["pullstatus_cluster_streams_down"] == well["pullstatus_mailboxes"] == 0
            scheme._clusters[url].led = lambda _stream, _led: None
            watchdog, mended = server.store._watchdog, 0  # type: ignore[attr-defined]

            def all_told() -> bool:
                nonlocal mended
                events = {line["event"] for line in lines}
                if MENDED not in events:  # a look tells of what was mended since the one before
                    watchdog._vitals.mend(PARTITION)
                    mended += 1
                return {DOWN, MENDED} <= events

            await until(all_told)
            [told] = [line for line in lines if line["event"] == DOWN]
            assert (told["log_level"], told["streams"]) == ("error", scheme.LAYOUT.partitions + 1)
            assert (await http.get("/readyz")).status_code == 503
            while (down := await figures())["pullstatus_cluster_mended_total"] < mended:
                pass
            assert down["pullstatus_cluster_mended_total"] == mended
            assert down["pullstatus_cluster_streams_down"] == told["streams"]
            assert "pullstatus_mailboxes" not in down, "they cannot be read"
            scheme._clusters[url].led = lambda _stream, led: led
            await until(lambda: not server.store.under_way().oldest_s)
            await until(lambda: not watchdog.health.down)
            assert (await http.get("/metrics")).text.count("pullstatus_mailboxes 0.0") == 1
        server.stop()
        await serving


async def test_a_stream_that_went_back_ends_the_store_with_its_name_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "BACK_S", -1.0)
    failures: list[BaseException] = []
    with scheme.cluster(tmp_path) as url:
        store = await open_store(url, on_failure=failures.append)
        await store.append(append(STATUSES, records(2)))
        place = scheme.LAYOUT.application(STATUSES.sdkappid)
        bus = scheme._clusters[url]
        bus.purge(place.stream, place.commits, below=1 << 60)
        with pytest.raises(CommitsLost):
            await store.append(append(STATUSES, records(2)))
        [failure] = failures
        for said in (place.stream, "new-epoch", "restore"):
            assert said in str(failure)
        await store.close()


def test_a_node_that_ends_and_a_majority_that_does_are_told_of_real_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dog, "LOOK_S", 0.1)
    monkeypatch.setattr(dog, "COPIED_S", 0.0)
    monkeypatch.setattr(dog, "ELECTED_S", 0.0)
    monkeypatch.setattr(api, "AWAY_NS", 2 * 10**9)

    async def play(url: str) -> None:
        store = await open_store(url, server=True)

        def alarms() -> dict[str, Alarm]:
            health = store.health()
            assert health is not None
            return {alarm.event: alarm for alarm in health.alarms}

        async def seen(event: str, *, is_due: Callable[[Alarm], bool]) -> Alarm:
            async with asyncio.timeout(PATIENCE_S):
                # Nobody tells.
                while (found := alarms().get(event)) is None or not is_due(found):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            return found

        await store.append(append(STATUSES, records(2)))
        layout = store._layout  # type: ignore[attr-defined]
        leader = nodes().leader(layout.stream(0))
        away, other = [node for node in nodes().nodes if node is not leader]
        try:
            away.kill()
            alarm = await seen(AWAY, is_due=lambda each: away.name in str(each.where["nodes"]))
            assert alarm.where["stream"] in dict(layout.streams)
            other.pause()
            await until(lambda: store.under_way().oldest_s > 0)
            await seen(DOWN, is_due=lambda each: each.where["streams"] == 2)
        finally:
            nodes().heal()
        async with asyncio.timeout(PATIENCE_S):
            while alarms():  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.05)
        assert store.under_way().oldest_s == 0
        assert (await store.totals()).of[Kind.DELIVERY_STATUS].waiting == 2
        await store.close()

    with real.place(tmp_path) as url:
        asyncio.run(play(url))


def test_a_real_node_that_cannot_be_asked_about_itself_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dog, "LOOK_S", 0.1)
    monkeypatch.setattr(dog, "COPIED_S", 0.0)
    node = nodes().nodes[2]

    async def play(url: str) -> None:
        store = await open_store(url, server=True)
        await store.append(append(STATUSES, records(2)))

        def told() -> bool:
            health = store.health()
            assert health is not None
            alarms = {alarm.event: alarm for alarm in health.alarms}
            return UNPROVEN in alarms and alarms[UNPROVEN].where["nodes"] == node.name

        await until(told)
        await store.close()

    with real.place(tmp_path) as url:
        asyncio.run(play(url.replace(f":{node.monitor}", f":{free_port()}")))
