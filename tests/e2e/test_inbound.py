"""Gateways' own callbacks, over a real server: stored, parked, or nobody's, and always success."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import pytest

from tests.harness import PATIENCE_S, REPLY, STATUS, App, Program, with_limits
from tests.store.jetstream import real
from tools.postgresql import PostgreSQL

RECEIPT = "dlr={state}&from=%2B8613800000001&to=1069&id={id}&answer=id:{id}+stat:DELIVRD+err:000"
SMS = "text=hello&from=%2B8613800000001&to=10690077&id=m1&charset=UTF-8"


def get(program: Program, token: str, query: str, source: str = "kannel") -> tuple[int, bytes]:
    answer = program.http.get(f"/in/{token}/{source}?{query}")
    return answer.status_code, answer.content


def register(program: Program, app: App, *names: dict[str, object]) -> None:
    """Report sends as the application's own."""
    headers = {"Authorization": f"Bearer {program.token}"}
    path = f"/ingest/{app.sdkappid}/sends"
    assert program.http.post(path, headers=headers, json=[*names]).status_code == 200


def items(program: Program, became: str) -> float:
    return program.metrics()[f'pullstatus_source_items_total{{result="{became}",source="kannel"}}']


def test_what_a_gateway_tells_is_a_record_and_a_repeat_is_none(shared: Program, app: App) -> None:
    token = shared.create_token(f"gateway-{app.sdkappid}", app=app)
    stored, passed = items(shared, "stored"), items(shared, "intermediate")
    repeats = items(shared, "repeat")
    for _ in range(2):
        assert get(shared, token, RECEIPT.format(state=1, id="77")) == (200, b"")
        assert get(shared, token, SMS) == (200, b"")
    assert get(shared, token, RECEIPT.format(state=8, id="78")) == (200, b"")
    [status] = shared.pull(app, STATUS).data
    assert (status["sid"], status["report_status"]) == ("77", "SUCCESS")
    assert (status["nationcode"], status["mobile"]) == ("86", "13800000001")
    [reply] = shared.pull(app, REPLY).data
    assert reply["text"] == "hello"
    assert items(shared, "stored") == stored + 2
    assert items(shared, "repeat") == repeats + 2
    assert items(shared, "intermediate") == passed + 1


def test_a_platforms_records_go_where_rules_say_and_wait_as_nobodys_else(
    shared: Program, app: App
) -> None:
    name, number = f"platform-{app.sdkappid}", "0"
    token = shared.create_token(name)
    assert get(shared, token, SMS) == (200, b"")
    parked = shared.cli("parked", "list", "--sdkappid", number)
    [item] = [one for one in parked if one["token"] == name]  # others' tests leave theirs here
    assert item["sdkappid"] == 0
    shared.cli("route", "add", "short", "--to-prefix", "1069", "--sdkappid", str(app.sdkappid))
    assert get(shared, token, SMS.replace("m1", "m2")) == (200, b"")
    assert len(shared.pull(app, REPLY).data) == 1
    register(shared, app, {"sid": "ours", "id": f"{app.sdkappid}"})
    assert get(shared, token, RECEIPT.format(state=1, id=app.sdkappid)) == (200, b"")
    assert [status["sid"] for status in shared.pull(app, STATUS).data] == ["ours"]


def test_a_token_nobody_has_gets_401_whatever_stands_behind_it(shared: Program, app: App) -> None:
    for path in ("kannel", "nobody", "", "a/b"):
        assert get(shared, "pst_unknown", SMS, path)[0] == 401


def test_what_cannot_be_read_is_parked_under_its_source(shared: Program, app: App) -> None:
    token = shared.create_token(f"gateway-{app.sdkappid}", app=app)
    assert get(shared, token, "dlr=99&from=1&id=1") == (200, b"")
    assert get(shared, token, "x=1", "no-such-source") == (200, b"")
    number = str(app.sdkappid)
    shown = shared.cli("parked", "list", "--sdkappid", number)
    assert [item["member"] for item in shown] == ["dlr", None]


def test_values_that_are_no_list_are_parked_as_one(shared: Program, app: App) -> None:
    token = shared.create_token(f"gateway-{app.sdkappid}", app=app)
    receipt = '{"report_status":"FAIL","sid":"1","mobile":"13800138000"}'
    form = {"sms_status": f'{receipt},{{"text":"TD","mobile":"13800138000","id":"1"}}'}
    assert shared.http.post(f"/in/{token}/yunpian", data=form).status_code == 200
    [item] = shared.cli("parked", "list", "--sdkappid", str(app.sdkappid))
    assert item["reason"] == "must be JSON"
    assert shared.pull(app, STATUS).data == []


def test_a_receipt_that_overtakes_its_registration_gets_its_name(shared: Program, app: App) -> None:
    """And those of the parts of one message are one record."""
    token = shared.create_token(f"gateway-{app.sdkappid}", app=app)
    register(shared, app, {"sid": "first", "id": "1"})
    waits = items(shared, "pending")
    assert get(shared, token, RECEIPT.format(state=1, id="late")) == (200, b"")
    assert get(shared, token, RECEIPT.format(state=1, id="1")) == (200, b"")
    assert items(shared, "pending") == waits + 1
    register(shared, app, {"sid": "mine", "id": "late"}, {"sid": "two", "ids": ["a", "b"]})
    for part, state in (("b", 1), ("a", 2)):
        assert get(shared, token, RECEIPT.format(state=state, id=part)) == (200, b"")
    found: list[tuple[str, str]] = []
    until_s = time.monotonic() + PATIENCE_S
    while len(found) < 3 and time.monotonic() < until_s:
        page = shared.pull(app, STATUS).data
        found += [(row["sid"], row["report_status"]) for row in page]
    assert sorted(found) == [("first", "SUCCESS"), ("mine", "SUCCESS"), ("two", "FAIL")]


def test_a_platforms_receipt_that_overtakes_its_registration_gets_its_name(
    shared: Program, app: App
) -> None:
    """Whose it is nothing else says; no rule matches."""
    token = shared.create_token(f"platform-late-{app.sdkappid}")
    ident = f"late-{app.sdkappid}"
    register(shared, app, {"sid": "first", "id": f"first-{app.sdkappid}"})
    waits = items(shared, "pending")
    until_s = time.monotonic() + PATIENCE_S  # that names are in use is seen in some seconds
    number = 0
    while items(shared, "pending") == waits and time.monotonic() < until_s:
        number += 1
        query = RECEIPT.format(state=1, id=f"{ident}-{number}")
        query = query.replace("to=1069", "to=2069")  # which no rule of another test matches
        assert get(shared, token, query) == (200, b"")
        time.sleep(0.1)
    register(shared, app, {"sid": "mine", "id": f"{ident}-{number}"})
    found: list[str] = []
    while not found and time.monotonic() < until_s:
        found += [row["sid"] for row in shared.pull(app, STATUS).data]
    assert found == ["mine"]


SMALL = with_limits(PENDING_SHARED_ITEMS=40, PENDING_NAME_S=3600, PARKED_ITEMS_MAX=5)
BRIEF = with_limits(PENDING_NAME_S=1)
PATIENT = with_limits(PENDING_NAME_S=3600, CALLBACK_ANSWER_S=60, STORE_WAIT_S=60)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_waited_and_can_be_no_record_is_parked_as_it_can_be_read_again(
    tmp_path: Path, method: str
) -> None:
    """Jasmin says no number of its own: the registration does, as late as it comes."""
    program = Program(tmp_path, command=BRIEF)
    with program:
        app = program.create_app()
        token = program.create_token("gateway", app=app)
        register(program, app, {"sid": "first", "id": "first"})
        told = {"message_status": "DELIVRD", "id": "late", "level": "1", "connector": "c"}
        say = {"params": told} if method == "GET" else {"params": {"sender": "1069"}, "data": told}
        answer = program.http.request(method, f"/in/{token}/jasmin", **say)  # type: ignore[arg-type]
        assert answer.status_code == 200
        until_s = time.monotonic() + PATIENCE_S
        while program.metrics()["pullstatus_parked"] < 1 and time.monotonic() < until_s:
            time.sleep(0.1)
        [item] = program.cli("parked", "list", "--sdkappid", str(app.sdkappid))
        assert item["member"] == "nationcode"
        number = {"nationcode": "86", "mobile": "13800000001"}
        register(program, app, {"sid": "mine", "id": "late", **number})
        assert program.cli("parked", "retry", str(app.sdkappid), "--all")["records"] == 1
        assert [row["sid"] for row in program.pull(app, STATUS).data] == ["mine"]


def test_a_platform_that_floods_takes_no_room_for_receipts_of_another(tmp_path: Path) -> None:
    """Whatever nobody registers of one, a receipt of the other waits for its name, and gets it."""
    program = Program(tmp_path, command=SMALL)
    with program:
        app = program.create_app()
        flood, other = program.create_token("flood"), program.create_token("other")
        register(program, app, {"sid": "first", "id": "first"})
        for begin in range(5):
            told = [
                {"mobile": "13800000001", "id": f"{begin}-{each}", "report_status": "SUCCESS"}
                for each in range(20)
            ]
            assert program.http.post(f"/in/{flood}/native", json=told).status_code == 200
        assert 0 < program.metrics()["pullstatus_pending"] <= 20
        assert get(program, other, RECEIPT.format(state=1, id="late")) == (200, b"")
        register(program, app, {"sid": "mine", "id": "late"})
        found: list[str] = []
        until_s = time.monotonic() + PATIENCE_S
        while not found and time.monotonic() < until_s:
            found += [row["sid"] for row in program.pull(app, STATUS).data]
        assert found == ["mine"]


def test_a_platform_that_floods_lets_no_parked_items_of_another_leave(tmp_path: Path) -> None:
    """What nobody owns of the other stays, and more of it is taken; a retry makes records of it."""
    program = Program(tmp_path, command=SMALL)
    with program:
        app = program.create_app()
        flood, other = program.create_token("flood"), program.create_token("other")
        assert get(program, other, SMS) == (200, b"")
        for begin in range(4):
            told = [
                {"mobile": "13800000001", "to": "2069", "text": "x", "id": f"{begin}-{each}"}
                for each in range(20)
            ]
            assert program.http.post(f"/in/{flood}/native", json=told).status_code == 200
        assert get(program, other, SMS.replace("m1", "m2")) == (200, b"")
        until_s = time.monotonic() + PATIENCE_S
        while program.metrics()["pullstatus_parked"] > 7 and time.monotonic() < until_s:
            time.sleep(0.1)
        found = Counter(item["token"] for item in program.cli("parked", "list", "--sdkappid", "0"))
        assert found == {"flood": 5, "other": 2}
        assert program.metrics()["pullstatus_parked_expired_total"] == 75
        program.cli("route", "add", "short", "--to", "10690077", "--sdkappid", str(app.sdkappid))
        assert program.cli("parked", "retry", "0", "--all")["records"] == 2
        assert len(program.pull(app, REPLY).data) == 2
    assert program.cli("audit")["sound"]


def test_what_was_parked_in_few_items_becomes_the_records_of_all(tmp_path: Path) -> None:
    """Each has what stood in the address beside it: apart they would need room without end."""
    program = Program(tmp_path)
    with program:
        app = program.create_app()
        token = program.create_token("platform")
        told = [
            {"mobile": "13800000001", "to": "1069", "text": "x", "id": f"{each}"}
            for each in range(1500)
        ]
        path = f"/in/{token}/native?a={'x' * 16_000}"
        for _ in range(2):
            assert program.http.post(path, json=told).status_code == 200
        assert len(program.cli("parked", "list", "--sdkappid", "0")) == 2
        program.cli("route", "add", "all", "--to", "1069", "--sdkappid", str(app.sdkappid))
        assert program.cli("parked", "retry", "0", "--all")["records"] == 1500
        assert program.cli("parked", "list", "--sdkappid", "0") == []
        assert program.http.post(path, json=told).status_code == 200  # is known again
        assert sum(len(page) for page in iter(lambda: program.pull(app, REPLY).data, [])) == 1500
    assert program.cli("audit")["sound"]


def test_a_long_reply_is_whole_though_the_server_is_killed_behind_each_part(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    """Each part is durable before its answer, whatever order they come in, and comes once."""
    program = Program(tmp_path, environment=environment)
    app = program.create_app()
    token = program.create_token("gateway", app=app)
    said = "text=<{0}>&from=%2B8613800000001&to=1069&id={0}&udh=%05%00%03%2A%03%0{0}"
    concat = (
        "msisdn=8613800000002&to=1069&messageId=0B{0}&text=({0})&type=text"
        "&concat=true&concat-ref=08B5&concat-total=3&concat-part={0}"
    )
    for part in (3, 1, 2):
        with program:
            for _ in range(2):
                assert get(program, token, said.format(part))[0] == 200
            assert get(program, token, concat.format(part), "vonage")[0] == 200
            program.kill()
    found: list[str] = []
    with program:
        until_s = time.monotonic() + PATIENCE_S
        while len(found) < 2 and time.monotonic() < until_s:
            found += [row["text"] for row in program.pull(app, REPLY).data]
        assert items(program, "pending") == 0  # nothing has come to this one
    assert sorted(found) == ["(1)(2)(3)", "<1><2><3>"]
    assert program.cli("audit")["sound"]


def test_a_character_between_two_parts_is_whole_and_bytes_are_digits(
    shared: Program, app: App
) -> None:

    token = shared.create_token(f"gateway-{app.sdkappid}", app=app)
    said = "from=%2B8613800000001&to=1069&charset=UTF-16BE&id={0}&udh=%05%00%03%2A%02%0{0}&text={1}"
    assert get(shared, token, said.format(2, "%DE%00%00b"))[0] == 200
    assert get(shared, token, said.format(1, "%00a%D8%3D"))[0] == 200
    told = "text=%00%FF%D8%E0&charset=8-BIT&coding=1&from=%2B8613800000001&to=1069&id=m9"
    assert get(shared, token, told)[0] == 200
    found: list[str] = []
    until_s = time.monotonic() + PATIENCE_S
    while len(found) < 2 and time.monotonic() < until_s:
        found += [row["text"] for row in shared.pull(app, REPLY).data]
    assert sorted(found) == ["00ffd8e0", "a\U0001f600b"]


def test_receipts_of_the_parts_of_one_message_are_one_record(shared: Program, app: App) -> None:
    """Huawei numbers them under one id, in a form each or many in a batch."""
    token = shared.create_token(f"gateway-{app.sdkappid}", app=app)
    path = f"/in/{token}/huawei"

    def receipt(sid: str, part: int, status: str, total: int = 2) -> dict[str, str]:
        at = {"updateTime": "2026-01-05T00:00:00Z", "extend": sid, "to": "+8613800000001"}
        of = {"smsMsgId": f"m-{sid}", "total": str(total), "sequence": str(part)}
        return {**of, "status": status, **at}

    for _ in range(2):
        shared.http.post(path, data=receipt("fails", 1, "DELIVRD"))
        shared.http.post(path, data=receipt("fails", 2, "UNDELIV"))
        batch = [receipt("arrives", part, "DELIVRD") for part in (1, 2)]
        batch.append(receipt("alone", 1, "DELIVRD", 1))
        shared.http.post(path, json={"statusReportList": batch})
    found: list[tuple[str, str]] = []
    until_s = time.monotonic() + PATIENCE_S
    while len(found) < 3 and time.monotonic() < until_s:
        page = shared.pull(app, STATUS).data
        found += [(row["sid"], row["report_status"]) for row in page]
    assert sorted(found) == [("alone", "SUCCESS"), ("arrives", "SUCCESS"), ("fails", "FAIL")]


def test_a_long_reply_fits_into_an_address(shared: Program, app: App) -> None:
    """A gateway that joins parts calls with all of them, and repeats for days what is refused."""
    token = shared.create_token(f"gateway-{app.sdkappid}", app=app)
    text = "\u6536" * 1_600
    told = {"text": text, "from": "+8613800000001", "to": "1069", "id": "m1", "charset": "UTF-8"}
    answer = shared.http.get(f"/in/{token}/kannel", params=told)
    assert (answer.status_code, answer.content) == (200, b"")
    assert [reply["text"] for reply in shared.pull(app, REPLY).data] == [text]


def test_a_message_of_more_parts_than_any_has_is_a_reply_by_itself(
    shared: Program, app: App
) -> None:
    token = shared.create_token(f"gateway-{app.sdkappid}", app=app)
    told = "msisdn=8613800000002&to=1069&messageId={0}&text=({0})&concat-ref=1&concat-part=1"
    for count in (256, 2**40):
        query = f"{told.format(count)}&concat-total={count}"
        assert get(shared, token, query, "vonage") == (200, b"")
    texts = [reply["text"] for reply in shared.pull(app, REPLY).data]
    assert texts == ["(256)", f"({2**40})"]


def test_what_differs_in_its_query_alone_is_no_repeat(
    shared: Program, app: App, tmp_path: Path
) -> None:
    """Records without an id, parts of them, and what is parked: their body is always the same."""
    token = shared.create_token(f"gateway-{app.sdkappid}", app=app)
    name, number = f"same-{app.sdkappid}", str(app.sdkappid)
    row = tmp_path / "same.toml"
    row.write_text(
        f'name="{name}"\nitems="request"\n'
        '[reply]\nwhen="said"\nnumber="phone"\ntext="said"\n'
        'part={reference="ref", count="of", number="part"}\n',
        encoding="utf-8",
    )

    def post(query: str) -> None:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        path = f"/in/{token}/{name}?{query}"
        assert shared.http.post(path, headers=headers, content=b"ok=1").status_code == 200

    for _ in range(2):
        post("phone=8613800000001&said=early")
        post("phone=8613800000002&said=early")
    assert len(shared.cli("parked", "list", "--sdkappid", number)) == 2
    shared.cli("source", "add", str(row))
    assert shared.cli("parked", "retry", number, "--all")["records"] == 2
    part = "phone=8613800000001&of=2&ref={0}&part={1}&said={0}{1}"
    for _ in range(2):
        post("phone=8613800000001&said=early")
        post("phone=8613800000001&said=late")
        for reference in ("x", "y"):
            post(part.format(reference, 1))
            post(part.format(reference, 2))
    found: list[tuple[str, str]] = []
    until_s = time.monotonic() + PATIENCE_S
    while len(found) < 5 and time.monotonic() < until_s:
        found += [(each["mobile"], each["text"]) for each in shared.pull(app, REPLY).data]
    assert sorted(found) == [
        ("13800000001", "early"),
        ("13800000001", "late"),
        ("13800000001", "x1x2"),
        ("13800000001", "y1y2"),
        ("13800000002", "early"),
    ]


def test_a_source_that_was_added_reads_the_next_request_and_what_was_parked(
    shared: Program, app: App, tmp_path: Path
) -> None:
    """Once it is removed, what comes is parked and still answered with success."""
    token = shared.create_token(f"gateway-{app.sdkappid}", app=app)
    name, number = f"own-{app.sdkappid}", str(app.sdkappid)
    assert get(shared, token, "said=early&phone=8613800000001", name) == (200, b"")
    assert len(shared.cli("parked", "list", "--sdkappid", number)) == 1
    row = tmp_path / "own.toml"
    row.write_text(
        f'name="{name}"\nitems="request"\nmethods=["GET"]\n'
        '[reply]\nnumber="phone"\ntext="said"\n[answer]\nbody="fine"\n',
        encoding="utf-8",
    )
    shared.cli("source", "add", str(row))
    assert get(shared, token, "said=late&phone=8613800000001", name) == (200, b"fine")
    told = shared.cli("parked", "retry", number, "--all")
    assert told["records"] == 1, (told, shared.cli("parked", "list", "--sdkappid", number))
    assert [record["text"] for record in shared.pull(app, REPLY).data] == ["late", "early"]


@pytest.mark.parametrize("engine", ["postgresql", "jetstream"])
def test_it_is_the_same_over_other_engines(
    engine: str, tmp_path: Path, postgresql: PostgreSQL, environment: dict[str, str]
) -> None:
    place = postgresql.database() if engine == "postgresql" else real.place(tmp_path)
    with place as url:
        made = Program(tmp_path, environment=environment, store=url, command=PATIENT)
        with made as program:
            for test in (
                test_what_a_gateway_tells_is_a_record_and_a_repeat_is_none,
                test_a_platforms_records_go_where_rules_say_and_wait_as_nobodys_else,
                test_what_cannot_be_read_is_parked_under_its_source,
                test_a_receipt_that_overtakes_its_registration_gets_its_name,
                test_a_platforms_receipt_that_overtakes_its_registration_gets_its_name,
            ):
                test(program, program.create_app())
            assert program.cli("parked", "retry", "0", "--all")["records"] == 1
        assert program.cli("audit")["sound"]
