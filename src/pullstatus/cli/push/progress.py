"""How far a file was pushed, and how it is known that it still is that file.

A name says little: a daily export overwrites yesterday's. So progress remembers the records that
were dealt with, all of them as one digest and the first few one by one, and a file is

    the same          it begins with them, and may have grown
    another one       it has none of the first few: it is pushed from its start
    a changed one     anything in between: refused, since parts would be skipped or pushed twice

A log that is rotated is another file of its name. What is known of the one before makes room: it is
kept aside in a file of its own, while that log is there under any name. So no progress is written
over that may be wanted, and a file that was pushed under another name finds its own among all that
lie in its folder: its inode says which to look at, and its records decide. Of two that fit, as a
push leaves that was killed between two writes, the one that came further counts. A link stands for
its file. A place that was named finds what lies beside the file, too, and leaves it as it is: who
pushes without that place later goes on from there.
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
from pullstatus.client.slots import NotOpened, Slots, peek
from pullstatus.consumer.state import open_state, refuse_mounted_alone
from pullstatus.errors import InvalidBody, InvalidSetting, StoreRefused
from pullstatus.records import Kind

SUFFIX: Final = ".pushed"
FIRST_FEW: Final = 8
ATTEMPTS_S: Final = 3600
"""Seconds that the attempts to send a batch may take, and two clocks may differ by."""

_FORGOTTEN: Final = (
    "{file}: the records of its lines {first} to {last} were on their way when its push was cut"
    " short, and the service knows a batch again {known}. Look whether they came, with `pullstatus"
    " find` and a number of theirs; then give --in-doubt skip if they did, or --in-doubt send"
)
_FOR_HOURS: Final = f"for {limits.INGEST_REPEAT_S // 3600} hours only"
_FROM_ANOTHER: Final = (
    "only by a token of the name that it came by, and this is another token: give that one if it is"
    " still good"
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
    token     a digest of the token that those were sent by; "" if an older version did
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
    token: str = ""
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

    def and_then(self, lines: list[Line]) -> Fingerprint:
        """That of these records and others after them."""
        other = Fingerprint()
        other.count, other._all, other._first = self.count, self._all.copy(), self._first.copy()
        for line in lines:
            other.add(line)
        return other

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
        moved: the service has another address now, and is the same.
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
        moved: bool = False,
        shared: bool = False,
        in_doubt: InDoubt | None = None,
        clock: Callable[[], float],
    ) -> None:
        self._slots = slots
        self._shared = shared
        self._again = again
        self._moved = moved
        self._in_doubt = in_doubt
        self._clock = clock
        self.done = (None if slots is None else _kept(slots)) or fresh
        self._fresh = fresh
        self._dealt = Fingerprint()  # with
        self._seen = Fingerprint()  # these, and what is on its way
        self.skipped = 0
        self.said = ""

    def go_on(self, source: Source) -> tuple[Records, list[Line]]:
        """The records that are left, and before them those that were on their way.

        Raises:
            StoreRefused: the file is not the one that was pushed, or it has changed.
            InvalidBody: it can't be read.
        """
        self._check_goal(source)
        kept, fresh = self.done, self._fresh
        records, on_their_way = self._read_past(source, kept)
        known = self._seen.digest == kept.digest
        if not (known or self._seen.count or self._again):
            # Emptied, as some log rotations do: there is nothing to push, and what comes next
            # tells which file it is.
            self._slots = None
        if self._slots is None:
            return records, on_their_way
        if not known:
            self._make_room(source)
        done = kept if known and not self._again else fresh
        # Before others are looked at: who pushes this file under another name sees it here, too.
        self._write(_of_this_file(done, fresh))
        others = self._others(source)
        if others:
            begins = set(_first_few(source))  # the number may be that of a file that is gone
            others = [(path, other) for path, other in others if begins & set(other.first)]
            if not self._again:
                done = self._furthest(source, done, [other for _, other in others])
            records, on_their_way = self._read_past(source, done)
        elif done is not kept:
            records, on_their_way = self._read_past(source, done)
        on_their_way = self._settle(done, on_their_way)
        if not self._shared:  # or who does not name that place would begin anew
            for path, other in others:
                _forget(path, other, source)
        return records, on_their_way

    def _check_goal(self, source: Source) -> None:
        was, goal = self.done.goal, self._fresh.goal
        if was == goal or self._again:
            return
        told = f"{source.path} was pushed to {was.service}, {was.sdkappid}, {was.kind.path}; give"
        again = "--again to push it from its start to this mailbox, too"
        if (was.sdkappid, was.kind) != (goal.sdkappid, goal.kind):
            raise StoreRefused(f"{told} {again}")
        if not self._moved:
            raise StoreRefused(
                f"{told} --moved if that is the same service, which has another address now, or"
                f" {again}"
            )
        self.done = msgspec.structs.replace(self.done, goal=goal)

    def _read_past(self, source: Source, done: Done) -> tuple[Records, list[Line]]:
        """Read what is dealt with and what was on its way; return what is left, and the latter."""
        records = source.records()
        self._dealt = Fingerprint()
        for line in islice(records, done.lines):
            self._dealt.add(line)
        on_their_way = list(islice(records, done.sending))
        self._seen = self._dealt.and_then(on_their_way)
        return records, on_their_way

    def _make_room(self, source: Source) -> None:
        """Keep aside what is known of another file, while that is there under another name.

        Raises:
            StoreRefused: it is no other file, or its push was cut short.
        """
        done = self.done
        if not self._again:
            self._check_another(source)
            self.said = f"{source.path} is another file than the one pushed before: from its start"
        file = None if done.inode == source.inode else _file_of(done, source)
        if file is None:
            return
        if self.said:
            self.said += f"; that one is {file} now, and its progress goes along"
        try:
            _keep_aside(done, source)
        except NotOpened:
            # Where none can be made, none is looked for: a push there has its place by --state.
            if not (self._shared or self._again):
                raise

    def _others(self, source: Source) -> list[tuple[Path, Done]]:
        """What else is kept of this file's inode: under names that it had, or that links have.

        For a place that was named, what is kept under this file's own name, too.

        Raises:
            StoreRefused: it is pushed right now under one of them, or one can't be read.
        """
        if self._slots is None:
            return []
        own = _place(source.real)
        if self._shared and not (self._again or self.done.digest):
            _refuse_unreadable(own)
        found = []
        for path, peeked in _places_beside(source):
            named_so = self._shared and _is_same(path, own)
            if not (named_so or peeked.inode == source.inode) or not self._may_be_of(peeked):
                continue
            if not _is_same(path, self._slots.path):
                done = self._kept_in(path)
                if done is not None and (named_so or done.inode == source.inode):
                    found.append((path, done))
        return found

    def _may_be_of(self, other: Done) -> bool:
        """Whether it goes to the same mailbox; a place that was named knows its own push better.

        That may have been begun with --again, and what lies beside the file stays as it was.
        """
        was, goal = other.goal, self._fresh.goal
        if self._moved:
            was = msgspec.structs.replace(was, service=goal.service)
        own = not (self._shared and self.done.digest) or other.run == self.done.run
        return was == goal and own

    def _kept_in(self, path: Path) -> Done | None:
        """What another place remembers, which nobody has right now."""
        try:
            with Slots(path, _decode_done) as slots:
                return _kept(slots)
        except NotOpened as error:
            if not self._shared:
                raise
            done = peek(path, _decode_done)  # to read it takes no right to write
            if done is None:
                raise StoreRefused(f"{path} is in use by another process") from error
            return _dated(done, path)

    def _furthest(self, source: Source, done: Done, others: list[Done]) -> Done:
        """What came furthest with this file.

        Raises:
            StoreRefused: it has changed since.
        """
        for other in sorted(others, key=_came_to, reverse=True):
            if _came_to(other) <= _came_to(done):
                break
            self._read_past(source, other)
            if self._seen.digest == other.digest:
                named_so = other.name == self._fresh.name
                before = "before, as is kept beside it" if named_so else f"as {other.name}"
                self.said = f"{source.path} was pushed {before}"
                return other
            if not done.digest or done.run == other.run:
                raise StoreRefused(_changed(source, other))
        return done

    def _settle(self, done: Done, on_their_way: list[Line]) -> list[Line]:
        """Go on with this; what was on its way, if it has to be sent again.

        Raises:
            StoreRefused: the service has forgotten by now whether that came.
        """
        done = _of_this_file(done, self._fresh)
        forgotten = self._why_forgotten(done) if on_their_way else None
        if forgotten is not None:
            match self._in_doubt:
                case None:
                    raise StoreRefused(
                        _FORGOTTEN.format(
                            file=done.name,
                            first=on_their_way[0].number,
                            last=on_their_way[-1].number,
                            known=forgotten,
                        )
                    )
                case InDoubt.SEND:
                    done = msgspec.structs.replace(
                        done, sent_s=self._clock(), token=self._fresh.token
                    )
                case InDoubt.SKIP:
                    done = _dealt_with(done)
                    self._dealt = self._seen
                    on_their_way = []
        self.skipped = done.lines
        self._write(done)
        return on_their_way

    def _why_forgotten(self, done: Done) -> str | None:
        """As what alone the service knows what is on its way, where it may not know that any more.

        A moment that is still to come was noted by a wrong clock.
        """
        if done.token not in ("", self._fresh.token):
            return _FROM_ANOTHER
        known_s = limits.INGEST_REPEAT_S - ATTEMPTS_S
        if done.sent_s is None or not 0 <= self._clock() - done.sent_s <= known_s:
            return _FOR_HOURS
        return None

    def _check_another(self, source: Source) -> None:
        done, file = self.done, source.path
        if set(_first_few(source)) & set(done.first):
            raise StoreRefused(_changed(source, done))
        if self._shared and done.name != self._fresh.name:
            raise StoreRefused(
                f"the progress kept is that of another file, {done.name}: name another place with"
                " --state, or give --again to push this file from its start"
            )
        if not (done.ended or self._is_gone_on_with(source)):
            renamed = _file_of(done, source) or "that one, under a name of its own"
            raise StoreRefused(
                f"{file} is another file than the one whose push was cut short after"
                f" {_count(done)}. Finish {renamed} first, with --state and this progress file; or"
                " give --again to leave it and push this one"
            )

    def _is_gone_on_with(self, source: Source) -> bool:
        """Whether another place remembers the same push, and as much of it at least."""
        return self._slots is not None and any(
            other.run == self.done.run and _came_to(other) >= _came_to(self.done)
            for path, other in _places_beside(source)
            if not _is_same(path, self._slots.path)
        )

    def sending(self, batch: list[Line]) -> None:
        """Note that these are about to be sent as one batch; durable on return.

        They come next after what is dealt with: a new batch, the first part of one that is not
        taken whole, or what was noted by an earlier run.
        """
        if len(batch) == self.done.sending:
            return
        self._seen = self._dealt.and_then(batch)
        self._write(
            msgspec.structs.replace(
                self.done,
                sending=len(batch),
                sent_s=self._clock(),
                token=self._fresh.token,
                digest=self._seen.digest,
                first=self._seen.first,
                ended=False,
            )
        )

    def sent(self) -> None:
        """What was on its way is dealt with; written down with what comes next."""
        self.done = _dealt_with(self.done)
        self._dealt = self._seen

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


def _of_this_file(done: Done, fresh: Done) -> Done:
    return msgspec.structs.replace(done, goal=fresh.goal, name=fresh.name, inode=fresh.inode)


def _came_to(done: Done) -> tuple[int, int]:
    """How far, to compare."""
    return done.lines + done.sending, done.lines


def _count(done: Done) -> str:
    return f"{done.lines + done.sending:,} records"


def _changed(source: Source, done: Done) -> str:
    return (
        f"{source.path}: what was pushed of it, {_count(done)}, has changed or is not all there."
        " Put it back, and new or corrected records into a file of their own; or give --again to"
        " push all that is there now, also what was accepted before"
    )


# --- what a file begins with ----------------------------------------------------------------------


def _first_few(source: Source) -> tuple[str, ...]:
    """Digests of a file's first few records."""
    begins = Fingerprint()
    for line in islice(source.records(), FIRST_FEW):
        begins.add(line)
    return begins.first


def _is_of(done: Done, file: Path, like: Source) -> bool:
    """Whether a file, read like another, has any of the first few records that were pushed.

    So it does if it can't be read: what is kept of it stays.
    """
    try:
        with contextlib.closing(like.beside(file)) as source:
            return bool(set(_first_few(source)) & set(done.first))
    except (InvalidBody, InvalidSetting):
        return True


def _file_of(done: Done, source: Source) -> Path | None:
    """The file beside `source`, or itself, that this is kept of, under the name that it has now.

    An inode's number is given away again once its file is gone, so it is a hint and no more.
    """
    with os.scandir(source.real.parent) as entries:
        names = [
            entry.name
            for entry in entries
            if entry.inode() == done.inode and entry.is_file(follow_symlinks=False)
        ]
    files = (source.real.with_name(name) for name in names)
    return next((file for file in files if _is_of(done, file, source)), None)


# --- where progress lies --------------------------------------------------------------------------


def _kept(slots: Slots[Done]) -> Done | None:
    """What a place remembers, if it does of any record."""
    return None if slots.value is None else _dated(slots.value, slots.path)


def _dated(done: Done, path: Path) -> Done | None:
    if not done.digest:
        return None
    if done.sending and done.sent_s is None:  # by an older version: it wrote this before it sent
        done = msgspec.structs.replace(done, sent_s=path.stat().st_mtime)
    return done


def _refuse_unreadable(place: Path) -> None:
    """Of what lies beside a file, that nobody can tell what it remembers.

    Raises:
        StoreRefused: it can't be read, or is damaged.
    """
    if place.exists() and peek(place, _decode_done, in_use=True) is None:
        try:
            Slots(place, _decode_done).close()
        except NotOpened as error:
            raise StoreRefused(
                f"{error}, and it may tell how far the file was pushed: have it readable for this"
                " user, or give --again to push the file from its start"
            ) from error


def _places_beside(source: Source) -> Iterator[tuple[Path, Done]]:
    """All progress in a file's folder, and in that of the link it was named by."""
    folders = {source.path.parent.resolve(), source.real.parent.resolve()}
    for path in sorted(path for folder in folders for path in folder.glob("*" + SUFFIX)):
        done = peek(path, _decode_done, in_use=True)
        if done is not None:
            yield path, done


def _keep_aside(done: Done, source: Source) -> None:
    """Keep this in a file of its own, and no more what was kept so of files that are gone."""
    with Slots(source.real.with_name(_aside(done)), _decode_done) as slots:
        kept = slots.value
        if kept is None or _came_to(kept) < _came_to(done):
            slots.write(done)
    for path, other in _places_beside(source):
        # Of this name only: how others are read, a --format may have told.
        if (path.name, other.name) == (_aside(other), done.name) and not _file_of(other, source):
            path.unlink(missing_ok=True)


def _forget(path: Path, done: Done, source: Source) -> None:
    """What is kept now of `source` is not needed there, unless it is known by that of a copy."""
    if path.name == _aside(done):
        path.unlink(missing_ok=True)
        return
    file = path.with_name(path.name.removesuffix(SUFFIX))
    if file.is_file() and not _is_same(file, source.real) and _is_of(done, file, source):
        return
    with Slots(path, _decode_done) as slots:
        if _kept(slots) == done:
            slots.write(Done(goal=done.goal, run=done.run, name=done.name))


def _is_same(path: Path, other: Path) -> bool:
    """Whether two names are of one file."""
    try:
        return path.samefile(other)
    except FileNotFoundError:
        return False


def _place(file: Path) -> Path:
    return file.with_name(file.name + SUFFIX)


def _aside(done: Done) -> str:
    """The name of a place that is no file's: none is called by a push's random number."""
    return done.run + SUFFIX


def _text(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "backslashreplace")


@contextlib.contextmanager
def progress_of(
    source: Source,
    goal: Goal,
    state_path: Path | None,
    *,
    token: str = "",
    again: bool,
    moved: bool = False,
    in_doubt: InDoubt | None = None,
    clock: Callable[[], float] = time.time,
) -> Iterator[Progress]:
    """How far a file was pushed, locked against other pushes of it.

    A pipe's is not kept: the same lines again have the same keys, and that is all.

    Args:
        token: that the records are sent by.
    """
    random = f"{SystemRandom().getrandbits(64):016x}"
    if source.is_pipe:
        if state_path is not None:
            raise click.UsageError("--state is for files: what a pipe has given can't be skipped")
        run = random if again else "pipe"
        yield Progress(None, Done(goal=goal, run=run, name=""), again=again, clock=clock)
        return
    file = source.real
    fresh = Done(
        goal=goal,
        run=random,
        name=_text(file.name),
        inode=source.inode,
        token=blake2b(token.encode(), digest_size=8).hexdigest(),
    )
    place = state_path or _place(file)
    refuse_mounted_alone(file, place)
    with open_state(place, _decode_done) as slots:
        progress = Progress(
            slots,
            fresh,
            again=again,
            moved=moved,
            shared=state_path is not None,
            in_doubt=in_doubt,
            clock=clock,
        )
        try:
            yield progress
        finally:
            progress.close()
