"""Faults of those who call, and of the processes that answer them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest

from pullstatus.records import Kind
from tests.e2e.alarms.stories import WATCHED, Fault, Scrape, Story, figures, figures_of, watched
from tests.harness import COMMAND, Program


def gone(folder: Path) -> Story:
    """The server does not answer any more."""
    with Program(folder) as program:
        before = figures(program)
        address = (program.host, program.port)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
    return Story(before, {"up": 0})


def restarting(folder: Path) -> Story:
    program, scrapes = Program(folder), []
    for _ in range(3):
        with program:
            scrapes.append(figures(program))
    return Story(*scrapes, step_min=5)


def failing(folder: Path) -> Story:
    """An error that nobody foresaw, in the middle of a pull."""

    program = Program(folder)
    app = program.create_app()

    async def run() -> list[Scrape]:
        async with program.inside() as server, program.client() as client:
            before = await figures_of(client)

            async def fails(*_: object) -> None:
                raise RuntimeError("a bug")

            with pytest.MonkeyPatch.context() as patched, contextlib.suppress(httpx.HTTPError):
                patched.setattr(server.store, "pull", fails)
                patched.setattr(server.store, "surely_empty", lambda _mailbox: False)
                target, body = app.request()
                await client.post(target, content=body)
            return [before, await figures_of(client)]

    return Story(*asyncio.run(run()))


def wrong(folder: Path) -> Story:
    program = Program(folder)
    app = program.create_app()
    with program:
        before = figures(program)
        for _ in range(10):
            assert program.ingest(app, Kind.REPLY, b"{").http_status == 400
            assert program.ingest(app, Kind.REPLY, [], token="pst_none").http_status == 401
        after = figures(program)
    return Story(before, after)


def crowded(folder: Path) -> Story:
    """More connect than there are descriptors for."""
    few = ("prlimit", "--nofile=200:200", COMMAND)
    program = Program(folder, *WATCHED, command=few)
    program.start()
    with contextlib.ExitStack() as held:
        held.callback(program.stop)
        before = watched(program)
        for _ in range(200):
            held.enter_context(socket.create_connection((program.host, program.port)))
        refused = 'pullstatus_connections_refused_total{reason="total"}'
        program.until(lambda: watched(program)[refused] > 10)
        after = watched(program)
    return Story(before, after)


def losing_workers(folder: Path) -> Story:
    with Program(folder, "--workers", "2", *WATCHED) as program:
        before = watched(program)
        log = [json.loads(line) for line in program.log().splitlines()]
        [worker, *_] = [line["process"] for line in log if line["event"] == "worker started"]
        os.kill(worker, signal.SIGKILL)
        program.until(lambda: watched(program)["pullstatus_workers_ended_total"] == 1)
        after = watched(program)
    return Story(before, after)


def unread_log(folder: Path) -> Story:
    program = Program(folder)
    with Path("/dev/full").open("wb") as full:
        program.start(stderr=full)
    try:
        before = figures(program)
        dropped = 'pullstatus_log_lines_total{fate="dropped"}'
        assert program.post("/ingest/1/replies", b"").http_status == 401
        program.until(lambda: program.metrics()[dropped] > before[dropped])
        after = figures(program)
    finally:
        program.stop()
    return Story(before, after)


FAULTS: Mapping[Fault, set[str]] = {
    gone: {"PullstatusDown"},
    restarting: {"PullstatusRestarts"},
    failing: {"PullstatusFails"},
    wrong: {"PullstatusInputWrong", "PullstatusGuessing"},
    crowded: {"PullstatusSheds"},
    losing_workers: {"PullstatusWorkerEnded"},
    unread_log: {"PullstatusLogDropped"},
}
