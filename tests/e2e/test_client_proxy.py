"""Both clients through an HTTP proxy that leads to a service with TLS, as many networks have."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from pullstatus import Client, Kind
from pullstatus.client.deadline import AsyncTransport, Transport
from tests.e2e.test_client_cancelled import cancelled, certified, client_of, sockets, until
from tests.harness import PATIENCE_S, Program, statuses

HOST = "sms.example"  # no proxy is asked for what is on this machine
STEPS = 90  # of the event loop, about as many as a call through a new tunnel takes


@contextlib.asynccontextmanager
async def proxy(*, leads: bool = True) -> AsyncIterator[str]:
    """The address of one; `leads`: to where it is asked to, else nothing is behind its tunnels."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            method, place, _ = head.split(b" ", 2)
            assert method == b"CONNECT"
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            if not leads:
                return
            host, _, port = place.decode().rpartition(":")
            assert host == HOST
            inner, outer = await asyncio.open_connection("127.0.0.1", int(port))
            await asyncio.gather(pump(reader, outer), pump(inner, writer))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # who asked has gone
        finally:
            writer.close()

    async with await asyncio.start_server(tunnel, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        yield f"http://{host}:{port}"


@contextlib.asynccontextmanager
async def behind_proxy(
    program: Program, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[str]:
    """The address of a service with TLS that is reached through a proxy alone."""
    files = certified(folder, HOST)
    monkeypatch.setenv("SSL_CERT_FILE", str(files.pop("authority")))
    async with proxy() as address, program.inside(**files):
        monkeypatch.setenv("HTTPS_PROXY", address)
        yield f"https://{HOST}:{program.port}"


def test_a_page_comes_through_a_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = Program(tmp_path)
    program.set_aside(1)
    with program:
        app = program.spare_app()
        program.feed(app, statuses(3))

    def pull(address: str) -> list[str]:
        with Client(address, app.sdkappid, app.appkey, timeout_s=PATIENCE_S) as client:
            return [record.sid for record in client.pull(Kind.DELIVERY_STATUS, max=2).records]

    async def play() -> list[str]:
        async with behind_proxy(program, tmp_path, monkeypatch) as address:
            sids = await asyncio.to_thread(pull, address)
            async with client_of(address, app) as client:
                page = await client.pull(Kind.DELIVERY_STATUS)
            return sids + [record.sid for record in page.records]

    assert asyncio.run(play()) == [record["sid"] for record in statuses(3)]


def test_a_call_that_is_cancelled_at_any_moment_leaves_no_tunnel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = Program(tmp_path)
    app = program.create_app()

    async def play() -> None:
        async with behind_proxy(program, tmp_path, monkeypatch) as address:
            before = sockets()
            async with client_of(address, app) as client:
                for steps in range(STEPS):
                    await cancelled(client, steps)
                await client.pull(Kind.DELIVERY_STATUS)
                await until(lambda: sockets() <= before + 4)  # both ends of two connections
            await until(lambda: sockets() == before)

    asyncio.run(play())


def test_a_tunnel_in_which_there_is_no_tls_is_no_connection_any_more() -> None:
    """It is not one in use for ever, of which there are ever more."""

    def block(address: str) -> None:
        transport = Transport(verify=ssl.create_default_context(), proxy=address)
        with httpx.Client(transport=transport) as http:
            for _ in range(3):
                with pytest.raises(httpx.TransportError):
                    http.get("https://a.example")
            assert not transport._pool.connections

    async def play() -> None:
        async with proxy(leads=False) as address:
            await asyncio.to_thread(block, address)
            transport = AsyncTransport(verify=ssl.create_default_context(), proxy=address)
            async with httpx.AsyncClient(transport=transport) as http:
                for _ in range(3):
                    with pytest.raises(httpx.TransportError):
                        await http.get("https://a.example")
                assert not transport._pool.connections

    asyncio.run(play())
