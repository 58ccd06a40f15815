"""What the clients of a store have seen, against what is stored: the judgement of a run of `Doors`.

    verdict = await judge(url, folder, killed)
    assert verdict.sound, verdict

What is pending is done first, through one door more: keyed batches and pages are asked for until
they come, readers acknowledge what they have in hand, and everything is pulled until three answers
are empty. Then the history goes to the checker (tests/sim/checker.py), whose promises are those of
the whole project, and beside it is looked at:

    unresolved  operations whose client was told that their outcome is unknown
    wrong       answers that no client may get, and pages that are not what is stored there
    gaps        numbers without an entry, or ranges that no journal row or several account for
    totals_off  mailboxes whose totals are not what entries and journal add up to
    derived     what is counted twice or not, or not found: see followers.py
    audit       what `pullstatus audit` finds
    replicas    what not all nodes have alike, where there are several: see replicas.py
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from pullstatus.store import (
    Again,
    AuditReport,
    Backlog,
    Entry,
    JournalRow,
    Mailbox,
    Outcome,
    Store,
    audit_store,
)
from tests.faults.doors import (
    APPLICATIONS,
    LET_GO,
    MAILBOXES,
    Begun,
    Client,
    Ended,
    Live,
    Load,
    Request,
    ids_of,
    lines_of,
    opened,
)
from tests.faults.followers import derived_off, names_off
from tests.sim.checker import EMPTY_PULLS_AT_END, Operation, Report, Seen, Verb, check

COPY = 1 << 40  # a copy has its original's id plus this
DRAIN = "drain 0"
BOXES = (*MAILBOXES, LET_GO)


@dataclass
class Verdict:
    """What came of a run."""

    report: Report
    operations: int = 0
    killed: int = 0  # operations whose process was killed meanwhile
    unresolved: int = 0
    wrong: list[str] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    totals_off: list[str] = field(default_factory=list)
    derived: list[str] = field(default_factory=list)
    audit: list[str] = field(default_factory=list)
    replicas: list[str] = field(default_factory=list)

    @property
    def found(self) -> dict[str, int]:
        """All that must not be, by name."""
        beside = {
            "unresolved": self.unresolved,
            "wrong": len(self.wrong),
            "gaps": len(self.gaps),
            "totals_off": len(self.totals_off),
            "derived": len(self.derived),
            "audit": len(self.audit),
            "replicas": len(self.replicas),
        }
        return self.report.anomalies | {name: count for name, count in beside.items() if count}

    @property
    def sound(self) -> bool:
        """Whether every promise was kept."""
        return not self.found

    def __str__(self) -> str:
        kinds = (self.wrong, self.gaps, self.totals_off, self.derived, self.audit, self.replicas)
        examples = [example for kind in kinds for example in kind[:5]]
        return "\n".join(
            [
                f"{self.operations} operations, {self.killed} of them killed; {self.report}",
                *(f"{name}: {count}" for name, count in self.found.items()),
                *examples,
            ]
        )


@dataclass
class Stored:
    """What a mailbox has: all of it, since nothing is purged here."""

    entries: list[Entry]
    rows: list[JournalRow]
    again: list[Again]

    def instances(self) -> dict[int, int]:
        """The id of what is at each number: that of its record, and `COPY` for each copying."""
        found: dict[int, int] = {}
        source = {
            copied.first_seq + place: copied.source_seq + place
            for copied in self.again
            for place in range(copied.count)
        }
        for entry in self.entries:
            original = source.get(entry.seq)
            [number] = ids_of(entry.data)
            found[entry.seq] = number if original is None else found[original] + COPY
        return found


async def judge(
    url: str,
    folder: Path,
    seed: object = 1,
    load: Load = Load(),  # noqa: B008 it is a constant
) -> Verdict:
    """Finish what is pending, look at everything, and judge; no process may be at work any more.

    Args:
        load: the one that `Doors` had.
    """
    names = names_of(folder)
    store = await opened(url)
    assert store is not None
    try:
        for name in names:
            await _settle(Live(folder, name, seed, load, late=True), store)
        await _drain(Live(folder, DRAIN, seed, late=True), store)
        stored = {mailbox: await _look(store, mailbox) for mailbox in BOXES}
        backlog = {row.mailbox: row for row in await store.backlog()}
        derived = await derived_off(store, BOXES)
        derived += await names_off(store, APPLICATIONS)
    finally:
        await store.close()
    audit = await audit_store(url, lambda _done, _total: None)
    lines = {name: list(lines_of(folder / f"{name}.log")) for name in (*names, DRAIN)}
    verdict = verdict_of(lines, stored, backlog, audit)
    verdict.derived = derived
    return verdict


def names_of(folder: Path) -> list[str]:
    """The processes that have something on record."""
    return sorted(file.stem for file in folder.glob("*.log"))


async def _settle(clients: Live, store: Store) -> None:
    await clients.run(store)
    for client in clients.clients:
        for mailbox, first_seq in client.in_hand.items():
            reader = client.name.replace(" ", "-")
            request = Request(Verb.PULL, mailbox, reader=reader, ack=first_seq)
            await clients.attempt(client, request, store)  # what is refused is on record


async def _drain(clients: Live, store: Store) -> None:
    client = Client("drain", Random(0), lambda _client: Request(Verb.PULL, LET_GO))
    for mailbox in BOXES:
        empty = 0
        while empty < EMPTY_PULLS_AT_END:
            request = Request(Verb.PULL, mailbox, count_max=100)
            ended = await clients.attempt(client, request, store)
            assert ended.outcome is Seen.OK, ended
            empty = 0 if ended.runs else empty + 1


async def _look(store: Store, mailbox: Mailbox) -> Stored:
    return Stored(
        [entry async for entry in store.entries(mailbox)],
        [row async for row in store.journal(mailbox)],
        [again async for again in store.again(mailbox)],
    )


# --- pure -----------------------------------------------------------------------------------------


def verdict_of(
    lines: dict[str, list[Begun | Ended]],
    stored: dict[Mailbox, Stored],
    backlog: dict[Mailbox, Backlog],
    audit: AuditReport,
) -> Verdict:
    """Judge.

    Args:
        lines: what the clients of each process have on record.
        stored: all that there is, of all mailboxes.
    """
    instances = {mailbox: one.instances() for mailbox, one in stored.items()}
    begun = [
        (name, line) for name, all_ in lines.items() for line in all_ if isinstance(line, Begun)
    ]
    ended = {
        (name, line.number): line
        for name, all_ in lines.items()
        for line in all_
        if isinstance(line, Ended)
    }
    answers = [ended.get((name, line.number)) for name, line in begun]
    verdict = Verdict(Report(), len(begun), sum(answer is None for answer in answers))
    history = []
    for (_, line), answer in zip(begun, answers, strict=True):
        history.append(_operation(line, answer, instances[line.request.mailbox], verdict))
        if answer is not None:
            verdict.unresolved += answer.outcome is Seen.UNKNOWN
            verdict.wrong += [answer.problem] if answer.problem else []
    places = {line.ticket: place for place, (_, line) in enumerate(begun)}
    journal, acknowledged = _journal(stored, instances, places, history, verdict)
    verdict.report = check(history, journal, acknowledged)
    for mailbox, one in stored.items():
        verdict.gaps += gaps_of(mailbox, one)
        verdict.totals_off += totals_of(mailbox, one, backlog.get(mailbox))
    verdict.audit = [f"{finding.mailbox}: {finding.problem}" for finding in audit.findings]
    _judge_bytes(begun, answers, verdict)
    return verdict


def _operation(
    line: Begun, answer: Ended | None, instances: dict[int, int], verdict: Verdict
) -> Operation:
    request = line.request
    operation = Operation(
        request.verb,
        request.mailbox,
        line.at,
        count_max=request.count_max,
        key=request.page_key,
        client=line.client,
        keeps_key=request.repeatable and request.page_key is not None,
        reader=request.reader,
    )
    if answer is not None:
        operation.outcome = answer.outcome
        operation.completed = None if answer.outcome is Seen.UNKNOWN else answer.at
    if request.verb is Verb.INGEST:
        operation.records = [(number, 0) for number in request.ids]
    elif request.verb is Verb.REDELIVER:
        numbers = range(request.ack, request.ack + request.count_max)
        operation.records = [(instances[seq] + COPY, 0) for seq in numbers if seq in instances]
    elif answer is not None and answer.runs:
        operation.records = list(_delivered(answer, request, instances, verdict))
        operation.count = answer.count
    return operation


def _delivered(
    answer: Ended, request: Request, instances: dict[int, int], verdict: Verdict
) -> Iterable[tuple[int, int]]:
    """The records of a page; those that are not what is stored there are told by their own ids."""
    for place, number in enumerate(answer.ids):
        instance = instances.get(answer.first_seq + place)
        there = instance is not None and instance % COPY == number
        if not there:
            seq = answer.first_seq + place
            verdict.wrong.append(f"record {number} came as {request.mailbox} number {seq}")
        yield instance if there and instance is not None else number, int(answer.odd)


def _journal(
    stored: dict[Mailbox, Stored],
    instances: dict[Mailbox, dict[int, int]],
    places: dict[bytes, int],
    history: Sequence[Operation],
    verdict: Verdict,
) -> tuple[dict[int, Sequence[int]], dict[int, list[str]]]:
    """What the journal says was taken by which operation, and who has acknowledged what.

    What operators let go becomes part of their operations.
    """
    taken: dict[int, Sequence[int]] = {}
    acknowledged: dict[int, list[str]] = {}
    for mailbox, one in stored.items():
        for row in one.rows:
            seqs = range(row.first_seq, row.first_seq + row.count)
            ids = [instances[mailbox][seq] for seq in seqs if seq in instances[mailbox]]
            place = places.get(row.ticket)
            if place is None:
                verdict.wrong.append(f"{mailbox}: row {row.first_seq} is of no operation")
            elif row.outcome is Outcome.PULLED:
                taken[place] = ids
                for number in ids:
                    by = acknowledged.setdefault(number, [])
                    if row.reader is not None and row.acked_ms is not None:
                        by.append(row.reader)
            else:
                history[place].records = [(number, 0) for number in ids]
    return taken, acknowledged


def gaps_of(mailbox: Mailbox, stored: Stored) -> list[str]:
    """Where numbers do not follow each other, of entries or of the journal's ranges."""
    found = [
        f"{mailbox}: entry {entry.seq} is the {place}."
        for place, entry in enumerate(stored.entries, 1)
        if entry.seq != place
    ]
    due = 1
    for row in stored.rows:
        if row.first_seq != due:
            found.append(f"{mailbox}: a row begins at {row.first_seq} instead of {due}")
        due = row.first_seq + row.count
    if due != len(stored.entries) + 1:
        found.append(
            f"{mailbox}: rows end before {due}, and there are {len(stored.entries)} entries"
        )
    return found


def totals_of(mailbox: Mailbox, stored: Stored, backlog: Backlog | None) -> list[str]:
    """Which totals are not what entries and journal add up to."""
    sums = dict.fromkeys(Outcome, 0)
    for row in stored.rows:
        sums[row.outcome] += row.count
    due = Backlog(
        mailbox,
        accepted=len(stored.entries),
        handed_out=sums[Outcome.PULLED],
        waiting=len(stored.entries) - sum(sums.values()),
        expired=sums[Outcome.EXPIRED],
    )
    if backlog is None:
        return [f"{mailbox}: no totals"] if stored.entries else []
    names = ("accepted", "handed_out", "waiting", "expired", "erased", "quarantined", "purged")
    return [
        f"{mailbox}: {name} is {getattr(backlog, name)} instead of {getattr(due, name)}"
        for name in names
        if getattr(backlog, name) != getattr(due, name)
    ]


def _judge_bytes(
    begun: Sequence[tuple[str, Begun]], answers: Sequence[Ended | None], verdict: Verdict
) -> None:
    """All answers to one key must be the same, byte for byte."""
    pages: dict[tuple[Mailbox, str], tuple[int, int]] = {}
    for (_, line), answer in zip(begun, answers, strict=True):
        key = line.request.page_key
        if key is not None and answer is not None and answer.runs:
            page = answer.first_seq, answer.digest
            if pages.setdefault((line.request.mailbox, key), page) != page:
                verdict.wrong.append(f"{line.request.mailbox}: key {key} brought other bytes")
