"""The proof, from the data alone, that nothing is lost, doubled or changed: see `verbs.proof`.

Beside it, that no message is missing: each commit names the one before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pullstatus.errors import StoreCorrupt
from pullstatus.store.acts import problems_of
from pullstatus.store.jetstream import snapshots
from pullstatus.store.jetstream.lists import Lists, Notes, Standing
from pullstatus.store.jetstream.messages import (
    AgainMessage,
    Box,
    PageMessage,
    ReaderMessage,
    opened,
)
from pullstatus.store.jetstream.subjects import Layout
from pullstatus.store.jetstream.wire import Bus
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


def audit_streams(
    bus: Bus, layout: Layout, epoch: int, progress: Progress, *, prove_setting: ProveSetting
) -> AuditReport:
    """Audit a store; `progress` is told applications done and to do."""
    lists = Lists(bus, layout)
    mailboxes: list[Backlog] = []
    findings: list[Finding] = []
    newest: list[int] = []
    numbers = list(lists.applications())
    copied: set[int] = set()
    for done, sdkappid in enumerate(numbers, 1):
        standing = lists.standing(sdkappid)
        if standing is not None:
            rows = [lists.backlog_of(standing, box) for box in standing.boxes if box.tail]
            mailboxes += rows
            findings += _of_application(bus, standing, rows, newest, copied)
        progress(done, len(numbers))
    acts = list(lists.act_rows())
    findings += [Finding(None, problem) for problem in problems_of(acts)]
    if stray := copied - {row.act_id for row in acts}:
        findings.append(
            Finding(None, f"copies are marked with {len(stray)} acts that are not on record")
        )
    for setting in lists.setting_rows():
        if setting.value is not None:
            try:
                prove_setting(setting.name, setting.value)
            except StoreCorrupt as error:
                findings.append(Finding(None, str(error)))
    newest += [row.last_pull_ms for row in mailboxes if row.last_pull_ms is not None]
    mailboxes.sort(key=lambda row: row.mailbox)
    return AuditReport(mailboxes, findings, epoch, max(newest, default=None))


def _of_application(
    bus: Bus, standing: Standing, rows: Sequence[Backlog], newest: list[int], copied: set[int]
) -> Iterator[Finding]:
    """What is wrong with one; adds when its newest entries came, and which acts made its copies."""
    try:
        yield from _chain(bus, standing)
        for row in rows:
            box = standing.box(row.mailbox.holds)
            assert box is not None
            kept = _Kept(bus, standing, box)
            found = list(problems(kept, row))
            yield from (Finding(row.mailbox, problem) for problem in found)
            if kept.newest_ms is not None:
                newest.append(kept.newest_ms)
            copied |= kept.acts
    except StoreCorrupt as error:
        yield Finding(rows[0].mailbox if rows else None, str(error))


def _chain(bus: Bus, standing: Standing) -> Iterator[Finding]:
    """Where a commit does not follow the one that it names."""
    before = None
    for sequence, commit in snapshots.commits_from(bus, standing.place, 1, standing.newest):
        if before is not None and commit.previous != before:
            mailbox = Mailbox(standing.sdkappid, commit.boxes[0].kind if commit.boxes else 0)
            yield Finding(mailbox, f"commits are missing before message {sequence}")
        before = sequence


class _Kept:
    """The rows of one mailbox; see `verbs.proof.Kept`."""

    def __init__(self, bus: Bus, standing: Standing, box: Box) -> None:
        self.key = key_of(slot(Mailbox(standing.sdkappid, box.kind)))
        self.newest_ms: int | None = None
        self.acts: set[int] = set()
        self._bus = bus
        self._standing = standing
        self._place = standing.place
        self._box = box

    def chunks(self) -> Iterator[ChunkRow]:
        first_seq = self._box.purged + 1
        for chunk in snapshots.chunks_of_box(
            self._bus, self._place, self._box, first_seq, self._standing.newest
        ):
            self.newest_ms = chunk.accepted_ms
            yield chunk.row

    def bounds(self) -> Iterator[tuple[int, int, bytes]]:
        for row in self.chunks():
            yield row.first_seq, row.size, row.bounds

    def journal(self) -> Iterator[LeftRow]:
        box, newest = self._box, self._standing.newest
        notes = Notes(box.kind)
        for _, commit in snapshots.commits_from(self._bus, self._place, box.rows_at, newest):
            notes.learn(commit)
        for _, commit in snapshots.commits_from(self._bus, self._place, box.rows_at, newest):
            for each in commit.rows:
                if each.kind == box.kind and each.first_seq + each.size - 1 > box.purged:
                    row = notes.told(each.journal_row(self._standing.sdkappid, box.purged))
                    held = row.reader if row.in_hand else None
                    yield LeftRow(row.first_seq, row.count, int(row.outcome), held)

    def readers(self) -> Sequence[tuple[str, ReaderRow, bytes | None]]:
        place, kind = self._place, self._box.kind
        names = self._bus.subjects(place.stream, place.readers(kind))
        found: list[tuple[str, ReaderRow, bytes | None]] = []
        for message in snapshots.latest(self._bus, place.stream, names):
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
        names = [subject, *sorted(self._bus.subjects(self._place.stream, f"{subject}.*"))]
        parts = [
            opened(message, PageMessage)
            for message in snapshots.latest(self._bus, self._place.stream, names)
        ]
        parts.sort(key=lambda part: part.part)
        return b"".join(part.page for part in parts[: parts[0].parts]) if parts else b""

    def copies(self) -> Iterable[tuple[int, int, int]]:
        place = self._place
        subject, newest = place.again(self._box.kind), self._standing.newest
        for message in snapshots.all_of(self._bus, place, subject, newest):
            row = opened(message, AgainMessage)
            if row.first_seq > self._box.purged:
                self.acts.add(row.act_id)
                yield row.first_seq, row.size, row.source_seq
