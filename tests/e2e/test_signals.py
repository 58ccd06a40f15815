"""Signals: an end in the one time that is stated, a renewed certificate, and none that kills."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import os
import re
import resource
import select
import signal
import socket
import sqlite3
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from pullstatus import limits, store
from pullstatus.addresses import bare
from pullstatus.server import serve
from pullstatus.server.serve import ServeOptions, Server
from pullstatus.version import VERSION
from tests.harness import (
    COMMAND,
    LASTING,
    PATIENCE_S,
    Program,
    clean_environment,
    ends_after_s,
    http_request,
    status,
    statuses,
)

pytestmark = pytest.mark.anew


def logged(program: Program, event: str) -> list[dict[str, Any]]:
    """Its log lines of this event."""
    lines = (json.loads(line) for line in program.log().splitlines())
    return [line for line in lines if line["event"] == event]


# --- the beginning and the end, in the log --------------------------------------------------------


def test_log_tells_what_was_started_and_stopped(tmp_path: Path) -> None:
    public = "https://{}sms.example.com/in"
    program = Program(tmp_path, "--public-url", public.format("me:secret@"), command=LASTING)
    app = program.create_app()
    with program:
        program.feed(app, statuses(5))
        program.pull(app, max=2)
    with program:
        pass
    first, second = logged(program, "started")
    assert first["version"] == VERSION
    assert first["store"] == program.store
    assert first["address"].startswith("http://127.0.0.1:")
    assert (first["applications"], first["tokens"], first["waiting"]) == (1, 1, 0)
    settings = set(ServeOptions.__struct_fields__) - {"host", "port", "masters"}
    assert settings < first.keys(), "whatever it was told"
    assert first["public_url"] == public.format("")
    assert first["master_keys"] == f"{program.store.removeprefix('sqlite:///')}-master-key"
    assert second["waiting"] == 3
    stopped = logged(program, "stopped")[0]
    assert (stopped["records_in"], stopped["records_out"], stopped["waiting"]) == (5, 2, 3)
    assert stopped["failed"] is False


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:////var/lib/mailboxes.db", "sqlite:////var/lib/mailboxes.db"),
        ("sqlite:///a@b.db", "sqlite:///a@b.db"),
        ("postgresql://me:secret@db:5432/x?password=secret", "postgresql://db:5432/x"),
        ("nonsense", "nonsense"),
    ],
)
def test_log_shows_a_store_without_its_secrets(url: str, shown: str) -> None:
    assert bare(url) == shown


# --- what a service manager is told ---------------------------------------------------------------


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_service_manager_is_told_when_it_serves_goes_on_and_stops(
    tmp_path: Path, workers: str
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(PATIENCE_S)
        told = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1000000"}
        lines = iter(lambda: manager.recv(1000), b"")
        with Program(tmp_path, "--workers", workers, environment=told) as program:
            assert next(lines) == f"READY=1\nSTATUS=serving at {program.http.base_url}".encode()
            assert next(lines) == next(lines) == b"WATCHDOG=1"
        assert next(line for line in lines if line != b"WATCHDOG=1").startswith(b"STOPPING=1")


# --- the end --------------------------------------------------------------------------------------


def test_term_ends_the_server_in_the_time_that_is_stated(tmp_path: Path) -> None:
    """Beside half a head, half a body, a page that nobody reads, and a file that is held."""
    program = Program(tmp_path)
    app = program.create_app()
    request = http_request("POST", *app.request())
    with contextlib.ExitStack() as held:
        program.start()
        large = [status(number, description="x" * 15_000) for number in range(60)]
        program.feed(app, large)
        for half in (request[:20], request[:-10]):
            held.enter_context(program.connect()).send(half)
        deaf = held.enter_context(socket.socket())
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect((program.host, program.port))
        for _ in range(8):  # more than the kernel holds for us
            deaf.sendall(http_request("POST", *app.request(), ["Idempotency-Key: k"]))
        program.until(lambda: program.waiting(app) == 0)
        other = held.enter_context(contextlib.closing(sqlite3.connect(tmp_path / "mailboxes.db")))
        other.execute("BEGIN IMMEDIATE")
        batch = json.dumps(statuses(1)).encode()
        bearer = [f"Authorization: Bearer {program.token}", "Content-Type: application/json"]
        target = f"/ingest/{app.sdkappid}/delivery-statuses"
        held.enter_context(program.connect()).send(http_request("POST", target, batch, bearer))
        assert program.http.get("/readyz").status_code == 200
        assert program.process is not None
        program.process.terminate()
        # Twice as long, as it once took, is no matter of a busy machine.
        assert ends_after_s(program.process) < 1.5 * limits.DRAIN_DEADLINE_S
        assert program.stop() == 0
    with program:
        assert program.pull(app, key="k").data == large, "what was cut can be had again"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_term_ends_a_server_that_can_start_no_thread(tmp_path: Path, workers: str) -> None:
    """It has all the memory that it may have."""
    program = Program(tmp_path, "--workers", workers)
    program.start()
    for process in program.processes():
        status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
        [used_kib] = re.findall(r"(?m)^VmSize:\s+(\d+)", status)
        most = (int(used_kib) + 1024) * 1024  # less than a thread's stack
        resource.prlimit(process, resource.RLIMIT_AS, (most, most))
    assert program.stop() == 0
    assert "Exception" not in program.log()


def test_a_stop_just_after_the_start_leaves_no_chore_that_was_never_begun() -> None:
    async def chore() -> None:
        await asyncio.sleep(0)

    class Stopped(Server):
        async def _work(self) -> None:
            pass

    begun = chore()
    asyncio.run(Stopped(ServeOptions(""))._work_beside([begun]))
    assert inspect.getcoroutinestate(begun) == inspect.CORO_CLOSED


def test_log_that_nobody_reads_holds_up_nothing(tmp_path: Path) -> None:
    """Start, calls and stop go on, and the figures say what the log could not."""
    program = Program(tmp_path)
    app = program.create_app()
    read, write = os.pipe()
    with os.fdopen(read, "rb"), os.fdopen(write, "wb") as full:
        os.set_blocking(write, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(write, b"x" * 4096)
        os.set_blocking(write, True)
        program.start(stderr=full)
        refused = 0

        def some_are_summed() -> bool:  # those of one second, however long they take here
            nonlocal refused
            for _ in range(10):
                assert program.post(*app.request(at=0)).result == 1021
            refused += 10
            return program.metrics()['pullstatus_log_lines_total{fate="summed"}'] > 0

        program.until(some_are_summed)
        program.feed(app, statuses(1))
        assert len(program.pull(app).data) == 1
        figures = program.metrics()
        assert figures['pullstatus_pulls_total{result="1021"}'] == refused
        assert figures['pullstatus_log_lines_total{fate="written"}'] == 0
        assert program.stop() == 0


def test_stop_while_the_store_opens_is_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is served then, and the store is closed again."""
    opening, go_on = asyncio.Event(), asyncio.Event()
    stores: list[store.Store] = []

    async def slowly(*arguments: Any, **named: Any) -> store.Store:  # noqa: ANN401
        opening.set()
        await go_on.wait()
        stores.append(await store.open_store(*arguments, **named))
        return stores[0]

    async def play() -> None:
        monkeypatch.setattr(serve, "open_store", slowly)
        url = f"sqlite:///{tmp_path}/mailboxes.db?commits=thread"
        server = Server(ServeOptions(url, port=0))
        running = asyncio.create_task(server.run())
        await opening.wait()
        server.stop()
        go_on.set()
        await asyncio.wait_for(running, PATIENCE_S)
        assert not server.started.is_set()
        with pytest.raises(Exception, match="no more work"):
            await stores[0].change(store.Change("a", b"b", None))

    asyncio.run(play())


NOT_HEARD = [
    signal.SIGUSR2,
    signal.SIGALRM,
    signal.SIGVTALRM,
    signal.SIGPROF,
    signal.SIGIO,
    signal.SIGSTKFLT,
    *(set(range(signal.SIGRTMIN, signal.SIGRTMAX + 1)) - {signal.SIGRTMIN + 3}),
]


@contextlib.contextmanager
def serving(
    folder: Path, arguments: list[str], **environment: str
) -> Iterator[tuple[subprocess.Popen[bytes], tuple[str, int]]]:
    """A server that has begun, with its address; what is left of its session is killed."""
    with subprocess.Popen(
        [COMMAND, *arguments, "--port", "0"],
        cwd=folder,
        env=clean_environment() | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            yield process, _address(process.stdout.fileno())
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("arguments", "hangs_up"), [(["serve"], False), (["emulate"], True), (["demo"], True)]
)
def test_no_signal_but_those_that_stop_ends_a_server(
    tmp_path: Path, arguments: list[str], *, hangs_up: bool
) -> None:
    """Sent to all processes of it, as a terminal or a service manager does."""
    with serving(tmp_path, arguments) as (process, address):
        for number in (signal.SIGUSR1, *NOT_HEARD, signal.SIGUSR1):
            os.killpg(process.pid, number)
        if not hangs_up:
            os.killpg(process.pid, signal.SIGHUP)
        with contextlib.closing(socket.create_connection(address, PATIENCE_S)) as peer:
            peer.sendall(b"GET /readyz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert peer.recv(1000).startswith(b"HTTP/1.1 200")
        os.killpg(process.pid, signal.SIGHUP if hangs_up else signal.SIGTERM)
        _, told = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, told


@pytest.mark.parametrize(
    "arguments", [["serve"], ["serve", "--workers", "2"], ["emulate"], ["demo"]]
)
def test_signals_behind_the_one_that_stops_change_nothing_about_the_end(
    tmp_path: Path, arguments: list[str]
) -> None:
    """Until the process is gone, which still closes its loop and removes what was temporary."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with serving(tmp_path, arguments, TMPDIR=str(temporary)) as (process, _):
        process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + PATIENCE_S
        while process.poll() is None and time.monotonic() < deadline:
            for number in (signal.SIGUSR2, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                process.send_signal(number)
            time.sleep(0.003)
        _, told = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, told
        assert b"Traceback" not in told
        assert not list(temporary.iterdir())


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGPWR, 0), (signal.SIGRTMIN + 3, 0), (signal.SIGXCPU, 70)]
)
def test_what_stops_a_container_stops_the_server_cleanly(
    tmp_path: Path, number: int, status: int, workers: str
) -> None:
    """Sent to all processes of it, which end no sooner than it does.

    One whose processor time is used up is to be started anew.
    """
    program = Program(tmp_path, "--workers", workers)
    program.start()
    for process in program.processes():
        os.kill(process, number)
    assert program.process is not None
    assert program.process.wait(PATIENCE_S) == status
    program.stop()
    [stopped] = logged(program, "stopped")
    assert stopped["failed"] is (status != 0)
    assert len(logged(program, "processor time used up")) == (number == signal.SIGXCPU)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_process_that_may_use_no_more_of_the_processor_has_the_server_stop(
    tmp_path: Path, workers: str
) -> None:
    """The kernel tells only the one that the limit is of: here the store's or a worker's."""
    program = Program(tmp_path, "--workers", workers)
    program.start()
    assert program.process is not None
    [*others] = set(program.processes()) - {program.process.pid}
    os.kill(max(others), signal.SIGXCPU)
    assert program.process.wait(PATIENCE_S) == 70
    program.stop()
    [used_up] = logged(program, "processor time used up")
    assert "to be started anew" in used_up["reason"]
    assert logged(program, "stopped")[0]["failed"] is True


def _address(output: int) -> tuple[str, int]:
    """Where it listens, from what it prints."""
    said, deadline = b"", time.monotonic() + PATIENCE_S
    while not (found := re.search(rb"http://([0-9.]+):([0-9]+)[^0-9]", said)):
        readable, _, _ = select.select([output], [], [], deadline - time.monotonic())
        assert readable, said
        piece = os.read(output, 10_000)
        assert piece, said
        said += piece
    return found[1].decode(), int(found[2])


# --- reading anew ---------------------------------------------------------------------------------


class Encrypted:
    """A server with TLS and a configuration file, both of which can be changed under it."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        self.certificate, self.key = folder / "cert.pem", folder / "key.pem"
        self.settings = folder / "settings.toml"
        self.renew()
        self.set('retention-days = 7\nhost = "127.0.0.1"\n')
        tls = ["--tls-certificate", str(self.certificate), "--tls-key", str(self.key)]
        self.program = Program(folder, "--config", str(self.settings), *tls)

    def renew(self) -> None:
        """Put a new certificate in place of the one that is there."""
        issued = self.authority.issue_cert("127.0.0.1", "localhost")
        issued.private_key_pem.write_to_path(self.key)
        self.certificate.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))

    def set(self, settings: str) -> None:
        self.settings.write_text(settings, encoding="utf-8")

    def hang_up(self, event: str) -> dict[str, Any]:
        """Send HUP and wait until the log tells what came of it."""
        before = len(logged(self.program, event))
        assert self.program.process is not None
        self.program.process.send_signal(signal.SIGHUP)
        self.program.until(lambda: len(logged(self.program, event)) > before)
        return logged(self.program, event)[-1]

    @contextlib.contextmanager
    def connect(self, name: str | None = "localhost") -> Iterator[ssl.SSLSocket]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        self.authority.configure_trust(context)
        with (
            socket.create_connection((self.program.host, self.program.port), PATIENCE_S) as raw,
            context.wrap_socket(raw, server_hostname=name) as wire,
        ):
            yield wire

    def shown(self, name: str | None = "localhost") -> bytes | None:
        """The certificate of a new handshake."""
        with self.connect(name) as wire:
            assert ready(wire)
            return wire.getpeercert(binary_form=True)

    def issued(self) -> bytes:
        """The certificate in the file."""
        return ssl.PEM_cert_to_DER_cert(self.certificate.read_text(encoding="ascii"))


def ready(wire: ssl.SSLSocket) -> bool:
    wire.sendall(http_request("GET", "/readyz"))
    said = b""
    while b"}" not in said:
        piece = wire.recv(1000)
        assert piece, "closed"
        said += piece
    return said.startswith(b"HTTP/1.1 200")


@pytest.fixture
def encrypted(tmp_path: Path) -> Iterator[Encrypted]:
    made = Encrypted(tmp_path)
    with made.program:
        yield made


def test_hangup_renews_the_certificate_for_new_handshakes(encrypted: Encrypted) -> None:
    """Also for a client that names no host; connections that are open go on."""
    first = encrypted.issued()
    with encrypted.connect() as open_before:
        assert ready(open_before)
        encrypted.renew()
        assert encrypted.shown() == first, "nobody has said so yet"
        encrypted.hang_up("reloaded")
        assert encrypted.issued() != first
        assert encrypted.shown() == encrypted.issued()
        assert encrypted.shown(None) == encrypted.issued()
        assert ready(open_before)


def wrong_key(files: Encrypted) -> None:
    trustme.CA().issue_cert("127.0.0.1").private_key_pem.write_to_path(files.key)


BAD_FILES: dict[str, Callable[[Encrypted], object]] = {
    "no certificate": lambda files: files.certificate.write_text("nonsense"),
    "half a certificate": lambda files: files.certificate.write_bytes(
        files.certificate.read_bytes()[:300]
    ),
    "key of another": wrong_key,
    "no key": lambda files: files.key.unlink(),
    "settings that are none": lambda files: files.set("retention-days = 'x'"),
    "settings with a stranger": lambda files: files.set("ports = 5"),
}


def test_hangup_with_bad_files_changes_nothing_and_is_logged(encrypted: Encrypted) -> None:
    first = encrypted.issued()
    good = {path: path.read_bytes() for path in (encrypted.certificate, encrypted.key)}
    settings = encrypted.settings.read_text(encoding="utf-8")
    for name, spoil in BAD_FILES.items():
        spoil(encrypted)
        line = encrypted.hang_up("reload failed")
        assert line["level"] == "error", name
        assert "BEGIN" not in line["reason"], name
        assert encrypted.shown() == first, name
        for path, content in good.items():
            path.write_bytes(content)
        encrypted.set(settings)
    encrypted.renew()
    encrypted.hang_up("reloaded")
    assert encrypted.shown() == encrypted.issued()


def test_hangup_with_settings_that_cannot_be_read_again_changes_nothing(
    encrypted: Encrypted,
) -> None:
    """What a pipe held has been read, so that all in it would be the default from then on."""
    encrypted.settings.unlink()
    assert "No such file" in encrypted.hang_up("reload failed")["reason"]
    os.mkfifo(encrypted.settings)
    assert "it is no ordinary file" in encrypted.hang_up("reload failed")["reason"]
    encrypted.settings.unlink()
    encrypted.set('retention-days = 7\nhost = "127.0.0.1"\n')
    assert encrypted.hang_up("reloaded")["changed"] == [], "all was in force"


def test_hangup_of_a_server_whose_settings_came_through_a_pipe_keeps_them(tmp_path: Path) -> None:
    """As `<(...)` of a shell makes one."""
    through = f'exec {COMMAND} "$@" --config <(echo retention-days = 365)'
    with Program(tmp_path, command=("bash", "-c", through, "bash")) as program:
        assert program.process is not None
        program.process.send_signal(signal.SIGHUP)
        program.until(lambda: logged(program, "reload failed") or logged(program, "reloaded"))
        [failed] = logged(program, "reload failed")
        assert "cannot be read anew: it is no ordinary file" in failed["reason"]
        assert logged(program, "started")[-1]["retention_days"] == 365
        assert not logged(program, "reloaded")


def test_hangup_takes_settings_in_and_names_those_that_need_a_restart(encrypted: Encrypted) -> None:
    encrypted.set('retention-days = 3\nport = 1\nhost = "::1"\n')
    # The port was given by a flag, which wins.
    assert encrypted.hang_up("restart needed")["changed"] == ["host"]
    assert logged(encrypted.program, "reloaded")[-1]["changed"] == ["retention_days"]


def test_hangup_with_a_setting_that_is_none_names_it(encrypted: Encrypted) -> None:
    for value in ("'x'", "true", "nan", "1e12", "2026-11-30"):
        encrypted.set(f"retention-days = {value}")
        assert "retention-days" in encrypted.hang_up("reload failed")["reason"], value
