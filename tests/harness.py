"""The real program for tests: `pullstatus serve` as a process, and all that a test does to it.

    with Program(tmp_path) as program:
        app = program.create_app()
        program.feed(app, statuses(3))
        answer = program.pull(app, max=2)
        assert answer.result == 0
        assert answer.data == statuses(2)
        assert program.stop() == 0

What a test sends over HTTP goes through `Program.http`; what must be laid on the wire byte by byte
goes through a `Wire`. Commands run in this process (`Program.cli`), since they only share the store
with the server; tests of the command line itself start real ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import itertools
import json
import os
import re
import select
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, TypeVar

import httpcore
import httpx
from click.testing import CliRunner

from pullstatus.cli import main
from pullstatus.records import Kind
from pullstatus.records.hours import HOUR_MS, hour_of
from pullstatus.server.serve import ServeOptions, Server
from pullstatus.wire.v5.pull import PULL_PATH, pull_request
from pullstatus.wire.v5.signature import fitting, sign
from tests import warm

STATUS, REPLY = Kind.DELIVERY_STATUS, Kind.REPLY
ROOT = Path(__file__).parents[1]
COMMAND = warm.COMMAND
_CAREFUL = """
from pullstatus.cli import main
from pullstatus.server import connection
assert connection.read_whole
connection.read_whole = lambda _data: None
main(prog_name="pullstatus")
"""
CAREFUL = (sys.executable, "-c", _CAREFUL)
"""A command whose server answers nothing without the parser, nor without a scope."""


def with_values(
    changed: Mapping[str, object], workers: Mapping[str, object] | None = None
) -> tuple[str, ...]:
    """A command whose server has these values.

    Args:
        changed: by their modules and names, as in {"server.serve.PENDING_EVERY_S": 0.02}. What it
            starts has not, such as its store's process.
        workers: those that its workers have.
    """
    changed = dict(changed)
    if workers is not None:
        script = _changing(workers, "from pullstatus.cli.worker import main", "main()")
        changed["cli.serve.WORKER"] = (sys.executable, "-P", "-c", script)
    script = _changing(changed, "from pullstatus.cli import main", 'main(prog_name="pullstatus")')
    return (sys.executable, "-c", script)


def _changing(changed: Mapping[str, object], *then: str) -> str:
    lines = []
    for place, value in changed.items():
        module, _, name = place.rpartition(".")
        lines += [f"import pullstatus.{module} as at", f"assert at.{name}"]
        lines.append(f"at.{name} = {value!r}")
    return "\n".join([*lines, *then])


def with_limits(**changed: float) -> tuple[str, ...]:
    """A command whose server has these in the place of `limits`; what it starts has not."""
    return with_values({f"limits.{name}": value for name, value in changed.items()})


FORGIVING = with_limits(FAILED_TRIES_MAX=1_000_000, CALLBACK_ANSWER_S=60, PENDING_NAME_S=3600)
"""A command whose server answers no failed try late: of those that many tests make from one address
each would wait a second. What it waits for may be late, on a busy machine."""

LASTING = with_limits(DRAIN_DEADLINE_S=120, LOG_FLUSH_S=60)
"""A command whose server says all that it has to say, however busy the machine is at its end."""

UPKEEP_ALWAYS = (
    "--upkeep-every",
    "0.02",
)  # flags of a server that looks for old things all the time
PLAIN = False  # what clients verify where nothing is encrypted: else each reads 140 certificates
PATIENCE_S = 60.0  # how long a test waits for what must come: far longer than any of it takes, so
# that a busy machine fails nothing. That something is quick is shown by what happens before what.
STEP_S = 0.05  # of one who looks again and again

Record = dict[str, Any]
Headers = list[tuple[str, str]]
T = TypeVar("T")


def ends_after_s(process: subprocess.Popen[str]) -> float:
    """How long a process still runs, by how often we have slept: a busy machine makes both late."""
    slept_s = 0.0
    while process.poll() is None:
        assert slept_s < PATIENCE_S
        time.sleep(STEP_S)
        slept_s += STEP_S
    return slept_s


def slowness() -> float:
    """How much slower this machine is at this moment than one that we know; never less than 1."""
    began = time.thread_time()
    sum(range(500_000))
    return max(1.0, (time.thread_time() - began) / 0.008)


def verify(sig: str, appkeys: Iterable[str], random: str, time: str | int) -> bool:
    """Whether a v5 signature fits any of the appkeys."""
    return fitting(sig, appkeys, random, time) is not None


_randoms = itertools.count(100_000)


# --- records --------------------------------------------------------------------------------------


def status(number: int, **changes: object) -> Record:
    """The delivery status with this number; different numbers make different records."""
    return {
        "user_receive_time": "2026-01-02 03:04:05",
        "nationcode": "86",
        "mobile": f"138{number:08d}",
        "report_status": "SUCCESS",
        "errmsg": "DELIVRD",
        "description": "delivered",
        "sid": f"8:{number}",
    } | changes


def reply(number: int, **changes: object) -> Record:
    """The reply with this number."""
    return {
        "nationcode": "86",
        "mobile": f"139{number:08d}",
        "text": f"text {number}",
        "sign": "Example",
        "time": 1_767_000_000 + number,
        "extend": "",
    } | changes


def hours_around() -> tuple[int, int]:
    """The hour before this one and the one after, on the wire: any moment it may be the next."""
    now_ms = time.time_ns() // 1_000_000
    return hour_of(now_ms - HOUR_MS), hour_of(now_ms + HOUR_MS)


def statuses(count: int, first: int = 1) -> list[Record]:
    """So many delivery statuses, numbered from `first`."""
    return [status(number) for number in range(first, first + count)]


def replies(count: int, first: int = 1) -> list[Record]:
    """So many replies, numbered from `first`."""
    return [reply(number) for number in range(first, first + count)]


# --- the call -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class App:
    """An application that somebody may pull as."""

    sdkappid: int
    appkey: str

    def request(
        self,
        kind: Kind = STATUS,
        max: int = 100,  # noqa: A002 - the wire's word
        *,
        random: str | None = None,
        at: int | None = None,
    ) -> tuple[str, bytes]:
        """A signed pull: its target and its body."""
        return pull_request(
            self.sdkappid,
            self.appkey,
            kind,
            max,
            str(next(_randoms)) if random is None else random,
            int(time.time()) if at is None else at,
        )

    def body(self, random: str, **changes: object) -> dict[str, Any]:
        """A pull's body for that random, with members replaced, or left out where given as `...`.

        A changed `time` is signed as it is.
        """
        members: dict[str, object] = {"time": int(time.time()), "type": 0, "max": 100}
        members |= changes
        signed = {"sig": sign(self.appkey, random, str(members["time"]))} | members
        return {name: value for name, value in signed.items() if value is not ...}

    def target(self, random: str) -> str:
        """A pull's target; `random` must need no escaping."""
        return f"{PULL_PATH}?sdkappid={self.sdkappid}&random={random}"


@dataclass(frozen=True)
class Answer:
    """What came back, however it was asked for."""

    http_status: int
    headers: Headers
    content: bytes

    def header(self, name: str) -> str | None:
        """The one header of that lower-case name; None if there is none."""
        values = [value for found, value in self.headers if found == name]
        assert len(values) <= 1, values
        return values[0] if values else None

    @property
    def json(self) -> dict[str, Any]:
        """The body, which is one JSON object."""
        value = json.loads(self.content)
        assert isinstance(value, dict)
        return value

    @property
    def result(self) -> int:
        """`result` of a v5 answer, which is a 200 whatever it says."""
        assert self.http_status == 200, (self.http_status, self.content)
        result = self.json["result"]
        assert isinstance(result, int)
        assert isinstance(self.json["errmsg"], str)
        return result

    @property
    def data(self) -> list[Record]:
        """The records of a pull that worked."""
        value = self.json
        assert self.result == 0, value
        assert value["count"] == len(value["data"])
        return list(value["data"])

    @property
    def waiting(self) -> int:
        """How many records were left after this pull."""
        return int(self.header("pullstatus-waiting") or -1)


def http_request(
    method: str, target: str, body: bytes = b"", headers: Sequence[str] = (), *, sized: bool = True
) -> bytes:
    """A request as it stands on the wire. `sized`: with its Content-Length."""
    lines = [f"{method} {target} HTTP/1.1", "Host: mailbox.test", *headers]
    if sized and (body or method == "POST"):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def chunked(body: bytes, size: int = 7) -> bytes:
    """A body in chunks of so many bytes."""
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in [*pieces, b""])


class Wire:
    """One connection, byte by byte."""

    def __init__(self, host: str, port: int, timeout_s: float = PATIENCE_S) -> None:
        self._speak(socket.create_connection((host, port), timeout=timeout_s))

    @classmethod
    def over(cls, connection: socket.socket) -> Self:
        """The same over a connection that was made otherwise."""
        wire = cls.__new__(cls)
        wire._speak(connection)
        return wire

    def _speak(self, connection: socket.socket) -> None:
        self.socket = connection
        self._file = connection.makefile("rb")

    def send(self, *pieces: bytes) -> None:
        """Write bytes; each piece leaves by itself."""
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            self.socket.sendall(piece)

    def read(self, *, bodiless: bool = False) -> Answer:
        """The next answer, which must say how long it is."""
        line = self._file.readline()
        assert line.startswith(b"HTTP/1.1 "), line
        headers = []
        while (field := self._file.readline()) not in (b"\r\n", b""):
            name, _, value = field.decode("latin-1").rstrip("\r\n").partition(": ")
            headers.append((name.lower(), value))
        http_status = int(line.split()[1])
        if bodiless or http_status == 100:
            return Answer(http_status, headers, b"")
        answer = Answer(http_status, headers, b"")
        size = int(answer.header("content-length") or -1)
        assert size >= 0, headers
        content = self._file.read(size)
        assert len(content) == size, "the answer was cut"
        return Answer(http_status, headers, content)

    def ended(self) -> bool:
        """Whether the peer has closed, once something is known about that."""
        try:
            return self._file.read(1) == b""
        except ConnectionError:
            return True

    def close(self) -> None:
        self._file.close()
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


# --- the program ----------------------------------------------------------------------------------


class _OneWrite(httpcore.NetworkStream):
    """A connection over which a request leaves in one piece, as most programs send it.

    httpx sends the head and the body on their own, and so a server reads them.
    """

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream
        self._unsent = b""

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._unsent += buffer

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        unsent, self._unsent = self._unsent, b""
        if unsent:
            self._stream.write(unsent, timeout)
        return self._stream.read(max_bytes, timeout)

    def close(self) -> None:
        self._stream.close()

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 - as it is there
        return self._stream.get_extra_info(info)


class _OneWrites(httpcore.SyncBackend):
    def connect_tcp(self, *arguments: Any, **named: Any) -> httpcore.NetworkStream:  # noqa: ANN401
        return _OneWrite(super().connect_tcp(*arguments, **named))


def whole_client(address: str) -> httpx.Client:
    """A client whose requests leave in one piece each."""
    transport = httpx.HTTPTransport(verify=PLAIN)
    transport._pool = httpcore.ConnectionPool(network_backend=_OneWrites())
    return httpx.Client(base_url=address, transport=transport, trust_env=False, timeout=PATIENCE_S)


class Program:
    """`pullstatus serve` on a free port, over a store in `folder`; a context manager.

    It can be stopped, killed and started again over the same store, and ends with its `with` block.
    """

    def __init__(
        self,
        folder: Path,
        *flags: str,
        environment: Mapping[str, str] | None = None,
        command: Sequence[str] = (COMMAND,),
        store: str | None = None,
        token: str | None = None,
        logs_start: bool = True,
    ) -> None:
        """Nothing runs yet: see `start`. Flags are those of `serve`.

        Args:
            store: the URL of another one than that in `folder`.
            token: one that there is, to put records in with.
            logs_start: its log says that it has started, as it does but at a higher level.
        """
        self.command = command
        self.folder = folder
        self.logs_start = logs_start
        self.store = store or f"sqlite:///{folder / 'mailboxes.db'}"
        self.flags = flags
        self.environment = clean_environment() | dict(environment or {})
        self.process: subprocess.Popen[str] | None = None
        self.host, self.port = "", 0
        self.http: httpx.Client
        self.token = token or self.create_token("feeder")
        self._numbers = itertools.count(1_400_000_001)
        self._spare: list[App] = []

    # -- its life ------------------------------------------------------------------------------

    def start(self, stderr: IO[bytes] | None = None, patience_s: float = PATIENCE_S) -> None:
        """Start, and return once connections are accepted and its log says so.

        Args:
            stderr: its standard error; the file of `log` otherwise.
        """
        assert self.process is None
        with (self.folder / "log").open("ab") as log:
            begins = log.tell()
            self.process = subprocess.Popen(
                [*self.command, "serve", "--port", "0", "--store", self.store, *self.flags],
                stdout=subprocess.PIPE,
                stderr=stderr or log,
                text=True,
                env=self.environment,
            )
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], patience_s)
        line = self.process.stdout.readline() if readable else ""
        if not re.match("pullstatus listens on https?://", line):
            self.kill()
            raise AssertionError(f"no ready line but {line!r}; its log ends:\n{self.log()[-2000:]}")
        address = line.split()[-1]
        self.host, _, port = address.partition("//")[2].rpartition(":")
        self.port = int(port)
        self.http = httpx.Client(
            base_url=address, verify=PLAIN, trust_env=False, timeout=PATIENCE_S
        )
        if stderr is None and self.logs_start:
            # The log is written by a thread: it may come behind the line on standard output.
            self.until(lambda: self._ended() or self._says_started(begins))

    def _ended(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def _says_started(self, begins: int) -> bool:
        with (self.folder / "log").open("rb") as log:
            log.seek(begins)
            return b'"event": "started"' in log.read()

    def stop(self) -> int:
        """Ask it to stop (TERM); returns its exit status."""
        assert self.process is not None
        self.process.terminate()
        return self._gone()

    def processes(self) -> list[int]:
        """The server's process and the one of its store."""
        assert self.process is not None
        number = self.process.pid
        children = Path(f"/proc/{number}/task/{number}/children").read_text(encoding="ascii")
        return [number, *map(int, children.split())]

    def kill(self) -> None:
        """Stop it in the middle of whatever it does."""
        assert self.process is not None
        self.process.kill()
        self._gone()

    def restart(self) -> None:
        """Stop cleanly and start again."""
        assert self.stop() == 0
        self.start()

    def log(self) -> str:
        """What it has written to standard error so far, over all its lives.

        Whole lines: it may be at the next.
        """
        lines, end, _ = (self.folder / "log").read_bytes().rpartition(b"\n")
        return (lines + end).decode()

    def _gone(self) -> int:
        process, self.process = self.process, None
        assert process is not None
        assert process.stdout is not None
        if self.port:
            self.http.close()
            self.port = 0
        try:
            return process.wait(PATIENCE_S)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if self.process is not None:
            exit_status = self.stop()
            if error is None:
                assert exit_status == 0, self.log()[-2000:]
            else:
                error.add_note(f"the server's exit status: {exit_status}, its log ends:\n")
                error.add_note(self.log()[-2000:])

    @contextlib.asynccontextmanager
    async def inside(self, **options: Any) -> AsyncIterator[Server]:  # noqa: ANN401 - as they are
        """Serve the store within this process and event loop, where a test can reach inside.

        `options` are further ones of `ServeOptions`.
        """
        server = Server(ServeOptions(f"{self.store}?commits=thread", port=0, **options))
        run = asyncio.create_task(server.run())
        started = asyncio.create_task(server.started.wait())
        await asyncio.wait([run, started], return_when=asyncio.FIRST_COMPLETED)
        started.cancel()
        try:
            self.host, _, port = server.address.removeprefix("http://").rpartition(":")
            self.port = int(port)
            yield server
        finally:
            server.stop()
            await run

    def client(self) -> httpx.AsyncClient:
        """A client for an event loop."""
        url = f"http://{self.host}:{self.port}"
        return httpx.AsyncClient(base_url=url, verify=PLAIN, trust_env=False, timeout=PATIENCE_S)

    # -- commands ------------------------------------------------------------------------------

    def cli(self, *arguments: str) -> Any:  # noqa: ANN401 - any JSON
        """Run a command on its store; returns the JSON that it printed."""
        done = CliRunner().invoke(main, [*arguments, "--store", self.store])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    def create_app(self, *flags: str) -> App:
        """Make an application and wait until the server, if it runs, knows it."""
        made = self.cli("app", "create", str(next(self._numbers)), *flags)
        app = App(made["sdkappid"], made["appkey"])
        if self.process is not None:
            self.until(lambda: self.post(*app.request(max=0)).result != 1019)
        return app

    def spare_app(self) -> App:
        """An application nobody else uses; quicker than `create_app` if some were set aside."""
        return self._spare.pop() if self._spare else self.create_app()

    def set_aside(self, count: int) -> None:
        """Make applications for `spare_app`; before the start it costs no waiting."""
        self._spare += [self.create_app() for _ in range(count)]

    def create_token(self, name: str, *, app: App | None = None) -> str:
        """Make a token, for one application or for all; returns its secret."""
        scope = [] if app is None else ["--sdkappid", str(app.sdkappid)]
        return str(self.cli("token", "create", name, *scope)["token"])

    def until(self, happened: Callable[[], T]) -> T:
        """Ask again and again until the answer is yes."""
        deadline = time.monotonic() + PATIENCE_S
        while not (answer := happened()):
            assert time.monotonic() < deadline, f"still not so after {PATIENCE_S} s"
            time.sleep(0.01)
        return answer

    # -- requests ------------------------------------------------------------------------------

    def post(
        self, target: str, body: bytes | object, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """POST bytes as they are, or anything else as JSON."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return answer_of(self.http.post(target, content=content, headers=headers))

    def pull(
        self,
        app: App,
        kind: Kind = STATUS,
        max: int = 100,  # noqa: A002 - the wire's word
        *,
        key: str | None = None,
    ) -> Answer:
        """Pull, as a client does that signs each request anew."""
        headers = {} if key is None else {"Idempotency-Key": key}
        return self.post(*app.request(kind, max), headers)

    def drain(self, app: App, kind: Kind = STATUS) -> list[Record]:
        """Pull until nothing is left."""
        return list(itertools.chain.from_iterable(iter(lambda: self.pull(app, kind).data, [])))

    def ingest(
        self,
        app: App,
        kind: Kind,
        body: bytes | object,
        *,
        token: str | None = None,
        **headers: str,
    ) -> Answer:
        """POST a batch; header names with underscores for dashes."""
        return self.post(
            f"/ingest/{app.sdkappid}/{kind.path}",
            body,
            {"Authorization": f"Bearer {token or self.token}", "Content-Type": "application/json"}
            | {name.replace("_", "-"): value for name, value in headers.items()},
        )

    def feed(self, app: App, records: Sequence[Record]) -> None:
        """Put records of one kind into their mailbox, a thousand at a time."""
        for start in range(0, len(records), 1000):
            part = list(records[start : start + 1000])
            answer = self.ingest(app, STATUS if "sid" in part[0] else REPLY, part)
            assert answer.http_status == 200, answer
            assert answer.json == {"accepted": len(part)}

    def waiting(self, app: App, kind: Kind = STATUS) -> int:
        """How many records wait, by the command line."""
        shown = self.cli("app", "show", str(app.sdkappid), "--json")
        return sum(row["waiting"] for row in shown["mailboxes"] if row["kind"] == kind.path)

    def metrics(self, *, within_s: float = PATIENCE_S) -> dict[str, float]:
        """The figures by their name and labels."""
        answer = self.http.get("/metrics", timeout=within_s)
        assert answer.status_code == 200, answer.text
        lines = answer.text.splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    def connect(self, timeout_s: float = PATIENCE_S) -> Wire:
        """A connection of one's own."""
        return Wire(self.host, self.port, timeout_s)

    def exchange(self, request: bytes, *, bodiless: bool = False) -> Answer:
        """Send one request as it is, on a connection of its own."""
        with self.connect() as wire:
            wire.send(request)
            return wire.read(bodiless=bodiless)


def answer_of(response: httpx.Response) -> Answer:
    """An httpx response as an `Answer`."""
    headers = [
        (name.decode().lower(), value.decode("latin-1")) for name, value in response.headers.raw
    ]
    return Answer(response.status_code, headers, response.content)


def made(name: str) -> Path:
    """The folder `.venv-NAME` of the checkout, which `make` fills once and whenever it is stale."""
    command = ["make", "--silent", f".venv-{name}/.installed", f"PYTHON={sys.executable}"]
    environment = clean_environment() | {"MAKEFLAGS": ""}
    with (ROOT / "Makefile").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run in several processes
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    return ROOT / f".venv-{name}"


def clean_environment() -> dict[str, str]:
    """Our environment without settings of somebody's own pullstatus."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PULLSTATUS_")}
