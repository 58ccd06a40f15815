"""Whatever comes, the quick ways say and do what the careful way does, to the byte.

Two servers over equal stores, with equal clocks, are played the same: one answers usual requests
without the parser and without a scope, the other answers nothing so. What they say, what is stored
and what is counted is compared after each step.
"""

from __future__ import annotations

import atexit
import functools
import itertools
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pullstatus import limits
from pullstatus.errors import (
    CallerGone,
    KeyReused,
    OutcomeUnknown,
    SettingChanged,
    StoreCorrupt,
    StoreFull,
    StoreUnavailable,
)
from pullstatus.server.ingest import _Words
from pullstatus.server.whole import read_whole
from pullstatus.wire.api3 import signing
from pullstatus.wire.api3.requests import ACTIONS as ALL_ACTIONS
from pullstatus.wire.v5.pull import pull_request
from tests.harness import Record, chunked, reply, status
from tests.unit.server.ways import (
    ADDRESSES,
    APPS,
    NOW_MS,
    PLAIN,
    SECRET_ID,
    SECRET_KEY,
    TOKENS,
    Side,
    log_lines,
    make_template,
)

Step = Callable[[Side], None]


@functools.cache
def folder() -> Path:
    """Where stores of this run are: in memory, if there is such a place."""
    memory = Path("/dev/shm")
    made = tempfile.mkdtemp(prefix="pullstatus-ways-", dir=memory if memory.is_dir() else None)
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return Path(made)


@functools.cache
def secrets() -> dict[str, str]:
    return make_template(folder() / "template")


_numbers = itertools.count(1)


def side(*, quick: bool) -> Side:
    secrets()
    return Side(folder() / "template", folder() / str(next(_numbers)), quick=quick)


class Told:
    """A step that shows how it is made, for a failure to be read."""

    def __init__(self, name: str, do: Step, *values: object) -> None:
        self._told = f"{name}{values}"
        self._do = do

    def __call__(self, side: Side) -> None:
        self._do(side)

    def __repr__(self) -> str:
        return self._told


def check(steps: list[Step]) -> int:
    """Play the same to both; returns how many requests were answered at once.

    What has come behind a request that waits for the store is read by the one way, and lies unread
    by the other. So as long as something does, they are not compared.
    """
    with log_lines(), side(quick=False) as careful, side(quick=True) as quick:
        told: tuple[list[str], list[str]] = ([], [])
        for step in (*steps, Side.finish):
            for each, lines in zip((careful, quick), told, strict=True):
                with log_lines() as found:
                    step(each)
                lines.extend(map(repr, found))
            if quick.unread:
                continue
            compare(
                {**careful.saw(), "log": sorted(told[0])}, {**quick.saw(), "log": sorted(told[1])}
            )
            told = ([], [])
        assert quick.metrics() == careful.metrics()
        assert careful.answered_at_once == 0
        return quick.answered_at_once


def compare(careful: dict[str, object], quick: dict[str, object]) -> None:
    for what, said in careful.items():
        assert (what, quick[what]) == (what, said)


# --- requests, made when they are sent ------------------------------------------------------------

Make = Callable[[Side], bytes]
Head = tuple[str, str]

HOST: Final = b"mailbox.test"
FORM: Final = ("Content-Type", "application/x-www-form-urlencoded")

LAST = "(last)"
"""Stands for the id of the page that was told last."""


def request(
    side: Side, target: str, body: bytes, headers: list[Head], form: str = "usual"
) -> bytes:
    lines = [f"POST {target} HTTP/1.1", "Host: mailbox.test"]
    for name, value in headers:
        if value.startswith(LAST):
            back = int(value.removeprefix(LAST) or 1)
            value = side.pages[-back] if len(side.pages) >= back else "1-1-1"  # noqa: PLW2901
        lines.append(f"{name}: {value}")
    if form == "chunked":
        lines.append("Transfer-Encoding: chunked")
        body = chunked(body)
    else:
        lines.append(f"Content-Length: {len(body)}")
    if form == "long":
        used = len("\r\n".join(lines))
        lines.append(f"X-Long: {'a' * max(1, limits.USUAL_HEAD_BYTES - used - 14)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def pull(
    app: int = 0,
    kind: object = 0,
    count_max: object = 100,
    *,
    late_s: int = 0,
    nonce: int | None = None,
    sig: str = "good",
    size: int = 0,
    headers: tuple[Head, ...] = (),
    form: str = "usual",
) -> Make:
    def make(side: Side) -> bytes:
        known = APPS[app]
        at_s = side.now_ms // 1000 - late_s
        made = 1000 + len(side.sent) if nonce is None else nonce
        target, body = pull_request(known.sdkappid, known.appkey, 0, 0, str(made), at_s)  # type: ignore[arg-type]
        members = {**json.loads(body), "type": kind, "max": count_max}
        if sig == "wrong":
            members["sig"] = "0" * 64
        elif sig == "none":
            del members["sig"]
        text = json.dumps(members).encode()
        return request(side, target, text.ljust(size), list(headers), form)

    return make


def action(
    name: str = "PullSmsSendStatus",
    app: int = 0,
    limit: object = 100,
    *,
    late_s: int = 0,
    secret_id: str = SECRET_ID,
    key: str = SECRET_KEY,
    way: str = "json",
    version: str = "2021-01-11",
    more: dict[str, object] | None = None,
    headers: tuple[Head, ...] = (),
    form: str = "usual",
) -> Make:
    """A call of API 3.0, by TC3 with a JSON object or a form, or by version 1."""

    def make(side: Side) -> bytes:
        at_s = side.now_ms // 1000 - late_s
        number = "SmsSdkAppId" if version == "2021-01-11" else "SmsSdkAppid"
        members: dict[str, object] = {number: str(APPS[app].sdkappid), "Limit": limit}
        members |= more or {}
        if way == "v1":
            said = {name: str(value) for name, value in members.items()}
            said |= {"Action": name, "Version": version, "Timestamp": str(at_s)}
            said |= {"SecretId": secret_id, "Nonce": "7", "SignatureMethod": "HmacSHA256"}
            said["Signature"] = signing.sign_v1("POST", HOST, said, key)
            return request(side, "/", urlencode(said).encode(), [FORM, *headers], form)
        body = (json.dumps(members) if way == "json" else urlencode(members)).encode()
        sent = [("Content-Type", "application/json") if way == "json" else FORM]
        sent += [("X-TC-Action", name), ("X-TC-Version", version), ("X-TC-Timestamp", str(at_s))]
        encoded = {one.lower().encode(): value.encode() for one, value in sent} | {b"host": HOST}
        signed = signing.sign(signing.Request("POST", b"", encoded, body), secret_id, key)
        return request(side, "/", body, [*sent, ("Authorization", signed.decode()), *headers], form)

    return make


def batch(
    app: int = 0,
    path: str = "delivery-statuses",
    body: bytes = b"[]",
    *,
    token: str = "own",
    content_type: str = "application/json",
    headers: tuple[Head, ...] = (),
    form: str = "usual",
) -> Make:
    def make(side: Side) -> bytes:
        said = [("Authorization", f"Bearer {secrets()[token]}"), ("Content-Type", content_type)]
        target = f"/ingest/{APPS[app].sdkappid}/{path}"
        return request(side, target, body, [*said, *headers], form)

    return make


def callback(
    body: bytes,
    *,
    path: str = "/callbacks/{}",
    token: str = "own",
    query: str = "",
    headers: tuple[Head, ...] = (),
    form: str = "usual",
) -> Make:
    def make(side: Side) -> bytes:
        target = path.format(secrets()[token]) + query
        return request(side, target, body, list(headers), form)

    return make


def again(back: int) -> Make:
    """The same bytes as of a request before."""
    return lambda side: side.sent[-back] if len(side.sent) >= back else b""


def other(text: bytes) -> Make:
    return lambda _: text


def say(
    place: int,
    makes: list[Make],
    cuts: tuple[int, ...] = (),
    edits: tuple[tuple[int, int, bytes], ...] = (),
) -> Step:
    """Requests in one read, or in pieces, perhaps with some bytes taken out, put in or replaced.

    Args:
        cuts, edits: where, in 256ths of it.
    """

    def step(side: Side) -> None:
        made = [make(side) for make in makes]
        side.sent += made
        data = b"".join(made)
        for at, size, part in edits:
            begin = len(data) * at // 256
            data = data[:begin] + part + data[begin + size :]
        ends = [*sorted(len(data) * cut // 256 for cut in cuts), len(data)]
        side.say(place, *(data[begin:end] for begin, end in itertools.pairwise([0, *ends])))

    return step


# --- what there is to choose from -----------------------------------------------------------------


def mostly(usual: object, *others: object) -> st.SearchStrategy[Any]:
    """The usual one nine times of ten: a request with many such choices is usual about as often."""
    return st.sampled_from([usual] * (9 * len(others)) + list(others))


def either(*shares: tuple[int, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    """One of several, each as often as its share says."""
    return st.sampled_from([each for share, each in shares for _ in range(share)]).flatmap(
        lambda each: each
    )


STATUSES: Final = [status(number) for number in range(1, 4)]
ODD: Final[list[Record]] = [
    status(4, nationcode=86),
    status(5, mobile=""),
    status(6, description="收到 \u202e"),
    status(7, fee=1),
    status(8, errmsg=None),
    status(9, user_receive_time="2026-13-05 08:03:04"),
    status(10, description="x" * limits.RECORD_BYTES_MAX),
    reply(1),
    {"x": 1},
]
RECORDS: Final = st.lists(mostly(STATUSES[0], *STATUSES[1:] * 2, *ODD), min_size=1, max_size=4)
MANY: Final = st.builds(
    lambda first, count: [status(number) for number in range(first, first + count)],
    st.sampled_from([1, 50, 1000]),
    st.sampled_from([1, 2, 99, 100, 101, 250]),
)
REPLIES: Final = st.lists(st.sampled_from([reply(1), reply(2), reply(3, text="好")]), max_size=3)
TOO_MANY: Final = json.dumps([status(1)] * (limits.INGEST_RECORDS_MAX + 1)).encode()

SIZES: Final = (
    limits.USUAL_BODY_BYTES - 1,
    limits.USUAL_BODY_BYTES,
    limits.USUAL_BODY_BYTES + 1,
    limits.REQUEST_BYTES + 1,
)


@st.composite
def bodies(draw: st.DrawFn, records: st.SearchStrategy[list[Any]]) -> bytes:
    """An array of records, NDJSON, one record, or nothing of the kind."""
    found = draw(records)
    form = draw(mostly("array", "blanks", "lines", "one", "broken", "size"))
    if form == "blanks":
        return json.dumps(found, indent=1, ensure_ascii=False).encode()
    if form == "lines":
        return b"\n".join(json.dumps(record).encode() for record in found)
    if form == "one":
        return json.dumps(found[0] if found else None).encode()
    whole = json.dumps(found).encode()
    if form == "broken":
        return whole[: draw(st.integers(0, len(whole)))]
    if form == "size":
        return whole.ljust(draw(st.sampled_from(SIZES)))
    return whole


FORMS: Final = mostly("usual", "chunked", "long")
COMMON: Final = mostly(
    (),
    *(
        (header,)
        for header in (
            ("Connection", "keep-alive"),
            ("Accept", "*/*"),
            ("Connection", "close"),
            ("Expect", "100-continue"),
            ("X-Forwarded-For", "198.51.100.9"),
            ("X-Forwarded-For", "no address, 10.0.0.1"),
            ("X-Forwarded-Proto", "https"),
            ("Content-Encoding", "identity"),
            ("Content-Encoding", "gzip"),
            ("Upgrade", "h2c"),
        )
    ),
)
KEYS: Final = st.sampled_from(
    [("Idempotency-Key", key) for key in ("k", "k", "l", "a b", "", "x" * 64, "x" * 65)]
)
REPEATS: Final = st.lists(
    KEYS
    | st.sampled_from(
        [
            *[("Pullstatus-Reader", name) for name in ("r", "r", "s", "not a name")],
            *[("Pullstatus-Ack", ack) for ack in (LAST, LAST, f"{LAST}2", "1-1-1", "x")],
            *[("Pullstatus-Take", take) for take in ("0", "1")],
            *[("Pullstatus-Wait", wait) for wait in ("0", "2", "50", "51", "x")],
        ]
    ),
    max_size=3,
)
READS: Final = st.just((("Pullstatus-Reader", "r"), ("Pullstatus-Ack", LAST)))


def joined(*parts: Any) -> tuple[Head, ...]:  # noqa: ANN401
    return tuple(itertools.chain(*parts))


PULLS: Final = st.builds(
    pull,
    mostly(0, *range(len(APPS))),
    mostly(0, 1, 2),
    mostly(100, 0, 1, 2, 101),
    late_s=mostly(0, 599, 600, 601, -600, -601),
    nonce=mostly(None, 77),
    sig=mostly("good", "wrong", "none"),
    size=mostly(0, limits.PULL_BODY_BYTES_MAX, limits.PULL_BODY_BYTES_MAX + 1),
    headers=st.builds(joined, COMMON, either((3, st.just(())), (2, REPEATS), (1, READS))),
    form=FORMS,
)
ACTIONS: Final = st.builds(
    action,
    mostly(*["PullSmsSendStatus"] * 4, "PullSmsReplyStatus", *ALL_ACTIONS, "Pull", ""),
    mostly(0, *range(len(APPS))),
    mostly(100, 1, 2, "2", 0, 101, None),
    late_s=mostly(0, 299, 300, 301, -300, -301),
    secret_id=mostly(SECRET_ID, f"AKID{'0' * 32}", "x"),
    key=mostly(SECRET_KEY, "0" * 32),
    way=mostly("json", "v1", "form"),
    version=mostly("2021-01-11", "2019-07-11", "2017-03-12"),
    more=mostly(
        None,
        {"PhoneNumber": "+8613800000001", "BeginTime": NOW_MS // 1000 - 60, "Offset": 0},
        {"BeginTime": "2026010516", "EndTime": "2026010517", "Limit": 0, "Offset": 0},
    ),
    headers=st.builds(
        joined,
        COMMON,
        either((3, st.just(())), (2, REPEATS), (1, READS)),
        mostly((), (("X-TC-TraceId", "trace-1"),), (("X-TC-Token", "t"),)),
    ),
    form=FORMS,
)
BATCHES: Final = st.builds(
    batch,
    mostly(0, *range(len(APPS))),
    st.just("delivery-statuses"),
    bodies(RECORDS | MANY),
    token=mostly("own", *TOKENS),
    content_type=mostly("application/json", "application/json; charset=utf-8", "text/plain"),
    headers=st.builds(joined, COMMON, st.lists(KEYS, max_size=1)),
    form=FORMS,
)
OTHER_BATCHES: Final = st.builds(
    batch,
    mostly(0, 2),
    mostly("replies", "delivery-statuses", "statuses"),
    bodies(REPLIES) | st.just(TOO_MANY),
    token=mostly("any", "own", "short"),
    content_type=mostly("application/x-ndjson", "application/json"),
    headers=st.builds(joined, COMMON, st.lists(KEYS, max_size=1)),
)
GATEWAY: Final = [
    {
        "phone_number": f"138{number:08}",
        "success": number != 2,
        "err_code": "DELIVRD",
        "biz_id": f"b{number}",
        "report_time": "2026-01-05 16:00:00",
    }
    for number in range(4)
]
OF_GATEWAY: Final = bodies(st.lists(st.sampled_from([*GATEWAY, {**GATEWAY[0], "biz_id": 7}, {}])))
CALLBACKS: Final = st.builds(
    callback,
    bodies(RECORDS | MANY | REPLIES),
    path=mostly("/callbacks/{}", "/in/{}/tencent", "/in/{}/native", "/in/{}/none"),
    token=mostly("own", *TOKENS),
    query=mostly("", "?x=1"),
    headers=COMMON,
    form=FORMS,
) | st.builds(
    callback,
    OF_GATEWAY,
    path=st.just("/in/{}/aliyun"),
    token=mostly("own", *TOKENS),
    query=mostly("", "?x=1"),
    headers=COMMON,
    form=FORMS,
)
REST: Final = st.sampled_from(
    [
        other(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"),
        other(b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n"),
        other(b"POST /v5/tlssmssvr/else HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}"),
        other(b"POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}"),
        other(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"),
        other(b"\r\n"),
    ]
)
REQUESTS: Final = either(
    (6, PULLS),
    (4, ACTIONS),
    (4, BATCHES),
    (4, CALLBACKS),
    (1, OTHER_BATCHES),
    (3, st.integers(1, 4).map(again)),
    (1, REST),
)
USUAL: Final = st.sampled_from(
    [
        pull(),
        pull(count_max=1),
        pull(headers=(("Idempotency-Key", "k"),)),
        pull(headers=(("Pullstatus-Reader", "r"), ("Pullstatus-Ack", LAST))),
        pull(headers=(("Pullstatus-Wait", "2"),)),
        pull(1),
        action(),
        action(limit=1, version="2019-07-11"),
        action(headers=(("Idempotency-Key", "k"),)),
        action(headers=(("Pullstatus-Reader", "r"), ("Pullstatus-Ack", LAST))),
        action(app=1),
        batch(body=json.dumps(STATUSES).encode()),
        batch(body=json.dumps(STATUSES).encode(), headers=(("Idempotency-Key", "k"),)),
        batch(1, body=json.dumps(STATUSES).encode(), token="any"),
        callback(json.dumps(STATUSES).encode()),
        callback(json.dumps(reply(1)).encode()),
        callback(json.dumps(STATUSES).encode(), path="/in/{}/tencent"),
        callback(json.dumps(GATEWAY).encode(), path="/in/{}/aliyun"),
    ]
)
PARTS: Final = st.sampled_from(
    [b"", b"\r\n", b" ", b"\0", b":", b"%41", b"\xff", b"?", b"x", b"0", b"Host: b\r\n", b'"', b","]
)
EDITS: Final = st.lists(
    st.tuples(st.integers(0, 256), st.integers(0, 3), PARTS), min_size=1, max_size=2
).map(tuple)
PLACES: Final = mostly(0, *range(len(ADDRESSES)))

SAYS: Final = st.builds(
    say,
    PLACES,
    mostly(1, 2, 3).flatmap(
        lambda count: st.lists(either((2, REQUESTS), (1, USUAL)), min_size=count, max_size=count)
    ),
    mostly((), *[(cut,) for cut in (8, 120, 250, 255)], (10, 128)),
    either((6, st.just(())), (1, EDITS)),
)
FAULTS: Final = (
    StoreUnavailable("not now"),
    StoreFull("no room"),
    StoreCorrupt("a page is not what was written"),
    OutcomeUnknown("the disk did not say"),
    SettingChanged("it is another"),
    KeyReused("it came with another body"),
    CallerGone("it has"),
    ZeroDivisionError("ours"),
)
OWNERS: Final = (None, PLAIN.sdkappid, ADDRESSES[0], ADDRESSES[-1])
MEMBERS: Final[tuple[dict[str, object], ...]] = (
    {"enabled": False},
    {"enabled": True},
    {"arrears": True},
    {"pull": False},
    {"strict": True},
    {"wait_s": 2},
    {"pull_rate_max": 1},
    {"allow": ("10.9.0.0/16",)},
    {"window_s": 10},
)


def fault(error: Exception, does: bool) -> Step:
    def step(side: Side) -> None:
        side.store.fault, side.store.does = error, does

    return step


def named(name: str, step: Callable[..., Step], *values: st.SearchStrategy[Any]) -> Any:  # noqa: ANN401
    return st.tuples(*values).map(lambda given: Told(name, step(*given), *given))


def method(name: str, *values: st.SearchStrategy[Any], **more: st.SearchStrategy[Any]) -> Any:  # noqa: ANN401
    """A step that calls a method of a side."""
    return st.tuples(st.tuples(*values), st.fixed_dictionaries(more)).map(
        lambda given: Told(name, lambda side: getattr(side, name)(*given[0], **given[1]), given)
    )


CHANGES: Final = st.one_of(
    st.tuples(st.sampled_from(APPS[:3]), st.sampled_from(MEMBERS), st.booleans()).map(
        lambda given: Told(
            "change",
            lambda side: side.change(given[0].sdkappid, look=given[2], **given[1]),
            *given,
        )
    ),
    method("exchange", st.just(PLAIN.sdkappid), look=st.booleans()),
    method("revoke", st.sampled_from(TOKENS), look=st.booleans()),
)
STEPS: Final = either(
    (40, SAYS),
    (3, method("wait", st.sampled_from([0.1, 1.0, 2.5, 5.5, 11.0, 61.0, 700.0, 90_000.0]))),
    (2, method("leave", PLACES, st.sampled_from(["half", "half, untold", "gone", "gone, untold"]))),
    (2, method("pause", PLACES)),
    (1, method("fill", st.sampled_from(OWNERS))),
    (3, method("shut")),
    (1, method("crowd")),
    (4, named("fault", fault, st.sampled_from(FAULTS), st.booleans())),
    (3, CHANGES),
    (1, method("drain")),
)
SEQUENCES: Final = st.lists(STEPS, min_size=1, max_size=12)


# The same ones each time; `make fuzz` plays others.
@settings(max_examples=150, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(steps=SEQUENCES)
@example([say(0, [callback(b"null")])])
def test_whatever_comes_is_said_done_and_counted_alike(steps: list[Step]) -> None:
    check(steps)


ARRAY: Final = json.dumps(STATUSES).encode()
KEYED: Final[tuple[Head, ...]] = (("Idempotency-Key", "k"),)


def test_usual_requests_are_answered_at_once_by_the_one_and_by_the_other_never() -> None:
    """Or this would compare a way with itself."""
    steps = [
        say(0, [pull()]),
        say(0, [batch(body=ARRAY)]),
        say(0, [pull(count_max=2)]),
        say(0, [callback(ARRAY)]),
        say(0, [callback(json.dumps(reply(1)).encode())]),
        say(0, [callback(ARRAY, path="/in/{}/tencent")]),
        say(0, [callback(json.dumps(GATEWAY).encode(), path="/in/{}/aliyun")]),  # who asks first
        say(0, [callback(json.dumps(GATEWAY[1:]).encode(), path="/in/{}/aliyun")]),
        say(0, [batch(1, body=ARRAY, token="any", headers=KEYED)]),
        say(0, [pull(1, headers=KEYED)]),
        say(0, [action(app=1, headers=KEYED)]),
        say(0, [action()]),
        say(0, [action(headers=KEYED, version="2019-07-11")]),
        say(0, [pull(headers=(("Pullstatus-Reader", "r"),))]),
        say(0, [pull(headers=(("Pullstatus-Reader", "r"), ("Pullstatus-Ack", LAST)))]),
    ]
    assert check(steps) == len(steps) - 1


@pytest.mark.parametrize("place", [0, 2], ids=["somebody", "a proxy"])
def test_usual_requests_that_are_passed_on_are_answered_at_once(place: int) -> None:
    """As from whom a proxy speaks for, if that is trusted: of one application it matters."""
    usual, listed = [], []
    for told in ("198.51.100.9", "192.0.2.7, 10.0.0.1", "no address, 10.0.0.1", "10.0.0.1"):
        passed = (("X-Forwarded-For", told), ("X-Forwarded-Proto", "https"))
        usual.append(say(place, [batch(body=ARRAY, headers=passed)]))
        usual.append(say(place, [pull(count_max=1, headers=passed)]))
        listed.append(say(place, [pull(4, headers=passed)]))
    assert len(usual) <= check([*usual, *listed]) < len([*usual, *listed])


FAULTY: Final[dict[str, tuple[str, object, list[Step]]]] = {
    "an empty page has another header": (
        "pullstatus.server.v5._EMPTY",
        {0: (b"content-type: application/json\r\n", b"{}")},
        [say(0, [batch(body=ARRAY)]), say(0, [pull()]), say(0, [pull()])],
    ),
    "a batch's key is not heard": (
        "pullstatus.server.ingest._words",
        lambda headers: _Words(dict(headers)[b"authorization"][7:].decode(), None),
        [say(0, [batch(body=ARRAY, headers=KEYED)])],
    ),
    "a query is not read": (
        "pullstatus.server.connection.read_whole",
        lambda data: None if (read := read_whole(data)) is None else read._replace(query=b""),
        [say(0, [pull()])],
    ),
    "whom a proxy speaks for is not asked": (
        "pullstatus.server.connection.read_whole",
        lambda data: None if (read := read_whole(data)) is None else read._replace(forwarded=False),
        [say(2, [pull(4, headers=(("X-Forwarded-For", "198.51.100.9"),))])],
    ),
    "a call of API 3.0 has another header": (
        "pullstatus.server.api3._NOTHING_WAITS",
        b"pullstatus-waiting: 1\r\n",
        [say(0, [action()]), say(0, [action()])],
    ),
    "a call of API 3.0 is not counted": (
        "pullstatus.server.api3.ActionCall._worked",
        lambda _call, _begun: None,
        [say(0, [action()])],
    ),
    "a page is not counted": (
        "pullstatus.server.v5.PullCall._answered",
        lambda _call, _began_s: None,
        [say(0, [batch(body=ARRAY)]), say(0, [pull()])],
    ),
}


@pytest.mark.parametrize("name", FAULTY)
def test_a_quick_way_that_differs_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    target, value, steps = FAULTY[name]
    check(steps)
    monkeypatch.setattr(target, value)
    with pytest.raises(AssertionError):
        check(steps)
