"""What commands change beside a running server: good for the very next request, never for others.

No request here is repeated until it works: the first one must.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from pullstatus import apps, limits
from pullstatus.apps import Operator
from pullstatus.server.serve import REFRESH_S
from pullstatus.store import Setting, open_store
from tests.harness import PATIENCE_S, STATUS, App, Program, status, statuses
from tests.sealing import keyring_of

FLOOD_S = 1.5
FEEDERS = 4


def test_new_applications_and_tokens_are_good_at_once(shared: Program) -> None:
    for number in range(1, 6):
        made = shared.cli("app", "create", str(1_500_000_000 + number))
        app = App(made["sdkappid"], made["appkey"])
        assert shared.pull(app).result == 0
        token = shared.create_token(f"at-once-{number}")
        assert shared.ingest(app, STATUS, statuses(2), token=token).http_status == 200
        own = shared.create_token(f"own-{number}", app=app)
        assert shared.post(f"/callbacks/{own}", statuses(1)).http_status == 200
        assert len(shared.pull(app).data) == 3


def test_applications_are_read_when_they_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that were not read at the start are good at their first request, of whatever kind."""
    monkeypatch.setattr(limits, "APPLICATIONS_AT_START", 1)
    program = Program(tmp_path)
    pulled, fed, called, off, unknown = (program.create_app() for _ in range(5))
    own = program.create_token("own", app=called)
    program.cli("app", "disable", str(off.sdkappid))
    program.cli("app", "delete", str(unknown.sdkappid))

    async def run() -> None:
        async with program.inside(), program.client() as http:

            async def pull(app: App) -> dict[str, Any]:
                target, body = app.request()
                found: dict[str, Any] = (await http.post(target, content=body)).json()
                return found

            assert (await pull(pulled))["result"] == 0
            ingest = f"/ingest/{fed.sdkappid}/delivery-statuses"
            bearer = {"Authorization": f"Bearer {program.token}"}
            assert (await http.post(ingest, json=statuses(2), headers=bearer)).status_code == 200
            assert len((await pull(fed))["data"]) == 2
            called_back = await http.post(f"/callbacks/{own}", json=statuses(1))
            assert called_back.status_code == 200
            assert len((await pull(called))["data"]) == 1
            assert (await pull(off))["result"] == 1020
            assert (await pull(unknown))["result"] == 1019
            await asyncio.to_thread(program.cli, "app", "enable", str(off.sdkappid))
            assert (await pull(off))["result"] == 0

    asyncio.run(run())


def test_a_feed_for_a_new_application_is_taken_at_once(shared: Program) -> None:
    made = shared.cli("app", "create", "1500000010")
    app = App(made["sdkappid"], made["appkey"])
    assert shared.ingest(app, STATUS, statuses(2)).http_status == 200
    assert shared.pull(app).data == statuses(2)


def test_what_is_allowed_again_is_allowed_at_once(shared: Program, app: App) -> None:
    """Each is forbidden first, and seen to be."""

    def command(*words: str) -> None:
        shared.cli("app", words[0], str(app.sdkappid), *words[1:])

    for off, result, on in (
        (("disable",), 1020, ("enable",)),
        (("set", "--pull", "off"), 1006, ("set", "--pull", "on")),
        (("set", "--arrears", "on"), 1033, ("set", "--arrears", "off")),
        (("set", "--allow", "192.0.2.0/24"), 1009, ("set", "--allow", "127.0.0.1")),
        (("set", "--rate", "1"), 60007, ("set", "--rate", "0")),
    ):
        command(*off)
        shared.until(lambda result=result: shared.pull(app).result == result)  # type: ignore[misc]
        command(*on)
        assert shared.pull(app).result == 0, on


def test_an_attempt_that_is_older_than_the_window_takes_nothing(shared: Program, app: App) -> None:
    """It may have been held up on its way; by `time` alone it would pass for ten minutes."""

    def window(window_s: int) -> None:
        shared.cli("app", "set", str(app.sdkappid), "--window", str(window_s))

    shared.feed(app, statuses(1))
    now_s = int(time.time())
    late = app.request(at=now_s - 100)
    window(30)
    shared.until(lambda: shared.post(*app.request(max=0, at=now_s - 100)).result == 1021)
    refused = shared.post(*late)
    assert refused.result == 1021
    assert "over the 30 s that this application has" in refused.json["errmsg"]
    assert shared.post(*app.request(at=now_s + 300, max=0)).result == 1004  # a clock that is ahead
    window(600)  # and what is allowed again is allowed at once
    assert shared.post(*late).data == statuses(1)


def test_a_token_feeds_its_owner_and_not_who_has_the_number_next(shared: Program) -> None:
    made = shared.cli("app", "create", "1500000011")
    app = App(made["sdkappid"], made["appkey"])
    former = shared.create_token("former-owner", app=app)
    assert shared.post(f"/callbacks/{former}", statuses(1)).http_status == 200
    shared.cli("app", "delete", "1500000011", "--erase")
    shared.cli("app", "create", "1500000011")
    # 503 where the server learns in the commit that the number has changed hands.
    assert shared.post(f"/callbacks/{former}", statuses(1)).http_status in {403, 503}
    shared.until(lambda: shared.post(f"/callbacks/{former}", statuses(1)).http_status == 403)
    assert shared.ingest(app, STATUS, statuses(1), token=former).http_status == 403
    assert shared.waiting(app) == 0
    own = shared.create_token("new-owner", app=app)
    assert shared.post(f"/callbacks/{own}", statuses(1)).http_status == 200
    assert shared.waiting(app) == 1


def test_a_rotated_key_is_good_at_once(shared: Program, app: App) -> None:
    for flags in ((), (), ("--appkey", "0123456789abcdef0123456789abcdef")):
        made = shared.cli("app", "rotate-key", str(app.sdkappid), *flags)
        assert shared.pull(App(app.sdkappid, made["appkey"])).result == 0


def test_strangers_cannot_make_the_server_look_often(tmp_path: Path) -> None:
    """Nor keep it from seeing what was made under their flood, at its first request."""
    program = Program(tmp_path)
    app = program.create_app()
    looks: list[float] = []

    async def run() -> None:
        async with program.inside() as server, program.client() as client:
            loop = asyncio.get_running_loop()
            settings = server.store.settings

            async def counted(since: int = 0) -> AsyncIterator[Setting]:
                looks.append(loop.time())
                async for setting in settings(since):
                    yield setting

            server.store.settings = counted  # type: ignore[method-assign,assignment]
            ends_s = loop.time() + FLOOD_S
            flood = [
                asyncio.create_task(_flood(client, app, number, ends_s)) for number in range(24)
            ]
            await asyncio.sleep(FLOOD_S / 3)
            command = await open_store(program.store)
            by = Operator("me", 0, secrets.token_hex)
            made = await apps.create_application(
                command, 8, by=by, keyring=await keyring_of(command)
            )
            target, body = App(8, made.appkeys[0].appkey).request()
            assert (await client.post(target, content=body)).json()["result"] == 0
            _, secret = await apps.create_token(command, "late", by=by)
            answer = await client.post(
                "/ingest/8/delivery-statuses",
                json=[status(1)],
                headers={"Authorization": f"Bearer {secret}"},
            )
            assert answer.json() == {"accepted": 1}
            await command.close()
            assert min(await asyncio.gather(*flood)) > 0
            began_s, before = loop.time(), len(looks)
            for _ in range(20):  # who is known makes none
                target, body = app.request()
                assert (await client.post(target, content=body)).json()["result"] == 0
            regular = 1 + (loop.time() - began_s) // REFRESH_S
            assert len(looks) - before <= regular

    asyncio.run(run())
    assert len(looks) > 3
    # Each may be noted late, so the first: from there to the last one more may have come.
    assert len(looks) - 2 <= (looks[-1] - looks[0]) * limits.LOOKS_PER_S_MAX


async def _flood(client: httpx.AsyncClient, app: App, number: int, ends_s: float) -> int:
    """Wrong tokens, numbers and signatures, one after the other; returns how many."""
    count = 0
    while asyncio.get_running_loop().time() < ends_s:
        wrong = App(9, app.appkey) if number % 3 else App(app.sdkappid, f"{count:032x}")
        target, body = wrong.request()
        if number % 4 == 0:
            answer = await client.post(f"/callbacks/pst_{number}_{count}", content=b"[]")
            assert answer.status_code == 401
        else:
            result = (await client.post(target, content=body)).json()["result"]
            assert result == (1019 if number % 3 else 1001)
        count += 1
    return count


@pytest.mark.parametrize("_round", range(3))
def test_deletion_under_traffic_leaves_nothing_for_the_next_owner(
    shared: Program, app: App, _round: int
) -> None:
    """Feeders go on until each has been told that the application is gone."""
    secret = shared.create_token(f"traffic-{app.sdkappid}", app=app)
    warm = threading.Barrier(FEEDERS + 1)
    told: list[list[int]] = [[] for _ in range(FEEDERS)]

    def feed(number: int) -> None:
        door, bearer = f"/ingest/{app.sdkappid}/delivery-statuses", f"Bearer {shared.token}"
        if number % 2:
            door, bearer = f"/callbacks/{secret}", "none"
        with httpx.Client(
            base_url=shared.http.base_url, trust_env=False, timeout=PATIENCE_S
        ) as http:
            for batch in itertools.count():
                record = status(number * 100_000 + batch)
                answer = http.post(door, json=[record], headers={"Authorization": bearer})
                told[number].append(answer.status_code)
                if batch == 3:
                    warm.wait(PATIENCE_S)
                if answer.status_code not in {200, 503}:  # 503: deleted while it was stored
                    return

    feeders = [threading.Thread(target=feed, args=(number,)) for number in range(FEEDERS)]
    for feeder in feeders:
        feeder.start()
    warm.wait(PATIENCE_S)
    erased = shared.cli("app", "delete", str(app.sdkappid), "--erase")["erased"]
    for feeder in feeders:
        feeder.join(PATIENCE_S)
    gone = [404, 403]  # of ingest, and of callbacks, whose senders take 404 for the end of it
    assert [answers.pop() for answers in told] == [gone[each % 2] for each in range(FEEDERS)]
    acknowledged = sum(answers.count(200) for answers in told)
    assert erased == acknowledged  # every one, none behind it
    made = shared.cli("app", "create", str(app.sdkappid))
    assert shared.waiting(app) == 0
    assert shared.pull(App(app.sdkappid, made["appkey"])).data == []
