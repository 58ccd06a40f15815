"""What clients do, at random, and the lives that consist of it.

To add an operation that shares commits, write a function that plans one and name it in `SHARED`;
one that stands alone goes into `ALONE`. A plan says what to do, what the history is told, how to
judge the answer, and how its traces are recognised after a cut.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from random import Random
from typing import TypeVar, cast
from unittest import mock

import apsw
import msgspec

from pullstatus import limits
from pullstatus.errors import (
    AcknowledgementRefused,
    InvalidSetting,
    KeyReused,
    ReplayRefused,
    SettingChanged,
)
from pullstatus.records import Kind
from pullstatus.store import chunk, segments, values
from pullstatus.store.gathering.operations import Answer, Changes, Forget, Purge
from pullstatus.store.sqlite import joining, schema
from pullstatus.store.sqlite.audit import audit
from pullstatus.store.values import (
    TICKET_BYTES,
    Act,
    Append,
    Aside,
    Change,
    Count,
    Discard,
    Fingerprints,
    Follow,
    Followed,
    Mailbox,
    Naming,
    Once,
    Outcome,
    Page,
    Park,
    Pull,
    PutAside,
    Reader,
    Redeliver,
    Release,
    RepeatKey,
    Unpark,
)
from tests.sim import checker
from tests.sim.checker import Delivery, Seen, Verb
from tests.sim.disk import VFS_NAME, Disk, PowerCut
from tests.sim.found import SENDS, Found, PromiseBroken, Range, discard_name, hash_of
from tests.sim.life import (
    HOUR_MS,
    MAILBOXES,
    Batch,
    Consumer,
    KeyedPull,
    Life,
    Plan,
    Push,
    Setup,
    Signature,
    Tally,
)

T = TypeVar("T")

FORGOTTEN_MS = 73 * HOUR_MS  # nobody comes back to anything as old as that
NO_HURRY_S = 3600.0  # steps of upkeep end by their count, whatever the machine does
TEMPLATES = 6
COUNTS_MAX = (1, 1, 2, 3, 7, 10, 50, 99, 100, 100)


# -- appends ---------------------------------------------------------------------------------------


def plan_append(life: Life, _group: Sequence[Plan]) -> Plan:
    """New records, with or without what makes them recognisable."""
    rng = life.rng
    mailbox = any_mailbox(life)
    if rng.random() < 0.04:
        sizes = [12] * rng.choice((99, 100, 101, 230))
    else:
        count = rng.choice((1, 1, 1, 2, 3, 5, 12))
        sizes = rng.choices((12, 60, 250, 3000, 16_000), (400, 400, 200, 30, 10), k=count)
    records = life.records(sizes)
    repeat_key = None
    if rng.random() < 0.4:
        name = f"b{records[0][0]}"
        repeat_key = RepeatKey("s", name, name.rjust(16).encode())
    plan = plan_append_of(life, mailbox, records, repeat_key, fingerprinted=rng.random() < 0.3)

    def happened(found: Found) -> bool:
        stored = set(found.kept.get(mailbox, ()))
        there = {data in stored for _, data in records}
        if len(there) > 1:
            raise PromiseBroken(f"a batch of {mailbox} came back in part")
        return there.pop()

    plan.happened = happened
    operation, entry = cast("Append", plan.operation), cast("checker.Operation", plan.entry)
    life.batches.append(Batch(operation, entry))
    return plan


def plan_append_again(life: Life, _group: Sequence[Plan]) -> Plan | None:
    """A batch again, byte for byte, by a sender who did not get the answer, or forgot it."""
    batch = recent(life, [batch for batch in life.batches if _recognisable(batch.operation)])
    if batch is None:
        return None
    operation = batch.operation
    return plan_append_of(
        life,
        operation.mailbox,
        batch.entry.records,
        operation.repeat_key,
        fingerprinted=operation.fingerprints is not None,
    )


def plan_append_known(life: Life, _group: Sequence[Plan]) -> Plan | None:
    """Some records of an earlier batch among new ones."""
    batch = recent(life, [batch for batch in life.batches if batch.operation.fingerprints])
    if batch is None:
        return None
    old = batch.entry.records
    known = life.rng.sample(old, life.rng.randrange(1, len(old) + 1))
    records = [*known, *life.records((12, 60))]
    return plan_append_of(life, batch.operation.mailbox, records, None, fingerprinted=True)


def plan_append_reused(life: Life, _group: Sequence[Plan]) -> Plan | None:
    """Another batch under a key that was used."""
    batch = recent(life, [batch for batch in life.batches if batch.operation.repeat_key])
    if batch is None:
        return None
    life.batches.remove(batch)  # if this takes its key over, it can't come again
    key = cast("RepeatKey", batch.operation.repeat_key)
    reused = RepeatKey(key.scope, key.key, b"another body    ")
    plan = plan_append_of(
        life, batch.operation.mailbox, life.records((12,)), reused, fingerprinted=False
    )
    accept = plan.settle

    def settle(answer: Answer) -> None:
        if batch.entry.outcome is Seen.OK:
            raise PromiseBroken(f"key {key.key} was accepted with another batch")
        accept(answer)

    plan.settle = settle
    plan.refusals = (KeyReused,)
    return plan


def plan_append_of(
    life: Life,
    mailbox: Mailbox,
    records: Sequence[Delivery],
    repeat_key: RepeatKey | None = None,
    *,
    fingerprinted: bool = False,
) -> Plan:
    """An append of these records."""
    fingerprints = None
    if fingerprinted:
        marks = [(record, b"%016d" % record) for record, _ in records]
        fingerprints = Fingerprints(str(mailbox), marks)
    entries = [cast("bytes", data) for _, data in records]
    operation = Append(mailbox, entries, life.at_ms(), repeat_key, fingerprints)

    # What of it was known is not new; that all of it is there is looked at later.
    known = range(len(entries)) if fingerprinted else range(1 if repeat_key else 0)

    def settle(answer: Answer) -> None:
        if answer != len(entries) and answer not in known:
            raise PromiseBroken(f"{answer!r} of {len(entries)} records were new")

    return Plan(operation, checker.Operation(Verb.INGEST, mailbox, 0, records=records), settle)


def plan_park(life: Life, _group: Sequence[Plan]) -> Plan:
    """A push of which some can't be read, new or once more: all of it is stored, or none."""
    known = recent(life, life.pushes) if life.rng.random() < 0.4 else None
    if known is None:
        sizes = life.rng.choices((12, 60, 3000), k=life.rng.randrange(3))
        push = Push(
            any_mailbox(life), life.records(sizes), life.records(life.rng.choice(((12,), (60, 12))))
        )
        life.pushes.append(push)
    else:
        push = known
    parked = Mailbox(push.mailbox.sdkappid, Aside.PARKED)
    records, items = [
        Fingerprints(str(mailbox), [(record, b"%016d" % record) for record, _ in put])
        for mailbox, put in ((push.mailbox, push.records), (parked, push.items))
    ]
    append = Append(
        push.mailbox,
        [cast("bytes", data) for _, data in push.records],
        life.at_ms(),
        fingerprints=records,
    )

    def happened(found: Found) -> bool:
        there = {
            data in found.kept.get(mailbox, ())
            for mailbox, put in ((push.mailbox, push.records), (parked, push.items))
            for _, data in put
        }
        if len(there) > 1:
            raise PromiseBroken(f"a push to {push.mailbox} came back in part")
        return there.pop()

    def settle(answer: Answer) -> None:
        told = [PutAside(0, 0, 0), PutAside(len(push.records), len(push.items), 0)]
        if answer not in told:
            raise PromiseBroken(f"{answer!r} of a push that is stored whole, and there was room")

    plan = Plan(
        Park(append, parked, [cast("bytes", data) for _, data in push.items], items, 10**6, 10**9),
        checker.Operation(Verb.INGEST, push.mailbox, 0, records=push.records),
        settle,
        beside=checker.Operation(Verb.INGEST, parked, 0, records=push.items),
    )
    if known is None:
        plan.happened = happened
    return plan


def plan_unpark(life: Life, _group: Sequence[Plan]) -> Plan | None:
    """A retry or route of parked items: each leaves with the commit of what it becomes.

    That is a record of its own application or of another one, or one of that one's parked items.
    """
    mailbox = any_mailbox(life)
    parked = Mailbox(mailbox.sdkappid, Aside.PARKED)
    outcome = life.rng.choice((Outcome.ERASED, Outcome.ROUTED))
    if outcome is Outcome.ROUTED:
        mailbox = life.rng.choice([each for each in MAILBOXES if each.sdkappid != mailbox.sdkappid])
        if life.rng.random() < 0.5:
            mailbox = Mailbox(mailbox.sdkappid, Aside.PARKED)
    found = life.look()
    waiting = found.tails.get(parked, 0) - found.cursors.get(parked, 0)
    if not waiting:
        return None
    first_seq = found.cursors[parked] + 1
    count = life.rng.randrange(1, min(waiting, 3) + 1)
    records = life.records((12,) * count)
    at_ms = life.at_ms()
    name = discard_name(at_ms)
    if name in life.takers:
        return None
    entry = life.takers[name] = checker.Operation(Verb.ERASE, parked, 0)
    taken = Range(parked, first_seq, count)
    entries = [cast("bytes", data) for _, data in records]

    def learn(found: Found) -> bool:
        there = {data in found.kept.get(mailbox, ()) for data in entries}
        if there != {found.left.get(name) == taken}:
            raise PromiseBroken(f"a retry of {parked} came back in part")
        if there == {True}:
            entry.records = life.deliveries(taken, found.entries(taken))
        return there.pop()

    def settle(answer: Answer) -> None:
        if answer != (0 if mailbox.parked else count) or not learn(life.found):
            raise PromiseBroken(f"{answer!r} of {count} parked items became records")

    ticket = life.rng.randbytes(TICKET_BYTES)
    act = Act("operator", "parked retry", "mended", "{}", at_ms, ticket)
    become = Append(mailbox, entries, at_ms)
    aside = Park(Append(mailbox, [], at_ms), mailbox, entries, None, 10**6, 10**9)
    return Plan(
        Unpark(
            parked,
            first_seq,
            [outcome] * count,
            [] if mailbox.parked else [become],
            [],
            at_ms,
            act,
            aside=[aside] if mailbox.parked else [],
        ),
        entry,
        settle,
        refusals=(SettingChanged,),
        happened=lambda found: learn(found) or None,
        looks=True,
        beside=checker.Operation(Verb.INGEST, mailbox, 0, records=records),
    )


def _recognisable(operation: Append) -> bool:
    return operation.repeat_key is not None or operation.fingerprints is not None


# -- pulls -----------------------------------------------------------------------------------------


def plan_pull(life: Life, _group: Sequence[Plan]) -> Plan:
    """The documented call."""
    return _pull(life, any_mailbox(life), life.rng.choice(COUNTS_MAX))


def plan_pull_keyed(life: Life, _group: Sequence[Plan]) -> Plan:
    """A pull whose answer can be asked for again."""
    key = f"{life.seed}/{len(life.keyed_pulls)}"
    keyed = KeyedPull(any_mailbox(life), life.rng.choice(COUNTS_MAX), key)
    life.keyed_pulls.append(keyed)
    return _attempt(life, keyed)


def plan_pull_again(life: Life, _group: Sequence[Plan]) -> Plan | None:
    """A keyed pull again: its answer was lost, or it has a parallel twin."""
    keyed = recent(life, life.keyed_pulls)
    return None if keyed is None else _attempt(life, keyed)


def plan_pull_reused(life: Life, _group: Sequence[Plan]) -> Plan | None:
    """A key that has its page, with another request."""
    keyed = recent(life, [keyed for keyed in life.keyed_pulls if keyed.page is not None])
    if keyed is None:
        return None
    mailbox, count_max = keyed.mailbox, keyed.count_max
    if life.rng.random() < 0.5:
        count_max = count_max % 100 + 1
    else:
        mailbox = Mailbox(mailbox.sdkappid, Kind(1 - mailbox.kind))
    plan = _pull(life, mailbox, count_max, key=keyed.key)

    def settle(_answer: Answer) -> None:
        raise PromiseBroken(f"key {keyed.key} was served with another request")

    plan.settle = settle
    plan.refusals = (KeyReused,)
    return plan


def plan_pull_once(life: Life, _group: Sequence[Plan]) -> Plan:
    """A signed request that may come once; half of the time it came before."""
    mailbox = any_mailbox(life)
    known = [
        used
        for used in life.signatures
        if used.sdkappid == mailbox.sdkappid
        and used.until_ms - life.now_ms >= 1000 * limits.SKEW_S_MAX
    ]
    again = recent(life, known) if life.rng.random() < 0.5 else None
    signature = again or Signature(
        mailbox.sdkappid,
        f"{life.rng.getrandbits(64)}",
        life.now_ms + 1000 * limits.SIGNATURE_KEPT_S,
    )
    plan = _pull(life, mailbox, life.rng.choice(COUNTS_MAX))
    plan.operation = msgspec.structs.replace(
        cast("Pull", plan.operation),
        once=Once(signature.nonce, signature.until_ms),
    )
    if again is None:
        # Two of one group may be served in either order.
        life.later.append(lambda: life.signatures.append(signature))
    else:
        plan.refusals = (ReplayRefused,)
    take = plan.settle

    def settle(answer: Answer) -> None:
        if signature.used:
            raise PromiseBroken("a signature was accepted twice")
        signature.used = True
        take(answer)

    plan.settle = settle
    return plan


def plan_pull_of_reader(life: Life, group: Sequence[Plan]) -> Plan | None:
    """A reader pulls: as a program that goes on, that only acknowledges, or that starts anew."""
    place = (any_mailbox(life), life.rng.choice(("r1", "r2")))
    consumer = life.consumers.setdefault(place, Consumer(*place))
    ack = consumer.ack if life.rng.random() < 0.7 else None
    takes = ack is None or life.rng.random() < 0.8
    if _reads(group, consumer):
        return None
    return _read(life, consumer, ack, life.rng.choice(COUNTS_MAX) if takes else 0)


def plan_pull_of_reader_wrong(life: Life, group: Sequence[Plan]) -> Plan | None:
    """A reader acknowledges what it does not have in hand."""
    consumer = recent(life, list(life.consumers.values()))
    if consumer is None or _reads(group, consumer):
        return None
    old = [seq for seq in consumer.done if seq != max(consumer.done)]
    wrong = life.rng.choice(old) if old and life.rng.random() < 0.5 else 10**9
    plan = _read(life, consumer, wrong, life.rng.choice((0, 100)))

    def settle(_answer: Answer) -> None:
        raise PromiseBroken(f"an acknowledgement of {wrong} was taken")

    plan.settle = settle
    plan.refusals = (AcknowledgementRefused,)
    return plan


def plan_release(life: Life, group: Sequence[Plan]) -> Plan | None:
    """An operator takes the page from the hand of a reader."""
    consumer = recent(life, list(life.consumers.values()))
    if consumer is None or consumer.hand is None or _reads(group, consumer):
        return None
    at_ms, ticket, hand = life.at_ms(), life.rng.randbytes(16), consumer.hand
    act = Act("operator", "readers release", "gone", "{}", at_ms, ticket)
    operation = Release(consumer.mailbox, consumer.name, hand.first_seq, at_ms, act)
    was_unsure, consumer.unsure = consumer.unsure, True

    def settle(answer: Answer) -> None:
        # Of one that may have moved on, nothing is told by 0 but that it has another or none.
        if answer != hand.count and not (was_unsure and answer == 0):
            raise PromiseBroken(f"{answer!r} entries were released, not {hand.count}")
        consumer.done.add(hand.first_seq)
        if answer:
            consumer.hand, consumer.unsure = None, False

    return Plan(operation, settle=settle)


def _reads(group: Sequence[Plan], consumer: Consumer) -> bool:
    """Whether somebody does something as this reader already: they would not know their order."""
    return any(
        (isinstance(one, Release) and (one.mailbox, one.name) == (consumer.mailbox, consumer.name))
        or (
            isinstance(one, Pull)
            and one.reader is not None
            and (one.mailbox, one.reader.name) == (consumer.mailbox, consumer.name)
        )
        for one in (plan.operation for plan in group)
    )


def _read(life: Life, consumer: Consumer, ack: int | None, count_max: int) -> Plan:
    plan = _pull(life, consumer.mailbox, count_max)
    entry = cast("checker.Operation", plan.entry)
    plan.operation = msgspec.structs.replace(
        cast("Pull", plan.operation), reader=Reader(consumer.name, ack)
    )
    if not count_max:
        plan.entry = None  # it asks for nothing, so an empty answer says nothing
    take = plan.settle
    was_unsure = consumer.unsure
    consumer.unsure = was_unsure or (consumer.hand is not None and ack == consumer.hand.first_seq)

    def settle(answer: Answer) -> None:
        page, hand = cast("Page", answer), consumer.hand
        if ack is not None:
            consumer.done.add(ack)
            if hand is not None and hand.first_seq == ack:
                hand = consumer.hand = None
        consumer.unsure = was_unsure and not count_max
        if not count_max:
            if page.count:
                raise PromiseBroken("who only acknowledged was handed a page")
            return
        if page.count and page.first_seq in consumer.done:
            raise PromiseBroken(f"page {page.first_seq} came again and was acknowledged")
        if hand is not None and not was_unsure and _told(page) != _told(hand):
            raise PromiseBroken(f"{page} was given to a reader that has {hand} in hand")
        if hand is not None and page.first_seq == hand.first_seq and _told(page) != _told(hand):
            raise PromiseBroken(f"the page in hand is not what it was: {page}, {hand}")
        consumer.hand = page if page.count else None
        consumer.ack = page.first_seq or consumer.ack
        take(page)
        if page.count:
            _one_page(life, entry, page)

    plan.settle = settle
    return plan


def _one_page(life: Life, entry: checker.Operation, page: Page) -> None:
    """Tell the checker which pulls brought one page, by a key that nobody sent."""
    entry.key = ("in hand", page.first_seq)
    if page.repeated:
        place = (cast("Mailbox", entry.mailbox), page.first_seq)
        if place not in life.taken:
            life.look()
        first = life.takers[life.taken[place]]
        first.key, entry.count_max = entry.key, first.count_max
    elif page.given != 1:
        raise PromiseBroken(f"a new page was given {page.given} times")


def _pull(life: Life, mailbox: Mailbox, count_max: int, *, key: str | None = None) -> Plan:
    address = f"pull {len(life.takers)}"
    entry = checker.Operation(Verb.PULL, mailbox, 0, count_max=count_max, key=key)
    life.takers[address] = entry

    def settle(answer: Answer) -> None:
        page = cast("Page", answer)
        taken = Range(mailbox, page.first_seq, page.count)
        pieces = page.data.split(b",") if page.data else []
        entry.records = life.deliveries(taken, pieces)
        entry.count = page.count
        if page.count:
            life.pages.append((taken, pieces))

    operation = Pull(mailbox, count_max, life.at_ms(), address, key)
    return Plan(operation, entry, settle, happened=lambda found: address in found.left or None)


def _attempt(life: Life, keyed: KeyedPull) -> Plan:
    plan = _pull(life, keyed.mailbox, keyed.count_max, key=keyed.key)
    take = plan.settle

    def settle(answer: Answer) -> None:
        page = cast("Page", answer)
        take(page)
        if keyed.page is not None:
            if not page.repeated or _told(page) != _told(keyed.page):
                raise PromiseBroken(f"key {keyed.key} was answered with two different pages")
        else:
            proven = life.found.keys.get(keyed.key)
            if proven is not None:
                judge_page(page, proven, life.found)
            if page.count:
                keyed.page = page

    plan.settle = settle
    return plan


def _told(page: Page) -> tuple[int, int, bytes]:
    return page.first_seq, page.count, page.data


def judge_page(page: Page, proven: Range | None, found: Found) -> None:
    """Refuse an answer to a key that is not the page in the journal.

    Raises:
        PromiseBroken: it is not.
    """
    if proven is None:
        raise PromiseBroken("the journal knows nothing of an answer to a key")
    if _told(page) != (proven.first_seq, proven.count, b",".join(found.entries(proven))):
        raise PromiseBroken(f"an answer to a key is not {proven}, which the key took")


# -- what operators and the clock do ---------------------------------------------------------------


def plan_redeliver(life: Life, _group: Sequence[Plan]) -> Plan | None:
    """Copies of parts of some pages, for a client that lost them."""
    first = recent(life, life.pages)
    if first is None:
        return None
    mailbox = first[0].mailbox
    pages = dict(page for page in life.pages[-10:] if page[0].mailbox == mailbox)
    detail = f'"{len(life.copies)}"'
    sources: dict[Range, list[Delivery]] = {}
    for taken in life.rng.sample(list(pages), min(len(pages), life.rng.choice((1, 1, 2, 3)))):
        skipped = life.rng.randrange(taken.count)
        count = life.rng.randrange(1, taken.count - skipped + 1)
        source = Range(mailbox, taken.first_seq + skipped, count)
        data = pages[taken][skipped : skipped + count]
        sources[source] = [(life.new_id(), piece) for piece in data]
    life.copies[detail] = sources
    ticket = len(life.copies).to_bytes(TICKET_BYTES)
    act = Act("operator", "redeliver", "lost", detail, life.at_ms(), ticket)
    life.acts.append(act)
    return _redeliver(life, mailbox, act)


def plan_redeliver_again(life: Life, group: Sequence[Plan]) -> Plan | None:
    """A redelivery again, by one who does not know how far it came."""
    act = recent(life, life.acts)
    if act is None or any(
        isinstance(plan.operation, Redeliver) and plan.operation.act == act for plan in group
    ):
        return None
    mailbox = next(iter(life.copies[act.detail])).mailbox
    return _redeliver(life, mailbox, act)


def _redeliver(life: Life, mailbox: Mailbox, act: Act) -> Plan:
    sources = life.copies[act.detail]
    records = [copy for copies in sources.values() for copy in copies]
    done = act.detail in life.found.copies
    ranges = [(source.first_seq, source.count) for source in sources]

    def settle(answer: Answer) -> None:
        there = set(life.found.copies.get(act.detail, ()))
        if answer != (0 if done else len(records)) or there != set(sources):
            raise PromiseBroken(f"{answer!r} of {len(records)} entries were copied")

    return Plan(
        Redeliver(mailbox, ranges, life.at_ms(), act),
        None if done else checker.Operation(Verb.REDELIVER, mailbox, 0, records=records),
        settle,
        refusals=(InvalidSetting,),  # they may have been purged
        happened=lambda found: (not done and act.detail in found.copies) or None,
        looks=True,
    )


def plan_discard(life: Life, _group: Sequence[Plan]) -> Plan | None:
    """Expiry, or an operator who empties a mailbox."""
    mailbox, at_ms = any_mailbox(life), life.at_ms()
    if life.rng.random() < 0.2:
        mailbox = Mailbox(mailbox.sdkappid, Aside.PARKED)
    name = discard_name(at_ms)
    if name in life.takers:
        return None
    before_ms = None
    if life.rng.random() < 0.7:
        before_ms = life.now_ms - life.rng.choice((0, 10_000, 60_000, HOUR_MS))
    outcome = Outcome.ERASED if before_ms is None else Outcome.EXPIRED
    verb = Verb.ERASE if before_ms is None else Verb.EXPIRE
    entry = life.takers[name] = checker.Operation(verb, mailbox, 0)

    def learn(found: Found) -> Range | None:
        taken = found.left.get(name)
        if taken is not None:
            entry.records = life.deliveries(taken, found.entries(taken))
        return taken

    def settle(answer: Answer) -> None:
        taken = learn(life.found)
        if answer != (0 if taken is None else taken.count):
            raise PromiseBroken(f"{answer!r} entries were discarded, the journal says {taken}")

    return Plan(
        Discard(mailbox, outcome, at_ms, before_ms),
        entry,
        settle,
        happened=lambda found: learn(found) is not None or None,
        looks=True,
    )


def plan_follow(life: Life, group: Sequence[Plan]) -> Plan | None:
    """What a follower makes of some entries, with the segments before them or not, and the mark."""
    mailbox = any_mailbox(life)
    found = life.look()
    mark, tail = found.marks.get(mailbox, Followed()), found.tails.get(mailbox, 0)
    if mark.through == tail or any(
        isinstance(plan.operation, Follow) and plan.operation.mailbox == mailbox for plan in group
    ):
        return None
    through = life.rng.randrange(mark.through, tail) + 1
    first_seq = mark.through + 1
    merged = [first for first, _ in found.spans[mailbox] if first >= found.first[mailbox]]
    if merged and life.rng.random() < 0.5:
        first_seq = life.rng.choice(merged[-3:])
    count = through + 1 - first_seq
    words = [
        segments.word(hash_of(entry), offset)
        for offset, entry in enumerate(found.entries(Range(mailbox, first_seq, count)))
    ]
    tally = values.Tally(mailbox.holds, life.rng.randrange(3), (through - mark.through,))

    def settle(answer: Answer) -> None:
        if answer is not True:
            raise PromiseBroken(f"following {mailbox} was answered with {answer}")
        life.followed[mailbox] = through

    return Plan(
        Follow(mailbox, mark, through, segments.build(first_seq, count, words, words[:1]), [tally]),
        settle=settle,
    )


def plan_purge(life: Life, _group: Sequence[Plan]) -> Plan:
    """Remove a step of what left long ago."""
    first = any_mailbox(life)
    step = life.rng.randrange(1, 12)
    mailboxes = (first,) if step % 2 else (first, *(box for box in MAILBOXES if box != first))
    return Plan(Purge(mailboxes, life.now_ms - FORGOTTEN_MS, 5 * step, NO_HURRY_S))


def plan_forget(life: Life, _group: Sequence[Plan]) -> Plan:
    """Drop a step of what was remembered for repeats."""
    step = life.rng.randrange(1, 20)
    life.forgotten_ms = max(life.forgotten_ms, life.now_ms - FORGOTTEN_MS)
    return Plan(Forget(life.now_ms - FORGOTTEN_MS, life.now_ms, step, NO_HURRY_S))


def plan_count(life: Life, _group: Sequence[Plan]) -> Plan:
    """A report of sends: its counts and names are there, or neither."""
    hour, at_ms = life.new_id(), life.at_ms()
    slots = life.rng.choices(range(-4, 5), k=life.rng.randrange(1, 40))
    block = Naming(slots, b"%d" % hour + bytes(life.rng.choice((8, 800))))

    def settle(answer: Answer) -> None:
        if answer is not True:
            raise PromiseBroken(f"a new report was answered with {answer}")
        life.names[block.body] = at_ms

    def happened(found: Found) -> bool:
        there = block.body in found.names
        if there != (hour in found.counted):
            raise PromiseBroken("a report of sends came back in part")
        return there

    return Plan(
        Count(any_mailbox(life).sdkappid, [values.Tally(SENDS, hour, (1,))], at_ms, names=[block]),
        settle=settle,
        happened=happened,
    )


def plan_change(life: Life, group: Sequence[Plan]) -> Plan | None:
    """One or two settings together, by one who knows them or one who is behind."""
    if any(isinstance(plan.operation, Changes) for plan in group):
        return None
    names = life.rng.sample("abc", life.rng.choice((1, 2)))
    behind = life.rng.random() < 0.2
    values = {name: None if life.rng.random() < 0.2 else life.rng.randbytes(8) for name in names}
    known = {name: life.settings.get(name) for name in names}
    expected = known | {names[-1]: b"behind"} if behind else known

    def settle(answer: Answer) -> None:
        if answer is behind:
            raise PromiseBroken(f"changing settings was answered with {answer}")
        if answer:
            life.settings.update(values)

    def happened(found: Found) -> bool | None:
        told = {
            found.settings.get(name) == value
            for name, value in values.items()
            if value != known[name]
        }
        if behind or not told:
            return None
        if len(told) == 2:
            raise PromiseBroken("of settings that were changed together, one was")
        return told.pop()

    return Plan(
        Changes(tuple(Change(name, value, expected[name]) for name, value in values.items())),
        settle=settle,
        happened=happened,
    )


SHARED: tuple[tuple[int, Callable[[Life, Sequence[Plan]], Plan | None]], ...] = (
    (100, plan_append),
    (30, plan_append_again),
    (15, plan_append_known),
    (8, plan_append_reused),
    (10, plan_park),
    (6, plan_unpark),
    (60, plan_pull),
    (25, plan_pull_keyed),
    (40, plan_pull_again),
    (8, plan_pull_reused),
    (25, plan_pull_once),
    (25, plan_pull_of_reader),
    (8, plan_pull_of_reader_wrong),
    (3, plan_release),
    (8, plan_redeliver),
    (5, plan_redeliver_again),
    (6, plan_discard),
    (12, plan_follow),
    (8, plan_purge),
    (6, plan_forget),
    (12, plan_change),
    (6, plan_count),
)


# -- what stands alone -----------------------------------------------------------------------------


def do_checkpoint(life: Life) -> None:
    """Fold the log into the file."""
    life.log.checkpoint(least_pages=0)


def do_reopen(life: Life) -> None:
    """A restart in peace."""
    life.close()
    _ = life.log


def do_notice(life: Life) -> None:
    """What an idle writer does."""
    life.log.notice_others()


def do_join(life: Life) -> None:
    """What a writer does between two commits, whatever small chunks there are; often there are."""
    mailbox = any_mailbox(life)
    for _ in range(life.rng.choice((0, 3, 12, 30))):
        life.commit([plan_append_of(life, mailbox, life.records((12,)))])
    log = life.log
    with mock.patch.object(joining, "LEAST_ROWS", 2):
        for state in log.states._states.values():
            if state is not None:
                state.small_from, state.small = 1, joining.DUE_ROWS
                log._tables.joins._due[state.mailbox] = None
        log._join_from_s = 0.0
        log.join()


ALONE: tuple[tuple[int, Callable[[Life], None]], ...] = (
    (5, do_checkpoint),
    (3, do_reopen),
    (1, do_notice),
    (10, do_join),
)


# -- whole lives -----------------------------------------------------------------------------------


def work(life: Life, steps: int) -> None:
    """Let clients come `steps` times.

    Raises:
        PowerCut, StoreUnavailable, OutcomeUnknown, StoreRefused: it ended there.
        PromiseBroken: an answer was wrong.
    """
    for _ in range(steps):
        step(life)


def step(life: Life) -> None:
    """Let clients come once. Raises as `work`."""
    life.now_ms += life.rng.randrange(10_000)
    if life.rng.random() < 0.1:
        life.rng.choices(*_weighted(ALONE))[0](life)
    else:
        group: list[Plan] = []
        count = life.rng.choice((1, 1, 1, 2, 3, 6))
        for plan in life.rng.choices(*_weighted(SHARED), k=count):
            planned = plan(life, group)
            if planned is not None:
                group.append(planned)
        life.commit(group)
    life.notice_cut()


def finish(life: Life) -> checker.Report:
    """Drain all mailboxes, look at everything, and ask the checker.

    Raises:
        PromiseBroken: what it said.
    """
    mailboxes = sorted({*MAILBOXES, *(cast("Mailbox", entry.mailbox) for entry in life.history)})
    for consumer in life.consumers.values():
        life.commit([_read(life, consumer, None, 100)])
        if consumer.hand is not None:
            life.commit([_read(life, consumer, consumer.ack, 0)])
    empty = 0
    while empty < checker.EMPTY_PULLS_AT_END:
        pulls = [_pull(life, mailbox, 100) for mailbox in mailboxes]
        life.commit(pulls)
        empty = 0 if any(pull.entry and pull.entry.records for pull in pulls) else empty + 1
    found = life.look()
    if findings := audit(life.connection, lambda _done, _total: None).findings:
        raise PromiseBroken(f"the audit says: {findings[0].problem}")
    places = {id(entry): place for place, entry in enumerate(life.history)}
    journal = {
        places[id(entry)]: life.left[name]
        for name, entry in life.takers.items()
        if entry.verb is Verb.PULL and name in life.left
    }
    report = life.report = checker.check(life.history, journal)
    if not report.valid:
        raise PromiseBroken(str(report))
    for name, entry in life.takers.items():
        if entry.verb is not Verb.PULL or (entry.records and entry.key is None):
            taken = [record for record, _ in entry.records]
            if life.left.get(name, []) != taken:
                raise PromiseBroken(f"the journal knows otherwise of {name}")
    for keyed in life.keyed_pulls:
        if keyed.page is not None:
            judge_page(keyed.page, found.keys.get(keyed.key), found)
    return report


def live(seed: int, cycle: int, setup: Setup | None = None) -> Life:
    """One cycle: a life with some cuts, judged at its end.

    Raises:
        PromiseBroken: saying how to see it again.
    """
    name = f"{seed}/{cycle}"
    rng = Random(name)
    before = template(rng.randrange(TEMPLATES)) if rng.random() < 0.9 else None
    setup = setup or Setup()
    kills = rng.random() < 0.4
    if not kills and rng.random() < 0.5:
        setup = replace(setup, folds=False)  # as commands open it, and they are never killed here
    life = Life(name, setup, before)
    try:
        for _ in range(rng.choice((1, 2, 4, 6))):
            life.disk.left = rng.randrange(rng.choice((10, 40, 40, 150)))
            _until_cut(life, rng.randrange(2, 14))
            if kills and rng.random() < 0.4:
                life.kill()
                life.recover()
                _until_cut(life, rng.randrange(3))
            life.cut()
            life.recover(cut_again=0.2)
        finish(life)
    except Exception as error:
        raise PromiseBroken(
            f"{type(error).__name__}: {error}\n"
            f"again: python -m tests.sim --seed {seed} --only {cycle}"
        ) from error
    finally:
        life.move(Disk())
    return life


def torture(seed: int, cycles: Iterable[int], *, cuts_max: float = math.inf) -> Tally:
    """Run cycles of a seed, until they had `cuts_max` cuts.

    Raises:
        PromiseBroken: one of them found something.
    """
    total = Tally()
    for cycle in cycles:
        total += live(seed, cycle).tally()
        if total.cuts >= cuts_max:
            break
    return total


def _until_cut(life: Life, steps: int) -> None:
    try:
        work(life, steps)
    except PowerCut:
        life.disk.abandoned = True


@functools.cache
def template(number: int) -> Life:
    """A store that has been used for a while: what most lives begin with."""
    if number == 0:
        return old_format(1)
    life = Life(f"template {number}")
    work(life, 3 * number)
    life.look()  # before anything is purged
    if number % 2:
        life.close()
    return life


@functools.cache
def old_format(version: int) -> Life:
    """A store from the first format on, brought up to this one: of a batch of three, one pulled."""
    life = Life(f"format {version}")
    mailbox = MAILBOXES[0]
    records = life.records((12, 60, 3000))
    life.history += [
        checker.Operation(Verb.INGEST, mailbox, 1, 2, Seen.OK, records),
        checker.Operation(Verb.PULL, mailbox, 3, 4, Seen.OK, records[:1], count_max=1),
    ]
    life.takers["pull 0"] = life.history[1]
    life.left["pull 0"] = [records[0][0]]
    life._ticks = 4
    connection = apsw.Connection(life.disk.path(), vfs=VFS_NAME)
    connection.pragma("page_size", schema.PAGE_BYTES)
    connection.pragma("journal_mode", "wal")
    connection.execute(schema.MIGRATIONS[0])
    connection.pragma("application_id", schema.APPLICATION_ID)
    connection.pragma("user_version", 1)
    key = 1 << schema.SEQ_BITS | 1
    entries = [cast("bytes", data) for _, data in records]
    connection.execute(
        "INSERT INTO mailbox VALUES (1, ?, ?, 3, 1, 1)", (mailbox.sdkappid, int(mailbox.kind))
    )
    connection.execute(
        "INSERT INTO chunk VALUES (?, 3, ?, ?, ?, ?)",
        (key, life.now_ms, *chunk.placed(key, chunk.plain(entries))),
    )
    connection.execute(
        "INSERT INTO journal VALUES (?, 1, 0, ?, 'pull 0', NULL, 1, '', 0)", (key, life.now_ms)
    )
    # As old as all that is remembered of it, so nobody asks for it; but it must be brought along.
    connection.execute("INSERT INTO fingerprint VALUES (7, x'00', 'a', 1), (7, x'00', 'b', 1)")
    connection.execute("INSERT INTO repeat_key VALUES (1, 'a', 'key', x'00', 3, 1)")
    connection.execute("INSERT INTO used_signature VALUES (7, ?, '1')", (mailbox.sdkappid,))
    with mock.patch.object(schema, "VERSION", version):
        schema.migrate(connection)
    connection.close()
    return life


# -- choices ---------------------------------------------------------------------------------------


def any_mailbox(life: Life) -> Mailbox:
    """One of them, the first more often than the others."""
    return life.rng.choices(MAILBOXES, (6, 2, 3))[0]


def recent(life: Life, choices: Sequence[T]) -> T | None:
    """One of those that clients still think of, if any."""
    return life.rng.choice(choices[-10:]) if choices else None


@functools.cache
def _weighted(table: tuple[tuple[int, T], ...]) -> tuple[list[T], list[int]]:
    return [what for _, what in table], [weight for weight, _ in table]
