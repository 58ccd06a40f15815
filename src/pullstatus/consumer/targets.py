"""Where pulled records go. Each target keeps, beside the records, the key of the page in flight.

    ask     the key is on disk      -> only then is the page asked for
    settle  the records are on disk -> only then is another page asked for
    rest    no page is in flight; a key that has brought none yet is kept for the next run

Killed after `ask`, the next run asks for the same page with the same key, and whatever of it was
written already is not written again: a file knows how long it was before the page, a database
writes records and key in one transaction.

A page in flight is not forgotten because the service's address or the target's name has changed
meanwhile: while it may be there, the command refuses, and says where it is waited for.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import ClassVar, Protocol, TypeVar

import msgspec

from pullstatus import Page
from pullstatus.client.keys import NextPage
from pullstatus.client.records import Record
from pullstatus.client.slots import NotOpened, Slots, open_file, peek, read_at, sync_folder
from pullstatus.consumer.forms import BOM, COLUMNS, EXTRA, Csv, Ndjson
from pullstatus.errors import StoreFailed, StoreRefused
from pullstatus.records import Kind
from pullstatus.terminal import visible

V = TypeVar("V", bound=msgspec.Struct)


class Source(msgspec.Struct, frozen=True):
    """The mailbox that a target belongs to."""

    url: str
    sdkappid: int
    kind: Kind


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What a target remembers.

    exact      whether the page in flight is written as it was sent; files of 0.1.0 knew no other
    size       bytes of the file before the page in flight
    keyed      whether the service knows Idempotency-Key, as far as it has told
    next_page  the page in flight, or the one that a key is kept for
    """

    source: Source
    exact: bool = True
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


# --- files ----------------------------------------------------------------------------------------


class FileTarget:
    """A file of rows, which only grows; its state is in a second file beside it."""

    FORMS: ClassVar[tuple[str, ...]] = (".ndjson", ".csv")

    def __init__(
        self,
        path: Path,
        source: Source,
        state_path: Path | None = None,
        *,
        exact: bool = False,
        abandon: bool = False,
    ) -> None:
        self._path = path
        self._source = source
        state_path = state_path or path.with_name(path.name + ".state")
        if state_path.resolve() == path.resolve():
            raise StoreRefused(f"{path} can't hold its records and its state: give another --state")
        refuse_left_behind(path.parent.glob("*.state"), state_path, source)
        self._slots = open_state(state_path, State)
        try:
            self._state = _state_of(self._slots, source, abandon=abandon)
            self._keyed = self._state.keyed
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

    @property
    def next_page(self) -> NextPage | None:
        """As `Target` says."""
        return self._state.next_page

    @property
    def keyed(self) -> bool | None:
        """As `Target` says."""
        return self._state.keyed

    def ask(self, page: NextPage) -> None:
        """As `Target` says.

        Raises:
            StoreRefused: the file is another one by now, and can't be gone on with.
            StoreFailed: the disk could not be written.
        """
        if not self._unsettled:
            with self._disk():
                self._look_again()
        self._note(page)
        self._unsettled = True

    def settle(self, page: Page[Record]) -> None:
        """As `Target` says.

        Raises:
            StoreRefused: somebody else has written to the file meanwhile.
            StoreFailed: the disk could not be written.
        """
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

    def rest(self, kept: NextPage | None = None) -> None:
        """As `Target` says."""
        self._note(kept)
        self._unsettled = False

    def give_up(self) -> None:
        """As `Target` says."""
        with self._disk():
            self._size += self._form.complete(self._read_on(self._size))
            os.ftruncate(self._file, self._size)
            os.fsync(self._file)
        self._exact = self._wanted
        self.rest()

    def close(self) -> None:
        """As `Target` says."""
        os.close(self._file)
        self._slots.close()

    @property
    def _form(self) -> Ndjson | Csv:
        return Csv(exact=self._exact) if self._path.suffix.lower() == ".csv" else Ndjson()

    def _open(self) -> int:
        with self._disk():
            is_new = not self._path.exists()
            if not is_new and not self._path.is_file():
                raise StoreRefused(f"{self._path} is no regular file: use - and a pipe")
            file = open_file(self._path, os.O_APPEND)
            if is_new:
                sync_folder(self._path)
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
        if begins == BOM:  # what some editors leave of an empty file
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

    def _note(self, page: NextPage | None) -> None:
        self._state = State(
            source=self._source,
            exact=self._exact,
            size=self._size,
            keyed=self._keyed,
            next_page=page,
        )
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
    is lost, but its reader may see part of it twice. A pipe gets the records to the byte; on a
    terminal what would steer it is spelt out, which is the same JSON.
    """

    def __init__(self, source: Source, state_path: Path, *, abandon: bool = False) -> None:
        try:
            state_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StoreRefused(
                f"{state_path.parent} cannot be made: {error.strerror}; --state names another place"
            ) from error
        refuse_left_behind(state_path.parent.glob("*.state"), state_path, source)
        self._source = source
        self._slots = open_state(state_path, State)
        try:
            self._state = _state_of(self._slots, source, abandon=abandon)
        except BaseException:
            self._slots.close()
            raise
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
            rows = Ndjson().rows(page)
            if sys.stdout.isatty():
                rows = visible(rows.decode()).encode()
            write_all(sys.stdout.fileno(), rows)
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


def refuse_left_behind(states: Iterable[Path], own: Path, source: Source) -> None:
    """Look whether a page of the same mailbox is waited for elsewhere; daily names leave it behind.

    Args:
        states: files of states; those in use by a running process are not looked at.
        own: the one that will be used.

    Raises:
        StoreRefused: one is, and nobody would ask for it any more.
    """
    for path in sorted(states):
        state = None if path.resolve() == own.resolve() else peek(path, State)
        if state is None or (state.source.sdkappid, state.source.kind) != (
            source.sdkappid,
            source.kind,
        ):
            continue
        if state.next_page is not None and state.next_page.in_doubt:
            raise StoreRefused(
                f"{path} waits for a page of this mailbox. Pull into its own target once more, with"
                f" --state {path} and --url {state.source.url}; --abandon-page gives the page up"
            )


def open_state(path: Path, value_type: type[V]) -> Slots[V]:
    """The file that a command keeps its state in, which is for `--state` to name.

    Raises:
        StoreRefused: it can't be had, as `Slots` says.
    """
    try:
        return Slots(path, value_type)
    except NotOpened as error:
        raise StoreRefused(f"{error}; --state gives another path") from error


def _state_of(slots: Slots[State], source: Source, *, abandon: bool) -> State:
    state = slots.value or State(source=source)
    was = state.source
    if (was.sdkappid, was.kind) != (source.sdkappid, source.kind):
        raise StoreRefused(
            f"{slots.path} belongs to {was.url}, {was.sdkappid}, {was.kind.path}: give another file"
        )
    if was.url != source.url and not abandon:
        refuse_moved(was.url, state.next_page, slots.path)
    return state


def refuse_moved(was: str, page: NextPage | None, where: Path) -> None:
    """A service may move to another address, but not while a page may wait at the old one.

    Raises:
        StoreRefused: it may.
    """
    if page is not None and page.in_doubt:
        raise StoreRefused(
            f"{where} waits for a page that was asked for at {was}: give that --url once more, or"
            " --abandon-page to give the page up"
        )
