"""Starts the program from a process that has all of it loaded: most of a start is loading modules.

    test --(words, environment, descriptors)--> this process, which forks twice
         <-(the process's number)-------------     |          |
                                                   ends       the program: a child of the test
                                                              |
                                                              forks: what will be its store's

A test sees what it sees of any start: `fork_exec` is in the place of what `subprocess` calls
(`conftest.py`). The process is the test's own child, since the kernel gives what a process leaves
behind to the ancestor that has asked for it, and it ends as interpreters do. Only for `ps` its
command line is another. What this cannot give, such as other settings of Python, starts anew; so
does all that is started by a test which is marked `anew`. A server has processes set aside, one for
each that it will start itself.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import fcntl
import gc
import importlib
import io
import itertools
import os
import pickle
import pkgutil
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import CodeType
from typing import Any, Final, NamedTuple

ROOT: Final = Path(__file__).parents[1]
COMMAND: Final = str(Path(sys.executable).with_name("pullstatus"))
MESSAGE_BYTES_MAX: Final = 100_000
DESCRIPTORS_MAX: Final = 16
READ_AT_START: Final = (  # by the interpreter, by libraries, and by modules as they are loaded
    *(b"PYTHON", b"LC_", b"LANG", b"LD_", b"MALLOC_", b"OPENSSL_", b"COV"),
    *(b"NO_COLOR", b"FORCE_COLOR", b"PROMETHEUS_", b"PSYCOPG_"),
)
ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SUBREAPER: Final = 36  # PR_SET_CHILD_SUBREAPER of prctl(2)

Environment = Mapping[bytes, bytes]


class Start(NamedTuple):
    """What is to be started; -1: as the test has it.

    Attributes:
        numbers: what its descriptors are called, 0 to 2 first.
        session: whether it is to lead one.
        group: of processes; 0: its own.
        waiting: signals that wait in it, as they do where it is started.
    """

    words: list[str]
    environment: Environment
    folder: str
    numbers: list[int]
    umask: int
    session: bool
    group: int
    parent: int
    waiting: list[int]


# --- what a test has ------------------------------------------------------------------------------


class Warm:
    """The process, begun with the first start of the program; it ends with ours.

    Attributes:
        anew: have everything start anew.
    """

    def __init__(self) -> None:
        self.anew = False
        self._lock = threading.Lock()
        self._end: socket.socket | None = None
        self._settings: Environment = {}

    def gives(self, start: Start) -> bool:
        """Whether this is the program, and what is read at a start is as it was at its own."""
        if self.anew or not _is_the_program(start.words):
            return False
        with self._lock:
            if self._end is None:
                self._end = self._begin()
        return _read_at_start(start.environment) == self._settings

    def start(self, start: Start, descriptors: Sequence[int]) -> int:
        """Returns the number of the process, once it may get signals."""
        assert self._end is not None
        prctl = ctypes.CDLL(None).prctl
        with self._lock:
            prctl(SUBREAPER, 1)
            try:
                return _ask(self._end, start, descriptors)
            finally:
                prctl(SUBREAPER, 0)

    def _begin(self) -> socket.socket:
        self._settings = _read_at_start(os.environb)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            number = theirs.fileno()
            code = f"from tests.warm import command, run; run(command({number}), globals())"
            process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, pass_fds=[number])
        for end in (process.wait, process.kill, ours.close):  # the last is the first to be done
            atexit.register(end)
        return ours


class Spares:
    """Processes that a server has beside it, for what it starts itself: its store's, its workers.

    They are what is started, and children of the server from the first. Until then they do nothing
    but wait, and end with it.
    """

    def __init__(self) -> None:
        self._ends: list[socket.socket] = []
        self._settings = _read_at_start(os.environb)

    def set_aside(self) -> CodeType | None:
        """One more; returns in that one, once it is asked for, what it is to do."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if os.fork():
            theirs.close()
            self._ends.append(ours)
            return None
        for due in ENDING:
            signal.signal(due, signal.SIG_IGN)
        for end in (ours, *self._ends):
            end.detach()  # closed below
        nothing = os.open(os.devnull, os.O_RDWR)
        with _name([nothing] * 3, range(3), theirs) as end:
            message, descriptors, _, _ = socket.recv_fds(end, MESSAGE_BYTES_MAX, DESCRIPTORS_MAX)
            if not message:  # the server has ended
                os._exit(0)
            return _begin(message, descriptors, end)

    def gives(self, start: Start) -> bool:
        """As `Warm.gives`."""
        wanted = start.words[1:3] == ["-P", "-c"] and _is_the_program(start.words)
        return wanted and bool(self._ends) and _read_at_start(start.environment) == self._settings

    def start(self, start: Start, descriptors: Sequence[int]) -> int:
        """As `Warm.start`."""
        with self._ends.pop() as end:
            return _ask(end, start, descriptors)


def _ask(end: socket.socket, start: Start, descriptors: Sequence[int]) -> int:
    socket.send_fds(end, [pickle.dumps(start)], descriptors)
    told = end.recv(MESSAGE_BYTES_MAX)
    assert told.isdigit(), told.decode()
    return int(told)


WARM: Final = Warm()
_starts: Warm | Spares = WARM  # in a server, what it has aside
_ANEW: Final[Callable[..., int]] = subprocess._fork_exec  # type: ignore[attr-defined]


def fork_exec(*how: Any) -> int:  # noqa: ANN401 - as in the standard library
    """Start a process as `_posixsubprocess.fork_exec` does; returns its number."""
    start, descriptors = _asked(*how)
    if start is not None and _starts.gives(start):
        return _starts.start(start, descriptors)
    return _ANEW(*how)


def _asked(
    words: Sequence[Any],
    _executables: Sequence[bytes],
    close_fds: bool,
    keep: Sequence[int],
    folder: Any,  # noqa: ANN401
    variables: Sequence[bytes] | None,
    stdin: int,
    _stdin: int,
    _stdout: int,
    stdout: int,
    _stderr: int,
    stderr: int,
    _trouble: int,
    trouble: int,
    restore_signals: bool,
    session: bool,
    group: int,
    gid: object,
    gids: object,
    uid: object,
    umask: int,
    prepare: object,
    *_more: object,
) -> tuple[Start | None, list[int]]:
    """What is to be started, and its descriptors; None: what we know nothing of."""
    where = Path(os.fsdecode(folder or "")).absolute()
    others = prepare, uid, gid, gids
    if not (close_fds and restore_signals and where.is_dir() and others == (None,) * 4):
        return None, []
    passed = sorted({*keep} - {trouble})
    start = Start(
        words=list(map(os.fsdecode, words)),
        environment=dict(os.environb if variables is None else map(_variable, variables)),
        folder=str(where),
        numbers=[0, 1, 2, *passed],
        umask=umask,
        session=session,
        group=group,
        parent=os.getpid(),
        waiting=list(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, ()))),
    )
    streams = enumerate((stdin, stdout, stderr))
    return start, [own if given < 0 else given for own, given in streams] + passed


def _variable(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b"=")
    return name, value


def _is_the_program(words: Sequence[str]) -> bool:
    """Whether it is ours: the command, or Python with a text that speaks of it."""
    return words[0] == COMMAND or (words[0] == sys.executable and "pullstatus" in _text(words))


def _text(words: Sequence[str]) -> str:
    """What is after -c, which nothing but -P may precede; "" without."""
    match words[1:4]:
        case ["-c", text, *_] | ["-P", "-c", text]:
            return text
    return ""


def _read_at_start(environment: Environment) -> Environment:
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(READ_AT_START) and name != b"PYTHONUNBUFFERED"
    }


# --- the process ----------------------------------------------------------------------------------


def command(number: int) -> CodeType:
    """Load all there is, then fork for each start; returns in the forked, with what it is to do."""
    import pullstatus

    for found in pkgutil.walk_packages(pullstatus.__path__, "pullstatus."):
        if found.name != "pullstatus.emulator.pytest_plugin":  # which needs pytest
            importlib.import_module(found.name)
    assert len(os.listdir("/proc/self/task")) == 1  # noqa: PTH208 - others would not be forked
    for due in ENDING:
        signal.signal(due, signal.SIG_IGN)  # meant for what was started
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # whoever was the first to start anything
    gc.collect()
    gc.freeze()  # or each fork would look through all that is loaded, and copy it by that
    with socket.socket(fileno=number) as end:
        while True:
            message, descriptors, _, _ = socket.recv_fds(end, MESSAGE_BYTES_MAX, DESCRIPTORS_MAX)
            if not message:  # the test has ended
                sys.exit()
            first = os.fork()
            if not first:
                if os.fork():
                    os._exit(0)
                return _begin(message, descriptors, end)
            os.waitpid(first, 0)
            for descriptor in descriptors:
                os.close(descriptor)


def _begin(message: bytes, descriptors: Sequence[int], end: socket.socket) -> CodeType:
    """Be what was asked for, and set aside what that will need."""
    start: Start = pickle.loads(message)
    try:
        code = _become(start, descriptors, end)
    except BaseException:  # noqa: BLE001 - what it is, who has asked is told
        end.send(traceback.format_exc().encode())
        os._exit(1)
    return _set_aside(_needed(start.words)) or code


def _needed(words: Sequence[str]) -> int:
    """How many processes a server over files starts: its store's, and the workers it is told."""
    ours = words[3:] if _text(words) else words[1:]
    if ours[:1] != ["serve"] or not any("sqlite:" in word for word in ours):
        return 0
    following = dict(itertools.pairwise(ours))
    workers = int(following.get("--workers", "1"))
    return 1 + workers * (workers > 1)


def _set_aside(count: int) -> CodeType | None:
    global _starts  # noqa: PLW0603 - this process is another from here on
    _starts = spares = Spares()
    subprocess._fork_exec = fork_exec  # type: ignore[attr-defined]
    for _ in range(count):
        if code := spares.set_aside():
            return code
    return None


def run(code: CodeType, namespace: dict[str, Any]) -> None:
    """Be the interpreter that runs it, to the end.

    Any end but the usual one is left to the interpreter itself, which would take apart all that is
    loaded: two thirds of what a short command takes.
    """
    try:
        exec(code, namespace)
    except SystemExit as end:
        status = 0 if end.code is None else end.code
        if not isinstance(status, int):
            raise
    else:
        status = 0
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()
    os._exit(status & 0xFF)


def _become(start: Start, descriptors: Sequence[int], end: socket.socket) -> CodeType:
    """Be what is to be started, and say so; returns what that does."""
    if start.session:
        os.setsid()
    if start.group >= 0:
        os.setpgid(0, start.group)
    while os.getppid() != start.parent:
        time.sleep(0.0005)
    for name in dir(resource):
        if name.startswith("RLIMIT_"):
            which = getattr(resource, name)
            limits = resource.prlimit(start.parent, which)
            if limits != resource.getrlimit(which):
                resource.setrlimit(which, limits)
    os.umask(start.umask if start.umask >= 0 else _umask_of(start.parent))
    os.chdir(start.folder)
    os.environb.clear()
    os.environb.update(start.environment)
    time.tzset()
    signal.pthread_sigmask(signal.SIG_SETMASK, start.waiting)
    for due in ENDING:
        signal.signal(due, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    code = _code(start.words)
    end = _name(descriptors, start.numbers, end)
    _open_streams()
    with end:
        end.send(b"%d" % os.getpid())
    return code


def _umask_of(process: int) -> int:
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8", errors="replace")
    return int(status.partition("\nUmask:")[2].split(maxsplit=1)[0], 8)


def _name(descriptors: Sequence[int], numbers: Sequence[int], end: socket.socket) -> socket.socket:
    """Give descriptors their numbers, and close all others; returns `end` out of their way."""
    beyond = max(*numbers, *descriptors) + 1
    moved = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, beyond) for descriptor in descriptors]
    end = socket.socket(fileno=fcntl.fcntl(end.detach(), fcntl.F_DUPFD_CLOEXEC, beyond))
    for descriptor, number in zip(moved, numbers, strict=True):
        os.dup2(descriptor, number)
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        if int(name) not in (*numbers, end.fileno()):
            with contextlib.suppress(OSError):  # that of the listing
                os.close(int(name))
    return end


def _open_streams() -> None:
    """Have the standard streams as an interpreter has them that begins."""
    buffered = not os.environ.get("PYTHONUNBUFFERED")
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        before = getattr(sys, name)
        binary = open(  # noqa: SIM115 - for the whole life of the process
            number, "wb" if number else "rb", -1 if buffered or not number else 0, closefd=False
        )
        stream = io.TextIOWrapper(
            binary,
            before.encoding,
            before.errors,
            newline="\n",
            line_buffering=buffered and (number == 2 or os.isatty(number)),
            write_through=not buffered,
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _code(words: Sequence[str]) -> CodeType:
    """What the interpreter is to run: a file, or the text after -c."""
    if text := _text(words):
        sys.argv = ["-c", *words[words.index(text) + 1 :]]
        sys.path[:1] = [] if words[1] == "-P" else [""]
        return compile(text, "<string>", "exec")
    sys.argv = list(words)
    sys.path[0] = str(Path(words[0]).parent)
    return compile(Path(words[0]).read_bytes(), words[0], "exec")
