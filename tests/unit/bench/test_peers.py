import asyncio
import zlib
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path

import httpx
import pytest

from bench import ceiling
from bench.machine import Machine
from bench.peers import proof, redis_lists, services
from bench.peers.__main__ import COLUMNS, OURS, PEERS, matrix, to_best
from bench.peers.backend import Taken
from bench.peers.front import answer, lean
from bench.peers.services import ServiceMissing
from bench.records import as_array, example, record
from bench.results import Line, Report, Result
from pullstatus.cli.load import Answer, LoadFailed
from pullstatus.receipts.batch import read_in_steps
from pullstatus.records import Kind
from pullstatus.steps import done
from pullstatus.wire.v5.answer import success

PAIR = record(0) + b"," + record(1)


class Lists:
    """A backend in memory."""

    def __init__(self) -> None:
        self.queues: dict[str, deque[bytes]] = defaultdict(deque)

    async def open(self, address: str) -> None:
        pass

    async def append(self, queue: str, entries: Sequence[bytes]) -> None:
        self.queues[queue].extend(entries)

    async def take(self, queue: str, count: int) -> Taken:
        entries = self.queues[queue]
        taken = [entries.popleft() for _ in range(min(count, len(entries)))]
        return len(taken), b",".join(taken)


def line(label: str, per_s: float) -> Line:
    return Line(label, "pages/s", [per_s], p99_ms=[4.0])


def test_records_are_valid_and_stored_as_they_are_sent() -> None:
    """The bench feeds the product what the product takes."""
    for make in (record, example):
        stored = done(
            read_in_steps(as_array(1000, make=make), Kind.DELIVERY_STATUS, ndjson=False)
        ).entries
        assert stored == [make(number) for number in range(1000)]
        assert len(set(stored)) == 1000
    assert {len(example(number)) for number in (0, 7, 10**7, 10**8 - 1)} == {193}


def test_records_are_as_carriers_are_and_the_same_each_time() -> None:
    """What compresses too well, or differs from run to run, would be no measure."""
    records = [record(number) for number in range(20_000)]
    assert records[7] == record(7)
    assert 190 < sum(map(len, records)) / len(records) < 196
    delivered = sum(b'"errmsg":"DELIVRD"' in each for each in records) / len(records)
    assert 0.965 < delivered < 0.975
    packed = len(zlib.compress(as_array(100))) / len(as_array(100))
    alike = len(zlib.compress(as_array(100, make=example))) / len(as_array(100, make=example))
    assert packed > 0.12 > alike


def test_a_peer_answers_the_bytes_that_the_product_answers() -> None:
    """Otherwise pages of the one would be smaller than pages of the other."""
    assert answer(0, 2, PAIR) == success(Kind.DELIVERY_STATUS, 2, PAIR)
    assert answer(1, 0, b"") == success(Kind.REPLY, 0, b"")


def test_the_lean_front_hands_out_what_came_in_once() -> None:
    async def talk(client: httpx.AsyncClient) -> None:
        accepted = await client.post("/ingest/a", content=as_array(3))
        assert accepted.json() == {"accepted": 3}
        pull = b'{"type":0,"max":2}'
        assert (await client.post("/pull/a", content=pull)).content == answer(0, 2, PAIR)
        assert (await client.post("/pull/a", content=pull)).content == answer(0, 1, record(2))
        assert (await client.post("/pull/a", content=pull)).content == answer(0, 0, b"")
        refused = await client.post("/ingest/a", content=b'[{"sid":1}]')
        assert refused.status_code == 400

    asyncio.run(with_front(Lists(), talk))


def test_fill_lays_that_many_records_ready() -> None:
    backend = Lists()
    asyncio.run(with_front(backend, lambda client: client.post("/fill/a?count=2500")))
    assert list(backend.queues["a"]) == [record(number) for number in range(2500)]


async def with_front(
    backend: Lists, talk: Callable[[httpx.AsyncClient], Awaitable[object]]
) -> None:
    transport = httpx.ASGITransport(lean(backend, ""))
    async with httpx.AsyncClient(transport=transport, base_url="http://peer") as client:
        await talk(client)


def pair(ours: float, name: str, theirs: float) -> tuple[Line, Line]:
    return line(OURS, ours), line(PEERS[name].title, theirs)


def test_a_peer_that_keeps_what_it_accepted_is_not_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nor one that hands out again what it handed out."""
    monkeypatch.setattr(proof, "ARRIVE_S", 0.1)
    for count, page in ((0, b""), (2, PAIR)):
        body = answer(0, count, page)
        given = Answer(200, [("content-length", str(len(body)))], body)
        with (
            ceiling.start(given, tmp_path) as server,
            pytest.raises(LoadFailed, match="300 records went in"),
        ):
            proof.prove(server.address)


def test_best_peer_is_a_durable_one_by_the_runs_in_its_own_turns() -> None:
    """What a peer is spared of durability must not count against the product.

    Nor must a fast minute of the machine that one of the peers had count for it.
    """
    drain = COLUMNS[-1]
    pairs = [
        pair(400, "redis", 160),
        pair(100, "postgresql", 50),
        pair(100, "rabbitmq", 400),
    ]
    rate, _processor, p99 = to_best(pairs, drain)
    assert (rate.value, rate.goal) == (2.0, 3.0)
    assert (p99.value, p99.goal, p99.lower_is_better) == (1.0, 1 / 3, True)
    assert to_best(pairs[2:], drain) == []


class Lines:
    """hiredis, as far as it is used: a command is a line, and so is its reply."""

    class Reader:
        def __init__(self) -> None:
            self._received = b""

        def feed(self, data: bytes) -> None:
            self._received += data

        def gets(self) -> object:
            reply, separator, rest = self._received.partition(b"\n")
            if not separator:
                return False
            self._received = rest
            return ValueError(reply) if reply.startswith(b"-") else reply

    @staticmethod
    def pack_command(parts: tuple[object, ...]) -> bytes:
        return b" ".join(str(part).encode() for part in parts) + b"\n"


def test_commands_of_one_turn_leave_in_one_write_and_replies_come_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else each would cost Redis and the service a system call and a sync."""
    monkeypatch.setattr(redis_lists, "import_module", lambda _name: Lines)
    written: list[list[bytes]] = []

    class Transport(asyncio.Transport):
        def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
            written.append([bytes(each) for each in list_of_data])

    async def talk() -> None:
        connection = redis_lists.Pipelined()
        connection.connection_made(Transport())
        calls = [connection.call("LPOP", f"q{number}", 1) for number in range(3)]
        await asyncio.sleep(0)
        assert written == [[b"LPOP q0 1\n", b"LPOP q1 1\n", b"LPOP q2 1\n"]]
        calls[1].cancel()
        connection.data_received(b"a\nb\n-no")
        connection.data_received(b"pe\n")
        assert await calls[0] == b"a"
        with pytest.raises(ValueError, match="-nope"):
            await calls[2]
        last = connection.call("PING")
        connection.connection_lost(None)
        with pytest.raises(ConnectionError):
            await last

    asyncio.run(talk())


def test_matrix_has_a_row_each_and_a_dash_for_what_is_missing() -> None:
    machine = Machine("cpu", 2, 8.0, "6.1", "ext4", "3.11.7")
    results = [
        Result("empty", "", [line(OURS, 5000)], []),
        Result("drain", "", [line(OURS, 1000), line("other", 20)], []),
    ]
    table = matrix(Report("", machine, "wrk", 5.0, 1, results))
    rows = list(zip(*(column.cells for column in table.columns), strict=True))
    assert rows == [(OURS, "5,000", "1,000", "4.0"), ("other", "-", "20", "4.0")]


@pytest.mark.parametrize(
    ("start", "install"),
    [
        (services.redis, "apt-get install redis-server"),
        (services.postgresql, "apt-get install postgresql"),
        (services.rabbitmq, "apt-get install rabbitmq-server"),
        (services.jetstream, "make bench-peers"),
    ],
)
def test_missing_server_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, start: services.Start, install: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(services, "POSTGRESQL", tmp_path)
    monkeypatch.setattr(services, "RABBITMQ", tmp_path / "rabbitmq-server")
    with pytest.raises(ServiceMissing, match=install), start(tmp_path, tmp_path):
        pass


def test_every_peer_has_a_backend_and_a_front() -> None:
    from bench.peers.front import BACKENDS

    assert {peer.backend for peer in PEERS.values()} == set(BACKENDS)
    assert {peer.front for peer in PEERS.values()} == {"fastapi", "lean"}
