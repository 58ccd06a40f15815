"""The proof, from the data alone, that nothing is lost, doubled or changed: see `verbs.proof`.

Beside it, that no message is missing: each commit names the one before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from pullstatus.errors import StoreCorrupt, StoreDamaged
from pullstatus.store.acts import problems_of
from pullstatus.store.jetstream import snapshots
from pullstatus.store.jetstream.chunks import chunks_of_box
from pullstatus.store.jetstream.lists import ApplicationStanding, Lists, rows_from
from pullstatus.store.jetstream.messages import (
    AgainMessage,
    Box,
    PageMessage,
    ReaderMessage,
    is_whole,
    opened,
)
from pullstatus.store.jetstream.proven import ProvenBus
from pullstatus.store.jetstream.subjects import Layout
from pullstatus.store.jetstream.wire import Bus, Message
from pullstatus.store.texts import decoded
from pullstatus.store.values import (
    AuditReport,
    Backlog,
    Finding,
    Mailbox,
    Progress,
    ProveSetting,
)
from pullstatus.store.verbs.proof import LeftRow, problems
from pullstatus.store.verbs.state import key_of, slot
from pullstatus.store.verbs.tables import ChunkRow, ReaderRow

LOOKS_MAX: Final = 10  # at an application that changes meanwhile


def audit_streams(
    bus: Bus, layout: Layout, epoch: int, progress: Progress, *, prove_setting: ProveSetting
) -> AuditReport:
    """Audit a store; `progress` is told applications done and to do."""
    bus = ProvenBus(bus)
    lists = Lists(bus, layout)
    mailboxes: list[Backlog] = []
    findings: list[Finding] = []
    newest: list[int] = []
    numbers = list(lists.applications())
    copied: set[int] = set()
    for done, sdkappid in enumerate(numbers, 1):
        rows, found = _of_application(bus, lists, sdkappid, newest, copied)
        mailboxes += rows
        findings += found
        progress(done, len(numbers))
    findings += [Finding(None, problem) for problem in _of_none(lists, copied, prove_setting)]
    findings += [Finding(None, problem) for problem in _of_names(bus, layout)]
    newest += [row.last_pull_ms for row in mailboxes if row.last_pull_ms is not None]
    mailboxes.sort(key=lambda row: row.mailbox)
    return AuditReport(mailboxes, findings, epoch, max(newest, default=None))


def _of_none(lists: Lists, copied: set[int], prove_setting: ProveSetting) -> Iterator[str]:
    """What is wrong with what is of no application."""
    try:
        acts = list(lists.act_rows())
        yield from problems_of(acts)
        if stray := copied - {row.act_id for row in acts}:
            yield f"copies are marked with {len(stray)} acts that are not on record"
        for setting in lists.setting_rows():
            if setting.value is not None:
                try:
                    prove_setting(setting.name, setting.value)
                except StoreCorrupt as error:
                    yield str(error)
    except StoreDamaged as error:
        yield str(error)


def _of_names(bus: Bus, layout: Layout) -> Iterator[str]:
    """Names of sends that are damaged: receipts of these are not known any more."""
    for partition in range(layout.partitions):
        stream, subject = layout.stream(partition), layout.names(partition)
        named = snapshots.all_of(bus, stream, subject, bus.newest(stream))
        if damaged := sum(1 for message in named if not is_whole(message)):
            yield f"{damaged} messages of names of sends are damaged in partition {partition}"


def _of_application(
    bus: Bus, lists: Lists, sdkappid: int, newest: list[int], copied: set[int]
) -> tuple[Sequence[Backlog], Sequence[Finding]]:
    """How the mailboxes of one stand, and what is wrong with it, as of one commit of it.

    Adds when its newest entries came, and which acts made its copies.
    """
    rows: Sequence[Backlog] = ()
    found: Sequence[Finding] = ()
    try:
        for _ in range(LOOKS_MAX):
            moment = lists.moment(sdkappid)
            if moment is None:
                break
            standing, beside = moment
            rows = [lists.backlog_of(standing, box) for box in standing.boxes if box.tail]
            found = list(_findings(bus, standing, beside, rows, newest, copied))
            now = lists.standing(sdkappid)
            if not found or now is None or now.newest == standing.newest:
                break  # else what seems to be missing may have been removed meanwhile
    except (StoreCorrupt, StoreDamaged) as error:
        found = [*found, Finding(None, f"application {sdkappid}: {error}")]
    return rows, found


def _findings(
    bus: Bus,
    standing: ApplicationStanding,
    beside: Mapping[str, Message],
    rows: Sequence[Backlog],
    newest: list[int],
    copied: set[int],
) -> Iterator[Finding]:
    try:
        for _ in snapshots.commits_from(bus, standing.place, 1, standing.newest):
            pass  # none is missing
        for row in rows:
            box = standing.box(row.mailbox.holds)
            assert box is not None
            kept = _Kept(bus, standing, beside, box)
            found = list(problems(kept, row))
            yield from (Finding(row.mailbox, problem) for problem in found)
            if kept.newest_ms is not None:
                newest.append(kept.newest_ms)
            copied |= kept.acts
    except (StoreCorrupt, StoreDamaged) as error:
        yield Finding(rows[0].mailbox if rows else None, str(error))
    if damaged := sum(1 for message in _remembered(bus, standing) if not is_whole(message)):
        yield Finding(
            rows[0].mailbox if rows else None,
            f"{damaged} messages of what is remembered to know repeats by are damaged",
        )


def _remembered(bus: Bus, standing: ApplicationStanding) -> Iterator[Message]:
    """Keys, batches, fingerprints, and what must not come twice."""
    place, at = standing.place, 1
    for subject in place.remembered:
        while messages := bus.following(place.stream, subject, at, count=snapshots.COMMITS_MAX):
            yield from messages
            at = messages[-1].sequence + 1
        at = 1


class _Kept:
    """The rows of one mailbox; see `verbs.proof.Kept`."""

    def __init__(
        self, bus: Bus, standing: ApplicationStanding, beside: Mapping[str, Message], box: Box
    ) -> None:
        self._beside = beside
        self.key = key_of(slot(Mailbox(standing.sdkappid, box.kind)))
        self.newest_ms: int | None = None
        self.acts: set[int] = set()
        self._bus = bus
        self._standing = standing
        self._place = standing.place
        self._box = box

    def chunks(self) -> Iterator[ChunkRow]:
        first_seq = self._box.purged + 1
        for chunk in chunks_of_box(
            self._bus, self._place, self._box, first_seq, self._standing.newest
        ):
            self.newest_ms = chunk.accepted_ms
            yield chunk.row

    def bounds(self) -> Iterator[tuple[int, int, bytes]]:
        for row in self.chunks():
            yield row.first_seq, row.size, row.bounds

    def journal(self) -> Iterator[LeftRow]:
        for row in rows_from(self._bus, self._standing, self._box, self._box.rows_at):
            held = row.reader if row.in_hand else None
            yield LeftRow(row.first_seq, row.count, int(row.outcome), held)

    def readers(self) -> Sequence[tuple[str, ReaderRow, bytes | None]]:
        found: list[tuple[str, ReaderRow, bytes | None]] = []
        begin = self._place.readers(self._box.kind).removesuffix("*")
        for subject, message in self._beside.items():
            if not subject.startswith(begin):
                continue
            told = opened(message, ReaderMessage)
            if told.row is None:
                continue
            name, page = decoded(told.name), None
            if told.row.kept:
                page = self._page(name)
            found.append((name, told.row, page))
        return sorted(found, key=lambda each: each[1].first_seq)

    def _page(self, name: str) -> bytes:
        """The page that is kept for a reader."""
        subject = self._place.page(self._box.kind, name)
        parts = [
            opened(message, PageMessage)
            for name_of, message in self._beside.items()
            if name_of == subject or name_of.startswith(f"{subject}.")
        ]
        parts.sort(key=lambda part: part.part)
        return b"".join(part.page for part in parts[: parts[0].parts]) if parts else b""

    def copies(self) -> Iterable[tuple[int, int, int]]:
        place = self._place
        subject, newest = place.again(self._box.kind), self._standing.newest
        for message in snapshots.all_of(self._bus, place.stream, subject, newest):
            row = opened(message, AgainMessage).behind(self._box.purged)
            if row is not None:
                self.acts.add(row.act_id)
                yield row.first_seq, row.size, row.source_seq
