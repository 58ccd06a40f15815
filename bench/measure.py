"""How a scenario is measured: warmed up, run, run again, each time beside its ceiling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from bench import ceiling
from bench.process import Running, Usage, Watch
from bench.results import Indicator, Line, share
from bench.server import PAGE, Product
from pullstatus.cli import load
from pullstatus.cli.load import Load, LoadFailed, Measured

TRIAL_RECORDS = 3_000_000
TRIAL_S = 1.0
SPARE = 1.3  # how many more records are laid ready than the trial says will be taken


class Bench(msgspec.Struct, frozen=True):
    """What holds for every scenario of a call.

    Attributes:
        folder: where stores are made; on a disk.
        mixed_s: length of the one run of constant rate.
        scale: by which amounts (records, applications) are multiplied.
        say: told what is done next.
        done: told how much of it is done, as a share.
    """

    folder: Path
    seconds: float = 5.0
    runs: int = 1
    warmup_s: float = 1.0
    scale: float = 1.0
    mixed_s: float = 600.0
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

    def beside_ceiling(
        self,
        product: Product,
        make: Callable[[], Load],
        *,
        unit: str,
        factor: float = 1.0,
        prepare: Callable[[], None] = lambda: None,
    ) -> tuple[Line, Line]:
        """Measure a load on the product, and the same load on the ceiling right after each run.

        Args:
            make: the load, all of whose requests get answers of one size; asked anew for every run,
                as a signature grows old.
            factor: how many of the unit a request stands for.
            prepare: called before every run; may restart the server.
        """
        ours, top = Line("pullstatus", unit), Line("ceiling", unit)
        prepare()
        answer = load.look(product.address, make().requests[0])
        with ceiling.start(answer, product.folder) as above:
            due = load.look(above.address, make().requests[0])
            if (due.status, due.body) != (answer.status, answer.body):
                raise LoadFailed("the ceiling does not answer what the product does")
            for run in range(1, self.runs + 1):
                if run > 1:
                    prepare()
                what = make()
                self.warm_up(product.address, what)
                assert product.running is not None
                text = f"run {run} of {self.runs}"
                ours.add(*self.watched(text, product.running, what, answer.wire_bytes), factor)
                with product.running.paused():
                    self.warm_up(above.address, what)
                    text = f"its ceiling, {text}"
                    top.add(*self.watched(text, above, what, due.wire_bytes), factor)
        return ours, top

    def keep_ready(
        self, product: Product, make: Callable[[], Load], floor: int, *, at_once: int = PAGE
    ) -> Callable[[], None]:
        """Something that lays enough records ready for one run of pulls, and serves them.

        How many a run takes is found in a short trial. At its end, `floor` still wait.
        """
        taken_per_s = 0.0

        def serve(count: int) -> None:
            product.stop()
            self.fill(product, count - product.waiting(), at_once=at_once)
            product.serve()

        def prepare() -> None:
            nonlocal taken_per_s
            if not taken_per_s:
                serve(TRIAL_RECORDS)
                self.say("finding out how many records a run takes")
                taken_per_s = load.run(product.address, make(), TRIAL_S).per_s * PAGE
            serve(floor + round(taken_per_s * SPARE * (self.seconds + self.warmup_s)))

        return prepare


def to_ceiling(
    ours: Line, top: Line, goal: float | None, p99_goal: float | None = None
) -> list[Indicator]:
    """The two ratios that most scenarios are judged by."""
    return [
        Indicator(f"{ours.unit} to ceiling", share(ours.per_s, top.per_s), goal),
        Indicator(
            "p99 to ceiling's",
            share(ours.p99_ms, top.p99_ms),
            p99_goal,
            lower_is_better=True,
            latency=True,
        ),
    ]
