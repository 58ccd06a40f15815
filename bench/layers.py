"""Which layer of the product a sampled stack belongs to: what its innermost telling frame is.

    server process   sockets, HTTP, checks, the call, records, the mailbox
    store process    verbs, SQLite, its log
    both             packing, and handing operations and answers over

A frame is `function (file:line)` as py-spy writes it, of Python or of a library. Those of helpers,
of the interpreter and of the kernel tell nothing: who called them does.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence


class Layer(enum.Enum):
    """In the order of a request's way, with what a page calls it."""

    SOCKETS = "event loop and sockets"
    HTTP = "HTTP: reading, writing, turns"
    CHECKS = "signature and checks"
    CALL = "the call and its answer"
    RECORDS = "records, read and encoded"
    MAILBOX = "mailbox"
    HAND_OVER = "between the processes"
    PACKING = "packing"
    VERBS = "store: verbs"
    SQL = "store: SQLite"
    LOG = "store: its log"


class Waiting(enum.Enum):
    """What takes time, and no processor."""

    SYNC = "the log's sync"
    IDLE = "anything else"


_SYNCS = ("fdatasync", "fsync")
_WAITS = (
    "epoll_pwait",
    "epoll_wait",
    "poll ",
    "select ",
    "PyThread_acquire_lock_timed",
    "pthread_cond_wait",
    "pthread_cond_timedwait",
    "clock_nanosleep",
)
_INNERMOST = 4  # frames, among which the kernel's call is: the library has some of its own
_TALKS = ("write ", "writev ", "read ", "send ", "sendmsg ", "recv ", "recvmsg ", "shutdown ")
_LOG = ("pagerWalFrames", "walCheckpoint", "walWriteOneFrame", "unixWrite", "sqlite3Wal")
_SQLITE = ("sqlite3", "APSW", "(apsw/")
_STORE_PROCESS = "pullstatus/store/gathering/worker.py"
_FILES: Sequence[tuple[str, Layer]] = (
    ("pullstatus/store/chunk.py", Layer.PACKING),
    ("pullstatus/store/gathering/", Layer.HAND_OVER),
    ("pullstatus/store/window.py", Layer.HAND_OVER),
    ("pullstatus/records/", Layer.RECORDS),
    ("pullstatus/receipts/", Layer.RECORDS),
    ("pullstatus/wire/", Layer.CHECKS),
    ("pullstatus/apps/", Layer.CHECKS),
    ("pullstatus/server/replays.py", Layer.CHECKS),
    ("pullstatus/server/guesses.py", Layer.CHECKS),
    ("pullstatus/server/v5.py", Layer.CALL),
    ("pullstatus/server/signed.py", Layer.CALL),
    ("pullstatus/server/doors.py", Layer.CALL),
    ("pullstatus/server/ingest.py", Layer.CALL),
    ("pullstatus/server/figures.py", Layer.CALL),
    ("pullstatus/server/words.py", Layer.CALL),
    ("pullstatus/mailbox/", Layer.MAILBOX),
    ("pullstatus/server/", Layer.HTTP),
    ("uvicorn/", Layer.HTTP),
)


def of_store_process(stack: Iterable[str]) -> bool:
    """Whether it is one of the process that commits."""
    return any(_STORE_PROCESS in frame for frame in stack)


def layer_of(stack: Sequence[str]) -> Layer | Waiting:
    """The layer of a stack, outermost frame first; or what it waits for."""
    inner = stack[-_INNERMOST:]
    if any(frame.startswith(_SYNCS) for frame in inner):
        return Waiting.SYNC
    if any(frame.startswith(_WAITS) for frame in inner):
        return Waiting.IDLE
    storing = of_store_process(stack)
    in_sqlite = False
    for frame in reversed(stack):
        if storing and frame.startswith(_LOG):
            return Layer.LOG
        in_sqlite = in_sqlite or (storing and frame.startswith(_SQLITE))
        for part, layer in _FILES:
            if part in frame:
                if in_sqlite:
                    return Layer.SQL
                talks = any(each.startswith(_TALKS) for each in inner)
                return Layer.SOCKETS if layer is Layer.HTTP and talks else layer
        if "pullstatus/store/" in frame:
            if in_sqlite:
                return Layer.SQL
            return Layer.VERBS if storing else Layer.MAILBOX
    return Layer.HAND_OVER if storing else Layer.SOCKETS
