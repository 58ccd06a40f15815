"""What `status` shows: one moment of a server's figures, and how fast they grew since another.

Made for 80 columns. Pure: figures in, a value or something rich can print out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from rich.console import Group
from rich.table import Table
from rich.text import Text

from pullstatus.cli.scrape import Figures

WORST: Final = 5  # mailboxes that are shown
_GIB: Final = 1 << 30
Counted = Callable[[Figures], float]


class Sample(msgspec.Struct, frozen=True):
    """Figures of a moment (`at_s`, of any clock that only goes forward)."""

    at_s: float
    figures: Figures


class Flow(msgspec.Struct, frozen=True):
    """What is counted: since the server's start, and a second."""

    total: int
    per_s: float


class Oldest(msgspec.Struct, frozen=True):
    """A mailbox in which something waits for long."""

    sdkappid: int
    kind: str
    waiting: int
    oldest_s: float


class Status(msgspec.Struct, frozen=True):
    """How a server stands; names with `_s` are in seconds.

    Attributes:
        engine: what keeps its store; "": not known here.
        records_in, records_out: repeats included.
        refused: batches and pulls that were answered with an error.
        shed: requests and connections for which there was no room.
        accepting, store_bytes: None: the store has told nothing yet.
        commit_s: of a commit, on average since the sample before; 0: there was none.
        waiting, oldest_waiting_s, in_hand, parked: None: mailboxes cannot be read now.
        free_bytes: on the disk of the store; None: it has none of its own.
        oldest: mailboxes with the oldest records, those first.
    """

    version: str
    engine: str
    accepting: bool | None
    workers: int
    up_s: float
    records_in: Flow
    records_out: Flow
    refused: Flow
    shed: Flow
    commits: Flow
    commit_s: float
    waiting: int | None
    oldest_waiting_s: float | None
    in_hand: int | None
    held: int
    parked: int | None
    store_queued: int
    store_bytes: int | None
    free_bytes: int | None
    connections: int
    oldest: Sequence[Oldest]


def status(then: Sample, now: Sample, *, wall_s: float, engine: str) -> Status:
    """How a server stands `now`, and how fast it went since `then`.

    Args:
        wall_s: Unix time of `now`.
    """
    said = now.figures
    told = then if _COMMITS in then.figures else now  # or all that there were would be since then
    spent_s, commits = (
        said.total(name) - told.figures.total(name) for name in (_COMMITS_S, _COMMITS)
    )
    accepting = _known(said, "pullstatus_accepting")
    started_s = said.total("process_start_time_seconds")
    oldest_s = _known(said, "pullstatus_oldest_waiting_seconds")
    return Status(
        version=said.version,
        engine=engine,
        accepting=None if accepting is None else bool(accepting),
        workers=int(said.total("pullstatus_workers")),
        up_s=round(max(0.0, wall_s - started_s), 1) if started_s else 0.0,
        records_in=_flow(then, now, _records_in),
        records_out=_flow(then, now, _records_out),
        refused=_flow(then, now, _refused),
        shed=_flow(then, now, _shed),
        commits=_flow(told, now, _commits),
        commit_s=round(spent_s / commits, 6) if commits > 0 else 0.0,
        waiting=_count(said, "pullstatus_waiting"),
        oldest_waiting_s=None if oldest_s is None else round(oldest_s, 1),
        in_hand=_count(said, "pullstatus_in_hand"),
        held=int(said.total("pullstatus_pulls_held")),
        parked=_count(said, "pullstatus_parked"),
        store_queued=int(said.total("pullstatus_store_queued")),
        store_bytes=_count(said, "pullstatus_store_bytes"),
        free_bytes=_count(said, "pullstatus_store_free_bytes"),
        connections=int(said.total("pullstatus_connections")),
        oldest=_oldest(said),
    )


def _known(said: Figures, name: str) -> float | None:
    return said.total(name) if name in said else None


def _count(said: Figures, name: str) -> int | None:
    value = _known(said, name)
    return None if value is None else int(value)


def _flow(then: Sample, now: Sample, counted: Counted) -> Flow:
    """A server that was started anew between the two has counted from 0."""
    before, total = counted(then.figures), counted(now.figures)
    span_s = now.at_s - then.at_s
    return Flow(int(total), round(max(0.0, total - before) / span_s, 1) if span_s > 0 else 0.0)


def _records_in(said: Figures) -> float:
    return said.total("pullstatus_records_in_total")


def _records_out(said: Figures) -> float:
    return said.total("pullstatus_records_out_total")


def _commits(said: Figures) -> float:
    return said.total(_COMMITS)


_COMMITS: Final = "pullstatus_commit_seconds_count"
_COMMITS_S: Final = "pullstatus_commit_seconds_sum"


def _shed(said: Figures) -> float:
    return said.total("pullstatus_requests_shed_total") + said.total(
        "pullstatus_connections_refused_total"
    )


def _refused(said: Figures) -> float:
    """Answers that are no success, by what each face calls one."""
    return sum(
        value
        for name, label, success in _SUCCESS
        for labels, value in said.of(name)
        if labels[label] != success
    )


_SUCCESS: Final = (
    ("pullstatus_pulls_total", "result", "0"),
    ("pullstatus_questions_total", "result", "0"),
    ("pullstatus_api3_calls_total", "code", ""),
    ("pullstatus_batches_total", "status", "200"),
)


def _oldest(said: Figures) -> list[Oldest]:
    waiting = {
        (found["sdkappid"], found["kind"]): int(value)
        for found, value in said.of("pullstatus_application_waiting")
    }
    rows = [
        Oldest(
            int(found["sdkappid"]),
            found["kind"],
            waiting.get((found["sdkappid"], found["kind"]), 0),
            round(value, 1),
        )
        for found, value in said.of("pullstatus_application_oldest_waiting_seconds")
        if value > 0
    ]
    return sorted(rows, key=lambda row: -row.oldest_s)[:WORST]


def picture(now: Status, where: str) -> Group:
    """A screen of it."""
    head = Text(f"pullstatus {now.version} at {where}", "bold")
    head.append(f", up {age(now.up_s)}", "not bold")
    if now.accepting is False:
        head.append("  TAKES NO MORE RECORDS", "bold red")
    flows = _grid("", "in all", "a second")
    for name, flow in (
        ("records in", now.records_in),
        ("records out", now.records_out),
        ("refused", now.refused),
        ("shed", now.shed),
        ("commits", now.commits),
    ):
        flows.add_row(name, f"{flow.total:,}", f"{flow.per_s:,.1f}")
    size = now.store_bytes
    kept = "size not known now" if size is None else f"{size / _GIB:,.2f} GiB"
    if now.free_bytes is not None:
        kept += f", {now.free_bytes / _GIB:,.1f} GiB free"
    lines = Table(box=None, pad_edge=False, show_header=False)
    for name, value in (
        ("waiting", _told(now.waiting, f", the oldest for {age(now.oldest_waiting_s or 0)}")),
        (
            "in hand",
            f"{_told(now.in_hand, ' pages of readers')}; {now.held:,} pulls wait for a record",
        ),
        ("parked", _told(now.parked, " items that could not be read")),
        ("store", f"{now.engine or 'engine not told'}, {kept}; {now.store_queued:,} wait for it"),
        ("commit", f"{now.commit_s * 1000:,.1f} ms on average"),
        ("server", f"workers {now.workers}, connections {now.connections:,}"),
    ):
        lines.add_row(Text(name, "bold"), value)
    parts: list[Table | Text] = [head, Text(), flows, Text(), lines]
    if now.oldest:
        oldest = _grid("waits longest", "kind", "waiting", "oldest")
        for row in now.oldest:
            oldest.add_row(str(row.sdkappid), row.kind, f"{row.waiting:,}", age(row.oldest_s))
        parts += [Text(), oldest]
    return Group(*parts)


def _told(count: int | None, what: str) -> str:
    return "not known now" if count is None else f"{count:,}{what}"


def age(seconds: float) -> str:
    """A span of time for people, in its two largest units."""
    left = int(seconds)
    sizes = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))
    first = next((place for place, (_, size) in enumerate(sizes) if left >= size), 3)
    said = []
    for unit, size in sizes[first : first + 2]:
        count, left = divmod(left, size)
        said.append(f"{count} {unit}")
    return " ".join(said)


def _grid(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(first)
    for column in others:
        table.add_column(column, justify="right")
    return table
