"""How a scenario is measured: warmed up, then run in turns with what it is compared to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from bench import ceiling
from bench.process import Running, Usage, Watch, paused
from bench.results import Indicator, Line, median, paired
from bench.server import PAGE, Product
from pullstatus.cli import load
from pullstatus.cli.load import Load, LoadFailed, Measured

TRIAL_RECORDS = 3_000_000
TRIAL_S = 1.0
SPARE = 1.3  # how many more records are laid ready than the trial says will be taken
LAID_MAX = 6_000_000  # records that are laid ready at a time; they are a gigabyte, some minutes


class Side(NamedTuple):
    """One of those that take turns.

    Attributes:
        line: takes its figures.
        running: its server, which `ready` may have started anew.
        make: the load, whose requests get answers of one size, or of one size on average; asked
            anew for every run, as a signature grows old.
        answer_bytes: that size on the wire.
        factor: how many of the line's unit a request stands for.
        ready: called before every run; whether it has started the server anew.
        behind: roots of further processes that work for it.
    """

    line: Line
    running: Callable[[], Running]
    make: Callable[[], Load]
    answer_bytes: float | None
    factor: float = 1.0
    ready: Callable[[], bool] = lambda: False
    behind: tuple[int, ...] = ()

    def pids(self) -> tuple[int, ...]:
        """Roots of all that works for it."""
        return self.running().pid, *self.behind


class Bench(msgspec.Struct, frozen=True):
    """What holds for every scenario of a call.

    Attributes:
        folder: where stores are made; on a disk.
        seconds, runs: length of a run and how many there are of each; of those that take turns
            many short ones, as all of a turn should find the machine in one state.
        mixed_s: length of the one run of constant rate.
        scale: by which amounts (records, applications) are multiplied.
        before: a checkout whose server is what the present one is compared to.
        mailboxes: of the stores of `growth`, fewest first; empty: as many as it says.
        say: told what is done next.
        done: told how much of it is done, as a share.
    """

    folder: Path
    seconds: float = 1.0
    runs: int = 1
    warmup_s: float = 1.0
    scale: float = 1.0
    mixed_s: float = 600.0
    before: Path | None = None
    mailboxes: tuple[int, ...] = ()
    say: Callable[[str], None] = lambda _text: None
    done: Callable[[float], None] = lambda _share: None

    def scaled(self, amount: int) -> int:
        """So many, by the scale asked for."""
        return max(1, round(amount * self.scale))

    def fill(self, product: Product, count: int, *, at_once: int = PAGE) -> None:
        """Lay records ready in the first mailbox."""
        self.say(f"laying {count:,} records ready")
        product.fill(count, at_once=at_once, step=self.done)

    def watched(
        self,
        text: str,
        running: Running,
        what: Load,
        answer_bytes: float | None = None,
        behind: Sequence[int] = (),
    ) -> tuple[Measured, Usage]:
        """One measured run against a server; `behind` are processes that work for it."""
        self.say(text)
        with Watch(running.pid, *behind) as watch:
            measured = load.run(running.address, what, self.seconds, answer_bytes)
        return measured, watch.usage

    def warm_up(self, address: str, what: Load) -> None:
        """Let everybody get into their stride."""
        if self.warmup_s:
            self.say("warming up")
            load.run_unchecked(address, what, self.warmup_s)

    def in_turns(self, sides: Sequence[Side]) -> None:
        """Measure all sides run by run, one at a time, the others held still meanwhile.

        Every other turn goes the other way round, so that none of them is always the first.
        """
        cold = set(range(len(sides)))
        for run in range(1, self.runs + 1):
            cold |= {place for place, side in enumerate(sides) if side.ready()}
            for place in range(len(sides))[:: 1 if run % 2 else -1]:
                side = sides[place]
                what = side.make()
                with paused(*idle(side.pids(), (each.pids() for each in sides))):
                    if place in cold:
                        self.warm_up(side.running().address, what)
                    text = f"{side.line.label}, run {run} of {self.runs}"
                    found = self.watched(text, side.running(), what, side.answer_bytes, side.behind)
                side.line.add(*found, side.factor)
            cold.clear()

    def beside_ceiling(
        self,
        product: Product,
        make: Callable[[], Load],
        *,
        unit: str,
        factor: float = 1.0,
        ready: Callable[[], bool] = lambda: False,
        besides: Sequence[Side] = (),
    ) -> tuple[Line, Line]:
        """Measure a load on the product in turns with the same load on the ceiling.

        Args:
            make, factor, ready: of the product, as a `Side` has them.
            besides: further ones that take turns with both.
        """
        ours, top = Line("pullstatus", unit), Line("ceiling", unit)
        ready()
        answer = load.look(product.address, make().requests[0])
        with ceiling.start(answer, product.folder) as above:
            due = load.look(above.address, make().requests[0])
            if (due.status, due.headers, due.body) != (answer.status, answer.headers, answer.body):
                raise LoadFailed("the ceiling does not answer what the product does")
            self.in_turns(
                [
                    Side(ours, product.server, make, answer.wire_bytes, factor, ready),
                    Side(top, lambda: above, make, answer.wire_bytes, factor),
                    *besides,
                ]
            )
        return ours, top

    def keep_ready(
        self, product: Product, make: Callable[[], Load], floor: int, *, at_once: int = PAGE
    ) -> Callable[[], bool]:
        """Something that lays enough records ready for the next run of pulls, and serves them.

        How many a run takes is found in a short trial. At the end of each, `floor` still wait.
        What is laid ready lasts for several runs, if that is not too much at a time.
        """
        taken_per_s = 0.0

        def serve(count: int) -> None:
            product.stop()
            self.fill(product, count - product.waiting(), at_once=at_once)
            product.serve()

        def ready() -> bool:
            nonlocal taken_per_s
            if not taken_per_s:
                serve(TRIAL_RECORDS)
                self.say("finding out how many records a run takes")
                taken_per_s = load.run(product.address, make(), TRIAL_S).per_s * PAGE
            a_run = taken_per_s * SPARE * self.seconds
            warmup = taken_per_s * SPARE * self.warmup_s
            if product.waiting() >= floor + warmup + a_run:
                return False
            runs = min(self.runs, max(1, int((LAID_MAX - warmup) / a_run)))
            serve(floor + round(warmup + runs * a_run))
            return True

        return ready


def idle(busy: Sequence[int], pids: Iterable[Sequence[int]]) -> list[int]:
    """Of all these processes, those that are not `busy`: sides may share a server."""
    return [pid for each in pids for pid in each if pid not in busy]


def to_ceiling(
    ours: Line, top: Line, goal: float | None = None, *, processor_goal: float | None = None
) -> list[Indicator]:
    """The ratios to the ceiling, and the processor time that holds where rates do not."""
    return [
        Indicator(f"{ours.unit} to the ceiling's", paired(ours.per_s, top.per_s), goal),
        to_processor(ours, top, "the ceiling's", processor_goal),
        microseconds(ours),
        Indicator(
            "p99 to the ceiling's",
            paired(ours.p99_ms, top.p99_ms),
            lower_is_better=True,
            latency=True,
        ),
    ]


def to_processor(ours: Line, other: Line, whose: str, goal: float | None = None) -> Indicator:
    """Processor time of a request to that of another one's."""
    ratio = paired(ours.us, other.us)
    return Indicator(f"processor to {whose}", ratio, goal, lower_is_better=True)


def microseconds(line: Line) -> Indicator:
    """Processor time of a request."""
    return Indicator("processor of a request, µs", median(line.us), lower_is_better=True)
