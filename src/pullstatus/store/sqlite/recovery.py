"""Is what a crash left behind sound? Looked at by a server before it serves.

SQLite recovers by itself: it reads its write-ahead log up to the first frame that does not prove
right and takes the rest for a commit that the crash cut off. It cannot tell that from damage. We
can: every commit here is synced before the next one begins. So if behind that frame one commit ends
and the next one begins, acknowledged commits stand behind a damaged frame, and going on would lose
them without a word.

Ends of commits alone prove nothing. A commit that was cut off may be overwritten by a shorter one
that is cut off as well, and a torn frame's header may hold anything. What belongs together is known
by the checksums: each frame's continues that of the frame before it.

Source of the log's layout: sqlite.org, "WAL-mode File Format".
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

import apsw

from pullstatus.errors import StoreCorrupt
from pullstatus.store.sqlite import pairing, schema

HEADER_BYTES = 32
FRAME_HEADER_BYTES = 24
SECTOR_BYTES = 512  # that a disk writes as a whole, at least
MAGIC = (0x377F0682, 0x377F0683)  # the last bit tells the byte order of the checksums
QUICK_CHECK_BYTES = 256 * 1024 * 1024  # about half a second; larger files are left to `audit`


def check_sound(connection: apsw.Connection, path: Path) -> None:
    """Look for damage, before anything is written.

    Raises:
        StoreCorrupt: there is some; nothing was touched.
        StoreRefused: file and log do not belong together.
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
    pairing.check(connection)
    # A command may be committing meanwhile; what looked odd once must look so twice.
    if _hides_commits(connection, path, wal) and _hides_commits(connection, path, wal):
        raise StoreCorrupt(f"{wal} is damaged before its end; {_ADVICE}")
    if path.stat().st_size <= QUICK_CHECK_BYTES:
        found = connection.execute("PRAGMA quick_check(1)").get
        if found != "ok":
            raise StoreCorrupt(f"{path} is damaged ({found}); {_ADVICE}")
    if schema.version(connection):
        # The quick one does not look into indexes; here they tell whose a mailbox is.
        found = connection.execute("PRAGMA integrity_check(mailbox)").get
        if found != "ok":
            raise StoreCorrupt(f"{path} is damaged ({found}); {_ADVICE}")


_ADVICE = "keep a copy of the files, then `pullstatus restore` a backup"


def _hides_commits(connection: apsw.Connection, path: Path, wal: Path) -> bool:
    frames, _ = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
    try:
        both_bytes = path.stat().st_size + wal.stat().st_size
    except FileNotFoundError:
        return False
    return hides_commits(wal, max(frames, 0), both_bytes)


def hides_commits(wal: Path, valid_frames: int, both_bytes: int) -> bool:
    """Whether one commit follows another behind the first frame that does not prove right.

    Args:
        both_bytes: of file and log, which bounds what a frame may say of pages.
    """
    try:
        with wal.open("rb") as file:
            header = file.read(HEADER_BYTES)
            if len(header) < HEADER_BYTES:
                return False
            magic, _, page_bytes = struct.unpack_from(">3I", header)
            frame_bytes = FRAME_HEADER_BYTES + page_bytes
            proven = header[24:32]
            if valid_frames:
                file.seek(HEADER_BYTES + (valid_frames - 1) * frame_bytes)
                proven = file.read(FRAME_HEADER_BYTES)[16:24]
            file.seek(HEADER_BYTES + valid_frames * frame_bytes)
            stored = computed = struct.unpack(">2I", proven)
            ended = False
            at = file.tell()
            while len(frame := file.read(frame_bytes)) == frame_bytes:
                summed = frame[:8] + frame[FRAME_HEADER_BYTES:]
                found = struct.unpack_from(">2I", frame, 16)
                told = [
                    struct.unpack_from(">2I", frame),
                    *(_began(magic, start, found, summed) for start in (computed, stored)),
                ]
                if frame[8:16] == header[16:24]:
                    # What follows is intact; the frame before may be damaged, or its checksum.
                    expected = [_checksum(magic, start, summed) for start in (stored, computed)]
                    if ended and found in expected:
                        return True
                    computed = expected[1]
                else:  # left over from before the log was begun anew, unless it is damaged here
                    computed = found
                # What lies in another sector than what follows may be of another time.
                torn = any((at + place) % SECTOR_BYTES == 0 for place in (8, 16))
                ended = _ends(told[torn:], both_bytes // page_bytes)
                stored = found
                at += frame_bytes
    except FileNotFoundError:
        pass
    return False


def _checksum(magic: int, start: tuple[int, ...], data: bytes) -> tuple[int, ...]:
    first, second = start
    for even, odd in struct.iter_unpack(f"{'>' if magic & 1 else '<'}2I", data):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return first, second


def _began(
    magic: int, start: tuple[int, ...], found: tuple[int, ...], data: bytes
) -> tuple[int, ...]:
    """The first two numbers of `data`, by its checksum and all the others: `_checksum` undone."""
    words = struct.Struct(f"{'>' if magic & 1 else '<'}2I")
    first, second = found
    for even, odd in reversed(list(words.iter_unpack(data[8:]))):
        second = (second - odd - first) & 0xFFFFFFFF
        first = (first - even - second) & 0xFFFFFFFF
    even = (first - start[0] - start[1]) & 0xFFFFFFFF
    odd = (second - start[1] - first) & 0xFFFFFFFF
    return struct.unpack(">2I", words.pack(even, odd))


def _ends(told: Iterable[tuple[int, ...]], pages_max: int) -> bool:
    """Whether a frame ends a commit, by what may be its page and the size of the file then.

    The first that can be is believed. What a torn header holds is anything, but where the page
    behind it is whole its checksum tells what it was.
    """
    sizes = [size for page, size in told if 0 < page <= pages_max >= size]
    return bool(sizes) and sizes[0] > 0


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
    return struct.pack(">2I", *_checksum(magic, (0, 0), start[:24])) == start[24:32]
