"""Pulls of full pages by sides that take turns, where what they take has to be laid ready first.

How many records a run takes is found by trying, with ever more; a run in which they ran out is
none. Used where the amounts differ by orders of magnitude; for the product's own everyday drain see
`Bench.keep_ready`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import msgspec

from bench.measure import Bench, idle
from bench.process import Running, Usage, paused
from bench.records import as_array
from bench.results import Line
from bench.server import PAGE
from pullstatus.cli import load
from pullstatus.cli.load import Load, LoadFailed, Measured, Request

FIRST_FILL = 1_000  # records a second that anybody hands out
FILL_S = 30.0  # what laying records ready for a run may take
FRONT_S = 1_800.0  # what a front of the peers may take for that
ARRIVE_S = 3.0  # how long records may be on their way to whoever pulls
SPARE = 1.3
LEFT = 64  # pages that should be left at the end of a run


class Drain:
    """One of those that take turns.

    A run is shorter where laying records ready for a long one would take minutes.
    """

    def __init__(
        self,
        bench: Bench,
        line: Line,
        running: Callable[[], Running],
        make: Callable[[], Load],
        fill: Callable[[int], int],
        behind: Sequence[int] = (),
        rested_s: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """For a server that nothing waits at yet.

        Args:
            line: takes the figures, in pages.
            make: pulls of pages, asked anew for every run.
            fill: lays so many records ready, or more; returns how many.
            behind: roots of further processes that work for the server.
            rested_s: how long `fill` has let lie what it laid, in all; that is no part of how fast
                it lays.
        """
        self._bench = bench
        self._line = line
        self._running = running
        self._make = make
        self._fill = fill
        self._behind = tuple(behind)
        self._rested_s = rested_s
        self._waiting = 0
        self._taken_per_s = self._filled_per_s = float(FIRST_FILL)

    def pids(self) -> tuple[int, ...]:
        """Roots of all that works for it."""
        return self._running().pid, *self._behind

    def measure(self) -> None:
        """Take one more run into the line.

        Raises:
            LoadFailed: answers were errors, or no full pages.
        """
        due = len(self._line.per_s) + 1
        if due == 1 and self._bench.warmup_s:
            self._run()  # to warm up, and to learn how fast it is
        while len(self._line.per_s) < due:
            found = self._run()
            if found is not None:
                self._line.add(*found)

    def _run(self) -> tuple[Measured, Usage, float] | None:
        """One run, and the share of full pages in its answers; None if records ran out."""
        affordable_s = FILL_S * self._filled_per_s / self._taken_per_s / SPARE
        seconds = max(1.0, min(self._bench.seconds, affordable_s))
        self._lay(round(self._taken_per_s * seconds * SPARE) + LEFT * PAGE)
        page_bytes = self._full_page_bytes()
        if not page_bytes:
            raise LoadFailed("no full page came, although there should be many")
        run = msgspec.structs.replace(self._bench, seconds=seconds)
        measured, usage = run.watched(
            f"{self._line.label}, run {len(self._line.per_s) + 1} of {run.runs}",
            self._running(),
            self._make(),
            behind=self._behind,
        )
        pages = measured.answer_bytes / page_bytes
        self._taken_per_s = max(self._taken_per_s, pages * PAGE / measured.seconds)
        if not self._full_page_bytes():
            self._waiting, self._taken_per_s = 0, 2 * self._taken_per_s
            return None
        self._waiting -= round(pages + 3) * PAGE
        # Answers may be short although more waits: credited is what they held.
        return measured, usage, min(1.0, pages / measured.requests)

    def _lay(self, wanted: int) -> None:
        if wanted > 4 * FILL_S * self._filled_per_s:
            raise LoadFailed(f"laying {wanted:,} records ready, for a second, would take too long")
        if wanted <= self._waiting:
            return
        self._bench.say(f"{self._line.label}: laying {wanted - self._waiting:,} records ready")
        begun = time.monotonic() - self._rested_s()
        laid = self._fill(wanted - self._waiting)
        self._waiting += laid
        self._filled_per_s = laid / (time.monotonic() - self._rested_s() - begun)

    def _full_page_bytes(self) -> int:
        """Size of a full answer, 0 when there is none.

        Where a broker hands records on, they may yet be on their way.
        """
        deadline = time.monotonic() + ARRIVE_S
        while time.monotonic() < deadline:
            answer = load.look(self._running().address, self._make().requests[-1])
            if answer.body.count(b'"sid":') + answer.body.count(b'"SerialNo":') == PAGE:
                return answer.wire_bytes
            time.sleep(0.2)
        return 0


def in_turns(bench: Bench, drains: Sequence[Drain]) -> None:
    """Measure all run by run, one at a time, as `Bench.in_turns` does."""
    for run in range(bench.runs):
        for drain in drains[:: 1 if run % 2 == 0 else -1]:
            with paused(*idle(drain.pids(), (each.pids() for each in drains))):
                drain.measure()


def by_posts(
    running: Callable[[], Running], post: Callable[[bytes], Request]
) -> Callable[[int], int]:
    """Lays records ready by posting pages of them to a server, which stays up."""
    posts = Load([post(as_array(PAGE, first)) for first in range(0, 500 * PAGE, PAGE)], 32)

    def fill(count: int) -> int:
        laid = 0
        while laid < count:
            laid += load.run(running().address, posts, 1).requests * PAGE
        return laid

    return fill


def by_front(running: Running, queue: str) -> Callable[[int], int]:
    """Has a front of the peers (`bench.peers.front`) lay records ready in a queue of its own."""

    def fill(count: int) -> int:
        asked = Request(f"/fill/{queue}?count={count}", b"")
        load.look(running.address, asked, timeout_s=FRONT_S)
        return count

    return fill
