"""What Prometheus sees: every series from the start, times by call, nothing that grows."""

from __future__ import annotations

import asyncio
import re
from itertools import pairwise
from pathlib import Path

import pytest

from pullstatus import limits
from pullstatus.clock import wall_ms
from pullstatus.durations import BOUNDS_S, Durations
from pullstatus.mailbox.done import Task
from pullstatus.records import Kind
from pullstatus.server.figures import RESULTS, STATUSES
from pullstatus.store import Backlog, Mailbox
from pullstatus.version import VERSION
from tests.harness import status
from tests.unit.server.asgi import Served


def test_every_series_is_there_before_its_first_value() -> None:
    """What is born with its first value shows no increase, and its alarm stays silent."""
    figures = asyncio.run(Served().figures())
    due = [f'pullstatus_pulls_total{{result="{result:d}"}}' for result in RESULTS]
    for door in ("ingest", "callbacks", "in"):
        due += [
            f'pullstatus_batches_total{{door="{door}",status="{http_status}"}}'
            for http_status in STATUSES
        ]
    for call in ("pull", "ingest", "callbacks", "in"):
        due += [
            f'pullstatus_unanswered_total{{call="{call}"}}',
            f'pullstatus_request_seconds_count{{call="{call}"}}',
        ]
    for kind in Kind:
        due += [
            f'pullstatus_records_{way}_total{{kind="{kind.path}"}}'
            for way in ("in", "out", "repaired")
        ]
    due += ["pullstatus_cluster_mended_total", "pullstatus_cluster_writes_unanswered_total"]
    assert {name: figures.get(name) for name in due} == dict.fromkeys(due, 0)


def test_what_the_database_cares_for_itself_is_not_told() -> None:
    """Else its alarm would ring for ever."""
    served = Served()
    backup, audit = (f"pullstatus_{task}_timestamp_seconds" for task in Task)
    assert {backup, audit} <= asyncio.run(served.figures()).keys()
    served.routes.noted = frozenset({Task.AUDIT})
    figures = asyncio.run(served.figures())
    assert (backup in figures, audit in figures) == (False, True)


def test_requests_are_timed_by_call() -> None:
    served = Served()

    async def ask() -> dict[str, float]:
        await served.pull()
        await served.pull(("Content-Encoding", "gzip"))
        await served.ingest([status(1)])
        await served.callback(b"")
        await served.ask("GET", "/healthz")
        return await served.figures()

    figures = asyncio.run(ask())
    for call, count in (("pull", 2), ("ingest", 1), ("callbacks", 1)):
        assert figures[f'pullstatus_request_seconds_count{{call="{call}"}}'] == count
        assert figures[f'pullstatus_request_seconds_bucket{{call="{call}",le="+Inf"}}'] == count
        assert figures[f'pullstatus_request_seconds_sum{{call="{call}"}}'] > 0


def test_process_and_build_are_told() -> None:
    figures = asyncio.run(Served().figures())
    assert figures[f'pullstatus_build_info{{version="{VERSION}"}}'] == 1
    assert any(name.startswith("python_info{") for name in figures)
    if Path("/proc/self/stat").exists():
        assert figures["process_start_time_seconds"] > 0
        assert figures["process_cpu_seconds_total"] > 0
        assert figures["process_open_fds"] > 0


def test_figures_do_not_grow_with_the_mailboxes() -> None:
    """But by those that are worst off, up to a bound."""
    served = Served()
    few = asyncio.run(served.figures())
    served.store.mailboxes = [
        Backlog(Mailbox(sdkappid, kind), 3, 1, 2) for sdkappid in range(1, 500) for kind in Kind
    ]
    many = asyncio.run(served.figures())
    more = many.keys() - few.keys()
    assert few.keys() <= many.keys()
    assert all(name.startswith("pullstatus_application_") for name in more)
    assert 2 * limits.WORST_TOLD <= len(more) <= 4 * limits.WORST_TOLD
    assert many['pullstatus_waiting{kind="replies"}'] == 2 * 499


def test_the_worst_are_told_by_application() -> None:
    """Whose record is the oldest, and for whom most wait; not who has just been fed."""
    now_ms = wall_ms()
    served = Served()
    served.routes.worst = 1
    served.store.mailboxes = [
        Backlog(Mailbox(1, Kind.REPLY), 1, 0, 1, oldest_ms=now_ms - 7_200_000),
        Backlog(Mailbox(2, Kind.DELIVERY_STATUS), 9, 0, 9, oldest_ms=now_ms - 60_000),
        Backlog(Mailbox(3, Kind.REPLY), 2, 0, 2, oldest_ms=now_ms - 1000),
    ]
    figures = asyncio.run(served.figures())
    named = "pullstatus_application_"
    told = {name: value for name, value in figures.items() if name.startswith(named)}
    oldest, most = '{kind="replies",sdkappid="1"}', '{kind="delivery-statuses",sdkappid="2"}'
    assert told == {
        f"{named}waiting{oldest}": 1,
        f"{named}oldest_waiting_seconds{oldest}": pytest.approx(7200, abs=10),
        f"{named}waiting{most}": 9,
        f"{named}oldest_waiting_seconds{most}": pytest.approx(60, abs=10),
    }
    served.routes.worst = 0
    assert not any(name.startswith(named) for name in asyncio.run(served.figures()))


@pytest.mark.parametrize(
    ("seconds", "bound"), [(0, 0.001), (0.001, 0.001), (0.0011, 0.0025), (10, 10.0), (11, None)]
)
def test_duration_counts_up_to_its_bound(seconds: float, bound: float | None) -> None:
    durations = Durations()
    durations.add(seconds)
    counted = {float(shown): count for shown, count in durations.cumulative()}
    assert counted == {each: int(bound is not None and each >= bound) for each in BOUNDS_S} | {
        float("inf"): 1
    }
    assert durations.sum_s == seconds
    assert all(low < high for low, high in pairwise(BOUNDS_S))
    assert re.fullmatch(r"[0-9.]+", durations.cumulative()[0][0])
