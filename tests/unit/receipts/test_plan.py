"""Many at a time or each by itself, items come to the same, to the byte, whatever they are."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any, Final
from unittest import mock
from urllib.parse import parse_qs, quote, unquote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pullstatus import limits
from pullstatus.receipts import Receipts, reading, reports
from pullstatus.receipts.plan import plan_of
from pullstatus.receipts.reading import read, read_usual
from pullstatus.receipts.reports import Reports, Whose, receipts_of
from pullstatus.receipts.request import Request
from pullstatus.receipts.source import Source, builtin, read_source
from pullstatus.records import Kind
from pullstatus.steps import done

NOW_S: Final = 1_767_000_000
FOLDER: Final = Path(__file__).with_name("gateways")

ROW: Final = """
name = "nested"
items = "body"
[status]
when = "a.state"
unless = ["c", "d"]
number = ["to.number", "to.code+to.rest"]
nationcode = "code"
id = ["a.b.id", "e"]
sid = "s+t"
state = "a.state"
states = { ok = "SUCCESS", "1" = "FAIL", true = "INTERMEDIATE" }
time = "at"
[reply]
when = "text"
number = "to.number"
text = "text"
extend = "e"
"""
NESTED: Final = read_source(ROW)


def members() -> list[str]:
    """Such as rows read, and such as look like them."""
    return ["a", "a.state", "a.b", "a.b.id", "to", "to.number", "code", "e", "s+t", "s", "t", "at"]


texts = st.sampled_from(
    ["", " ", "ok", " OK ", "1", "+8613800000000", "0086138", "\u4f60", "\U0001f600", "0" * 70]
)
values = st.recursive(
    texts
    | st.text(max_size=8)
    | st.sampled_from([0, 1, -1, 2**63, 10**30, 1.0, 1e3, 1.5, 1e300, None, True, False])
    | st.sampled_from(["2026-01-02 03:04:05", "2026-1-2 3:4:5", "1767000000123", 1767000000]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["b", "id", "number", "state", "b.id", ""]), inner)
    ),
    max_leaves=4,
)


@st.composite
def objects(draw: st.DrawFn, names: list[str]) -> str:
    """An object of JSON as text, in which names may come twice."""
    pairs = draw(st.lists(st.tuples(st.sampled_from(names), values), max_size=8))
    ascii_only = draw(st.booleans())
    told = [f"{json.dumps(name)}:{json.dumps(one, ensure_ascii=ascii_only)}" for name, one in pairs]
    return "{" + ",".join(told) + "}"


def bodies(source: Source) -> list[Any]:
    """Items of JSON in the cases of a row."""
    cases = tomllib.loads((FOLDER / f"{source.name}.toml").read_text(encoding="utf-8"))["case"]
    found: list[Any] = []
    for case in cases:
        texts = [value for values in parse_qs(case.get("body", "")).values() for value in values]
        for text in [case.get("body", ""), *texts, *map(unquote, texts)]:
            try:
                body = json.loads(text)
            except ValueError:
                continue
            if isinstance(body, dict):
                body = body.get(source.places[0].partition(".")[2], body)
            found += body if isinstance(body, list) else [body]
    return [item for item in found if isinstance(item, dict)]


def spread(item: dict[str, Any], prefix: str = "") -> list[str]:
    """The names of its members, with those of objects within."""
    names = []
    for name, value in item.items():
        names.append(prefix + name)
        if isinstance(value, dict):
            names += spread(value, f"{prefix}{name}.")
    return names


@st.composite
def mutated(draw: st.DrawFn, items: list[dict[str, Any]]) -> str:
    """One of these with some members changed, left out or put elsewhere."""
    item = json.loads(json.dumps(draw(st.sampled_from(items))))
    for name in draw(st.lists(st.sampled_from(spread(item)), max_size=3)):
        *way, last = name.split(".")
        inner = item
        for step in way:
            inner = inner.get(step) if isinstance(inner, dict) else None
        if not isinstance(inner, dict) or last not in inner:
            continue
        change = draw(st.integers(0, 2))
        if change == 0:
            inner[last] = draw(values)
        elif change == 1:
            del inner[last]
        else:
            item[name] = draw(values)
    return json.dumps(item, ensure_ascii=draw(st.booleans()))


def broken(body: str, cut: int) -> bytes:
    """JSON that ends too early, if `cut` is less than it has."""
    return body.encode(errors="surrogatepass")[:cut]


def requests(source: Source, body: bytes) -> Request:
    place, _, name = source.places[0].partition(".")
    if place == "form":
        form = "application/x-www-form-urlencoded"
        return Request("POST", b"", form, f"{name}={quote(body)}".encode(), NOW_S)
    if name:
        body = b'{"other":[1],"%b":%b}' % (name.encode(), body)
    return Request("POST", b"", "application/json", body, NOW_S)


def both(source: Source, request: Request) -> None:
    """Read it as usual, and without all that is made to be quick."""
    found = comes_to(source, request)
    for nationcode in (None, "86"):
        usual = read_usual(source, request, nationcode)
        if usual is not None:
            read_as = found[0]
            told = [(one, Whose(nationcode)) for one in read_as.reports]
            assert usual == receipts_of(Kind.DELIVERY_STATUS, source.name, told, NOW_S)
            assert not read_as.unread
            assert {one.kind for one in read_as.reports} == {Kind.DELIVERY_STATUS}
    with (
        mock.patch.object(reading, "plan_of", return_value=None),
        mock.patch.object(reading, "_is_plain", return_value=False),
        mock.patch.object(reports, "rows_of", return_value=None),
    ):
        assert found == comes_to(source, request)


def comes_to(source: Source, request: Request) -> tuple[Reports, list[Receipts]]:
    found = done(read(source, request))
    receipts = []
    for kind in Kind:
        for whose in (Whose(), Whose("86", sid="ours", ext="e")):
            told = [(one, whose) for one in found.reports if one.kind is kind]
            receipts.append(receipts_of(kind, source.name, told, NOW_S))
    return found, receipts


JSON_ROWS: Final = [row for row in builtin().values() if row.places[0] != "request"]


@pytest.mark.parametrize("source", JSON_ROWS, ids=lambda source: source.name)
@given(data=st.data())
@settings(max_examples=30)
def test_rows_of_ours_come_to_the_same_both_ways(source: Source, data: st.DataObject) -> None:
    plan_of.cache_clear()
    assert plan_of(source) is not None
    some = bodies(source)
    items = data.draw(st.lists(mutated(some) | values.map(json.dumps), max_size=4))
    body = "[" + ",".join(items) + "]"
    cut = data.draw(st.just(len(body) * 4) | st.integers(0, len(body)))
    both(source, requests(source, broken(body, cut)))


@given(items=st.lists(objects(members()) | values.map(json.dumps), max_size=3), alone=st.booleans())
@settings(max_examples=150)
@example(items=['{"a":{"state":"ok"},"a.state":"1","to":{"number":"1"},"e":"2"}'], alone=False)
@example(items=['{"a":{"state":"ok","b.id":"7"},"to":{"number":"86138"}}'], alone=False)
@example(items=['{"a":{"state":"ok"},"e":false}'], alone=False)
@example(items=['{"a":{"state":"ok"},"s":"x","to":{"number":"+8613800000000"}}'], alone=False)
@example(items=['{"a":{"state":true,"b":{"id":-0}},"to.number":1}'], alone=True)
@example(
    items=['{"a":{"state":1,"b":{"id":' + "1" * 5000 + '}},"to":{"number":"86138"}}'], alone=False
)
@example(items=['{"a":{"state":"ok"},"e":"2","x":"\\x"}', '{"\\x":1}'], alone=False)
@example(items=['{"a":{"state":"ok"},"e":"2","x":"\x01"}'], alone=False)
@example(items=['{"a":{"state":"ok"},"e":"2","x":"\\ud800"}'], alone=False)
@example(items=['{"a":{"state":"ok"},"e":"2","x":1.}', "[1]", "2,3"], alone=False)
@example(items=['{"a":{"state":"ok"},"e":"1"}', "[" * 20 + "]" * 20], alone=False)
def test_whatever_comes_comes_to_the_same_both_ways(*, items: list[str], alone: bool) -> None:
    body = items[0] if alone and items else "[" + ",".join(items) + "]"
    both(NESTED, requests(NESTED, body.encode(errors="surrogatepass")))


def test_no_state_is_none_though_others_are_known() -> None:
    row = read_source(ROW.replace("[reply]", 'otherwise = "FAIL"\n[reply]'))
    body = b'[{"a":{"state":" "},"e":"1"},{"a":{"state":"x"},"e":"2"}]'
    both(row, requests(row, body))
    assert [report.id for report in done(read(row, requests(row, body))).reports] == ["2"]


def test_one_odd_item_costs_the_others_nothing() -> None:
    good = '{"a":{"state":"ok"},"e":"1","to":{"number":"+8613800000000"}}'
    items = [good.replace('"1"', f'"{number}"').encode() for number in range(1, 100)]
    plan = plan_of(NESTED)
    assert plan is not None
    items.insert(50, b'{"a":[1]}')
    found = plan.read(items, items, 0, NOW_S)
    assert [place for place, report in enumerate(found) if report is None] == [50]


@pytest.mark.parametrize("deep", [limits.JSON_DEPTH_MAX - 1, limits.JSON_DEPTH_MAX])
def test_what_is_nested_too_deep_is_refused_as_a_whole(deep: int) -> None:
    good = '{"a":{"state":"ok"},"e":"1","to":{"number":"+8613800000000"},"x":%s}'
    body = "[" + good % ("[" * (deep - 1) + "]" * (deep - 1)) + "," + good % 1 + "]"
    both(NESTED, requests(NESTED, body.encode()))
    found = done(read(NESTED, requests(NESTED, body.encode())))
    assert len(found.reports) == (2 if deep < limits.JSON_DEPTH_MAX else 0)


def test_a_row_that_reads_an_object_as_text_has_no_plan() -> None:
    row = 'name="x"\nitems="body"\n[status]\nnumber="a"\nid="%s"\nstate="s"\nstates={ok="FAIL"}'
    assert plan_of(read_source(row % "a.b")) is None
    assert plan_of(read_source(row % "a.b.c.d.e.f".replace("a", "b"))) is None
    assert plan_of(read_source(row % "\\\\")) is None
    assert plan_of(read_source(row % "b")) is not None
