"""Was anything lost, or handed out twice? A judgement over the history of a run.

A history is every operation that clients began, with what they saw of it. An outcome is *ok*,
*fail* (a definite refusal) or *unknown* (a cut connection, a cut cable); unknown is never folded
into one of the others. Records have an id that is unique per attempted record: a retry keeps it.

    lost        acknowledged, never delivered, not erased, and no lost answer accounts for it
    duplicated  taken more than once: by two answers, or by an answer and a lost answer
    phantom     delivered but never attempted, or delivered before its attempt began
    undead      delivered although every attempt was refused, or after it was erased
    burned      taken by a pull that answered with a refusal
    corrupt     delivered with another digest
    misrouted   delivered by another mailbox
    oversize    records in answers that hold more than min(max, 100), or another count than they say
    reordered   overtaken by a record that was sent only after this one had been acknowledged
    false_short answers with fewer than `max` while an acknowledged record waited, and stayed
    torn        batches of unknown outcome of which a part came out
    changed     answers to one key that differ
    stranded    taken under a key that brought them nowhere, and whose client had not given it up
    unsettled   of a reader's page, and not acknowledged by just that reader; or of another's page,
                and acknowledged by a reader
    recovered   delivered, and the sender was never told that it had been accepted: allowed
    limbo       acknowledged, and taken by a pull whose answer was lost: allowed

A lost answer is known by its journal row, if the caller has read the journal: then exactly the ids
that it names are in limbo. Without, each pull of unknown outcome may account for as many records of
its mailbox as it asked for.

What readers acknowledge is judged if the caller has let them acknowledge all that they were handed,
and has read the journal after that.

Pulls with the same key are one pull with several answers. A key must not be used for two different
hand-outs in one history, so a run is shorter than the time a key is remembered.

Costs O(n log n) in records and operations.
"""

from __future__ import annotations

import enum
import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

PAGE_COUNT_MAX = 100
EMPTY_PULLS_AT_END = 3
EXAMPLES_MAX = 5

RecordId = int
Delivery = tuple[RecordId, Hashable]  # id and digest


class Verb(enum.Enum):
    """What an operation asked for."""

    INGEST = "ingest"
    PULL = "pull"
    REDELIVER = "redeliver"  # its records are the copies, with ids of their own
    ERASE = "erase"
    EXPIRE = "expire"


class Seen(enum.Enum):
    """How an operation ended for its client."""

    OK = "ok"
    FAIL = "fail"
    UNKNOWN = "unknown"


@dataclass(slots=True)
class Operation:
    """One line of a history.

    Attributes:
        verb, mailbox: what was asked of which mailbox.
        invoked, completed: on one monotonic clock for all clients; None if it never ended.
        outcome: what the client saw.
        records: attempted, delivered or erased ones, in order.
        count_max: `max` of a pull, as it was asked.
        count: how many records the answer said it had; None if it did not say.
        key: a pull's Idempotency-Key, unique in the history together with its mailbox.
        client: who began it, for people.
        keeps_key: its client says that it asks with the key until it has brought a page.
        gives_up: it does so no more: somebody was told that a page may be lost, and let it be.
        reader: a pull's reader, who acknowledges; None: what this takes is done with.
    """

    verb: Verb
    mailbox: Hashable
    invoked: float
    completed: float | None = None
    outcome: Seen = Seen.UNKNOWN
    records: Sequence[Delivery] = ()
    count_max: int = PAGE_COUNT_MAX
    count: int | None = None
    key: Hashable | None = None
    client: str = ""
    keeps_key: bool = False
    gives_up: bool = False
    reader: Hashable | None = None


@dataclass(slots=True)
class Report:
    """How many of each anomaly, and the first few of them."""

    lost: int = 0
    duplicated: int = 0
    phantom: int = 0
    undead: int = 0
    burned: int = 0
    corrupt: int = 0
    misrouted: int = 0
    oversize: int = 0
    reordered: int = 0
    false_short: int = 0
    torn: int = 0
    changed: int = 0
    stranded: int = 0
    unsettled: int = 0
    recovered: int = 0
    limbo: int = 0
    acknowledged: int = 0
    delivered: int = 0
    examples: dict[str, list[str]] = field(default_factory=dict)

    @property
    def anomalies(self) -> dict[str, int]:
        """The forbidden things that happened, by name."""
        return {name: count for name in FORBIDDEN if (count := getattr(self, name))}

    @property
    def valid(self) -> bool:
        """Whether every promise was kept."""
        return not self.anomalies

    def blame(self, name: str, example: str, count: int = 1) -> None:
        """Count an anomaly and keep it as an example if there are few yet."""
        setattr(self, name, getattr(self, name) + count)
        kept = self.examples.setdefault(name, [])
        if len(kept) < EXAMPLES_MAX:
            kept.append(example)

    def __str__(self) -> str:
        first = f"{self.acknowledged} acknowledged, {self.delivered} delivered, "
        lines = [f"{first}{self.recovered} recovered, {self.limbo} in limbo"]
        for name, count in self.anomalies.items():
            lines.append(f"{name}: {count}, such as")
            lines += [f"    {example}" for example in self.examples.get(name, ())]
        return "\n".join(lines)


FORBIDDEN = (
    "lost",
    "duplicated",
    "phantom",
    "undead",
    "burned",
    "corrupt",
    "misrouted",
    "oversize",
    "reordered",
    "false_short",
    "torn",
    "changed",
    "stranded",
    "unsettled",
)


class HistoryUnfinishedError(ValueError):
    """The history does not end with a full drain, so nothing can be said about it."""


class _Attempt:
    """All that was tried with one record."""

    __slots__ = ("acknowledged", "digest", "erased", "invoked", "mailbox", "refused", "taken")

    def __init__(self, mailbox: Hashable, digest: Hashable, invoked: float) -> None:
        self.mailbox = mailbox
        self.digest = digest
        self.invoked = invoked  # the first time
        self.acknowledged = math.inf  # the first time
        self.refused = True  # until an attempt is not
        self.erased = math.inf  # when an erasure of it had ended
        self.taken: _Taking | None = None


class _Taking:
    """One hand-out: a pull, or all pulls of one key."""

    __slots__ = (
        "asked",
        "completed",
        "count_max",
        "delivered",
        "invoked",
        "kept",
        "key",
        "mailbox",
        "name",
        "reader",
    )

    def __init__(self, operation: Operation, place: int) -> None:
        self.mailbox = operation.mailbox
        self.invoked = operation.invoked  # the earliest moment it can have happened
        self.completed = math.inf  # the latest
        self.delivered: Sequence[Delivery] = ()
        self.count_max = operation.count_max
        self.asked = 0  # the most that any of its pulls asked for so far, or a late one may have
        self.key = operation.key
        self.kept = operation.keeps_key
        self.reader = operation.reader
        self.name = f"operation {place}"

    def size_max(self, pull: Operation) -> int:
        """How much an answer to it may hold; a page in a reader's hand keeps its size."""
        return min(pull.count_max if self.reader is None else self.asked, PAGE_COUNT_MAX)


def check(
    history: Sequence[Operation],
    journal: Mapping[int, Sequence[RecordId]] | None = None,
    acknowledged: Mapping[RecordId, Sequence[Hashable]] | None = None,
    *,
    drained: bool = True,
) -> Report:
    """Judge a history.

    Args:
        history: every operation, in any order.
        journal: what the store says pulls took, by place in `history`; None if nobody looked.
        acknowledged: the readers that have acknowledged a record, as the store says; without those
            of which it says nothing any more.
        drained: False for a run that was not drained, of which nothing can be called lost.

    Raises:
        HistoryUnfinishedError: `drained`, but some mailbox was not pulled until empty three times.
        ValueError: the history contradicts itself: one id for two records.
    """
    if drained:
        _refuse_undrained(history)
    report = Report()
    attempts = _attempts(history)
    erased_perhaps = _erasures(history, attempts)
    takings = _takings(history, report)
    for taking in dict.fromkeys(takings.values()):
        _deliver(taking, attempts, report)
    limbo = _limbo(history, takings, attempts, journal, report)
    if drained:
        _count_lost(history, attempts, limbo, erased_perhaps, report, proven=journal is not None)
    _count_torn(history, attempts, limbo, erased_perhaps, report, proven=journal is not None)
    _count_unsettled(attempts, acknowledged or {}, report)
    _count_order(attempts, report)
    _count_false_short(
        history, attempts, erased_perhaps, report, proven=journal is not None and drained
    )
    return report


def _refuse_undrained(history: Iterable[Operation]) -> None:
    pulls: dict[Hashable, list[Operation]] = {}
    for operation in history:
        found = pulls.setdefault(operation.mailbox, [])
        if operation.verb is Verb.PULL:
            found.append(operation)
    for mailbox, found in pulls.items():
        found.sort(key=lambda pull: pull.invoked)
        last = found[-EMPTY_PULLS_AT_END:]
        if len(last) < EMPTY_PULLS_AT_END or any(
            pull.outcome is not Seen.OK or pull.records for pull in last
        ):
            raise HistoryUnfinishedError(
                f"mailbox {mailbox} was not pulled until {EMPTY_PULLS_AT_END} answers were empty"
            )


def _attempts(history: Iterable[Operation]) -> dict[RecordId, _Attempt]:
    attempts: dict[RecordId, _Attempt] = {}
    for operation in history:
        if operation.verb is not Verb.INGEST and operation.verb is not Verb.REDELIVER:
            continue
        mailbox, invoked = operation.mailbox, operation.invoked
        refused = operation.outcome is Seen.FAIL
        acknowledged = math.inf
        if operation.outcome is Seen.OK and operation.completed is not None:
            acknowledged = operation.completed
        for record, digest in operation.records:
            attempt = attempts.get(record)
            if attempt is None:
                attempt = attempts[record] = _Attempt(mailbox, digest, invoked)
            elif attempt.digest != digest or attempt.mailbox != mailbox:
                raise ValueError(f"the history calls two different records {record}")
            attempt.invoked = min(attempt.invoked, invoked)
            attempt.acknowledged = min(attempt.acknowledged, acknowledged)
            attempt.refused = attempt.refused and refused
    return attempts


def _erasures(history: Iterable[Operation], attempts: Mapping[RecordId, _Attempt]) -> set[RecordId]:
    """Note what was erased for certain; return what may have been."""
    perhaps: set[RecordId] = set()
    for operation in history:
        if operation.verb is not Verb.ERASE and operation.verb is not Verb.EXPIRE:
            continue
        ids = [record for record, _ in operation.records if record in attempts]
        if operation.outcome is Seen.OK and operation.completed is not None:
            for record in ids:
                attempt = attempts[record]
                attempt.erased = min(attempt.erased, operation.completed)
        if operation.outcome is not Seen.FAIL:
            perhaps.update(ids)
    return perhaps


def _takings(history: Sequence[Operation], report: Report) -> dict[int, _Taking]:
    """The hand-out that each pull belongs to, by its place in the history."""
    takings: dict[int, _Taking] = {}
    by_key: dict[tuple[Hashable, Hashable], _Taking] = {}
    late: dict[tuple[Hashable, Hashable], int] = {}  # what may still come, and take for its reader
    pulls = [
        (operation.invoked, place)
        for place, operation in enumerate(history)
        if operation.verb is Verb.PULL
    ]
    for _, place in sorted(pulls):
        pull = history[place]
        if pull.outcome is Seen.FAIL and pull.records:
            report.blame("burned", f"operation {place}", len(pull.records))
        if pull.key is None:
            taking = takings[place] = _Taking(pull, place)
        else:
            group = by_key.get((pull.mailbox, pull.key))
            if group is None:
                group = by_key[pull.mailbox, pull.key] = _Taking(pull, place)
            taking = takings[place] = group
            group.kept = group.kept and not pull.gives_up
        reader = pull.mailbox, pull.reader
        taking.asked = max(taking.asked, pull.count_max, late.get(reader, 0))
        if pull.outcome is Seen.UNKNOWN:
            late[reader] = taking.asked
        if pull.outcome is Seen.OK and (
            len(pull.records) > taking.size_max(pull)
            or (pull.count is not None and pull.count != len(pull.records))
        ):
            report.blame("oversize", f"operation {place}", len(pull.records) or 1)
        if pull.outcome is not Seen.OK or pull.completed is None:
            continue
        if not taking.delivered:
            taking.delivered = pull.records
        elif list(pull.records) != list(taking.delivered):
            # An empty answer may have been given before the page was taken; a later one lies.
            if pull.records or pull.invoked > taking.completed:
                report.blame("changed", f"{taking.name} and operation {place}, key {pull.key}")
            if pull.records:
                taking = takings[place] = _Taking(pull, place)
                taking.delivered = pull.records
            else:
                continue
        if pull.records or pull.key is None:
            taking.completed = min(taking.completed, pull.completed)
    return takings


def _deliver(taking: _Taking, attempts: Mapping[RecordId, _Attempt], report: Report) -> None:
    """Judge each record of an answer for itself."""
    report.delivered += len(taking.delivered)
    for record, digest in taking.delivered:
        attempt = attempts.get(record)
        if attempt is None or attempt.invoked > taking.completed:
            report.blame("phantom", f"record {record} in {taking.name}")
            if attempt is None:
                continue
        if attempt.refused or attempt.erased < taking.invoked:
            report.blame("undead", f"record {record} in {taking.name}")
        elif attempt.acknowledged == math.inf:
            report.recovered += 1
        if attempt.digest != digest:
            report.blame("corrupt", f"record {record} in {taking.name}")
        if attempt.mailbox != taking.mailbox:
            report.blame("misrouted", f"record {record} of {attempt.mailbox} in {taking.name}")
        if attempt.taken is None:
            attempt.taken = taking
        else:
            report.blame("duplicated", f"record {record} in {attempt.taken.name} and {taking.name}")


def _limbo(
    history: Sequence[Operation],
    takings: Mapping[int, _Taking],
    attempts: Mapping[RecordId, _Attempt],
    journal: Mapping[int, Sequence[RecordId]] | None,
    report: Report,
) -> set[RecordId]:
    """What lost answers took, as the journal names it."""
    limbo: set[RecordId] = set()
    for place, ids in (journal or {}).items():
        pull, taking = history[place], takings[place]
        if pull.outcome is Seen.FAIL:
            report.blame("burned", f"records {list(ids)[:3]} by operation {place}", len(ids))
            continue
        if len(ids) > taking.size_max(pull):
            report.blame("oversize", f"operation {place} in the journal", len(ids))
        if taking.delivered:
            if [record for record, _ in taking.delivered] == list(ids):
                continue
            report.blame("changed", f"the journal row of operation {place} and its answer")
        elif pull.outcome is Seen.OK:
            report.blame("changed", f"the journal row of operation {place} and its empty answer")
        elif taking.kept:
            report.blame("stranded", f"the page of operation {place}, key {pull.key}", len(ids))
        for record in ids:
            attempt = attempts.get(record)
            if attempt is None:
                report.blame("phantom", f"record {record} in the journal, operation {place}")
                continue
            if attempt.refused:
                report.blame("undead", f"record {record} in the journal, operation {place}")
            if attempt.taken is not None and attempt.taken is not taking:
                report.blame(
                    "duplicated",
                    f"record {record} in {attempt.taken.name} and the journal of operation {place}",
                )
            elif attempt.taken is None and pull.outcome is Seen.UNKNOWN:
                limbo.add(record)
                attempt.taken = taking
                report.limbo += attempt.acknowledged < math.inf
    return limbo


def _count_lost(
    history: Iterable[Operation],
    attempts: Mapping[RecordId, _Attempt],
    limbo: set[RecordId],
    erased_perhaps: set[RecordId],
    report: Report,
    *,
    proven: bool,
) -> None:
    missing: defaultdict[Hashable, list[RecordId]] = defaultdict(list)
    for record, attempt in attempts.items():
        if attempt.acknowledged < math.inf:
            report.acknowledged += 1
            if attempt.taken is None and record not in limbo and record not in erased_perhaps:
                missing[attempt.mailbox].append(record)
    allowed = Counter[Hashable]() if proven else _unknown_pulls(history)
    for mailbox, records in missing.items():
        excused = min(allowed[mailbox], len(records))
        report.limbo += excused
        for record in records[excused:]:
            report.blame("lost", f"record {record} of {mailbox}")


def _unknown_pulls(history: Iterable[Operation]) -> Counter[Hashable]:
    """How many records of each mailbox lost answers may hold."""
    allowed: Counter[Hashable] = Counter()
    answered = {
        (pull.mailbox, pull.key)
        for pull in history
        if pull.verb is Verb.PULL and pull.outcome is Seen.OK and pull.records
    }
    keys: set[tuple[Hashable, Hashable]] = set()
    for pull in history:
        if pull.verb is not Verb.PULL or pull.outcome is not Seen.UNKNOWN:
            continue
        if pull.key is not None:
            group = (pull.mailbox, pull.key)
            if group in answered or group in keys:
                continue
            keys.add(group)
        allowed[pull.mailbox] += min(pull.count_max, PAGE_COUNT_MAX)
    return allowed


def _count_torn(
    history: Sequence[Operation],
    attempts: Mapping[RecordId, _Attempt],
    limbo: set[RecordId],
    erased_perhaps: set[RecordId],
    report: Report,
    *,
    proven: bool,
) -> None:
    """A batch is accepted as a whole or not at all, also when nobody was told which."""
    unknown = [
        (place, operation)
        for place, operation in enumerate(history)
        if operation.outcome is Seen.UNKNOWN
        and (operation.verb is Verb.INGEST or operation.verb is Verb.REDELIVER)
    ]
    if not unknown:
        return
    uses = Counter(
        record
        for operation in history
        if operation.verb is Verb.INGEST or operation.verb is Verb.REDELIVER
        for record, _ in operation.records
    )
    hidden = Counter[Hashable]() if proven else _unknown_pulls(history)
    for place, operation in unknown:
        if hidden[operation.mailbox]:
            continue  # the rest may be in a lost answer
        own = [
            record
            for record, _ in operation.records
            if uses[record] == 1 and record not in erased_perhaps
        ]
        out = [record for record in own if attempts[record].taken is not None or record in limbo]
        if out and len(out) < len(own):
            report.blame("torn", f"operation {place}: {len(out)} of {len(own)} came out")


def _count_unsettled(
    attempts: Mapping[RecordId, _Attempt],
    acknowledged: Mapping[RecordId, Sequence[Hashable]],
    report: Report,
) -> None:
    """Whoever was handed a record is the one that has acknowledged it, and nobody else is."""
    for record, readers in acknowledged.items():
        taking = attempts[record].taken if record in attempts else None
        if taking is None:
            continue
        due = () if taking.reader is None else (taking.reader,)
        if tuple(readers) != due:
            report.blame(
                "unsettled",
                f"record {record} in {taking.name} of reader {taking.reader},"
                f" acknowledged by {', '.join(map(str, readers)) or 'nobody'}",
            )


def _count_order(attempts: Mapping[RecordId, _Attempt], report: Report) -> None:
    """A overtaken by B: A acknowledged before B was sent, B gone before A's pull began."""
    answers: dict[_Taking, list[tuple[RecordId, _Attempt]]] = {}
    for record, attempt in attempts.items():
        if attempt.taken is not None:
            answers.setdefault(attempt.taken, []).append((record, attempt))
    by_mailbox: defaultdict[Hashable, list[_Taking]] = defaultdict(list)
    for taking in answers:
        by_mailbox[taking.mailbox].append(taking)
    for takings in by_mailbox.values():
        takings.sort(key=lambda taking: taking.completed)
        ends = [taking.completed for taking in takings]
        # The latest sent of all that was gone by the end of each answer.
        latest = list(
            accumulate(
                (max(attempt.invoked for _, attempt in answers[taking]) for taking in takings), max
            )
        )
        for taking in takings:
            before = bisect_left(ends, taking.invoked)
            latest_sent = latest[before - 1] if before else -math.inf
            place = {record: at for at, (record, _) in enumerate(taking.delivered)}
            inside = answers[taking]
            inside.sort(key=lambda item: place.get(item[0], 0))
            for record, attempt in inside:
                if attempt.acknowledged < latest_sent:
                    report.blame("reordered", f"record {record} in {taking.name}")
                if place:
                    latest_sent = max(latest_sent, attempt.invoked)


def _count_false_short(
    history: Sequence[Operation],
    attempts: Mapping[RecordId, _Attempt],
    erased_perhaps: set[RecordId],
    report: Report,
    *,
    proven: bool,
) -> None:
    waiting: defaultdict[Hashable, list[tuple[float, float]]] = defaultdict(list)
    for record, attempt in attempts.items():
        if attempt.acknowledged == math.inf or record in erased_perhaps:
            continue
        if attempt.taken is not None:
            waiting[attempt.mailbox].append((attempt.acknowledged, attempt.taken.invoked))
        elif proven:
            waiting[attempt.mailbox].append((attempt.acknowledged, math.inf))
    sorted_waiting = {}
    for mailbox, spans in waiting.items():
        spans.sort()
        sorted_waiting[mailbox] = (
            [acknowledged for acknowledged, _ in spans],
            list(accumulate((gone for _, gone in spans), max)),
        )
    page_began = {  # a repeated answer shows the mailbox as it was at the first attempt
        (pull.mailbox, pull.key): pull.invoked
        for pull in sorted(history, key=lambda pull: -pull.invoked)
        if pull.verb is Verb.PULL and pull.key is not None
    }
    for place, pull in enumerate(history):
        if (
            pull.verb is not Verb.PULL
            or pull.outcome is not Seen.OK
            or pull.completed is None
            or len(pull.records) >= min(pull.count_max, PAGE_COUNT_MAX)
            or pull.mailbox not in sorted_waiting
        ):
            continue
        began = pull.invoked
        if pull.key is not None and pull.records:
            began = page_began[pull.mailbox, pull.key]
        acknowledged, gone = sorted_waiting[pull.mailbox]
        before = bisect_left(acknowledged, began)
        if before and gone[before - 1] > pull.completed:
            report.blame("false_short", f"operation {place}")
