"""How the messages of one place are read: rows with the commit that they are of, and in order.

An answer of a replica is of one moment. So rows that come with the newest commit of an application
are as that commit has left them; whether it is the newest is for whoever writes, by its condition,
or for the leader.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from pullstatus.errors import StoreDamaged, StoreUnavailable
from pullstatus.store.jetstream.messages import Commit, is_whole, opened
from pullstatus.store.jetstream.proven import first_of_anybody, of_anybody
from pullstatus.store.jetstream.subjects import Place
from pullstatus.store.jetstream.wire import SUBJECTS_MAX, Bus, Message

COMMITS_MAX: Final = 256
FEW: Final = 3
_PATTERN_MAX: Final = 65  # subjects that a pattern stands for at most: readers of a mailbox


_TOO_MUCH: Final = "more at once than one answer of the store can hold; send it in parts"


class TooMuch(StoreUnavailable):
    """What is asked of one application is more than one answer has."""

    def __init__(self, text: str = _TOO_MUCH) -> None:
        super().__init__(text)


class Snapshot(NamedTuple):
    """The newest commit of a place, if there is any, and rows as it has left them, by subject."""

    commit: Message | None
    rows: dict[str, Message]

    @property
    def sequence(self) -> int:
        """Of the commit; 0: there is none."""
        return 0 if self.commit is None else self.commit.sequence


def snapshot(bus: Bus, place: Place, subjects: Sequence[str], at_least: int = 0) -> Snapshot:
    """Rows of a place with their commit, which is of this sequence or newer.

    Raises:
        TooMuch: they are more than one answer has.
    """
    if sum(map(_weight, subjects)) >= SUBJECTS_MAX:
        raise TooMuch
    found = bus.lasts(place.stream, [place.commits, *subjects], at_least=at_least)
    return Snapshot(found.pop(place.commits, None), found)


def snapshots(
    bus: Bus, asked: Sequence[tuple[Place, Sequence[str], int]]
) -> Iterator[tuple[Place, Snapshot]]:
    """The same of several places of a stream, many at once; each with what it must be at least.

    None of these subjects is a pattern.

    Raises:
        TooMuch: those of one place are more than one answer has.
    """
    batch: list[tuple[Place, Sequence[str], int]] = []
    room = SUBJECTS_MAX
    for each in asked:
        due = 1 + len(each[1])
        if batch and due > room:
            yield from _batch(bus, batch)
            batch, room = [], SUBJECTS_MAX
        batch.append(each)
        room -= due
    if batch:
        yield from _batch(bus, batch)


def _batch(
    bus: Bus, batch: Sequence[tuple[Place, Sequence[str], int]]
) -> Iterator[tuple[Place, Snapshot]]:
    wanted = [subject for place, subjects, _ in batch for subject in (place.commits, *subjects)]
    if len(wanted) > SUBJECTS_MAX:
        raise TooMuch
    stream, least = batch[0][0].stream, max(at_least for _, _, at_least in batch)
    found = bus.lasts(stream, wanted, at_least=least)
    for place, subjects, _ in batch:
        rows = {subject: found[subject] for subject in subjects if subject in found}
        yield place, Snapshot(found.get(place.commits), rows)


def is_newest(bus: Bus, place: Place, sequence: int) -> bool:
    """Whether this is the newest commit of a place, as the leader tells; 0: there is none."""
    found = bus.last(place.stream, place.commits, leader=True)
    return sequence == (0 if found is None else found.sequence)


def newest_of_each(bus: Bus, stream: str, subjects: Sequence[str]) -> list[Message | None]:
    """The last message of each of these, in their order, with all that was answered until now.

    Of a few the leader is asked, one by one. Of many it is asked how far the stream goes, and a
    replica that has come so far tells of all at once; it may have lost some.
    """
    if len(subjects) <= FEW:
        return bus.last_of_each(stream, subjects)
    found = {message.subject: message for message in latest(bus, stream, subjects)}
    return [found.get(subject) for subject in subjects]


def latest(bus: Bus, stream: str, subjects: Sequence[str]) -> Iterator[Message]:
    """The last message of each of these, in their order, with all that was answered until now.

    However many there are; none of them is a pattern.
    """
    newest = bus.newest(stream)
    for start in range(0, len(subjects), SUBJECTS_MAX):
        wanted = subjects[start : start + SUBJECTS_MAX]
        found = bus.lasts(stream, wanted, at_least=newest)
        yield from (found[subject] for subject in wanted if subject in found)


def _weight(subject: str) -> int:
    return _PATTERN_MAX if subject.endswith("*") else 1


# -- by number -------------------------------------------------------------------------------------


def place_of(
    bus: Bus,
    stream: str,
    subject: str,
    reaches: Callable[[Message], bool],
    high: int,
    *,
    anybody: bool = False,
) -> int | None:
    """The sequence of the first message of a subject, below `high`, that reaches far enough.

    Those that do lie behind those that do not. A replica that is behind may know of none, and for
    one that has lost it the first may be one further on.

    Args:
        anybody: all nodes are asked at each step, so what is found is the first that any has.
    """
    found = None
    low = 1
    while low < high:
        middle = (low + high) // 2
        if anybody:
            messages = first_of_anybody(bus, stream, subject, middle)
        else:
            messages = bus.following(stream, subject, middle, count=1, leader=high - low < 64)
        while messages and not is_whole(messages[0]):
            messages = bus.following(stream, subject, messages[0].sequence + 1, count=1)
        if not messages or messages[0].sequence >= high:
            high = middle
        elif reaches(messages[0]):
            found, high = messages[0].sequence, middle
        else:
            low = messages[0].sequence + 1
    return found


def row_place(bus: Bus, place: Place, kind: int, seq: int, newest: int) -> int:
    """Place of the commit with the journal row that tells of an entry, or of one before it."""

    def reaches(message: Message) -> bool:
        boxes = opened(message, Commit).boxes
        return any(box.kind == kind and box.cursor >= seq for box in boxes)

    found = place_of(bus, place.stream, place.commits, reaches, newest + 1)
    if found is not None and _is_late(bus, place, found, reaches):
        found = place_of(bus, place.stream, place.commits, reaches, newest + 1, anybody=True)
    return found or 1


def _is_late(bus: Bus, place: Place, found: int, reaches: Callable[[Message], bool]) -> bool:
    """Whether a commit before the one that was found reaches as far."""
    there = bus.following(place.stream, place.commits, found, count=1)
    if not there or there[0].sequence != found:
        return True  # by another node than told of it
    previous = opened(there[0], Commit).previous
    if not previous:
        return False
    before = bus.following(place.stream, place.commits, previous, count=1)
    if not before or before[0].sequence != previous:
        before = first_of_anybody(bus, place.stream, place.commits, previous)
    return bool(before) and before[0].sequence < found and reaches(before[0])


def all_of(bus: Bus, stream: str, subject: str, through: int, after: int = 0) -> Iterator[Message]:
    """All messages of a subject behind a sequence, through another."""
    at = after + 1
    while at <= through:
        messages = bus.following(stream, subject, at, count=COMMITS_MAX)
        if not messages or messages[-1].sequence < through:
            messages = bus.following(stream, subject, at, count=COMMITS_MAX, leader=True)
        for message in messages:
            if message.sequence <= through:
                yield message
        if not messages:
            return
        at = messages[-1].sequence + 1


def commits_from(bus: Bus, place: Place, at: int, newest: int) -> Iterator[tuple[int, Commit]]:
    """Commits from a place on, through the newest, each with its sequence.

    Raises:
        StoreDamaged: one is missing between two of them, or is not what was written, on any node.
    """
    before = 0
    for message in all_of(bus, place.stream, place.commits, newest, at - 1):
        commit = opened(message, Commit)
        if before and commit.previous != before:
            yield from _missing_commits(bus, place, before, commit.previous)
        yield message.sequence, commit
        before = message.sequence


def _missing_commits(
    bus: Bus, place: Place, before: int, last: int
) -> Iterator[tuple[int, Commit]]:
    """Those behind a commit, through another, which a replica did not have."""
    while before < last:
        found = of_anybody(
            *(bus, place.stream, place.commits, before + 1),
            lambda messages, before=before: _follows(messages, before),  # type: ignore[misc]
            count=1,
        )
        if not _follows(found, before):
            raise StoreDamaged(
                f"commits behind message {before} on {place.commits} are missing on any node: run"
                " `pullstatus audit`, and restore a backup"
            )
        yield found[0].sequence, opened(found[0], Commit)
        before = found[0].sequence


def _follows(messages: Sequence[Message], before: int) -> bool:
    return bool(messages) and opened(messages[0], Commit).previous == before
