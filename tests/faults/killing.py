"""Consumers and their server are killed at random instants, over a way that loses answers.

    tally = kill_readers(folder, seed, kills)   # bounded in count and in time
    assert tally.sound, tally

Four consumers of other kinds (see consumers.py) share one mailbox. One after the other is killed,
by TERM or by kill -9, or the server is, or its store's process, and is started again; meanwhile
answers are cut at any byte. In the end everybody is left alone until nothing is left to hand out,
and what they have seen is compared with the server's journal.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from pullstatus.store import JournalRow, open_store
from tests.faults.consumers import (
    Consumer,
    Forked,
    Place,
    Seen,
    Shell,
    awaiting,
    blocking,
    command,
)
from tests.faults.load import pages
from tests.harness import PATIENCE_S, STATUS, App, Program, statuses
from tests.proxy import CuttingProxy

SERVER = 0.1  # how many of the kills meet the server
CUTTING = 0.3  # at how many of the kills some of the next answers of each consumer are cut
FED_AT_ONCE = 400
WAITING_MIN = 800  # so that nobody has nothing to do
LOOK_S = 0.1
PROGRESS_S = 5  # how long a kill waits for its victim to get somewhere
START_S = 10 * PATIENCE_S  # of a server: a run of many minutes is not to end by a busy machine
COUNTS_MAX = (1, 7, 30, 100)

BY_TERM, BY_KILL, OF_SERVER = "by TERM", "by kill -9", "of the server"


@dataclass
class Tally:
    """What was done, and what came of it.

    Attributes:
        kills: how many of each kind.
        given_again: pages that a reader was handed more than once.
        never_seen: records that whoever took them has not seen.
        seen_twice: records that came on two pages.
        acknowledged_by_none, acknowledged_by_two: records, counting as acknowledged what
            a pull without a reader has taken.
        audited: `pullstatus audit` found nothing.
    """

    records: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    cuts: int = 0
    given_again: int = 0
    never_seen: int = 0
    seen_twice: int = 0
    acknowledged_by_none: int = 0
    acknowledged_by_two: int = 0
    audited: bool = False

    @property
    def sound(self) -> bool:
        """Whether every promise was kept."""
        wrong = (
            self.never_seen + self.seen_twice + self.acknowledged_by_none + self.acknowledged_by_two
        )
        return self.audited and not wrong

    def __str__(self) -> str:
        kills = ", ".join(f"{self.kills[kind]:,} {kind}" for kind in (BY_TERM, BY_KILL, OF_SERVER))
        return (
            f"{self.kills.total():,} kills ({kills}), {self.cuts:,} answers cut;"
            f" {self.records:,} records, {self.given_again:,} pages given again;"
            f" {self.never_seen} never seen, {self.seen_twice} seen twice by pull id,"
            f" {self.acknowledged_by_none} acknowledged by none,"
            f" {self.acknowledged_by_two} by two; audit {'sound' if self.audited else 'FAILED'}"
        )


def kill_readers(
    folder: Path,
    seed: object,
    kills: int,
    *,
    works: Sequence[Callable[[Place, int], None]] = (blocking, awaiting, command),
    shell: bool = True,
    time_s_max: float = 3600,
    quiet_s: float = PATIENCE_S,
    done: Callable[[int], None] = lambda _count: None,
) -> Tally:
    """Kill so many times, or until the time is over, and judge.

    Args:
        works: which consumers take part, beside the shell.
        quiet_s: in the end, what has left the mailbox will not be seen any more when nothing has
            been for so long.
        done: told after each kill how many there were.
    """
    with ExitStack() as stack:
        program = Program(folder)
        app = program.create_app()
        program.start()
        stack.callback(_end, program)
        run = _Run(program, app, Random(f"{seed}/readers"))
        for place, make in [
            *((name.__name__, _forked(name)) for name in works),
            *([("shell", Shell)] if shell else []),
        ]:
            proxy = stack.enter_context(CuttingProxy(program.host, program.port))
            consumer = make(Place(proxy.address, app, folder / place))
            stack.callback(consumer.kill, signal.SIGKILL)
            run.join(consumer, proxy)
        deadline = time.monotonic() + time_s_max
        run.feed()
        for count in range(1, kills + 1):
            if time.monotonic() > deadline:
                break
            run.kill_one()
            done(count)
        return run.settle(quiet_s)


def _end(program: Program) -> None:
    if program.process is not None:  # something went wrong
        program.kill()


def _forked(work: Callable[[Place, int], None]) -> Callable[[Place], Consumer]:
    # Of the exit statuses of `pull`, 4 and 5 ask to be started again.
    return lambda place: Forked(place, work, frozenset({4, 5} if work is command else ()))


class _Run:
    """A server, its consumers, and who kills them."""

    def __init__(self, program: Program, app: App, rng: Random) -> None:
        self._program = program
        self._app = app
        self._rng = rng
        self._consumers: list[Consumer] = []
        self._proxies: list[tuple[CuttingProxy, Random]] = []
        self._fed_s = 0.0
        self.tally = Tally()

    def join(self, consumer: Consumer, proxy: CuttingProxy) -> None:
        """Let one more take part."""
        self._consumers.append(consumer)
        self._proxies.append((proxy, Random(self._rng.random())))
        consumer.start(self._rng.choice(COUNTS_MAX))

    def feed(self) -> None:
        """Have enough waiting, as far as an old look tells."""
        if time.monotonic() < self._fed_s + LOOK_S:
            return
        self._fed_s = time.monotonic()
        waiting = self._program.metrics()[f'pullstatus_waiting{{kind="{STATUS.path}"}}']
        if waiting < WAITING_MIN:
            self._program.feed(self._app, statuses(FED_AT_ONCE, first=self.tally.records + 1))
            self.tally.records += FED_AT_ONCE

    def kill_one(self) -> None:
        """Kill somebody in the middle of something, and start it again."""
        rng = self._rng
        consumer = rng.choice(self._consumers)
        for proxy, own in self._proxies:
            if rng.random() < CUTTING:
                proxy.cut(*rng.choices((None, own.randrange), k=rng.randrange(1, 4)))
        if rng.random() < 0.7:
            self._wait_for_progress(consumer)
        time.sleep(rng.uniform(0, 0.1))  # in the middle of whatever comes next
        for one in self._consumers:
            assert not (reason := one.ended()), reason
        if rng.random() < SERVER:
            self._kill_server()
        else:
            how = rng.choice((signal.SIGTERM, signal.SIGKILL))
            consumer.kill(how)
            self.tally.kills[BY_TERM if how is signal.SIGTERM else BY_KILL] += 1
            consumer.start(rng.choice(COUNTS_MAX))
        self.feed()

    def _wait_for_progress(self, consumer: Consumer) -> None:
        before = consumer.progress()
        deadline = time.monotonic() + PROGRESS_S
        while consumer.progress() == before and time.monotonic() < deadline:
            self.feed()
            assert not (reason := consumer.ended()), reason
            time.sleep(0.005)

    def _kill_server(self) -> None:
        program = self._program
        assert program.process is not None
        victim = self._rng.choice(program.processes())
        os.kill(victim, signal.SIGKILL)
        status = program.process.wait(PATIENCE_S)
        assert status == (-signal.SIGKILL if victim == program.process.pid else 70), program.log()
        self.tally.kills[OF_SERVER] += 1
        program.kill()  # what is left of it here
        program.start(patience_s=START_S)
        for proxy, _ in self._proxies:
            proxy.upstream = program.host, program.port

    def settle(self, quiet_s: float) -> Tally:
        """Leave everybody alone until nothing is left; then judge."""
        for proxy, _ in self._proxies:
            proxy.cut_no_more()
        moved = [0]
        since = time.monotonic()
        while not (taken := self._all_taken()) or not self._all_seen():
            if time.monotonic() > since + (quiet_s if taken else PATIENCE_S):
                break
            for one in self._consumers:
                assert not (reason := one.ended()), reason
            before, moved = moved, [one.progress() for one in self._consumers]
            since = since if moved == before else time.monotonic()
            time.sleep(0.1)
        for one in self._consumers:
            one.kill(signal.SIGTERM)
        self.tally.cuts = sum(proxy.cuts for proxy, _ in self._proxies)
        program = self._program
        assert program.stop() == 0
        self.tally.audited = program.cli("audit", "--json")["sound"]
        wanted = [record["sid"] for record in statuses(self.tally.records)]
        seen = {one.name: one.seen() for one in self._consumers}
        return judge(self.tally, wanted, seen, asyncio.run(_journal(program, self._app)))

    def _all_taken(self) -> bool:
        program, sdkappid = self._program, str(self._app.sdkappid)
        in_hand = program.cli("readers", "list", "--sdkappid", sdkappid)
        return not program.waiting(self._app) and not in_hand

    def _all_seen(self) -> bool:
        seen = {sid for one in self._consumers for _, sid in one.seen()}
        return len(seen) == self.tally.records


async def _journal(program: Program, app: App) -> list[tuple[JournalRow, list[str]]]:
    store = await open_store(program.store)
    try:
        return [
            (row, [f"8:{number}" for number in ids]) for row, ids in await pages(store, app, STATUS)
        ]
    finally:
        await store.close()


def judge(
    tally: Tally,
    wanted: Iterable[str],
    seen: Mapping[str, Seen],
    journal: Iterable[tuple[JournalRow, Sequence[str]]],
) -> Tally:
    """Fill in what became of the records.

    Args:
        wanted: the records that were accepted.
        seen: of each consumer, by its name, the pages and what it saw of them.
        journal: every page that was handed out, and the records on it.
    """
    own = {name: {sid for _, sid in found} for name, found in seen.items()}
    # `pullstatus pull` makes up its reader's name, or has a key.
    anybody = {sid for sids in own.values() for sid in sids}
    pages_of: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)
    for name, found in seen.items():
        for page, sid in found:
            pages_of[sid].add((name, page))
    unseen: set[str] = set()
    finished: Counter[str] = Counter()
    for row, sids in journal:
        tally.given_again += row.given > 1
        unseen.update(set(sids) - own.get(row.reader or "", anybody))
        if row.reader is None or row.acked_ms is not None:
            finished.update(sids)
    tally.never_seen = sum(sid in unseen or sid not in pages_of for sid in wanted)
    tally.seen_twice = sum(len(found) > 1 for found in pages_of.values())
    tally.acknowledged_by_none = sum(not finished[sid] for sid in wanted)
    tally.acknowledged_by_two = sum(count > 1 for count in finished.values())
    return tally
