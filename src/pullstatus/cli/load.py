"""The load generator: wrk (C, one thread), told by a file which requests to send.

wrk keeps every connection busy: the next request leaves when the answer is read. Its latencies
are corrected for coordinated omission by wrk itself.
"""

from __future__ import annotations

import http.client
import resource
import shutil
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

import msgspec

SCRIPT = Path(__file__).with_name("load.lua")
HOW_TO_INSTALL = (
    "wrk is not installed, and it is what makes the load. On Debian or Ubuntu: apt-get install wrk;"
    " elsewhere, your system's package of the same name."
)
ANSWER_BYTES_OFF = 0.02  # numbers in answers grow and shrink, and the last ones are cut off


class LoadFailed(Exception):
    """The load could not be made, or what was answered is not what was to be measured."""


class Request(msgspec.Struct, frozen=True):
    """A request as it goes out, but for its framing.

    Attributes:
        keep_alive: False: the connection is made anew for every request.
    """

    path: str
    body: bytes
    headers: Mapping[str, str] = {}
    method: str = "POST"
    keep_alive: bool = True

    def encode(self, host: str = "127.0.0.1") -> bytes:
        """The bytes on the wire."""
        fields = {"Host": host, "Content-Type": "application/json", **self.headers}
        if self.body:
            fields["Content-Length"] = str(len(self.body))
        if not self.keep_alive:
            fields["Connection"] = "close"
        lines = [f"{self.method} {self.path} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in fields.items()]
        return "\r\n".join([*lines, "", ""]).encode() + self.body


class Load(msgspec.Struct, frozen=True):
    """What to send, over how many connections.

    Attributes:
        picks: which of `requests` comes next, counted from 0, over and over; empty: each in turn.
    """

    requests: Sequence[Request]
    connections: int
    picks: Sequence[int] = ()


class Measured(msgspec.Struct, frozen=True):
    """What came of a load.

    Attributes:
        answer_bytes: of all answers, heads included.
        http_errors: answers with a status of 400 or more.
        socket_errors: connections refused, cut or timed out.
        generator_cores: processor time the generator took, per second.
    """

    seconds: float
    requests: int
    answer_bytes: int
    http_errors: int
    socket_errors: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    generator_cores: float = 0.0

    @property
    def per_s(self) -> float:
        """Requests answered a second."""
        return self.requests / self.seconds if self.seconds else 0.0


_decode_measured: Final = msgspec.json.Decoder(Measured).decode


class Answer(msgspec.Struct, frozen=True):
    """One answer as it came: what the ceiling is to repeat."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def wire_bytes(self) -> int:
        """Its size on the wire, as uvicorn frames it."""
        reason = http.client.responses[self.status]
        head = len(f"HTTP/1.1 {self.status} {reason}\r\n")
        return head + sum(len(n) + len(v) + 4 for n, v in self.headers) + 2 + len(self.body)


def installed() -> bool:
    """Whether there is a wrk to run."""
    return shutil.which("wrk") is not None


def _wrk() -> str:
    found = shutil.which("wrk")
    if found is None:
        raise LoadFailed(HOW_TO_INSTALL)
    return found


def version() -> str:
    """What makes the load, for the record."""
    said = subprocess.run(  # noqa: S603 - wrk
        [_wrk(), "--version"], capture_output=True, text=True, check=False
    )
    return f"{' '.join(said.stdout.split()[:2])}, 1 thread"


def look(address: str, request: Request, timeout_s: float = 30) -> Answer:
    """Send a request once, as the load will, and return the answer.

    Raises:
        LoadFailed: nobody answers, or it is a refusal: by its status, or by the `result` in it.
    """
    try:
        with _connected(urlsplit(address), timeout_s) as connection:
            connection.sendall(request.encode(urlsplit(address).netloc))
            response = http.client.HTTPResponse(connection, method=request.method)
            response.begin()
            answer = Answer(response.status, response.getheaders(), response.read())
            response.close()
    except (OSError, http.client.HTTPException) as error:
        raise LoadFailed(f"{address} does not answer ({type(error).__name__}: {error})") from error
    if answer.status >= 400 or (b'"result":' in answer.body and b'"result":0,' not in answer.body):
        raise LoadFailed(f"{request.path} answered {answer.status}: {answer.body[:200]!r}")
    return answer


def _connected(where: SplitResult, timeout_s: float) -> socket.socket:
    if where.hostname is None or where.scheme not in ("http", "https"):
        raise LoadFailed("an address is http:// or https:// and a host, and a port if need be")
    port = where.port or (443 if where.scheme == "https" else 80)
    plain = socket.create_connection((where.hostname, port), timeout_s)
    if where.scheme == "http":
        return plain
    return ssl.create_default_context().wrap_socket(plain, server_hostname=where.hostname)


def encode(load: Load, host: str = "127.0.0.1") -> bytes:
    """The file that load.lua reads."""
    requests = [request.encode(host) for request in load.requests]
    picks = load.picks or range(len(requests))
    lengths = "\n".join(str(len(request)) for request in requests)
    turns = "\n".join(str(pick + 1) for pick in picks)
    head = f"{len(requests)}\n{lengths}\n".encode()
    return head + b"".join(requests) + f"\n{len(picks)}\n{turns}\n".encode()


def run(address: str, load: Load, seconds: float, answer_bytes: float | None = None) -> Measured:
    """Make the load for a while and tell what came of it.

    Args:
        address: of the server, such as http://127.0.0.1:8080.
        answer_bytes: size of the answers that are due, on average.

    Raises:
        LoadFailed: an answer was an error, a connection broke, or answers were of another size.
    """
    measured = run_unchecked(address, load, seconds)
    check(measured, answer_bytes)
    return measured


def run_unchecked(address: str, load: Load, seconds: float) -> Measured:
    """Make the load for a while, whatever is answered."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        file = Path(folder, "requests")
        file.write_bytes(encode(load, urlsplit(address).netloc))
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [_wrk(), "--threads", "1", "--connections", str(load.connections)]
        # wrk takes whole seconds only.
        command += ["--duration", f"{max(1, round(seconds))}s", "--timeout", "30s"]
        command += ["--script", str(SCRIPT), address, "--", str(file)]
        wrk = subprocess.run(  # noqa: S603 - wrk, and a file of ours
            command, capture_output=True, text=True, check=False
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    measured = parse(wrk.stdout, wrk.stderr)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return msgspec.structs.replace(measured, generator_cores=spent / measured.seconds)


def parse(output: str, errors: str = "") -> Measured:
    """Read the line that load.lua printed.

    Raises:
        LoadFailed: there is none.
    """
    for line in reversed(output.splitlines()):
        if line.startswith("{"):
            return _decode_measured(line)
    said = (errors or output).strip() or "nothing"
    raise LoadFailed(f"wrk ended without a result; it said: {said}")


def check(measured: Measured, answer_bytes: float | None) -> None:
    """Refuse a measurement that is not one of what was to be measured.

    Raises:
        LoadFailed: saying how it differs.
    """
    if not measured.requests:
        raise LoadFailed("no request was answered")
    if measured.http_errors or measured.socket_errors:
        raise LoadFailed(
            f"{measured.http_errors} answers were errors and {measured.socket_errors} connections"
            f" broke or timed out, of {measured.requests} requests"
        )
    if answer_bytes is not None and not alike(measured, answer_bytes):
        found = measured.answer_bytes / measured.requests
        raise LoadFailed(
            f"answers had {found:.0f} bytes on average instead of {answer_bytes:.0f}:"
            " other ones were given, or the mailbox ran dry"
        )


def alike(measured: Measured, answer_bytes: float) -> bool:
    """Whether answers were of that size, on average: of another size, they were other answers."""
    found = measured.answer_bytes / measured.requests
    return abs(found - answer_bytes) <= ANSWER_BYTES_OFF * answer_bytes
