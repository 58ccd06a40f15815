"""What API 3.0 refuses, row by row of protocol.md section 11.7, on a running server.

By both signatures, over POST and GET, in the words of both versions. Whatever is refused consumes
nothing, and neither the answer nor the log has a key, a number or a text of it.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

import msgspec
import pytest

from pullstatus import limits
from pullstatus.wire.api3 import signing
from tests.harness import (
    PATIENCE_S,
    REPLY,
    ROOT,
    STATUS,
    App,
    Program,
    http_request,
    reply,
    status,
    with_limits,
)

HOST: Final = "mailbox.test"  # as `http_request` has it
LOUD: Final = with_limits(
    FAILED_TRIES_MAX=1_000_000,
    LOG_LINES_PER_S_MAX=1_000_000,
    LOG_LINES_OF_ONE_PER_S_MAX=1_000_000,
    LOOKS_PER_S_MAX=1_000_000,
)
"""A command whose log has a line for each refusal, and which refuses without waiting."""

DIGITS: Final = "13812345678"  # of nobody
CANARY: Final = "a-canary"
SECRET: Final = (DIGITS, CANARY, "13800000001", "13900000001", "text 1")
"""What callers send that is wrong, and what lies in the mailboxes."""

PULLS: Final = ("PullSmsSendStatus", "PullSmsReplyStatus")
NUMBERS: Final = ("PullSmsSendStatusByPhoneNumber", "PullSmsReplyStatusByPhoneNumber")
SENDS: Final = ("SendStatusStatistics",)
COUNTS: Final = (*SENDS, "CallbackStatusStatistics")
ASKING: Final = (*NUMBERS, *COUNTS)
ALL: Final = (*PULLS, *ASKING)

V2021, V2019 = "2021-01-11", "2019-07-11"
OLD_NUMBER: Final = {"SmsSdkAppId": "SmsSdkAppid"}
OLD: Final[dict[str, dict[str, str]]] = {
    **dict.fromkeys(PULLS, OLD_NUMBER),
    **dict.fromkeys(NUMBERS, OLD_NUMBER | {"BeginTime": "SendDateTime", "EndTime": "EndDateTime"}),
    **dict.fromkeys(COUNTS, OLD_NUMBER | {"BeginTime": "StartDateTime", "EndTime": "EndDataTime"}),
}
"""Names of 2021-01-11, and what 2019-07-11 calls them."""

Members = Mapping[str, object]


class Way(NamedTuple):
    """How a call is signed and sent."""

    v1: bool
    method: str

    def __str__(self) -> str:
        return f"{'v1' if self.v1 else 'TC3'}, {self.method}"


TC3_POST, TC3_GET = TC3 = (Way(v1=False, method="POST"), Way(v1=False, method="GET"))
V1: Final = (Way(v1=True, method="POST"), Way(v1=True, method="GET"))
WAYS: Final = (*TC3, *V1)


class Pair(NamedTuple):
    """A secret key pair."""

    secret_id: str
    secret_key: str


class Call(msgspec.Struct, frozen=True):
    """A call of API 3.0, and what may be wrong with it.

    Attributes:
        members: by the names of 2021-01-11; `...`: left out.
        ago_s: how long ago it was signed.
        timestamp: what it says instead.
        signed: if not, it has nothing of a signature.
        large: it is a byte over what may be sent.
        spoilt: what it sends in the place of its parameters; where TC3 signs them, it is signed.
        headers: further ones, of which none is signed.
    """

    way: Way
    pair: Pair
    action: str
    members: Members
    version: str = V2021
    method: str = ""
    ago_s: int = 0
    timestamp: str = ""
    token: str = ""
    signed: bool = True
    large: bool = False
    spoilt: str = ""
    headers: Mapping[str, str] = {}

    def request(self) -> bytes:
        """It as it stands on the wire."""
        method = self.method or self.way.method
        at = self.timestamp or str(int(time.time()) - self.ago_s)
        names = OLD.get(self.action, OLD_NUMBER) if self.version == V2019 else {}
        said = {
            names.get(name, name): value for name, value in self.members.items() if value is not ...
        }
        return (self._v1 if self.way.v1 else self._tc3)(method, at, said)

    def _tc3(self, method: str, at: str, said: dict[str, object]) -> bytes:
        by_form = method != "POST"
        text = self.spoilt or (urlencode(said) if by_form else json.dumps(said))
        text += self._rest(method)
        query, body = (text, b"") if by_form else ("", text.encode())
        form = "application/x-www-form-urlencoded" if by_form else "application/json"
        headers = {
            "host": HOST,
            "content-type": form,
            "x-tc-action": self.action,
            "x-tc-version": self.version,
            "x-tc-timestamp": at,
            "x-tc-token": self.token,
            "authorization": "SKIP",
            **self.headers,
        }
        if self.signed:
            # Of a time that is none nothing can be signed, and nobody looks.
            day = headers | {"x-tc-timestamp": at if at.isdigit() and len(at) < 12 else "0"}
            encoded = {name.encode(): value.encode() for name, value in day.items()}
            signed = signing.Request(method, query.encode(), encoded, body)
            headers["authorization"] = signing.sign(signed, *self.pair).decode()
        return _on_the_wire(method, query, body, headers)

    def _v1(self, method: str, at: str, said: dict[str, object]) -> bytes:
        parameters = {name: "" if value is None else str(value) for name, value in said.items()}
        parameters |= {"Action": self.action, "Version": self.version, "Timestamp": at}
        parameters |= {"SecretId": self.pair.secret_id, "SignatureMethod": "HmacSHA256"}
        parameters |= {"Nonce": "11886", "Token": self.token}
        if self.signed:
            key = self.pair.secret_key
            parameters["Signature"] = signing.sign_v1(method, HOST.encode(), parameters, key)
        text = (self.spoilt or urlencode(parameters)) + self._rest(method)
        query, body = ("", text.encode()) if method == "POST" else (text, b"")
        form = {"content-type": "application/x-www-form-urlencoded"}
        return _on_the_wire(method, query, body, form | dict(self.headers))

    def _rest(self, method: str) -> str:
        most = limits.PULL_BODY_BYTES_MAX if method == "POST" else limits.API3_QUERY_BYTES_MAX
        return "x" * most * self.large


def _on_the_wire(method: str, query: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    lines = [f"{name}: {value}" for name, value in headers.items() if name != "host"]
    return http_request(method, f"/?{query}" if query else "/", body, lines)


# --- the server -----------------------------------------------------------------------------------


class Served(NamedTuple):
    """A running server and what it knows.

    Attributes:
        pairs: by what they may, each for all applications but "another".
        apps: by what is wrong with them. In each mailbox of theirs is a record.
    """

    program: Program
    pairs: Mapping[str, Pair]
    apps: Mapping[str, App]


STATES: Final[Mapping[str, tuple[str, ...]]] = {
    "": (),
    "strict": ("--strict", "on"),
    "window": ("--window", "60"),
    "address": ("--allow", "192.0.2.0/24"),
    "arrears": ("--arrears", "on"),
    "permitted": ("--pull", "off", "--query", "off"),
    "rate": ("--rate", "1", "--query-rate", "1", "--statistics-rate", "1"),
    "disabled": (),
    "another": (),
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    program = Program(tmp_path_factory.mktemp("checks"), command=LOUD)
    apps = {state: program.create_app() for state in STATES}
    granted = [
        word
        for state, app in apps.items()
        if state != "another"
        for word in ("--app", str(app.sdkappid))
    ]

    def create(*flags: str) -> Pair:
        made = program.cli("secret", "create", *granted, *flags)
        return Pair(made["secret_id"], made["secret_key"])

    pairs = {"": create("--v1"), "usual": create()}
    for state, flags in STATES.items():
        number = str(apps[state].sdkappid)
        program.cli("app", "set", number, "--query-rate", "0", "--statistics-rate", "0", *flags)
    program.cli("app", "disable", str(apps["disabled"].sdkappid))
    with program:
        for app in apps.values():
            program.feed(app, [status(1)])
            program.feed(app, [reply(1)])
        yield Served(program, pairs, apps)


def usual(action: str, app: App) -> dict[str, object]:
    """What such a call says, if nothing is wrong with it."""
    members: dict[str, object] = {"SmsSdkAppId": str(app.sdkappid)}
    if action in PULLS:
        return members | {"Limit": 10}
    if action in NUMBERS:
        begin = int(time.time()) - 60
        return members | {
            "PhoneNumber": f"+86{DIGITS}",
            "BeginTime": begin,
            "Offset": 0,
            "Limit": 10,
        }
    hours = {"BeginTime": "2016090800", "EndTime": 2016090823}
    return members | hours | {"Limit": 0, "Offset": 0}


def ask(program: Program, call: Call, *, whole: bool = True) -> dict[str, Any]:
    """What it is answered, in the envelope that every SDK needs.

    Args:
        whole: it comes in one piece; a server reads such requests in another way.
    """
    request = call.request()
    head = request.index(b"\r\n\r\n") + 4
    with program.connect() as wire:
        if whole:
            wire.send(request)
        else:
            wire.send(request[:head], request[head:])
        answer = wire.read()
    assert answer.http_status == 200, answer
    assert answer.header("content-type") == "application/json"
    [(name, told)] = answer.json.items()
    assert name == "Response"
    assert len(told["RequestId"]) == 36
    return dict(told)


def code_of(told: Mapping[str, Any]) -> str:
    """The code of its error; "" if it worked."""
    return str(told.get("Error", {}).get("Code", ""))


# --- the rows -------------------------------------------------------------------------------------


class Row(NamedTuple):
    """A call that one check refuses.

    Attributes:
        check: the row of the table.
        says: what its message has in it.
        call, members: what is changed of a call that is right.
        actions, ways: of which calls.
        code: what it is answered; "": what the table has.
        old_code: the same of 2019-07-11, where it is another.
        app, pair: whose.
    """

    check: int
    says: str
    call: Mapping[str, Any] = {}
    members: Mapping[str, object] = {}
    actions: tuple[str, ...] = ALL
    ways: tuple[Way, ...] = WAYS
    code: str = ""
    old_code: str = ""
    app: str = ""
    pair: str = ""


DAY_S: Final = 24 * 60 * 60
NOW_S: Final = int(time.time())
UNKNOWN: Final = Pair(f"AKID{'0' * 32}", "0" * 32)
MISSING: Final = "MissingParameter"
INVALID: Final = "InvalidParameterValue"
NOT_UTF8: Final = f"SmsSdkAppId=%ff&Limit={CANARY}"

ROWS: Final = (
    Row(1, "POST or GET", {"method": "PUT"}),
    Row(2, "over", {"large": True}),
    Row(3, "Action is missing", {"action": ""}),
    Row(3, "Version is missing", {"version": ""}),
    Row(4, V2021, {"version": CANARY}),
    Row(5, "PullSmsReplyStatusByPhoneNumber", {"action": CANARY}),
    Row(6, "must be", {"signed": False}),
    Row(7, "no tokens", {"token": CANARY}),
    Row(8, "Timestamp must be", {"timestamp": CANARY}),
    Row(8, "Timestamp must be", {"timestamp": "1" * 20}),
    Row(9, "no enabled", {"pair": UNKNOWN}),
    Row(10, "not that of", {"key": "0" * 32}),
    Row(10, "in milliseconds", {"timestamp": f"{NOW_S}000"}, ways=TC3),
    Row(10, "not allowed", ways=V1, pair="usual"),
    Row(
        10,
        "unsigned payload is not allowed",
        {"headers": {"x-tc-content-sha256": "UNSIGNED-PAYLOAD"}},
        ways=(TC3_POST,),
    ),
    Row(11, "behind server time", {"ago_s": 301}),
    Row(11, "ahead of server time", {"ago_s": -360}),
    Row(11, "in milliseconds", {"timestamp": f"{NOW_S}000"}, ways=V1),
    Row(11, "the 60 s that this application has", {"ago_s": 90}, app="window"),
    Row(12, "one JSON object", {"spoilt": f'["{CANARY}"]'}, ways=(TC3_POST,)),
    Row(12, "not JSON", {"spoilt": f'{{"Limit":{CANARY}'}, ways=(TC3_POST,)),
    Row(12, "name=value", {"spoilt": NOT_UTF8}, ways=(TC3_GET,)),
    Row(12, "name=value", {"spoilt": f"Action=x&{NOT_UTF8}"}, ways=V1),
    Row(13, "SmsSdkApp", members={"SmsSdkAppId": ...}, code=MISSING),
    Row(13, "SmsSdkApp", members={"SmsSdkAppId": ""}, code=MISSING),
    Row(13, "SmsSdkApp", members={"SmsSdkAppId": CANARY}, code=INVALID),
    Row(13, "not for this application", members={"SmsSdkAppId": "1300000000"}),
    Row(13, "not for this application", members={"SmsSdkAppId": "9" * 18}),
    Row(13, "not for this application", app="another"),
    Row(14, "address", app="address"),
    Row(15, "disabled", app="disabled"),
    Row(16, "arrears", app="arrears"),
    Row(17, "not enabled", app="permitted"),
    Row(18, "over 1 pulls", members={"Limit": 0}, actions=PULLS, app="rate"),
    Row(18, "over 1 queries", members={"Limit": 0}, actions=NUMBERS, app="rate"),
    Row(18, "over 1 calls", members={"Limit": 9}, actions=COUNTS, app="rate"),
    *(Row(19, "Limit", members={"Limit": one}, actions=PULLS) for one in (0, 101, CANARY, "1.5")),
    Row(19, "Limit", members={"Limit": ...}, actions=PULLS, code=MISSING),
    *(
        Row(20, "PhoneNumber", members={"PhoneNumber": one}, actions=NUMBERS)
        for one in (DIGITS, f"+86{DIGITS}x", "+1234", f"+{DIGITS * 2}", CANARY)
    ),
    Row(20, "PhoneNumber", members={"PhoneNumber": ""}, actions=NUMBERS, code=MISSING),
    *(
        Row(21, word, members={"BeginTime": one}, actions=NUMBERS)
        for word, one in (
            ("Unix seconds", CANARY),
            ("milliseconds", NOW_S * 1000),
            ("seven days ago", NOW_S - limits.API3_LOOK_BACK_S - 1),
            ("seven days ago", 0),
        )
    ),
    *(
        Row(21, "hour of the calendar", members={"BeginTime": one}, actions=COUNTS)
        for one in (CANARY, "2016023000", 2016090824, 20160908)
    ),
    Row(21, "is missing", members={"BeginTime": ...}, actions=ASKING, code=MISSING),
    Row(22, "Unix seconds", members={"EndTime": CANARY}, actions=NUMBERS),
    Row(22, "milliseconds", members={"EndTime": NOW_S * 1000}, actions=NUMBERS),
    *(
        Row(22, word, members={"EndTime": one}, actions=COUNTS)
        for word, one in (
            ("hour of the calendar", CANARY),
            ("hour of the calendar", 2016090824),
            ("must not be before", 2016090723),
            ("32 days", 2016101001),
        )
    ),
    Row(22, "is missing", members={"EndTime": ...}, actions=COUNTS, code=MISSING),
    Row(23, "must not be after", members={"EndTime": NOW_S - DAY_S}, actions=NUMBERS),
    *(
        Row(24, "Offset", members={"Offset": one}, actions=NUMBERS)
        for one in (-1, limits.ASKED_COUNT_MAX + 1, CANARY)
    ),
    *(Row(24, "Limit", members={"Limit": one}, actions=NUMBERS) for one in (0, 101, CANARY)),
    Row(24, "SerialNo", members={"SerialNo": CANARY * 9}, actions=NUMBERS),
    Row(24, "SerialNo", members={"SerialNo": 7}, actions=NUMBERS, ways=(TC3_POST,)),
    *(
        Row(24, name, members={name: ...}, actions=NUMBERS, code=MISSING)
        for name in ("Offset", "Limit")
    ),
    *(
        Row(25, "Limit must be 0", members={"Limit": one}, actions=COUNTS, old_code=INVALID)
        for one in (1, CANARY)
    ),
    Row(25, "Limit", members={"Limit": ...}, actions=COUNTS, code=MISSING),
    *(
        Row(26, "Offset must be 0", members={"Offset": one}, actions=COUNTS, old_code=INVALID)
        for one in (1, CANARY)
    ),
    Row(26, "Offset", members={"Offset": ...}, actions=COUNTS, code=MISSING),
    Row(27, "/ingest/{sdkappid}/sends", actions=SENDS),
    *(
        Row(28, next(iter(headers)), {"headers": headers}, actions=PULLS)
        for headers in (
            {"Idempotency-Key": f"{CANARY} {CANARY}"},
            {"Pullstatus-Reader": f"{CANARY}/{CANARY}"},
            {"Pullstatus-Ack": CANARY},
            {"Pullstatus-Wait": CANARY},
            {"Idempotency-Key": CANARY, "Pullstatus-Reader": "billing"},
        )
    ),
)

NOT_HERE: Final = {29, 30}
"""What takes a page first is below; that the store fails is shown where it is made to."""


def checks() -> dict[int, str]:
    """The rows of the table, and the code of each."""
    page = (ROOT / "docs" / "reference" / "protocol.md").read_text("utf-8")
    section = page.partition("### 11.7 Order of checks")[2].partition("\n## ")[0]
    found = re.findall(r"^\| (\d+) \|.*\| `([A-Za-z.]+)` \|$", section, re.MULTILINE)
    return {int(number): code for number, code in found}


def calls_of(served: Served, row: Row) -> Iterator[Call]:
    """The calls that it is about: by each way, in each version's words."""
    changes = dict(row.call)
    pair = changes.pop("pair", served.pairs[row.pair])
    pair = pair._replace(secret_key=changes.pop("key", pair.secret_key))
    for action in row.actions:
        for way in row.ways:
            for version in (V2021, V2019):
                members = usual(action, served.apps[row.app]) | dict(row.members)
                call = Call(way, pair, action, members, version)
                yield msgspec.structs.replace(call, **changes)


def consumed(program: Program, app: App) -> list[str]:
    """Which of its mailboxes lack the record that they were given."""
    return [kind.path for kind in (STATUS, REPLY) if program.waiting(app, kind) != 1]


def check_nothing_is_told(served: Served, answers: list[dict[str, Any]]) -> None:
    """Neither the answers nor the log's lines about them have what nobody else may know."""
    program = served.program
    names = {told["RequestId"]: code_of(told) for told in answers}
    program.until(lambda: all(name in program.log() for name in names))
    lines = [json.loads(line) for line in program.log().splitlines()]
    logged = [line for line in lines if line.get("request") in names]
    assert [line["event"] for line in logged] == ["call refused"] * len(names)
    assert all(line["code"] == names[line["request"]] for line in logged)
    pairs = [word for pair in served.pairs.values() for word in pair]
    keys = [app.appkey for app in served.apps.values()]
    for word in (*SECRET, *pairs, *keys, UNKNOWN.secret_id):
        assert word not in json.dumps(answers)
        assert word not in json.dumps(logged)


def name_of(row: Row) -> str:
    """Without values: some are of the time at which tests are collected."""
    which = "" if row.actions == ALL else f"of {row.actions[-1]}"
    words = (str(row.check), row.app, row.pair, *row.call, *row.members, which)
    return " ".join(filter(None, words))


def test_every_row_of_the_table_is_here() -> None:
    assert {row.check for row in ROWS} | NOT_HERE == set(checks())


@pytest.mark.parametrize("row", ROWS, ids=name_of)
def test_what_a_row_refuses(served: Served, row: Row) -> None:
    answers = []
    for number, call in enumerate(calls_of(served, row)):
        code = row.code or checks()[row.check]
        if call.version == V2019 and row.old_code:
            code = row.old_code
        told = ask(served.program, call, whole=number % 3 != 0)
        if row.check == 18:  # the first of a second is let in, and refused by a later row
            answers.append(told)
            deadline = time.monotonic() + PATIENCE_S
            while code_of(told) != code and time.monotonic() < deadline:
                answers.append(told := ask(served.program, call))
        answers.append(told)
        assert code_of(told) == code, (call.way, call.action, call.version)
        assert row.says in told["Error"]["Message"]
    assert consumed(served.program, served.apps[row.app]) == []
    check_nothing_is_told(served, answers)


# --- their order ----------------------------------------------------------------------------------


class Step(NamedTuple):
    """A check that a call fails which is wrong in every way.

    Attributes:
        call, members: what is wrong with it.
        mends: the commands that set right what is wrong with the application or the pair.
        ways: where it can be wrong beside what stands before it.
    """

    check: int
    call: Mapping[str, Any] = {}
    members: Mapping[str, object] = {}
    mends: tuple[tuple[str, ...], ...] = ()
    ways: tuple[Way, ...] = WAYS


def steps_of(action: str) -> list[Step]:
    """What comes behind what all actions have in common, by the actions' own parameters."""
    if action in PULLS:
        return [Step(19, members={"Limit": 0}), Step(28, {"headers": {"Pullstatus-Wait": "x"}})]
    if action in NUMBERS:
        return [
            Step(20, members={"PhoneNumber": "1"}),
            Step(21, members={"BeginTime": 1}),
            Step(22, members={"EndTime": "x"}),
            Step(23, members={"EndTime": NOW_S - DAY_S}),
            Step(24, members={"Offset": -1}),
            Step(24, members={"Limit": 0}),
        ]
    steps = [
        Step(21, members={"BeginTime": 1}),
        Step(22, members={"EndTime": 1}),
        Step(25, members={"Limit": 1}),
        Step(26, members={"Offset": 1}),
    ]
    return [*steps, Step(27)] if action in SENDS else steps


def mends(*commands: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(command.split()) for command in commands)


STEPS: Final = (
    Step(1, {"method": "PUT"}),
    Step(2, {"large": True}),
    Step(3, {"version": ""}),
    Step(4, {"version": "x"}),
    Step(5, {"action": "x"}),
    Step(6, {"signed": False}),
    Step(7, {"token": "x"}),
    Step(8, {"timestamp": "x"}),
    Step(9, mends=mends("secret enable ID")),
    Step(10, {"key": "0" * 32}),
    Step(11, {"ago_s": 600}),
    Step(12, {"spoilt": "%ff=["}, ways=TC3),
    Step(13, mends=mends("secret set ID --app APP")),
    Step(14, mends=mends("app set APP --allow-any")),
    Step(15, mends=mends("app enable APP")),
    Step(16, mends=mends("app set APP --arrears off")),
    Step(17, mends=mends("app set APP --pull on --query on")),
    Step(18, mends=mends("app set APP --rate 0 --query-rate 0 --statistics-rate 0")),
)


def test_checks_come_in_their_order(served: Served) -> None:
    """A call that is wrong in every way is told the first fault; each fix shows the next."""
    program = served.program
    app = program.create_app("--no-pull")
    number = str(app.sdkappid)
    made = program.cli("secret", "create", "--app", str(served.apps["another"].sdkappid), "--v1")
    pair = Pair(made["secret_id"], made["secret_key"])
    rates = ("--rate", "1", "--query-rate", "1", "--statistics-rate", "1")
    off = ("--query", "off", "--arrears", "on", "--allow", "192.0.2.0/24")
    program.feed(app, [status(1)])
    program.feed(app, [reply(1)])
    program.cli("app", "set", number, *off, *rates)
    program.cli("app", "disable", number)
    program.cli("secret", "disable", pair.secret_id)

    def told(action: str, way: Way, steps: list[Step]) -> str:
        """The code of a call with what is wrong at each of these; the first counts, of one kind."""
        members, changes = usual(action, app), {"key": pair.secret_key}
        for step in reversed(steps):
            if way in step.ways:
                members |= step.members
                changes |= step.call
        key = changes.pop("key")
        call = Call(way, pair._replace(secret_key=key), action, members)
        return code_of(ask(program, msgspec.structs.replace(call, **changes)))

    for place, step in enumerate(STEPS):
        for action in ALL:
            for way in step.ways:
                steps = [*STEPS[place:], *steps_of(action)]
                code = checks()[step.check]
                if step.mends:
                    # What was switched off is off within a second; and of two calls on a machine
                    # on which they are a second apart both are within their rate.
                    program.until(lambda: told(action, way, steps) == code)  # noqa: B023
                assert step.check == 18 or told(action, way, steps) == code, (step, action, way)
        assert consumed(program, app) == []
        for words in step.mends:
            names = {"ID": pair.secret_id, "APP": number}
            program.cli(*(names.get(word, word) for word in words))
    for action in ALL:
        for way in WAYS:
            steps = steps_of(action)
            for place, step in enumerate(steps):
                assert told(action, way, steps[place:]) == checks()[step.check], (action, way)
    assert consumed(program, app) == []
    for action in ALL:
        assert told(action, TC3_POST, []) == (checks()[27] if action in SENDS else "")


def test_an_application_that_there_is_not_looks_as_one_of_somebody_else(served: Served) -> None:
    for action in ALL:
        pair, number = served.pairs[""], {"SmsSdkAppId": "1300000000"}
        another = usual(action, served.apps["another"])
        calls = [Call(TC3_POST, pair, action, each) for each in (another, another | number)]
        first, second = [ask(served.program, call)["Error"] for call in calls]
        assert first == second


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_signature_is_taken_once_where_the_application_says_so(served: Served, way: Way) -> None:
    """Row 29: what it took stays taken, and the repeat takes nothing."""
    app = served.apps["strict"]
    for kind, action, record in zip((STATUS, REPLY), PULLS, (status, reply), strict=True):
        at = str(int(time.time()) - 2 * WAYS.index(way))  # of its own, for each way
        call = Call(way, served.pairs[""], action, usual(action, app), timestamp=at)
        before = served.program.waiting(app, kind)
        assert len(ask(served.program, call)[f"{action}Set"]) == before
        served.program.feed(app, [record(1)])
        again = ask(served.program, call)
        assert code_of(again) == checks()[29]
        assert served.program.waiting(app, kind) == 1
        check_nothing_is_told(served, [again])
