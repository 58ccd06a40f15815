"""Is what a crash left behind sound? Looked at by a server before it serves.

SQLite recovers by itself: it reads its write-ahead log up to the first frame that does not prove
right and takes the rest for a commit that the crash cut off. It cannot tell that from damage. We
can: every commit here is synced before the next one begins, so behind that frame there is at most
one commit's end. Two or more mean that acknowledged commits stand behind a damaged frame, and going
on would lose them without a word.

Source of the log's layout: sqlite.org, "WAL-mode File Format".
"""

from __future__ import annotations

import struct
from pathlib import Path

import apsw

from pullstatus.errors import StoreCorrupt

HEADER_BYTES = 32
FRAME_HEADER_BYTES = 24
MAGIC = (0x377F0682, 0x377F0683)  # the last bit tells the byte order of the checksums
QUICK_CHECK_BYTES = 256 * 1024 * 1024  # about half a second; larger files are left to `audit`


def check_sound(connection: apsw.Connection, path: Path) -> None:
    """Look for damage, before anything is written.

    Raises:
        StoreCorrupt: there is some; nothing was touched.
    """
    wal = path.with_name(f"{path.name}-wal")
    if not header_is_sound(wal):
        raise StoreCorrupt(f"{wal} is damaged at its beginning; {_ADVICE}")
    try:
        connection.pragma("schema_version")  # until it has read, it knows of no frame
    except apsw.ReadOnlyError:
        # A rollback journal: power was cut while the file was being given its write-ahead log, so
        # it has none yet. To roll back takes a writer, which comes next.
        return
    # A command may be committing meanwhile; what looked odd once must look so twice.
    if _commits_behind(connection, wal) > 1 and _commits_behind(connection, wal) > 1:
        raise StoreCorrupt(f"{wal} is damaged before its end; {_ADVICE}")
    if path.stat().st_size <= QUICK_CHECK_BYTES:
        found = connection.execute("PRAGMA quick_check(1)").get
        if found != "ok":
            raise StoreCorrupt(f"{path} is damaged ({found}); {_ADVICE}")


_ADVICE = "keep a copy of the files, then `pullstatus restore` a backup"


def _commits_behind(connection: apsw.Connection, wal: Path) -> int:
    frames, _ = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
    return commits_behind(wal, max(frames, 0))


def commits_behind(wal: Path, valid_frames: int) -> int:
    """How many ends of commits of the log's own generation stand behind its first frames."""
    try:
        with wal.open("rb") as file:
            header = file.read(HEADER_BYTES)
            if len(header) < HEADER_BYTES:
                return 0
            page_bytes = struct.unpack_from(">I", header, 8)[0]
            found = 0
            frame = valid_frames
            while True:
                file.seek(HEADER_BYTES + frame * (FRAME_HEADER_BYTES + page_bytes))
                head = file.read(FRAME_HEADER_BYTES)
                if len(head) < FRAME_HEADER_BYTES:
                    return found
                ends_commit = head[4:8] != b"\0\0\0\0"
                found += ends_commit and head[8:16] == header[16:24]
                frame += 1
    except FileNotFoundError:
        return 0


def header_is_sound(wal: Path) -> bool:
    """Whether a log's header proves right. It is synced before any frame is written."""
    try:
        with wal.open("rb") as file:
            start = file.read(HEADER_BYTES + FRAME_HEADER_BYTES)
    except FileNotFoundError:
        return True
    if len(start) < HEADER_BYTES + FRAME_HEADER_BYTES or not any(start):
        return True  # no frame was ever written
    (magic,) = struct.unpack_from(">I", start)
    if magic not in MAGIC:
        return False
    order = ">" if magic & 1 else "<"
    first = second = 0
    for even, odd in struct.iter_unpack(f"{order}2I", start[:24]):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return struct.pack(">2I", first, second) == start[24:32]
