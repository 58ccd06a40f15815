"""The wall clock jumps, and nothing but the acceptance of signatures changes.

Nothing is lost, repeated or reordered. What is remembered for a time (a pull's key, a batch's key,
a callback's records) is remembered for that time by the wall clock, to the millisecond.

`PULLSTATUS_JUMPS=500 PULLSTATUS_SEED=7` asks for a longer run under load, or for another one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from random import Random

import httpx
import pytest

from pullstatus import apps, limits
from pullstatus.apps import Registry
from pullstatus.mailbox.upkeep import clean_up
from pullstatus.server.routes import Routes
from pullstatus.server.serve import ServeOptions, Server
from tests.faults.load import Load, Mix, app_mailbox
from tests.harness import STATUS, Answer, App, Program, Record, answer_of, replies, statuses
from tests.sealing import masters_of
from tests.store.build import derive_all

JUMPS = int(os.environ.get("PULLSTATUS_JUMPS", "25"))
SEED = os.environ.get("PULLSTATUS_SEED", "1")

NOW_S = 1_767_000_000
MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86_400
KEY_S = limits.PULL_KEY_S
REPEAT_S = limits.INGEST_REPEAT_S
IN_1970 = 1000 - NOW_S
IN_2038 = 2_147_483_647 - NOW_S  # the last second of a signed 32-bit clock
JUMPS_S = [11 * MINUTE_S, -11 * MINUTE_S, DAY_S, -DAY_S, IN_1970, IN_2038]


class Clock:
    """Both clocks of a server, moved by hand: the wall's and the one for rates."""

    def __init__(self) -> None:
        self.ms = NOW_S * 1000
        self.monotonic_s = 0.0

    def now_ms(self) -> int:
        return self.ms

    @property
    def now_s(self) -> int:
        return self.ms // 1000

    def jump(self, by_s: float) -> None:
        self.ms += round(by_s * 1000)


class ClockedServer(Server):
    """A server that goes by a `Clock`."""

    def __init__(self, options: ServeOptions, clock: Clock) -> None:
        super().__init__(options)
        self._clock = clock

    async def build(self, registry: Registry) -> Routes:
        return Routes(
            self.store,
            registry,
            now_ms=self._clock.now_ms,
            monotonic_s=lambda: self._clock.monotonic_s,
        )


class Caller:
    """Requests to a server within this event loop."""

    def __init__(
        self, program: Program, server: Server, clock: Clock, http: httpx.AsyncClient
    ) -> None:
        self.program = program
        self.server = server
        self.clock = clock
        self._http = http

    async def post(
        self, target: str, body: bytes | list[Record] | Record, **headers: str
    ) -> Answer:
        """POST; header names with underscores for dashes."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if isinstance(body, bytes):
            return answer_of(await self._http.post(target, content=body, headers=named))
        return answer_of(await self._http.post(target, json=body, headers=named))

    async def pull(
        self, app: App, count_max: int = 100, *, at_s: int | None = None, key: str = ""
    ) -> Answer:
        """Pull, signed now by the server's clock, or at another time."""
        target, body = app.request(STATUS, count_max, at=self.clock.now_s if at_s is None else at_s)
        return await self.post(target, body, **({"Idempotency_Key": key} if key else {}))

    async def feed(self, app: App, records: list[Record], key: str = "") -> Answer:
        """Put delivery statuses in."""
        answer = await self.post(
            f"/ingest/{app.sdkappid}/{STATUS.path}",
            records,
            Authorization=f"Bearer {self.program.token}",
            **({"Idempotency_Key": key} if key else {}),
        )
        assert answer.json == {"accepted": len(records)}
        return answer

    async def metrics(self) -> str:
        """The figures as text."""
        answer = await self._http.get("/metrics")
        assert answer.status_code == 200
        return answer.text


@contextlib.asynccontextmanager
async def serving(program: Program, clock: Clock) -> AsyncIterator[Caller]:
    """A server on the program's store, within this event loop, that goes by `clock`."""
    server = ClockedServer(ServeOptions(f"{program.store}?commits=thread", port=0), clock)
    async with asyncio.TaskGroup() as tasks:
        run = tasks.create_task(server.run())
        await server.started.wait()
        program.host, _, port = server.address.removeprefix("http://").rpartition(":")
        program.port = int(port)
        try:
            async with program.client() as http:
                yield Caller(program, server, clock, http)
        finally:
            program.port = 0
            server.stop()
            await run


def with_server(program: Program, clock: Clock, work: Callable[[Caller], Awaitable[None]]) -> None:
    """Serve for as long as `work` takes, then audit."""

    async def run() -> None:
        async with serving(program, clock) as caller:
            await work(caller)

    asyncio.run(run())
    assert program.cli("audit", "--json")["sound"]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Not started: it has the store, and the commands."""
    return Program(tmp_path)


@pytest.fixture
def clock() -> Clock:
    return Clock()


# --- under load -----------------------------------------------------------------------------------


def test_jumps_under_load(program: Program, clock: Clock) -> None:
    """Whatever the clock does: nothing lost, doubled or reordered, no refusal but 1021.

    Retention runs after each jump, with the wrong time: it must not touch what waits.
    """
    rng = Random(SEED)
    mix = Mix(feeders=9, pullers=4)  # so that much waits
    load = Load(program, rng, mix, now_s=lambda: clock.now_s, refusals=frozenset({1021}))

    async def run() -> None:
        async with serving(program, clock) as caller:
            store = caller.server.store

            async def jumps() -> None:
                for _ in range(JUMPS):
                    await load.answered(rng.randrange(10, 60))
                    home = rng.random() < 0.3
                    clock.ms = NOW_S * 1000 if home else clock.ms
                    clock.jump(rng.choice([*JUMPS_S, -0.001, -1, 1, rng.uniform(-KEY_S, KEY_S)]))
                    clock.ms = max(clock.ms, 0)
                    registry = apps.Registry(store, masters_of(store))
                    await registry.refresh()
                    await derive_all(store)
                    await clean_up(
                        store,
                        registry.applications.values(),
                        now_ms=clock.ms,
                        retention_days=limits.RETENTION_DAYS_MIN,
                    )

            await load.live(jumps)

    asyncio.run(run())
    load.now_s = time.time
    with program:
        report = load.settle()
    assert report.acknowledged


# --- signatures -----------------------------------------------------------------------------------


@pytest.mark.parametrize("at_s", [NOW_S, 1000, 2_147_483_647])
@pytest.mark.parametrize("millisecond", [0, 999])
def test_signatures_are_good_for_600_seconds_either_way(
    program: Program, clock: Clock, at_s: int, millisecond: int
) -> None:
    """Exactly 600 passes, 601 does not and consumes nothing, in 1970 and 2038 as today."""
    app = program.create_app()
    clock.ms = at_s * 1000 + millisecond

    async def work(caller: Caller) -> None:
        records = statuses(4)
        await caller.feed(app, records)
        for off_s, result in [(601, 1021), (600, 0), (-601, 1021), (-600, 0), (0, 0)]:
            answer = await caller.pull(app, 1, at_s=at_s + off_s)
            assert answer.result == result, off_s
            if result == 0:
                assert answer.data == [records.pop(0)]
        [row] = await caller.server.store.backlog(app.sdkappid)
        assert (row.mailbox, row.waiting) == (app_mailbox(app, STATUS), 1)

    with_server(program, clock, work)


@pytest.mark.parametrize("by_s", JUMPS_S)
def test_jump_spoils_signatures_and_nothing_else(program: Program, clock: Clock, by_s: int) -> None:
    """A request signed before the jump is refused and took nothing; signed anew it goes on."""
    app = program.create_app()

    async def work(caller: Caller) -> None:
        records = statuses(9)
        await caller.feed(app, records[:6])
        assert (await caller.pull(app, 2)).data == records[:2]
        signed_s = clock.now_s
        clock.jump(by_s)
        assert (await caller.pull(app, 2, at_s=signed_s)).result == 1021
        await caller.feed(app, records[6:])
        assert "pullstatus_" in await caller.metrics()
        answer = await caller.pull(app, 5)
        assert (answer.data, answer.waiting) == (records[2:7], 2)
        clock.jump(-by_s)
        assert (await caller.pull(app, 5, at_s=signed_s)).data == records[7:]

    with_server(program, clock, work)


def test_strict_signature_stays_used_when_the_clock_steps_back(
    program: Program, clock: Clock
) -> None:
    """Also after a step that makes it look newer, as long as it is fresh at all."""
    app = program.create_app()
    program.cli("app", "set", str(app.sdkappid), "--strict", "on")

    async def work(caller: Caller) -> None:
        await caller.feed(app, statuses(2))
        target, body = app.request(STATUS, 1, at=NOW_S)
        assert (await caller.post(target, body)).data == statuses(1)
        for by_s in (-600, 600, 600):
            clock.jump(by_s)
            assert (await caller.post(target, body)).result == 1001
        clock.jump(1)
        assert (await caller.post(target, body)).result == 1021
        assert (await caller.pull(app, 1)).data == statuses(1, 2)

    with_server(program, clock, work)


def test_rate_does_not_follow_the_wall_clock(program: Program, clock: Clock) -> None:
    """A jump neither refills a bucket nor freezes it."""
    app = program.create_app()
    program.cli("app", "set", str(app.sdkappid), "--rate", "2")

    async def work(caller: Caller) -> None:
        for by_s in [0, *JUMPS_S]:
            clock.ms = NOW_S * 1000
            assert [(await caller.pull(app)).result for _ in range(3)] == [0, 0, 60007]
            clock.jump(by_s)
            assert (await caller.pull(app)).result == 60007
            clock.monotonic_s += 1

    with_server(program, clock, work)


# --- what is remembered for a time ----------------------------------------------------------------


@pytest.mark.parametrize("by_s", [11 * MINUTE_S, -11 * MINUTE_S, KEY_S, -DAY_S, IN_1970, -0.001, 0])
def test_key_brings_its_page_again_across_a_jump(
    program: Program, clock: Clock, by_s: float
) -> None:
    """For 24 hours by the wall clock, byte for byte; the pulls between go on where they were."""
    app = program.create_app()

    async def work(caller: Caller) -> None:
        records = statuses(6)
        await caller.feed(app, records)
        first = await caller.pull(app, 2, key="k")
        clock.jump(by_s)
        assert (await caller.pull(app, 2)).data == records[2:4]
        again = await caller.pull(app, 2, key="k")
        assert again.content == first.content
        assert (await caller.pull(app, 3, key="k")).result == 1004
        assert (await caller.pull(app)).data == records[4:]

    with_server(program, clock, work)


@pytest.mark.parametrize("by_s", [KEY_S + 0.001, IN_2038])
def test_key_over_its_time_takes_the_next_page_never_the_old_one(
    program: Program, clock: Clock, by_s: float
) -> None:
    """What a lost answer held is then in the journal, from where an operator brings it back."""
    app = program.create_app()

    async def work(caller: Caller) -> None:
        records = statuses(4)
        await caller.feed(app, records)
        lost = await caller.pull(app, 2, key="k")
        name = lost.header("pullstatus-pull-id")
        clock.jump(by_s)
        assert (await caller.pull(app, 2, key="k")).data == records[2:]
        assert (await caller.pull(app, 2)).data == []
        assert name is not None
        done = await asyncio.to_thread(
            lambda: program.cli("redeliver", "--pull", name, "--reason", "a jump")
        )
        assert done["redelivered"] == 2
        assert (await caller.pull(app, key="drain")).data == records[:2]

    with_server(program, clock, work)


@pytest.mark.parametrize(
    ("by_s", "stored"),
    [
        (11 * MINUTE_S, 1),
        (-11 * MINUTE_S, 1),
        (DAY_S, 1),
        (-DAY_S, 1),
        (REPEAT_S, 1),
        (REPEAT_S + 0.001, 2),
        (IN_1970, 1),
        (IN_2038, 2),
    ],
)
def test_repeats_are_known_across_a_jump(
    program: Program, clock: Clock, by_s: float, stored: int
) -> None:
    """Callbacks and keyed batches are stored once within 72 hours by the wall clock."""
    app = program.create_app()
    token = program.create_token("carrier", app=app)

    async def work(caller: Caller) -> None:
        for turn in range(2):
            for body in (statuses(3), replies(1)[0]):
                answer = await caller.post(f"/callbacks/{token}", body)
                assert answer.json == {"result": 0, "errmsg": "OK"}
            await caller.feed(app, statuses(2, 10), key="batch")
            if turn == 0:
                clock.jump(by_s)
        rows = {row.mailbox.kind: row.accepted for row in await caller.server.store.backlog()}
        assert sorted(rows.values()) == [1 * stored, 5 * stored]

    with_server(program, clock, work)
