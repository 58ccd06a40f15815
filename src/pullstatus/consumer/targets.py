"""Where pulled records go. Each target keeps, beside the records, what brings the next page.

By a reader's name, for a service that knows readers, which keeps the page until it is told:

    read_as   the name is on disk            -> only then is anything asked for
    settle    the records are on disk, and
              which page they are            -> only then is it acknowledged

By a key, for other services:

    ask       the key is on disk             -> only then is the page asked for
    settle    the records are on disk        -> only then is another page asked for
    rest      no page is in flight; a key that has brought none yet is kept for the next run

Killed in between, the next run gets the same page, and whatever of it was written already is not
written again: a file knows how long it was before the page, and which page; a database writes
records and state in one transaction.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Protocol, TextIO

import msgspec

from pullstatus import Page
from pullstatus.client.keys import NextPage
from pullstatus.client.records import Record
from pullstatus.client.slots import make_folder, open_file, read_at, sync_folder
from pullstatus.consumer.forms import BOM, COLUMNS, EXTRA, Csv, Ndjson
from pullstatus.consumer.state import (
    Known,
    Source,
    decode_state,
    open_state,
    refuse_left_behind,
    refuse_mounted_alone,
    refuse_renamed,
    refuse_shared,
    state_of,
)
from pullstatus.errors import StoreFailed, StoreRefused
from pullstatus.terminal import visible


class Target(Protocol):
    """A place for records, and for what brings the next page."""

    @property
    def known(self) -> Known:
        """What it remembers."""

    def read_as(self, reader: str) -> None:
        """Note the name under which it reads; durable on return.

        Raises:
            StoreRefused: it has another name, or another target has this one.
        """

    def ask(self, page: NextPage) -> None:
        """Note that this page is asked for; durable on return."""

    def settle(self, page: Page[Record]) -> None:
        """Write what it brought, and which page that was; durable on return."""

    def rest(self, kept: NextPage | None = None) -> None:
        """Note that no page is in flight, and which key has yet to bring one; durable on return."""

    def give_up(self) -> None:
        """Keep what is there of the page in flight, count it as written, and rest."""

    def forget(self) -> None:
        """Note that the service does not know the page that was written last; durable on return."""

    def close(self) -> None:
        """Let others have it."""


class _Kept:
    """The state of a target that has it in a file of its own, for this process alone."""

    def __init__(
        self, path: Path, source: Source, *folders: Path, moved: bool, abandon: bool
    ) -> None:
        """Open the state at `path`; in these folders, too, may be those of other targets."""
        refuse_left_behind({path.parent, *folders}, path, source)
        self._source = source
        self._slots = open_state(path, decode_state)
        try:
            self._state = state_of(self._slots, source, moved=moved, abandon=abandon)
        except BaseException:
            self._slots.close()
            raise
        self._keyed = self._state.keyed

    @property
    def known(self) -> Known:
        """As `Target` says."""
        return self._state

    def read_as(self, reader: str) -> None:
        """As `Target` says."""
        path = self._slots.path
        refuse_renamed(self._state.reader, reader, path)
        # By their usual name alone: a copy for safekeeping, as x.state.bak, is nobody's target.
        refuse_shared(path.parent.glob("*.state"), path, self._source, reader)
        kept = self._slots.value
        if kept is None or (kept.reader, kept.source) != (reader, self._source):
            self._note(reader=reader)

    def forget(self) -> None:
        """As `Target` says."""
        self._note(written=None)

    def _note(self, **changes: Any) -> None:  # noqa: ANN401 - members of `State`
        self._state = msgspec.structs.replace(self._state, keyed=self._keyed, **changes)
        self._slots.write(self._state)


# --- files ----------------------------------------------------------------------------------------


class FileTarget(_Kept):
    """A file of rows, which only grows; its state is in a second file beside it."""

    FORMS: ClassVar[tuple[str, ...]] = (".ndjson", ".csv")

    def __init__(
        self,
        path: Path,
        source: Source,
        state_path: Path | None = None,
        *,
        exact: bool = False,
        moved: bool = False,
        abandon: bool = False,
    ) -> None:
        self._path = path
        state_path = state_path or path.with_name(path.name + ".state")
        if os.path.realpath(state_path) == os.path.realpath(path):
            raise StoreRefused(f"{path} can't hold its records and its state: give another --state")
        refuse_mounted_alone(path, state_path)
        super().__init__(state_path, source, path.parent, moved=moved, abandon=abandon)
        try:
            self._unsettled = self._state.in_flight  # the file's end may be a part of a page
            self._wanted = exact
            self._exact = self._state.exact if self._unsettled else exact
            self._file = self._open()
        except BaseException:
            self._slots.close()
            raise
        try:
            with self._disk():
                self._size = self._find_size()
        except BaseException:
            self.close()
            raise

    def ask(self, page: NextPage) -> None:
        """As `Target` says.

        Raises:
            StoreRefused: the file is another one by now, and can't be gone on with.
            StoreFailed: the disk could not be written.
        """
        if page.key:
            self._begin()
        self._note(next_page=page)

    def settle(self, page: Page[Record]) -> None:
        """As `Target` says.

        Raises:
            StoreRefused: somebody else has written to the file meanwhile.
            StoreFailed: the disk could not be written.
        """
        by_reader = bool(page) and not page.key
        if by_reader and not self._unsettled:
            self._begin()
            self._note(writing=page.pull_id or "")
        with self._disk():
            self._write(page)
            os.fsync(self._file)
            found = os.fstat(self._file)
        if page and not found.st_nlink:
            raise StoreFailed(
                f"{self._path} was removed while a page was written: the next run writes it anew"
            )
        self._size = found.st_size
        self._keyed = page.keyed
        self._exact = self._wanted
        self._unsettled = False
        if by_reader:
            self._note(written=page.pull_id or self._state.written, writing=None)

    def rest(self, kept: NextPage | None = None) -> None:
        """As `Target` says."""
        self._note(next_page=kept)
        self._unsettled = self._state.in_flight

    def give_up(self) -> None:
        """As `Target` says."""
        with self._disk():
            self._size += self._form.complete(self._read_on(self._size))
            os.ftruncate(self._file, self._size)
            os.fsync(self._file)
        self._exact = self._wanted
        self._unsettled = False
        written = self._state.writing or self._state.written
        self._note(next_page=None, written=written, writing=None)

    def close(self) -> None:
        """As `Target` says."""
        os.close(self._file)
        self._slots.close()

    def _begin(self) -> None:
        """Before a page: what is in the file now is not of it."""
        if not self._unsettled:
            with self._disk():
                self._look_again()
        self._unsettled = True

    @property
    def _form(self) -> Ndjson | Csv:
        return Csv(exact=self._exact) if self._path.suffix.lower() == ".csv" else Ndjson()

    def _open(self) -> int:
        with self._disk():
            if self._path.exists() and not self._path.is_file():
                raise StoreRefused(f"{self._path} is no regular file: use - and a pipe")
            file = open_file(self._path, os.O_APPEND)
            sync_folder(self._path)  # whoever made the file may have been killed before this
        return file

    def _look_again(self) -> None:
        """Before a page: the file may have been renamed, removed, or cut meanwhile."""
        ours = os.fstat(self._file)
        try:
            named: os.stat_result | None = self._path.stat()
        except FileNotFoundError:
            named = None
        if named is None or not os.path.samestat(named, ours):
            file = self._open()
            os.close(self._file)
            self._file = file
            self._size = self._find_size()
        elif ours.st_size != self._size:
            self._size = self._find_size()

    def _find_size(self) -> int:
        """How long the file is, without what may have been written of a page in flight."""
        size = os.fstat(self._file).st_size
        if self._unsettled:
            self._refuse_shorter(size, self._state.size)
            return min(size, self._state.size)
        kind = self._source.kind
        begins = read_at(self._file, len(BOM + self._form.head(kind)), 0)
        if size == len(BOM) and begins == BOM:  # what some editors leave of an empty file
            os.ftruncate(self._file, 0)
            return 0
        if size and not self._form.begins(begins, kind):
            raise StoreRefused(
                f"{self._path} has other columns than {', '.join([*COLUMNS[kind], EXTRA])} in its"
                " first row: give another file"
            )
        if size and read_at(self._file, 1, size - 1) != b"\n":
            raise StoreRefused(f"{self._path} does not end with a line end: look, then add it")
        return size

    def _refuse_shorter(self, size: int, due: int) -> None:
        if 0 < size < due:
            raise StoreRefused(
                f"{self._path} is shorter than it was: put it back, or move it away altogether"
            )

    def _write(self, page: Page[Record]) -> None:
        size = os.fstat(self._file).st_size
        self._refuse_shorter(size, self._size)
        self._size = min(size, self._size)
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
        while part := read_at(self._file, 1 << 20, start):
            parts.append(part)
            start += len(part)
        return b"".join(parts)

    def _note(self, **changes: Any) -> None:  # noqa: ANN401 - as above
        super()._note(exact=self._exact, size=self._size, **changes)

    @contextlib.contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreFailed(f"{self._path} cannot be written: {error.strerror}") from error


class StdoutTarget(_Kept):
    """Standard output, one record on a line. Nobody can look up what was written to it.

    So a page that was in flight when this process was killed is written whole by the next: nothing
    is lost, but its reader may see part of it twice. A pipe gets the records to the byte; on a
    terminal what would steer it is spelt out, which is the same JSON. Where output is thrown away,
    as jobs of cron have it, it refuses before anything is pulled.
    """

    def __init__(
        self, source: Source, state_path: Path, *, moved: bool = False, abandon: bool = False
    ) -> None:
        if _is_thrown_away(sys.stdout):
            raise StoreRefused(
                f"standard output is closed, or {os.devnull}: what is pulled would be lost; give a"
                " file, or pipe it into a program"
            )
        try:
            make_folder(state_path.parent)
        except OSError as error:
            raise StoreRefused(
                f"{state_path.parent} cannot be made: {error.strerror}; --state names another place"
            ) from error
        super().__init__(state_path, source, moved=moved, abandon=abandon)

    def ask(self, page: NextPage) -> None:
        """As `Target` says."""
        self._note(next_page=page)

    def settle(self, page: Page[Record]) -> None:
        """Write what it brought to the pipe; its reader is responsible from then on.

        A file that a shell has opened has no reader: there it is durable on return.
        """
        try:
            rows = Ndjson().rows(page)
            if sys.stdout.isatty():
                rows = visible(rows.decode()).encode()
            out = sys.stdout.fileno()
            write_all(out, rows)
            if stat.S_ISREG(os.fstat(out).st_mode):
                os.fsync(out)
        except OSError as error:
            raise StoreFailed(f"standard output cannot be written: {error.strerror}") from error
        self._keyed = page.keyed
        if page and not page.key:
            self._note(written=page.pull_id or self._state.written)

    def rest(self, kept: NextPage | None = None) -> None:
        """As `Target` says."""
        self._note(next_page=kept)

    def give_up(self) -> None:
        """As `Target` says."""
        self.rest()

    def close(self) -> None:
        """As `Target` says."""
        self._slots.close()


def _is_thrown_away(stream: TextIO) -> bool:
    """Whether what is written to it goes to the null device."""
    try:
        found, null = os.fstat(stream.fileno()), Path(os.devnull).stat()
    except OSError:  # it is no file, or there is no such device
        return False
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == null.st_rdev


def write_all(file: int, data: bytes) -> None:
    """Write every byte, in as many turns as it takes."""
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
