"""Nothing that a stranger sends is read in one go that would hold up everybody else."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from itertools import product
from typing import Any, Final

import pytest

from pullstatus import limits
from pullstatus.errors import PullstatusError
from pullstatus.receipts.batch import read_in_steps
from pullstatus.receipts.reading import read
from pullstatus.receipts.request import Request
from pullstatus.receipts.sifting import sift_in_steps
from pullstatus.receipts.source import builtin
from pullstatus.records import Kind
from pullstatus.steps import Steps, done
from tests.harness import slowness

STEP_S: Final = 0.02  # on the machine that `slowness` compares with
NOW_S: Final = 1_790_000_000
BYTES: Final = limits.INGEST_BODY_BYTES_MAX
STATUS: Final[dict[str, Any]] = {
    "user_receive_time": "2026-11-26 10:00:00",
    "nationcode": "86",
    "mobile": "13800000000",
    "report_status": "SUCCESS",
    "errmsg": "DELIVRD",
    "description": "ok",
    "sid": "8:abcdefghijklmnopqrst",
}
MANY: Final = {f"u{number}": 1 for number in range(limits.UNKNOWN_MEMBERS_MAX)}


def compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def full(part: bytes) -> bytes:
    """An array of as many of these as a body holds."""
    return b"[" + b",".join([part] * ((BYTES - 2) // (len(part) + 1))) + b"]"


def with_raw(raw: bytes) -> bytes:
    """An array of one record with an unknown member that says this."""
    return b"[" + compact(STATUS)[:-1] + b',"u":' + raw + b"}]"


BODIES: Final = {
    "many unknown members": b"[" + b",".join([compact(STATUS | MANY)] * 1000) + b"]",
    "the same, cut": b"[" + b",".join([compact(STATUS | MANY)] * 1000),
    "the same, mended": b"[" + b",".join([compact(STATUS | MANY | {"mobile": " 1"})] * 1000) + b"]",
    "texts with every second letter to be escaped": full(
        compact(STATUS | {"description": "a\xe9" * 1000})
    ),
    "one such text": with_raw(b'"' + "a\xe9".encode() * 340_000 + b'"'),
    "one record with members without end": b"["
    + compact(STATUS | {str(number): 1 for number in range(100_000)})
    + b"]",
    "numbers": full(b"0"),
    "lists": full(b"[]"),
    "objects": full(b"{}"),
    "texts": full(b'""'),
    "lists in lists": full(b"[" * 14 + b"]" * 14),
    "a record of lists": with_raw(b"[" + b"[]," * 340_000 + b"0]"),
    "texts beside lists": b"[" + b'"",' * 340_000 + b"[]," * 20 + b"0]",
    "escapes beside lists": b'["' + b"\\n" * 500_000 + b'",' + b"[]," * 20 + b"0]",
    "times to be mended": full(compact(STATUS | {"user_receive_time": "2026/11/26 10:00:00"})),
    "controls": full(compact(STATUS | {"errmsg": "x" * 2000}).replace(b"x", b"\x01")),
    "halves of pairs": with_raw(b'"' + b"\\ud800" * 170_000 + b'"'),
    "pieces": b"[" + b"{}" * (BYTES // 2 - 1),
    "other pieces": b"[" + b'{"a":{},' * (BYTES // 8 - 1),
    "small and wrong": full(b'{"mobile":"1"}'),
    "empty lines": b"\n" * BYTES,
    "lines": b"0\n" * (BYTES // 2),
    "blank lines": b" \n" * (BYTES // 2),
}


def around(before: bytes, part: bytes, behind: bytes, size: int = BYTES // 4) -> bytes:
    """As many of these, with commas between, as go into so many bytes."""
    return before + b",".join([part] * (size // (len(part) + 1))) + behind


MEMBERS: Final = b",".join(b'"%d":1' % number for number in range(10_000))
LISTS: Final = {
    "a list of numbers": around(b'{"statuses":[{"recipients":[', b"1", b"]}]}"),
    "a list of objects": around(b'{"statuses":[{"recipients":[', b"{}", b"]}]}"),
    "lists of one": around(b'{"statuses":[', b'{"recipients":[1]}', b"]}"),
    "objects with lists of one": full(b'{"statuses":[{"recipients":[1]}]}'),
    "a list beside many members": around(
        b"{%b," % MEMBERS + b'"statuses":[{"recipients":[', b"1", b"]}]}"
    ),
}
NOT_IN_STEPS: Final = "one record with members without end"


def source(name: str, body: bytes) -> Steps[object]:
    """What a source reads of a body, which is one of a form where it reads forms alone."""
    place, _, field = builtin()[name].places[0].partition(".")
    forms = place == "form" or body[:1] == b"%"
    if forms:
        body = b"%b=%b&sms_reply=%b" % (field.encode(), body, body[: BYTES // 4])
    content_type = "application/x-www-form-urlencoded" if forms else "application/json"
    return read(builtin()[name], Request("POST", b"", content_type, body, NOW_S))


SOURCES: Final = {
    **{(name, body): BODIES[body] for name, body in product(builtin(), BODIES)},
    **{("sinch", body): data for body, data in LISTS.items()},
    **{
        (name, "escapes of a form"): b"%2541" * (BYTES // 8)
        for name in ("yunpian", "gupshup", "kannel", "twilio")
    },
}

READERS: Final[dict[str, Callable[[bytes], Steps[object]]]] = {
    "batch": lambda body: read_in_steps(body, Kind.DELIVERY_STATUS, ndjson=False),
    "lines": lambda body: read_in_steps(body, Kind.DELIVERY_STATUS, ndjson=True),
    "callback": lambda body: sift_in_steps(body, NOW_S),
}


def longest_s(steps: Steps[object], enough_s: float) -> float:
    """Processor time of the longest step, or of the first that takes too long."""
    longest = 0.0
    while longest <= enough_s:
        began = time.thread_time()
        try:
            next(steps)
        except (StopIteration, PullstatusError):
            return max(longest, time.thread_time() - began)
        longest = max(longest, time.thread_time() - began)
    return longest


@pytest.mark.parametrize(
    ("reader", "body"),
    [
        (reader, body)
        for reader, body in product(READERS, BODIES)
        if reader == "callback" or (reader == "lines") == ("lines" in body)
    ],
)
def test_no_step_takes_long(reader: str, body: str) -> None:
    data = BODIES[body]
    assert len(data) <= BYTES
    check(lambda: READERS[reader](data))


@pytest.mark.parametrize(("name", "body"), [each for each in SOURCES if each[1] != NOT_IN_STEPS])
def test_no_step_of_a_source_takes_long(name: str, body: str) -> None:
    check(lambda: source(name, SOURCES[name, body]))


def check(begin: Callable[[], Steps[object]]) -> None:
    """Of three runs the best: processor time, too, is longer beside a busy machine."""
    for last in (False, False, True):
        before = slowness()
        took_s = longest_s(begin(), 2 * STEP_S * before)
        enough_s = STEP_S * max(before, slowness())
        if took_s <= enough_s:
            return
        assert not last, (took_s, enough_s)


def test_steps_come_to_what_they_are_for() -> None:
    def work() -> Steps[int]:
        yield
        return 7

    assert done(work()) == 7


def test_steps_raise_what_the_work_raises() -> None:
    def work() -> Steps[int]:
        yield
        raise ValueError("theirs")

    with pytest.raises(ValueError, match="theirs"):
        done(work())
