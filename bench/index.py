"""The index behind the log: how fast it is made, what it takes, and what questions by it take.

Of one mailbox with so many records that looking for some is nearly all of a question. A few of
them, far from each other, have one number.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Iterator
from functools import partial

from bench import paced
from bench.measure import Bench
from bench.paced import Stream, as_measured, exchange
from bench.records import BEGAN_S, PER_S, as_array
from bench.results import Indicator, Line, Result
from bench.scenarios import Scenario
from bench.server import APPKEY, PAGE, Product, ingest_request
from pullstatus import limits
from pullstatus.cli.load import LoadFailed, Measured, Request
from pullstatus.records import Kind
from pullstatus.store import Append, Mailbox, Store
from pullstatus.store.sqlite.connection import open_reader
from pullstatus.store.sqlite.typed import integer
from pullstatus.wire.v5.query import query_request

RECORDS = 10_000_000
MATCHES = 5
RECEIPTS_PER_S = 10_000
STEADY_S = 20  # of receipts, beside which the index comes along
_CONNECTIONS = 16
_LOOK_S = 0.25
_ROOM_S = 86_400  # on either side of the records' own times, which are told in the zone of China
_MOBILE = "19900000000"
_MATCH = (
    b'{"user_receive_time":"2026-03-02 08:03:04","nationcode":"86","mobile":"%b",'
    b'"report_status":"SUCCESS","errmsg":"DELIVRD","description":"delivered","sid":"8:match%d"}'
)


def question(sdkappid: int, nationcode: str, mobile: str, records: int) -> Request:
    """A question for a number, of a mailbox that has the first so many records; signed now."""
    ends_s = BEGAN_S + records // PER_S + _ROOM_S
    number = (Kind.DELIVERY_STATUS, nationcode, mobile)
    times = (BEGAN_S - _ROOM_S, ends_s)
    return Request(*query_request(sdkappid, APPKEY, *number, *times, 10, "7", int(time.time())))


def _index(bench: Bench, scenario: Scenario) -> Result:
    count = bench.scaled(RECORDS)
    warm, cold = Line("warm", "questions/s"), Line("cold", "questions/s")
    with Product(bench.folder, applications=2) as product:
        _fill(bench, product, count)
        pages = -_pages(product)
        product.serve()
        bench.say("waiting for the index")
        began_s = time.monotonic()
        product.await_index()
        took_s = time.monotonic() - began_s
        product.stop()
        pages += _pages(product)
        for run in range(1, bench.runs + 1):
            bench.say(f"asking, run {run} of {bench.runs}")
            product.chill()
            product.serve()
            cold.add(_ask(product, count, 0.0), None)
            warm.add(_ask(product, count, bench.seconds), None)
            if run < bench.runs:
                product.stop()
        bench.say(f"{RECEIPTS_PER_S:,} receipts a second")
        behind_s = _behind_s(bench, product)
    judged = [
        Indicator(
            "records a second that it catches up with", count / took_s, 200_000, absolute=True
        ),
        *(
            Indicator(name, value, goal, lower_is_better=True, absolute=True)
            for name, value, goal in (
                ("bytes of the file for a record", pages / count, 18),
                ("a question, warm, ms", min(warm.p50_ms), 20),
                ("the first one, cold, ms", max(cold.p50_ms), 300),
                (f"s behind {RECEIPTS_PER_S:,} receipts a second", behind_s, 5),
            )
        ),
    ]
    return Result(scenario.name, scenario.conditions, [warm, cold], judged)


def _fill(bench: Bench, product: Product, count: int) -> None:
    """Lay records ready, and between them some of one number."""
    mailbox = Mailbox(product.sdkappids[0], Kind.DELIVERY_STATUS)

    async def append(store: Store, entry: bytes) -> None:
        await store.append(Append(mailbox, [entry], time.time_ns() // 1_000_000))

    for place in range(MATCHES):
        bench.fill(product, count // MATCHES)
        product.with_store(partial(append, entry=_MATCH % (_MOBILE.encode(), place)))


def _pages(product: Product) -> int:
    """Bytes of the file that hold something, with the server down."""
    with contextlib.closing(open_reader(product.file)) as connection:
        size, used, free = (
            integer(name, connection.pragma(name))
            for name in ("page_size", "page_count", "freelist_count")
        )
    return size * (used - free)


def _ask(product: Product, count: int, seconds: float) -> Measured:
    """Questions one after the other for a while; one at least."""
    took: list[float] = []
    with socket.create_connection(("127.0.0.1", product.server().port), timeout=30) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        until_s = time.perf_counter() + seconds
        while not took or time.perf_counter() < until_s:
            asked = question(product.sdkappids[0], "86", _MOBILE, count).encode()
            began_s = time.perf_counter()
            answer = exchange(connection, asked)
            took.append(time.perf_counter() - began_s)
            if b'"count":%d' % MATCHES not in answer:
                raise LoadFailed(f"answered {answer[-200:]!r}, where {MATCHES} are due")
            time.sleep(2 / limits.QUERY_RATE)
    return as_measured(took, sum(took))


def _behind_s(bench: Bench, product: Product) -> float:
    """How far behind receipts of another application the index is at most."""
    found = [0.0]
    posted = threading.Event()

    def look() -> None:
        while not posted.wait(_LOOK_S):
            found.append(product.figure("pullstatus_unfollowed_seconds"))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        seconds = bench.scaled(STEADY_S)
        made = _posts(product, seconds)
        paced.run(
            product.server().port,
            [Stream(lambda: next(made).encode(), RECEIPTS_PER_S / PAGE, _CONNECTIONS)],
            seconds,
        )
    finally:
        posted.set()
        looking.join()
    return max(found)


def _posts(product: Product, seconds: float) -> Iterator[Request]:
    bodies = [as_array(PAGE, first) for first in range(0, round(RECEIPTS_PER_S * seconds), PAGE)]
    for body in itertools.cycle(bodies):
        yield ingest_request(product.token, PAGE, product.sdkappids[1], body=body)


INDEX_SCENARIO = Scenario(
    "index",
    f"{RECORDS:,} records of one mailbox, and questions for a number that {MATCHES} of them have",
    _index,
    4.0,
)
