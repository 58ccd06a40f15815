"""Who has a file of slots, beside others who look at it."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Self

import msgspec
import pytest

from pullstatus.client import slots
from pullstatus.client.keys import NextPage, decode_next_page
from pullstatus.client.slots import NotOpened, Slots, peek
from pullstatus.errors import StoreRefused
from tests.harness import PATIENCE_S

PAGE = NextPage("a", 1, 7.0)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.state"
    with Slots(path, decode_next_page) as made:
        made.write(PAGE)
    return path


class Looking:
    """Somebody who looks at a file until it is told to go."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._there, self._go = threading.Event(), threading.Event()

    def __enter__(self) -> Self:
        self._pool = ThreadPoolExecutor(1)
        self.found = self._pool.submit(peek, self._file, self._decode)
        assert self._there.wait(PATIENCE_S)
        return self

    def __exit__(self, *_error: object) -> None:
        self.go()
        self._pool.shutdown()

    def go(self, _pause_s: float = 0) -> None:
        self._go.set()
        self.found.result(PATIENCE_S)

    def _decode(self, value: msgspec.Raw) -> NextPage:
        self._there.set()
        assert self._go.wait(PATIENCE_S)
        return decode_next_page(value)


def test_whoever_only_looks_at_a_file_keeps_it_from_nobody(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a second consumer in the folder does that is started at the same time."""
    with Looking(file) as one, Looking(file) as two:

        def both_go(_pause_s: float) -> None:
            one.go()
            two.go()

        monkeypatch.setattr(slots, "time", SimpleNamespace(sleep=both_go))
        with Slots(file, decode_next_page) as opened:
            assert opened.value == PAGE
            assert peek(file, decode_next_page) is None
            assert peek(file, decode_next_page, in_use=True) == PAGE
        assert one.found.result() == two.found.result() == PAGE


def test_file_that_a_process_has_is_refused_at_once(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sleep(_pause_s: float) -> None:
        raise AssertionError

    monkeypatch.setattr(slots, "time", SimpleNamespace(sleep=sleep))
    with (
        Slots(file, decode_next_page),
        pytest.raises(StoreRefused, match="in use by another process"),
    ):
        Slots(file, decode_next_page)


def test_file_that_is_looked_at_for_ever_is_refused_in_the_end(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever looks was stopped, and may never go on."""
    pauses: list[float] = []
    monkeypatch.setattr(slots, "time", SimpleNamespace(sleep=pauses.append))
    with Looking(file):
        with pytest.raises(StoreRefused, match="in use by another process"):
            Slots(file, decode_next_page)
        assert 0.5 <= sum(pauses) <= 5
    Slots(file, decode_next_page).close()


@pytest.fixture
def pipe(file: Path) -> Iterator[Path]:
    """A pipe in which lies what is in the file."""
    path = file.with_name("b.state")
    os.mkfifo(path)
    both_ends = os.open(path, os.O_RDWR)  # or whoever opens it waited for a second one
    os.write(both_ends, file.read_bytes().ljust(2 * slots.SLOT_BYTES))
    yield path
    os.close(both_ends)


def test_whoever_looks_reads_no_pipe(pipe: Path) -> None:
    """Nobody may ever write into it."""
    assert peek(pipe, decode_next_page) is None


def test_what_is_no_regular_file_is_refused(pipe: Path) -> None:
    for path in (pipe, Path("/dev/null"), Path("/dev/zero")):
        with pytest.raises(NotOpened, match=f"^{path} is no regular file$"):
            Slots(path, decode_next_page)


@pytest.mark.parametrize("writes", [1, 2, 3, 4])
def test_only_the_first_write_of_all_passes_for_torn(file: Path, writes: int) -> None:
    """What was cut behind it was whole once: to begin anew would do twice what is done."""
    with Slots(file, decode_next_page) as opened:
        for number in range(1, writes):
            opened.write(NextPage("a", number, 7.0))
    content = file.read_bytes()
    whole = len(content[: slots.SLOT_BYTES].rstrip())
    for size in range(0, whole, 7):
        file.write_bytes(content[:size])
        if size == 0 or (size > 11 and writes < 3):
            Slots(file, decode_next_page).close()
        else:
            with pytest.raises(StoreRefused, match="is damaged"):
                Slots(file, decode_next_page)
    file.write_bytes(bytes(slots.SLOT_BYTES + 1))
    with pytest.raises(StoreRefused, match="is damaged"):
        Slots(file, decode_next_page)


def test_file_that_cannot_be_read_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_file: int, _count: int, _start: int) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(slots, "read_at", fail)
        with pytest.raises(NotOpened, match=r"cannot be read: Input/output error$"):
            Slots(file, decode_next_page)
    Slots(file, decode_next_page).close()
