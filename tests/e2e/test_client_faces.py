"""The client over either face of the real server: questions, and pages that are the same ones."""

from __future__ import annotations

import asyncio
import json
import subprocess
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pullstatus import (
    AsyncClient,
    CallInvalid,
    CallRefused,
    Client,
    DeliveryStatus,
    Kind,
    Page,
    Reply,
    SignatureRefused,
    Statistics,
    TooFrequent,
    UnknownSdkappid,
)
from pullstatus.records import UTC8
from pullstatus.records.hours import hour_of
from tests.harness import (
    COMMAND,
    PATIENCE_S,
    App,
    Program,
    clean_environment,
    replies,
    reply,
    status,
    statuses,
)
from tests.proxy import CuttingProxy

NUMBER = status(7)["mobile"]
NOW = datetime.now(UTC8).replace(microsecond=0)


class Door(NamedTuple):
    """Two applications of the server, and the pair that may read them."""

    program: Program
    app: App
    other: App
    pair: dict[str, Any]

    def connect(self, face: str, **options: Any) -> Client:  # noqa: ANN401 - the client's own
        address = options.pop("address", f"http://{self.program.host}:{self.program.port}")
        return Client(address, self.app.sdkappid, **self.credentials(face), **options)

    def credentials(self, face: str) -> dict[str, Any]:
        return {"appkey": self.app.appkey} if face == "v5" else self.pair


@pytest.fixture(scope="module")
def made(shared: Program) -> Door:
    """One is enough: what each test feeds is its own."""
    app, other = shared.spare_app(), shared.spare_app()
    granted = [flag for one in (app, other) for flag in ("--app", str(one.sdkappid))]
    pair = shared.cli("secret", "create", *granted)
    return Door(shared, app, other, {name: pair[name] for name in ("secret_id", "secret_key")})


@pytest.fixture
def door(made: Door) -> Iterator[Door]:
    yield made
    for kind in Kind:
        made.program.drain(made.app, kind)


both = pytest.mark.parametrize("face", ["v5", "api3"])


def at(hours_ago: float) -> str:
    return f"{NOW - timedelta(hours=hours_ago):%Y-%m-%d %H:%M:%S}"


# --- questions ------------------------------------------------------------------------------------


@both
def test_a_strict_application_is_drained_within_a_second(door: Door, face: str) -> None:
    """No two calls of the client have one signature, by which such a service knows repeats."""
    door.program.cli("app", "set", str(door.app.sdkappid), "--strict", "on")
    now_s = float(int(datetime.now(UTC8).timestamp()))
    try:
        door.program.feed(door.app, statuses(4))
        with door.connect(face, clock=lambda: now_s) as client:
            got = [client.pull(Kind.DELIVERY_STATUS, max=1) for _ in range(4)]
    finally:
        door.program.cli("app", "set", str(door.app.sdkappid), "--strict", "off")
    assert [len(page) for page in got] == [1, 1, 1, 1]


@both
def test_find_sees_what_waits_and_what_was_pulled_and_takes_nothing(door: Door, face: str) -> None:
    """Of one number, the oldest by its own time first, in both colours."""
    sid = f"8:{face}-"
    fed = [
        status(7, sid=f"{sid}2", user_receive_time=at(1)),
        status(8, sid=f"{sid}other", user_receive_time=at(1)),
        status(7, sid=f"{sid}1", user_receive_time=at(2), new="kept"),
        status(7, sid=f"{sid}old", user_receive_time=at(24 * 8)),
    ]
    door.program.feed(door.app, fed)
    with door.connect(face) as client:
        pulled = client.pull(Kind.DELIVERY_STATUS, max=2)
        assert len(pulled) == 2
        found = client.find(Kind.DELIVERY_STATUS, NUMBER, nationcode="86")
        sids = [one.sid for one in found if one.sid.startswith(sid)]
        assert sids == [f"{sid}1", f"{sid}2"]
        [one] = client.find(Kind.DELIVERY_STATUS, NUMBER, nationcode="86", sid=f"{sid}1")
        assert (one.mobile, one.errmsg, one.received_at) == (
            NUMBER,
            "DELIVRD",
            NOW - timedelta(hours=2),
        )
        since = NOW - timedelta(hours=1, minutes=30)
        later = client.find(Kind.DELIVERY_STATUS, NUMBER, nationcode="86", since=since, until=NOW)
        assert f"{sid}1" not in [one.sid for one in later]
        assert client.find(Kind.REPLY, NUMBER, nationcode="86") == ()
        assert client.find(Kind.DELIVERY_STATUS, NUMBER, nationcode="1") == ()
    assert door.program.waiting(door.app) == 2


@both
def test_find_awaits_replies(door: Door, face: str) -> None:
    sent = reply(9, time=int(NOW.timestamp()) - 60, text=f"\u597d \U0001f44d {face}")
    door.program.feed(door.app, [sent])

    async def scenario() -> tuple[tuple[Reply, ...], Statistics]:
        address = f"http://{door.program.host}:{door.program.port}"
        async with AsyncClient(address, door.app.sdkappid, **door.credentials(face)) as client:
            found = await client.find(Kind.REPLY, sent["mobile"], nationcode="86")
            return found, await client.statistics(since=NOW - timedelta(hours=1))

    found, counted = asyncio.run(scenario())
    assert found[-1].members == sent
    assert counted.receipts >= 0
    assert door.program.waiting(door.app, Kind.REPLY) == 1


@both
def test_statistics_count_what_came_in(door: Door, face: str) -> None:
    def count() -> Statistics:
        with door.connect(face) as client:
            return client.statistics(since=NOW - timedelta(hours=2))

    before = count()
    failures = [
        status(1, sid=f"8:{face}{code}", report_status="FAIL", errmsg=code)
        for code in ("MK:0001", "UNDELIV", "MX:0012", "MX:0003", "REJECTD", "NEW:1")
    ]
    door.program.feed(door.app, [*failures, status(1, sid=f"8:{face}")])
    after = count()
    assert after.requests is None  # nobody has told of any
    due = {
        "receipts": 7,
        "delivered": 1,
        "failed": 6,
        "failed_number": 1,
        "failed_handset": 1,
        "failed_blacklist": 1,
        "failed_frequency": 1,
        "failed_carrier": 2,
    }
    assert {name: getattr(after, name) - getattr(before, name) for name in due} == due


def test_statistics_tell_the_sends_that_were_reported(door: Door) -> None:
    """Of the other application: of the first nobody tells any."""
    hour = hour_of(int(NOW.timestamp()) * 1000)
    told = [
        {"hour": hour, "request": 30, "success": 9, "bill_number": 7},
        {"hour": hour, "result": 1014},
    ]
    answer = door.program.post(
        f"/ingest/{door.other.sdkappid}/sends",
        told,
        {
            "Authorization": f"Bearer {door.program.token}",
            "Content-Type": "application/json",
        },
    )
    assert answer.http_status == 200
    apart = door._replace(app=door.other)
    for face in ("v5", "api3"):
        with apart.connect(face) as client:
            counted = client.statistics(since=NOW - timedelta(minutes=1))
        assert (counted.requests, counted.accepted, counted.billed) == (31, 9, 7)


@both
def test_what_a_question_is_refused_for_is_told(door: Door, face: str) -> None:
    with door.connect(face) as client, pytest.raises(CallInvalid, match="32 days"):
        client.statistics(since=NOW - timedelta(days=40))


@both
def test_questions_that_are_too_many_are_refused(door: Door, face: str) -> None:
    """Of an application of its own, since others would be refused as well."""
    apart = door._replace(app=door.other)
    door.program.cli("app", "set", str(apart.app.sdkappid), "--query-rate", "1")
    with apart.connect(face, attempts_max=1) as client:

        def ask() -> None:
            for _ in range(100):  # a busy machine asks a few a second
                client.find(Kind.REPLY, "1", nationcode="8612")

        with pytest.raises(TooFrequent) as raised:
            ask()
    assert not raised.value.may_have_consumed


# --- one mailbox, two faces -----------------------------------------------------------------------


def sids(page: Page[DeliveryStatus]) -> list[str]:
    return [one.sid for one in page]


def test_a_page_over_one_face_is_gone_from_the_other(door: Door) -> None:
    door.program.feed(door.app, statuses(5))
    with door.connect("v5") as old, door.connect("api3") as new:
        first = old.pull(Kind.DELIVERY_STATUS, max=2)
        second = new.pull(Kind.DELIVERY_STATUS, max=2)
        third = old.pull(Kind.DELIVERY_STATUS, max=2)
        assert [sids(page) for page in (first, second, third)] == [
            ["8:1", "8:2"],
            ["8:3", "8:4"],
            ["8:5"],
        ]
        assert second.waiting == 1
        again = new.pull(Kind.DELIVERY_STATUS, max=2, key=first.key)
        assert sids(again) == sids(first)
        assert again.pull_id == first.pull_id
        assert [one.members for one in again] == [
            {**one.members, "description": ""} for one in first
        ]
        assert not new.pull(Kind.DELIVERY_STATUS)


def test_a_reader_goes_on_over_the_other_face(door: Door) -> None:
    door.program.feed(door.app, replies(3))
    with door.connect("v5", reader="moving") as old:
        page = old.pull(Kind.REPLY, max=2)
    with door.connect("api3", reader="moving") as new:
        assert new.pull(Kind.REPLY, max=2).pull_id == page.pull_id
        last = new.pull(Kind.REPLY, max=2, ack=page.pull_id)
        assert [one.text for one in last] == ["text 3"]
        refused = new.pull(Kind.REPLY, ack=f"{door.app.sdkappid}-1-9999")
        assert refused.ack_refused
        new.pull(Kind.REPLY, ack=last.pull_id)
    assert door.program.waiting(door.app, Kind.REPLY) == 0


def test_a_pull_over_api_3_is_held_until_something_comes(door: Door) -> None:
    found: list[Page[Reply]] = []
    with door.connect("api3") as client:
        pulling = threading.Thread(
            target=lambda: found.append(client.pull(Kind.REPLY, long_poll_s=20))
        )
        pulling.start()
        door.program.until(lambda: door.program.metrics()["pullstatus_pulls_held"] == 1)
        door.program.feed(door.app, replies(1))
        pulling.join(PATIENCE_S)
    [page] = found
    assert [one.text for one in page] == ["text 1"]


def test_lost_answers_lose_nothing_over_api_3(door: Door) -> None:
    door.program.feed(door.app, statuses(60))
    found: list[str] = []
    with CuttingProxy(door.program.host, door.program.port) as proxy:
        for cut in (0, 100, 300, 700):
            proxy.cut(cut, 0, None)
        with door.connect(
            "api3", address=proxy.address, keyed=True, sleep=lambda _s: None
        ) as client:
            for batch in client.delivery_statuses(max=10, follow=False):
                with batch:
                    found += [one.sid for one in batch]
        assert proxy.cuts >= 8
    assert found == [f"8:{number}" for number in range(1, 61)]


def test_the_command_fills_a_file_over_either_face(door: Door, tmp_path: Path) -> None:
    """One file: what it holds does not show over which face a record came."""
    target = tmp_path / "out.ndjson"
    (tmp_path / "key").write_text(door.pair["secret_key"])
    asked = ["--url", f"http://{door.program.host}:{door.program.port}"]
    asked += ["--sdkappid", str(door.app.sdkappid), "--type", "reply", "--to", str(target)]
    pair = ["--secret-id", door.pair["secret_id"], "--secret-key-file", str(tmp_path / "key")]
    for count, more in ((1, []), (2, pair)):
        door.program.feed(door.app, replies(1, first=count))
        done = subprocess.run(
            [COMMAND, "pull", *asked, *more],
            env=clean_environment() | {"PULLSTATUS_APPKEY": door.app.appkey},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in target.read_text().splitlines()] == replies(2)


@pytest.mark.parametrize(
    ("changes", "error", "fix"),
    [
        ({"secret_key": "0" * 32}, SignatureRefused, "secret_key"),
        ({"secret_id": "AKID" + "0" * 32}, SignatureRefused, "check secret_id"),
        ({"sdkappid": 1}, UnknownSdkappid, "read it"),
    ],
)
def test_refusals_over_api_3_are_those_of_the_old_call(
    door: Door, changes: dict[str, Any], error: type[CallRefused], fix: str
) -> None:
    given = {"sdkappid": door.app.sdkappid, **door.pair, **changes}
    address = f"http://{door.program.host}:{door.program.port}"
    with Client(address, **given) as client, pytest.raises(error) as raised:
        client.pull(Kind.REPLY)
    assert fix in raised.value.fix
