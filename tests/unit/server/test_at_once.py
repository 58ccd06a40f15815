"""Pulls that are answered without waiting for anybody are answered as those that may wait."""

from __future__ import annotations

import asyncio
import json
import time

import msgspec
import pytest

from pullstatus import limits
from pullstatus.records import Kind
from pullstatus.store import Page
from tests.harness import Answer, App
from tests.unit.server.asgi import APP, Served

NOW_MS = int(time.time()) * 1000
FOREIGN = App(APP.sdkappid + 1, APP.appkey)

Headers = list[tuple[str, str]]


def good(kind: int = 0) -> tuple[str, bytes]:
    return APP.request(Kind(kind), at=NOW_MS // 1000)


def changed(**members: object) -> tuple[str, bytes]:
    target, body = good()
    return target, json.dumps(json.loads(body) | members).encode()


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
    "forwarded": (good(), [("x-forwarded-for", "198.51.100.1")]),
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


def told(made: Served) -> dict[str, float]:
    return {
        name: figure
        for name, figure in asyncio.run(made.figures()).items()
        if "seconds" not in name and not name.startswith(("process", "python"))
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
    leaves_no_trace = empty and not headers and "strict" not in settings
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
