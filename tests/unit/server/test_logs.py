"""What a log line says: whose it is, what was wrong, and nothing of what was sent."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import logging
import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from pullstatus import limits
from pullstatus.errors import InvalidSetting, StoreUnavailable
from pullstatus.server import logs
from pullstatus.server.logs import repeats
from pullstatus.store import PutAside
from pullstatus.terminal import visible
from tests.harness import PATIENCE_S, Answer, reply, status
from tests.logs import own_log
from tests.unit.server import api3
from tests.unit.server.asgi import APP, SECRET, Served

CANARY = "canary 13877700077"  # a source line of a trace may not hold it


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What the log writes, as the program sets it up."""
    yield from _written(monkeypatch, io.StringIO())


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """The same on a terminal."""
    yield from _written(monkeypatch, Terminal())


def _written(monkeypatch: pytest.MonkeyPatch, output: io.StringIO) -> Iterator[io.StringIO]:
    monkeypatch.setattr(sys, "stderr", output)
    monkeypatch.setattr(limits, "LOG_FLUSH_S", PATIENCE_S)
    with own_log():
        logs.configure()
        yield output


def flush() -> None:
    """Wait for the thread that writes."""
    for handler in logging.getLogger().handlers:
        handler.flush()


def text(output: io.StringIO) -> str:
    flush()
    return output.getvalue()


def lines(output: io.StringIO) -> list[dict[str, Any]]:
    flush()
    return [json.loads(line) for line in output.getvalue().splitlines()]


def ask(work: Any) -> Answer:  # noqa: ANN401
    answer = asyncio.run(work)
    assert isinstance(answer, Answer)
    return answer


WHOSE = {"address": "192.0.2.7", "sdkappid": APP.sdkappid}


def test_refused_pull_says_whose_it_is(written: io.StringIO) -> None:
    served = Served()
    target, body = APP.request(at=0)
    answer = ask(served.post(target, body))
    assert answer.result == 1021
    [line] = lines(written)
    assert line.items() >= ({"event": "pull refused", "result": 1021} | WHOSE).items()
    assert line["reason"] == answer.json["errmsg"]
    assert line["request"] == answer.header("pullstatus-request-id")


def test_refused_pull_says_whose_it_claims_to_be_even_if_its_body_is_none(
    written: io.StringIO,
) -> None:
    served = Served()
    for query in ("random=1&sdkappid=77", "sdkappid=13877700077&random=1", "sdkappid=x"):
        ask(served.post(f"/v5/tlssmssvr/pullstatus?{query}", b"canary"))
    told = [line.get("sdkappid") for line in lines(written)]
    assert told == [77, None, None], "a number with eleven digits is no sdkappid"


def test_refused_batch_names_token_application_and_member(written: io.StringIO) -> None:
    served = Served()
    bad = status(2, sid="canary" * 20)
    answer = ask(served.ingest([status(1), bad]))
    [line] = lines(written)
    due = {
        "event": "batch refused",
        "door": "ingest",
        "status": 400,
        "reason": "Invalid record",
        "member": "sid",
        "index": 1,
        "token": "gateway",
    }
    assert line.items() >= (due | WHOSE).items()
    assert line["request"] == answer.header("pullstatus-request-id")


def test_parked_items_are_told_with_token_application_and_member(written: io.StringIO) -> None:
    """And with nothing that they say."""
    served = Served()
    served.store.park_answer = PutAside(1, 1, 3)
    bad = status(2, sid="canary" * 20, mobile="13877700077")
    ask(served.callback([status(1), bad, "canary 13877700077"]))
    parked, expired = lines(written)
    due = {
        "event": "items parked",
        "level": "warning",
        "door": "callbacks",
        "items": 2,
        "member": "sid",
        "index": 1,
        "reason": "must have 1 to 64 characters",
        "token": "gateway",
    }
    assert parked.items() >= (due | WHOSE).items()
    assert expired.items() >= {"event": "parked items expired", "items": 3}.items()
    assert "canary" not in text(written)
    assert "13877700077" not in text(written)


def test_batch_of_an_unknown_token_says_where_it_came_from(written: io.StringIO) -> None:
    served = Served()
    ask(served.post("/callbacks/pst_canary", b"[]"))
    ask(served.post(f"/ingest/{APP.sdkappid}/replies", b"[]"))
    ask(served.post("/ingest/13877700077/replies", b"[]"))
    callbacks, ingest, odd = lines(written)
    assert callbacks["address"] == ingest["address"] == "192.0.2.7"
    assert "sdkappid" not in callbacks
    assert ingest["sdkappid"] == APP.sdkappid
    assert "13877700077" not in json.dumps(odd)


def test_batch_put_off_is_one_warning_with_its_cause(written: io.StringIO) -> None:
    served = Served()
    served.store.append_answer = StoreUnavailable("too much waits")
    ask(served.ingest([status(1)]))
    [line] = lines(written)
    assert (line["level"], line["cause"], line["token"]) == ("warning", "too much waits", "gateway")


def test_address_that_a_proxy_made_up_is_not_written(written: io.StringIO) -> None:
    served = Served()
    served.address = "\x1b[31mcanary"
    ask(served.callback(b"null"))
    assert lines(written)[0]["address"] == "(no address)"
    assert b"(no address)" in served.store.parked[0].entries[0]


def test_line_on_a_terminal_steers_nothing(shown: io.StringIO) -> None:
    attack = "a\x1b[2J\x9b31m\u202eb"
    structlog.get_logger("test").warning(
        attack, reason=attack, several=[attack], text="a b" + attack
    )
    logging.getLogger("library").error("%s", attack)
    plain = re.sub(r"\x1b\[[\d;]*m", "", text(shown))
    assert visible(plain) == plain
    assert plain.count("2J") == 5
    assert "\x1b[1m" in text(shown)


def test_accepted_and_handed_out_is_not_logged(written: io.StringIO) -> None:
    served = Served()
    ask(served.ingest([status(1)]))
    ask(served.pull())
    assert text(written) == ""


def test_trace_has_files_lines_and_kinds_but_nothing_that_was_sent(written: io.StringIO) -> None:
    """Errors that are not ours quote what they stumble over."""
    served = Served()
    served.store.append_answer = ValueError("13877700077 canary")
    ask(served.callback(reply(1, text="canary")))
    [line] = lines(written)
    assert line["event"] == "batch failed"
    assert "asgi.py" in line["exception"]
    assert line["exception"].endswith("builtins.ValueError")
    assert "canary" not in text(written)
    assert SECRET not in text(written)


def test_trace_shows_what_an_error_came_of_and_what_ours_says(written: io.StringIO) -> None:
    log = structlog.get_logger("test")
    log.error("failed", exc_info=ExceptionGroup("canary", [InvalidSetting("the fix")]))
    trace = lines(written)[0]["exception"]
    full = OSError(28, "No space left", "/a/canary")
    kinds = [line for line in trace.splitlines() if not line.startswith(" ")]
    assert kinds == ["builtins.ExceptionGroup", "pullstatus.errors.InvalidSetting: the fix"]
    try:
        raise InvalidSetting("the fix") from full
    except InvalidSetting:
        log.exception("failed")
    trace = lines(written)[1]["exception"]
    assert trace.startswith("builtins.OSError: No space left\n")
    assert "canary" not in text(written)


def test_log_of_a_library_is_written_alike(written: io.StringIO) -> None:
    logging.getLogger("asyncio").error("something", exc_info=ValueError("canary"))
    [line] = lines(written)
    assert line["event"] == "something"
    assert line["exception"] == "builtins.ValueError"


def test_library_shows_nothing_that_its_objects_hold(written: io.StringIO) -> None:
    """asyncio tells a forgotten error, and what a callback was called with, in full."""

    async def fail() -> None:
        raise ValueError(CANARY)

    def call(_text: str) -> None:
        raise ValueError(CANARY)

    async def forget() -> None:
        task = asyncio.ensure_future(fail())
        await asyncio.wait([task])
        del task
        gc.collect()
        asyncio.get_running_loop().call_soon(call, CANARY)
        await asyncio.sleep(0)

    asyncio.run(forget())
    forgotten, called = [line["event"] for line in lines(written)]
    assert forgotten == "Task exception was never retrieved"
    assert called.startswith("Exception in callback ")
    assert called.endswith(".<locals>.call")
    assert "canary" not in text(written)


@pytest.fixture
def one_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever comes does so in one second, however busy the machine is."""
    monkeypatch.setattr(repeats, "SECOND_S", 3600.0)


@pytest.mark.usefixtures("one_second")
def test_flood_of_refusals_is_summed_by_kind(written: io.StringIO) -> None:
    """Each is refused by name, counted, and told of, if not in a line of its own."""
    served = Served()

    async def flood() -> dict[str, float]:
        for _ in range(100):
            await served.post(*APP.request(at=0))
        served.address = "198.51.100.9"
        await served.post(*APP.request(at=0))
        flush()
        return await served.figures()

    figures = asyncio.run(flood())
    *singly, told = lines(written)
    assert [line["address"] for line in singly].count("192.0.2.7") < 10
    assert "198.51.100.9" in [line["address"] for line in singly], "another's line is written"
    assert told.keys() == {"level", "event", "result", "more", "timestamp"}
    due = {"level": "info", "event": "pull refused", "result": 1021, "more": 101 - len(singly)}
    assert told.items() >= due.items()
    assert figures['pullstatus_log_lines_total{fate="written"}'] == len(singly) + 1
    assert figures['pullstatus_log_lines_total{fate="summed"}'] == told["more"]
    assert figures['pullstatus_log_lines_total{fate="dropped"}'] == 0


@pytest.mark.usefixtures("one_second")
def test_flood_of_one_code_hides_no_other(written: io.StringIO) -> None:
    """Of API 3.0 as of v5: a customer who calls too often leaves room for a wrong signature."""
    served = api3.served()

    async def flood() -> None:
        wrong = api3.signed("PullSmsSendStatus", api3.BODY, key="w" * 32)
        for headers, count in ((api3.FORM, 100), (wrong, 1)):
            for _ in range(count):
                assert api3.code(await api3.say(served, headers, b""))
        flush()

    asyncio.run(flood())
    *singly, signature, told = lines(written)
    assert {line["code"] for line in singly} == {"MissingParameter"}
    assert signature["code"] == "AuthFailure.SignatureFailure"
    due = {"event": "call refused", "code": "MissingParameter", "more": 100 - len(singly)}
    assert told.items() >= due.items()


@pytest.mark.usefixtures("one_second")
def test_flood_of_a_library_is_summed(written: io.StringIO) -> None:
    for number in range(100):
        logging.getLogger("asyncio").error("something %d", number)
    *singly, told = lines(written)
    assert told.items() >= {"event": "lines of asyncio", "more": 100 - len(singly)}.items()


def test_what_the_server_says_of_itself_is_never_summed(written: io.StringIO) -> None:
    log = structlog.get_logger("test")
    for number in range(100):
        log.error("reload failed", reason=str(number))
    assert len(lines(written)) == 100


def test_who_develops_sees_every_line(
    written: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", written)
    logs.configure(sums=False)
    log = structlog.get_logger("test")
    for _ in range(100):
        log.info("request", address="192.0.2.7")
    assert len(lines(written)) == 100


def test_level_can_be_changed_while_it_runs(
    written: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", written)  # pytest puts its own in place for each phase
    log = structlog.get_logger("test")
    for level in ("error", "info", "warning"):
        logs.configure(level)
        log.info(level)
    assert [line["event"] for line in lines(written)] == ["info"]


def test_terminal_gets_text(shown: io.StringIO) -> None:
    served = Served()
    served.store.append_answer = ValueError("canary")
    ask(served.callback([status(1)]))
    said = text(shown)
    assert "batch failed" in said
    assert not said.startswith("{")
    assert "builtins.ValueError" in said
    assert "canary" not in said
