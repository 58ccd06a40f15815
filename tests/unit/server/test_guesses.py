"""Wrong signatures, applications and tokens: counted, told of, late; who proves himself is not."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import structlog

from pullstatus import limits
from pullstatus.clock import wall_ms
from pullstatus.errors import (
    OutcomeUnknown,
    PullstatusError,
    ReplayRefused,
    StoreUnavailable,
)
from tests.harness import Answer, App
from tests.unit.server.asgi import APP, SECRET, Served

STRANGER = App(APP.sdkappid, "0" * 32)
NOBODY = App(1400009999, "0" * 32)
MANY = limits.FAILED_TRIES_MAX + 5

Ask = Callable[[Served], Awaitable[Answer | None]]
WRONG: dict[str, tuple[str, Ask]] = {
    "1001": ("signature", lambda served: served.post(*STRANGER.request())),
    "1019": ("application", lambda served: served.post(*NOBODY.request())),
    "401 of a callback": ("token", lambda served: served.post("/callbacks/pst_canary", b"[]")),
    "401 of a batch": (
        "token",
        lambda served: served.post(f"/ingest/{APP.sdkappid}/replies", b"[]"),
    ),
}


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks at the store have no distance, and who is late is late for good."""
    monkeypatch.setattr(limits, "LOOKS_PER_S_MAX", 100_000)
    monkeypatch.setattr(limits, "FAILED_TRY_PAUSE_S", 3600)


def run(work: Any) -> tuple[Any, list[Any]]:  # noqa: ANN401
    with structlog.testing.capture_logs() as logged:
        return asyncio.run(work), logged


async def settled(tasks: list[asyncio.Task[Answer | None]], pending: int) -> None:
    """Wait until no more than so many are not done."""
    while sum(not task.done() for task in tasks) > pending:  # noqa: ASYNC110 - tasks of a test
        await asyncio.sleep(0.001)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("name", WRONG)
def test_many_failed_tries_are_late_and_a_good_one_never(name: str) -> None:
    """From the very address, at the very application."""
    what, ask = WRONG[name]
    served = Served()

    async def play() -> tuple[list[Answer | None], dict[str, float]]:
        tries = [asyncio.ensure_future(ask(served)) for _ in range(MANY)]
        await settled(tries, 5)
        good = [await served.pull(), await served.ingest([]), await served.callback([])]
        figures = await served.figures()
        assert sum(not task.done() for task in tries) == 5
        for task in tries:
            task.cancel()
        await asyncio.gather(*tries, return_exceptions=True)
        return good, figures

    (good, figures), logged = run(play())
    pulled, batch, pushed = good
    assert pulled.result == 0
    assert batch.http_status == 400, "an empty batch, with a good token"
    assert pushed.http_status == 200
    assert figures[f'pullstatus_failed_tries_total{{wrong="{what}"}}'] == MANY
    assert figures["pullstatus_failed_tries_late_total"] == 5
    assert figures['pullstatus_failed_tries_kept{of="addresses"}'] == 1
    warned = [line for line in logged if line["log_level"] == "warning"]
    of_address, *at_application = warned
    assert of_address["event"] == "many failed tries of an address"
    assert (of_address["address"], of_address["tries"]) == (
        "192.0.2.7",
        limits.FAILED_TRIES_MAX + 1,
    )
    if name in ("1001", "401 of a batch"):
        [line] = at_application
        assert line["event"] == "many failed tries at an application"
        assert (line["sdkappid"], line["address"]) == (APP.sdkappid, "192.0.2.7")
    else:
        assert at_application == [], "it was at none that there is"
    assert "canary" not in str(logged)
    assert SECRET not in str(logged)


@pytest.mark.usefixtures("patient")
def test_answers_that_are_held_back_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FAILED_TRIES_HELD_MAX", 3)
    served = Served()

    async def play() -> None:
        tries = [asyncio.ensure_future(served.post(*STRANGER.request())) for _ in range(2 * MANY)]
        await settled(tries, 3)
        for task in tries:
            task.cancel()
        await asyncio.gather(*tries, return_exceptions=True)
        assert served.routes.guesses._pauses.count == 0

    run(play())


def test_late_answer_is_the_same_and_makes_no_call_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LOOKS_PER_S_MAX", 100_000)
    monkeypatch.setattr(limits, "FAILED_TRY_PAUSE_S", 0.02)
    served = Served()

    async def play() -> tuple[list[Answer | None], float]:
        began = time.perf_counter()
        answers = [await served.post(*STRANGER.request(at=1)) for _ in range(MANY)]
        return answers, time.perf_counter() - began

    (answers, took_s), _ = run(play())
    assert {answer.content for answer in answers} == {answers[0].content}
    assert answers[0].result == 1001
    late = served.routes.figures.failed_tries_late
    assert late > 0
    assert served.routes.figures.seconds["pull"].sum_s <= took_s - late * 0.02


@pytest.mark.usefixtures("patient")
def test_numbers_that_strangers_make_up_are_not_remembered() -> None:
    served = Served()

    async def play() -> None:
        for number in range(MANY):
            served.address = f"192.0.2.{number}"
            await served.post(*App(1_500_000_000 + number, "0" * 32).request())

    run(play())
    assert len(served.routes.guesses.tries.applications) == 0
    assert len(served.routes.guesses.tries.addresses) == MANY


@pytest.mark.usefixtures("patient")
def test_repeat_of_a_good_signature_is_no_failed_try() -> None:
    """Strict mode answers it with 1001, too; the client is who it says."""
    served = Served()
    served.store.pull_answer = ReplayRefused("again")
    answers, _ = run(served.pull())
    assert answers.result == 1001
    assert served.routes.figures.failed_tries["signature"] == 0


class Hours:
    """A wall clock that a test moves on."""

    def __init__(self) -> None:
        self.ms = wall_ms()

    def __call__(self) -> int:
        return self.ms

    def next(self) -> None:
        self.ms += 3_600_000


def on_record(served: Served) -> list[tuple[object, object, object, object]]:
    return [
        (detail.get("what"), detail.get("sdkappid"), detail["tries"], detail["addresses"])
        for detail in (json.loads(act.detail) for act in served.store.acts)
    ]


@pytest.mark.usefixtures("patient")
def test_each_hour_s_failed_tries_go_on_record_once() -> None:
    hours = Hours()
    served = Served(now_ms=hours)
    record = served.routes.guesses.record

    async def play() -> None:
        for host in range(3):
            served.address = f"192.0.2.{host}"
            for _, ask in WRONG.values():
                await ask(served)
        await served.pull()
        await record()
        assert served.store.acts == [], "the hour goes on"
        hours.next()
        await record()
        assert on_record(served) == [
            ("application", None, 3, 3),
            ("token", None, 3, 3),
            ("signature", APP.sdkappid, 3, 3),
            ("token", APP.sdkappid, 3, 3),
        ]
        assert {act.actor for act in served.store.acts} == {"server"}
        assert len({act.ticket for act in served.store.acts}) == 4
        for _ in range(3):
            hours.next()
            await record()
        await record(stopping=True)
        assert len(served.store.acts) == 4, "nothing where nobody failed"
        await served.post(*STRANGER.request(at=hours.ms // 1000))
        await record(stopping=True)
        assert on_record(served)[4:] == [("signature", APP.sdkappid, 1, 1)]
        told = str(served.store.acts)
        assert "192.0.2" not in told
        assert "canary" not in told

    run(play())


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("error", [OutcomeUnknown("?"), StoreUnavailable("busy")])
def test_what_could_not_be_written_is_written_once_with_all_that_failed_since(
    error: PullstatusError,
) -> None:
    hours = Hours()
    served = Served(now_ms=hours)
    record = served.routes.guesses.record

    async def play() -> None:
        await served.post(*STRANGER.request(at=hours.ms // 1000))
        served.store.change_answer = error
        for _ in range(3):
            hours.next()
            with pytest.raises(type(error)):
                await record()
            await served.post(*STRANGER.request(at=hours.ms // 1000))
        served.store.change_answer = True
        await record()
        assert on_record(served) == [
            ("signature", APP.sdkappid, 1, 1),
            ("signature", APP.sdkappid, 3, 1),
        ]

    run(play())
