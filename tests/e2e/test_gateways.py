"""Each gateway, as the emulator plays it, against a server: stored once, and by its key alone."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

import pytest

from pullstatus.emulator.gateways import Call, Gateways, Play, gateways
from pullstatus.receipts.source import builtin
from tests.e2e.test_inbound import PATIENT
from tests.harness import PATIENCE_S, REPLY, STATUS, App, Program
from tests.store.jetstream import real
from tools.postgresql import PostgreSQL

KEY = "12345678901234567890123456789012"
NOW_S = int(time.time())


async def called(*plays: Play) -> list[list[Call]]:
    """What becomes of the same calls of each, once it is known."""
    played = Gateways()
    task = asyncio.create_task(played.run())
    try:
        found = [played.play(play, random.Random(play.gateway), NOW_S) for play in plays]
        async with asyncio.timeout(PATIENCE_S):
            while any(call.http_status is None for calls in found for call in calls):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
        return found
    finally:
        task.cancel()


def test_each_gateway_is_stored_once_and_by_its_own_key_alone(
    shared: Program, app: App, tmp_path: Path
) -> None:
    """Yunpian's receipts are signed by nobody: its key is of its replies."""
    play_all(shared, app, tmp_path)


@pytest.mark.parametrize("engine", ["postgresql", "jetstream"])
def test_and_so_it_is_over_other_engines(
    engine: str, tmp_path: Path, postgresql: PostgreSQL, environment: dict[str, str]
) -> None:
    place = postgresql.database() if engine == "postgresql" else real.place(tmp_path)
    with place as url:
        made = Program(tmp_path, environment=environment, store=url, command=PATIENT)
        with made as program:
            play_all(program, program.create_app(), tmp_path)


def play_all(program: Program, app: App, folder: Path) -> None:
    key = folder / "key"
    key.write_text(KEY)
    plain = program.create_token(f"plain-{app.sdkappid}", app=app)
    signed, yunpian = (
        program.cli(
            *("token", "create", f"{name}-{app.sdkappid}", "--sdkappid", str(app.sdkappid)),
            *("--signature-key-file", str(key), *more),
        )["token"]
        for name, more in (("signed", ()), ("yunpian", ("--signature-scheme", "yunpian")))
    )
    base = str(program.http.base_url).rstrip("/")
    good, wrong = [], []
    for name in gateways():
        signs = bool(builtin()[name].signature)
        token = yunpian if name == "yunpian" else signed if signs else plain
        url = f"{base}/in/{token}/{name}"
        good.append(Play(name, url, key=KEY if signs else ""))
        if signs:
            wrong.append(Play(name, url, key="another", statuses=int(name != "yunpian")))
    for calls in asyncio.run(called(*wrong)):
        assert {call.http_status for call in calls} == {401}, calls
    assert not program.pull(app, STATUS).data
    assert not program.pull(app, REPLY).data
    for calls in asyncio.run(called(*good, *good)):
        assert [call.state for call in calls] == ["taken"] * len(calls), calls
    statuses, replies = program.pull(app, STATUS).data, program.pull(app, REPLY).data
    assert [status["report_status"] for status in statuses] == ["SUCCESS"] * len(good), statuses
    answering = [name for name, gateway in gateways().items() if gateway.reply]
    assert [reply["text"] for reply in replies] == ["yes"] * len(answering), replies
    assert program.cli("parked", "list", "--sdkappid", str(app.sdkappid)) == []
