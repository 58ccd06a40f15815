"""Pulls that are answered without waiting for anybody are answered as those that may wait."""

from __future__ import annotations

import asyncio
import json
import time

import msgspec
import pytest

from pullstatus import limits
from pullstatus.errors import (
    CallerGone,
    KeyReused,
    OutcomeUnknown,
    SettingChanged,
    StoreCorrupt,
    StoreFull,
    StoreUnavailable,
)
from pullstatus.records import Kind
from pullstatus.store import Page
from tests.harness import Answer, App
from tests.unit.server.asgi import APP, SECRET, Served

NOW_MS = int(time.time()) * 1000
FOREIGN = App(APP.sdkappid + 1, APP.appkey)

Headers = list[tuple[str, str]]


def good(kind: int = 0) -> tuple[str, bytes]:
    return APP.request(Kind(kind), at=NOW_MS // 1000)


def changed(**members: object) -> tuple[str, bytes]:
    target, body = good()
    return target, json.dumps(json.loads(body) | members).encode()


FORWARDED: Headers = [("x-forwarded-for", "198.51.100.1")]
ASKED: dict[str, tuple[tuple[str, bytes], Headers]] = {
    "usual": (good(), []),
    "replies": (good(kind=1), []),
    "another number": (FOREIGN.request(at=NOW_MS // 1000), []),
    "wrong signature": (changed(sig="0" * 64), []),
    "no signature": (changed(sig=None), []),
    "too old": (APP.request(at=NOW_MS // 1000 - limits.SKEW_S_MAX - 1), []),
    "no JSON": ((good()[0], b"{"), []),
    "no number": (("/v5/tlssmssvr/pullstatus?random=5", good()[1]), []),
    "no such type": (changed(type=2), []),
    "too many": (changed(max=101), []),
    "too large": ((good()[0], good()[1] + b" " * limits.PULL_BODY_BYTES_MAX), []),
    "encoded": (good(), [("content-encoding", "gzip")]),
    "encoded and too large": (
        (good()[0], b" " * (limits.PULL_BODY_BYTES_MAX + 1)),
        [("content-encoding", "gzip")],
    ),
    "with a key": (good(), [("idempotency-key", "k")]),
    "with a bad key": (good(), [("idempotency-key", "")]),
    "of a reader": (good(), [("pullstatus-reader", "r")]),
    "that waits for nothing": (good(), [("pullstatus-wait", "0")]),
    "that waits for no number": (good(), [("pullstatus-wait", "x")]),
    "forwarded": (good(), FORWARDED),
}

SETTINGS: dict[str, dict[str, object]] = {
    "as it is made": {},
    "strict": {"strict": True},
    "disabled": {"enabled": False},
    "in arrears": {"arrears": True},
    "without pulls": {"pull": False},
    "slow": {"pull_rate_max": 0},
    "patient": {"wait_s": 1},
}


def served(settings: dict[str, object], *, at_once: bool, empty: bool) -> Served:
    made = Served(now_ms=lambda: NOW_MS)
    made.at_once = at_once
    made.store.empty = empty
    if not empty:
        made.store.pull_answer = Page(7, 2, b"{},{}", 3)
    live = made.registry.applications[APP.sdkappid]
    made.registry.applications[APP.sdkappid] = type(live)(
        msgspec.structs.replace(live.application, **settings),
        1,
        {live.application.appkeys[0]: APP.appkey},
    )
    return made


def shown(answer: Answer | None) -> object:
    assert answer is not None
    names = [pair for pair in answer.headers if pair[0] != "pullstatus-request-id"]
    return answer.http_status, names, answer.content


OF_THE_PROCESS = ("process", "python", "pullstatus_log_lines")
"""Of all of it, other tests and the thread that writes the log included."""


def told(made: Served) -> dict[str, float]:
    return {
        name: figure
        for name, figure in asyncio.run(made.figures()).items()
        if "seconds" not in name and not name.startswith(OF_THE_PROCESS)
    }


@pytest.mark.parametrize("empty", [True, False], ids=["empty", "a page waits"])
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
def test_answers_figures_and_what_the_store_is_asked_are_the_same(
    asked: tuple[tuple[str, bytes], Headers], settings: dict[str, object], empty: bool
) -> None:
    (target, body), headers = asked
    if settings.get("wait_s") and empty:
        headers = headers or [("pullstatus-wait", "0")]
    ways = [served(settings, at_once=at_once, empty=empty) for at_once in (False, True)]
    answers = [asyncio.run(way.ask("POST", target, body, headers)) for way in ways]
    assert shown(answers[0]) == shown(answers[1])
    assert told(ways[0]) == told(ways[1])
    assert ways[0].registry.used == ways[1].registry.used
    careful, quick = ([each.mailbox for each in way.store.pulled] for way in ways)
    usual = not headers or (headers == FORWARDED and "wait_s" not in settings)
    leaves_no_trace = empty and usual and "strict" not in settings
    assert quick == ([] if leaves_no_trace else careful)


def test_the_store_is_not_asked_for_what_it_surely_has_not() -> None:
    made = served({}, at_once=True, empty=True)
    answer = asyncio.run(made.pull())
    assert answer is not None
    assert (answer.result, answer.data, made.store.pulled) == (0, [], [])


def test_a_fault_of_ours_is_told_where_it_is_known_how(monkeypatch: pytest.MonkeyPatch) -> None:
    made = served({}, at_once=True, empty=True)

    def broken(_mailbox: object) -> bool:
        raise ZeroDivisionError

    monkeypatch.setattr(made.store, "surely_empty", broken)
    answer = asyncio.run(made.pull())
    assert answer is not None
    assert answer.result == 0
    assert len(made.store.pulled) == 1


# --- what the store has to be asked for -----------------------------------------------------------

RECORD = {
    "user_receive_time": "2026-01-05 08:03:04",
    "nationcode": "86",
    "mobile": "13800000001",
    "report_status": "SUCCESS",
    "errmsg": "DELIVRD",
    "description": "delivered",
    "sid": "8:one",
}
REPLY = {"nationcode": "86", "mobile": "13800000001", "text": "1", "sign": "a", "time": 1}
BATCH = f"/ingest/{APP.sdkappid}/delivery-statuses"
BEARER = ("authorization", f"Bearer {SECRET}")
TYPE = ("content-type", "application/json")

Sent = tuple[str, bytes, Headers]


def batch(*records: object, target: str = BATCH, headers: Headers = [BEARER, TYPE]) -> Sent:  # noqa: B006
    return target, json.dumps(records).encode(), headers


LINES: Headers = [BEARER, ("content-type", "application/x-ndjson")]
SENT: dict[str, Sent] = {
    "usual": batch(RECORD),
    "of a hundred": batch(*[RECORD] * 100),
    "large": batch(*[RECORD] * 300),
    "too many": batch(*[RECORD] * (limits.INGEST_RECORDS_MAX + 1)),
    "none": batch(),
    "not ASCII": batch(RECORD | {"description": "收到"}),
    "with a member more": batch(RECORD | {"fee": 1}),
    "without a number": batch(RECORD | {"mobile": ""}),
    "of no time": batch(RECORD | {"user_receive_time": "2026-13-05 08:03:04"}),
    "too large a record": batch(RECORD | {"description": "x" * limits.RECORD_BYTES_MAX}),
    "replies": batch(
        REPLY,
        target=f"/ingest/{APP.sdkappid}/replies",
    ),
    "of no kind": batch(RECORD, target=f"/ingest/{APP.sdkappid}/statuses"),
    "of another": batch(RECORD, target=f"/ingest/{FOREIGN.sdkappid}/delivery-statuses"),
    "no JSON": (BATCH, b"[{", [BEARER, TYPE]),
    "lines": (BATCH, json.dumps(RECORD).encode(), LINES),
    "of no type": batch(RECORD, headers=[BEARER]),
    "encoded": batch(RECORD, headers=[BEARER, TYPE, ("content-encoding", "gzip")]),
    "encoded as it is": batch(RECORD, headers=[BEARER, TYPE, ("content-encoding", "identity")]),
    "without a token": batch(RECORD, headers=[TYPE]),
    "with a wrong token": batch(RECORD, headers=[("authorization", "Bearer x"), TYPE]),
    "with a key": batch(RECORD, headers=[BEARER, TYPE, ("idempotency-key", "k")]),
    "with a bad key": batch(RECORD, headers=[BEARER, TYPE, ("idempotency-key", "")]),
    "with two types": batch(RECORD, headers=[BEARER, TYPE, LINES[1]]),
    "forwarded": batch(RECORD, headers=[BEARER, TYPE, ("x-forwarded-for", "198.51.100.1")]),
}

HOOK = f"/callbacks/{SECRET}"
SENT |= {
    "a callback": batch(RECORD, target=HOOK, headers=[]),
    "a callback of a hundred": batch(*[RECORD] * 100, target=HOOK, headers=[TYPE]),
    "a large callback": batch(*[RECORD] * 300, target=HOOK, headers=[TYPE]),
    "a callback of nothing": batch(target=HOOK, headers=[TYPE]),
    "a callback of a reply": (HOOK, json.dumps(REPLY).encode(), []),
    "a callback to be mended": batch({**RECORD, "nationcode": 86}, target=HOOK, headers=[]),
    "a callback half bad": batch(RECORD, {"x": 1}, target=HOOK, headers=[]),
    "a callback of no sense": (HOOK, b"x", [TYPE]),
    "a callback that is encoded": batch(
        RECORD, target=HOOK, headers=[TYPE, ("content-encoding", "gzip")]
    ),
    "a callback with a wrong token": batch(RECORD, target="/callbacks/x", headers=[]),
    "a callback with a query": batch(RECORD, target=f"{HOOK}?x=1", headers=[]),
    "a callback forwarded": batch(
        RECORD, target=HOOK, headers=[("x-forwarded-for", "198.51.100.1")]
    ),
}
IN = f"/in/{SECRET}/tencent"
SENT |= {
    "a source's callback": batch(RECORD, target=IN, headers=[]),
    "a source's callback half bad": batch(RECORD, {"x": 1}, target=IN, headers=[]),
    "a callback of no source": batch(RECORD, target=f"/in/{SECRET}/none", headers=[]),
    "a source's callback with a wrong token": batch(RECORD, target="/in/x/tencent", headers=[]),
}

FAULTS: dict[str, BaseException | None] = {
    "none": None,
    "away": StoreUnavailable("not now"),
    "full": StoreFull("no room"),
    "damaged": StoreCorrupt("a page is not what was written"),
    "unknown": OutcomeUnknown("the disk did not say"),
    "overtaken": SettingChanged("it is another"),
    "key reused": KeyReused("it came with another body"),
    "caller gone": CallerGone("it has"),
    "unforeseen": ZeroDivisionError("ours"),
}


def asked_of(made: Served) -> list[object]:
    """What the store was asked, but for under which ticket."""
    store = made.store
    every = [*store.appended, *[each.records for each in store.parked], *store.pulled]
    return [msgspec.structs.replace(each, ticket=b"") for each in every]


def check_both_ways(
    sent: Sent, *, fault: BaseException | None = None, gone: bool = False, empty: bool = True
) -> None:
    target, body, headers = sent
    ways = [served({}, at_once=at_once, empty=empty) for at_once in (False, True)]
    answers = []
    for way in ways:
        way.gone = gone
        if fault is not None:
            way.store.append_answer = way.store.pull_answer = fault
        answers.append(asyncio.run(way.ask("POST", target, body, headers)))
    careful, quick = (answer and shown(answer) for answer in answers)
    assert careful == quick
    assert told(ways[0]) == told(ways[1])
    assert ways[0].registry.used == ways[1].registry.used
    assert ways[0].hung_up == ways[1].hung_up
    assert asked_of(ways[0]) == asked_of(ways[1])


@pytest.mark.parametrize("sent", SENT.values(), ids=SENT)
def test_a_batch_comes_to_the_same_on_both_ways(sent: Sent) -> None:
    check_both_ways(sent)


@pytest.mark.parametrize("gone", [False, True], ids=["", "gone"])
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_what_the_store_says_is_told_the_same_on_both_ways(
    fault: BaseException | None, gone: bool
) -> None:
    for sent in (SENT["usual"], SENT["with a key"], SENT["a callback"]):
        check_both_ways(sent, fault=fault, gone=gone)
    for header in ([], [("idempotency-key", "k")], [("pullstatus-reader", "r")]):
        check_both_ways((*good(), header), fault=fault, gone=gone, empty=False)


def test_a_usual_batch_and_page_need_no_scope(monkeypatch: pytest.MonkeyPatch) -> None:
    made = served({}, at_once=True, empty=False)

    async def careful(*_: object) -> None:
        pytest.fail("it went the careful way")

    monkeypatch.setattr(type(made.routes), "__call__", careful)
    monkeypatch.setattr(limits, "SLICE_S", 60.0)  # the machine may be busy
    batches = [SENT[name] for name in ("with a key", "a callback of a hundred")]
    posts = [made.ask("POST", *sent) for sent in batches]
    for asking in (*posts, made.pull()):
        answer = asyncio.run(asking)
        assert answer is not None
        assert answer.http_status == 200
