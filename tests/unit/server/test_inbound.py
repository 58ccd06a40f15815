"""`/in/{token}/{source}`: who is let in, what is stored and parked, and what is answered."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

import msgspec
import pytest

from pullstatus import limits
from pullstatus.apps import LiveApplication, Token, token_digest
from pullstatus.apps.routing import Action, Rule, Rules
from pullstatus.apps.values import SignatureKey
from pullstatus.cli.recorded import parse
from pullstatus.cli.source import outcome
from pullstatus.errors import OutcomeUnknown, SettingChanged, StoreUnavailable
from pullstatus.mailbox import rereading
from pullstatus.mailbox.parking import Item
from pullstatus.receipts.source import builtin
from pullstatus.records import Kind
from pullstatus.server import inbound
from pullstatus.server.figures import ITEMS
from pullstatus.server.inbound import InboundDoor
from pullstatus.store import Append, Aside, Gone, Noted, Park, PutAside
from tests.harness import Answer, reply, status
from tests.unit.server.asgi import APP, SECRET, TOKEN, Served
from tests.unit.server.test_routes import problem, run

NOW_S: Final = 1_767_571_200
NATIVE: Final = f"/in/{SECRET}/native"
KANNEL: Final = f"/in/{SECRET}/kannel"
PLATFORM: Final = "pst_platform"
OK: Final = b'{"result":0,"errmsg":"OK"}'
FORM: Final = ("Content-Type", "application/x-www-form-urlencoded")
AWAY: Final = StoreUnavailable("held by another process")


def served() -> Served:
    """A server with a token of an application and one of a platform's."""
    made = Served(now_ms=lambda: NOW_S * 1000)
    platform = Token("platform", token_digest(PLATFORM), 0, None)
    made.registry.tokens[platform.digest] = platform
    return made


def item(**members: object) -> dict[str, object]:
    return {
        "mobile": "13800000001",
        "nationcode": "86",
        "report_status": "SUCCESS",
        "errmsg": "DELIVRD",
        "user_receive_time": "2026-01-05 08:00:00",
        "sid": "8:1",
        **members,
    }


def stored(made: Served) -> list[dict[str, Any]]:
    """The records that went to the store, in order."""
    appends: list[Append] = [*made.store.appended, *(each.records for each in made.store.parked)]
    return [json.loads(entry) for each in appends for entry in each.entries]


def parked(made: Served) -> list[Item]:
    entries = [entry for park in made.store.parked for entry in park.entries]
    return [msgspec.json.decode(entry, type=Item) for entry in entries]


def counted(made: Served, source: str) -> dict[str, float]:
    """The figures of a source that are not 0."""
    figures = asyncio.run(made.figures())
    found = {
        result: figures[f'pullstatus_source_items_total{{result="{result}",source="{source}"}}']
        for result in ITEMS
    }
    return {result: count for result, count in found.items() if count}


def good(answer: Answer | None, body: bytes) -> None:
    assert answer is not None
    assert (answer.http_status, answer.content) == (200, body)


# --- who is let in --------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "HEAD"])
@pytest.mark.parametrize("path", ["", "x", "x/", "x/kannel", "x/nobody", "x/kannel/more", "/"])
def test_unknown_token_is_401_wherever_it_knocks(method: str, path: str) -> None:
    """A sender takes 404 for the end of it."""
    made = served()
    answer, _ = run(made.ask(method, f"/in/{path}"))
    assert answer is not None
    assert answer.http_status == 401
    assert not made.store.appended
    assert not made.store.parked


async def nothing(*_: object, patiently: bool = False) -> None:
    """A look at a store in which nothing is new."""


def test_token_whose_application_is_gone_is_no_404() -> None:
    made = served()
    made.registry.applications.clear()
    vars(made.registry).update(look=nothing)
    answer, _ = run(made.post(NATIVE, [item()]))
    problem(answer, 403)


@pytest.mark.parametrize("path", [NATIVE, KANNEL, f"/callbacks/{SECRET}"])
def test_token_that_ends_while_its_body_comes_gets_nothing_in(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_ms = NOW_S * 1000
    made = Served(now_ms=lambda: now_ms)
    made.registry.tokens[TOKEN.digest] = msgspec.structs.replace(TOKEN, not_after_ms=now_ms + 1000)
    vars(made.registry).update(look=nothing)
    read = InboundDoor._body

    async def slowly(*asked: Any, **how: Any) -> bytes:  # noqa: ANN401 - as they are
        nonlocal now_ms
        body = await read(*asked, **how)
        now_ms += 2000
        return body

    monkeypatch.setattr(InboundDoor, "_body", slowly)
    answer, _ = run(made.post(path, [item()]))
    problem(answer, 401)
    assert not made.store.appended
    assert not made.store.parked


@pytest.mark.parametrize("becomes", ["the same", "another key", "the key"])
def test_what_is_signed_wrongly_is_proven_again_only_where_the_token_is_another(
    becomes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proof holds up everybody else, and who knows no key can have one made."""
    made = served()
    keys = {"the same": "wrong", "another key": "wrong too", "the key": "key"}
    signed = msgspec.structs.replace(TOKEN, signature=SignatureKey("1", "wrong"))
    made.registry.tokens[TOKEN.digest] = signed
    proofs: list[str] = []

    async def look(*_: object, patiently: bool = False) -> None:
        signature = SignatureKey("1", keys[becomes])
        made.registry.tokens[TOKEN.digest] = msgspec.structs.replace(TOKEN, signature=signature)

    def signature_key(token: Token) -> str | None:
        return None if token.signature is None else token.signature.key

    def unproven(*asked: Any) -> str | None:  # noqa: ANN401 - as they are
        proofs.append(asked[3])
        return None if asked[3] == "key" else "not with this key"

    vars(made.registry).update(look=look, signature_key=signature_key)
    monkeypatch.setattr(inbound, "unproven", unproven)
    answer, _ = run(made.post(f"/in/{SECRET}/sinch", {}))
    assert proofs == list(dict.fromkeys(["wrong", keys[becomes]]))
    if becomes == "the key":
        assert answer is not None
        assert answer.http_status == 200
    else:
        assert problem(answer, 401)["detail"] == "not with this key"


def test_method_that_no_sender_uses_is_told_which_there_are() -> None:
    answer, _ = run(served().ask("PUT", NATIVE))
    assert problem(answer, 405)["detail"] == "send a POST or a GET"
    assert answer is not None
    assert answer.header("allow") == "POST, GET"


# --- what is stored -------------------------------------------------------------------------------


def test_records_are_stored_and_answered_in_the_words_of_their_source() -> None:
    made = served()
    answer, _ = run(made.post(NATIVE, [item(), {**item(), "mobile": "13800000002"}]))
    good(answer, OK)
    assert [each["mobile"] for each in stored(made)] == ["13800000001", "13800000002"]
    assert stored(made)[0] == item(description="")
    [append] = made.store.appended
    assert append.fingerprints is not None
    assert append.while_set is not None
    assert len(set(append.fingerprints.items)) == 2
    assert counted(made, "native") == {"stored": 2}


def test_what_came_before_is_counted_as_a_repeat() -> None:
    """Of records, and of what is parked beside them; a repeat is in no other figure."""
    made = served()
    made.store.append_answer = 1
    good(run(made.post(NATIVE, [item(), item(mobile="13800000002")]))[0], OK)
    assert counted(made, "native") == {"stored": 1, "repeat": 1}
    made.store.park_answer = PutAside(0, 1, 0)
    good(run(made.post(NATIVE, [item(), {"sid": "odd"}, {"sid": "odd"}]))[0], OK)
    assert counted(made, "native") == {"stored": 2, "parked": 1, "repeat": 2}


def test_reply_of_bytes_in_a_charset_is_read_as_it_was_sent() -> None:
    """As Kannel sends it: bytes of UTF-16 in a query."""
    made = served()
    query = "from=%2B8613800000001&to=1069&text=V%DEY%0D&charset=UTF-16BE&time=1767571100&id=7"
    answer, _ = run(made.ask("GET", f"{KANNEL}?{query}"))
    good(answer, b"")
    [reply] = stored(made)
    assert (reply["text"], reply["mobile"], reply["time"]) == ("回复", "13800000001", 1767571100)


@pytest.mark.parametrize("path", [f"/callbacks/{SECRET}", f"/in/{SECRET}/tencent"])
@pytest.mark.parametrize(
    ("charset", "coding", "text"),
    [
        ("", "utf-8", "收到"),
        ("; charset=UTF-8", "utf-8", "收到"),
        ("; charset=nobody-knows", "utf-8", "收到"),
        ("; charset=gbk", "gbk", "收到"),
        ("; charset=gbk", "utf-8", "鏀跺埌"),  # what it says counts
    ],
)
def test_body_is_decoded_by_the_charset_that_its_content_type_names(
    path: str, charset: str, coding: str, text: str
) -> None:
    made = served()
    said = json.dumps(reply(1, text="收到"), ensure_ascii=False).encode(coding)
    answer, _ = run(made.post(path, said, ("Content-Type", f"application/json{charset}")))
    good(answer, OK)
    assert [record["text"] for record in stored(made)] == [text]
    assert not parked(made)


def test_receipt_by_query_and_by_form_is_one() -> None:
    """And a repeat is known by what it says, whenever it comes."""
    said = "dlr=1&from=%2B8613800000001&id=7&sid=8:1&time=1767571100"
    ways: list[Any] = []
    for method, target, body in (("GET", f"{KANNEL}?{said}", ""), ("POST", KANNEL, said)):
        made = served()
        answer, _ = run(made.ask(method, target, body.encode(), [FORM]))
        good(answer, b"")
        [append] = made.store.appended
        ways.append((append.entries, append.fingerprints))
    assert ways[0] == ways[1]


def test_intermediate_state_is_acknowledged_and_counted() -> None:
    made = served()
    answer, _ = run(made.ask("GET", f"{KANNEL}?dlr=8&from=8613800000001&id=7"))
    good(answer, b"")
    assert (made.store.appended, made.store.parked) == ([], [])
    assert counted(made, "kannel") == {"intermediate": 1}


@pytest.mark.parametrize(
    ("body", "members"),
    [
        ([item(mobile=13800000001, errmsg=7)], {"mobile": "13800000001", "errmsg": "7"}),
        ([item(sid=2**63 + 1)], {"sid": "9223372036854775809"}),
        (b'[{"mobile":1,"report_status":"FAIL","sid":%s}]' % (b"7" * 40), {"sid": "7" * 40}),
        ([item(user_receive_time=None)], {"user_receive_time": "2026-01-05 08:00:00"}),
        ([item(user_receive_time="0000-00-00 00:00:00")], {}),
        (json.dumps([item(errmsg="\u4f60")]).encode("utf-16"), {"errmsg": "\u4f60"}),
        (b"\xef\xbb\xbf" + json.dumps(item()).encode(), {"sid": "8:1"}),
    ],
)
def test_what_is_odd_is_a_record(body: object, members: dict[str, str]) -> None:
    made = served()
    answer, _ = run(made.post(NATIVE, body))
    good(answer, OK)
    [record] = stored(made)
    assert record.items() >= members.items()
    assert not made.store.parked


@pytest.mark.parametrize("body", [b"", b"[]", b" \r\n"])
def test_nothing_is_acknowledged(body: bytes) -> None:
    made = served()
    answer, _ = run(made.post(NATIVE, body))
    good(answer, OK)
    assert (made.store.appended, made.store.parked) == ([], [])


def test_ten_thousand_items_are_stored() -> None:
    made = served()
    body = b"[%b]" % b",".join(
        b'{"mobile":"1380%07d","report_status":"FAIL","sid":"%d"}' % (number, number)
        for number in range(10_000)
    )
    answer, _ = run(made.post(NATIVE, body))
    good(answer, OK)
    assert len(stored(made)) == 10_000


# --- what is parked -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "member"),
    [
        (json.dumps([item()]).encode()[:-9], None),
        (b"sms_status=%5B%5D", None),
        (b'{"a":' * 9000, None),
        (b"\xff\xfe\xfd", None),
        ([item(report_status="MAYBE")], "report_status"),
        ([item(sid="", id="")], "id"),
        ([item(mobile="13800000001x")], "mobile"),
        (["text"], None),
    ],
)
def test_what_cannot_be_read_is_parked_and_acknowledged(body: object, member: str | None) -> None:
    made = served()
    answer, logged = run(made.post(NATIVE, body))
    good(answer, OK)
    assert stored(made) == []
    [kept] = parked(made)
    assert (kept.format, kept.token, kept.address) == ("native", "gateway", "192.0.2.7")
    assert (kept.member, kept.at_ms) == (member, NOW_S * 1000)
    assert kept.raw
    assert "13800000001" not in str(logged) + kept.reason
    assert counted(made, "native") == {"parked": 1}


def test_items_beside_one_that_cannot_be_read_are_stored() -> None:
    made = served()
    answer, _ = run(made.post(NATIVE, [item(), item(report_status=""), item(sid="8:2")]))
    good(answer, OK)
    assert [record["sid"] for record in stored(made)] == ["8:1", "8:2"]
    assert [(kept.index, kept.member) for kept in parked(made)] == [(1, None)]


def test_request_that_is_an_item_itself_is_parked_with_all_that_a_retry_needs() -> None:
    made = served()
    query = "dlr=99&from=8613800000001&id=7"
    answer, _ = run(made.ask("GET", f"{KANNEL}?{query}"))
    good(answer, b"")
    [kept] = parked(made)
    assert (kept.method, kept.query, kept.member) == ("GET", query.encode(), "dlr")


STATUSES: Final = json.dumps([item(), item(sid="8:2", report_status="odd")])
REPLY: Final = '{"mobile":"13800000001","nationcode":"86","text":"a","time":1767571200}'
PART: Final = "text=a&from=%2B8613800000001&to=1069&id=1&udh=%05%00%03%2A%03%01"


@pytest.mark.parametrize(
    ("source", "asked"),
    [
        ("native", f"POST native HTTP/1.1\n\n{STATUSES}"),
        ("native", f"POST native?a=b HTTP/1.1\n\n{REPLY}"),
        ("native", f"POST native HTTP/1.1\nContent-Encoding: gzip\n\n{STATUSES}"),
        ("native", f"POST native HTTP/1.1\nContent-Encoding: identity\n\n{STATUSES}"),
        ("native", "GET native?a=b HTTP/1.1\n\n"),
        ("native", "POST native HTTP/1.1\n\n{"),
        ("tencent", f"POST tencent HTTP/1.1\n\n{STATUSES}"),
        ("tencent", f"POST tencent HTTP/1.1\n\n{REPLY}"),
        ("tencent", f"POST tencent HTTP/1.1\nContent-Encoding: gzip\n\n{STATUSES}"),
        ("tencent", "GET tencent?a=b HTTP/1.1\n\n"),
        ("kannel", "GET kannel?dlr=1&from=%2B8613800000001&id=7 HTTP/1.1\n\n"),
        ("kannel", "GET kannel?dlr=8&from=%2B8613800000001&id=7 HTTP/1.1\n\n"),
        ("kannel", f"GET kannel?{PART} HTTP/1.1\n\n"),
        ("kannel", f"POST kannel HTTP/1.1\nContent-Type: {FORM[1]}\n\ndlr=99&from=861&id=7"),
    ],
)
def test_what_a_check_says_of_a_request_is_what_comes_of_it(source: str, asked: str) -> None:
    head, _, body = asked.partition("\n\n")
    line, *fields = head.split("\n")
    method, target, _ = line.split(" ")
    headers = [(name, value) for name, _, value in (field.partition(": ") for field in fields)]
    told = json.loads(msgspec.json.encode(outcome(builtin()[source], parse(asked.encode(), NOW_S))))
    made = served()
    answer, _ = run(made.ask(method, f"/in/{SECRET}/{target}", body.encode(), headers))
    records = [record for some in told["stored"].values() for record in some]
    counts = {
        "stored": len(records) - told["parts"],
        "pending": told["parts"],
        "parked": len(told["parked"]),
        "intermediate": told["intermediate"],
    }
    assert counted(made, source) == {result: count for result, count in counts.items() if count}
    assert told["parts"] or stored(made) == records
    good(answer, told["answer"]["body"].encode())
    if not told["parts"]:
        parked_as = [(kept.index, kept.member, kept.reason) for kept in parked(made)]
        assert parked_as == [(*each.values(),) for each in told["parked"]]


def test_encoded_body_is_parked() -> None:
    made = served()
    answer, _ = run(made.post(NATIVE, [item()], ("Content-Encoding", "gzip")))
    good(answer, OK)
    assert [kept.reason for kept in parked(made)] == ["must come without Content-Encoding"]


def test_encoded_statuses_that_are_usual_otherwise_are_parked_too() -> None:
    made = served()
    usual = {"phone_number": "13800000001", "success": True, "biz_id": "7", "err_code": "DELIVRD"}
    path = f"/in/{SECRET}/aliyun"
    run(made.post(path, [usual], ("Content-Encoding", "gzip")))
    assert [kept.reason for kept in parked(made)] == ["must come without Content-Encoding"]
    run(made.post(path, [usual]))
    assert [record["sid"] for record in stored(made)] == ["7"]


def test_source_that_is_not_known_is_parked_by_the_name_it_came_under() -> None:
    made = served()
    answer, _ = run(made.post(f"/in/{SECRET}/acme", b"what it says"))
    assert answer is not None
    assert answer.http_status == 200
    [kept] = parked(made)
    assert (kept.format, kept.raw) == ("acme", b"what it says")
    assert counted(made, "other") == {"parked": 1}


# --- a request that would need too much room ------------------------------------------------------

ODD: Final = item(report_status="odd")


def long_query(source: str = "native", secret: str = SECRET) -> str:
    return f"/in/{secret}/{source}?a={'x' * 16_000}"


def parts_of(kept: list[Item]) -> list[object]:
    """What these parked items say together."""
    return [part for each in kept for part in json.loads(b"[%b]" % each.raw)]


def room_of(made: Served) -> int:
    return sum(len(entry) for park in made.store.parked for entry in park.entries)


@pytest.mark.parametrize("path", [long_query(), long_query("tencent"), long_query(secret=PLATFORM)])
@pytest.mark.parametrize("count", [limits.CALLBACK_PARTS_MAX, limits.CALLBACK_PARTS_MAX + 1])
def test_parts_without_end_are_parked_in_few_items(path: str, count: int) -> None:
    """Each has the whole query beside it."""
    made = served()
    headers = [("Content-Type", f"application/json;{'y' * 14_000}")]
    answer, _ = run(made.post(path, b"[%b1]" % (b"1," * (count - 1)), *headers))
    assert answer is not None
    assert answer.http_status == 200
    assert 0 < room_of(made) < 2 * limits.SPREAD_BYTES_MAX
    if count <= limits.CALLBACK_PARTS_MAX:
        assert parts_of(parked(made)) == [1] * count
        assert all(each.index is not None for each in parked(made))


def test_what_is_parked_in_few_items_reads_again_as_its_parts_would() -> None:
    """Beside what cannot be read at all, statuses of nobody and replies of nobody."""
    made = served()
    reply = {"mobile": "13800000001", "text": "TD", "to": "1069"}
    told = [
        each
        for number in range(700)
        for each in (item(sid=f"8:{number}"), ODD, {**reply, "id": f"r{number}"}, number)
    ]
    good(run(made.post(long_query(secret=PLATFORM), told))[0], OK)
    kept = parked(made)
    assert room_of(made) < 2 * limits.SPREAD_BYTES_MAX
    assert len(kept) < 10
    assert counted(made, "native") == {"parked": len(kept)}
    assert sorted(map(str, parts_of(kept))) == sorted(map(str, told))
    again = [rereading._reports(builtin()["native"], each) for each in kept]
    found = [report for reports in again for report in reports.reports]
    assert sorted(report.sid or report.id for report in found) == sorted(
        [f"8:{number}" for number in range(700)] + [f"r{number}" for number in range(700)]
    )
    assert sum(len(reports.unread) for reports in again) == 2 * 700
    for each, reports in zip(kept, again, strict=True):
        assert {report.kind for report in reports.reports} <= {each.kind}


def test_a_request_of_a_few_parts_is_parked_apart() -> None:
    made = served()
    good(run(made.post(long_query(), [ODD] * 150))[0], OK)
    assert [each.index for each in parked(made)] == [*range(150)]


def test_no_more_wait_for_their_names_than_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The others leave at once, as they are."""
    made = served()

    async def registering(_: str) -> dict[str, Noted]:
        return dict.fromkeys(("names/any", f"names/{APP.sdkappid}"), Noted(NOW_S * 1000))

    monkeypatch.setitem(vars(made.store), "marks", registering)
    monkeypatch.setitem(vars(made.registry), "look", nothing)
    told = [item(id=f"g{number}", sid="") for number in range(1000)]
    good(run(made.post(f"{NATIVE}?a={'x' * 4000}", told))[0], OK)
    waiting = sum(len(park.entries) for park in made.store.parked)
    assert 300 < waiting < 500
    assert room_of(made) < 2 * limits.SPREAD_BYTES_MAX
    assert counted(made, "native") == {"pending": waiting, "stored": 1000 - waiting}


# --- a platform's token ---------------------------------------------------------------------------


def test_what_is_nobodys_is_parked_under_the_number_0() -> None:
    made = served()
    answer, _ = run(made.post(f"/in/{PLATFORM}/native", [item(), item(report_status="SOON")]))
    good(answer, OK)
    assert stored(made) == []
    assert {park.mailbox.sdkappid for park in made.store.parked} == {0}
    assert sorted(kept.index or 0 for kept in parked(made)) == [0, 1]


def test_rule_says_whose_it_is() -> None:
    made = served()
    rule = Rule(name="all", sdkappid=APP.sdkappid, source="native", sign="x")
    made.registry.rules = Rules([rule])
    reply = {"mobile": "13800000001", "text": "TD", "to": "1069"}
    answer, _ = run(made.post(f"/in/{PLATFORM}/native", [item(), reply]))
    good(answer, OK)
    status, told = sorted(stored(made), key=lambda record: "text" in record)
    assert status["sid"] == "8:1"
    assert (told["text"], told["sign"]) == ("TD", "x")
    assert {each.mailbox.sdkappid for each in made.store.appended} == {APP.sdkappid}
    assert {each.mailbox.kind for each in made.store.appended} == set(Kind)
    assert not made.store.parked


@pytest.mark.parametrize(
    ("rule", "became"),
    [
        (Rule(name="a", sdkappid=APP.sdkappid, id_prefix="g"), "stored"),
        (Rule(name="a", action=Action.PARK, id_prefix="g"), "parked"),
        (Rule(name="a", action=Action.DROP, id_prefix="g"), "dropped"),
        (Rule(name="a", action=Action.DROP, id_prefix="other"), "pending"),
    ],
)
def test_rule_decides_as_a_receipt_comes_and_what_none_matches_waits_for_its_name(
    monkeypatch: pytest.MonkeyPatch, rule: Rule, became: str
) -> None:
    """Where sends are registered, and none by the application that the rule names."""
    made = served()
    made.registry.rules = Rules([rule])

    async def registering(_: str) -> dict[str, Noted]:
        return {"names/any": Noted(NOW_S * 1000)}

    monkeypatch.setitem(vars(made.store), "marks", registering)
    monkeypatch.setitem(vars(made.registry), "look", nothing)
    answer, _ = run(made.post(f"/in/{PLATFORM}/native", [item(id="g1", sid="")]))
    good(answer, OK)
    assert counted(made, "native") == {became: 1}


def test_intermediate_state_that_a_rule_drops_is_counted_once() -> None:
    made = served()
    made.registry.rules = Rules([Rule(name="none", action=Action.DROP, source="kannel")])
    for state in (8, 1):
        answer, _ = run(made.ask("GET", f"/in/{PLATFORM}/kannel?dlr={state}&from=861&id=7"))
        good(answer, b"")
    assert counted(made, "kannel") == {"intermediate": 1, "dropped": 1}


def test_a_platform_that_has_its_part_in_hand_leaves_that_of_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While one is told to wait, what the other sends is taken."""
    monkeypatch.setattr(limits, "IN_HAND_BYTES_MAX", limits.REQUEST_BYTES * limits.SHARE_OF_ONE)
    made = served()
    other = Token("other", token_digest("pst_other"), 0, None)
    made.registry.tokens[other.digest] = other
    park = made.store.park
    flood = f"/in/{PLATFORM}/native"

    async def ask() -> list[Answer | None]:
        goes_on, came = asyncio.Event(), asyncio.Semaphore(0)

        async def slow(operation: Park, gone: Gone | None) -> PutAside:
            came.release()
            await goes_on.wait()
            return await park(operation, gone)

        monkeypatch.setattr(made.store, "park", slow)
        held = [asyncio.create_task(made.post(flood, [item()])) for _ in range(2)]
        for _ in held:
            await came.acquire()
        refused = await made.post(flood, [item()])
        held.append(asyncio.create_task(made.post("/in/pst_other/native", [item()])))
        await asyncio.wait(
            [held[-1], asyncio.create_task(came.acquire())], return_when="FIRST_COMPLETED"
        )
        goes_on.set()
        return [refused, *[await each for each in held]]

    answers, _ = run(ask())
    assert [each and each.http_status for each in answers] == [503, 200, 200, 200]


# --- a store that is away -------------------------------------------------------------------------


@pytest.mark.parametrize("body", [[item()], [item(report_status="SOON")]])
def test_store_that_is_away_is_503_and_nothing_else(body: object) -> None:
    made = served()
    made.store.append_answer = made.store.park_answer = AWAY
    answer, _ = run(made.post(NATIVE, body))
    problem(answer, 503)
    assert answer is not None
    assert answer.header("retry-after") == str(limits.RETRY_AFTER_S)


def test_names_that_cannot_be_asked_for_are_503(monkeypatch: pytest.MonkeyPatch) -> None:
    made = served()

    async def away(*_: object) -> list[object]:
        raise AWAY

    async def registering(_: str) -> dict[str, Noted]:
        return {"names/any": Noted(NOW_S * 1000)}

    monkeypatch.setitem(vars(made.store), "marks", registering)
    monkeypatch.setitem(vars(made.store), "named", away)
    answer, _ = run(made.post(f"/in/{PLATFORM}/native", [item(id="7")]))
    problem(answer, 503)
    assert stored(made) == []
    assert not made.store.parked


@pytest.mark.parametrize("path", [NATIVE, f"/in/{PLATFORM}/native"], ids=["own", "platform"])
def test_names_of_what_waits_are_asked_for_once(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """And anew for the next callback."""
    made = served()
    asked: list[int] = []

    async def named(slots: list[int], _sdkappid: int | None = None) -> list[object]:
        asked.append(len(slots))
        return []

    async def registering(_: str) -> dict[str, Noted]:
        return dict.fromkeys(("names/any", f"names/{APP.sdkappid}"), Noted(NOW_S * 1000))

    monkeypatch.setitem(vars(made.store), "marks", registering)
    monkeypatch.setitem(vars(made.store), "named", named)
    monkeypatch.setitem(vars(made.registry), "look", nothing)
    for _ in range(2):
        good(run(made.post(path, [item(id="g1", sid=""), item(id="g2", sid="")]))[0], OK)
    assert asked == [2, 2]
    assert [park.mailbox.kind for park in made.store.parked] == [Aside.PENDING] * 2


@pytest.mark.parametrize("path", [NATIVE, f"/callbacks/{SECRET}"])
@pytest.mark.parametrize("owner", ["other", None], ids=["another owner's", "deleted"])
def test_application_that_is_lost_meanwhile_is_no_404(owner: str | None, path: str) -> None:
    """What came for it comes again, and is whose it is then."""
    made = served()
    made.store.append_answer = SettingChanged("application")
    live = made.registry.applications[APP.sdkappid]

    async def look(*_: object, patiently: bool = False) -> None:
        made.registry.applications.pop(APP.sdkappid, None)
        if owner is not None:
            other = msgspec.structs.replace(live.application, owner=owner)
            made.registry.applications[APP.sdkappid] = LiveApplication(other, 9)

    vars(made.registry).update(look=look)
    answer, _ = run(made.post(path, [item()]))
    problem(answer, 503)
    if owner is None:
        answer, _ = run(made.post(path, [item()]))
        problem(answer, 403)


def test_deleted_application_costs_another_one_nothing_of_the_same_push(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The repeat stores what is the other's, and parks what is nobody's by now."""
    made = served()
    known = made.registry.applications
    other = msgspec.structs.replace(known[APP.sdkappid].application, sdkappid=1400007777)
    known[other.sdkappid] = LiveApplication(other, 1)
    made.registry.rules = Rules(
        [
            Rule(name="a", sdkappid=APP.sdkappid, to_prefix="1"),
            Rule(name="b", sdkappid=other.sdkappid, to_prefix="2"),
        ]
    )
    append, deleted = made.store.append, False

    async def changed(operation: Append, gone: Gone | None = None) -> int:
        nonlocal deleted
        if operation.mailbox.sdkappid != APP.sdkappid:
            return await append(operation, gone)
        deleted = True
        raise SettingChanged("application")

    async def look(*_: object, patiently: bool = False) -> None:
        if deleted:
            known.pop(APP.sdkappid, None)

    monkeypatch.setattr(made.store, "append", changed)
    vars(made.registry).update(look=look)
    push = [
        {"mobile": "13800000001", "text": "a", "time": NOW_S, "to": to, "id": to}
        for to in ("1069", "2069")
    ]
    answer, _ = run(made.post(f"/in/{PLATFORM}/native", push))
    problem(answer, 503)
    answer, _ = run(made.post(f"/in/{PLATFORM}/native", push))
    good(answer, OK)
    assert [each.mailbox.sdkappid for each in made.store.appended] == [other.sdkappid]
    assert [kept.index for kept in parked(made)] == [0]


def test_what_came_as_a_number_changed_hands_is_nobodys_until_it_comes_again() -> None:
    """It may have begun before; the next request is the new owner's."""
    made = served()
    live = made.registry.applications[APP.sdkappid]

    async def look(*_: object, patiently: bool = False) -> None:
        other = msgspec.structs.replace(live.application, owner="other")
        made.registry.applications[APP.sdkappid] = LiveApplication(other, 9)
        made.store.append_answer = None

    vars(made.registry).update(look=look)
    path = f"/ingest/{APP.sdkappid}/delivery-statuses"
    said = ("Authorization", f"Bearer {PLATFORM}"), ("Content-Type", "application/json")
    made.store.append_answer = SettingChanged("application")
    answer, _ = run(made.post(path, [status(1)], *said))
    assert "send it again if it is for that one" in str(problem(answer, 404)["detail"])
    answer, _ = run(made.post(path, [status(1)], *said))
    good(answer, b'{"accepted":1}')
    assert [each.while_set for each in made.store.appended][1:] == [
        made.registry.applications[APP.sdkappid].while_set
    ]


def test_outcome_that_nobody_knows_is_not_answered() -> None:
    made = served()
    made.store.append_answer = OutcomeUnknown("the disk did not say")
    answer, _ = run(made.post(NATIVE, [item()]))
    assert answer is None
    assert made.hung_up


@pytest.mark.parametrize("ends", [1, AWAY], ids=["stored", "refused"])
def test_store_that_does_not_answer_is_put_off_in_time(
    monkeypatch: pytest.MonkeyPatch, ends: int | Exception
) -> None:
    made = served()
    monkeypatch.setattr(limits, "CALLBACK_ANSWER_S", 0.01)

    async def late(_operation: object, _gone: object) -> int:
        await made.until_answered()
        if isinstance(ends, Exception):
            raise ends
        return ends

    monkeypatch.setattr(made.store, "append", late)
    answer, logged = run(made.post(NATIVE, [item()]))
    problem(answer, 503)
    assert not made.hung_up
    events = [line["event"] for line in logged]
    assert events == ["batch put off", "batch stored late" if ends == 1 else "batch put off"]
