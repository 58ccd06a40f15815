"""A part that never comes: what is there is delivered, marked, once its time is up, and no sooner.

How long parts wait is read when something may leave. So time passes here by a server that is
started anew with less of it, and no part is ever late for another that is meant to be with it.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from pullstatus.receipts.joining import MISSING
from tests.e2e.test_inbound import register
from tests.harness import (
    PATIENCE_S,
    REPLY,
    STATUS,
    App,
    Program,
    with_limits,
    with_values,
)

IMPATIENT = with_limits(PENDING_PARTS_S=1)
UDH = "kannel?text=<{0}>&from=%2B8613800000001&to=1069&id={0}&udh=%05%00%03%2A%03%0{0}"
CONCAT = (
    "vonage?msisdn=8613800000002&to=1069&messageId=0B{0}&text=({0})&type=text"
    "&concat=true&concat-ref=08B5&concat-total=3&concat-part={0}"
)


@pytest.fixture
def program(tmp_path: Path, environment: dict[str, str], each_store: str | None) -> Program:
    """A server over each engine, which does not run yet."""
    return Program(tmp_path, environment=environment, store=each_store)


def come(program: Program, token: str, number: int) -> None:
    """This part of both replies comes, and once more, as after a lost answer."""
    for _ in range(2):
        for part in (UDH, CONCAT):
            answer = program.http.get(f"/in/{token}/{part.format(number)}")
            assert answer.status_code == 200, answer.content


def texts(program: Program, app: App, count: int) -> list[str]:
    """What the application has pulled once there are so many replies, or time is up."""
    found: list[str] = []
    until_s = time.monotonic() + PATIENCE_S
    while len(found) < count and time.monotonic() < until_s:
        found += [row["text"] for row in program.pull(app, REPLY).data]
    return sorted(found)


def test_a_reply_of_which_a_part_never_comes_is_delivered_marked(program: Program) -> None:
    """Though the server is killed behind each part, and behind its time; a late part is its own."""
    app = program.create_app()
    token = program.create_token("gateway", app=app)
    for number in (3, 1):
        with program:
            come(program, token, number)
            program.kill()
    with program:
        program.until(lambda: program.metrics().get("pullstatus_pending") == 4)
        assert program.pull(app, REPLY).data == []
        program.kill()
    program.command = IMPATIENT
    with program:
        assert texts(program, app, 2) == [f"(1){MISSING}(3)", f"<1>{MISSING}<3>"]
        program.kill()
    with program:
        for number in (1, 2, 3):  # two of them again
            come(program, token, number)
        assert texts(program, app, 2) == [f"{MISSING}(2){MISSING}", f"{MISSING}<2>{MISSING}"]
        program.until(lambda: program.metrics().get("pullstatus_pending") == 0)
        assert program.pull(app, REPLY).data == []
    assert program.cli("audit")["sound"]


def test_its_time_is_up_while_the_server_runs(tmp_path: Path) -> None:
    """The first part is there, and nothing else comes that could wake anybody."""
    program = Program(tmp_path, command=IMPATIENT)
    with program:
        app = program.create_app()
        token = program.create_token("gateway", app=app)
        come(program, token, 1)
        assert texts(program, app, 2) == [f"(1){MISSING}", f"<1>{MISSING}"]


def receipt(program: Program, token: str, part: str) -> None:
    """A platform's gateway reports a part, and once more, as after a lost answer."""
    said = {"mobile": "13800138000", "id": part, "report_status": "SUCCESS", "errmsg": "DELIVRD"}
    for _ in range(2):
        assert program.http.post(f"/in/{token}/native", json=[said]).status_code == 200


@pytest.mark.parametrize("every_s", [0.02, 3600], ids=["seen", "unseen"])
def test_parts_before_and_behind_their_registration_are_one_message(
    program: Program, every_s: float
) -> None:
    """Of a platform, whoever it is that was killed; and an hour later there is nothing more.

    Unseen, both wait where they came when the server is back and all of it is overdue.
    """
    app = program.create_app()
    token = program.create_token("platform")
    looking = {"limits.PENDING_NAME_S": 3600, "server.serve.PENDING_EVERY_S": every_s}
    program.command = with_values(looking)
    with program:
        register(program, app, {"sid": "first", "id": "first"})
        receipt(program, token, "a")
        receipt(program, token, "c")
        program.until(lambda: program.metrics().get("pullstatus_pending") == 2)
        register(program, app, {"sid": "S", "ids": ["a", "b"]}, {"sid": "T", "ids": ["c", "d"]})
        program.kill()
    with program:
        receipt(program, token, "b")
        program.kill()
    program.command = IMPATIENT
    found: list[tuple[str, ...]] = []
    with program:
        until_s = time.monotonic() + PATIENCE_S
        while len(found) < 2 and time.monotonic() < until_s:
            page = program.pull(app, STATUS).data
            told = ("sid", "report_status", "nationcode", "mobile")
            found += [tuple(row[name] for name in told) for row in page]
        program.until(lambda: program.metrics().get("pullstatus_pending") == 0)
        receipt(program, token, "a")
        receipt(program, token, "b")
        assert program.metrics().get("pullstatus_pending") == 0
        assert program.pull(app, STATUS).data == []
    number = ("86", "13800138000")
    assert sorted(found) == [("S", "SUCCESS", *number), ("T", "FAIL", *number)]
    assert program.cli("audit")["sound"]
