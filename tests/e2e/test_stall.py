"""A store that does not answer: nobody waits for ever, and everybody is told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import struct
from collections.abc import Callable, Iterator
from os import kill
from pathlib import Path
from socket import SO_LINGER, SOL_SOCKET

import apsw
import httpx
import pytest
import structlog

from pullstatus import limits
from pullstatus.server.serve import Server
from pullstatus.store.sqlite import connection
from tests.harness import PATIENCE_S, App, Program, ends_after_s, http_request, statuses


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is served here waits for its file however long that is held."""
    monkeypatch.setattr(connection, "BUSY_MS", int(PATIENCE_S * 1000))


@contextlib.contextmanager
def held_file(folder: Path) -> Iterator[None]:
    """Another program that has begun to write into the store's file, and does not end."""
    other = apsw.Connection(str(folder / "mailboxes.db"))
    other.set_busy_timeout(connection.BUSY_MS)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


async def post(http: httpx.AsyncClient, program: Program, app: App, count: int) -> httpx.Response:
    return await http.post(
        f"/ingest/{app.sdkappid}/delivery-statuses",
        json=statuses(count),
        headers={"Authorization": f"Bearer {program.token}"},
    )


async def pull(http: httpx.AsyncClient, app: App) -> httpx.Response:
    target, body = app.request()
    return await http.post(target, content=body)


async def seen(true: Callable[[], bool]) -> None:
    """Wait until it is."""
    async with asyncio.timeout(PATIENCE_S):
        while not true():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


def told(logged: list[structlog.typing.EventDict], event: str) -> list[str]:
    """How grave each line about this is."""
    return [line["log_level"] for line in logged if line["event"] == event]


async def followed(server: Server) -> None:
    """Wait until the server writes nothing of its own any more."""
    async with asyncio.timeout(PATIENCE_S):
        while await server.store.behind(1):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


async def queued(server: Server, count: int) -> None:
    """Wait until so many operations wait before the store."""
    await seen(lambda: server.store.under_way().queued == count)


def test_a_store_that_does_not_answer_is_told_and_nobody_waits_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was handed over waits for its outcome; the rest is refused, and was not done."""
    monkeypatch.setattr(limits, "STORE_WINDOW_OPERATIONS", 1)
    monkeypatch.setattr(limits, "STORE_WAIT_S", PATIENCE_S)
    monkeypatch.setattr(limits, "STALLED_S", PATIENCE_S)  # but while the store stands still
    program = Program(tmp_path)
    app = program.create_app()

    async def play() -> None:
        async with program.inside() as server, program.client() as http:
            assert (await post(http, program, app, 5)).status_code == 200
            await followed(server)
            assert (await http.get("/readyz")).status_code == 200
            with structlog.testing.capture_logs() as logged:
                with held_file(tmp_path):
                    handed_over = asyncio.create_task(post(http, program, app, 1))
                    await seen(lambda: server.store.under_way().handed_over == 1)
                    monkeypatch.setattr(limits, "STORE_WAIT_S", 1)
                    monkeypatch.setattr(limits, "STALLED_S", 0.3)
                    refused = await asyncio.gather(pull(http, app), post(http, program, app, 1))
                    await seen(lambda: bool(told(logged, "store does not answer")))
                    assert (await http.get("/readyz")).status_code == 503
                    assert (await http.get("/healthz")).status_code == 200
                    text = (await http.get("/metrics")).text
                    monkeypatch.setattr(limits, "STORE_WAIT_S", PATIENCE_S)
                assert (await handed_over).status_code == 200
                await seen(lambda: bool(told(logged, "store answers again")))
                monkeypatch.setattr(limits, "STALLED_S", PATIENCE_S)
            pulled, posted = refused
            assert (pulled.status_code, pulled.json()["result"]) == (200, 1007)
            assert pulled.json()["errmsg"].endswith("nothing was consumed")
            assert posted.status_code == 503
            assert posted.headers["retry-after"] == str(limits.RETRY_AFTER_S)
            assert posted.json()["detail"].endswith("nothing was stored")
            assert "pullstatus_store_handed_over 1.0" in text
            [oldest] = [x for x in text.splitlines() if x.startswith("pullstatus_store_oldest")]
            assert float(oldest.split()[1]) > 0.3
            assert (await http.get("/readyz")).status_code == 200
            assert told(logged, "store does not answer") == ["error"]
            assert told(logged, "store answers again") == ["warning"]
            assert (await pull(http, app)).json()["count"] == 6, "5, and the one handed over"

    asyncio.run(play())


def test_calls_of_those_who_have_gone_are_dropped_before_the_store_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their pulls would take records that nobody gets."""
    monkeypatch.setattr(limits, "STORE_WINDOW_OPERATIONS", 1)
    monkeypatch.setattr(limits, "STORE_WAIT_S", PATIENCE_S / 4)  # they leave before it is over
    program = Program(tmp_path)
    app = program.create_app()

    async def leave(request: bytes, server: Server, *, reset: bool = False) -> None:
        _, writer = await asyncio.open_connection(program.host, program.port)
        writer.write(request)
        await seen(lambda: server.store.under_way().queued >= 5)  # the server's own may be there
        if reset:
            at_once = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, at_once)
        writer.transport.abort()

    async def play() -> None:
        async with program.inside() as server, program.client() as http:
            assert (await post(http, program, app, 50)).status_code == 200
            await followed(server)
            bearer = [f"Authorization: Bearer {program.token}", "Content-Type: application/json"]
            target = f"/ingest/{app.sdkappid}/delivery-statuses"
            batch = http_request("POST", target, json.dumps(statuses(3)).encode(), bearer)
            with held_file(tmp_path):
                handed_over = asyncio.create_task(post(http, program, app, 1))
                await seen(lambda: server.store.under_way().handed_over == 1)
                await asyncio.gather(
                    leave(http_request("POST", *app.request(max=10)), server),
                    leave(http_request("POST", *app.request(max=10)), server, reset=True),
                    leave(http_request("POST", *app.request(max=10)), server, reset=True),
                    leave(batch, server),
                    leave(batch, server, reset=True),
                )
                await queued(server, 0)
            assert (await handed_over).status_code == 200
            figures = server.routes.figures
            assert (figures.pulls_dropped, figures.pulls[1007]) == (2, 1)
            assert figures.batches_dropped["ingest"] == 1
            assert figures.batches["ingest", 503] == 1, "who may only say no more, and listen"
            assert (await pull(http, app)).json()["count"] == 51

    asyncio.run(play())


def test_term_ends_a_server_whose_store_says_nothing(tmp_path: Path) -> None:
    """And what it had in hand was not acknowledged."""
    program = Program(tmp_path)
    app = program.create_app()
    program.start()
    program.feed(app, statuses(3))
    _, store = program.processes()
    kill(store, signal.SIGSTOP)
    with program.connect() as waits, program.connect() as other:
        waits.send(http_request("POST", *app.request()))
        other.send(http_request("POST", *app.request()))
        program.until(lambda: program.metrics()["pullstatus_store_handed_over"] >= 2)
        assert program.process is not None
        program.process.terminate()
        assert ends_after_s(program.process) < 1.5 * limits.DRAIN_DEADLINE_S
        assert program.stop() == 0
        assert waits.ended()
    assert "Traceback" not in program.log()
    with program:
        assert program.pull(app).data == statuses(3)
