"""What gateways send amiss, row by row: it is read, or told apart, and nothing of it is lost.

Each row's first case of a status and of a reply is taken apart into items, bent, and put together.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, quote, urlencode

import pytest

from pullstatus.receipts.reading import read, read_again
from pullstatus.receipts.reports import Report, Reports, State, Whose, receipts_of
from pullstatus.receipts.request import Request
from pullstatus.receipts.signatures import Signed, fault, sign, signs_requests
from pullstatus.receipts.source import Keys, ReplyKeys, StatusKeys, builtin
from pullstatus.records import Kind
from pullstatus.steps import done
from tests.unit.receipts.test_gateways import ARRIVED_S, Case, cases

FORM: Final = "application/x-www-form-urlencoded"
MANY: Final = 10_000

Item = dict[str, Any]
Build = Callable[[list[Item]], Request]


class Sample(NamedTuple):
    """A good request of a row: its items, and what makes a request of others.

    Attributes:
        listed: it has room for several.
    """

    name: str
    keys: StatusKeys | ReplyKeys
    items: list[Item]
    build: Build
    listed: bool

    @property
    def what(self) -> str:
        return "status" if isinstance(self.keys, StatusKeys) else "reply"

    def read(self, request: Request) -> Reports:
        return done(read(builtin()[self.name], request))

    def said(self, *items: Item) -> Reports:
        return self.read(self.build([*items]))

    def one(self, item: Item) -> Report:
        found = self.said(item)
        assert not found.unread
        [report] = found.reports
        return report


def sample(name: str, case: Case) -> Sample:
    """A case taken apart."""
    source = builtin()[name]
    keys = source.status if case.statuses else source.reply
    assert keys is not None
    pairs = dict(parse_qsl(f"{case.query}&{case.body}"))
    if case.content_type.startswith("application/json"):
        whole = json.loads(case.body)
        inner = next((each[5:] for each in source.places if each.startswith("body.")), "")
        if inner:
            return Sample(name, keys, whole[inner], lambda items: posted({inner: items}), True)
        if "request" in source.places:
            return Sample(name, keys, [whole], lambda items: posted(items[0]), False)
        items = whole if isinstance(whole, list) else [whole]
        return Sample(name, keys, items, posted, True)
    field = next((each[5:] for each in source.places if each[5:] in pairs), "")
    if field:
        listed = json.loads(pairs[field])
        items = listed if isinstance(listed, list) else [listed]
        return Sample(
            name, keys, items, lambda items: sent({field: json.dumps(items)}, "POST"), True
        )
    return Sample(name, keys, [pairs], lambda items: sent(items[0], case.method), False)


def posted(body: object) -> Request:
    return Request("POST", b"", "application/json", json.dumps(body).encode(), ARRIVED_S)


def sent(members: Item, method: str) -> Request:
    text = urlencode(members).encode()
    if method == "GET":
        return Request("GET", text, "", b"", ARRIVED_S)
    return Request("POST", b"", FORM, text, ARRIVED_S)


def samples() -> list[Sample]:
    found: dict[tuple[str, bool], Sample] = {}
    for name, case in cases():
        which = name, bool(case.statuses)
        if (case.statuses or case.replies) and which not in found:
            found[which] = sample(name, case)
    return [*found.values()]


ALL: Final = samples()
each_sample = pytest.mark.parametrize("good", ALL, ids=lambda good: f"{good.name} {good.what}")


def names(keys: Keys) -> list[str]:
    return [keys] if isinstance(keys, str) else [*keys]


def bent(item: Item, keys: Keys, value: object) -> Item:
    """An item in which that member of `keys` has another value that is there; None: none has."""
    made: Item = json.loads(json.dumps(item))
    for name in names(keys):
        *path, last = name.split(".") if "." in name and name not in made else [name]
        at = made
        for step in path:
            at = at.get(step, {})
        if at.get(last) not in (None, ""):
            if value is None:
                del at[last]
                continue
            at[last] = value
            return made
    return made


def test_each_row_has_a_sample_of_each_kind_that_it_reads() -> None:
    told = {(good.name, type(good.keys)) for good in ALL}
    for name, source in builtin().items():
        for keys in (source.status, source.reply):
            assert keys is None or (name, type(keys)) in told


@each_sample
def test_an_id_of_any_length_is_whole_as_text_and_as_a_number(good: Sample) -> None:
    for digits in ("9223372036854775807", "9" * 40) if good.keys.id else ():
        assert good.one(bent(good.items[0], good.keys.id, digits)).id == digits
        assert good.one(bent(good.items[0], good.keys.id, int(digits))).id == digits


@each_sample
def test_a_number_where_a_string_belongs_is_its_digits(good: Sample) -> None:
    item = good.items[0]
    told = good.one(item).number
    digits = told.removeprefix("+")
    assert good.one(bent(item, good.keys.number, int(digits[-11:]))).number.endswith(digits[-11:])


@each_sample
def test_a_time_that_is_none_is_that_of_arrival(good: Sample) -> None:
    times: list[object] = [None, "0000-00-00 00:00:00", "0", "soon", "9" * 25, []]
    for time in times:
        assert good.one(bent(good.items[0], good.keys.time, time)).at_s is None


@each_sample
def test_a_state_that_is_not_known_is_told_or_what_the_row_says(good: Sample) -> None:
    if not isinstance(good.keys, StatusKeys):
        return
    for state in ("evaporated", -1, 10**40, [0]):
        item = good.items[0]
        for name in names(good.keys.state):
            item = bent(item, name, state)
        found = good.said(item)
        if good.keys.otherwise is not None:
            assert [report.state for report in found.reports] == [good.keys.otherwise]
            continue
        [unread] = found.unread
        assert not found.reports
        assert unread.member in names(good.keys.state)


@each_sample
def test_items_beside_one_that_cannot_be_read_are_read(good: Sample) -> None:
    if not good.listed:
        return
    item = good.items[0]
    found = good.said(item, {}, item)
    assert [report.index for report in found.reports] == [0, 2]
    [unread] = found.unread
    assert (unread.index, unread.raw) == (1, b"{}")


@each_sample
def test_of_many_items_each_is_looked_at(good: Sample) -> None:
    if good.listed:
        found = good.said(*[{}] * (MANY - 1), good.items[0])
        assert [report.index for report in found.reports] == [MANY - 1]
        assert len(found.unread) == MANY - 1
    else:
        found = good.said({**good.items[0], **{f"x{n}": "" for n in range(MANY)}})
        assert len(found.reports) == 1


@each_sample
def test_nothing_is_nothing(good: Sample) -> None:
    if good.listed:
        assert good.said() == Reports([])
    else:
        assert good.said({}) in (Reports([]), Reports([], good.said({}).unread))


@each_sample
def test_a_body_that_is_cut_off_or_no_json_is_told_as_it_came(good: Sample) -> None:
    whole = good.build(good.items)
    text = whole.body or whole.query
    if not text.startswith((b"{", b"[")):
        return
    for body in (text[:-3], text[: len(text) // 2], text.replace(b'"', b"\xe2\x80\x9c"), b"OK"):
        found = good.read(Request("POST", b"", whole.content_type, body, ARRIVED_S))
        [unread] = found.unread
        assert not found.reports
        assert unread.raw == body


@each_sample
def test_what_is_encoded_twice_is_read_or_told(good: Sample) -> None:
    whole = good.build(good.items)
    plain = good.read(whole)
    if whole.content_type.startswith("application/json"):
        coded = Request("POST", b"", whole.content_type, quote(whole.body).encode(), ARRIVED_S)
    else:
        pairs = parse_qsl((whole.body or whole.query).decode(), keep_blank_values=True)
        coded = sent({name: quote(value) for name, value in pairs}, whole.method)
    found = good.read(coded)
    if good.listed:
        assert facts(found) == facts(plain)
    else:
        assert len(found.reports) + len(found.unread) == 1


@each_sample
def test_another_charset_is_read_or_told(good: Sample) -> None:
    whole = good.build(good.items)
    for charset in ("gb18030", "utf-16", "latin-1", "utf-8-sig"):
        if whole.body[:1] in (b"[", b"{"):
            text = json.dumps(json.loads(whole.body), ensure_ascii=False)
            query, body = b"", text.encode(charset, "replace")
        else:
            pairs = parse_qsl((whole.body or whole.query).decode(), keep_blank_values=True)
            coded = urlencode({name: value.encode(charset, "replace") for name, value in pairs})
            query, body = (b"", coded.encode()) if whole.body else (coded.encode(), b"")
        found = good.read(Request(whole.method, query, whole.content_type, body, ARRIVED_S))
        assert len(found.reports) + len(found.unread) in (1, len(good.items))


@each_sample
def test_a_body_that_comes_again_later_is_known(good: Sample) -> None:
    whole = good.build(good.items)
    later = Request(
        whole.method, whole.query, whole.content_type, whole.body, ARRIVED_S + 3 * 86_400
    )
    assert prints(good, whole)
    assert prints(good, later) == prints(good, whole)


@each_sample
def test_what_is_put_aside_is_read_again_as_it_was(good: Sample) -> None:
    whole = good.build(good.items)
    first = good.read(whole)
    for report in first.reports:
        body, query = (report.raw, whole.query) if whole.body else (b"", whole.query)
        aside = Request(whole.method, query, whole.content_type, body, ARRIVED_S)
        again = done((read if report.index is None else read_again)(builtin()[good.name], aside))
        assert not again.unread
        assert facts(again) == [facts(first)[first.reports.index(report)]]


@each_sample
def test_another_key_than_the_gateways_is_refused(good: Sample) -> None:
    scheme = builtin()[good.name].signature
    if not scheme or not signs_requests(scheme):
        return
    made = good.build(good.items[:1])
    query = f"?{made.query.decode()}" if made.query else ""
    url = f"https://sms.example.com/in/tok/{good.name}{query}"
    plain = Signed(made.method, url, {"content-type": made.content_type}, made.body)
    signed = sign(scheme, plain, "ours", now_s=ARRIVED_S, nonce="n1")
    assert fault(scheme, signed, "ours") is None
    for refused, key in ((signed, "theirs"), (plain, "ours")):
        assert fault(scheme, refused, key) is not None


def facts(found: Reports) -> list[tuple[object, ...]]:
    return [
        (one.kind, one.number, one.id, one.sid, one.state, one.errmsg, one.text, one.at_s)
        for one in found.reports
    ]


def prints(good: Sample, request: Request) -> list[tuple[int, bytes]]:
    """What the records of a request are known by."""
    kind = Kind.DELIVERY_STATUS if isinstance(good.keys, StatusKeys) else Kind.REPLY
    nationcode = "86" if good.keys.numbers == "national" else None
    told = [
        (one, Whose(nationcode=nationcode))
        for one in good.read(request).reports
        if one.state is not State.INTERMEDIATE or kind is Kind.REPLY
    ]
    found = receipts_of(kind, good.name, told, request.arrived_s).fingerprints
    assert found is not None
    return found
