"""A format's test is data: requests, and what becomes of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pullstatus.errors import InvalidBody, InvalidRecord
from pullstatus.receipts.formats import FORMATS, Request
from pullstatus.records import Kind

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
REFUSED = [  # format, method, query, content type, body -> error
    ("tencent", "POST", b"", "application/json", b"", InvalidBody),
    ("tencent", "POST", b"", "application/json", b"[]", InvalidBody),
    ("tencent", "POST", b"sid=1", "", b"sid=1", InvalidBody),
    ("tencent", "POST", b"", "application/json", b"[{}]", InvalidRecord),
]
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
    receipts = FORMATS[name].read(Request(method, query, content_type, body, ARRIVED_S))
    assert (receipts.kind, receipts.entries) == (kind, entries)
    assert receipts.fingerprints is not None


@pytest.mark.parametrize(("name", "method", "query", "content_type", "body", "error"), REFUSED)
def test_request_is_refused(
    name: str,
    method: str,
    query: bytes,
    content_type: str,
    body: bytes,
    error: type[Exception],
) -> None:
    with pytest.raises(error):
        FORMATS[name].read(Request(method, query, content_type, body, ARRIVED_S))


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
    for table in (READ, REFUSED, ANSWERS, REFUSALS):
        assert {row[0] for row in table} == set(FORMATS)
