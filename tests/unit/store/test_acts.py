"""The chain of acts: any change of any act is told, and only of that one where that can be."""

from __future__ import annotations

import hashlib

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from pullstatus.store import Act, ActRow
from pullstatus.store.acts import HASH_BYTES, NOTHING_BEFORE, breaks, chained
from tests.store.build import chain_of

texts = st.text(max_size=6)
acts = st.builds(
    Act,
    actor=texts,
    action=texts,
    reason=texts,
    detail=texts,
    at_ms=st.integers(0, 1 << 40),
    ticket=st.binary(min_size=16, max_size=16),
)
chains = st.lists(acts, min_size=1, max_size=8).map(
    lambda some: chain_of(dict(enumerate(some, start=1)))
)


def broken(rows: list[ActRow]) -> list[int]:
    return [found.act_id for found in breaks(rows)]


@given(chains)
def test_acts_that_nobody_touched_hold(rows: list[ActRow]) -> None:
    assert broken(rows) == []
    assert all(len(row.hash) == HASH_BYTES for row in rows)


@given(chains, acts, st.sampled_from(Act.__struct_fields__), st.data())
def test_any_member_that_was_changed_is_told_of_that_act(
    rows: list[ActRow], other: Act, member: str, data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(rows) - 1))
    row = rows[place]
    value = getattr(other, member)
    changed = msgspec.structs.replace(row.act, **{member: value})
    rows[place] = msgspec.structs.replace(row, act=changed)
    assert broken(rows) == ([row.act_id] if changed != row.act else [])


@given(chains, st.data())
def test_a_hash_that_was_changed_is_told(rows: list[ActRow], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(rows) - 1))
    other = data.draw(st.binary(max_size=HASH_BYTES))
    rows[place] = msgspec.structs.replace(rows[place], hash=other)
    assert broken(rows) == [row.act_id for row in rows[place : place + 2]]


@given(chains, st.data())
def test_acts_that_were_taken_out_are_told_by_the_next(
    rows: list[ActRow], data: st.DataObject
) -> None:
    first = data.draw(st.integers(0, len(rows) - 1))
    last = data.draw(st.integers(first, len(rows) - 1))
    left = rows[:first] + rows[last + 1 :]
    assert broken(left) == [row.act_id for row in left[first : first + 1]]
    for found in breaks(left):
        missing = last - first + 1
        told = f"act {first + 1}," if missing == 1 else f"acts {first + 1} to {last + 1},"
        assert told in str(found)


@given(chains, acts, st.data())
def test_an_act_that_was_put_in_is_told(rows: list[ActRow], act: Act, data: st.DataObject) -> None:
    """Even if its own hash is right; those behind it are numbered anew."""
    place = data.draw(st.integers(0, len(rows)))
    before = rows[place - 1].hash if place else NOTHING_BEFORE
    own = data.draw(st.sampled_from([rows[0].hash, chained(before, place + 1, act)]))
    behind = [msgspec.structs.replace(row, act_id=row.act_id + 1) for row in rows[place:]]
    found = broken([*rows[:place], ActRow(place + 1, act, own), *behind])
    if place < len(rows) or own == rows[0].hash:
        assert found
    else:
        assert found == [], "that is how one is put on record"


@given(chains, st.data())
def test_two_that_changed_places_are_told(rows: list[ActRow], data: st.DataObject) -> None:
    one, two = (data.draw(st.integers(0, len(rows) - 1)) for _ in range(2))
    if rows[one].act == rows[two].act:
        return
    first, second = rows[one], rows[two]
    rows[one] = msgspec.structs.replace(first, act=second.act, hash=second.hash)
    rows[two] = msgspec.structs.replace(second, act=first.act, hash=first.hash)
    assert first.act_id in broken(rows)


def test_the_rule_is_as_written() -> None:
    """What is hashed, to the byte: another engine, or another program, has to make the same."""
    act = Act("me", "app set", "é", '{"sdkappid":7}', 1_800_000_000_000, bytes(range(16)))
    told = b'0:1:316:%s13:18000000000002:me7:app set2:\xc3\xa914:{"sdkappid":7}'
    expected = hashlib.sha256(told % bytes(range(16))).digest()
    assert chained(NOTHING_BEFORE, 3, act) == expected
    behind = hashlib.sha256(b"32:" + expected + told[2:].replace(b"1:3", b"1:4", 1) % act.ticket)
    assert chained(expected, 4, act) == behind.digest()


def test_a_break_says_what_was_expected_and_what_is_there() -> None:
    rows = chain_of(
        {number: Act("me", "a", "", "{}", number, bytes(16)) for number in (1, 2, 3, 4)}
    )
    changed = msgspec.structs.replace(rows[1], hash=b"\xab" * 32)
    [first, _] = breaks([rows[0], changed, *rows[2:]])
    assert (first.act_id, first.expected, first.found) == (2, rows[1].hash, b"\xab" * 32)
    assert str(first) == (
        "act 2 is not what was recorded, or was not recorded there:"
        f" hash {rows[1].hash.hex()} was expected, it has {'ab' * 32}"
    )
