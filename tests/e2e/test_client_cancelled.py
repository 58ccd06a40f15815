"""Calls of one `AsyncClient` that are cancelled at any moment leave nothing behind."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from pullstatus import AsyncClient, Kind
from tests.harness import PATIENCE_S, App, Program, statuses

STEPS = 60  # of the event loop; a call over a new connection takes about so many


def sockets() -> int:
    """How many this process has open."""
    count = 0
    for number in os.listdir("/proc/self/fd"):  # noqa: PTH208
        try:
            count += os.readlink(f"/proc/self/fd/{number}").startswith("socket:")  # noqa: PTH115
        except FileNotFoundError:  # that of the listing
            continue
    return count


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not true():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


def client_of(address: str, app: App) -> AsyncClient:
    return AsyncClient(address, app.sdkappid, app.appkey, attempts_max=1, timeout_s=PATIENCE_S)


async def cancelled(
    client: AsyncClient, steps: int, kind: Kind = Kind.DELIVERY_STATUS, *, again: int = 0
) -> None:
    """A pull that is cancelled after so many steps of the loop, and so often again after that."""
    task = asyncio.create_task(client.pull(kind))
    for _ in range(steps):
        await asyncio.sleep(0)
    for _ in range(1 + again):
        task.cancel()
        await asyncio.sleep(0)
    await asyncio.wait([task])
    assert task.cancelled() or task.exception() is None


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    """A server that nobody else's pulls are held by."""
    made = Program(tmp_path)
    made.set_aside(1)
    with made:
        yield made


def certified(folder: Path, host: str = "127.0.0.1") -> dict[str, Path]:
    """What a server's TLS needs, and the authority behind it."""
    authority = trustme.CA()
    issued = authority.issue_cert(host)
    files = {name: folder / f"{name}.pem" for name in ("authority", "tls_certificate", "tls_key")}
    authority.cert_pem.write_to_path(files["authority"])
    issued.cert_chain_pems[0].write_to_path(files["tls_certificate"])
    issued.private_key_pem.write_to_path(files["tls_key"])
    return files


@pytest.mark.parametrize("again", [0, 2], ids=["once", "again"])
@pytest.mark.parametrize("encrypted", [False, True], ids=["http", "https"])
def test_a_call_that_is_cancelled_at_any_moment_leaves_no_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, encrypted: bool, again: int
) -> None:
    """Counted at both ends: what the client keeps is one that the next call uses."""
    program = Program(tmp_path)
    app = program.create_app()
    files = certified(tmp_path) if encrypted else {}
    if encrypted:
        monkeypatch.setenv("SSL_CERT_FILE", str(files.pop("authority")))

    async def play() -> None:
        async with program.inside(**files) as server:
            [door] = server.routes.listeners
            before = sockets()
            for steps in range(STEPS):
                async with client_of(server.address, app) as client:
                    await cancelled(client, steps, again=again)
                    await client.pull(Kind.DELIVERY_STATUS)
                    await until(lambda: door.connections <= 1)
                    assert sockets() <= before + 2, steps  # both ends of it
                    await cancelled(client, steps, again=again)
                    await client.pull(Kind.DELIVERY_STATUS)
                    await until(lambda: door.connections <= 1)
                    assert sockets() <= before + 2, steps
                await until(lambda: door.connections == 0)
                assert sockets() == before, steps

    asyncio.run(play())


def test_a_client_that_was_cancelled_often_goes_on(program: Program) -> None:
    """More often than a pool of the HTTP library has places; each record comes all the same."""
    app = program.spare_app()
    program.feed(app, statuses(3))

    async def play() -> list[str]:
        async with client_of(f"http://{program.host}:{program.port}", app) as client:
            for turn in range(120):
                await cancelled(client, turn % 30, Kind.REPLY)
            page = await client.pull(Kind.DELIVERY_STATUS)
            return [status.sid for status in page.records]

    assert asyncio.run(play()) == [record["sid"] for record in statuses(3)]


def test_a_cancelled_call_does_not_disturb_the_others(program: Program) -> None:
    """Those on their way go on over their connections, and the next call over one that is there."""
    app = program.spare_app()

    async def play() -> None:
        async with client_of(f"http://{program.host}:{program.port}", app) as client:
            others = [
                asyncio.create_task(client.pull(Kind.REPLY, long_poll_s=50)) for _ in range(3)
            ]
            await asyncio.to_thread(
                program.until, lambda: program.metrics()["pullstatus_pulls_held"] == len(others)
            )
            open_now = sockets()
            for steps in range(30):
                await cancelled(client, steps)
            assert not any(other.done() for other in others)
            await client.pull(Kind.DELIVERY_STATUS)
            await until(lambda: sockets() <= open_now + 1)
            for other in others:
                other.cancel()
            await asyncio.wait(others)

    asyncio.run(play())
