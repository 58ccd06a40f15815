"""How many may connect, what those beyond get, and where the server is watched."""

from __future__ import annotations

import asyncio
import errno
import json
import resource
import subprocess
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest
import structlog
import trustme

from pullstatus import limits
from pullstatus.apps.networks import proxies_of
from pullstatus.server import descriptors, listener, serve
from tests.harness import PATIENCE_S, Program, http_request

WATCHED = ("/healthz", "/readyz", "/metrics")


async def asked(program: Program, request: bytes) -> bytes:
    """All that comes back over a connection of its own until that ends; b"" if it is refused."""
    reader, writer = await asyncio.open_connection(program.host, program.port)
    try:
        writer.write(request)
        return await asyncio.wait_for(reader.read(), PATIENCE_S)
    except ConnectionError:
        return b""
    finally:
        writer.close()


def closing(path: str) -> bytes:
    return http_request("GET", path, headers=["Connection: close"])


async def settled(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not true():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


def test_who_connects_beyond_the_bound_gets_health_and_figures_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One address has a quarter; the reserve is beyond that, and beyond it nobody gets in."""
    monkeypatch.setattr(limits, "CONNECTIONS_MAX", 12)
    monkeypatch.setattr(limits, "CONNECTIONS_RESERVED", 2)
    monkeypatch.setattr(limits, "HEADER_DEADLINE_S", 3600)  # for who says nothing
    monkeypatch.setattr(listener, "TELL_S", 0.0)
    monkeypatch.setattr(serve, "_speaks_for_many", lambda _proxies: lambda _address: False)
    program = Program(tmp_path)
    app = program.create_app()
    told_of = "connections refused"

    async def play() -> None:
        pull = http_request("POST", *app.request())
        with structlog.testing.capture_logs() as logged:
            async with program.inside() as server, AsyncExitStack() as open_now:

                async def silent() -> asyncio.StreamReader:
                    reader, writer = await asyncio.open_connection(program.host, program.port)
                    open_now.callback(writer.close)
                    return reader

                kept = [await silent() for _ in range(3)]
                await settled(lambda: server.routes.listeners[0].connections == 3)
                for path in WATCHED:
                    answer = await asked(program, http_request("GET", path))
                    assert answer.startswith(b"HTTP/1.1 200 "), path
                    assert b"connection: close" in answer, "one answer each"
                assert (await asked(program, pull)).startswith(b"HTTP/1.1 503 ")
                for _ in range(2):
                    await silent()
                await settled(lambda: server.routes.listeners[0].connections == 5)
                assert await asked(program, closing("/healthz")) == b"", "the reserve is used up"
                assert not any(reader.at_eof() for reader in kept)
                await open_now.aclose()
                await settled(lambda: server.routes.listeners[0].connections == 0)
                assert (await asked(program, closing("/healthz"))).startswith(b"HTTP/1.1 200 ")
                figures = (await asked(program, closing("/metrics"))).decode()
                assert 'pullstatus_connections_refused_total{reason="address"} 7.0' in figures
                assert "pullstatus_connections 1.0" in figures
                await settled(lambda: any(line["event"] == told_of for line in logged))
        told = [line for line in logged if line["event"] == told_of]
        assert sum(line["count"] for line in told) == 7

    asyncio.run(play())


def test_a_trusted_proxy_and_this_machine_speak_for_many() -> None:
    speaks_for_many = serve._speaks_for_many(proxies_of("192.0.2.0/28, 2001:db8::1"))
    many = ("192.0.2.7", "::ffff:192.0.2.7", "2001:db8::1", "127.0.0.1", "127.9.9.9", "::1")
    assert all(speaks_for_many(address) for address in many)
    assert not any(map(speaks_for_many, ("192.0.2.99", "2001:db8::2", "198.51.100.1")))


def test_a_silent_client_has_the_time_of_a_head_for_its_handshake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts as a connection meanwhile."""
    monkeypatch.setattr(limits, "HEADER_DEADLINE_S", 0.5)
    issued = trustme.CA().issue_cert("127.0.0.1")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    issued.private_key_pem.write_to_path(key)
    issued.cert_chain_pems[0].write_to_path(certificate)
    program = Program(tmp_path)

    async def play() -> None:
        async with program.inside(tls_certificate=certificate, tls_key=key) as server:
            host, _, port = server.address.removeprefix("https://").rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            [door] = server.routes.listeners
            await settled(lambda: door.connections == 1)
            assert await asyncio.wait_for(reader.read(), PATIENCE_S) == b""
            writer.close()
            await settled(lambda: door.connections == 0)
            assert door.refused["handshake"] == 1

    asyncio.run(play())


def test_health_and_figures_are_where_they_are_told_to_be_and_only_there(tmp_path: Path) -> None:
    program = Program(tmp_path)
    app = program.create_app()

    async def play() -> None:
        async with program.inside(admin=("127.0.0.1", 0)) as server, program.client() as public:
            assert server.admin_address != server.address
            async with httpx.AsyncClient(
                base_url=server.admin_address, trust_env=False, timeout=PATIENCE_S
            ) as admin:
                for path in WATCHED:
                    assert (await admin.get(path)).status_code == 200
                    assert (await public.get(path)).status_code == 404
                target, body = app.request()
                assert (await admin.post(target, content=body)).status_code == 404
                assert (await public.post(target, content=body)).json()["result"] == 0
                assert (await public.get("/")).status_code == 200

    asyncio.run(play())


def test_out_of_descriptors_it_waits_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not accepted waits in the kernel; nothing is closed."""
    program = Program(tmp_path)
    fails = [OSError(errno.EMFILE, "Too many open files")] * 2

    async def play() -> None:
        async with program.inside() as server:
            [door] = server.routes.listeners
            accepting = door._socket

            class Short:
                """The same socket, in a process that has no descriptors left for a while."""

                def accept(self) -> object:
                    if fails:
                        raise fails.pop()
                    return accepting.accept()

                def __getattr__(self, name: str) -> object:
                    return getattr(accepting, name)

            monkeypatch.setattr(door, "_socket", Short())
            with structlog.testing.capture_logs() as logged:
                answer = await asked(program, closing("/healthz"))
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert [line["event"] for line in logged] == ["cannot accept connections"] * 2

    asyncio.run(play())


LOWERED = """
import json, resource
from pullstatus.server import descriptors
resource.setrlimit(resource.RLIMIT_NOFILE, (200, 400))
before = descriptors.connections_max()
descriptors.raise_limit()
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
print(json.dumps([before, soft, hard, descriptors.connections_max()]))
"""


def test_the_limit_of_descriptors_is_raised_and_kept_below() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOWERED], capture_output=True, text=True, check=True, timeout=60
    )
    kept = limits.DESCRIPTORS_KEPT + limits.CONNECTIONS_RESERVED
    assert json.loads(done.stdout) == [200 - kept, 400, 400, 400 - kept]


def test_a_limit_that_is_no_limit_bounds_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda _which: unlimited)
    assert descriptors.connections_max() == limits.CONNECTIONS_MAX
