"""A format's test is data: requests, and what becomes of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pullstatus.receipts.formats import FORMATS, Request
from pullstatus.records import Kind
from pullstatus.steps import done

CORPUS = Path(__file__).parents[2] / "corpus" / "v5"
STATUSES = (CORPUS / "delivery_statuses_callback.json").read_bytes()
REPLY = (CORPUS / "reply_callback.json").read_bytes()
ARRIVED_S = 1_767_571_200

READ = [  # format, method, query, content type, body -> kind, entries
    ("tencent", "POST", b"", "application/json", STATUSES, Kind.DELIVERY_STATUS, [STATUSES[1:-1]]),
    ("tencent", "POST", b"", "application/json", REPLY, Kind.REPLY, [REPLY]),
    ("tencent", "POST", b"a=1", "", REPLY, Kind.REPLY, [REPLY]),
    ("tencent", "POST", b"", "text/plain", REPLY, Kind.REPLY, [REPLY]),
]
UNREAD = [  # format, method, query, content type, body -> kind and member of what is unread
    ("tencent", "POST", b"", "application/json", b"", []),
    ("tencent", "POST", b"", "application/json", b"[]", []),
    ("tencent", "POST", b"sid=1", "", b"sid=1", [(None, None)]),
    ("tencent", "POST", b"", "application/json", b"[{}]", [(Kind.DELIVERY_STATUS, "nationcode")]),
]
ALONE = [("tencent", STATUSES[1:-1], STATUSES)]  # format, part -> request
ANSWERS = [  # format, records -> answer
    ("tencent", 1, b'{"result":0,"errmsg":"OK"}'),
    ("tencent", 100, b'{"result":0,"errmsg":"OK"}'),
]
REFUSALS = [("tencent", "a reason", {"result": 1, "errmsg": "a reason"})]
METHODS = [("tencent", ("POST",))]


@pytest.mark.parametrize(
    ("name", "method", "query", "content_type", "body", "kind", "entries"), READ
)
def test_request_is_read(
    name: str,
    method: str,
    query: bytes,
    content_type: str,
    body: bytes,
    kind: Kind,
    entries: list[bytes],
) -> None:
    receipts = done(FORMATS[name].read(Request(method, query, content_type, body, ARRIVED_S)))
    assert (receipts.kind, receipts.entries) == (kind, entries)
    assert receipts.fingerprints is not None


@pytest.mark.parametrize(("name", "method", "query", "content_type", "body", "unread"), UNREAD)
def test_what_cannot_be_read_is_told(
    name: str,
    method: str,
    query: bytes,
    content_type: str,
    body: bytes,
    unread: list[tuple[Kind | None, str | None]],
) -> None:
    receipts = done(FORMATS[name].read(Request(method, query, content_type, body, ARRIVED_S)))
    assert receipts.entries == []
    assert [(each.kind, each.member) for each in receipts.unread] == unread


@pytest.mark.parametrize(("name", "part", "request_body"), ALONE)
def test_part_is_read_again_without_the_others(name: str, part: bytes, request_body: bytes) -> None:
    assert FORMATS[name].alone(part) == request_body


@pytest.mark.parametrize(("name", "count", "answer"), ANSWERS)
def test_acceptance_is_answered_as_the_sender_expects(name: str, count: int, answer: bytes) -> None:
    assert FORMATS[name].answer(count) == answer


@pytest.mark.parametrize(("name", "detail", "members"), REFUSALS)
def test_refusal_has_what_the_sender_looks_for(
    name: str, detail: str, members: dict[str, object]
) -> None:
    assert FORMATS[name].refusal(detail) == members


def test_every_format_has_its_data() -> None:
    assert {name: form.methods for name, form in FORMATS.items()} == dict(METHODS)
    for table in (READ, UNREAD, ALONE, ANSWERS, REFUSALS):
        assert {row[0] for row in table} == set(FORMATS)
