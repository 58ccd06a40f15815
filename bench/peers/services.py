"""The servers of the peers: started on loopback and a temporary folder, durable, tuned, ended.

What is set differs from the defaults only where the manual says so: for durability first (every
answer after a sync), then for speed.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from bench.databases import SETTINGS

START_S = 60.0
POLL_S = 0.05
RABBITMQ = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
AMQP = b"AMQP\x00\x00\x09\x01"  # its port is open before the broker is ready
POSTGRESQL = Path("/usr/lib/postgresql")


class ServiceMissing(Exception):
    """The server is not installed; the text says how to install it."""


class ServiceFailed(Exception):
    """The server did not start."""


class Service(msgspec.Struct, frozen=True):
    """A running server.

    Attributes:
        address: as its backend wants it.
        pids: its processes' roots; none when there is no server of its own.
    """

    address: str
    version: str
    pids: tuple[int, ...]


Start = Callable[[Path, Path], contextlib.AbstractContextManager[Service]]
"""Starts a server: (a folder of its own, the `bin` of the peers' venv)."""


@contextlib.contextmanager
def redis(folder: Path, _programs: Path) -> Iterator[Service]:
    """Redis with an append-only file that is synced before every answer."""
    server = _program("redis-server", "apt-get install redis-server")
    path = folder / "redis.sock"
    settings = ["--port", "0", "--unixsocket", str(path), "--dir", str(folder), "--save", ""]
    # Rewriting the file would compete with the load; what is lost is disk space only.
    settings += ["--appendonly", "yes", "--appendfsync", "always"]
    settings += ["--auto-aof-rewrite-percentage", "0"]
    version = _said(server, "--version").split("v=")[1].split()[0]
    with _running([server, *settings], folder, path.exists) as pid:
        yield Service(str(path), f"Redis {version}", (pid,))


@contextlib.contextmanager
def postgresql(folder: Path, _programs: Path) -> Iterator[Service]:
    """PostgreSQL with `fsync` and `synchronous_commit` on, as they are by default."""
    programs = [*sorted(POSTGRESQL.glob("*/bin"), key=_by_version)]
    if not programs or not (programs[-1] / "postgres").exists():
        raise ServiceMissing("PostgreSQL is not installed: apt-get install postgresql")
    data = folder / "data"
    user = _unprivileged(folder)
    subprocess.run(
        [programs[-1] / "initdb", "-D", data, "-U", "postgres", "--auth", "trust"],
        check=True,
        capture_output=True,
        user=user,
        cwd=folder,
    )
    settings = {
        **SETTINGS,
        "listen_addresses": "",
        "unix_socket_directories": str(folder),
        "max_connections": "40",
    }
    command = [str(programs[-1] / "postgres"), "-D", str(data)]
    for name, value in settings.items():
        command += ["-c", f"{name}={value}"]
    version = _said(str(programs[-1] / "postgres"), "--version").split()[2]
    # PostgreSQL ends at once on INT; on TERM it would wait for the clients.
    with _running(
        command, folder, (folder / ".s.PGSQL.5432").exists, user=user, stop=signal.SIGINT
    ) as pid:
        address = f"postgresql://postgres@/postgres?host={folder}"
        yield Service(address, f"PostgreSQL {version}", (pid,))


@contextlib.contextmanager
def rabbitmq(folder: Path, _programs: Path) -> Iterator[Service]:
    """RabbitMQ; durability is a matter of the queue's type and of confirms."""
    if not RABBITMQ.exists():
        raise ServiceMissing("RabbitMQ is not installed: apt-get install rabbitmq-server")
    port, distribution, names = _free_port(), _free_port(), _free_port()
    environment = {
        "HOME": str(folder),
        "RABBITMQ_NODENAME": "bench@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(distribution),
        "RABBITMQ_MNESIA_BASE": str(folder / "data"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        # A name server of its own, which can be ended with it.
        "ERL_EPMD_PORT": str(names),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
    }
    epmd = _program("epmd", "apt-get install rabbitmq-server")
    with (
        _running([epmd, "-port", str(names)], folder, lambda: _answers(names), environment),
        _running([str(RABBITMQ)], folder, lambda: _answers(port, AMQP), environment) as pid,
    ):
        version = next(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*"), Path("-"))
        yield Service(
            f"amqp://guest:guest@127.0.0.1:{port}/",
            f"RabbitMQ {version.name.rpartition('-')[2]}",
            (pid,),
        )


@contextlib.contextmanager
def jetstream(folder: Path, programs: Path) -> Iterator[Service]:
    """NATS with a stream on disk that is synced before every acknowledgement."""
    server = _program("nats-server", "make bench-peers installs it", programs)
    port = _free_port()
    config = folder / "nats.conf"
    config.write_text(
        f'listen: "127.0.0.1:{port}"\n'
        f'jetstream {{ store_dir: "{folder}", sync_interval: always, max_file_store: 64GB }}\n',
        encoding="utf-8",
    )
    version = _said(server, "--version").split("v")[-1].strip()
    with _running([server, "-c", str(config)], folder, lambda: _answers(port)) as pid:
        yield Service(f"nats://127.0.0.1:{port}", f"NATS {version}", (pid,))


# -- what they share -------------------------------------------------------------------------------


@contextlib.contextmanager
def _running(
    command: Sequence[str],
    folder: Path,
    ready: Callable[[], bool],
    environment: Mapping[str, str] | None = None,
    *,
    user: str | None = None,
    stop: signal.Signals = signal.SIGTERM,
) -> Iterator[int]:
    """A server in a process group of its own, from when it is ready until it has ended."""
    log = folder / f"{Path(command[0]).name}.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            cwd=folder,
            user=user,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + START_S
        while not ready():
            if process.poll() is not None or time.monotonic() > deadline:
                said = log.read_text(encoding="utf-8", errors="replace").strip()[-1000:]
                raise ServiceFailed(f"{command[0]} did not start: {said}")
            time.sleep(POLL_S)
        yield process.pid
    finally:
        if process.poll() is None:
            process.send_signal(stop)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        # Whatever it started and left behind is in its group.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _program(name: str, install: str, folder: Path | None = None) -> str:
    found = shutil.which(name, path=None if folder is None else str(folder))
    if found is None:
        raise ServiceMissing(f"{name} is not installed: {install}")
    return found


def _said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _unprivileged(folder: Path) -> str | None:
    """Who runs a server that refuses to run as root; the folder becomes theirs."""
    if os.geteuid() != 0:
        return None
    name = next(user.pw_name for user in pwd.getpwall() if user.pw_name in ("postgres", "nobody"))
    shutil.chown(folder, user=name)
    return name


def _by_version(programs: Path) -> float:
    return float(programs.parent.name)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _answers(port: int, hello: bytes = b"") -> bool:
    """Whether somebody accepts connections there and, if we say hello, says something."""
    with (
        contextlib.suppress(OSError),
        socket.create_connection(("127.0.0.1", port), timeout=5) as connection,
    ):
        connection.sendall(hello)
        return not hello or bool(connection.recv(1))
    return False
