"""Runs commands in hostile surroundings, many a second: a process that has everything loaded forks.

    test --(line of JSON: arguments, what surrounds them)--> this program
         <-(line of JSON: what became of it)---------------     |
                                                               fork: surroundings, then the command

A command's process shares nothing with the others but what is loaded. A real start of the
interpreter takes 50 times as long; `tests/e2e/test_surroundings.py` has some of these as well.
"""

from __future__ import annotations

import codecs
import contextlib
import gc
import importlib
import os
import pkgutil
import pwd
import resource
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import click
import msgspec

import pullstatus

DEADLINE_S: Final = 240.0
"""Within which a command must end, or a server listen, on a machine with much else to do."""

PLATFORM: Final = {
    "PULLSTATUS_PORT": "tcp://10.43.214.28:8080",
    "PULLSTATUS_SERVICE_HOST": "10.43.214.28",
    "PULLSTATUS_SERVICE_PORT": "8080",
    "PULLSTATUS_SERVICE_PORT_HTTP": "8080",
    "PULLSTATUS_PORT_8080_TCP": "tcp://10.43.214.28:8080",
    "PULLSTATUS_PORT_8080_TCP_PROTO": "tcp",
    "PULLSTATUS_PORT_8080_TCP_PORT": "8080",
    "PULLSTATUS_PORT_8080_TCP_ADDR": "10.43.214.28",
    "PULLSTATUS_NAME": "/web/pullstatus",
    "PULLSTATUS_ENV_PATH": "/usr/bin",
}
"""What Kubernetes makes of a Service called `pullstatus`, and Docker of a link to such a one."""


class Task(msgspec.Struct, frozen=True):
    """One command, and what surrounds it. `port`: it listens there until TERM."""

    arguments: list[str]
    surroundings: str
    folder: str
    port: int | None
    environment: dict[str, str]


class Outcome(msgspec.Struct, frozen=True):
    """What became of it.

    Attributes:
        status: its exit status; negative: the signal that ended it; None: it hung.
        said: all that it printed, on both streams.
        raised: the traceback of what got out of it, "" if nothing did.
        served: the server accepted a connection.
    """

    status: int | None
    said: str
    raised: str
    served: bool


# --- the surroundings -----------------------------------------------------------------------------


def _close(numbers: tuple[int, ...]) -> Callable[[Path], None]:
    def apply(_folder: Path) -> None:
        for number in numbers:
            os.close(number)
            name = ("stdin", "stdout", "stderr")[number]
            # As an interpreter that finds them closed at its start has them.
            setattr(sys, name, None)
            setattr(sys, f"__{name}__", None)

    return apply


def _set(**variables: str | None) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        for name, value in variables.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value.replace("FOLDER", str(folder))

    return apply


def _live_in(folder: Path) -> None:
    """Nothing may be written into the home folder of whoever runs the tests."""
    known = list(pwd.getpwuid(os.getuid()))
    known[5] = str(folder)
    pwd.getpwuid = lambda _number: pwd.struct_passwd(known)


def _no_user(_folder: Path) -> None:
    """As in a container that runs under a number."""

    def unknown(_key: object) -> Any:  # noqa: ANN401 - never returns
        raise KeyError("getpwuid(): uid not found: 54321")

    pwd.getpwuid = unknown
    for name in ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME", "XDG_STATE_HOME"):
        os.environ.pop(name, None)


def _deleted_folder(folder: Path) -> None:
    gone = folder / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()


def _undecodable_folder(folder: Path) -> None:
    name = os.fsencode(folder) + b"/\xff\xfe"
    os.mkdir(name)  # noqa: PTH102 - as a path, this name is not printable
    os.chdir(name)


def _undecodable_variables(folder: Path) -> None:
    for name in ("HOME", "USER", "LOGNAME", "TMPDIR", "XDG_STATE_HOME", "NO_PROXY", "LANG"):
        os.environb[name.encode()] = os.fsencode(folder / "made") + b"\xff\xfe"


def _unusable_temporary_folder(_folder: Path) -> None:
    import tempfile

    tempfile.tempdir = None

    def nowhere() -> list[str]:
        return ["/proc/nowhere"]

    tempfile._candidate_tempdir_list = nowhere  # type: ignore[attr-defined]


def _output_to(path: str, *numbers: int) -> Callable[[Path], None]:
    def apply(_folder: Path) -> None:
        opened = os.open(path, os.O_WRONLY)
        for number in numbers:
            os.dup2(opened, number)

    return apply


def _broken_pipe(_folder: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    os.dup2(writing, 1)


def _few_descriptors(count: int) -> Callable[[Path], None]:
    def apply(_folder: Path) -> None:
        highest = max(int(name) for name in os.listdir("/proc/self/fd"))  # noqa: PTH208
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + count, highest + count))

    return apply


def _small_files(_folder: Path) -> None:
    """No file may grow: what a quota or a full disk does."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))


def _stranger(folder: Path) -> None:
    """A user who may neither read nor write where we are."""
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    os.chdir(closed)
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(54321, 54321, 54321)
        os.setresuid(54321, 54321, 54321)
    else:
        closed.chmod(0)


def _narrow_output(encoding: str) -> Callable[[Path], None]:
    def apply(_folder: Path) -> None:
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(encoding=encoding)  # type: ignore[union-attr]
        os.environ.update(LANG="C", LC_ALL="POSIX", PYTHONIOENCODING=encoding)

    return apply


_VARIABLES: Final[dict[str, dict[str, str | None]]] = {
    "a kubernetes service of our name, no home, a socks proxy, no certificates": {
        **PLATFORM,
        "HOME": None,
        "XDG_STATE_HOME": None,
        "ALL_PROXY": "socks://127.0.0.1:7890/",
        "all_proxy": "socks5h://127.0.0.1:9",
        "SSL_CERT_FILE": "/proc/none.pem",
        "SSL_CERT_DIR": "/proc/none",
    },
    "a home that is nowhere, garbage for locale, terminal, proxies, certificates": {
        "HOME": "FOLDER/records.ndjson/home",
        "XDG_STATE_HOME": "FOLDER/records.ndjson/home",
        "LANG": "xx_YY.nothing",
        "LC_ALL": "\x01",
        "LANGUAGE": "%s",
        "TZ": "//",
        "COLUMNS": "-3",
        "LINES": "x",
        "TERM": "%s",
        "HTTP_PROXY": "http://[::1",
        "HTTPS_PROXY": "%",
        "ALL_PROXY": "tcp://1",
        "SSL_CERT_FILE": "/dev/null",
        "SSLKEYLOGFILE": "FOLDER/records.ndjson/keys",
    },
    "empty variables, one column, a proxy of nobody with odd exceptions": {
        "HOME": "",
        "XDG_STATE_HOME": "",
        "TMPDIR": "",
        "LANG": "",
        "TERM": "",
        "COLUMNS": "1",
        "LINES": "1",
        "FORCE_COLOR": "1",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "NO_PROXY": "localhost,127.0.0.1,[::1],fe80::/10,[,*.x:y,\u2488",
    },
}

SURROUNDINGS: Final[dict[str, Callable[[Path], None]]] = {
    "ordinary": lambda _folder: None,
    **{
        "closed " + " ".join(map(str, numbers)): _close(numbers)
        for count in (1, 2, 3)
        for numbers in combinations(range(3), count)
    },
    **{name: _set(**variables) for name, variables in _VARIABLES.items()},
    "no user": _no_user,
    "deleted folder": _deleted_folder,
    "undecodable folder": _undecodable_folder,
    "undecodable variables": _undecodable_variables,
    "no temporary folder": _unusable_temporary_folder,
    "a folder of somebody else": _stranger,
    "full output": _output_to("/dev/full", 1),
    "full output and errors": _output_to("/dev/full", 1, 2),
    "broken pipe": _broken_pipe,
    "5 descriptors": _few_descriptors(5),
    "12 descriptors": _few_descriptors(12),
    "no room": _small_files,
    "ascii": _narrow_output("ascii"),
    "latin-1": _narrow_output("latin-1"),
}


# --- the commands ---------------------------------------------------------------------------------


def leaves(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command of a tree, as the words that name it."""
    if not isinstance(command, click.Group):
        yield path
        return
    for name in sorted(command.commands):
        yield from leaves(command.commands[name], (*path, name))


# --- what the test holds --------------------------------------------------------------------------


class Forks:
    """The program, for a test."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.surroundings"],
            cwd=Path(__file__).parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def run(self, task: Task) -> Outcome:
        """Run one command."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(msgspec.json.encode(task) + b"\n")
        self._process.stdin.flush()
        return msgspec.json.decode(self._process.stdout.readline(), type=Outcome)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()


# --- the program ----------------------------------------------------------------------------------


def _command(task: Task) -> int:
    """In the fork: everything up to the exit status."""
    from pullstatus.cli import main

    folder = Path(task.folder)
    os.environ.update(task.environment)
    _live_in(folder)
    os.chdir(folder)
    os.setsid()  # what it starts is ended with it
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    report = os.open(folder / "raised", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    status = 0
    try:
        SURROUNDINGS[task.surroundings](folder)
        main(task.arguments)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001 - what a traceback would be
        os.write(report, traceback.format_exc().encode(errors="backslashreplace"))
        status = 1
    # What the interpreter does at its end, and would tell a person.
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            os.write(report, traceback.format_exc().encode(errors="backslashreplace"))
    return status


def _watch(pid: int, task: Task) -> Outcome:
    served, status = False, None
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        ended, how = os.waitpid(pid, os.WNOHANG)
        if ended:
            status = os.waitstatus_to_exitcode(how)
            break
        if task.port is not None and not served and accepts(task.port):
            served = True
            os.kill(pid, signal.SIGTERM)
        time.sleep(0.002)
    else:
        with contextlib.suppress(ProcessLookupError):  # no group of its own yet
            os.killpg(pid, signal.SIGKILL)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    folder = Path(task.folder)
    said, raised = _text(folder / "out") + _text(folder / "err"), _text(folder / "raised")
    return Outcome(status, said, raised, served)


def _text(path: Path) -> str:
    """What was written there; nothing by a command that ended before it could write."""
    try:
        return path.read_text("utf-8", "replace")
    except FileNotFoundError:
        return ""


def accepts(port: int) -> bool:
    """Whether somebody answers there; a server that only listens may not yet take TERM."""
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as connection:
            connection.settimeout(1)
            connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            # A client that takes the port it wants to reach as its own reaches itself.
            return connection.recv(16).startswith(b"HTTP/1.1")
    except OSError:
        return False


def main() -> None:
    """Run the tasks that come, one after the other."""
    from pullstatus.cli import main as program

    for found in pkgutil.walk_packages(pullstatus.__path__, "pullstatus."):
        importlib.import_module(found.name)
    assert list(leaves(program))  # with all that it is made of
    for encoding in ("utf-16-be", "utf-16-le", "utf-8-sig", "latin-1", "idna"):
        codecs.lookup(encoding)  # whoever may not read our folders may not read the interpreter's
    gc.collect()
    gc.freeze()  # or each fork would look through all that is loaded, and copy it by that
    for line in sys.stdin.buffer:
        task = msgspec.json.decode(line, type=Task)
        pid = os.fork()
        if not pid:
            os._exit(_command(task))
        sys.stdout.buffer.write(msgspec.json.encode(_watch(pid, task)) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
