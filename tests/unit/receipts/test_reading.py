"""Requests of gateways are read as their sources say, and whatever comes is read or told apart."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import get_args
from urllib.parse import quote, quote_plus, urlencode

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullstatus import limits
from pullstatus.errors import InvalidSetting
from pullstatus.receipts import Unread
from pullstatus.receipts.reading import read, read_records, read_usual, receipt_text
from pullstatus.receipts.reports import (
    Report,
    Reports,
    State,
    Whose,
    fingerprint,
    receipts_of,
)
from pullstatus.receipts.request import Request, charset_of
from pullstatus.receipts.source import Form, Source, builtin, read_source
from pullstatus.receipts.times import TIMES
from pullstatus.records import Kind
from pullstatus.records.numbers import split, split_all
from pullstatus.steps import done

NOW_S = 1_767_000_000
FORM = "application/x-www-form-urlencoded"

ROW = """
name = "mine"
items = "{items}"
[status]
when = "state"
number = "to.number"
id = ["id", "other"]
state = "state"
states = {{ ok = "SUCCESS", bad = "FAIL", sent = "INTERMEDIATE" }}
time = "at"
[reply]
number = "from"
text = "text"
part = {{ reference = "ref", count = "of", number = "part" }}
"""


def mine(items: str = "body") -> Source:
    return read_source(ROW.format(items=items))


def said(body: bytes, items: str = "body", content_type: str = "application/json") -> Reports:
    return done(read(mine(items), Request("POST", b"", content_type, body, NOW_S)))


def test_members_of_objects_and_numbers_of_any_length_are_read() -> None:
    long = "9" * 40
    item = {"to": {"number": 8613800000001}, "id": int(long), "state": "OK", "at": 1767000000123}
    [report] = said(json.dumps(item).encode()).reports
    assert (report.number, report.id, report.state) == ("8613800000001", long, State.SUCCESS)
    assert report.at_s == NOW_S


@pytest.mark.parametrize(
    ("item", "member"),
    [
        ({"to": {"number": "86138"}, "id": "1", "state": "new"}, "state"),
        ({"to": {"number": "86138"}, "state": "ok"}, "id"),
        ([1], None),
        ("text", None),
    ],
)
def test_what_cannot_be_read_is_told_and_those_beside_it_are_read(
    item: object, member: str | None
) -> None:
    good = {"to": {"number": "8613800000001"}, "other": "7", "state": "bad"}
    found = said(json.dumps([good, item, good]).encode())
    assert [report.id for report in found.reports] == ["7", "7"]
    [unread] = found.unread
    assert (unread.index, unread.member) == (1, member)
    assert json.loads(unread.raw) == item


@pytest.mark.parametrize("at", ["", "0000-00-00 00:00:00", "2999-01-01 00:00:00", "soon", "0"])
def test_a_time_that_cannot_be_is_that_of_arrival(at: str) -> None:
    item = {"to": {"number": "8613800000001"}, "id": "1", "state": "ok", "at": at}
    [report] = said(json.dumps([item]).encode()).reports
    assert report.at_s is None


def test_a_field_that_was_encoded_twice_is_read() -> None:
    item = json.dumps([{"to": {"number": "1"}, "id": "1", "state": "ok"}])
    for text in (quote(item), quote(quote(item))):
        found = said(b"list=" + text.encode(), "form.list", FORM)
        assert [report.id for report in found.reports] == ["1"]


@pytest.mark.parametrize("encodings", range(1, 4))
@pytest.mark.parametrize("escape", [quote, quote_plus])
@pytest.mark.parametrize("text", ["yes please", "a + b", "+1", "50% off", "a%20b", "1 + %2B"])
def test_a_blank_is_one_however_it_was_encoded_and_a_plus_is_one(
    text: str, escape: Callable[[str], str], encodings: int
) -> None:
    encoded = json.dumps({"from": "1", "text": text, "at": "2026-01-05 08:03:04"})
    for _ in range(encodings):
        encoded = escape(encoded)
    [report] = said(b"list=" + encoded.encode(), "form.list", FORM).reports
    assert report.text == text


def test_every_field_of_a_form_that_comes_again_is_read() -> None:
    """In the form and in the query, and the same once."""
    one, two, three = (
        quote(json.dumps({"to": {"number": "1"}, "id": str(number), "state": "ok"}))
        for number in range(3)
    )
    body = f"list={one}&list=&list={two}&list={one}".encode()
    query = f"list={three}".encode()
    found = done(read(mine("form.list"), Request("POST", query, FORM, body, NOW_S)))
    assert sorted(report.id for report in found.reports) == ["0", "1", "2"]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("body", [b"", b" \r\n"])
@pytest.mark.parametrize("items", ["body", "body.list", "form.list"])
def test_what_is_said_where_nobody_reads_it_is_told(items: str, body: bytes, method: str) -> None:
    """And nothing of it has changed when it is read again."""
    query = b"to=1&state=ok"
    for _ in range(2):
        found = done(read(mine(items), Request(method, query, "", body, NOW_S)))
        assert not found.reports
        assert [unread.raw for unread in found.unread] == [query]
        body = b""
    records = done(read_records(Request(method, query, "", body, NOW_S)))
    assert not records.entries
    assert [unread.raw for unread in records.unread] == [query]


def test_a_form_without_names_is_told() -> None:
    for body in (b"=foo", b"&=foo&"):
        assert [each.raw for each in said(body, "request", FORM).unread] == [body]
    assert said(b"&&", "request", FORM) == Reports([])


def test_a_field_that_is_no_json_is_kept_with_all_that_came() -> None:
    """So that it is still a field when it is read again."""
    for _ in range(2):
        [unread] = said(b"other=1&list={", "form.list", FORM).unread
        assert (unread.raw, unread.index) == (b"other=1&list={", None)


@pytest.mark.parametrize("charset", ["GBK", "gb2312", "UTF-16", "utf-16le", '"Big5"', "UTF-8"])
@pytest.mark.parametrize("items", ["body", "request", "form.list"])
def test_a_body_is_in_the_charset_that_its_content_type_names(items: str, charset: str) -> None:
    codec = {"UTF-16": "utf-16-be"}.get(charset, charset.strip('"'))
    item = json.dumps({"from": "1", "text": "你好"}, ensure_ascii=False).encode(codec)
    content_type = f"application/json; charset={charset}"
    if items != "body":
        content_type = f"{FORM}; charset={charset}"
        text = "你好".encode(codec)
        item = b"list=" + quote(item).encode() if "." in items else b"from=1&text=" + text
        item = item if "." in items else b"from=1&text=" + quote(text).encode()
    [report] = said(item, items, content_type).reports
    assert report.text == "你好"


@pytest.mark.parametrize("items", ["body.list", "form.list", "request"])
def test_what_cannot_be_read_is_kept_in_the_charset_that_it_came_in(items: str) -> None:
    """So that it is the same when it is read again."""
    body = '{"other": "你好"'.encode("gbk")
    content_type = f"{FORM if items == 'form.list' else 'application/json'}; charset=GBK"
    assert [each.raw for each in said(body, items, content_type).unread] == [body]


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json; charset*0=utf-8; charset*=x",
        f"application/json; charset*{'1' * 4301}=x",
        f"application/json; charset*{'1' * 900}=x",
        "application/json; charset*=utf-8''gbk",
        f"application/json{';' * 15_000}charset=gbk",
        "application/json; charset",
    ],
)
def test_a_content_type_that_makes_no_sense_names_no_charset(content_type: str) -> None:
    [report] = said('[{"from": "1", "text": "你好"}]'.encode(), content_type=content_type).reports
    assert report.text == "你好"


@given(st.text("=;*'\"0\\ ", max_size=20), st.text(max_size=20))
def test_any_content_type_names_a_charset_or_none(name: str, charset: str) -> None:
    charset_of(f"a/b; charset{name}{charset}; charset*{name}")


def test_a_text_that_says_its_own_charset_is_in_that() -> None:
    body = b"from=8613800000001&charset=GBK&text=" + quote("你好".encode("gbk")).encode()
    for charset in ("UTF-8", "GBK", "Big5"):
        request = Request("POST", b"", f"{FORM}; charset={charset}", body, NOW_S)
        [report] = done(read(builtin()["kannel"], request)).reports
        assert report.text == "你好"


def test_a_reply_without_its_bytes_is_told_and_one_of_no_bytes_is_a_reply() -> None:
    jasmin = builtin()["jasmin"]
    query = b"id=1&from=8613800000001&to=7&origin-connector=c&coding=0"
    found = done(read(jasmin, Request("GET", query + b"&content=hello", "", b"", NOW_S)))
    assert [(unread.member, unread.reason) for unread in found.unread] == [("binary", "is missing")]
    [report] = done(read(jasmin, Request("GET", query + b"&binary=", "", b"", NOW_S))).reports
    assert report.text == ""


def test_a_list_of_none_is_no_reason_to_lose_what_is_around_it() -> None:
    found = batch({"id": "b1", "to": [{"state": "bad", "number": []}]})
    assert [report.state for report in found.reports] == [State.FAIL]
    found = batch({"id": "b1", "to": []})
    [raw] = [report.raw for report in found.reports] + [unread.raw for unread in found.unread]
    assert json.loads(raw) == {"id": "b1", "to": []}


@pytest.mark.parametrize(
    ("name", "group", "state"),
    [
        ("DELIVERED_TO_HANDSET", "DELIVERED", State.SUCCESS),
        ("DELIVERED_TO_OPERATOR", "DELIVERED", State.INTERMEDIATE),
        ("REJECTED_DND", "REJECTED", State.FAIL),
        ("", "DELIVERED", State.SUCCESS),
    ],
)
def test_of_several_words_the_first_that_is_known_says_the_state(
    name: str, group: str, state: State
) -> None:
    """Read together, and one by one."""
    item = {"to": "8613800000001", "messageId": "1", "status": {"groupName": group, "name": name}}
    for items in ([item], [item, {"to": {}}]):
        body = json.dumps({"results": items}).encode()
        found = done(read(builtin()["infobip"], Request("POST", b"", "", body, NOW_S)))
        assert found.reports[0].state is state


BATCH = {
    "id": "b1",
    "to": [
        {"state": "ok", "number": ["861", "862"]},
        {"state": "bad", "number": ["863"]},
        {"state": "bad"},
    ],
}


def batch(body: object) -> Reports:
    row = ROW.format(items="body").replace('"state"', '"to.state"')
    source = read_source(row.replace("[status]", 'each = "to.number"\n[status]', 1))
    return done(read(source, Request("POST", b"", "", json.dumps(body).encode(), NOW_S)))


def test_all_fields_of_a_form_that_may_have_reports_are_read() -> None:
    several = ROW.replace('items = "{items}"', "items = {items}")
    row = several.format(items=["form.a", "form.b", "body"])
    source = read_source(row)
    one = {"to": {"number": "8613800000001"}, "id": "1", "state": "ok"}
    body = urlencode({"b": json.dumps([{**one, "id": "2"}, 3]), "a": json.dumps(one)}).encode()
    found = done(read(source, Request("POST", b"", FORM, body, NOW_S)))
    assert [report.id for report in found.reports] == ["1", "2"]
    assert [unread.raw for unread in found.unread] == [b"3"]


def yunpian(*fields: tuple[str, str]) -> Reports:
    body = urlencode(fields).encode()
    return done(read(builtin()["yunpian"], Request("POST", b"", FORM, body, NOW_S)))


def test_all_fields_of_a_form_have_one_bound_for_their_parts() -> None:
    parts = [f"[{'1,' * (count - 1)}1]" for count in (limits.CALLBACK_PARTS_MAX - 10, 10, 11)]
    found = yunpian(("sms_status", parts[0]), ("sms_reply", parts[1]))
    assert len(found.unread) == limits.CALLBACK_PARTS_MAX
    for fields in (("sms_status", "sms_status"), ("sms_status", "sms_reply")):
        found = yunpian((fields[0], parts[0]), (fields[1], parts[2]))
        [unread] = found.unread
        assert "parts" in unread.reason
        assert (unread.index, found.reports) == (None, [])
        assert unread.raw == urlencode([(fields[0], parts[0]), (fields[1], parts[2])]).encode()


def test_a_long_field_of_a_form_is_decoded_as_a_short_one_is() -> None:
    """Wherever it is cut."""
    for before in range(5):
        text = "x" * before + "%+é" * 20_000
        fields = {"sms_status": json.dumps([{"text": text}], ensure_ascii=False)}
        [report] = yunpian(*fields.items()).reports
        assert json.loads(report.raw) == {"text": text}


def test_fields_that_are_no_json_are_one_whole_request() -> None:
    good = '{"report_status":"FAIL","sid":"1","mobile":"13800138000"}'
    fields = [("sms_status", f"a{number}") for number in range(250)]
    found = yunpian(*fields, ("sms_status", good), ("sms_reply", "[3]"))
    assert len(found.reports) == 1
    assert sorted(unread.index is None for unread in found.unread) == [False, True]


def test_each_entry_of_lists_is_a_report_and_is_kept_as_it_is_read_again() -> None:
    found = batch([BATCH, {"id": "alone", "to": {"state": "ok", "number": "864"}}])
    told = [(report.id, report.number, report.state) for report in found.reports]
    assert told == [
        ("b1", "861", State.SUCCESS),
        ("b1", "862", State.SUCCESS),
        ("b1", "863", State.FAIL),
        ("b1", "", State.FAIL),
        ("alone", "864", State.SUCCESS),
    ]
    assert [report.index for report in found.reports] == [0, 1, 2, 3, 4]
    for report, said_of in zip(found.reports, told, strict=True):
        [again] = batch(json.loads(report.raw)).reports
        assert (again.id, again.number, again.state) == said_of
        assert again.raw == report.raw


def test_a_batch_that_would_be_too_much_is_told_as_one() -> None:
    """What surrounds a list is in each of its items."""
    for body in (
        {**BATCH, "note": "x" * 100_000, "to": [{"state": "ok", "number": ["861"] * 100}]},
        {**BATCH, "to": [{"state": "ok", "number": [1] * 70_000}]},
    ):
        found = batch(body)
        assert not found.reports
        [unread] = found.unread
        assert unread.index is None


@pytest.mark.parametrize(("fields", "is_much"), [(1, False), (2, True), (40, True)])
def test_the_fields_of_a_form_have_one_bound_together(fields: int, is_much: bool) -> None:
    """What is kept of them all, with what the items of each share."""
    row = ROW.format(items="form.a").replace('"state"', '"to.state"')
    source = read_source(row.replace("[status]", 'each = "to.number"\n[status]', 1))
    told = {**BATCH, "note": "x" * 25_000, "to": [{"state": "ok", "number": ["861"] * 100}]}
    batches = [json.dumps({**told, "id": str(number)}) for number in range(fields)]
    body = urlencode([("a", each) for each in batches]).encode()
    found = done(read(source, Request("POST", b"", FORM, body, NOW_S)))
    assert len(found.reports) == (0 if is_much else 100)
    assert [(each.raw, each.index) for each in found.unread] == [(body, None)] * is_much
    assert all("of at most 4 MiB" in each.reason for each in found.unread)


def test_a_list_in_an_object_has_a_bound_too() -> None:
    [unread] = said(b'{"list":[%b1]}' % (b"1," * 70_000), "body.list").unread
    assert "parts" in unread.reason


def test_an_object_without_the_list_is_told() -> None:
    [unread] = said(b'{"lists":[]}', "body.list").unread
    assert (unread.member, unread.index) == ("list", None)


@pytest.mark.parametrize("name", ["yunpian", "aliyun", "twilio"])
@pytest.mark.parametrize("between", [",", " ", "\n", ""])
def test_several_values_that_are_no_list_are_no_item(name: str, between: str) -> None:
    """Together they are no JSON, though a list of them would be: none is read behind another."""
    receipt = '{"report_status":"FAIL","sid":"1","mobile":"1"}'
    text = between.join([receipt, '{"text":"TD","mobile":"1"}'])
    body, content_type = text.encode(), "application/json"
    if name == "yunpian":
        body, content_type = urlencode({"sms_status": text}).encode(), FORM
    found = done(read(builtin()[name], Request("POST", b"", content_type, body, NOW_S)))
    assert found.reports == []
    assert [each.index for each in found.unread] == [None]


def test_nothing_is_read_of_nothing() -> None:
    for body in (b"", b"[]", b" "):
        assert said(body) == Reports([])
    for body, content_type in ((b"", FORM), (b"\n", FORM), (b"\n", ""), (b" ", "")):
        assert said(body, "request", content_type) == Reports([])


@pytest.mark.parametrize("content_type", ["", FORM, "application/json"])
@pytest.mark.parametrize("blank", [b"\n", b" \r\n"])
def test_a_blank_body_is_none(content_type: str, blank: bytes) -> None:
    """What is complete in the address is read, and known again."""
    query = b"dlr=1&from=8613800000001&to=1&id=gb2&time=1767000000"
    found = [
        done(read(builtin()["kannel"], Request("POST", query, content_type, body, NOW_S)))
        for body in (b"", blank)
    ]
    [none, report] = [each.reports for each in found]
    assert len(report) == 1
    told = [receipts_of(Kind.DELIVERY_STATUS, "kannel", [(one, Whose())], NOW_S) for one in report]
    assert told == [
        receipts_of(Kind.DELIVERY_STATUS, "kannel", [(one, Whose())], NOW_S) for one in none
    ]


@pytest.mark.parametrize(
    ("charset", "text"),
    [
        ("UTF-16BE", "\u4f60"),
        ("gb18030", "O`"),
        *((name, "O`") for name in ("punycode", "idna", "unicode_escape", "rot13", "none", "%00")),
    ],
)
def test_a_charset_that_is_none_of_a_text_counts_for_nothing(charset: str, text: str) -> None:
    """One of Python's own takes minutes for a long text."""
    query = f"from=8613800000001&text=%4F%60&charset={charset}".encode()
    [report] = done(read(builtin()["kannel"], Request("GET", query, "", b"", NOW_S))).reports
    assert report.text == text


@pytest.mark.parametrize("items", ["request", "body", "body.list", "form.data"])
@pytest.mark.parametrize("text", ["\u9000\u8ba2", "TD, \u6211\u8981\u9000! " * 50])
@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=no"])
def test_reply_in_a_charset_that_nothing_names_is_kept_as_it_came(
    items: str, text: str, content_type: str
) -> None:
    item = {"from": "8613800000001", "text": text}
    plain = json.dumps({"list": [item]} if items == "body.list" else item, ensure_ascii=False)
    body = plain.encode("gb18030")
    if items == "form.data":
        body, content_type = b"data=" + quote(body).encode(), FORM
    found = said(body, items, content_type)
    assert not found.reports
    [unread] = found.unread
    assert (unread.raw, unread.kind, unread.index) == (body, Kind.REPLY, None)
    assert "Content-Type" in unread.reason
    if items != "form.data":
        [report] = said(body, items, "application/json; charset=gbk").reports
        assert report.text == text


@pytest.mark.parametrize("content_type", [FORM, f"{FORM}; charset=gbk"])
@pytest.mark.parametrize("spell", [quote, bytes], ids=["encoded", "raw"])
def test_form_in_a_charset_that_nothing_names_is_kept_as_it_came(
    content_type: str, spell: Callable[[bytes], object]
) -> None:
    spelt = spell("\u9000\u8ba2".encode("gbk"))
    value = spelt if isinstance(spelt, bytes) else str(spelt).encode()
    body = b"from=8613800000001&text=" + value
    found = said(body, "request", content_type)
    if "charset" in content_type:
        assert [report.text for report in found.reports] == ["\u9000\u8ba2"]
        return
    assert not found.reports
    [unread] = found.unread
    assert (unread.raw, unread.member) == (body, "text")


@pytest.mark.parametrize("data", [b"cut \xe4\xbd", "\u6536\u5230".encode() + b"\xe4\xbd", b"\xff"])
def test_text_that_was_cut_is_read_with_a_sign_for_what_is_lost(data: bytes) -> None:
    json_body = b'{"from":"8613800000001","text":"' + data + b'"}'
    form = b"from=8613800000001&text=" + quote(data).encode()
    for body, content_type in ((json_body, "application/json"), (form, FORM)):
        [report] = said(body, "request", content_type).reports
        assert report.text == data.decode(errors="replace")


@pytest.mark.parametrize("charset", ["", "X-SMS", "rot13", "idna", "UTF-99"])
@pytest.mark.parametrize("data", [b"\x00\xff\xd8\xe0", b"\x80", b"caf\xe9"])
def test_bytes_of_a_charset_that_nobody_knows_are_kept_as_they_came(
    charset: str, data: bytes
) -> None:
    """Unless each of them means something in the coding of the source."""
    query = f"from=8613800000001&text={quote(data)}&charset={charset}".encode()
    found = done(read(builtin()["kannel"], Request("GET", query, "", b"", NOW_S)))
    assert not found.reports
    [unread] = found.unread
    assert (unread.raw, unread.member, unread.kind) == (query, "charset", Kind.REPLY)


def test_parts_of_a_reply_are_told() -> None:
    item = {"from": "1", "text": "a", "ref": 7, "of": 3, "part": 2}
    [report] = said(json.dumps(item).encode()).reports
    assert report.part is not None
    assert (report.part.reference, report.part.count, report.part.number) == ("7", 3, 2)


@pytest.mark.parametrize("items", ["body", "body.list", "form.list", "request"])
@given(body=st.binary(max_size=60), kind=st.sampled_from([FORM, "application/json", ""]))
def test_whatever_comes_is_read_or_told_apart(items: str, body: bytes, kind: str) -> None:
    for text in (body, b"list=" + body, b"state=ok&to.number=%31&id=" + body):
        for each in (found := said(text, items, kind)).unread:
            assert each.reason
        receipts_of(
            Kind.DELIVERY_STATUS,
            "mine",
            [(report, Whose()) for report in found.reports if report.kind is Kind.DELIVERY_STATUS],
            NOW_S,
        )


@pytest.mark.parametrize(
    ("change", "said_of"),
    [
        (('items = "body"', 'items = "bodies"'), "items must be"),
        (('name = "mine"', 'name = "Mine"'), "name must be"),
        (("ok =", "OK ="), "status.states must be in small letters"),
        (("time =", 'errmsgs = { A = "B" }\ntime ='), "status.errmsgs must be in small letters"),
        (("time =", 'errmsgs = { a = "" }\ntime ='), "status.errmsgs must say a code for each"),
        (('when = "state"', ""), "must tell a delivery status from a reply"),
        (('time = "at"', 'times = "at"'), "times"),
        (('"SUCCESS"', '"GOOD"'), "GOOD"),
        (('number = "from"', "number = 1"), "number"),
        (('items = "body"', 'items = "body"\neach = "a..b"'), "each must name"),
        (('items = "body"', 'items = "body"\nmethods = []'), "methods must have"),
        (('items = "body"', 'items = "body"\nmethods = ["PUT"]'), "must be one of GET, POST"),
        (('name = "mine"', 'name = "mine"\nitem = 1'), "there are name, items, title"),
        (('time = "at"', 'times = "at"'), r"\$.status`; there are number, .*, receipt$"),
        (("part = {", "part = { parts = 3,"), "there are reference, count, number$"),
        (('"SUCCESS"', '"GOOD"'), "must be one of SUCCESS, FAIL, INTERMEDIATE$"),
        (('time = "at"', 'time = "at"\notherwise = "X"'), "one of SUCCESS, FAIL, INTERMEDIATE$"),
        (('time = "at"', 'form = "iso"'), "one of utc8, utc, smpp, rfc2822$"),
        (('time = "at"', 'numbers = "some"'), "one of international, national$"),
        (("[reply]", "[answer]\nstatus = 204\nbody = 'x'\n[reply]"), "answer.body .* 204"),
        (("[reply]", '[answer]\ncontent_type = "a\\r\\nb: c"\n[reply]'), "answer.content_type"),
        (("[reply]", '[answer]\nreply_type = "é"\n[reply]'), "answer.reply_type"),
        (("[reply]", "[answer]\nsatus = 1\n[reply]"), "there are status, content_type, body"),
        (('number = "from"', 'number = "+"'), r"^reply\.number must name"),
        (('number = "from"', 'number = ["from", ""]'), r"^reply\.number must name"),
        (('id = ["id", "other"]', 'id = [""]'), r"^status\.id must name"),
        (('time = "at"', 'ext = "a+"'), r"^status\.ext must name"),
        (('count = "of"', 'count = ""'), r"^reply\.part\.count must name"),
        (
            ('time = "at"', 'part = { reference = "a", count = "", number = "b" }'),
            r"^status\.part\.count must name",
        ),
        (('state = "state"', ""), r"^status\.state must name"),
        (('state = "state"', 'state = ""'), r"^status\.state must name"),
        (("[reply]", f"[answer]\nrefusal = {{ a = {2**53 + 1} }}\n[reply]"), "answer.refusal"),
        (("[reply]", f"[answer]\nrefusal = {{ a = 0x{'f' * 5000} }}\n[reply]"), "answer.refusal"),
        (("[reply]", f"[answer]\nrefusal = {{ a = {'9' * 5000} }}\n[reply]"), "not TOML"),
        (("[reply]", "[reply"), "not TOML"),
        (("[reply]", "x = " + "[" * 9000 + "]" * 9000), "nested"),
    ],
)
def test_a_source_that_does_not_fit_is_refused_with_its_member(
    change: tuple[str, str], said_of: str
) -> None:
    text = ROW.format(items="body")
    assert change[0] in text
    with pytest.raises(InvalidSetting, match=said_of):
        read_source(text.replace(*change, 1))


def test_delivery_statuses_are_told_from_replies_and_not_replies_from_them() -> None:
    """What may be one is asked for first: what has to be a reply would never be."""
    head, status, reply = re.split(r"(?m)^(?=\[(?:status|reply)\])", ROW.format(items="body"))
    status = status.replace('when = "state"\n', "")
    text = f'{head}{status}{reply}when = "text"\n'
    with pytest.raises(InvalidSetting, match=r"^status\.when or status\.unless must tell"):
        read_source(text)
    assert read_source(text, new=False).name == "mine"
    source = read_source(f'{head}{status}unless = "text"\n{reply}')
    body = b'{"from":"8613800000001","text":"TD"}'
    [report] = done(read(source, Request("POST", b"", "application/json", body, NOW_S))).reports
    assert (report.kind, report.text) == (Kind.REPLY, "TD")
    assert read_source(head + status).reply is None


def test_a_source_that_was_taken_before_stays_one() -> None:
    """A store that has it is not damaged."""
    text = ROW.format(items="body") + "[answer]\nstatus = 204\nbody = 'x'\n"
    with pytest.raises(InvalidSetting):
        read_source(text)
    assert read_source(text, new=False).answer.status == 204


def test_records_come_of_reports_once_it_is_known_whose_they_are() -> None:
    good = Report(Kind.DELIVERY_STATUS, b"1", 0, number="+8613800000001", id="1")
    receipts = receipts_of(
        Kind.DELIVERY_STATUS,
        "mine",
        [
            (good, Whose(sid="ours", ext="e")),
            (Report(Kind.DELIVERY_STATUS, b"2", 1, number="no number", id="2"), Whose()),
            (Report(Kind.DELIVERY_STATUS, b"3", 2, id="3", state=State.INTERMEDIATE), Whose()),
        ],
        NOW_S,
    )
    [entry] = receipts.entries
    record = json.loads(entry)
    assert (record["sid"], record["ext"], record["mobile"]) == ("ours", "e", "13800000001")
    [unread] = receipts.unread
    assert isinstance(unread, Unread)
    assert (unread.raw, unread.member) == (b"2", "nationcode")
    assert receipts.fingerprints is not None
    again = receipts_of(Kind.DELIVERY_STATUS, "mine", [(good, Whose())], NOW_S + 60)
    assert again.fingerprints == receipts.fingerprints


def test_a_report_is_known_again_by_the_code_as_its_gateway_says_it() -> None:
    """So that what came before a row had another code for it is a repeat yet."""
    query = b"dlr=2&from=%2B8613800000001&id=7&answer=id%3A7+stat%3AFAILED"
    [report] = done(read(builtin()["kannel"], Request("GET", query, "", b"", NOW_S))).reports
    assert (report.errmsg, report.code) == ("UNDELIV", "FAILED")
    plain = msgspec.structs.replace(report, errmsg="FAILED", code="")
    assert fingerprint(report, "kannel", NOW_S) == fingerprint(plain, "kannel", NOW_S)
    told = [receipts_of(report.kind, "kannel", [(each, Whose())], 1) for each in (report, plain)]
    assert told[0].fingerprints == told[1].fingerprints
    assert [json.loads(each.entries[0])["errmsg"] for each in told] == ["UNDELIV", "FAILED"]


def test_items_of_a_list_have_the_codes_that_stand_for_theirs() -> None:
    row = """
name = "mine"
items = "body"
[status]
number = "to"
id = "id"
state = "state"
states = { ok = "SUCCESS" }
otherwise = "FAIL"
errmsg = "why"
errmsgs = { ok = "DELIVRD", failed = "UNDELIV" }
"""
    items = [
        {"to": "+8613800000001", "id": str(number), **said}
        for number, said in enumerate(
            [{"state": "OK"}, {"state": "bad"}, {"state": "x", "why": "Failed"}]
        )
    ]
    body = json.dumps(items).encode()
    request = Request("POST", b"", "application/json", body, NOW_S)
    found = done(read(read_source(row), request)).reports
    assert [report.errmsg for report in found] == ["DELIVRD", "bad", "UNDELIV"]
    assert read_usual(read_source(row), request, None) is None


def orders(*ids: str) -> list[int]:
    """What reports with these ids are ordered by, as a store remembers them."""
    reports = [Report(Kind.DELIVERY_STATUS, b"", 0, number="+8613800000001", id=id_) for id_ in ids]
    told = [(report, Whose()) for report in reports]
    return [
        order for order, _ in receipts_of(Kind.DELIVERY_STATUS, "a", told, 1).fingerprints or []
    ]


@pytest.mark.parametrize("form", ["{}", "{:020d}", "{}^0", "{:x}", "0A{:012X}"])
def test_ids_that_are_counted_are_remembered_side_by_side(form: str) -> None:
    """In about the order in which they come, and below all times."""
    begin = 932_702_304_080_415_357
    found = orders(*(form.format(begin + (number << 44)) for number in range(1000)))
    assert found == sorted(found)
    assert len(set(found)) > 1 or form == "{:020d}"
    assert max(found) < 0


@given(st.lists(st.text(min_size=1), min_size=1, max_size=5))
def test_any_id_has_an_order_that_fits(ids: list[str]) -> None:
    """48 bits with a sign, and no time: whoever it comes from, and whatever it is."""
    assert all(-(2**47) <= order < 0 for order in orders(*ids))


@pytest.mark.parametrize(
    ("number", "nationcode", "parts"),
    [
        ("+8613800000001", "1", ("86", "13800000001")),
        ("008613800000001", None, ("86", "13800000001")),
        ("8613800000001", None, ("86", "13800000001")),
        ("13800000001", "86", ("86", "13800000001")),
        ("+12025550123", None, ("1", "2025550123")),
        ("+85261234567", None, ("852", "61234567")),
    ],
)
def test_a_number_is_split_behind_its_calling_code(
    number: str, nationcode: str | None, parts: tuple[str, str]
) -> None:
    assert split(number, nationcode) == parts


@given(
    st.lists(
        st.from_regex(r"(\+|00|)(86|85|7|1|)(138|\n\+1|)", fullmatch=True).map(str.strip),
        min_size=1,
    ),
    st.sampled_from(["86", None]),
)
def test_numbers_are_split_together_as_each_is(numbers: list[str], nationcode: str | None) -> None:
    for some in (numbers, [f"+{number}" for number in numbers]):
        codes, rests = split_all(some, nationcode)
        assert [*zip(codes, rests, strict=True)] == [split(each, nationcode) for each in some]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (
            "id:0123 sub:001 dlvrd:001 done date:1807110700 stat:DELIVRD err:000 text:id:7 stat:x",
            {"id": "0123", "stat": "DELIVRD", "err": "000", "text": "id:7 stat:x"},
        ),
        ("ID:9e-1 done_date:0000000000 STAT:FAILED err:A1", {"stat": "FAILED", "err": "A1"}),
        ("id: nothing more", {}),
        ("id:1 " * 1000 + "stat:DELIVRD", {}),
        ("id:1 stat:DELIVRD text:" + "a" * 9999, {"stat": "DELIVRD", "text": "a" * 9999}),
        ("", {}),
    ],
)
def test_receipts_are_read_in_the_shapes_they_are_seen_in(text: str, parts: dict[str, str]) -> None:
    found = receipt_text(text)
    assert found if parts else not found
    assert {name: found.get(name) for name in parts} == parts


def test_a_source_may_name_each_form_of_time_and_no_other() -> None:
    assert {*get_args(Form)} == {*TIMES}


@pytest.mark.parametrize(
    ("text", "at_s"),
    [
        ("20260105", 1_767_542_400),
        ("202601050803", 1_767_571_380),
        ("20260105080304", 1_767_571_384),
        ("2026-01-05", 1_767_542_400),
        ("1767571384", 1_767_571_384),
        ("1767571384000", 1_767_571_384),
        ("20261305", None),
        ("12345678", None),
    ],
)
def test_a_time_is_a_number_or_a_date(text: str, at_s: int | None) -> None:
    assert TIMES["utc8"](text) == at_s


@pytest.mark.parametrize(
    ("zone", "at_s"),
    [
        (" +0000", 1_767_600_184),
        (" -0000", 1_767_600_184),
        (" GMT", 1_767_600_184),
        (" +0800", 1_767_571_384),
        ("", 1_767_571_384),
    ],
)
@pytest.mark.parametrize("own", ["UTC", "America/New_York"])
def test_a_date_of_mail_is_the_same_wherever_the_server_is(
    monkeypatch: pytest.MonkeyPatch, own: str, zone: str, at_s: int
) -> None:
    """Without a zone it is in UTC+8, as all times are that have none."""
    with monkeypatch.context() as changed:
        changed.setenv("TZ", own)
        time.tzset()
        assert TIMES["rfc2822"](f"Mon, 05 Jan 2026 08:03:04{zone}") == at_s
    time.tzset()


def test_every_source_of_ours_is_read() -> None:
    assert {"kannel", "native"} <= builtin().keys()
