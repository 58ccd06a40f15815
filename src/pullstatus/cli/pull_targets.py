"""Where pulled records go. Each target keeps, beside the records, the key of the page in flight.

    ask     the key is on disk      -> only then is the page asked for
    settle  the records are on disk -> only then is another page asked for
    rest    no page is in flight; a key that has brought none yet is kept for the next run

Killed after `ask`, the next run asks for the same page with the same key, and whatever of it was
written already is not written again: a file knows how long it was before the page, a database
writes records and key in one transaction.
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Protocol

import msgspec

from pullstatus import Page
from pullstatus.cli.slots import Slots, sync_folder
from pullstatus.client.keys import NextPage
from pullstatus.client.records import Record
from pullstatus.errors import StoreFailed, StoreRefused
from pullstatus.records import Kind

COLUMNS = {
    Kind.DELIVERY_STATUS: (
        "user_receive_time",
        "nationcode",
        "mobile",
        "report_status",
        "errmsg",
        "description",
        "sid",
        "ext",
    ),
    Kind.REPLY: ("nationcode", "mobile", "text", "sign", "time", "extend"),
}
EXTRA = "extra"  # the column of members that have no column


class Source(msgspec.Struct, frozen=True):
    """The mailbox that a target belongs to."""

    url: str
    sdkappid: int
    kind: Kind


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What a target remembers.

    size       bytes of the file before the page in flight
    keyed      whether the service knows Idempotency-Key, as far as it has told
    next_page  the page in flight, or the one that a key is kept for
    """

    source: Source
    size: int = 0
    keyed: bool | None = None
    next_page: NextPage | None = msgspec.field(name="in_flight", default=None)

    @property
    def in_flight(self) -> bool:
        """Whether the end of the file may be a part of the next page."""
        return self.next_page is not None and self.next_page.in_flight


class Target(Protocol):
    """A place for records, and for the key of the page in flight."""

    @property
    def next_page(self) -> NextPage | None:
        """The page to ask for first, if the last run has left its key."""

    @property
    def keyed(self) -> bool | None:
        """Whether the service knows Idempotency-Key, as far as it has told."""

    def ask(self, page: NextPage) -> None:
        """Note that this page is asked for; durable on return."""

    def settle(self, page: Page[Record]) -> None:
        """Write what it brought; durable on return."""

    def rest(self, kept: NextPage | None = None) -> None:
        """Note that no page is in flight, and which key has yet to bring one; durable on return."""

    def give_up(self) -> None:
        """Keep what is there of the page in flight, and rest."""

    def close(self) -> None:
        """Let others have it."""


# --- forms ----------------------------------------------------------------------------------------


class Ndjson:
    """One record on a line, as it was sent."""

    def head(self, kind: Kind) -> bytes:  # noqa: ARG002 - for others it depends on the kind
        """What stands at the start of a file."""
        return b""

    def rows(self, page: Page[Record]) -> bytes:
        """The records of a page."""
        return b"".join(one_line(record.json) + b"\n" for record in page)

    def complete(self, data: bytes) -> int:
        """How many bytes of `data`, which may be cut, are whole rows."""
        return data.rfind(b"\n") + 1


class Csv:
    """One record on a row; members without a column of their own are JSON in the last one."""

    def head(self, kind: Kind) -> bytes:
        """The names of the columns."""
        return _row([*COLUMNS[kind], EXTRA])

    def rows(self, page: Page[Record]) -> bytes:
        """The records of a page."""
        columns = COLUMNS[page.kind]
        return b"".join(
            _row([*(getattr(record, name) for name in columns), _extra(record, columns)])
            for record in page
        )

    def complete(self, data: bytes) -> int:
        """How many bytes of `data`, which may be cut, are whole rows."""
        end = data.rfind(b"\n")
        while end >= 0 and data.count(b'"', 0, end) % 2:  # within a quoted text
            end = data.rfind(b"\n", 0, end)
        return end + 1


def one_line(json: bytes) -> bytes:
    """A record's JSON on one line."""
    return msgspec.json.format(json, indent=-1) if b"\n" in json or b"\r" in json else json


def _row(cells: list[object]) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out).writerow(cells)
    return out.getvalue().encode()


def _extra(record: Record, columns: tuple[str, ...]) -> str:
    members = msgspec.json.decode(record.json, type=dict[str, msgspec.Raw])
    for name in columns:
        members.pop(name, None)
    return msgspec.json.encode(members).decode() if members else ""


# --- files ----------------------------------------------------------------------------------------


class FileTarget:
    """A file of rows, which only grows; its state is in a second file beside it."""

    FORMS: ClassVar[dict[str, Ndjson | Csv]] = {".ndjson": Ndjson(), ".csv": Csv()}

    def __init__(self, path: Path, source: Source, state_path: Path | None = None) -> None:
        self._path = path
        self._source = source
        self._form = self.FORMS[path.suffix]
        self._slots = Slots(state_path or path.with_name(path.name + ".state"), State)
        try:
            self._state = _state_of(self._slots, source)
            self._keyed = self._state.keyed
            self._file = self._open()
        except BaseException:
            self._slots.close()
            raise
        try:
            self._size = self._find_size()
        except BaseException:
            self.close()
            raise

    @property
    def next_page(self) -> NextPage | None:
        """As `Target` says."""
        return self._state.next_page

    @property
    def keyed(self) -> bool | None:
        """As `Target` says."""
        return self._state.keyed

    def ask(self, page: NextPage) -> None:
        """As `Target` says."""
        self._note(page)

    def settle(self, page: Page[Record]) -> None:
        """As `Target` says.

        Raises:
            StoreRefused: somebody else has written to the file meanwhile.
            StoreFailed: the disk could not be written.
        """
        with self._disk():
            self._write(page)
            os.fsync(self._file)
            self._size = os.fstat(self._file).st_size
        self._keyed = page.keyed

    def rest(self, kept: NextPage | None = None) -> None:
        """As `Target` says."""
        self._note(kept)

    def give_up(self) -> None:
        """As `Target` says."""
        with self._disk():
            self._size += self._form.complete(self._read_on(self._size))
            os.ftruncate(self._file, self._size)
            os.fsync(self._file)
        self.rest()

    def close(self) -> None:
        """As `Target` says."""
        os.close(self._file)
        self._slots.close()

    def _open(self) -> int:
        with self._disk():
            is_new = not self._path.exists()
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            file = os.open(self._path, flags, 0o600)
            if is_new:
                sync_folder(self._path)
        return file

    def _find_size(self) -> int:
        """How long the file is, without what may have been written of a page in flight."""
        size = os.fstat(self._file).st_size
        if self._state.in_flight and 0 < size < self._state.size:
            raise StoreRefused(
                f"{self._path} is shorter than it was: put it back, or move it away altogether"
            )
        if self._state.in_flight:
            return min(size, self._state.size)
        head = self._form.head(self._source.kind)
        if size and os.pread(self._file, len(head), 0) != head:
            raise StoreRefused(f"{self._path} has other columns: give another file")
        if size and os.pread(self._file, 1, size - 1) != b"\n":
            raise StoreRefused(f"{self._path} does not end with a line end: look, then add it")
        return size

    def _write(self, page: Page[Record]) -> None:
        rows = self._form.rows(page)
        if rows and self._size == 0:
            rows = self._form.head(page.kind) + rows
        there = self._read_on(self._size)
        if page.keyed:
            # The same page as before, to the byte; a power cut may have left zeros at its end.
            kept = len(there.rstrip(b"\0"))
            if not rows.startswith(there[:kept]):
                raise StoreRefused(
                    f"{self._path} was written to by somebody else since its last page: move it"
                    " away, and the next run writes that page to a new one"
                )
            rows = rows[kept:]
        else:
            # Another page: what is there of the last one is all that will ever be.
            kept = self._form.complete(there)
            if self._size + kept:
                rows = rows.removeprefix(self._form.head(page.kind))
        if len(there) > kept:
            os.ftruncate(self._file, self._size + kept)
        write_all(self._file, rows)

    def _read_on(self, start: int) -> bytes:
        parts = []
        while part := os.pread(self._file, 1 << 20, start):
            parts.append(part)
            start += len(part)
        return b"".join(parts)

    def _note(self, page: NextPage | None) -> None:
        self._state = State(source=self._source, size=self._size, keyed=self._keyed, next_page=page)
        with self._disk():
            self._slots.write(self._state)

    @contextlib.contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreFailed(f"{self._path} cannot be written: {error.strerror}") from error


class StdoutTarget:
    """Standard output, one record on a line. Nobody can look up what was written to it.

    So a page that was in flight when this process was killed is written whole by the next: nothing
    is lost, but its reader may see part of it twice.
    """

    def __init__(self, source: Source, state_path: Path) -> None:
        state_path.parent.mkdir(parents=True, exist_ok=True)
        self._source = source
        self._slots = Slots(state_path, State)
        self._state = _state_of(self._slots, source)
        self._keyed = self._state.keyed

    @property
    def next_page(self) -> NextPage | None:
        """As `Target` says."""
        return self._state.next_page

    @property
    def keyed(self) -> bool | None:
        """As `Target` says."""
        return self._state.keyed

    def ask(self, page: NextPage) -> None:
        """As `Target` says."""
        self._note(page)

    def settle(self, page: Page[Record]) -> None:
        """Write what it brought to the pipe; its reader is responsible from then on."""
        try:
            write_all(sys.stdout.fileno(), Ndjson().rows(page))
        except OSError as error:
            raise StoreFailed(f"standard output cannot be written: {error.strerror}") from error
        self._keyed = page.keyed

    def rest(self, kept: NextPage | None = None) -> None:
        """As `Target` says."""
        self._note(kept)

    def give_up(self) -> None:
        """As `Target` says."""
        self.rest()

    def close(self) -> None:
        """As `Target` says."""
        self._slots.close()

    def _note(self, page: NextPage | None) -> None:
        self._state = State(source=self._source, keyed=self._keyed, next_page=page)
        self._slots.write(self._state)


def write_all(file: int, data: bytes) -> None:
    """Write every byte, in as many turns as it takes."""
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _state_of(slots: Slots[State], source: Source) -> State:
    state = slots.value or State(source=source)
    was = state.source
    # A service may move to another address, but not while a page is asked for at the old one.
    if (was.sdkappid, was.kind) != (source.sdkappid, source.kind) or (
        was.url != source.url and state.next_page is not None and state.next_page.in_doubt
    ):
        raise StoreRefused(
            f"{slots.path} belongs to {was.url}, {was.sdkappid}, {was.kind.path}: give another file"
        )
    return state
