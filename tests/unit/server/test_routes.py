"""The calls on a store that fails, and what is told, counted and logged of it."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Coroutine
from itertools import count
from typing import Any, TypeVar

import msgspec
import pytest
import structlog

from pullstatus import limits
from pullstatus.errors import OutcomeUnknown, SettingChanged, StoreCorrupt, StoreUnavailable
from pullstatus.mailbox.parking import Item
from pullstatus.records import Kind
from pullstatus.store import (
    NO_TICKET,
    Aside,
    Backlog,
    Engine,
    Gone,
    Mailbox,
    Page,
    Pull,
    PutAside,
    Totals,
)
from pullstatus.wire.about import Feature, read_features
from tests.harness import PATIENCE_S, Answer, status
from tests.unit.server.asgi import APP, SECRET, Served

T = TypeVar("T")

CORRUPT = StoreCorrupt("the setting application/1400006666 is damaged")
UNFORESEEN = ZeroDivisionError("canary")


def run(work: Coroutine[Any, Any, T]) -> tuple[T, list[Any]]:
    """What came of it, and what was logged."""
    with structlog.testing.capture_logs() as logged:
        return asyncio.run(work), logged


def traces(logged: list[Any]) -> list[Any]:
    """What was logged with a trace."""
    return [line for line in logged if line.get("exc_info")]


def problem(answer: Answer | None, http_status: int) -> dict[str, Any]:
    assert answer is not None
    assert answer.http_status == http_status
    assert answer.header("content-type") == "application/problem+json"
    assert answer.json["status"] == http_status
    assert "canary" not in answer.content.decode()
    assert "Traceback" not in answer.content.decode()
    return answer.json


@pytest.mark.parametrize(
    ("failure", "certain"), [(CORRUPT, True), (UNFORESEEN, False)], ids=["corrupt", "unforeseen"]
)
def test_batch_whose_store_fails_is_answered_counted_and_logged_once(
    failure: Exception, certain: bool
) -> None:
    for door in ("ingest", "callbacks"):
        served = Served()
        served.store.append_answer = failure
        send = served.ingest if door == "ingest" else served.callback
        answer, logged = run(send([status(1)]))
        told = problem(answer, 500)
        assert told["title"] == "Internal error"
        assert ("nothing was stored" in told["detail"]) is certain
        assert ("send it again" in told["detail"]) is not certain
        assert told.get("result") == (1 if door == "callbacks" else None)
        figures = asyncio.run(served.figures())
        assert figures[f'pullstatus_batches_total{{door="{door}",status="500"}}'] == 1
        assert len(traces(logged)) == 1


def test_batch_that_fails_before_the_store_is_asked_says_that_nothing_was_stored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    served = Served()
    monkeypatch.setattr(served.registry, "token", lambda _secret: 1 / 0)
    for send in (served.ingest, served.callback):
        answer, logged = run(send([status(1)]))
        told = problem(answer, 500)
        assert told["detail"].startswith("nothing was stored")
        assert len(traces(logged)) == 1
    assert served.store.appended == []


def test_callback_is_parked_with_what_a_retry_needs() -> None:
    served = Served(now_ms=lambda: 1_767_571_200_123)
    bad = {"sid": "\u00e9"}
    answer, _ = run(served.callback([status(1), bad]))
    assert answer is not None
    assert answer.http_status == 200
    [park] = served.store.parked
    assert len(park.records.entries) == 1
    assert park.records.while_set is not None
    [entry] = park.entries
    assert entry.isascii()
    item = msgspec.json.decode(entry, type=Item)
    assert item == Item(
        format="tencent",
        token="gateway",
        at_ms=1_767_571_200_123,
        address="192.0.2.7",
        reason="is missing; a delivery status must have it",
        raw=json.dumps(bad).encode(),
        member="nationcode",
        kind=Kind.DELIVERY_STATUS,
        index=1,
    )
    assert (park.items_max, park.bytes_max) == (limits.PARKED_ITEMS_MAX, limits.PARKED_BYTES_MAX)
    assert (park.mailbox.sdkappid, park.mailbox.parked) == (APP.sdkappid, True)
    assert served.store.appended == []


def test_callback_that_is_wholly_good_asks_the_store_for_one_append() -> None:
    served = Served()
    run(served.callback([status(1)]))
    assert (len(served.store.appended), served.store.parked) == (1, [])


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("body", [[status(1)], [status(1), {}]], ids=["good", "half bad"])
def test_callback_is_put_off_soon_when_the_store_is_away(
    monkeypatch: pytest.MonkeyPatch, body: list[object], at_once: bool
) -> None:
    """Whether it refuses or says nothing: its sender waits for a few seconds only."""
    served = Served()
    served.at_once = at_once
    served.store.append_answer = served.store.park_answer = StoreUnavailable("too much waits")
    answer, _ = run(served.callback(body))
    told = problem(answer, 503)
    assert "nothing was stored" in told["detail"]
    monkeypatch.setattr(limits, "CALLBACK_ANSWER_S", 0.01)

    async def stalled(_operation: object, _gone: object) -> int:
        await served.until_answered()
        return 1

    async def stalled_too(_operation: object, _gone: object) -> PutAside:
        await served.until_answered()
        return PutAside(1, 1, 0)

    monkeypatch.setattr(served.store, "append", stalled)
    monkeypatch.setattr(served.store, "park", stalled_too)
    slow, logged = run(served.callback(body))
    told = problem(slow, 503)
    assert (told["result"], told["errmsg"]) == (1, told["detail"])
    assert "not known" in told["detail"]
    for refused in (answer, slow):
        assert refused is not None
        assert refused.header("retry-after") == str(limits.RETRY_AFTER_S)
    late = [line["event"] for line in logged]
    assert [late[0], late[-1]] == ["batch put off", "batch stored late"]
    figures = asyncio.run(served.figures())
    assert figures['pullstatus_records_in_total{kind="delivery-statuses"}'] == 1
    assert figures['pullstatus_batches_total{door="callbacks",status="503"}'] == 2
    assert figures.get('pullstatus_batches_total{door="callbacks",status="200"}', 0) == 0


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (OutcomeUnknown("the disk did not say"), []),
        (StoreUnavailable("away"), ["batch put off"]),
        (UNFORESEEN, ["batch failed"]),
    ],
)
def test_callback_that_was_put_off_is_not_answered_again(
    monkeypatch: pytest.MonkeyPatch, failure: Exception, told: list[str], at_once: bool
) -> None:
    served = Served()
    served.at_once = at_once
    monkeypatch.setattr(limits, "CALLBACK_ANSWER_S", 0.01)

    async def fails_late(_operation: object, _gone: object) -> int:
        await served.until_answered()
        raise failure

    monkeypatch.setattr(served.store, "append", fails_late)
    answer, logged = run(served.callback([status(1)]))
    problem(answer, 503)
    assert not served.hung_up
    assert [line["event"] for line in logged] == ["batch put off", *told]
    figures = asyncio.run(served.figures())
    assert figures['pullstatus_batches_total{door="callbacks",status="503"}'] == 1
    assert figures['pullstatus_batches_total{door="callbacks",status="500"}'] == 0


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("stored", [False, True])
def test_callback_that_is_put_off_ends_when_that_is_said(
    monkeypatch: pytest.MonkeyPatch, stored: bool, at_once: bool
) -> None:
    """It cannot be while the connection is not written to; the server would answer once more."""
    served = Served()
    served.at_once = at_once
    monkeypatch.setattr(limits, "CALLBACK_ANSWER_S", 0.01)

    done = asyncio.Event()

    async def late(_operation: object, _gone: object) -> int:
        while not served.routes.figures.batches["callbacks", 503]:  # noqa: ASYNC110 - it is a count
            await asyncio.sleep(0.01)
        done.set()
        if not stored:
            raise StoreUnavailable("away")
        return 1

    monkeypatch.setattr(served.store, "append", late)

    async def ask() -> Answer | None:
        served.can_write.clear()
        asking = asyncio.create_task(served.callback([status(1)]))
        await asyncio.wait_for(done.wait(), PATIENCE_S)
        for _ in range(10):
            await asyncio.sleep(0)
        assert not asking.done()
        served.can_write.set()
        return await asking

    answer, _ = run(ask())
    problem(answer, 503)


def test_unknown_token_is_put_off_soon_when_the_store_says_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It may be one that a command has just made, so the store is asked: not without end."""
    served = Served()
    monkeypatch.setattr(limits, "CALLBACK_ANSWER_S", 0.01)
    monkeypatch.setattr(served.registry, "look", lambda *_, **_how: asyncio.sleep(60))
    answer, _ = run(served.post("/callbacks/pst_new", b"[]"))
    assert "nothing was stored" in problem(answer, 503)["detail"]


def test_callback_that_may_be_parked_is_not_answered_when_nobody_knows() -> None:
    served = Served()
    served.store.park_answer = OutcomeUnknown("the disk did not say")
    answer, _ = run(served.callback([{}]))
    assert answer is None
    assert served.hung_up


@pytest.mark.parametrize("failure", [UNFORESEEN, OutcomeUnknown("the disk did not say")])
def test_pull_that_may_have_taken_something_is_not_answered(failure: Exception) -> None:
    served = Served()
    served.store.pull_answer = failure
    answer, logged = run(served.pull())
    assert answer is None
    assert served.hung_up
    assert len(traces(logged)) == (failure is UNFORESEEN)
    assert [line["log_level"] for line in logged] == ["error"]


def test_pull_whose_page_cannot_be_answered_is_not_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its records have left the mailbox by then."""
    served = Served()
    monkeypatch.setattr("pullstatus.wire.v5.answer.success", lambda *_: 1 / 0)
    answer, _ = run(served.pull())
    assert answer is None
    assert served.hung_up


@pytest.mark.parametrize("failure", [CORRUPT, StoreUnavailable("too much waits")])
def test_pull_that_took_nothing_for_certain_says_so(failure: Exception) -> None:
    served = Served()
    served.store.pull_answer = failure
    answer, logged = run(served.pull())
    assert answer is not None
    assert answer.result == 1007
    assert answer.json["errmsg"].endswith("nothing was consumed")
    assert len(traces(logged)) == (failure is CORRUPT)
    figures = asyncio.run(served.figures())
    assert figures['pullstatus_pulls_total{result="1007"}'] == 1


def test_pull_that_fails_before_the_store_is_asked_consumes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    served = Served()
    monkeypatch.setattr("pullstatus.server.signed.fitting", lambda *_: 1 / 0)
    answer, logged = run(served.pull())
    assert answer is not None
    assert answer.result == 1007
    assert "nothing was consumed" in answer.json["errmsg"]
    assert len(traces(logged)) == 1


def test_pull_whose_peer_has_gone_is_counted_and_no_error() -> None:
    served = Served()
    served.gone = True
    answer, logged = run(served.pull())
    assert answer is None
    assert served.hung_up, "else the server misses an answer, and logs that as an error"
    assert logged == []
    assert asyncio.run(served.figures())["pullstatus_pulls_dropped_total"] == 1


# --- what is no call ------------------------------------------------------------------------------


def test_call_that_is_none_is_not_counted_as_a_pull() -> None:
    served = Served()
    before = asyncio.run(served.figures())
    answer, _ = run(served.post("/v5/tlssmssvr/nothing", b"{}"))
    assert answer is not None
    assert answer.result == 1011
    after = asyncio.run(served.figures())
    pulls = [name for name in after if name.startswith("pullstatus_pulls")]
    assert [after[name] for name in pulls] == [before[name] for name in pulls]


@pytest.mark.parametrize(
    ("method", "target", "http_status", "title"),
    [
        ("GET", "/nothing", 404, "No such address"),
        ("POST", "/", 405, "Method not allowed"),
        ("POST", "/metrics", 405, "Method not allowed"),
        ("TRACE", "/healthz", 405, "Method not allowed"),
        ("GET", f"/callbacks/{SECRET}", 405, "Method not allowed"),
        ("GET", f"/ingest/{APP.sdkappid}/replies", 401, "Token missing"),
        ("POST", "/ingest/x/replies", 404, "No such address"),
    ],
)
def test_problem_has_the_title_of_the_reference(
    method: str, target: str, http_status: int, title: str
) -> None:
    answer, _ = run(Served().ask(method, target))
    assert problem(answer, http_status)["title"] == title


@pytest.mark.parametrize("method", ["TRACE", "PUT"])
@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        (f"/in/{SECRET}/kannel", "POST, GET"),
        (f"/callbacks/{SECRET}", "POST"),
        ("/healthz", "GET, HEAD"),
    ],
)
def test_a_method_that_is_not_taken_is_told_those_that_are(
    method: str, path: str, allowed: str
) -> None:
    answer, _ = run(Served().ask(method, path))
    assert answer is not None
    assert answer.http_status == 405
    assert {*(answer.header("allow") or "").split(", ")} == {*allowed.split(", ")}


@pytest.mark.parametrize("told", ["evil" * 1000, "a\nb", "192.0.2.7"])
def test_a_token_is_used_from_an_address_or_from_none(told: str) -> None:
    """A trusted proxy says whatever a stranger wrote."""
    for send in (Served.ingest, Served.callback):
        served = Served()
        served.address = told
        asyncio.run(send(served, [status(1)]))
        places = {place for _, place in served.registry.used.values() if place}
        assert places == ({told} if told == "192.0.2.7" else set())


@pytest.mark.parametrize("silent", [False, True], ids=["refused", "silent"])
def test_metrics_of_a_store_that_cannot_be_read_are_without_what_only_it_tells(
    silent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of its engine they have what was known last."""
    monkeypatch.setattr(limits, "FIGURES_S", 0.05)

    async def fails(*_: int) -> Totals:
        if silent:
            await asyncio.Event().wait()
        raise StoreUnavailable("held by another process")

    async def ask(known: bool) -> dict[str, float]:
        served = Served()
        if known:
            assert {"pullstatus_mailboxes", "pullstatus_accepting"} <= {*await served.figures()}
        monkeypatch.setattr(served.store, "totals", fails)
        monkeypatch.setattr(served.store, "engine", fails)
        return await served.figures()

    for known in (False, True):
        found = asyncio.run(ask(known))
        assert "pullstatus_store_oldest_seconds" in found
        assert "pullstatus_mailboxes" not in found
        assert ("pullstatus_accepting" in found) is known


def test_what_a_store_refuses_when_nobody_waits_any_more_is_no_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "FIGURES_S", 0.01)
    served = Served()
    told: list[object] = []

    async def refuses(*_: int) -> Totals:
        await asyncio.sleep(0.05)
        raise StoreUnavailable("held by another process")

    async def ask() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        monkeypatch.setattr(served.store, "totals", refuses)
        for _ in range(2):
            await served.figures()
            await asyncio.sleep(0.1)
        gc.collect()
        await asyncio.sleep(0)

    asyncio.run(ask())
    assert told == []


def test_figures_that_come_late_are_not_told_as_those_of_now(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "FIGURES_S", 0.05)
    served = Served()
    asked: list[asyncio.Future[Totals]] = []

    async def slow(*_: int) -> Totals:
        asked.append(asyncio.get_running_loop().create_future())
        return await asked[-1]

    async def ask() -> None:
        with monkeypatch.context() as patched:
            none = await served.store.totals()
            patched.setattr(served.store, "totals", slow)
            for _ in range(3):
                assert "pullstatus_mailboxes" not in await served.figures()
            [first] = asked  # nobody asks anew before it is answered
            first.set_result(none)
        served.store.mailboxes = [Backlog(Mailbox(APP.sdkappid, Kind.REPLY), 7, 2, 5, oldest_ms=1)]
        assert (await served.figures())["pullstatus_mailboxes"] == 1

    asyncio.run(ask())


@pytest.mark.parametrize(
    ("path", "http_status"),
    [("/metrics", 503), ("/openapi.json", 503), ("/healthz", 200), ("/readyz", 200), ("/", 200)],
)
def test_what_is_large_and_needs_no_key_has_to_have_room(path: str, http_status: int) -> None:
    """Else one address could have it lie unread on each of its connections."""
    served = Served()
    served.has_room = False
    answer, _ = run(served.ask("GET", path))
    assert answer is not None
    assert answer.http_status == http_status
    if http_status == 503:
        assert problem(answer, 503)["title"] == "Too much in hand"
        assert answer.header("retry-after") == str(limits.RETRY_AFTER_S)


def test_metrics_tell_the_totals_that_the_store_keeps() -> None:
    """They ask for no mailbox: the store that answers them cannot even list any."""
    served = Served()
    mailbox = Mailbox(APP.sdkappid, Kind.REPLY)
    served.store.mailboxes = [Backlog(mailbox, 7, 2, 5, oldest_ms=1)] * 3
    answer, _ = run(served.ask("GET", "/metrics"))
    assert answer is not None
    assert 'pullstatus_waiting{kind="replies"} 15.0' in answer.content.decode()
    assert "pullstatus_mailboxes 3.0" in answer.content.decode()


def test_a_pull_is_in_hand_of_its_application_by_its_size() -> None:
    """However small pulls are as a rule: one may have a body of 64 KiB, most of it blanks."""
    served = Served()
    seen: list[dict[Any, int]] = []
    pull = served.store.pull

    async def looks(operation: Pull, _gone: Gone | None = None) -> Page:
        seen.append(dict(served.routes.budget.of))
        return await pull(operation, _gone)

    served.store.pull = looks  # type: ignore[method-assign]
    target, body = APP.request()
    padded = body.ljust(limits.PULL_BODY_BYTES_MAX)
    answer, _ = run(served.post(target, padded))
    assert answer is not None
    assert answer.json["result"] == 0
    assert seen == [{APP.sdkappid: limits.PULL_BODY_BYTES_MAX}]
    assert not served.routes.budget.of


def test_one_page_of_figures_is_made_at_a_time_however_many_ask() -> None:
    """Who asks while one is made shares the next: it tells what happened before he asked."""
    served = Served()
    goes_on: list[asyncio.Event] = []
    engine = served.store.engine

    async def slow() -> Engine:
        goes_on.append(asyncio.Event())
        await goes_on[-1].wait()
        return await engine()

    served.store.engine = slow  # type: ignore[method-assign]

    async def ask() -> None:
        first = [asyncio.create_task(served.figures()) for _ in range(100)]
        await _settled()
        await served.ask("GET", "/v5/nothing")
        second = [asyncio.create_task(served.figures()) for _ in range(100)]
        await _settled()
        assert len(goes_on) == 1
        goes_on[0].set()
        await asyncio.gather(*first)
        await _settled()
        assert len(goes_on) == 2
        goes_on[1].set()
        for page in await asyncio.gather(*second):
            assert page['pullstatus_requests_refused_total{status="200"}'] == 1

    asyncio.run(ask())


async def _settled() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


def test_others_have_their_turn_while_a_page_of_figures_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A round of the loop at least for each of its families, if each takes as long as a slice."""
    served = Served()
    monkeypatch.setattr(served.routes._slices, "_clock_s", count().__next__)
    rounds = 0

    async def ask() -> None:
        nonlocal rounds
        page = asyncio.create_task(served.ask("GET", "/metrics"))
        while not page.done():
            rounds += 1
            await asyncio.sleep(0)
        answer = await page
        assert answer is not None
        assert rounds > answer.content.count(b"# TYPE ") / 2  # which are of one or two

    asyncio.run(ask())


def test_what_the_server_can_do_is_told_whatever_its_store_does() -> None:
    """Nobody is asked for it, and it says nothing of the deployment."""
    served = Served()
    served.routes.ready = False
    served.store = served.routes._store = served.registry._store = None  # type: ignore[assignment]
    for method in ("GET", "HEAD"):
        answer, logged = run(served.ask(method, "/"))
        assert answer is not None
        assert answer.http_status == 200
        assert answer.header("cache-control") == "public, max-age=60"
        assert logged == []
    answer, _ = run(served.ask("GET", "/"))
    assert answer is not None
    assert read_features(answer.content) == set(Feature)
    assert sorted(answer.json) == ["features", "metrics", "name", "pull", "version"]
    assert len(answer.content) < 200


# --- headers and figures --------------------------------------------------------------------------


def test_first_of_a_header_that_is_given_twice_counts() -> None:
    served = Served()
    keys = [("Idempotency-Key", "first"), ("Idempotency-Key", "second")]
    answer, _ = run(served.ingest([status(1)], *keys))
    assert answer is not None
    assert answer.http_status == 200
    [operation] = served.store.appended
    assert operation.repeat_key is not None
    assert operation.repeat_key.key == "first"


@pytest.mark.parametrize(("oldest_ms", "age_s"), [(None, 0), (40_000, 10), (60_000, 0)])
def test_age_of_the_oldest_is_never_negative(oldest_ms: int | None, age_s: float) -> None:
    """A clock that was set back, or another one that is ahead, makes no record younger than new."""
    served = Served(now_ms=lambda: 50_000)
    if oldest_ms is not None:
        served.store.mailboxes = [
            Backlog(Mailbox(number, Kind.REPLY), 1, 0, 1, oldest_ms=oldest_ms + number)
            for number in (2, 0, 1)
        ]
        served.store.mailboxes.append(Backlog(Mailbox(3, Kind.REPLY), 0, 0, 0))
        pending = Mailbox(3, Aside.PENDING)
        served.store.mailboxes.append(Backlog(pending, 1, 0, 1, oldest_ms=oldest_ms))
    figures = asyncio.run(served.figures())
    assert figures["pullstatus_oldest_waiting_seconds"] == age_s
    assert figures["pullstatus_oldest_pending_seconds"] == age_s


def test_every_operation_has_a_ticket_of_its_own() -> None:
    """Of whichever call, and also one that is tried again because its application was changed."""

    async def ask(served: Served) -> None:
        for _ in range(2):
            await served.pull()
            await served.ingest([status(1)])
            await served.callback([status(1)])

    served = Served()
    run(ask(served))
    changed = Served()
    changed.store.pull_answer = SettingChanged("changed")
    run(changed.pull())
    assert len(changed.store.pulled) == limits.OVERTAKEN_MAX
    for operations in (served.store.pulled + served.store.appended, changed.store.pulled):
        tickets = {operation.ticket for operation in operations}
        assert len(tickets - {NO_TICKET}) == len(operations)
