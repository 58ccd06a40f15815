"""What is read in a fast and in a careful way is read alike, whatever comes.

Each pair is run on the same bytes, once as it is and once with the fast way shut; values and
refusals are compared to the letter. What a test like this is worth is tried with divergences that
are planted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from pullstatus import limits
from pullstatus.errors import PullstatusError
from pullstatus.json import integer
from pullstatus.records import (
    MEMBERS,
    DeliveryStatus,
    Kind,
    Reply,
    codec,
    decode,
    decode_array,
    decode_lines_in_steps,
    encode,
    encode_all,
    read_rows,
)
from pullstatus.steps import done
from pullstatus.wire.v5 import pull, signed
from pullstatus.wire.v5.pull import parse_pull

SAMPLES: dict[Kind, dict[bytes, bytes]] = {
    Kind.DELIVERY_STATUS: {
        b"user_receive_time": b'"2015-10-17 08:03:04"',
        b"nationcode": b'"86"',
        b"mobile": b'"13800000000"',
        b"report_status": b'"SUCCESS"',
        b"errmsg": b'"DELIVRD"',
        b"description": b'"delivered"',
        b"sid": b'"8:aIt9bcbZHdse7kBZuqi20170104"',
        b"ext": b'"session"',
    },
    Kind.REPLY: {
        b"nationcode": b'"86"',
        b"mobile": b'"13800000000"',
        b"text": b'"TD"',
        b"sign": b'"Example"',
        b"time": b"1457336869",
        b"extend": b'"01"',
    },
}
for kind, sample in SAMPLES.items():  # a member that comes later is like any other
    for member in MEMBERS[kind]:
        sample.setdefault(member.name.encode(), b'"text"' if member.type is str else b"1")
PULL = {b"sig": b'"%064d"' % 7, b"time": b"1457336869", b"type": b"0", b"max": b"10"}
QUERY = b"sdkappid=1400006666&random=7226249334"
TYPES: dict[Kind, type[DeliveryStatus | Reply]] = {
    Kind.DELIVERY_STATUS: DeliveryStatus,
    Kind.REPLY: Reply,
}


# --- what comes -----------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**65), 2**65) | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=4,
)
numbers = st.from_regex(
    rb"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,3})?([eE][+-]?[0-9]{1,3})?", fullmatch=True
)
SIZES = sorted(
    {
        bound + more
        for bound in (
            *(0, 64, limits.NATIONCODE_DIGITS_MAX, limits.MOBILE_DIGITS_MAX, limits.SID_CHARS_MAX),
            *(limits.INTEGER_DIGITS_MAX, limits.RANDOM_CHARS_MAX),
        )
        for more in (-1, 0, 1)
        if bound + more >= 0
    }
)
# Where a rule ends, a decoder's bound, or the two ways of writing the same.
EDGES = [
    *(b'"%b"' % (b"1" * size) for size in SIZES),
    *(b'"+%b"' % (b"1" * size) for size in SIZES),
    *(
        b"%d" % number
        for number in (
            -2,
            -1,
            0,
            1,
            2,
            99,
            100,
            101,
            10**17,
            10**18,
            10**19,
            limits.REPLY_TIME_S_MAX,
        )
    ),
    *(b"%d" % (limits.REPLY_TIME_S_MAX + 1), b"10.0", b"1e1", b"1E400", b"-0", b"01", b"1."),
    *(b'"10"', b'" 10"', b'"1e1"', b'"010"', b"true", b"null", b"{}", b"[]", b'"', b"", b"NaN"),
    *(b'"\\u0038\\u0036"', '"\u0661\u0662"'.encode(), '"\u00b2"'.encode(), b'"\\ud800"'),
    *(b'"\\ud83d\\ude00"', '"\U0001f600"'.encode(), b'"\xff"', b'"a\nb"', b'"\\n"', b'"\\x"'),
    *(b'"SUCCESS"', b'"FAIL"', b'"success"', b'"SUCCESS "', b'"SUCCES\\u0053"'),
    *(b'"2015-02-29 00:00:00"', b'"2016-02-29 00:00:00"', b'"2015-10-17 24:00:00"'),
    *(b'"2015-10-17T08:03:04"', b'"2015-10-17 08:03:60"', b'"2015-W42-6 08:03:04"'),
    *(
        b'"20151017 08:03:0410"',
        '"2015-10-17 08:03:0\u0664"'.encode(),
        b'"0000-01-01 00:00:00"',
    ),
    *(b'"%064x"' % 7, b'"%063d\\\\"' % 7, b'"' + b"\\u0061" * 64 + b'"', b"[" * 40 + b"]" * 40),
]
edges = st.sampled_from(EDGES)
tokens = edges | numbers | json_values.map(lambda value: json.dumps(value).encode())


def nearly(token: bytes) -> list[bytes]:
    """The same as another type, or a little more or less of it."""
    bare = token.strip(b'"')
    return [b'"%b"' % bare, bare, b'"%b"' % bare[:-1], b'"%b1"' % bare, b"1" + bare, bare + b".0"]


def near(token: bytes) -> st.SearchStrategy[bytes]:
    return tokens | st.sampled_from(nearly(token))


blanks = st.sampled_from([b"", b"", b"", b" ", b"\n\t\r"])


CHANGES = ["set", "set", "set", "drop", "double", "add", "move"]


@st.composite
def objects(draw: st.DrawFn, sample: dict[bytes, bytes]) -> bytes:
    """An object like the sample, with some members changed, left out, doubled, moved or added."""
    members = list(sample.items())
    for change in draw(st.lists(st.sampled_from(CHANGES), max_size=2)):
        place = draw(st.integers(0, len(members) - 1))
        name, token = members[place]
        if change == "set":
            members[place] = (name, draw(near(token)))
        elif change == "drop" and len(members) > 1:
            del members[place]
        elif change == "double":
            members.append((name, draw(near(token))))
        elif change == "add":
            members.insert(
                place, (draw(st.sampled_from([b"more", b"", b"\\u0073id"])), draw(tokens))
            )
        else:
            members.append(members.pop(place))
    gap = draw(blanks)
    return (
        b"{"
        + b",".join([b'%b"%b"%b:%b' % (gap, name, gap, token) for name, token in members])
        + b"}"
    )


@st.composite
def broken(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """The same, now and then cut, or with something in it that does not belong there."""
    data = draw(whole)
    place = draw(st.integers(0, len(data)))
    inside = st.sampled_from(
        [b"{", b"}", b"]", b",", b'"', b"\\", b"\xff", b"\xef\xbb\xbf", b"\x00"]
    )
    return draw(
        st.sampled_from(
            [data, data, data, data[:place], data[:place] + draw(inside) + data[place:]]
        )
    )


def listed(kind: Kind) -> st.SearchStrategy[bytes]:
    found = st.lists(objects(SAMPLES[kind]), max_size=3)
    return found.map(lambda records: b"[" + b",".join(records) + b"]")


queries = st.one_of(
    st.just(QUERY),
    st.lists(
        st.sampled_from(
            [
                *(b"sdkappid=", b"random=", b"1400006666", b"7", b"&", b"=", b"%", b"%32"),
                *(b"+", b"\xe4", b"%e4%b8%ad", b"0" * 9, b"9" * 10, b"4294967295"),
                *(b"4294967296", b"x" * 60, QUERY, QUERY),
            ]
        ),
        max_size=8,
    ).flatmap(
        lambda parts: st.sampled_from([b"", b"sdkappid=7&random="]).map(
            lambda head: head + b"".join(parts)
        )
    ),
)


# --- the pairs ------------------------------------------------------------------------------------


def outcome(read: Callable[[], object]) -> object:
    """What it comes to, be it a refusal; with nothing equal that is not the same."""
    try:
        return repr(bare(read()))
    except PullstatusError as error:
        return type(error), str(error), getattr(error, "index", None)


def bare(value: object) -> object:
    """The same, with the JSON of members that nobody knows for all to see."""
    if isinstance(value, msgspec.Raw):
        return bytes(value)
    if isinstance(value, list | tuple):
        return [bare(one) for one in value]
    return {name: bare(one) for name, one in value.items()} if isinstance(value, dict) else value


@contextmanager
def put(module: object, name: str, instead: object) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, name, instead)
        yield


def unusual(_data: bytes) -> Any:  # noqa: ANN401 - stands for any decoder
    raise msgspec.DecodeError


def agree(read: Callable[[], object], module: object, fast: str, shut: object) -> None:
    """`read` comes to the same with and without this fast way."""
    as_it_is = outcome(read)
    with put(module, fast, shut):
        assert outcome(read) == as_it_is


BOTH = (unusual, unusual)
NOTHING = re.compile(rb"(?!)")

Sent = tuple[Kind, bytes]


def check_record(sent: Sent) -> None:
    kind, data = sent
    agree(lambda: decode(data, kind), codec, "_decode_one", BOTH)


def check_array(sent: Sent) -> None:
    kind, data = sent
    agree(lambda: decode_array(data, kind), codec, "_decode_list", BOTH)


def check_array_at_once(sent: Sent) -> None:
    """It may leave what is unusual to the others; what it refuses, they do."""
    kind, data = sent

    def at_once() -> object:
        rows = read_rows(data, kind)
        return None if rows is None else encode_all(rows)

    assert outcome(at_once) in ("None", outcome(lambda: encode_all(*decode_array(data, kind))))


def check_lines(sent: tuple[Kind, list[bytes]]) -> None:
    kind, lines = sent
    agree(lambda: done(decode_lines_in_steps(lines, kind)), codec, "_decode_one", BOTH)


def check_built(built: tuple[Kind, dict[str, Any]]) -> None:
    """One expression looks at a whole record; what it takes breaks no member's rule."""
    kind, members = built

    def rules() -> list[None]:
        for member in MEMBERS[kind]:
            member.check(member.name, members[member.name])
        return []

    assert outcome(lambda: [TYPES[kind](**members)][1:]) == outcome(rules)


def check_pull(sent: tuple[bytes, bytes]) -> None:
    def read() -> object:
        found = parse_pull(*sent)
        return found.sdkappid, found.random, found.sig, found.time, found.time_text, found.page()

    agree(read, pull, "_decode_plain", unusual)
    agree(read, signed, "_USUAL_QUERY", NOTHING)


def of_kinds(strategy: Callable[[Kind], st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    return st.sampled_from(Kind).flatmap(lambda kind: st.tuples(st.just(kind), strategy(kind)))


def readable(token: bytes) -> bool:
    """Whether it is JSON to somebody who takes more than we do."""
    try:
        json.loads(token)
    except ValueError:
        return False
    return True


def members(kind: Kind) -> st.SearchStrategy[dict[str, Any]]:
    sample = {name.decode(): json.loads(token) for name, token in SAMPLES[kind].items()}
    odd = json_values | edges.filter(readable).map(json.loads)
    change = st.dictionaries(st.sampled_from([*sample]), odd, max_size=2)
    return change.map(lambda changed: sample | changed)


records = of_kinds(lambda kind: broken(objects(SAMPLES[kind])))
arrays = of_kinds(lambda kind: broken(listed(kind)))
replies = st.tuples(st.just(Kind.REPLY), broken(listed(Kind.REPLY)))
lines = of_kinds(lambda kind: st.lists(broken(objects(SAMPLES[kind])), max_size=3))
pulls = st.tuples(queries, broken(objects(PULL)))


def as_object(sample: dict[bytes, bytes]) -> bytes:
    return b"{" + b",".join([b'"%b":%b' % member for member in sample.items()]) + b"}"


def at_every_edge(sample: dict[bytes, bytes]) -> Iterator[bytes]:
    """The sample with one member at an edge: each member at each."""
    for name, token in sample.items():
        for edge in [*EDGES, *nearly(token)]:
            yield as_object(sample | {name: edge})


@pytest.mark.parametrize("kind", Kind)
def test_every_member_at_every_edge(kind: Kind) -> None:
    whole = as_object(SAMPLES[kind])
    for data in at_every_edge(SAMPLES[kind]):
        check_record((kind, data))
        check_array((kind, b"[" + data + b"]"))
        check_array_at_once((kind, b"[%b,%b]" % (data, whole)))
        check_lines((kind, [whole, data]))


@pytest.mark.parametrize("kind", Kind)
def test_every_member_built_at_every_edge(kind: Kind) -> None:
    sample = {name.decode(): json.loads(token) for name, token in SAMPLES[kind].items()}
    for edge in filter(readable, EDGES):
        for name in sample:
            check_built((kind, sample | {name: json.loads(edge)}))


def test_a_pull_at_every_edge() -> None:
    for body in at_every_edge(PULL):
        check_pull((QUERY, body))
    for byte in range(256):
        check_pull((b"sdkappid=1400006666&random=1" + bytes([byte]) + b"32", as_object(PULL)))


@given(records)
def test_a_record(sent: Sent) -> None:
    check_record(sent)


@given(arrays)
def test_an_array(sent: Sent) -> None:
    check_array(sent)


@given(arrays)
def test_an_array_at_once(sent: Sent) -> None:
    check_array_at_once(sent)


@given(lines)
def test_lines(sent: tuple[Kind, list[bytes]]) -> None:
    check_lines(sent)


@given(of_kinds(members))
def test_a_record_that_is_built(built: tuple[Kind, dict[str, Any]]) -> None:
    check_built(built)


@given(pulls)
def test_a_pull(sent: tuple[bytes, bytes]) -> None:
    check_pull(sent)


@given(lines)
def test_entries_of_a_batch(sent: tuple[Kind, list[bytes]]) -> None:
    """Encoded together as one by one."""
    kind, parts = sent
    try:
        read, extras = done(decode_lines_in_steps(parts, kind))
    except PullstatusError:
        return
    each = [encode(*pair) for pair in zip(read, extras or [None] * len(read), strict=True)]
    assert encode_all(read, extras) == each


@given(st.from_regex(rb"[0-9]{1,20}", fullmatch=True))
def test_an_integer(digits: bytes) -> None:
    """Digits alone, and the same number behind all the arithmetic."""
    number = digits.lstrip(b"0") or b"0"
    assert integer(number) == integer(number + b".0") == integer(number + b"e0")


# --- what this is worth ---------------------------------------------------------------------------


def forgiving(*types: Any) -> tuple[Callable[[bytes], Any], ...]:  # noqa: ANN401 - any type
    return tuple(msgspec.json.Decoder(one, strict=False).decode for one in types)


class UnboundedBody(msgspec.Struct):
    sig: str
    time: int
    type: Kind
    max: int


def without_bounds(kind: Kind) -> Any:  # noqa: ANN401 - a type made here
    row = msgspec.defstruct("Row", [(member.name, member.type) for member in MEMBERS[kind]])
    return list[row]  # type: ignore[valid-type]


@pytest.mark.parametrize(
    ("module", "name", "planted", "sent", "check"),
    [
        (codec, "_decode_one", forgiving(*TYPES.values()), records, check_record),
        (
            codec,
            "_decode_list",
            forgiving(list[DeliveryStatus], list[Reply]),
            replies,
            check_array,
        ),
        (codec, "_decode_rows", forgiving(*map(without_bounds, Kind)), arrays, check_array_at_once),
        (pull, "_decode_plain", msgspec.json.Decoder(UnboundedBody).decode, pulls, check_pull),
        (
            signed,
            "_USUAL_QUERY",
            re.compile(rb"sdkappid=([0-9]{1,10})&random=([^&]{1,64})"),
            pulls,
            check_pull,
        ),
    ],
)
def test_a_planted_divergence_is_found(
    module: object,
    name: str,
    planted: object,
    sent: st.SearchStrategy[Any],
    check: Callable[[Any], None],
) -> None:
    def diverges(found: object) -> bool:
        try:
            check(found)
        except (AssertionError, AttributeError, TypeError, UnicodeDecodeError):
            return True
        return False

    with put(module, name, planted):
        find(
            sent,
            diverges,
            # One in a thousand shows the rarest: chance may take long, and does not miss it.
            settings=settings(max_examples=30_000, phases=[Phase.generate], deadline=None),
            random=Random(8),
        )
