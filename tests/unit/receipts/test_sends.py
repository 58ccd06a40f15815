"""What a sender reports of its sends: both forms, their sums, and what is said of a wrong one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullstatus import limits
from pullstatus.errors import BodyTooLarge, InvalidBody, InvalidRecord
from pullstatus.receipts.sends import Registered, Sends, Sent, read_sends_in_steps
from pullstatus.steps import done

NOW = 2026_11_28_12
COUNTS: dict[str, Any] = {"hour": NOW, "request": 100, "success": 98, "bill_number": 120}
SEND: dict[str, Any] = {"hour": NOW, "result": 0, "fee": 2}


def read(*items: object) -> Sends:
    return done(read_sends_in_steps(json.dumps(items).encode(), False, NOW))


@pytest.mark.parametrize(
    ("items", "hours"),
    [
        ([COUNTS], {NOW: (100, 98, 120)}),
        ([SEND], {NOW: (1, 1, 2)}),
        ([{"hour": NOW, "result": 1014}], {NOW: (1, 0, 0)}),
        ([{"hour": NOW, "result": 1014, "fee": "none"}], {NOW: (1, 0, 0)}),
        ([COUNTS, SEND, {**SEND, "result": -1}], {NOW: (102, 99, 122)}),
        ([COUNTS, SEND | {"hour": 2026112723}], {NOW: (100, 98, 120), 2026112723: (1, 1, 2)}),
        ([{**SEND, "sid": "8:x", "errmsg": "OK", "ext": {"a": [1]}}], {NOW: (1, 1, 2)}),
        ([{"hour": NOW, "request": 0, "success": 0, "bill_number": 0}], {NOW: (0, 0, 0)}),
    ],
)
def test_items_are_summed_by_the_hour(
    items: list[object], hours: dict[int, tuple[int, int, int]]
) -> None:
    lined = "\r\n".join(["", *map(json.dumps, items), ""]).encode()
    expected = Sends(len(items), {hour: Sent(*sent) for hour, sent in hours.items()})
    assert read(*items) == done(read_sends_in_steps(lined, True, NOW)) == expected


def without(member: str, of: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in of.items() if name != member}


MOST = limits.SENDS_COUNT_MAX
A_COUNT = f"must be an integer from 0 to {MOST}"
CALENDAR = "must be an hour of the calendar in UTC+8, as 2026112812"


@pytest.mark.parametrize(
    ("item", "member", "fix"),
    [
        (7, "record", "must be a JSON object"),
        ([COUNTS], "record", "must be a JSON object"),
        (None, "record", "must be a JSON object"),
        ({}, "hour", CALENDAR),
        ({**COUNTS, "hour": None}, "hour", CALENDAR),
        ({**COUNTS, "hour": str(NOW)}, "hour", CALENDAR),
        ({**COUNTS, "hour": 2026112824}, "hour", CALENDAR),
        ({**COUNTS, "hour": 2026022900}, "hour", CALENDAR),
        ({**COUNTS, "hour": 20261128}, "hour", CALENDAR),
        ({**COUNTS, "hour": 1795838400}, "hour", CALENDAR),
        ({**COUNTS, "hour": -NOW}, "hour", CALENDAR),
        ({**COUNTS, "hour": NOW + 0.5}, "hour", CALENDAR),
        ({**COUNTS, "hour": 10**30}, "hour", CALENDAR),
        ({**COUNTS, "hour": NOW + 1}, "hour", "must not be one that is yet to come"),
        ({**COUNTS, "hour": 2025102411}, "hour", "must not be before the last 400 days"),
        ({"hour": NOW}, "request", "is missing"),
        ({**COUNTS, "result": 0}, "result", "does not go with request"),
        (without("success", COUNTS), "success", A_COUNT),
        (without("bill_number", COUNTS), "bill_number", A_COUNT),
        ({**COUNTS, "request": -1}, "request", A_COUNT),
        ({**COUNTS, "request": MOST + 1}, "request", A_COUNT),
        ({**COUNTS, "request": "100"}, "request", A_COUNT),
        ({**COUNTS, "success": True}, "success", A_COUNT),
        ({**COUNTS, "bill_number": 1.5}, "bill_number", A_COUNT),
        ({**COUNTS, "success": 101}, "success", "must not be more than request"),
        ({**SEND, "result": "0"}, "result", "must be an integer"),
        ({**SEND, "result": False}, "result", "must be an integer"),
        (without("fee", SEND), "fee", A_COUNT),
        ({**SEND, "fee": None}, "fee", A_COUNT),
    ],
)
def test_wrong_item_is_named_with_the_fix(item: object, member: str, fix: str) -> None:
    """And the whole report is refused."""
    with pytest.raises(InvalidRecord) as caught:
        read(COUNTS, item)
    assert (caught.value.member, caught.value.index) == (member, 1)
    assert fix in caught.value.fix


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", InvalidBody),
        (b"[]", InvalidBody),
        (b"{}", InvalidBody),
        (b"[{]", InvalidBody),
        (b"\xff[]", InvalidBody),
        (b"[" * 2000, InvalidBody),
        (json.dumps([SEND] * 1001).encode(), BodyTooLarge),
        (b" " * (limits.INGEST_BODY_BYTES_MAX + 1), BodyTooLarge),
    ],
)
def test_what_is_no_report_is_refused(body: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        done(read_sends_in_steps(body, False, NOW))


def test_as_many_items_as_there_may_be_are_read() -> None:
    assert read(*[SEND] * 1000) == Sends(1000, {NOW: Sent(1000, 1000, 2000)})


counts = st.integers(0, MOST)


@given(st.lists(st.tuples(st.integers(0, 23), counts, counts, counts), min_size=1))
def test_nothing_is_lost_in_a_sum(rows: list[tuple[int, int, int, int]]) -> None:
    items = [
        {
            "hour": 2026112700 + hour,
            "request": asked,
            "success": min(asked, taken),
            "bill_number": b,
        }
        for hour, asked, taken, b in rows
    ]
    found = read(*items)
    for place, name in enumerate(("request", "success", "bill_number")):
        assert sum(sent[place] for sent in found.hours.values()) == sum(
            item[name] for item in items
        )


NAMED: dict[str, Any] = {"sid": "2:7f", "id": "173"}


@pytest.mark.parametrize(
    ("item", "name", "counted"),
    [
        (NAMED, Registered("2:7f", ("173",)), False),
        (NAMED | {"id": 173}, Registered("2:7f", ("173",)), False),
        (NAMED | {"id": int("9" * 40)}, Registered("2:7f", ("9" * 40,)), False),
        (NAMED | {"ext": None}, Registered("2:7f", ("173",)), False),
        ({**SEND, "sid": "s", "ids": ["a", 7]}, Registered("s", ("a", "7")), True),
        (
            {**NAMED, "ext": "e", "nationcode": "86", "mobile": "138", "errmsg": "OK"},
            Registered("2:7f", ("173",), "e", "86", "138"),
            False,
        ),
    ],
)
def test_what_a_gateway_knows_a_send_by_is_its_name(
    item: object, name: Registered, counted: bool
) -> None:
    found = read(item)
    assert found.names == (name,)
    assert bool(found.hours) is counted


@pytest.mark.parametrize(
    ("item", "member", "fix"),
    [
        ({"id": "1"}, "sid", "is missing: what the sender knows the SMS by"),
        ({**COUNTS, **NAMED}, "id", "does not go with request"),
        (NAMED | {"sid": 7}, "sid", "must be a string"),
        (NAMED | {"sid": ""}, "sid", "must have 1 to 64 characters"),
        (NAMED | {"id": ""}, "id", "must have 1 to 128 characters"),
        (NAMED | {"id": "1" * 129}, "id", "must have 1 to 128 characters"),
        (NAMED | {"id": None}, "id", "must be a string"),
        (NAMED | {"id": 1.5}, "id", "must be a string"),
        (NAMED | {"ids": ["1"]}, "ids", "is of all parts, and does not go with id"),
        ({"sid": "s", "ids": "1"}, "ids", "must be an array, of an id for each part"),
        ({"sid": "s", "ids": []}, "ids", "must have 1 to 255 ids"),
        ({"sid": "s", "ids": ["1"] * 256}, "ids", "must have 1 to 255 ids"),
        ({"sid": "s", "ids": ["1", "1"]}, "ids", "must have each id once"),
        (NAMED | {"ext": {}}, "ext", "must be a string"),
        (NAMED | {"ext": "x" * 1025}, "ext", "must have at most 1024 characters"),
        (NAMED | {"mobile": "138"}, "nationcode", 'must be a string of 1 to 6 digits, no "+"'),
        (NAMED | {"nationcode": "86"}, "mobile", "must be a string of 1 to 20 digits"),
        (
            NAMED | {"nationcode": "86", "mobile": None},
            "mobile",
            "must be a string of 1 to 20 digits",
        ),
    ],
)
def test_a_name_that_breaks_a_rule_is_refused(item: object, member: str, fix: str) -> None:
    with pytest.raises(InvalidRecord) as caught:
        read(NAMED, item)
    assert (caught.value.member, caught.value.fix, caught.value.index) == (member, fix, 1)


texts = st.one_of(
    st.sampled_from(["", "8:x", "173", "00", "+138", "x" * 64, "x" * 65, "１", "é"]),
    st.text(max_size=3),
    st.none(),
    st.integers(),
)
named = st.fixed_dictionaries(
    {"sid": st.just("2:7f") | texts, "id": st.just("173") | texts},
    optional={
        "ext": st.just("x" * 1025) | texts,
        "nationcode": st.just("86") | texts,
        "mobile": st.just("138") | texts,
        "result": st.just(0),
        "ids": st.just(["1"]),
    },
)
usual = st.fixed_dictionaries(
    {"sid": st.just("2:7f"), "id": st.text(min_size=1, max_size=3)},
    optional={"ext": st.text(max_size=3)},
)


@given(st.lists(usual, min_size=1), st.lists(named, max_size=1), st.sampled_from([0, 86]))
def test_names_that_are_read_together_are_what_each_is_by_itself(
    alike: list[dict[str, Any]], odd: list[dict[str, Any]], code: int
) -> None:
    """Lines are read one by one, an array of usual names is not."""
    number = {"nationcode": str(code), "mobile": "13800000001"} if code else {}
    items = [number | item for item in alike] + odd
    lined = "\n".join(map(json.dumps, items)).encode()
    assert said(json.dumps(items).encode(), ndjson=False) == said(lined, ndjson=True)


@pytest.mark.parametrize("member", ["nationcode", "mobile"])
@pytest.mark.parametrize("value", ["", "8x", "８６", "８", "8" * 21, "8 "])
def test_numbers_of_names_are_digits_though_all_others_are(member: str, value: str) -> None:
    numbered = NAMED | {"nationcode": "86", "mobile": "138"}
    with pytest.raises(InvalidRecord) as caught:
        read(numbered, numbered | {member: value})
    assert (caught.value.member, caught.value.index) == (member, 1)


@pytest.mark.parametrize("member", ["sid", "id", "ext"])
def test_a_name_with_half_a_surrogate_pair_is_refused(member: str) -> None:
    for half in ("\ud800", "\udc00"):
        with pytest.raises((InvalidBody, InvalidRecord)):
            read(NAMED, NAMED | {member: half})


def said(body: bytes, *, ndjson: bool) -> Sends | str:
    try:
        return done(read_sends_in_steps(body, ndjson, NOW))
    except InvalidRecord as error:
        return str(error)
