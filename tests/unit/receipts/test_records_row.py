"""The row whose items are records: requests, and what becomes of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pullstatus.receipts.reading import read_records
from pullstatus.receipts.request import Request
from pullstatus.receipts.source import builtin
from pullstatus.records import Kind
from pullstatus.steps import done

CORPUS = Path(__file__).parents[2] / "corpus" / "v5"
STATUSES = (CORPUS / "delivery_statuses_callback.json").read_bytes()
REPLY = (CORPUS / "reply_callback.json").read_bytes()
ARRIVED_S = 1_767_571_200

READ = [  # query, content type, body -> kind, entries
    (b"", "application/json", STATUSES, Kind.DELIVERY_STATUS, [STATUSES[1:-1]]),
    (b"", "application/json", REPLY, Kind.REPLY, [REPLY]),
    (b"a=1", "", REPLY, Kind.REPLY, [REPLY]),
    (b"", "text/plain", REPLY, Kind.REPLY, [REPLY]),
]
UNREAD = [  # query, content type, body -> kind and member of what is unread
    (b"", "application/json", b"", []),
    (b"", "application/json", b"[]", []),
    (b"sid=1", "", b"sid=1", [(None, None)]),
    (b"", "application/json", b"[{}]", [(Kind.DELIVERY_STATUS, "nationcode")]),
]


@pytest.mark.parametrize(("query", "content_type", "body", "kind", "entries"), READ)
def test_request_is_read(
    query: bytes, content_type: str, body: bytes, kind: Kind, entries: list[bytes]
) -> None:
    receipts = done(read_records(Request("POST", query, content_type, body, ARRIVED_S)))
    assert (receipts.kind, receipts.entries) == (kind, entries)
    assert receipts.fingerprints is not None


@pytest.mark.parametrize(("query", "content_type", "body", "unread"), UNREAD)
def test_what_cannot_be_read_is_told(
    query: bytes, content_type: str, body: bytes, unread: list[tuple[Kind | None, str | None]]
) -> None:
    receipts = done(read_records(Request("POST", query, content_type, body, ARRIVED_S)))
    assert receipts.entries == []
    assert [(each.kind, each.member) for each in receipts.unread] == unread


def test_what_cannot_be_read_at_all_is_kept_as_it_came() -> None:
    """So that it is the same when it is read again; a part was cut out of it in UTF-8."""
    content_type = "application/json; charset=GBK"
    whole, parts = '{"text": "你好"}'.encode("gbk"), '[{"text": "你好"}]'.encode("gbk")
    for body, raw in ((whole, whole), (parts, parts[1:-1].decode("gbk").encode())):
        receipts = done(read_records(Request("POST", b"", content_type, body, ARRIVED_S)))
        assert [each.raw for each in receipts.unread] == [raw]


def test_tencents_row_says_what_its_sender_looks_for() -> None:
    row = builtin()["tencent"]
    assert row.records
    assert row.methods == ("POST",)
    assert row.answer.body == '{"result":0,"errmsg":"OK"}'
    assert row.answer.refused("a reason") == {"result": 1, "errmsg": "a reason"}
