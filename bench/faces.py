"""The two faces of the pull in turns on one server: full pages, and pulls that find nothing."""

from __future__ import annotations

import time
from collections.abc import Callable

from bench import drain
from bench.drain import Drain
from bench.measure import Bench, Side, microseconds, to_processor
from bench.results import Indicator, Line, Result, paired
from bench.scenarios import Scenario
from bench.server import (
    FIRST_SDKAPPID,
    PAGE,
    Product,
    action_request,
    ingest_request,
    pull_request,
)
from pullstatus.apps import SecretPair
from pullstatus.cli import load
from pullstatus.cli.load import Load, LoadFailed, Request
from pullstatus.wire.api3 import signing

CONNECTIONS = 32

CALLS = 1000  # of API 3.0 before one comes again: with clients none does
AGE_S_MAX = 100  # so that all are good for as long as a run takes

Makes = Callable[[int], Load]
"""Pulls of an application, signed anew."""


def _faces(bench: Bench, scenario: Scenario) -> Result:
    """Each face has a mailbox with records and one without, of its own."""
    pages = Line("v5", "pages/s"), Line("API 3.0", "pages/s")
    empty = Line("v5, empty", "pulls/s"), Line("API 3.0, empty", "pulls/s")
    with Product(bench.folder, applications=4) as product:
        pair = product.make_pair()
        product.serve()
        faces: tuple[Makes, Makes] = (
            lambda number: Load([pull_request(number)], CONNECTIONS),
            lambda number: Load(
                [action_request(pair, number, place % AGE_S_MAX) for place in range(CALLS)],
                CONNECTIONS,
            ),
        )
        full, none = product.sdkappids[:2], product.sdkappids[2:]
        drains = [_drain(bench, product, *each) for each in zip(pages, faces, full, strict=True)]
        drain.in_turns(bench, drains)
        sides = [_side(product, *each) for each in zip(empty, faces, none, strict=True)]
        bench.in_turns(sides)
    judged = []
    for (old, new), goal in ((pages, 0.5), (empty, 0.65)):
        judged += [
            Indicator(f"API 3.0 {new.unit} to v5's", paired(new.per_s, old.per_s), goal),
            to_processor(new, old, f"v5's, {new.unit}"),
            microseconds(new),
        ]
    judged.append(
        Indicator(
            "a signature of TC3 checked, in process, µs",
            _checked_us(pair),
            20.0,
            lower_is_better=True,
            absolute=True,
        )
    )
    return Result(scenario.name, scenario.conditions, [*pages, *empty], judged)


def _checked_us(pair: SecretPair) -> float:
    """What reading and checking one takes, of calls that are each signed anew."""
    calls = []
    for place in range(CALLS):
        request = action_request(pair, FIRST_SDKAPPID, place % AGE_S_MAX)
        headers = {name.lower().encode(): said.encode() for name, said in request.headers.items()}
        calls.append(signing.Request("POST", b"", headers, request.body))
    began_s = time.process_time()
    for call in calls:
        authorization = signing.read_authorization(call.headers[b"authorization"])
        if not signing.fits(call, authorization, pair.secret_key):
            raise LoadFailed("a signature does not fit that was just made")
    return (time.process_time() - began_s) / CALLS * 1e6


def _drain(bench: Bench, product: Product, line: Line, make: Makes, sdkappid: int) -> Drain:
    def post(body: bytes) -> Request:
        return ingest_request(product.token, PAGE, sdkappid, body=body)

    lay = drain.by_posts(product.server, post)

    def fill(count: int) -> int:
        laid = lay(count)
        product.await_index()
        return laid

    return Drain(
        bench,
        line,
        product.server,
        lambda: make(sdkappid),
        fill,
        rested_s=lambda: product.rested_s,
    )


def _side(product: Product, line: Line, make: Makes, sdkappid: int) -> Side:
    answer = load.look(product.address, make(sdkappid).requests[0])
    if b"[]" not in answer.body:
        raise LoadFailed(f"a pull that finds nothing was answered {answer.body[:200]!r}")
    return Side(line, product.server, lambda: make(sdkappid), answer.wire_bytes)


FACES = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            "faces",
            f"pulls of {PAGE} records and of none over v5 and API 3.0, {CONNECTIONS} connections",
            _faces,
            2.0,
        ),
    )
}
