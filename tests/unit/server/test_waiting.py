"""Pulls that wait for a record, over a store that does what a test wants."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from pullstatus import limits
from pullstatus.apps import AppKey, LiveApplication
from pullstatus.errors import OutcomeUnknown, SettingChanged, StoreUnavailable
from pullstatus.records import Kind
from pullstatus.server.budget import Share
from pullstatus.store import Mailbox, Page, Reader, pull_id
from tests.harness import Answer, App, statuses
from tests.unit.server.asgi import APP, Served

BOX = Mailbox(APP.sdkappid, Kind.DELIVERY_STATUS)
EMPTY, PAGE = Page(0, 0, b"", 0), Page(1, 1, b"{}", 0)
WAIT = ("Pullstatus-Wait", "50")


def run(served: Served, work: Callable[[], Awaitable[None]]) -> None:
    """`work`, and nobody is in line behind it."""

    async def whole() -> None:
        await asyncio.wait_for(work(), 60)
        assert served.routes.held.count == 0
        assert served.store.arrived == {}
        assert served.on_leave is None

    asyncio.run(whole())


async def settled() -> None:
    """Whatever has begun goes on until it waits."""
    for _ in range(20):
        await asyncio.sleep(0)


async def held(served: Served, *headers: tuple[str, str]) -> asyncio.Task[Answer | None]:
    """A pull that sleeps."""
    pull = asyncio.create_task(served.pull(*headers))
    await settled()
    assert served.routes.held.count == 1
    assert not pull.done()
    return pull


def change(served: Served, **changes: Any) -> None:  # noqa: ANN401 - as they are
    live = served.registry.applications[APP.sdkappid]
    application = msgspec.structs.replace(live.application, **changes)
    served.registry.applications[APP.sdkappid] = LiveApplication(
        application,
        live.while_set.revision + 1,
        dict(zip(application.appkeys, live.appkeys, strict=True)),
    )


@pytest.mark.parametrize("value", ["", "51", "-1", "+1", "1.5", "050", "1e1", "\xb2", "soon"])
def test_bad_wait_is_1004_and_named(value: str) -> None:
    served = Served()
    answer = asyncio.run(served.pull(("Pullstatus-Wait", value)))
    assert answer is not None
    assert answer.result == 1004
    assert "Pullstatus-Wait is a number of seconds from 0 to 50" in answer.json["errmsg"]
    assert served.store.pulled == []


def test_bad_wait_is_1004_also_of_a_pull_that_takes_nothing() -> None:
    served = Served()
    only = [("Pullstatus-Reader", "r"), ("Pullstatus-Ack", f"{APP.sdkappid}-0-1")]
    answer = asyncio.run(
        served.pull(*only, ("Pullstatus-Take", "0"), ("Pullstatus-Wait", "banana"))
    )
    assert answer is not None
    assert answer.result == 1004
    assert served.store.pulled == []


def test_a_pull_that_finds_something_does_not_wait() -> None:
    served = Served()
    served.store.pull_answer = PAGE

    async def work() -> None:
        answer = await served.pull(WAIT)
        assert answer is not None
        assert answer.data == [{}]

    run(served, work)


@pytest.mark.parametrize("headers", [[], [("Pullstatus-Wait", "0")]])
def test_a_pull_that_does_not_ask_for_it_does_not_wait(headers: list[tuple[str, str]]) -> None:
    served = Served()
    answer = asyncio.run(served.pull(*headers))
    assert answer is not None
    assert answer.data == []
    assert len(served.store.pulled) == 1


@pytest.mark.parametrize(
    ("setting", "headers", "waits"),
    [
        (50, [], True),
        (50, [("Pullstatus-Wait", "0")], False),
        (0, [WAIT], True),
    ],
)
def test_what_an_application_is_set_to_is_for_pulls_that_do_not_say(
    setting: int, headers: list[tuple[str, str]], waits: bool
) -> None:
    served = Served()
    change(served, wait_s=setting)

    async def work() -> None:
        if waits:
            pull = await held(served, *headers)
            served.routes.held.end()
        else:
            pull = asyncio.create_task(served.pull(*headers))
        answer = await pull
        assert answer is not None
        assert answer.data == []

    run(served, work)


def test_a_record_that_arrives_is_answered_and_on_record_with_its_own_time() -> None:
    now_ms = int(time.time() * 1000)
    served = Served(now_ms=lambda: now_ms)

    async def work() -> None:
        nonlocal now_ms
        pull = await held(served, WAIT, ("Idempotency-Key", "k"))
        now_ms += 40_000
        served.store.pull_answer = PAGE
        served.store.arrived[BOX]()
        answer = await pull
        assert answer is not None
        assert answer.data == [{}]
        first, second = served.store.pulled
        assert second.at_ms - first.at_ms == 40_000
        assert (first.key, second.key) == ("k", "k")
        assert first.ticket != second.ticket

    run(served, work)


def test_time_over_is_an_empty_page() -> None:
    served = Served()

    async def work() -> None:
        answer = await served.pull(("Pullstatus-Wait", "1"))
        assert answer is not None
        assert answer.data == []
        assert answer.waiting == 0
        assert len(served.store.pulled) == 1

    run(served, work)


def test_the_time_waited_is_not_the_time_taken() -> None:
    served = Served()
    began_s = time.perf_counter()
    asyncio.run(served.pull(("Pullstatus-Wait", "1")))
    passed_s = time.perf_counter() - began_s
    figures = asyncio.run(served.figures())
    assert figures['pullstatus_request_seconds_count{call="pull"}'] == 1
    assert figures['pullstatus_request_seconds_sum{call="pull"}'] < passed_s - 0.9


def test_a_strict_application_takes_the_signature_of_a_held_pull_once() -> None:
    """Once and not twice: the second look is for the same request."""
    served = Served()
    change(served, strict=True)

    async def work() -> None:
        pull = await held(served, WAIT)
        served.store.pull_answer = PAGE
        served.store.arrived[BOX]()
        assert await pull is not None
        first, second = served.store.pulled
        assert first.once is not None
        assert second.once is None

    run(served, work)


def test_a_held_pull_acknowledges_once() -> None:
    """Its second look must not be refused for what another of its name did meanwhile."""
    served = Served()
    headers = [("Pullstatus-Reader", "r"), ("Pullstatus-Ack", pull_id(BOX, 1, served.store.epoch))]

    async def work() -> None:
        pull = await held(served, WAIT, *headers)
        served.store.pull_answer = PAGE
        served.store.arrived[BOX]()
        assert await pull is not None
        assert [each.reader for each in served.store.pulled] == [Reader("r", 1), Reader("r")]

    run(served, work)


def test_a_pull_that_only_acknowledges_does_not_wait() -> None:
    served = Served()
    ack = pull_id(BOX, 1, served.store.epoch)
    reader = [("Pullstatus-Reader", "r"), ("Pullstatus-Ack", ack), ("Pullstatus-Take", "0")]

    async def work() -> None:
        answer = await served.pull(WAIT, *reader)
        assert answer is not None
        assert answer.data == []
        assert served.store.arrived == {}

    run(served, work)


def test_one_that_became_strict_meanwhile_takes_it_then() -> None:
    served = Served()

    async def work() -> None:
        pull = await held(served, WAIT)
        change(served, strict=True)
        served.store.pull_answer = SettingChanged("strict now")
        served.store.arrived[BOX]()
        await asyncio.sleep(0)
        await pull
        assert served.store.pulled[1].once is None
        assert all(each.once is not None for each in served.store.pulled[2:])

    run(served, work)


def test_an_application_that_was_changed_meanwhile_is_asked_anew() -> None:
    """Not whether the signature is fresh: it was when it came."""
    now_ms = int(time.time() * 1000)
    served = Served(now_ms=lambda: now_ms)
    change(served, window_s=10)

    async def work() -> None:
        nonlocal now_ms
        for changes, result in (({}, 1007), ({"enabled": False}, 1020)):
            pull = await held(served, WAIT)
            now_ms += 40_000
            change(served, **changes)
            served.store.pull_answer = SettingChanged("changed")
            served.store.arrived[BOX]()
            answer = await pull
            assert answer is not None
            assert answer.result == result
            served.store.pull_answer = EMPTY
            now_ms = int(time.time() * 1000)

    run(served, work)


@pytest.mark.parametrize(("lasts_s", "result"), [(41, 0), (39, 1001)])
def test_a_key_that_ends_while_its_pull_waits_gets_nothing(lasts_s: int, result: int) -> None:
    """And a pull that goes on counts once."""
    now_ms = int(time.time() * 1000)
    served = Served(now_ms=lambda: now_ms)
    ends = AppKey(APP.appkey, 0, not_after_ms=now_ms + lasts_s * 1000)
    change(served, appkeys=(ends,), pull_rate_max=1)

    async def work() -> None:
        nonlocal now_ms
        pull = await held(served, WAIT)
        now_ms += 40_000
        served.store.pull_answer = PAGE
        served.store.arrived[BOX]()
        answer = await pull
        assert answer is not None
        assert answer.result == result
        assert len(served.store.pulled) == (1 if result else 2)

    run(served, work)


def test_nobody_looks_at_the_store_for_a_key_that_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever waits behind would wait for each of these looks."""
    now_ms = int(time.time() * 1000)
    served = Served(now_ms=lambda: now_ms)
    ends, stays = AppKey(APP.appkey, 0, not_after_ms=now_ms + 1000), AppKey("1" * 32, 0)
    live = served.registry.applications[APP.sdkappid]
    served.registry.applications[APP.sdkappid] = LiveApplication(
        msgspec.structs.replace(live.application, appkeys=(ends, stays)),
        2,
        {ends: APP.appkey, stays: stays.appkey},
    )

    async def look(_sdkappid: int | None = None, *, patiently: bool = False) -> None:
        await asyncio.sleep(3600)

    async def work() -> None:
        nonlocal now_ms
        ended = await held(served, WAIT)
        target, body = App(APP.sdkappid, stays.appkey).request(at=now_ms // 1000)
        good = asyncio.create_task(served.post(target, body, WAIT))
        await settled()
        assert served.routes.held.count == 2
        now_ms += 2000
        monkeypatch.setattr(served.registry, "look", look)
        served.store.pull_answer = PAGE
        served.store.arrived[BOX]()
        answer = await good
        assert answer is not None
        assert answer.data == [{}]
        ended.cancel()

    run(served, work)


@pytest.mark.parametrize(("lasts_s", "result"), [(41, 1007), (39, 1001)])
def test_so_does_one_whose_end_is_told_meanwhile(lasts_s: int, result: int) -> None:
    now_ms = int(time.time() * 1000)
    served = Served(now_ms=lambda: now_ms)
    ends = AppKey(APP.appkey, 0, not_after_ms=now_ms + lasts_s * 1000)

    async def work() -> None:
        nonlocal now_ms
        pull = await held(served, WAIT)
        now_ms += 40_000
        change(served, appkeys=(ends,))
        served.store.pull_answer = SettingChanged("changed")
        served.store.arrived[BOX]()
        answer = await pull
        assert answer is not None
        assert answer.result == result

    run(served, work)


def test_pulls_that_wait_leave_their_application_half_of_its_part(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else its own records would find no room to come in."""
    requests = 4 * limits.SHARE_OF_ONE
    monkeypatch.setattr(limits, "IN_HAND_BYTES_MAX", requests * limits.REQUEST_BYTES)
    served = Served()

    async def work() -> None:
        waiting = []
        for _ in range(2):
            waiting.append(asyncio.create_task(served.pull(WAIT)))
            await settled()
        assert served.routes.held.count == 2
        for _ in range(3):
            answer = await served.pull(WAIT)
            assert answer is not None
            assert answer.data == []
        answer = await served.ingest(statuses(1))
        assert answer is not None
        assert answer.http_status == 200
        served.routes.held.end()
        await asyncio.gather(*waiting)

    run(served, work)


def test_a_pull_that_waits_takes_though_there_is_no_room_for_another() -> None:
    served = Served()

    async def work() -> None:
        pull = await held(served, WAIT)
        with Share(served.routes.budget, APP.sdkappid, limits.IN_HAND_BYTES_MAX):
            refused = await served.pull(WAIT)
            assert refused is not None
            assert refused.result == 1007
            served.store.pull_answer = PAGE
            served.store.arrived[BOX]()
            answer = await pull
        assert answer is not None
        assert answer.data == [{}]

    run(served, work)


def test_a_peer_that_goes_takes_nothing_and_is_counted() -> None:
    served = Served()

    async def work() -> None:
        pull = await held(served, WAIT)
        served.gone = True
        assert served.on_leave is not None
        served.on_leave()
        assert await pull is None
        assert len(served.store.pulled) == 1
        assert (await served.figures())["pullstatus_pulls_dropped_total"] == 1

    run(served, work)


@pytest.mark.parametrize("told", [True, False])
def test_a_peer_that_says_no_more_gets_an_empty_page(told: bool) -> None:
    """It may still listen, and nothing is taken for one that does not."""
    served = Served()

    async def work() -> None:
        pull = await held(served, WAIT)
        served.left = True
        if told:
            assert served.on_leave is not None
            served.on_leave()
        else:  # the kernel knows, and the loop does not yet
            served.store.pull_answer = PAGE
            served.store.arrived[BOX]()
        answer = await pull
        assert answer is not None
        assert answer.data == []
        assert len(served.store.pulled) == 1

    run(served, work)


def test_a_peer_that_has_said_no_more_is_not_held() -> None:
    served = Served()
    served.left = True

    async def work() -> None:
        answer = await served.pull(WAIT)
        assert answer is not None
        assert answer.data == []

    run(served, work)


@pytest.mark.parametrize(
    "failure", [OutcomeUnknown("the disk did not say"), ZeroDivisionError("canary")]
)
def test_a_held_pull_that_may_have_taken_something_is_not_answered(failure: Exception) -> None:
    served = Served()

    async def work() -> None:
        pull = await held(served, WAIT)
        served.store.pull_answer = failure
        served.store.arrived[BOX]()
        assert await pull is None
        assert served.hung_up

    run(served, work)


def test_an_error_of_waiting_itself_is_no_promise_that_nothing_was_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    served = Served()
    served.store.pull_answer = PAGE
    monkeypatch.setattr("pullstatus.mailbox.held.Held.leave", lambda *_: 1 / 0)
    assert asyncio.run(served.pull(WAIT)) is None
    assert served.hung_up


def test_a_held_pull_that_took_nothing_for_certain_says_so() -> None:
    served = Served()

    async def work() -> None:
        pull = await held(served, WAIT)
        served.store.pull_answer = StoreUnavailable("too much waits")
        served.store.arrived[BOX]()
        answer = await pull
        assert answer is not None
        assert answer.result == 1007

    run(served, work)


def test_how_many_are_held_is_told() -> None:
    served = Served()

    async def work() -> None:
        pull = await held(served, WAIT)
        assert (await served.figures())["pullstatus_pulls_held"] == 1
        served.routes.held.end()
        await pull
        assert (await served.figures())["pullstatus_pulls_held"] == 0

    run(served, work)
