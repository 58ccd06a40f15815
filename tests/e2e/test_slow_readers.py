"""Who reads a page slowly has all of it, over TLS as without; who reads none of many gets no more.

Of a page that the kernel has taken over TLS nothing lies unread where the server could see it: it
asks the kernel how much has arrived. So these need no narrow line, only a peer that takes its time.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import trustme

from tests.harness import (
    PATIENCE_S,
    App,
    Program,
    http_request,
    status,
    with_values,
)

IMPATIENT = {
    "limits.IDLE_S": 1,
    "limits.ANSWER_DEADLINE_S": 2,
    "server.connection_state.FAREWELL_S": 0.5,
}
PAGE = [status(number, description="slowly " * 2_000) for number in range(100)]  # 1.4 MB
READ_S = 4.0  # longer than each of these times
SLICE = 16 * 1024


class Tls:
    """A server that speaks it, and who trusts that."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        issued = authority.issue_cert("127.0.0.1")
        self.certificate, self.key = folder / "cert.pem", folder / "key.pem"
        issued.cert_chain_pems[0].write_to_path(self.certificate)
        issued.private_key_pem.write_to_path(self.key)
        self.key.chmod(0o600)
        self.trust = ssl.create_default_context()
        authority.configure_trust(self.trust)

    def feed(self, program: Program, app: App) -> None:
        url = f"https://127.0.0.1:{program.port}"
        headers = {"Authorization": f"Bearer {program.token}"}
        with httpx.Client(base_url=url, verify=self.trust, timeout=PATIENCE_S) as client:
            for start in (0, 50):
                part = PAGE[start : start + 50]
                path = f"/ingest/{app.sdkappid}/delivery-statuses"
                assert client.post(path, json=part, headers=headers).status_code == 200

    @contextlib.contextmanager
    def connection(self, program: Program) -> Iterator[ssl.SSLSocket]:
        """One that takes little at a time."""
        plain = socket.socket()
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        plain.settimeout(PATIENCE_S)
        plain.connect(("127.0.0.1", program.port))
        with self.trust.wrap_socket(plain, server_hostname="127.0.0.1") as wrapped:
            yield wrapped


@pytest.fixture
def tls(tmp_path: Path) -> Tls:
    return Tls(tmp_path)


@pytest.fixture
def program(tmp_path: Path, tls: Tls, environment: dict[str, str]) -> Program:
    flags = ("--tls-certificate", str(tls.certificate), "--tls-key", str(tls.key))
    return Program(tmp_path, *flags, environment=environment, command=with_values(IMPATIENT))


def read_slowly(end: ssl.SSLSocket) -> tuple[int, int]:
    """Bytes of the body that came, and that were to come; as fast as takes `READ_S`."""
    came = b""
    began_s = time.monotonic()
    whole = len(PAGE) * 14_000
    while data := end.recv(SLICE):
        came += data
        head, found, body = came.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        if found and length is not None and len(body) >= (whole := int(length[1])):
            break
        time.sleep(max(0.0, READ_S * len(came) / whole - (time.monotonic() - began_s)))
    return len(came.partition(b"\r\n\r\n")[2]), whole


@pytest.mark.parametrize("header", ["Connection: keep-alive", "Connection: close"])
def test_a_page_that_is_read_slowly_is_read_whole(program: Program, tls: Tls, header: str) -> None:
    app = program.create_app()
    with program:
        tls.feed(program, app)
        with tls.connection(program) as end:
            end.sendall(http_request("POST", *app.request(), headers=[header]))
            came, whole = read_slowly(end)
    assert came == whole


def test_a_page_that_is_being_read_is_read_whole_when_the_server_stops(
    program: Program, tls: Tls
) -> None:
    app = program.create_app()
    with program:
        tls.feed(program, app)
        with tls.connection(program) as end:
            end.sendall(http_request("POST", *app.request()))
            first = end.recv(1)
            assert program.process is not None
            program.process.terminate()
            came, whole = read_slowly(_Behind(first, end))  # type: ignore[arg-type]
        assert program.process.wait(PATIENCE_S) == 0
    assert came == whole


class _Behind:
    """A connection of which the first bytes were read before."""

    def __init__(self, first: bytes, end: ssl.SSLSocket) -> None:
        self._first = first
        self._end = end

    def recv(self, size: int) -> bytes:
        first, self._first = self._first, b""
        return first or self._end.recv(size)


def test_pages_that_nobody_reads_are_in_hand(program: Program, tls: Tls) -> None:
    """So that one application cannot have as many as it has connections."""
    app = program.create_app()
    request = http_request("POST", *app.request(), headers=["Pullstatus-Reader: r"])
    with program, contextlib.ExitStack() as stack:
        tls.feed(program, app)
        ends = [stack.enter_context(tls.connection(program)) for _ in range(3)]
        for end in ends:
            end.sendall(request)
        url = f"https://127.0.0.1:{program.port}/metrics"
        with httpx.Client(verify=tls.trust, timeout=PATIENCE_S) as client:

            def in_hand() -> float:
                told = re.search(r"(?m)^pullstatus_in_hand_bytes (\S+)", client.get(url).text)
                assert told is not None
                return float(told[1])

            program.until(lambda: in_hand() > 3_000_000)
            for end in ends:
                end.close()
            program.until(lambda: in_hand() < 1_000_000)
