"""Receipts whose ids lie among many that were registered, and the same of who registers none.

The others tell what the first ones are to be found by, so that both are the same records. Beside
them, reports that register as many sends as a callback has receipts.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from functools import partial
from hashlib import blake2b
from itertools import count

from bench.measure import Bench, Side, microseconds
from bench.records import as_array
from bench.results import Indicator, Line, Result, median, paired
from bench.scenarios import Scenario
from bench.server import PAGE, Product, ingest_request
from pullstatus import limits
from pullstatus.apps import LiveApplication
from pullstatus.apps.values import application_setting, read_application
from pullstatus.cli.load import Load, Request
from pullstatus.mailbox.pending import Used
from pullstatus.mailbox.statistics import count_sends
from pullstatus.receipts.sends import Registered, Sends
from pullstatus.store import Store

NAMES = 1_000_000
CONNECTIONS = 32
BODIES = 1_000  # of a run, each posted once
_FIRST, _STEP = 10**18, 4097  # ids as of a gateway that numbers them by time, with gaps
_RECEIPT = (
    b'{"user_receive_time":"2026-03-02 08:03:04","nationcode":"86","mobile":"138%08d",'
    b'"report_status":"SUCCESS","errmsg":"DELIVRD","description":"delivered","id":"%d"'
)


def _receipt(number: int) -> bytes:
    return _RECEIPT % (number % 10**8, _FIRST + number * _STEP) + b"}"


def _with_sid(number: int) -> bytes:
    """The same, if its gateway tells what its sender knows it by."""
    return _receipt(number)[:-1] + b',"sid":"%b"}' % _sid(number).encode()


def _sid(number: int) -> str:
    return f"8:{blake2b(b'%d' % number, digest_size=8).hexdigest()}"


def _send(number: int) -> bytes:
    """What registers it by a report."""
    return b'{"sid":"%b","id":"%d","nationcode":"86","mobile":"138%08d"}' % (
        _sid(number).encode(),
        _FIRST + number * _STEP,
        number % 10**8,
    )


def _registered(number: int) -> Registered:
    name = str(_FIRST + number * _STEP)
    return Registered(_sid(number), (name,), "", "86", f"138{number % 10**8:08d}")


def _register(product: Product, names: int) -> None:
    """With the server down, by reports as large as they may be."""

    async def register(store: Store) -> None:
        setting = await store.setting(application_setting(product.sdkappids[0]))
        assert setting is not None
        assert setting.value is not None
        application = read_application(setting.name, setting.value)
        live = LiveApplication(application, setting.revision)
        now_ms = time.time_ns() // 1_000_000
        await Used(store).note(application.sdkappid, now_ms)
        for first in range(0, names, limits.INGEST_RECORDS_MAX):
            numbers = range(first, min(first + limits.INGEST_RECORDS_MAX, names))
            rows = tuple(_registered(number) for number in numbers)
            sends = Sends(len(rows), {}, rows)
            ticket = secrets.token_bytes(16)
            await count_sends(store, live, sends, sender="bench", now_ms=now_ms, ticket=ticket)

    product.with_store(register)


def _names(bench: Bench, scenario: Scenario) -> Result:
    named, plain = Line("registered", "records/s"), Line("none registered", "records/s")
    reports = Line("reports that register", "names/s")
    names = bench.scaled(NAMES)
    with Product(bench.folder) as one, Product(bench.folder) as other:
        before = other.size_bytes()
        _register(one, names)
        size = (one.size_bytes() - before) / names
        one.serve()
        other.serve()
        pages = {product: count() for product in (one, other)}

        def load(product: Product, make: Callable[[int], bytes]) -> Load:
            bodies = [
                as_array(PAGE, next(pages[product]) * PAGE % names, make)
                for _ in range(bench.scaled(BODIES))
            ]
            path = f"/in/{product.token}/native"
            return Load([Request(path, body) for body in bodies], CONNECTIONS)

        new = count(names // PAGE)  # pages of what was never registered

        def report() -> Load:
            bodies = [as_array(PAGE, next(new) * PAGE, _send) for _ in range(bench.scaled(BODIES))]
            return Load(
                [ingest_request(one.token, PAGE, body=body, what="sends") for body in bodies],
                CONNECTIONS,
            )

        bench.in_turns(
            [
                Side(named, one.server, partial(load, one, _receipt), None, PAGE),
                Side(plain, other.server, partial(load, other, _with_sid), None, PAGE),
                Side(reports, one.server, report, None, PAGE),
            ]
        )
    judged = [
        Indicator("processor without names to that with", paired(plain.us, named.us), 0.85),
        microseconds(named),
        microseconds(plain),
        Indicator(
            "processor without names to that with, reports that register them included",
            paired(plain.us, [sum(both) for both in zip(named.us, reports.us, strict=True)]),
        ),
        microseconds(reports),
        Indicator("bytes of a name", median([size]), lower_is_better=True),
    ]
    return Result(scenario.name, scenario.conditions, [named, plain, reports], judged)


NAMES_SCENARIO = Scenario(
    "names",
    f"callbacks of {PAGE} with ids that lie among {NAMES:,} registered ones, or of who has none",
    _names,
    2.0,
)
