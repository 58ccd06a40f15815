"""How far a file was pushed, and how it is known that it still is that file.

A name says little: a daily export overwrites yesterday's. So progress remembers the records that
were dealt with, all of them as one digest and the first few one by one, and a file is

    the same          it begins with them, and may have grown
    another one       it has none of the first few: it is pushed from its start
    a changed one     anything in between: refused, since parts would be skipped or pushed twice

A log that is rotated is another file of its name, and its progress goes along with its inode: from
the name that the log had, and from there to where the one before it is now. So a file that was
pushed under another name is known by what lies beside that name. A link stands for its file.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from enum import Enum
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from random import SystemRandom
from typing import Final

import click
import msgspec

from pullstatus import limits
from pullstatus.cli.push.source import Line, Records, Source
from pullstatus.client.slots import Slots, peek
from pullstatus.consumer.state import open_state
from pullstatus.errors import StoreRefused
from pullstatus.records import Kind

FIRST_FEW: Final = 8
ATTEMPTS_S: Final = 3600
"""Seconds that the attempts to send a batch may take, and two clocks may differ by."""

_FORGOTTEN: Final = (
    "{file}: the records of its lines {first} to {last} were on their way when its push was cut"
    f" short, and the service knows a batch again for {limits.INGEST_REPEAT_S // 3600} hours only."
    " Look whether they came, with `pullstatus find` and a number of theirs; then give --in-doubt"
    " skip if they did, or --in-doubt send"
)


class Goal(msgspec.Struct, frozen=True):
    """Where a push goes to; `service` as `service_name` gives it."""

    service: str
    sdkappid: int
    kind: Kind


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """How far a push of a file has come.

    run       tells this push from another of the same lines
    name      of the file
    inode     of the file, a hint where it is when it has another name
    lines     records that are dealt with
    sending   records after them that are on their way, as one batch: cut otherwise they would not
              be known again
    sent_s    when those were sent first, in Unix seconds; None if none are, or an older version did
    digest    of all these records
    first     digests of the first few of them
    ended     whether the push came to the file's end
    """

    goal: Goal
    run: str
    name: str
    inode: int = 0
    lines: int = 0
    sending: int = 0
    sent_s: float | None = None
    digest: str = ""
    first: tuple[str, ...] = ()
    ended: bool = False


_decode_done: Final = msgspec.json.Decoder(Done).decode


class InDoubt(Enum):
    """What to do with a batch of which the service has forgotten whether it came."""

    SEND = "send"
    SKIP = "skip"


class Fingerprint:
    """Records that were read, in their order."""

    def __init__(self) -> None:
        self._all = blake2b(digest_size=16)
        self._first: list[str] = []
        self.count = 0

    def add(self, line: Line) -> None:
        """One more."""
        self.count += 1
        self._all.update(line.json)
        self._all.update(b"\n")
        if len(self._first) < FIRST_FEW:
            self._first.append(blake2b(line.json, digest_size=8).hexdigest())

    @property
    def digest(self) -> str:
        """Of all of them; "" if there are none."""
        return self._all.hexdigest() if self.count else ""

    @property
    def first(self) -> tuple[str, ...]:
        """Digests of the first few."""
        return tuple(self._first)


class Progress:
    """How far a file was pushed, on disk; a pipe's is not kept.

    Args:
        slots: where it is kept.
        fresh: what is kept of a file that was not pushed yet.
        again: do as if this one was not.
        shared: the place was named, and may be that of another file.
        in_doubt: what to do with a batch that was on its way too long ago; None refuses it.
        clock: Unix seconds.

    Attributes:
        done: what counts.
        skipped: records that were dealt with by an earlier run.
        said: what a person should know about this file.
    """

    def __init__(
        self,
        slots: Slots[Done] | None,
        fresh: Done,
        *,
        again: bool,
        shared: bool = False,
        in_doubt: InDoubt | None = None,
        clock: Callable[[], float],
    ) -> None:
        self._slots = slots
        self._shared = shared
        self._again = again
        self._in_doubt = in_doubt
        self._clock = clock
        found = None if slots is None or again else slots.value
        self.done = found or fresh
        self._fresh = fresh
        self._seen = Fingerprint()
        self.skipped = 0
        self.said = ""

    def go_on(self, source: Source) -> tuple[Records, list[Line]]:
        """The records that are left, and before them those that were on their way.

        Raises:
            StoreRefused: the file is not the one that was pushed, or it has changed.
            InvalidBody: it can't be read.
        """
        done, fresh, file = self.done, self._fresh, source.path
        records = source.records()
        if not done.digest:
            elsewhere = self._elsewhere(source)
            return (
                self._take_over(source, *elsewhere) if elsewhere else self._begin(source, records)
            )
        if done.goal != fresh.goal:
            was = done.goal
            raise StoreRefused(
                f"{file} was pushed to {was.service}, {was.sdkappid}, {was.kind.path}; give"
                " --again to push it from its start to this mailbox, too"
            )
        on_their_way = self._read_past(records, done)
        if self._seen.digest == done.digest:
            return records, self._go_on_with(done, on_their_way)
        if not self._seen.count:
            # Emptied, as some log rotations do: there is nothing to push, and what comes next
            # tells which file it is.
            self._slots = None
            return records, []
        self._check_another(source)
        elsewhere = self._elsewhere(source)
        self.said = f"{file} is another file than the one pushed before: from its start"
        renamed = _with_inode(source.real, done.inode)
        if renamed is not None:
            self.said += f"; that one is {renamed} now, and its progress goes along"
            _hand_on(done, renamed, _place(source.real))
        return self._take_over(source, *elsewhere) if elsewhere else self._begin(source, records)

    def _begin(self, source: Source, records: Records) -> tuple[Records, list[Line]]:
        """From its start."""
        self._seen = Fingerprint()
        self._write(self._fresh)
        return records if source.is_pipe else source.records(), []

    def _read_past(self, records: Records, done: Done) -> list[Line]:
        """Read what is dealt with and what was on its way, and return the latter."""
        self._seen = Fingerprint()
        for line in islice(records, done.lines):
            self._seen.add(line)
        on_their_way = list(islice(records, done.sending))
        for line in on_their_way:
            self._seen.add(line)
        return on_their_way

    def _go_on_with(self, done: Done, on_their_way: list[Line]) -> list[Line]:
        """What was on its way, of a file that is still the one that was pushed.

        Raises:
            StoreRefused: the service has forgotten by now whether that came.
        """
        fresh = self._fresh
        done = msgspec.structs.replace(done, name=fresh.name, inode=fresh.inode)
        if on_their_way and self._is_forgotten(done):
            match self._in_doubt:
                case None:
                    raise StoreRefused(
                        _FORGOTTEN.format(
                            file=fresh.name,
                            first=on_their_way[0].number,
                            last=on_their_way[-1].number,
                        )
                    )
                case InDoubt.SEND:
                    done = msgspec.structs.replace(done, sent_s=self._clock())
                case InDoubt.SKIP:
                    done = _dealt_with(done)
                    on_their_way = []
        self.skipped = done.lines
        self._write(done)
        return on_their_way

    def _is_forgotten(self, done: Done) -> bool:
        known_s = limits.INGEST_REPEAT_S - ATTEMPTS_S
        return done.sent_s is not None and self._clock() - done.sent_s > known_s

    def _elsewhere(self, source: Source) -> tuple[Path, Done] | None:
        """What is kept of this file under another name."""
        if self._slots is None or self._shared or self._again:
            return None
        for path in _places_of(source, self._fresh, self._slots.path):
            with Slots(path, _decode_done) as slots:
                done = slots.value
                if done is not None and done.inode == source.inode:
                    self._read_past(source.records(), done)
                    if self._seen.digest == done.digest:
                        return path, done
        return None

    def _take_over(self, source: Source, path: Path, done: Done) -> tuple[Records, list[Line]]:
        """Go on with what is kept elsewhere, which forgets it."""
        records = source.records()
        on_their_way = self._go_on_with(done, self._read_past(records, done))
        self.said = f"{source.path} was pushed as {done.name}"
        with Slots(path, _decode_done) as slots:
            if slots.value == done:
                slots.write(Done(goal=done.goal, run=self._fresh.run, name=done.name))
        return records, on_their_way

    def _check_another(self, source: Source) -> None:
        done, file = self.done, source.path
        begins = Fingerprint()
        for line in islice(source.records(), FIRST_FEW):
            begins.add(line)
        count = f"{done.lines + done.sending:,} records"
        if set(begins.first) & set(done.first):
            raise StoreRefused(
                f"{file}: what was pushed of it, {count}, has changed or is not all there. Put it"
                " back, and new or corrected records into a file of their own; or give --again to"
                " push all that is there now, also what was accepted before"
            )
        if self._shared and done.name != self._fresh.name:
            raise StoreRefused(
                f"the progress kept is that of another file, {done.name}: name another place with"
                " --state, or give --again to push this file from its start"
            )
        if not done.ended:
            renamed = _with_inode(source.real, done.inode) or "that one, under a name of its own"
            raise StoreRefused(
                f"{file} is another file than the one whose push was cut short after {count}."
                f" Finish {renamed} first, with --state and this progress file; or give --again to"
                " leave it and push this one"
            )

    def sending(self, batch: list[Line]) -> None:
        """Note that these are about to be sent; durable on return."""
        for line in batch:
            self._seen.add(line)
        self._write(
            msgspec.structs.replace(
                self.done,
                sending=len(batch),
                sent_s=self._clock(),
                digest=self._seen.digest,
                first=self._seen.first,
                ended=False,
            )
        )

    def sent(self) -> None:
        """What was on its way is dealt with; written down with what comes next."""
        self.done = _dealt_with(self.done)

    def end(self, *, whole: bool) -> None:
        """The push came to the end of the file, and that was `whole` or a line of it waits."""
        self.done = msgspec.structs.replace(self.done, ended=whole)

    def close(self) -> None:
        """Write down what was noted last."""
        self._write(self.done)

    def _write(self, done: Done) -> None:
        self.done = done
        if self._slots is not None and self._slots.value != done:
            self._slots.write(done)


def _dealt_with(done: Done) -> Done:
    """What was on its way is."""
    return msgspec.structs.replace(done, lines=done.lines + done.sending, sending=0, sent_s=None)


def _with_inode(file: Path, inode: int) -> Path | None:
    """The file beside `file` that has this inode."""
    with os.scandir(file.parent) as entries:
        names = [entry.name for entry in entries if entry.inode() == inode]
    return next((file.with_name(name) for name in names if name != file.name), None)


def _hand_on(done: Done, renamed: Path, own: Path) -> None:
    """Keep progress beside the file's new name; what is there of another file goes on likewise.

    Two files may have changed names with each other: `own` is where this began.
    """
    with Slots(_place(renamed), _decode_done) as slots:
        there = slots.value
        if there is not None and there.digest:
            if there.inode == done.inode:
                return  # it was pushed under that name since
            further = _with_inode(renamed, there.inode)
            if further is not None and _place(further) != own:
                _hand_on(there, further, own)
        slots.write(msgspec.structs.replace(done, name=_text(renamed.name)))


def _places_of(source: Source, fresh: Done, own: Path) -> Iterator[Path]:
    """Where else progress of this file may be: under names that it had, or that links have."""
    folders = {source.path.parent.resolve(), source.real.parent.resolve()}
    for path in sorted(path for folder in folders for path in folder.glob("*.pushed")):
        if path == own.resolve() or not path.is_file():
            continue
        done = peek(path, _decode_done, in_use=True)
        if done and done.digest and (done.inode, done.goal) == (fresh.inode, fresh.goal):
            yield path


def _place(file: Path) -> Path:
    return file.with_name(file.name + ".pushed")


def _text(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "backslashreplace")


@contextlib.contextmanager
def progress_of(
    source: Source,
    goal: Goal,
    state_path: Path | None,
    *,
    again: bool,
    in_doubt: InDoubt | None = None,
    clock: Callable[[], float] = time.time,
) -> Iterator[Progress]:
    """How far a file was pushed, locked against other pushes of it.

    A pipe's is not kept: the same lines again have the same keys, and that is all.
    """
    random = f"{SystemRandom().getrandbits(64):016x}"
    if source.is_pipe:
        if state_path is not None:
            raise click.UsageError("--state is for files: what a pipe has given can't be skipped")
        run = random if again else "pipe"
        yield Progress(None, Done(goal=goal, run=run, name=""), again=again, clock=clock)
        return
    file = source.real
    fresh = Done(goal=goal, run=random, name=_text(file.name), inode=source.inode)
    with open_state(state_path or _place(file), _decode_done) as slots:
        progress = Progress(
            slots,
            fresh,
            again=again,
            shared=state_path is not None,
            in_doubt=in_doubt,
            clock=clock,
        )
        try:
            yield progress
        finally:
            progress.close()
