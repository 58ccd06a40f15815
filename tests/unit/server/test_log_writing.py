"""The log's own thread: nobody waits for standard error, and what it does not take is counted."""

from __future__ import annotations

import errno
import fcntl
import io
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol, TextIO

import pytest

from pullstatus import limits
from pullstatus.server.logs.repeats import SECOND_S, LineKind, Repeats
from pullstatus.server.logs.writing import Writer
from tests.harness import PATIENCE_S

Clock = Callable[[], float]


class Make(Protocol):
    def __call__(self, stream: TextIO | None, clock: Clock = ...) -> Writer: ...


def own(level: str, event: str, members: Mapping[str, object]) -> str:
    return json.dumps({"level": level, "event": event, **members})


def record(text: str, level: int = logging.INFO) -> logging.LogRecord:
    return logging.LogRecord("test", level, __file__, 1, text, None, None)


def until(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.fixture
def writers() -> Iterator[Make]:
    made: list[Writer] = []

    def make(stream: TextIO | None, clock: Clock = time.monotonic) -> Writer:
        made.append(Writer(stream, Repeats(clock), own))
        return made[-1]

    yield make
    for writer in made:
        writer.close()


class Pipe:
    """Standard error of a small capacity, which nobody reads until `read`."""

    def __init__(self) -> None:
        self.far, near = os.pipe()
        fcntl.fcntl(near, fcntl.F_SETPIPE_SZ, 4096)
        self.near = os.fdopen(near, "w")
        self._read = b""

    def read(self, writer: Writer) -> list[str]:
        """All the lines that it gets until the writer has ended."""
        reader = threading.Thread(target=self._read_all)
        reader.start()
        writer.close()
        until(lambda: not writer._thread.is_alive())
        self.near.close()
        reader.join(PATIENCE_S)
        return self._read.decode().splitlines()

    def _read_all(self) -> None:
        with os.fdopen(self.far, "rb") as end:
            self._read = end.read()


def test_who_logs_waits_for_no_reader(writers: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """What there is room for comes once somebody reads; the rest is counted, and told."""
    monkeypatch.setattr(limits, "LOG_BYTES_MAX", 20_000)
    pipe = Pipe()
    writer = writers(pipe.near)
    for number in range(1000):
        writer.emit(record(f"{number:099d}"))
    dropped = writer.dropped
    assert 1000 - 10_000 // 100 - 4096 // 100 <= dropped < 1000
    lines = pipe.read(writer)
    kept = [line for line in lines if line.isdigit()]
    told = [json.loads(line) for line in lines if not line.isdigit()]
    assert len(kept) == 1000 - dropped
    assert kept == sorted(set(kept)), "each once, in order"
    assert {(line["level"], line["event"]) for line in told} == {("warning", "log lines dropped")}
    assert sum(line["lines"] for line in told) == dropped
    assert (writer.written, writer.dropped) == (len(lines), dropped)


def test_what_was_dropped_during_the_last_write_is_told(
    writers: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LOG_BYTES_MAX", 20_000)
    pipe = Pipe()
    writer = writers(pipe.near)
    write = writer._write

    def meanwhile(lines: list[bytes]) -> bool:
        monkeypatch.setattr(writer, "_write", write)
        for _ in range(300):
            writer.emit(record("x" * 99))
        writer._lines.clear()  # nothing is left to be written but what is told
        writer.close()
        return write(lines)

    monkeypatch.setattr(writer, "_write", meanwhile)
    writer.emit(record("first"))
    told = [json.loads(line) for line in pipe.read(writer) if line.startswith("{")]
    assert sum(line["lines"] for line in told) == writer.dropped > 0


def test_flood_leaves_room_for_what_matters(writers: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LOG_BYTES_MAX", 20_000)
    pipe = Pipe()
    writer = writers(pipe.near)
    for _ in range(1000):
        writer.emit(record("x" * 99))
    before = writer.dropped
    writer.emit(record("the store failed", logging.CRITICAL))
    assert writer.dropped == before
    assert "the store failed" in pipe.read(writer)


def test_end_waits_for_a_reader_no_longer_than_it_says(
    writers: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And for one that reads as long as it takes: the last line is the one that is looked for."""
    pipe = Pipe()
    writer = writers(pipe.near)
    for _ in range(100):
        writer.emit(record("x" * 99))
    monkeypatch.setattr(limits, "LOG_FLUSH_S", 0.01)
    writer.flush()
    monkeypatch.setattr(limits, "LOG_FLUSH_S", PATIENCE_S)
    reader = threading.Thread(target=pipe.read, args=[writer])
    writer.emit(record("stopped"))
    flushed = threading.Thread(target=writer.flush)
    flushed.start()
    assert flushed.is_alive(), "nobody reads"
    reader.start()
    flushed.join(PATIENCE_S)
    reader.join(PATIENCE_S)
    assert writer.written == 101


def test_pipe_that_somebody_has_made_non_blocking_gets_every_line(writers: Make) -> None:
    pipe = Pipe()
    os.set_blocking(pipe.near.fileno(), False)
    writer = writers(pipe.near)
    for number in range(1000):
        writer.emit(record(f"{number:099d}"))
    assert pipe.read(writer) == [f"{number:099d}" for number in range(1000)]


def test_full_disk_is_counted_and_ends_nothing(writers: Make, tmp_path: Path) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        writer = writers(full)
        writer.emit(record("lost"))
        until(lambda: writer.dropped == 1)
        with (tmp_path / "log").open("w") as free:
            os.dup2(free.fileno(), full.fileno())  # somebody has made room
            writer.emit(record("kept"))
            writer.flush()
        lines = (tmp_path / "log").read_text().splitlines()
    assert lines == ["kept", own("warning", "log lines dropped", {"lines": 1})]


def test_after_a_line_that_was_cut_off_the_next_one_is_whole(
    writers: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full takes a part of a line; what comes once there is room is lines again."""
    room, real = 0, os.write

    def write(descriptor: int, data: bytes | memoryview) -> int:
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        size = real(descriptor, data[:room])
        room -= size
        return size

    with (tmp_path / "log").open("w") as file:
        writer = writers(file)
        monkeypatch.setattr(os, "write", write)
        for text, room in (("whole", 9), ("cut off", 3), ("lost", 0), ("kept", 1000)):  # noqa: B007
            writer.emit(record(text))
            writer.flush()
    *lines, told = (tmp_path / "log").read_text().splitlines()
    assert lines == ["whole", "cut", "kept"]
    assert json.loads(told)["event"] == "log lines dropped"


@pytest.mark.parametrize("closed", [True, False])
def test_no_standard_error_is_no_error(writers: Make, closed: bool) -> None:
    stream = io.StringIO()
    stream.close()
    writer = writers(stream if closed else None)
    writer.emit(record("lost"))
    writer.flush()
    assert (writer.written, writer.dropped) == (0, 1)


def test_what_cannot_be_formatted_is_counted_and_not_shown(
    writers: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    """`logging` would print what it was given, on standard error."""
    output = io.StringIO()
    writer = writers(output)
    broken = record("%d")
    broken.args = ("canary",)
    writer.emit(broken)
    writer.flush()
    assert writer.dropped == 1
    assert output.getvalue() == own("warning", "log lines dropped", {"lines": 1}) + "\n"
    assert "canary" not in "".join(capsys.readouterr())


def test_letters_that_the_terminal_has_not_are_escaped(writers: Make, tmp_path: Path) -> None:
    with (tmp_path / "log").open("w", encoding="ascii") as file:
        writer = writers(file)
        writer.emit(record("dürfte \udc80"))
        writer.flush()
    assert (tmp_path / "log").read_text() == "d\\xfcrfte \\udc80\n"


def test_sum_is_told_without_another_line(writers: Make) -> None:
    output, now_s = io.StringIO(), 0.0
    writer = writers(output, lambda: now_s)
    kind = LineKind("info", "refused", ("result", 1001))
    admitted = [writer.repeats.admit(kind, "192.0.2.7") for _ in range(100)]
    writer.emit(record("one that was admitted"))
    until(lambda: output.getvalue().count("\n") == 1)
    now_s = SECOND_S
    assert sum(admitted) == limits.LOG_LINES_OF_ONE_PER_S_MAX
    until(lambda: output.getvalue().count("\n") == 2)
    told = json.loads(output.getvalue().splitlines()[1])
    assert told == {
        "level": "info",
        "event": "refused",
        "result": 1001,
        "more": 100 - sum(admitted),
    }
