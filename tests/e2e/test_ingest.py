"""The two ways in: `/ingest/{sdkappid}/...` and `/callbacks/{token}`, on a running server."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from pullstatus import limits
from pullstatus.records import Kind
from tests.harness import (
    REPLY,
    STATUS,
    Answer,
    App,
    Program,
    Record,
    chunked,
    http_request,
    replies,
    reply,
    status,
    statuses,
)

NDJSON = "application/x-ndjson"
DOORS = pytest.mark.parametrize(
    ("kind", "records"), [(STATUS, statuses(7)), (REPLY, replies(7))], ids=["statuses", "replies"]
)


def lines(records: list[Record], end: str = "\n") -> bytes:
    return "".join(json.dumps(record) + end for record in records).encode()


def problem(answer: Answer, http_status: int) -> dict[str, object]:
    """The problem that an answer tells, checked for its form."""
    assert answer.http_status == http_status, answer
    assert answer.header("content-type") == "application/problem+json"
    assert answer.header("content-length") == str(len(answer.content))
    told = answer.json
    assert told["status"] == http_status
    assert isinstance(told["title"], str)
    assert isinstance(told["detail"], str)
    return told


pytestmark = pytest.mark.usefixtures("each_way")

# --- batches --------------------------------------------------------------------------------------


@DOORS
def test_batch_as_an_array(shared: Program, app: App, kind: Kind, records: list[Record]) -> None:
    answer = shared.ingest(app, kind, records)
    assert (answer.http_status, answer.content) == (200, b'{"accepted":7}')
    assert answer.header("content-type") == "application/json"
    assert shared.pull(app, kind).data == records


@DOORS
def test_batch_as_ndjson(shared: Program, app: App, kind: Kind, records: list[Record]) -> None:
    body = b"\n \r\n" + lines(records[:4], "\r\n") + lines(records[4:]).rstrip(b"\n")
    assert shared.ingest(app, kind, body, Content_Type=NDJSON).json == {"accepted": 7}
    assert shared.pull(app, kind).data == records


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json; charset=utf-8",
        "APPLICATION/JSON",
        "application/ndjson",
        "application/jsonl",
        "application/x-ndjson;charset=utf-8",
    ],
)
def test_batch_content_types(shared: Program, app: App, content_type: str) -> None:
    body = lines(statuses(2)) if "l" in content_type else statuses(2)
    body = statuses(2) if "/json;" in content_type or content_type.isupper() else body
    answer = shared.ingest(app, STATUS, body, Content_Type=content_type)
    assert answer.json == {"accepted": 2}


def test_batch_may_be_chunked_and_expect_100_continue(shared: Program, app: App) -> None:
    headers = [
        f"Authorization: bearer {shared.token}",
        "Content-Type: application/json",
        "Transfer-Encoding: chunked",
        "Expect: 100-continue",
    ]
    target = f"/ingest/{app.sdkappid}/delivery-statuses"
    with shared.connect() as wire:
        wire.send(http_request("POST", target, headers=headers, sized=False))
        assert wire.read().http_status == 100
        wire.send(chunked(json.dumps(statuses(9)).encode(), 50))
        assert wire.read().json == {"accepted": 9}
    assert shared.pull(app).data == statuses(9)


def test_batch_keeps_unknown_members_exactly(shared: Program, app: App) -> None:
    """They come after the known ones, in their order, numbers by their text."""
    body = (
        b'[{"extra":"\xc3\xa9","big":123456789012345678901234567890,"sid":"8:1","mobile":"1",'
        b'"nested":{"a":[1.50,null,true]},"nationcode":"86","report_status":"FAIL","errmsg":"",'
        b'"description":"","user_receive_time":"2026-01-02 03:04:05"}]'
    )
    assert shared.ingest(app, STATUS, body).json == {"accepted": 1}
    assert shared.pull(app).content.endswith(
        b'"sid":"8:1","extra":"\\u00E9","big":123456789012345678901234567890,'
        b'"nested":{"a":[1.50,null,true]}}]}'
    )


def test_batch_of_one_thousand_is_the_largest(shared: Program, app: App) -> None:
    assert shared.ingest(app, STATUS, statuses(1000)).json == {"accepted": 1000}
    told = problem(shared.ingest(app, STATUS, statuses(1001)), 413)
    assert "1000 records" in str(told["detail"])
    ndjson = lines(statuses(1001))
    problem(shared.ingest(app, STATUS, ndjson, Content_Type=NDJSON), 413)
    assert shared.drain(app) == statuses(1000)


def test_batch_of_one_mebibyte_is_the_largest(shared: Program, app: App) -> None:
    fits = json.dumps(statuses(1)).encode().ljust(limits.INGEST_BODY_BYTES_MAX)
    assert shared.ingest(app, STATUS, fits).json == {"accepted": 1}
    problem(shared.ingest(app, STATUS, fits + b" "), 413)
    headers = [f"Authorization: Bearer {shared.token}", "Content-Type: application/json"]
    request = http_request(
        "POST",
        f"/ingest/{app.sdkappid}/delivery-statuses",
        chunked(fits + b" ", 65_536),
        [*headers, "Transfer-Encoding: chunked"],
        sized=False,
    )
    problem(shared.exchange(request), 413)
    assert shared.pull(app).data == statuses(1)


def test_batch_too_large_is_refused_before_it_is_sent(shared: Program, app: App) -> None:
    headers = [f"Authorization: Bearer {shared.token}", "Content-Type: application/json"]
    target = f"/ingest/{app.sdkappid}/delivery-statuses"
    head = http_request(
        "POST", target, headers=[*headers, f"Content-Length: {10**11}"], sized=False
    )
    problem(shared.exchange(head), 413)


# --- the whole batch or nothing -------------------------------------------------------------------

BAD_STATUSES: dict[str, list[object]] = {
    "sid": [None, "", 5, "x" * 65],
    "mobile": [None, "", "13a", "1" * 21, 138],
    "nationcode": ["", "+86", "1234567", 86],
    "report_status": ["success", "", None, True],
    "user_receive_time": ["2026-01-02T03:04:05", "2026-02-30 00:00:00", "", 1, "2026-01-02"],
    "errmsg": [None, 0],
    "description": [None, []],
    "ext": [1],
}
BAD_REPLIES: dict[str, list[object]] = {
    "time": ["1767000000", 1.5, -1, 1_767_000_000_000, True, None],
    "text": [None, 5, "x" * 20_000],
    "sign": [None],
    "extend": [7],
}


@pytest.mark.parametrize("ndjson", [False, True])
@pytest.mark.parametrize(
    ("kind", "member", "value"),
    [(STATUS, member, value) for member, values in BAD_STATUSES.items() for value in values]
    + [(REPLY, member, value) for member, values in BAD_REPLIES.items() for value in values],
)
def test_bad_record_refuses_its_batch_and_is_named(
    shared: Program, app: App, kind: Kind, member: str, value: object, ndjson: bool
) -> None:
    records = (replies if kind is REPLY else statuses)(9)
    for place in (6, 4, 8):  # the first one is named
        records[place][member] = value
    if ndjson:
        answer = shared.ingest(app, kind, lines(records), Content_Type=NDJSON)
    else:
        answer = shared.ingest(app, kind, records)
    told = problem(answer, 400)
    assert told["index"] == 4
    assert "record 4" in str(told["detail"])
    assert len(str(value)) < 4 or str(value) not in str(told["detail"])
    assert shared.pull(app, kind).data == []


def test_record_without_a_member_is_named(shared: Program, app: App) -> None:
    for member in status(1):
        bad = {name: value for name, value in status(1).items() if name != member}
        told = problem(shared.ingest(app, STATUS, [status(2), bad]), 400)
        assert told["index"] == 1
        assert member in str(told["detail"])
    assert shared.pull(app).data == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b"null",
        b"5",
        b"[1]",
        b"[",
        b'[{"sid":',
        b"\xef\xbb\xbf[]",
        b"[" * 5000,
        b'["\xff"]',
        json.dumps(statuses(2)).encode() + b"x",
        lines(statuses(2)),
        json.dumps([status(1), status(2, sid="\ud800")]).encode(),
        json.dumps([status(1, more={"a": ["\udc00"]})]).encode(),
    ],
)
def test_body_that_is_no_batch(shared: Program, app: App, body: bytes) -> None:
    problem(shared.ingest(app, STATUS, body), 400)
    assert shared.pull(app).data == []


# --- who may, and how -----------------------------------------------------------------------------


def test_token_missing_unknown_or_revoked_is_401(shared: Program, app: App) -> None:
    target = f"/ingest/{app.sdkappid}/delivery-statuses"
    json_type = {"Content-Type": "application/json"}
    for authorization in ("", "Bearer", "Basic abc", "Bearer pst_" + "0" * 64, "x y z"):
        headers = json_type | ({"Authorization": authorization} if authorization else {})
        answer = shared.post(target, statuses(1), headers)
        problem(answer, 401)
        assert answer.header("www-authenticate") == "Bearer"
    token = shared.create_token("short-lived")
    shared.until(lambda: shared.ingest(app, STATUS, statuses(1), token=token).http_status == 200)
    shared.cli("token", "revoke", "short-lived")
    shared.until(lambda: shared.ingest(app, STATUS, statuses(1), token=token).http_status == 401)


@pytest.mark.parametrize(
    "target",
    [
        "/ingest/{app}/delivery-statuses",
        "/ingest/{app}/sends",
        "/callbacks/{token}",
        "/in/{token}/kannel",
    ],
)
def test_nothing_is_taken_of_what_comes_until_its_token_is_revoked(
    shared: Program, app: App, target: str
) -> None:
    name = f"leaked-{app.sdkappid}"
    token = shared.create_token(name, app=app)
    shared.until(lambda: shared.ingest(app, STATUS, [{}], token=token).http_status == 400)
    body = json.dumps(statuses(2)).encode()
    headers = [
        f"Authorization: Bearer {token}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Expect: 100-continue",
    ]
    with shared.connect() as wire:
        path = target.format(app=app.sdkappid, token=token)
        wire.send(http_request("POST", path, headers=headers, sized=False))
        assert wire.read().http_status == 100  # its token is good
        shared.cli("token", "revoke", name)
        shared.until(lambda: shared.ingest(app, STATUS, [{}], token=token).http_status == 401)
        wire.send(body)
        problem(wire.read(), 401)
    assert shared.pull(app).data == []


def test_token_of_another_application_is_403(shared: Program) -> None:
    one, other = shared.spare_app(), shared.spare_app()
    token = shared.create_token(f"for-{one.sdkappid}", app=one)
    shared.until(lambda: shared.ingest(one, STATUS, statuses(1), token=token).http_status == 200)
    problem(shared.ingest(other, STATUS, statuses(1), token=token), 403)
    assert shared.pull(other).data == []


@pytest.mark.parametrize(
    "path", ["1/replies", "2147483648/replies", "x/replies", "{}/nothing", "{}", "{}/replies/", "/"]
)
def test_address_unknown_is_404(shared: Program, app: App, path: str) -> None:
    headers = {"Authorization": f"Bearer {shared.token}", "Content-Type": "application/json"}
    answer = shared.post(f"/ingest/{path.format(app.sdkappid)}", replies(1), headers)
    problem(answer, 404)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_method_other_than_post_is_405(shared: Program, app: App, method: str) -> None:
    headers = [f"Authorization: Bearer {shared.token}"]
    answer = shared.exchange(http_request(method, f"/ingest/{app.sdkappid}/replies", b"", headers))
    problem(answer, 405)
    assert answer.header("allow") == "POST"


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/x-www-form-urlencoded"])
def test_content_type_unknown_is_415(shared: Program, app: App, content_type: str) -> None:
    problem(shared.ingest(app, STATUS, statuses(1), Content_Type=content_type), 415)
    assert shared.pull(app).data == []


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "identity, gzip"])
def test_content_encoding_is_415(shared: Program, app: App, encoding: str) -> None:
    problem(shared.ingest(app, STATUS, statuses(1), Content_Encoding=encoding), 415)
    assert shared.pull(app).data == []


def test_disabled_application_still_takes_records(shared: Program) -> None:
    """Its carrier can't know; the records wait until it may call again."""
    app = shared.create_app()
    shared.cli("app", "disable", str(app.sdkappid))
    shared.until(lambda: shared.pull(app).result == 1020)
    shared.feed(app, statuses(3))
    shared.cli("app", "enable", str(app.sdkappid))
    shared.until(lambda: shared.pull(app, max=1).result == 0)
    assert shared.pull(app).data[-1] == status(3)


@pytest.mark.parametrize("door", ["ingest", "callbacks"])
@pytest.mark.parametrize(
    "announced",
    ["Transfer-Encoding: chunked", "Content-Length: 1000000", "Content-Length: 0001000000"],
)
def test_application_has_its_part_of_what_is_in_hand_whatever_is_announced(
    shared: Program, door: str, announced: str
) -> None:
    """Of bodies that are never whole, and whose senders may be any number of this machine's."""
    one, other = shared.spare_app(), shared.spare_app()
    secret = shared.create_token(f"part-{one.sdkappid}", app=one)
    shared.until(lambda: shared.post(f"/callbacks/{secret}", b"").http_status == 200)
    target = f"/callbacks/{secret}" if door == "callbacks" else f"/ingest/{one.sdkappid}/replies"
    bearer = f"Authorization: Bearer {shared.token}"
    headers = [bearer, "Content-Type: application/json", announced]
    begun = http_request("POST", target, headers=headers, sized=False)
    body = b"x" * 900_000
    chunk = b"%x\r\n" % 1_000_000 if "chunked" in announced else b""
    shed = 'pullstatus_requests_shed_total{reason="application"}'
    before = shared.metrics()[shed]
    with ExitStack() as open_now:
        for _ in range(limits.IN_HAND_BYTES_MAX // limits.SHARE_OF_ONE // len(body) + 2):
            open_now.enter_context(shared.connect()).send(begun + chunk + body)
        shared.until(lambda: shared.metrics()[shed] > before)
        shared.feed(other, replies(1))
    shared.until(lambda: shared.ingest(one, REPLY, replies(1)).http_status == 200)


# --- Idempotency-Key ------------------------------------------------------------------------------


def test_key_lets_a_batch_come_again(shared: Program, app: App) -> None:
    for _ in range(3):
        answer = shared.ingest(app, STATUS, statuses(5), Idempotency_Key="b-1")
        assert answer.json == {"accepted": 5}
    assert shared.pull(app).data == statuses(5)
    assert shared.ingest(app, STATUS, statuses(5), Idempotency_Key="b-1").http_status == 200
    assert shared.pull(app).data == []


def test_key_with_another_body_is_422(shared: Program, app: App) -> None:
    assert shared.ingest(app, STATUS, statuses(5), Idempotency_Key="k").http_status == 200
    problem(shared.ingest(app, STATUS, statuses(4), Idempotency_Key="k"), 422)
    assert shared.pull(app).data == statuses(5)


def test_key_of_a_refused_batch_is_free(shared: Program, app: App) -> None:
    problem(shared.ingest(app, STATUS, [{}], Idempotency_Key="k"), 400)
    assert shared.ingest(app, STATUS, statuses(1), Idempotency_Key="k").http_status == 200


def test_key_belongs_to_sender_application_and_kind(shared: Program) -> None:
    one, other = shared.spare_app(), shared.spare_app()
    second = shared.create_token(f"second-{one.sdkappid}")
    shared.until(lambda: shared.ingest(one, STATUS, [{}], token=second).http_status == 400)
    for app, kind, records, token in (
        (one, STATUS, statuses(1), shared.token),
        (one, REPLY, replies(1), shared.token),
        (other, STATUS, statuses(2), shared.token),
        (one, STATUS, statuses(3), second),
    ):
        answer = shared.ingest(app, kind, records, token=token, Idempotency_Key="k")
        assert answer.json == {"accepted": len(records)}
    assert shared.pull(one).data == statuses(1) + statuses(3)
    assert shared.pull(one, REPLY).data == replies(1)
    assert shared.pull(other).data == statuses(2)


@pytest.mark.parametrize("key", ["", "a b", "x" * 65])
def test_key_invalid_is_400(shared: Program, app: App, key: str) -> None:
    problem(shared.ingest(app, STATUS, statuses(1), Idempotency_Key=key), 400)
    assert shared.pull(app).data == []


def test_batch_without_key_may_come_again_as_new(shared: Program, app: App) -> None:
    """Equal records are legal; who wants repeats recognised sends a key."""
    shared.feed(app, statuses(2))
    shared.feed(app, statuses(2))
    assert shared.pull(app).data == statuses(2) * 2


# --- callbacks ------------------------------------------------------------------------------------

OK = b'{"result":0,"errmsg":"OK"}'


@pytest.fixture
def secret(shared: Program, app: App) -> str:
    """A token for callbacks about the application, known to the server."""
    token = shared.create_token(f"callbacks-{app.sdkappid}", app=app)
    shared.until(lambda: shared.post(f"/callbacks/{token}", b"").http_status == 200)
    return token


def test_callback_of_delivery_statuses(shared: Program, app: App, secret: str) -> None:
    answer = shared.post(f"/callbacks/{secret}", statuses(3))
    assert (answer.http_status, answer.content) == (200, OK)
    assert answer.header("content-type") == "application/json"
    assert shared.pull(app).data == statuses(3)


def test_callback_of_a_reply(shared: Program, app: App, secret: str) -> None:
    answer = shared.post(f"/callbacks/{secret}", reply(1))
    assert (answer.http_status, answer.content) == (200, OK)
    assert shared.pull(app, REPLY).data == [reply(1)]
    assert shared.pull(app, STATUS).data == []


@pytest.mark.parametrize("name", ["delivery_statuses", "delivery_status_fail", "reply"])
def test_callback_as_documented(shared: Program, app: App, secret: str, name: str) -> None:
    body = Path(__file__).parents[1].joinpath(f"corpus/v5/{name}_callback.json").read_bytes()
    for headers in ({"Content-Type": "application/json"}, {"Content-Type": "text/plain"}, {}):
        assert shared.post(f"/callbacks/{secret}", body, headers).content == OK
    sent = json.loads(body)
    kind = STATUS if isinstance(sent, list) else REPLY
    assert shared.pull(app, kind).data == (sent if isinstance(sent, list) else [sent])


def test_callback_repeated_is_acknowledged_and_stored_once(
    shared: Program, app: App, secret: str
) -> None:
    """Each record is known by itself, whatever batch it comes in; order of first arrival."""
    for batch in ([1, 2], [1, 2], [2, 3], [3, 1, 4, 4]):
        body = [status(number) for number in batch]
        assert shared.post(f"/callbacks/{secret}", body).content == OK
    assert shared.pull(app).data == statuses(4)
    assert shared.post(f"/callbacks/{secret}", statuses(4)).content == OK
    assert shared.pull(app).data == []


@pytest.mark.parametrize(
    "change",
    [
        {"report_status": "FAIL"},
        {"user_receive_time": "2026-01-02 03:04:06"},
        {"sid": "8:other"},
        {"mobile": "13900000000"},
    ],
)
def test_callback_of_a_second_report_is_new(
    shared: Program, app: App, secret: str, change: dict[str, object]
) -> None:
    first, second = status(1), status(1, **change)
    for record in (first, second, first, second):
        assert shared.post(f"/callbacks/{secret}", [record]).content == OK
    assert shared.pull(app).data == [first, second]


def test_callback_of_an_identical_reply_is_stored_once(
    shared: Program, app: App, secret: str
) -> None:
    """A reply has no id: only its whole body tells a repeat from another with the same text."""
    one, later = reply(1, text="TD"), reply(1, text="TD", time=1_767_000_009)
    for record in (one, one, later, later, one):
        assert shared.post(f"/callbacks/{secret}", record).content == OK
    assert shared.pull(app, REPLY).data == [one, later]


def test_callback_repeats_are_known_by_token(shared: Program, app: App, secret: str) -> None:
    other = shared.create_token(f"more-{app.sdkappid}", app=app)
    shared.until(lambda: shared.post(f"/callbacks/{other}", b"").http_status == 200)
    for token in (secret, other, secret, other):
        assert shared.post(f"/callbacks/{token}", [status(1)]).content == OK
    assert shared.pull(app).data == [status(1), status(1)]


def test_callback_repeats_are_known_across_a_restart(tmp_path: Path) -> None:
    with Program(tmp_path) as program:
        app = program.create_app()
        token = program.create_token("callbacks", app=app)
        program.until(lambda: program.post(f"/callbacks/{token}", statuses(1)).http_status == 200)
        program.ingest(app, STATUS, statuses(2), Idempotency_Key="k")
        for abrupt in (False, True):
            if abrupt:
                program.kill()
                program.start()
            else:
                program.restart()
            assert program.post(f"/callbacks/{token}", statuses(1)).content == OK
            answer = program.ingest(app, STATUS, statuses(2), Idempotency_Key="k")
            assert answer.json == {"accepted": 2}
        assert program.pull(app).data == statuses(1) + statuses(2)


def test_callback_is_mended_where_a_batch_is_refused(
    shared: Program, app: App, secret: str
) -> None:
    """Its sender cannot mend it, and drops it after a try or two."""
    before = shared.metrics()
    cut = reply(1, text="see you \ud83d", time="1767000001")
    odd = status(2, description=None, report_status="fail", nationcode=86)
    assert shared.post(f"/callbacks/{secret}", cut).content == OK
    assert shared.post(f"/callbacks/{secret}", [status(1), odd]).content == OK
    problem(shared.ingest(app, REPLY, [cut]), 400)
    problem(shared.ingest(app, STATUS, [odd]), 400)
    assert shared.pull(app, REPLY).data == [reply(1, text="see you \ufffd")]
    mended = status(2, description="", report_status="FAIL")
    assert shared.pull(app).data == [status(1), mended]
    after = shared.metrics()
    for kind in (STATUS, REPLY):
        name = f'pullstatus_records_repaired_total{{kind="{kind.path}"}}'
        assert after[name] - before[name] == 1


def test_callback_without_a_time_is_stored_once_however_late_its_repeat(
    shared: Program, app: App, secret: str
) -> None:
    undated = status(1, user_receive_time="0000-00-00 00:00:00")
    assert shared.post(f"/callbacks/{secret}", [undated]).content == OK
    [record] = shared.pull(app).data
    assert record == undated | {"user_receive_time": record["user_receive_time"]}
    time.sleep(1.1)  # so that the time of arrival is another one
    assert shared.post(f"/callbacks/{secret}", [undated]).content == OK
    assert shared.pull(app).data == []


def test_callback_stores_what_can_be_read_and_parks_the_rest(
    shared: Program, app: App, secret: str
) -> None:
    """Its sender would drop the good ones with the bad one. The same push again changes nothing."""
    before = shared.metrics()
    push = [status(1), status(2, sid=""), "13800138000", status(3)]
    for _ in range(2):
        assert shared.post(f"/callbacks/{secret}", push).content == OK
    assert shared.pull(app).data == [status(1), status(3)]
    assert parked(shared, app) == 2
    after = shared.metrics()
    assert after["pullstatus_parked"] - before["pullstatus_parked"] == 2
    assert after["pullstatus_items_parked_total"] - before["pullstatus_items_parked_total"] == 4


@pytest.mark.parametrize("body", [b"null", b"5", b"{}", b"[{}]", b"{", b'"a"', b"\xff", b"a=1"])
def test_callback_of_something_else_is_parked(
    shared: Program, app: App, secret: str, body: bytes
) -> None:
    for _ in range(2):
        assert shared.post(f"/callbacks/{secret}", body).content == OK
    assert parked(shared, app) == 1
    assert shared.pull(app).data == shared.pull(app, REPLY).data == []


@pytest.mark.parametrize("body", [b"", b"[]", b" \r\n"])
def test_callback_of_nothing_is_acknowledged(
    shared: Program, app: App, secret: str, body: bytes
) -> None:
    """Some senders try an address before they use it."""
    assert shared.post(f"/callbacks/{secret}", body).content == OK
    assert parked(shared, app) == 0


def test_callback_in_an_encoding_is_parked(shared: Program, app: App, secret: str) -> None:
    answer = shared.post(f"/callbacks/{secret}", statuses(1), {"Content-Encoding": "gzip"})
    assert answer.content == OK
    assert parked(shared, app) == 1


def parked(shared: Program, app: App) -> int:
    """How many items are parked for an application."""
    rows = shared.cli("app", "show", str(app.sdkappid))["mailboxes"]
    return sum(row["waiting"] for row in rows if row["kind"] == "parked")


def test_callback_of_any_number_of_records_is_stored(
    shared: Program, app: App, secret: str
) -> None:
    """Beside what can't be read, in one commit; its sender would drop all of them."""
    pushed = [*statuses(1500), {"sid": "bad"}]
    for _ in range(2):
        assert shared.post(f"/callbacks/{secret}", pushed).content == OK
    assert parked(shared, app) == 1
    found: list[object] = []
    while page := shared.pull(app).data:
        found += page
    assert found == statuses(1500)


def test_callback_too_large_is_413(shared: Program, app: App, secret: str) -> None:
    body = json.dumps(statuses(1)).encode().ljust(limits.INGEST_BODY_BYTES_MAX + 1)
    assert problem(shared.post(f"/callbacks/{secret}", body), 413)["result"] == 1
    assert shared.pull(app).data == []


def test_callback_method(shared: Program, secret: str) -> None:
    answer = shared.exchange(http_request("GET", f"/callbacks/{secret}"))
    assert problem(answer, 405)["result"] == 1


def test_callback_token_must_be_good_and_of_one_application(shared: Program, app: App) -> None:
    for token in ("", "x", "pst_" + "0" * 64, shared.token + "/x", "%00", "é"):
        assert problem(shared.post(f"/callbacks/{token}", statuses(1)), 401)["result"] == 1
    assert problem(shared.post(f"/callbacks/{shared.token}", statuses(1)), 403)["result"] == 1


def test_callback_for_a_deleted_application_is_no_404(shared: Program) -> None:
    """A sender takes 404 for the end of it."""
    app = shared.create_app()
    token = shared.create_token(f"of-deleted-{app.sdkappid}", app=app)
    shared.until(lambda: shared.post(f"/callbacks/{token}", statuses(1)).http_status == 200)
    shared.cli("app", "delete", str(app.sdkappid), "--erase")
    shared.until(lambda: shared.post(f"/callbacks/{token}", statuses(1)).http_status == 403)
    assert shared.pull(app).result == 1019
