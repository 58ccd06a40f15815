"""Lines on their way to standard error, which nobody waits for.

    who logs  -- formatted lines -->  a queue with a bound  -->  a thread  -->  standard error

Whatever standard error is, a pipe that nobody reads or a file on a slow disk: who logs only puts a
line into the queue, or counts it when that is full.
"""

from __future__ import annotations

import logging
import os
import select
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TextIO

from pullstatus import limits
from pullstatus.server.logs.repeats import Repeats

Own = Callable[[str, str, Mapping[str, object]], str]
"""A line of the log's own: from its level, its event and further members."""


class Writer(logging.Handler):
    """A handler whose thread writes, and tells what was not written.

    Attributes:
        stream: standard error.
        repeats, own: as given.
        written, dropped: lines so far. Dropped are those for which the queue had no room, or that
            standard error did not take.
    """

    def __init__(
        self, stream: TextIO | None, repeats: Repeats, own: Own, *, alone: bool = True
    ) -> None:
        """Starts the thread; it ends with the process, or with `close`.

        Args:
            stream: written to by its descriptor, past what it buffers, if it has one.
            repeats: what was not even given to us is told in lines of our own.
            own: makes such a line.
            alone: no other process writes there; else what is written at once is whole lines that a
                pipe takes as one, so that theirs do not fall into ours.
        """
        super().__init__()
        self.stream: TextIO | None = stream
        self.written = 0
        self.dropped = 0
        self.repeats = repeats
        self.own = own
        self._told = 0  # of those dropped
        self._torn = False  # whether a line was begun, and its end not taken
        self._alone = alone
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        self._descriptor = _descriptor(stream)
        self._changed = threading.Condition()
        self._lines: list[bytes] = []
        self._bytes = 0  # of those, and of what is being written
        self._owes = False  # to say how many were dropped
        self._flushing = False
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="pullstatus-log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Put a line into the queue; of what is no warning, only while that is half empty."""
        try:
            line = self._encoded(self.format(record))
        except Exception:  # noqa: BLE001 - logging's own way prints what could not be formatted
            with self._changed:
                self.dropped += 1
            return
        bytes_max = limits.LOG_BYTES_MAX
        if record.levelno < logging.WARNING:
            bytes_max //= 2
        with self._changed:
            if self._bytes + len(line) > bytes_max:
                self.dropped += 1
                return
            self._lines.append(line)
            self._bytes += len(line)
            self._changed.notify_all()

    def flush(self) -> None:
        """Wait until all is written, `limits.LOG_FLUSH_S` at most; logging calls it at exit."""
        with self._changed:
            self._flushing = self._thread.is_alive()
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._flushing, limits.LOG_FLUSH_S)

    def close(self) -> None:
        """End the thread, once it has written what is there; nobody waits for that."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        super().close()

    def _run(self) -> None:
        while self._turn():
            pass

    def _turn(self) -> bool:
        """Wait for something to write, and write it; whether to go on."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._lines or self._owes or self._flushing or self._closed,
                self.repeats.due_in_s(),
            )
            lines, self._lines = self._lines, []
            size, flushing, dropped = self._bytes, self._flushing, self.dropped
        lines += self._of_our_own(dropped, at_once=flushing)
        taken = self._write(lines)
        with self._changed:
            if taken:
                self.written += len(lines)
                self._told = dropped
            else:
                self.dropped += len(lines)
            self._bytes -= size
            self._owes = taken and self.dropped > self._told
            over = not (self._lines or self._owes)
            if flushing and over:
                self._flushing = False
                self._changed.notify_all()
            return not (over and self._closed)

    def _of_our_own(self, dropped: int, *, at_once: bool) -> list[bytes]:
        """What to say of lines that were not written."""
        said = [
            self.own(kind.level, kind.event, dict([kind.code] if kind.code else [], more=more))
            for kind, more in self.repeats.take(at_once=at_once).items()
        ]
        if dropped > self._told:
            said.append(self.own("warning", "log lines dropped", {"lines": dropped - self._told}))
        return [self._encoded(line) for line in said]

    def _encoded(self, line: str) -> bytes:
        return f"{line}\n".encode(self._encoding, "backslashreplace")

    def _write(self, lines: list[bytes]) -> bool:
        """Write these, however long it takes; False: they could not be, or not all of them."""
        for written_at_once in [lines] if self._alone else _pieces(lines):
            if not self._write_at_once(written_at_once):
                return False
        return True

    def _write_at_once(self, lines: Sequence[bytes]) -> bool:
        left = memoryview(b"\n" * self._torn + b"".join(lines))
        try:
            if self.stream is None:
                return False
            if self._descriptor is None:
                self.stream.write(str(left, self._encoding))
                return True
            while left:
                try:
                    size = os.write(self._descriptor, left)
                    self._torn = left[size - 1] != ord("\n")
                    left = left[size:]
                except BlockingIOError:  # somebody who shares it has made it so
                    select.select([], [self._descriptor], [])
        except (OSError, ValueError):  # ValueError: the stream was closed
            return False
        return True


def _pieces(lines: Sequence[bytes]) -> Iterator[list[bytes]]:
    """Lines that a pipe takes as one, and does not mix with those of others."""
    piece: list[bytes] = []
    size = 0
    for line in lines:
        if piece and size + len(line) > select.PIPE_BUF:
            yield piece
            piece, size = [], 0
        piece.append(line)
        size += len(line)
    if piece:
        yield piece


def _descriptor(stream: TextIO | None) -> int | None:
    """What is under a stream; None if there is nothing, as in a test."""
    try:
        return None if stream is None else stream.fileno()
    except (OSError, ValueError):
        return None
