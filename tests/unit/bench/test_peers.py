import asyncio
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import httpx
import pytest

from bench.machine import Machine
from bench.peers import services
from bench.peers.__main__ import COLUMNS, OURS, PEERS, matrix, to_best
from bench.peers.front import answer, lean
from bench.peers.services import ServiceMissing
from bench.records import as_array, record
from bench.results import Line, Report, Result
from pullstatus.receipts.batch import read_batch
from pullstatus.records import Kind
from pullstatus.wire.v5.answer import success


class Lists:
    """A backend in memory."""

    def __init__(self) -> None:
        self.queues: dict[str, deque[bytes]] = defaultdict(deque)

    async def open(self, address: str) -> None:
        pass

    async def append(self, queue: str, entries: Sequence[bytes]) -> None:
        self.queues[queue].extend(entries)

    async def take(self, queue: str, count: int) -> list[bytes]:
        entries = self.queues[queue]
        return [entries.popleft() for _ in range(min(count, len(entries)))]


def line(label: str, per_s: float) -> Line:
    return Line(label, "pages/s", [per_s], p99_ms=[4.0])


def test_records_are_valid_193_bytes_and_differ() -> None:
    """The bench feeds the product what the product takes, stored as it is sent."""
    [stored] = read_batch(as_array(1), Kind.DELIVERY_STATUS, ndjson=False).entries
    assert stored == record(0)
    assert {len(record(number)) for number in (0, 7, 10**7, 10**8 - 1)} == {193}
    assert len({record(number) for number in range(1000)}) == 1000


def test_a_peer_answers_the_bytes_that_the_product_answers() -> None:
    """Otherwise pages of the one would be smaller than pages of the other."""
    entries = [record(0), record(1)]
    assert answer(0, entries) == success(Kind.DELIVERY_STATUS, 2, b",".join(entries))
    assert answer(1, []) == success(Kind.REPLY, 0, b"")


def test_the_lean_front_hands_out_what_came_in_once() -> None:
    async def talk(client: httpx.AsyncClient) -> None:
        accepted = await client.post("/ingest/a", content=as_array(3))
        assert accepted.json() == {"accepted": 3}
        pull = b'{"type":0,"max":2}'
        assert (await client.post("/pull/a", content=pull)).content == answer(
            0, [record(0), record(1)]
        )
        assert (await client.post("/pull/a", content=pull)).content == answer(0, [record(2)])
        assert (await client.post("/pull/a", content=pull)).content == answer(0, [])

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


def test_best_peer_is_a_durable_one() -> None:
    """What a peer is spared of durability must not count against the product."""
    drain = COLUMNS[-1]
    lines = [
        line(OURS, 100),
        line(PEERS["redis"].title, 40),
        line(PEERS["postgresql"].title, 50),
        line(PEERS["sqs"].title, 400),
        line(PEERS["rabbitmq"].title, 400),
    ]
    [indicator] = to_best(lines, drain)
    assert (indicator.value, indicator.goal) == (2.0, 2.0)
    assert to_best(lines[:1], drain) == []


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
        (services.sqs, "make bench-peers"),
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
