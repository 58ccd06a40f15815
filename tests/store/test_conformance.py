"""What every engine must do, verb by verb: the rules here hold for all that `ENGINES` names."""

import asyncio
import itertools
from typing import Any

import msgspec
import pytest

from pullstatus.errors import (
    InvalidSetting,
    KeyReused,
    ReplayRefused,
    SettingChanged,
    StoreUnavailable,
)
from pullstatus.store import (
    Again,
    Append,
    Aside,
    Change,
    Discard,
    Fingerprints,
    Mailbox,
    Noted,
    Outcome,
    Page,
    Park,
    Pull,
    PutAside,
    Reader,
    Setting,
    Store,
    Unpark,
    While,
    audit_store,
    open_store,
    pull_id,
)
from pullstatus.store.acts import breaks
from tests.store.build import (
    EMPTY,
    NOW_MS,
    OTHERS,
    PARKED,
    PENDING,
    PROOF,
    PULL_KEY_MS,
    REPEAT_MS,
    REPLIES,
    RESTED,
    STATUSES,
    acts_of,
    again_of,
    append,
    backlog_of,
    chain_of,
    check_journal,
    data_of,
    drain,
    entries_of,
    fingerprinted,
    forget,
    journal_of,
    new_act,
    oldest_of,
    once,
    page,
    parked,
    pull,
    purge,
    records,
    redeliver,
    remove,
    repeat_key,
    settings_of,
    ticket,
    together,
    waiting_in,
)
from tests.store.engines import Opener

pytestmark = pytest.mark.anyio


# --- append and pull ------------------------------------------------------------------------------


async def test_a_new_store_is_empty(store: Store) -> None:
    assert await store.pull(pull(STATUSES)) == EMPTY
    assert await store.pull(pull(STATUSES, key="k")) == EMPTY
    assert await waiting_in(store, STATUSES) == 0
    assert await store.backlog() == []
    assert await oldest_of(store) is None
    assert await entries_of(store, STATUSES) == []
    assert await journal_of(store, STATUSES) == []
    assert await settings_of(store) == []


async def test_entries_are_numbered_from_one_without_gaps(store: Store) -> None:
    first, second = records(3), records(2)
    assert await store.append(append(STATUSES, first, NOW_MS)) == 3
    assert await store.append(append(STATUSES, second, NOW_MS + 1)) == 2
    entries = await entries_of(store, STATUSES)
    assert [entry.seq for entry in entries] == [1, 2, 3, 4, 5]
    assert [entry.data for entry in entries] == first + second
    assert [entry.accepted_ms for entry in entries] == [NOW_MS] * 3 + [NOW_MS + 1] * 2


async def test_an_empty_batch_is_acknowledged_and_leaves_nothing(store: Store) -> None:
    assert await store.append(append(STATUSES, [])) == 0
    assert await store.append(append(STATUSES, [], key=repeat_key("k"))) == 0
    assert await entries_of(store, STATUSES) == []
    assert await waiting_in(store, STATUSES) == 0


@pytest.mark.parametrize(
    "batches", [[250], [1] * 7, [99, 1, 1], [100, 100, 50], [101, 149], [3, 98]]
)
@pytest.mark.parametrize("count_max", [1, 7, 99, 100])
async def test_pages_are_all_entries_in_order(
    store: Store, batches: list[int], count_max: int
) -> None:
    """However entries came and however they are taken: each once, in order, and only the last page
    is short."""
    entries = []
    for size in batches:
        entries += (batch := records(size))
        await store.append(append(STATUSES, batch))
    expected = [
        page(
            start + 1, entries[start : start + count_max], max(0, len(entries) - start - count_max)
        )
        for start in range(0, len(entries), count_max)
    ]
    assert await drain(store, STATUSES, count_max) == expected
    assert await data_of(store, STATUSES) == entries


async def test_pages_of_changing_size_meet(store: Store) -> None:
    """A page that ends inside what was stored together is followed by the rest of it."""
    entries = records(321)
    await store.append(append(STATUSES, entries))
    taken = 0
    for count_max in itertools.cycle([1, 100, 13, 50, 2]):
        expected = entries[taken : taken + count_max]
        left = len(entries) - taken - len(expected)
        if not expected:
            break
        assert await store.pull(pull(STATUSES, count_max)) == page(taken + 1, expected, left)
        taken += len(expected)
    assert await store.pull(pull(STATUSES)) == EMPTY


async def test_what_comes_later_is_pulled_later(store: Store) -> None:
    first, second = records(2), records(2)
    await store.append(append(STATUSES, first))
    assert await store.pull(pull(STATUSES)) == page(1, first, 0)
    assert await store.pull(pull(STATUSES)) == EMPTY
    await store.append(append(STATUSES, second))
    assert await store.pull(pull(STATUSES, 1)) == page(3, second[:1], 1)
    assert await store.pull(pull(STATUSES)) == page(4, second[1:], 0)


async def test_entries_come_back_byte_for_byte(store: Store) -> None:
    """An engine doesn't read what it keeps: any bytes, the largest record, a hundred of them."""
    entries = [b",", b"{}", b",,", bytes(range(256)), b"\0" * 16_384]
    entries += [bytes([number]) * 16_384 for number in range(100)]
    await store.append(append(STATUSES, entries))
    assert await data_of(store, STATUSES) == entries
    assert b",".join([taken.data for taken in await drain(store, STATUSES)]) == b",".join(entries)


async def test_mailboxes_do_not_mix(store: Store) -> None:
    """Kinds and applications are numbered, counted and pulled each for itself."""
    boxes = [STATUSES, REPLIES, OTHERS, Mailbox(1, STATUSES.kind), Mailbox(2**31 - 1, REPLIES.kind)]
    contents = {box: records(count) for count, box in enumerate(boxes, start=1)}
    for turn in range(len(boxes)):
        for box, entries in contents.items():
            await store.append(append(box, entries[turn : turn + 1]))
    for box, entries in contents.items():
        assert await store.pull(pull(box, 1)) == page(1, entries[:1], len(entries) - 1)
        assert await data_of(store, box) == entries
    assert [(row.mailbox, row.waiting) for row in await store.backlog()] == [
        (box, len(contents[box]) - 1) for box in sorted(boxes)
    ]
    for box, entries in contents.items():
        for asked in (-1, 0, 1, 2**40, 2**41):
            assert {entry.data for entry in await entries_of(store, box, asked)} <= set(entries)
            assert {row.mailbox for row in await journal_of(store, box, asked)} <= {box}


async def test_entries_can_be_read_from_any_number(store: Store) -> None:
    """Taken or waiting, from the middle of a batch as well as from its start."""
    for size in (3, 250, *[1] * 210):
        await store.append(append(STATUSES, records(size)))
    await store.pull(pull(STATUSES, 77))
    entries = await entries_of(store, STATUSES)
    assert [entry.seq for entry in entries] == list(range(1, 464))
    for first_seq in (1, 2, 3, 4, 78, 103, 104, 253, 254, 463, 464, 1000):
        assert await entries_of(store, STATUSES, first_seq) == entries[first_seq - 1 :]


async def test_figures_follow_every_step(store: Store) -> None:
    async def figures() -> tuple[int, ...]:
        row = await backlog_of(store, STATUSES)
        assert row is not None
        assert row.waiting == await waiting_in(store, STATUSES)
        assert row.accepted == row.handed_out + row.waiting
        return row.accepted, row.handed_out, row.waiting

    await store.append(append(STATUSES, records(5)))
    assert await figures() == (5, 0, 5)
    await store.pull(pull(STATUSES, 2))
    assert await figures() == (5, 2, 3)
    await store.append(append(STATUSES, records(4)))
    assert await figures() == (9, 2, 7)
    await drain(store, STATUSES)
    assert await figures() == (9, 9, 0)
    assert await waiting_in(store, REPLIES) == 0


async def test_oldest_waiting_is_of_the_first_entry_not_taken(store: Store) -> None:
    await store.append(append(STATUSES, records(2), NOW_MS + 10))
    await store.append(append(STATUSES, records(1), NOW_MS + 20))
    await store.append(append(REPLIES, records(1), NOW_MS + 15))
    assert await oldest_of(store) == NOW_MS + 10
    await store.pull(pull(STATUSES, 1))
    assert await oldest_of(store) == NOW_MS + 10
    await store.pull(pull(STATUSES, 1))
    assert await oldest_of(store) == NOW_MS + 15
    await store.pull(pull(REPLIES))
    assert await oldest_of(store) == NOW_MS + 20
    await store.pull(pull(STATUSES))
    assert await oldest_of(store) is None


async def test_every_page_has_its_journal_row(store: Store) -> None:
    """It says who took which range when, under which key and proof; empty pages have none."""
    await store.append(append(STATUSES, records(5)))
    await store.pull(pull(STATUSES, 2, NOW_MS + 1))
    await store.pull(pull(STATUSES, 100, NOW_MS + 2, key="k"))
    await store.pull(pull(STATUSES, 100, NOW_MS + 3, key="k"))
    await store.pull(pull(STATUSES, 100, NOW_MS + 4))
    rows = await journal_of(store, STATUSES)
    assert [(row.first_seq, row.count, row.count_max, row.at_ms, row.key) for row in rows] == [
        (1, 2, 2, NOW_MS + 1, None),
        (3, 3, 100, NOW_MS + 2, "k"),
    ]
    assert {row.outcome for row in rows} == {Outcome.PULLED}
    assert {row.address for row in rows} == {"192.0.2.1"}
    assert {row.proof for row in rows} == {PROOF}
    assert [row.pull_id for row in rows] == [pull_id(STATUSES, 1), pull_id(STATUSES, 3)]
    check_journal(rows, 5)
    assert await journal_of(store, STATUSES, 2) == rows[1:]
    assert await journal_of(store, REPLIES) == []


async def test_what_was_written_tells_by_which_operation(store: Store) -> None:
    """Each entry and each journal row its ticket: of many at once, and of one over several chunks.

    A repeat is told the first one's; what found nothing to do, or was refused, left none.
    """
    batches = [
        msgspec.structs.replace(append(STATUSES, records(size)), ticket=ticket())
        for size in (1, 250, 3, 1, 0, 99, 100)
    ]
    await together(store, *batches)
    by = {entry: batch.ticket for batch in batches for entry in batch.entries}
    found = await entries_of(store, STATUSES)
    assert len(found) == 454
    assert [entry.ticket for entry in found] == [by[entry.data] for entry in found]

    first, again, other = ticket(), ticket(), ticket()
    for asked in (first, again):
        keyed = pull(STATUSES, 7, key="k")
        await store.pull(msgspec.structs.replace(keyed, ticket=asked))
    await store.discard(Discard(STATUSES, Outcome.ERASED, NOW_MS, ticket=other))
    await store.pull(msgspec.structs.replace(pull(STATUSES, key="l"), ticket=ticket()))
    assert [row.ticket for row in await journal_of(store, STATUSES)] == [first, other]

    [known, fresh] = records(2)
    for entries, numbers, asked in (([known], [1], first), ([known, fresh], [1, 2], again)):
        batch = fingerprinted(REPLIES, entries, numbers)
        await store.append(msgspec.structs.replace(batch, ticket=asked))
    assert [entry.ticket for entry in await entries_of(store, REPLIES)] == [first, again]
    assert [entry.ticket for entry in await entries_of(store, REPLIES, 2)] == [again]


async def test_a_long_journal_is_read_whole(store: Store) -> None:
    await store.append(append(STATUSES, records(450)))
    await together(store, *[pull(STATUSES, 1) for _ in range(450)])
    rows = await journal_of(store, STATUSES)
    check_journal(rows, 450)
    assert await journal_of(store, STATUSES, 201) == rows[200:]


# --- the same pull again --------------------------------------------------------------------------


async def test_a_key_gets_its_page_again(store: Store) -> None:
    """The same bytes, as often as asked, whatever came and went since; `waiting` is of now."""
    entries = records(150)
    await store.append(append(STATUSES, entries))
    assert await store.pull(pull(STATUSES, 30)) == page(1, entries[:30], 120)
    assert await store.pull(pull(STATUSES, 90, key="k")) == page(31, entries[30:120], 30)
    assert await store.pull(pull(STATUSES, 90, key="k")) == page(
        31, entries[30:120], 30, repeated=True
    )
    await store.append(append(STATUSES, entries[:1]))
    assert await store.pull(pull(STATUSES, 20)) == page(121, entries[120:140], 11)
    assert await store.pull(pull(STATUSES, 90, key="k")) == page(
        31, entries[30:120], 11, repeated=True
    )
    assert await store.pull(pull(STATUSES)) == page(141, [*entries[140:], entries[0]], 0)
    check_journal(await journal_of(store, STATUSES), 151)


async def test_a_repeat_moves_nothing_when_it_is_alone(store: Store) -> None:
    """A repeat in the middle of a batch leaves the place where the next page begins."""
    entries = records(6)
    await store.append(append(STATUSES, entries))
    await store.pull(pull(STATUSES, 2, key="k"))
    await store.pull(pull(STATUSES, 1))
    for _ in range(2):
        assert (await store.pull(pull(STATUSES, 2, key="k"))).repeated
    assert await store.pull(pull(STATUSES)) == page(4, entries[3:], 0)


async def test_a_keyed_pull_that_found_nothing_leaves_no_trace(store: Store) -> None:
    assert await store.pull(pull(STATUSES, 5, key="k")) == EMPTY
    entries = records(2)
    await store.append(append(STATUSES, entries))
    assert await store.pull(pull(STATUSES, 3, key="k")) == page(1, entries, 0)


@pytest.mark.parametrize(("mailbox", "count_max"), [(STATUSES, 3), (REPLIES, 2), (REPLIES, 3)])
async def test_a_key_for_another_pull_is_refused(
    store: Store, mailbox: Mailbox, count_max: int
) -> None:
    """With another mailbox or count the key is a mistake; the refusal takes nothing."""
    for box in (STATUSES, REPLIES):
        await store.append(append(box, records(5)))
    first = await store.pull(pull(STATUSES, 2, key="k"))
    before = await store.backlog()
    with pytest.raises(KeyReused):
        await store.pull(pull(mailbox, count_max, key="k"))
    assert await store.backlog() == before
    assert (await store.pull(pull(STATUSES, 2, key="k"))).data == first.data


async def test_a_key_is_of_one_application(store: Store) -> None:
    for box in (STATUSES, OTHERS):
        await store.append(append(box, records(4)))
    first = await store.pull(pull(STATUSES, 2, key="k"))
    second = await store.pull(pull(OTHERS, 3, key="k"))
    assert (first.count, second.count, second.repeated) == (2, 3, False)
    assert (await store.pull(pull(STATUSES, 2, key="k"))).data == first.data
    assert (await store.pull(pull(OTHERS, 3, key="k"))).data == second.data


async def test_a_key_is_known_for_a_day_to_the_millisecond(store: Store) -> None:
    entries = records(9)
    await store.append(append(STATUSES, entries))
    await store.pull(pull(STATUSES, 2, NOW_MS, key="k"))
    last_ms = NOW_MS + PULL_KEY_MS
    assert await store.pull(pull(STATUSES, 2, last_ms, key="k")) == page(
        1, entries[:2], 7, repeated=True
    )
    with pytest.raises(KeyReused):
        await store.pull(pull(STATUSES, 3, last_ms, key="k"))
    assert await store.pull(pull(STATUSES, 3, last_ms + 1, key="k")) == page(3, entries[2:5], 4)
    assert await store.pull(pull(STATUSES, 3, last_ms + PULL_KEY_MS, key="k")) == page(
        3, entries[2:5], 4, repeated=True
    )


async def test_twins_with_a_key_share_one_page(store: Store) -> None:
    """However many come at once, and whatever comes between them."""
    await store.append(append(STATUSES, records(50)))
    twins = [pull(STATUSES, 10, key="k"), pull(STATUSES, 3)] * 5
    answers = await together(store, *twins)
    pages = [answer for answer in answers if isinstance(answer, Page)]
    assert len({taken.data for taken in pages[::2]}) == 1
    assert sorted(taken.repeated for taken in pages[::2]) == [False] + [True] * 4
    assert await waiting_in(store, STATUSES) == 50 - 10 - 5 * 3
    check_journal(await journal_of(store, STATUSES), 25)


async def test_twins_with_a_key_for_both_kinds_get_one_page(store: Store) -> None:
    for box in (STATUSES, REPLIES):
        await store.append(append(box, records(5)))
    answers = await together(store, *[pull(box, key="k") for box in (STATUSES, REPLIES)])
    assert sorted(type(answer).__name__ for answer in answers) == ["KeyReused", "Page"]
    assert await waiting_in(store, STATUSES) + await waiting_in(store, REPLIES) == 5


# --- what must not come twice ---------------------------------------------------------------------


async def test_what_comes_once_is_good_once(store: Store) -> None:
    """The second one is refused and takes nothing, even for the other kind; others are good."""
    for box in (STATUSES, REPLIES, OTHERS):
        await store.append(append(box, records(5)))
    assert (await store.pull(once(STATUSES, "1"))).count == 1
    before = await store.backlog()
    for box in (STATUSES, REPLIES):
        with pytest.raises(ReplayRefused):
            await store.pull(once(box, "1"))
        with pytest.raises(ReplayRefused):
            await store.pull(once(box, "1", NOW_MS + 1))
    assert await store.backlog() == before
    assert (await store.pull(once(STATUSES, "2"))).count == 1
    assert (await store.pull(once(STATUSES, "1 "))).count == 1
    assert (await store.pull(once(STATUSES, "01"))).count == 1
    assert (await store.pull(once(OTHERS, "1"))).count == 1


@pytest.mark.parametrize("forgotten", [False, True])
async def test_what_comes_once_may_come_again_when_its_time_has_passed(
    store: Store, forgotten: bool
) -> None:
    """Whether it is forgotten by then or not; and what it is told until then is the newest."""
    await store.append(append(STATUSES, records(5)))
    until_ms = NOW_MS + 1000
    assert (await store.pull(once(STATUSES, "1", until_ms))).count == 1
    assert await store.forget(accepted_before_ms=NOW_MS, now_ms=until_ms) == 0
    with pytest.raises(ReplayRefused):
        await store.pull(once(STATUSES, "1", until_ms, until_ms))
    if forgotten:
        assert await store.forget(accepted_before_ms=NOW_MS, now_ms=until_ms + 1) == 1
    assert (await store.pull(once(STATUSES, "1", until_ms + 9, until_ms + 1))).count == 1
    with pytest.raises(ReplayRefused):
        await store.pull(once(STATUSES, "1", until_ms + 9, until_ms + 9))


async def test_what_comes_once_is_spent_on_an_empty_page(store: Store) -> None:
    assert await store.pull(once(STATUSES, "1")) == EMPTY
    await store.append(append(STATUSES, records(1)))
    with pytest.raises(ReplayRefused):
        await store.pull(once(STATUSES, "1"))


async def test_what_may_come_again_is_not_spent(store: Store) -> None:
    await store.append(append(STATUSES, records(3)))
    plain = pull(STATUSES, 1)
    assert [(await store.pull(plain)).first_seq for _ in range(3)] == [1, 2, 3]
    assert await store.pull(once(STATUSES, plain.proof)) == EMPTY


async def test_twins_that_come_once_get_one_page(store: Store) -> None:
    await store.append(append(STATUSES, records(50)))
    answers = await together(store, *[once(STATUSES, "1") for _ in range(5)])
    refused = [answer for answer in answers if isinstance(answer, ReplayRefused)]
    assert len(refused) == 4
    assert await waiting_in(store, STATUSES) == 49


async def test_a_key_brings_back_the_page_of_what_comes_once(store: Store) -> None:
    """A retry of the same bytes is what the key is for, so it doesn't matter that it is spent."""
    await store.append(append(STATUSES, records(5)))
    first = await store.pull(once(STATUSES, "1", key="k"))
    again = await store.pull(once(STATUSES, "1", key="k"))
    assert (again.repeated, again.data) == (True, first.data)


# --- the same batch again -------------------------------------------------------------------------


async def test_a_batch_with_its_key_is_stored_once(store: Store) -> None:
    """The second time nothing of it is new."""
    entries = records(3)
    for at_ms, new in ((NOW_MS, 3), (NOW_MS + 1, 0)):
        assert await store.append(append(STATUSES, entries, at_ms, key=repeat_key("k"))) == new
    assert await store.append(append(STATUSES, [], key=repeat_key("k"))) == 0
    assert await data_of(store, STATUSES) == entries


async def test_a_batch_key_with_another_body_is_refused(store: Store) -> None:
    await store.append(append(STATUSES, records(1), key=repeat_key("k")))
    with pytest.raises(KeyReused):
        await store.append(append(STATUSES, records(1), key=repeat_key("k", b"other")))
    assert await waiting_in(store, STATUSES) == 1


async def test_a_batch_key_is_of_one_sender(store: Store) -> None:
    for scope in ("gateway/1", "gateway/2", "gateway/11"):
        await store.append(append(STATUSES, records(1), key=repeat_key("k", scope=scope)))
    assert await waiting_in(store, STATUSES) == 3


async def test_a_batch_key_is_known_for_three_days_to_the_millisecond(store: Store) -> None:
    """Then it may be used anew, and is known for three days from then."""
    last_ms = NOW_MS + REPEAT_MS
    for at_ms, waiting in [
        (NOW_MS, 1),
        (last_ms, 1),
        (last_ms + 1, 2),
        (last_ms + 1 + REPEAT_MS, 2),
        (last_ms + 2 + REPEAT_MS, 3),
    ]:
        new = waiting - await waiting_in(store, STATUSES)
        assert await store.append(append(STATUSES, records(1), at_ms, key=repeat_key("k"))) == new
        assert await waiting_in(store, STATUSES) == waiting
    with pytest.raises(KeyReused):
        await store.append(
            append(STATUSES, records(1), last_ms + REPEAT_MS + 2, key=repeat_key("k", b"other"))
        )


async def test_twins_with_a_batch_key_are_stored_once(store: Store) -> None:
    entries = records(3)
    twins = [append(STATUSES, entries, key=repeat_key("k")) for _ in range(5)]
    other = append(STATUSES, records(3), key=repeat_key("k", b"other"))
    answers = await together(store, *twins, other)
    assert sorted(map(str, answers[:5])) == ["0", "0", "0", "0", "3"]
    assert isinstance(answers[5], KeyReused)
    assert await data_of(store, STATUSES) == entries


async def test_known_records_of_a_batch_are_left_out(store: Store) -> None:
    """By fingerprint a record is known in any batch, and twice in one; told is what is new."""
    a, b, c, d = records(4)
    assert await store.append(fingerprinted(STATUSES, [a, b, a], [1, 2, 1])) == 2
    assert await store.append(fingerprinted(STATUSES, [b, c, d], [2, 3, 4])) == 2
    assert await store.append(fingerprinted(STATUSES, [a, b, c, d], [1, 2, 3, 4])) == 0
    assert await data_of(store, STATUSES) == [a, b, c, d]


async def test_a_fingerprint_is_of_one_sender_and_time(store: Store) -> None:
    """The record's own time is part of it: the same digest a second later is another record."""
    for scope in ("a", "b"):
        await store.append(fingerprinted(STATUSES, records(1), [1], scope=scope))
    assert await waiting_in(store, STATUSES) == 2
    later = fingerprinted(STATUSES, records(1), [1])
    assert later.fingerprints is not None
    [(record_s, digest)] = later.fingerprints.items
    later.fingerprints.items[:] = [(record_s + 1, digest)]
    await store.append(later)
    assert await waiting_in(store, STATUSES) == 3


async def test_a_fingerprint_is_known_for_three_days_to_the_millisecond(store: Store) -> None:
    """From the time it was stored: a repeat doesn't make it known for longer."""
    last_ms = NOW_MS + REPEAT_MS
    for at_ms, waiting in [
        (NOW_MS, 1),
        (NOW_MS + 1, 1),
        (last_ms, 1),
        (last_ms + 1, 2),
        (last_ms + 1 + REPEAT_MS, 2),
        (last_ms + 2 + REPEAT_MS, 3),
    ]:
        new = waiting - await waiting_in(store, STATUSES)
        assert await store.append(fingerprinted(STATUSES, records(1), [1], at_ms)) == new
        assert await waiting_in(store, STATUSES) == waiting


async def test_a_new_record_is_known_by_what_stands_behind_its_digest(store: Store) -> None:
    """By its own and by these; one that is a repeat is not known by any more than before."""
    a, b, c, d, e = (bytes([letter]) * 16 for letter in b"abcde")

    async def new(*digests: bytes, at_ms: int = NOW_MS, scope: str = "a") -> int:
        prints = Fingerprints(scope, [(0, digest) for digest in digests])
        sent = Append(REPLIES, records(len(digests)), at_ms, fingerprints=prints)
        return await store.append(sent)

    assert await new(a + b + c) == 1
    assert await new(a) == await new(b) == await new(c) == 0
    assert await new(c + d) == 0
    assert await new(a + b, scope="b") == 1
    assert await new(d + b + e, e, d + a) == 1
    assert await new(e) == 0
    assert await new(b + e, at_ms=NOW_MS + REPEAT_MS) == 0
    assert await new(b + a, e, at_ms=NOW_MS + REPEAT_MS + 1) == 2
    assert await new(a, at_ms=NOW_MS + REPEAT_MS + 2) == 0
    none = append(REPLIES, [])
    for digests, items in ((a + b + c, 1), (b, 0), (d, 1)):
        prints = Fingerprints("aside", [(0, digests)])
        aside = msgspec.structs.replace(parked(none, [b"item"]), fingerprints=prints)
        assert await store.park(aside) == PutAside(0, items, 0)


async def test_a_refusal_leaves_those_beside_it_alone(store: Store) -> None:
    """What arrives together may share a commit, but not a fate."""
    await store.append(append(STATUSES, records(1), key=repeat_key("k")))
    await store.pull(once(STATUSES, "1"))
    entries = records(2)
    answers = await together(
        store,
        append(STATUSES, entries[:1]),
        append(STATUSES, records(1), key=repeat_key("k", b"other")),
        once(STATUSES, "1"),
        append(STATUSES, entries[1:]),
        pull(REPLIES),
    )
    assert isinstance(answers[1], KeyReused)
    assert isinstance(answers[2], ReplayRefused)
    assert [answers[0], answers[3], answers[4]] == [1, 1, EMPTY]
    assert (await data_of(store, STATUSES))[1:] in (entries, entries[::-1])
    assert await waiting_in(store, STATUSES) == 2


# --- together -------------------------------------------------------------------------------------


async def test_batches_that_come_together_stay_whole(store: Store) -> None:
    """Each batch is there as a whole and in its own order, wherever it came to stand."""
    batches = [records(size) for size in (1, 150, 3, 100, 7, 2, 99, 12)]
    assert await together(store, *[append(STATUSES, batch) for batch in batches]) == [
        len(batch) for batch in batches
    ]
    stored = await data_of(store, STATUSES)
    assert len(stored) == sum(map(len, batches))
    for batch in batches:
        start = stored.index(batch[0])
        assert stored[start : start + len(batch)] == batch


async def test_pulls_that_come_together_never_share_an_entry(store: Store) -> None:
    """Their pages are ranges that lie next to each other, from the head on."""
    entries = records(500)
    await store.append(append(STATUSES, entries))
    sizes = [1, 100, 7, 50, 33] * 4
    answers = await together(store, *[pull(STATUSES, size) for size in sizes])
    pages = sorted(
        (answer for answer in answers if isinstance(answer, Page) and answer.count),
        key=lambda taken: taken.first_seq,
    )
    next_seq = 1
    for taken in pages:
        assert taken.first_seq == next_seq
        assert taken.data == b",".join(entries[next_seq - 1 : next_seq - 1 + taken.count])
        next_seq += taken.count
        assert taken.waiting == 501 - next_seq
    assert next_seq == 501
    check_journal(await journal_of(store, STATUSES), 500)


async def test_a_short_page_means_that_the_mailbox_was_empty(store: Store) -> None:
    """What was accepted before a pull began is in its page, or was taken before; never missed."""
    accepted = taken = 0

    async def feed() -> None:
        nonlocal accepted
        for size in [1, 3, 40, 2] * 10:
            accepted += await store.append(append(STATUSES, records(size)))
            await asyncio.sleep(0)

    async def take() -> None:
        nonlocal taken
        while not feeding.done():
            known = accepted
            found = await store.pull(pull(STATUSES, 30))
            taken += found.count
            assert found.count == 30 or taken >= known
            await asyncio.sleep(0)

    feeding = asyncio.create_task(feed())
    await take()
    await feeding
    await drain(store, STATUSES)
    check_journal(await journal_of(store, STATUSES), accepted)


# --- settings -------------------------------------------------------------------------------------


async def test_a_setting_changes_only_from_what_is_expected(store: Store) -> None:
    async def value() -> bytes | None:
        return next(s.value for s in await settings_of(store) if s.name == "a")

    assert not await store.change(Change("a", b"1", b"0"))
    assert await settings_of(store) == []
    assert await store.change(Change("a", b"1", None))
    assert not await store.change(Change("a", b"2", None))
    assert not await store.change(Change("a", b"2", b""))
    assert await value() == b"1"
    assert await store.change(Change("a", b"", b"1"))
    assert not await store.change(Change("a", b"2", None))
    assert await value() == b""
    assert await store.change(Change("a", None, b""))
    assert await value() is None
    assert not await store.change(Change("a", b"3", b""))
    assert await store.change(Change("a", b"3", None))
    assert await value() == b"3"


async def test_settings_tell_what_changed_since(store: Store) -> None:
    """Each name once, with its newest value, in order of change; deleted ones are told of."""
    for name in ("a", "b", "c"):
        await store.change(Change(name, name.encode(), None))
    [a, b, c] = await settings_of(store)
    assert [s.name for s in (a, b, c)] == ["a", "b", "c"]
    assert a.revision < b.revision < c.revision
    assert await settings_of(store, a.revision) == [b, c]
    assert await settings_of(store, c.revision) == []
    await store.change(Change("c", None, b"c"))
    await store.change(Change("a", b"A", b"a"))
    [deleted, changed] = await settings_of(store, c.revision)
    assert (deleted.name, deleted.value) == ("c", None)
    assert (changed.name, changed.value) == ("a", b"A")
    assert c.revision < deleted.revision < changed.revision
    assert await settings_of(store) == [b, deleted, changed]


async def test_settings_are_read_by_their_prefix(store: Store) -> None:
    """In order of name, as each is now; what is asked for is all that comes."""
    names = [f"a/{number:03}" for number in range(450)]
    for name in reversed(names[1:]):
        await store.change(Change(name, b"1", None))
    for name in ("a", "a/", "a0", "b/1"):
        await store.change(Change(name, b"2", None))
    await store.change(Change("a/007", None, b"1"))
    found = [setting async for setting in store.settings(prefix="a/")]
    assert [setting.name for setting in found] == ["a/", *names[1:]]
    assert found == sorted(await settings_of(store), key=lambda setting: setting.name)[1:451]
    assert found[7].value is None
    since = found[7].revision - 1
    assert [one.name async for one in store.settings(since, prefix="a/")] == ["a/007"]
    assert [one async for one in store.settings(prefix="c")] == []


async def test_a_store_says_where_changes_of_settings_go_on(opener: Opener) -> None:
    store = await opener()
    assert store.revision == 0
    await store.change(Change("a", b"1", None))
    store = await opener()
    await store.change(Change("b", b"1", None))
    assert [setting.name for setting in await settings_of(store, store.revision)] == ["b"]


async def test_a_reader_of_what_changed_since_misses_nothing(opener: Opener) -> None:
    """However many change settings through several doors, while he goes on from what he saw last.

    A revision that became visible behind a higher one would be passed over for ever.
    """
    doors = [await opener() for _ in range(3)]
    written: dict[str, bytes] = {}

    async def change(number: int) -> None:
        names = [f"{number}/{place}" for place in range(4)]
        for turn in itertools.count():
            if turn >= 16 and rounds > 3:
                return
            name, value = names[turn % 4], b"%d" % turn
            door = doors[(number + turn) % len(doors)]
            assert await door.change(Change(name, value, written.get(name)))
            written[name] = value

    seen: dict[str, bytes | None] = {}
    since = rounds = 0

    async def read() -> None:
        nonlocal since
        async for setting in doors[0].settings(since):
            assert setting.revision > since
            since = setting.revision
            seen[setting.name] = setting.value

    await read()  # whatever it needs for that, it has from here on
    changing = asyncio.gather(*[change(number) for number in range(4)])
    while not changing.done():
        await read()
        rounds += 1
    await changing
    await read()
    assert seen == written


async def test_many_settings_are_told_in_steps(store: Store) -> None:
    """One that is written while they are told comes once more, as it is then; none is missed."""
    names = [f"{number:03}" for number in range(450)]
    assert await store.change(*[Change(name, b"1", None) for name in names])
    told: list[Setting] = []
    async for setting in store.settings():
        if not told:
            assert await store.change(Change("449", b"2", b"1"))
            assert await store.change(Change("000", b"2", b"1"))
        told.append(setting)
    assert [setting.name for setting in told if setting.value == b"1"][:448] == names[:448]
    assert [setting.name for setting in told if setting.value == b"2"] == ["449", "000"]
    assert [setting.revision for setting in told] == sorted({one.revision for one in told})
    assert await settings_of(store) == [
        one for one in told if (one.name, one.value) != ("000", b"1")
    ]


async def test_of_changes_from_one_value_one_wins(store: Store) -> None:
    values = [b"%d" % number for number in range(8)]
    won = await asyncio.gather(*[store.change(Change("a", value, None)) for value in values])
    assert won.count(True) == 1
    [setting] = await settings_of(store)
    assert setting.value == values[won.index(True)]


async def test_settings_change_together_or_not_at_all(store: Store) -> None:
    await store.change(Change("a", b"1", None))
    for stale in (Change("a", b"2", b"0"), Change("a", b"2", b"1", revision=0)):
        assert not await store.change(Change("b", b"1", None), stale)
        assert [setting.name for setting in await settings_of(store)] == ["a"]
    [a] = await settings_of(store)
    both = [Change("b", b"1", None, revision=0), Change("a", None, b"1", a.revision)]
    assert await store.change(*both)
    [b, a] = await settings_of(store)
    assert (b.name, b.value, a.name, a.value) == ("b", b"1", "a", None)
    assert b.revision != a.revision


async def test_a_setting_is_found_by_its_name(store: Store) -> None:
    assert await store.setting("a") is None
    for value, expected in ((b"1", None), (None, b"1"), (b"2", None)):
        await store.change(Change("a", value, expected))
        [setting] = await settings_of(store)
        assert await store.setting("a") == setting
    assert await store.setting("b") is None
    assert await store.settings_of([]) == {}
    assert await store.settings_of(["b", "a", "a'\"", "\u00e9"]) == {"a": await store.setting("a")}
    many = [f"many/{number}" for number in range(500)]
    for first in range(0, len(many), 100):
        await store.change(*(Change(name, b"1", None) for name in many[first : first + 100]))
    told = await store.settings_of([*many[::2], "never", *many[1::2]])
    assert set(told) == set(many)
    assert [told[name] for name in many[::97]] == [await store.setting(name) for name in many[::97]]


async def test_what_rests_on_a_setting_is_refused_once_that_was_written(opener: Opener) -> None:
    """Whoever wrote it, through whichever door; nothing is left behind of what is refused."""
    store, other = await opener(), await opener()
    await store.append(append(STATUSES, records(3)))
    await store.pull(pull(STATUSES, 1))
    never, before = While(RESTED, 0), await store.backlog()
    for door in (store, other):
        for value in (b"1", b"2", None, b"2", b"1", None):
            setting = await store.setting(RESTED)
            held = never if setting is None else While(RESTED, setting.revision)
            assert await store.append(Append(STATUSES, records(1), NOW_MS, while_set=held)) == 1
            expected = None if setting is None else setting.value
            assert await door.change(Change(RESTED, value, expected))
            batch = fingerprinted(STATUSES, records(2), [1, 2])
            batch = msgspec.structs.replace(batch, repeat_key=repeat_key("k"), while_set=held)
            held_once = msgspec.structs.replace(once(STATUSES, "1", key="k"), while_set=held)
            copies = redeliver(STATUSES, (1, 1), while_set=held)
            before = await store.backlog()
            for verb in (
                lambda batch=batch: store.append(batch),
                lambda held_once=held_once: store.pull(held_once),
                lambda held=held: store.discard(
                    Discard(STATUSES, Outcome.ERASED, NOW_MS, while_set=held)
                ),
                lambda copies=copies: store.redeliver(copies),
            ):
                with pytest.raises(SettingChanged):
                    await verb()
            assert await store.backlog() == before
    batch = fingerprinted(STATUSES, records(2), [1, 2])
    assert await store.append(msgspec.structs.replace(batch, repeat_key=repeat_key("k"))) == 2
    assert (await store.backlog())[0].accepted == before[0].accepted + 2
    assert not (await store.pull(once(STATUSES, "1", key="k"))).repeated
    assert await acts_of(store) == []


async def test_a_condition_that_holds_for_some_of_a_group_refuses_the_others(store: Store) -> None:
    await store.change(Change(RESTED, b"1", None))
    setting = await store.setting(RESTED)
    assert setting is not None
    good, stale = While(RESTED, setting.revision), While(RESTED, setting.revision + 1)
    [one, two] = records(2)
    answers = await together(
        store,
        Append(STATUSES, [one], NOW_MS, while_set=good),
        Append(STATUSES, records(1), NOW_MS, while_set=stale),
        Append(STATUSES, [two], NOW_MS, while_set=good),
        Pull(STATUSES, 100, NOW_MS, key="k", while_set=stale),
        Pull(STATUSES, 100, NOW_MS, key="l", while_set=good),
    )
    assert answers[0] == answers[2] == 1
    assert isinstance(answers[1], SettingChanged)
    assert isinstance(answers[3], SettingChanged)
    assert await data_of(store, STATUSES) == [one, two]


@pytest.mark.parametrize("how", [{}, {"key": "k"}, {"reader": Reader("billing")}])
async def test_a_pull_rests_on_what_it_was_proven_by_too(store: Store, how: dict[str, Any]) -> None:
    """Which is a setting of no application."""
    proof = "secret/AKID"
    await store.append(append(STATUSES, records(4)))
    await store.change(Change(RESTED, b"1", None))
    await store.change(Change(proof, b"1", None))
    rested, proven = await store.setting(RESTED), await store.setting(proof)
    assert rested is not None
    assert proven is not None
    held = While(RESTED, rested.revision)
    good = Pull(STATUSES, 2, NOW_MS, while_set=held, while_proven=While(proof, proven.revision))
    good = msgspec.structs.replace(good, **how)
    assert (await store.pull(good)).count == 2
    others = [While(f"secret/{number}", 0) for number in range(9)]
    answers = await together(
        store,
        msgspec.structs.replace(good, while_proven=While(proof, proven.revision - 1)),
        msgspec.structs.replace(good, while_proven=While("secret/AKIX", 1)),
        msgspec.structs.replace(good, while_set=While(RESTED, rested.revision + 1)),
        *(msgspec.structs.replace(good, while_proven=other) for other in others),
    )
    assert all(isinstance(answer, SettingChanged) for answer in answers[:3])
    assert all(isinstance(answer, Page) for answer in answers[3:])
    await store.append(append(STATUSES, records(4)))
    await store.change(Change(proof, None, b"1"))
    with pytest.raises(SettingChanged):
        await store.pull(good)


async def test_a_key_does_not_bring_back_what_lies_before_a_number(store: Store) -> None:
    """Whose page it was is the caller's knowledge; the key is free for another pull then."""
    entries = records(5)
    await store.append(append(STATUSES, entries))
    first = await store.pull(pull(STATUSES, 2, key="k"))
    keyed = pull(STATUSES, 2, key="k")
    assert await store.pull(msgspec.structs.replace(keyed, keyed_after=(0, 9))) == page(
        1, entries[:2], 3, repeated=True
    )
    second = await store.pull(msgspec.structs.replace(keyed, keyed_after=(2, 0)))
    assert second == page(3, entries[2:4], 1)
    again = msgspec.structs.replace(keyed, keyed_after=(2, 0))
    assert await store.pull(again) == page(3, entries[2:4], 1, repeated=True)
    other = msgspec.structs.replace(again, mailbox=REPLIES, keyed_after=(4, 0))
    assert await store.pull(other) == EMPTY  # no `KeyReused`: both were somebody else's
    assert first.count == 2


async def test_a_mark_is_the_newest_time_until_it_is_forgotten(store: Store) -> None:
    """With its place, which goes and stays with it."""
    await store.mark({})
    many = {f"key/{number}": Noted(number, f"at {number}") for number in range(1, 1200)}
    await store.mark(many)
    other = Noted(1, "elsewhere")
    await store.mark(
        {
            "key/7": Noted(6, "before"),
            "key/8": Noted(9, "behind"),
            "other/1": other,
            "key/9": Noted(0),
            "key/0": Noted(0, "never"),
        }
    )
    many |= {"key/8": Noted(9, "behind")}
    del many["key/9"]
    assert await store.marks("key/") == many
    assert await store.marks() == many | {"other/1": other}
    assert await store.marks("key/119") == {
        f"key/{number}": many[f"key/{number}"] for number in (119, *range(1190, 1200))
    }
    assert await settings_of(store) == []


# --- leaving otherwise, and coming again ----------------------------------------------------------


async def test_entries_can_leave_without_being_handed_out(store: Store) -> None:
    """Those that are old enough, from the head; on record, counted apart, never pulled."""
    entries = records(6)
    for at_ms, start in [(NOW_MS, 0), (NOW_MS + 1, 2), (NOW_MS + 2, 4)]:
        await store.append(append(STATUSES, entries[start : start + 2], at_ms))
    await store.pull(pull(STATUSES, 1))
    old = Discard(STATUSES, Outcome.EXPIRED, NOW_MS + 9, NOW_MS + 1)
    assert await store.discard(old) == 1
    assert await store.discard(old) == 0
    assert await waiting_in(store, STATUSES) == 4
    assert await store.pull(pull(STATUSES, 1)) == page(3, entries[2:3], 3)
    assert await store.discard(Discard(STATUSES, Outcome.ERASED, NOW_MS + 9)) == 3
    assert await store.pull(pull(STATUSES)) == EMPTY
    assert await store.discard(Discard(REPLIES, Outcome.ERASED, NOW_MS)) == 0
    rows = await journal_of(store, STATUSES)
    check_journal(rows, 6)
    assert [(row.outcome, row.first_seq, row.count, row.at_ms) for row in rows] == [
        (Outcome.PULLED, 1, 1, NOW_MS),
        (Outcome.EXPIRED, 2, 1, NOW_MS + 9),
        (Outcome.PULLED, 3, 1, NOW_MS),
        (Outcome.ERASED, 4, 3, NOW_MS + 9),
    ]
    row = await backlog_of(store, STATUSES)
    assert row is not None
    assert (row.accepted, row.handed_out, row.expired, row.erased) == (6, 2, 1, 3)


async def test_redelivery_appends_marked_copies(store: Store) -> None:
    """In the order of the ranges, at the tails; the originals stay; the act is on record, once."""
    entries, others = records(120), records(2)
    await store.append(append(STATUSES, entries))
    await store.append(append(OTHERS, others))
    await store.pull(pull(STATUSES, 100))
    await store.pull(pull(OTHERS))
    act = new_act(detail='{"by":"pull"}')
    step = redeliver(STATUSES, (99, 2), (1, 2), act=act)
    assert await store.redeliver(step) == 4
    assert await store.redeliver(redeliver(OTHERS, (2, 1), act=act)) == 1
    copies = [*entries[98:100], *entries[:2]]
    assert await data_of(store, STATUSES) == entries + copies
    assert [entry.ticket for entry in await entries_of(store, STATUSES, 121)] == [step.ticket] * 4
    assert (await store.pull(pull(OTHERS))).data == others[1]
    [row] = await acts_of(store)
    assert row.act == act
    assert await again_of(store, STATUSES) == [
        Again(121, 2, 99, row.act_id),
        Again(123, 2, 1, row.act_id),
    ]
    assert await store.pull(pull(STATUSES)) == page(101, entries[100:] + copies, 0)


async def test_an_act_copies_an_entry_once(opener: Opener) -> None:
    """Whoever repeats a step, or asks for some of it in another; another act copies it anew."""
    store, other = await opener(), await opener()
    entries = records(300)
    await store.append(append(STATUSES, entries))
    for size in (100, 100, 90):
        await store.pull(pull(STATUSES, size))
    act = new_act()
    assert await store.redeliver(redeliver(STATUSES, (11, 10), (41, 150), act=act)) == 160
    for door in (store, other):
        assert await door.redeliver(redeliver(STATUSES, (11, 10), (41, 150), act=act)) == 0
        assert await door.redeliver(redeliver(STATUSES, (15, 2), (100, 1), act=act)) == 0
    assert await other.redeliver(redeliver(STATUSES, (1, 60), (190, 2), act=act)) == 10 + 20 + 1
    assert await store.redeliver(redeliver(STATUSES, (200, 3), (201, 4), act=act)) == 5
    copied = [*entries[10:20], *entries[40:190], *entries[:10], *entries[20:40], entries[190]]
    copied += entries[199:204]
    assert (await data_of(store, STATUSES))[300:] == copied
    assert [row.act for row in await acts_of(other)] == [act]
    assert await store.redeliver(redeliver(STATUSES, (15, 2))) == 2
    assert len(await acts_of(store)) == 2


async def test_an_act_that_two_go_on_with_at_once_copies_an_entry_once(opener: Opener) -> None:
    store, other = await opener(), await opener()
    await store.append(append(STATUSES, records(100)))
    await store.pull(pull(STATUSES))
    act = new_act()
    copied = await asyncio.gather(
        *[
            door.redeliver(redeliver(STATUSES, (first, 20), act=act))
            for first in range(1, 80, 10)
            for door in (store, other)
        ]
    )
    assert sum(copied) == 90
    assert len(set((await data_of(store, STATUSES))[100:])) == 90


@pytest.mark.parametrize(
    "wrong", [(STATUSES, 3, 1), (STATUSES, 2, 2), (STATUSES, 4, 1), (REPLIES, 1, 1)]
)
async def test_what_was_not_handed_out_is_not_redelivered(
    store: Store, wrong: tuple[Mailbox, int, int]
) -> None:
    """Nothing of such a step is done, nor put on record."""
    await store.append(append(STATUSES, records(3)))
    await store.pull(pull(STATUSES, 2))
    mailbox, first_seq, count = wrong
    with pytest.raises(InvalidSetting):
        await store.redeliver(redeliver(mailbox, (1, 1), (first_seq, count)))
    assert len(await data_of(store, STATUSES)) == 3
    assert await acts_of(store) == []
    assert await again_of(store, STATUSES) == []


async def test_an_act_is_on_record_with_what_it_did(store: Store) -> None:
    """In the same commit: what was refused, or changed nothing, is not; nor what nobody did."""
    acts = [new_act(f"act {number}", at_ms=NOW_MS - number) for number in range(5)]
    one, two, three, four, five = acts
    await store.append(append(STATUSES, records(2)))
    await store.append(append(REPLIES, records(2)))
    assert await store.change(Change("a", b"1", None), act=one, ticket=ticket())
    assert not await store.change(Change("a", b"2", None), act=two)
    assert not await store.change(Change("b", b"2", b"x"), Change("a", None, b"1"), act=two)
    with pytest.raises(SettingChanged):
        await store.discard(
            Discard(STATUSES, Outcome.ERASED, NOW_MS, while_set=While(RESTED, 7), act=two)
        )
    assert await store.discard(Discard(OTHERS, Outcome.ERASED, NOW_MS, act=two)) == 0
    assert await store.discard(Discard(STATUSES, Outcome.EXPIRED, NOW_MS, NOW_MS)) == 0
    assert [row.act for row in await acts_of(store)] == [one]
    assert await store.change(Change("a", None, b"1"), Change("b", b"", None), act=three)
    for mailbox in (STATUSES, REPLIES):  # of one act
        assert await store.discard(Discard(mailbox, Outcome.ERASED, NOW_MS, act=four)) == 2
    assert await store.change(Change("c", b"", None))
    assert await store.change(Change("c", b"1", b""), act=five)
    rows = await acts_of(store)
    assert [row.act for row in rows] == [one, three, four, five]
    assert [row.act_id for row in rows] == [1, 2, 3, 4]
    assert rows == chain_of(dict(enumerate([one, three, four, five], start=1)))
    assert await acts_of(store, newest_first=True) == rows[::-1]


async def test_a_setting_tells_by_which_operation(store: Store) -> None:
    first, second = ticket(), ticket()
    await store.change(Change("a", b"1", None), ticket=first)
    await store.change(Change("a", b"2", b"1"), Change("b", b"", None), ticket=second)
    assert [setting.ticket for setting in await settings_of(store)] == [second, second]
    setting = await store.setting("a")
    assert setting is not None
    assert setting.ticket == second


async def test_many_acts_are_read_whole(store: Store) -> None:
    acts = [new_act(f"{number}") for number in range(450)]
    await asyncio.gather(
        *[store.change(Change(f"{number}", b"", None), act=act) for number, act in enumerate(acts)]
    )
    rows = await acts_of(store)
    assert [row.act_id for row in rows] == list(range(1, 451))
    assert {row.act.ticket for row in rows} == {act.ticket for act in acts}
    assert list(breaks(rows)) == []
    assert await acts_of(store, newest_first=True) == rows[::-1]


async def test_acts_through_two_doors_at_once_are_one_chain(opener: Opener) -> None:
    """And one that goes on record again, as after an answer that was lost, stays as it was."""
    store, other = await opener(), await opener()
    acts = [new_act(f"{number}") for number in range(40)]
    doors = (store, other)
    await asyncio.gather(*[doors[n % 2].change(act=act) for n, act in enumerate(acts)])
    rows = await acts_of(store)
    await asyncio.gather(*[other.change(act=act) for act in acts[::5]])
    assert await acts_of(other) == rows
    assert sorted(row.act.ticket for row in rows) == sorted(act.ticket for act in acts)
    assert list(breaks(rows)) == []


async def test_what_left_is_removed_of_one_mailbox_only(store: Store) -> None:
    for mailbox in (STATUSES, REPLIES, OTHERS):
        await store.append(append(mailbox, records(30)))
        await store.pull(pull(mailbox, 20))
    assert await remove(store, STATUSES, 0) == 0
    assert await remove(store, STATUSES, 30) == 20
    assert await remove(store, STATUSES, 30) == 0
    assert await remove(store, Mailbox(4711, STATUSES.kind), 30) == 0
    assert await journal_of(store, STATUSES) == []
    assert len(await journal_of(store, REPLIES)) == len(await journal_of(store, OTHERS)) == 1
    assert [page.count for page in await drain(store, STATUSES)] == [10]


async def test_the_rest_of_what_is_removed_of_an_application_is_of_nothing_that_is_left(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else writes here, so there is nothing to wait for."""
    monkeypatch.setattr("pullstatus.store.jetstream.engine.AGE_S", 0.0)
    for mailbox in (STATUSES, REPLIES, OTHERS):
        await store.append(append(mailbox, records(30)))
        await store.pull(pull(mailbox, 10, key=f"{mailbox.holds}"))
    assert [await remove(store, mailbox, 10) for mailbox in (STATUSES, REPLIES)] == [10, 10]
    again = await store.pull(pull(REPLIES, 10, key="b"))
    await store.purge_rest(STATUSES.sdkappid)
    await store.purge_rest(4711)
    assert await journal_of(store, STATUSES) == []
    assert [row.key for row in await journal_of(store, REPLIES)] == ["b"]
    assert (await store.pull(pull(REPLIES, 10, key="b"))).data == again.data
    assert len(await journal_of(store, OTHERS)) == 1
    assert [page.count for page in await drain(store, STATUSES)] == [20]


async def test_what_is_removed_by_number_is_so_whenever_it_left(store: Store) -> None:
    """A clock that was ahead keeps nothing; a page around the number goes as a whole."""
    for _ in range(5):
        await store.append(append(STATUSES, records(10)))
    for at_ms in (NOW_MS + 9, NOW_MS, NOW_MS + 7, NOW_MS):
        await store.pull(pull(STATUSES, 10, at_ms))
    assert await purge(store, left_before_ms=NOW_MS + 1) == 0
    assert await remove(store, STATUSES, 25) == 30
    assert [row.first_seq for row in await journal_of(store, STATUSES)] == [31]
    assert [entry.seq for entry in await entries_of(store, STATUSES)] == list(range(31, 51))
    assert await remove(store, STATUSES, 50) == 10
    assert [page.count for page in await drain(store, STATUSES)] == [10]


async def test_no_more_is_discarded_than_up_to_a_number(store: Store) -> None:
    for at_ms in (NOW_MS, NOW_MS + 5):
        await store.append(append(STATUSES, records(10), at_ms))
    due = Discard(STATUSES, Outcome.ERASED, NOW_MS + 9, through=14)
    assert await store.discard(msgspec.structs.replace(due, through=0)) == 0
    older = msgspec.structs.replace(due, accepted_before_ms=NOW_MS + 1)
    assert await store.discard(msgspec.structs.replace(older, through=4)) == 4
    assert await store.discard(older) == 6
    assert await store.discard(due) == 4
    assert await store.discard(due) == 0
    [row] = await store.backlog(STATUSES.sdkappid)
    assert (row.waiting, row.erased) == (6, 14)
    assert (await store.pull(pull(STATUSES))).first_seq == 15
    assert await store.discard(msgspec.structs.replace(due, through=99)) == 0


async def test_only_what_left_long_ago_is_removed(store: Store) -> None:
    """Entries and journal before a time, never what waits; numbers and counts go on."""
    entries = records(450)
    await store.append(append(STATUSES, entries))
    for turn in range(3):
        await store.pull(pull(STATUSES, 100, NOW_MS + turn, key=f"{turn}"))
    assert await purge(store, left_before_ms=NOW_MS) == 0
    assert await purge(store, left_before_ms=NOW_MS + 2) == 200
    assert await purge(store, left_before_ms=NOW_MS + 2) == 0
    assert [entry.seq for entry in await entries_of(store, STATUSES)] == list(range(201, 451))
    [row] = await journal_of(store, STATUSES)
    assert (row.first_seq, row.count) == (201, 100)
    with pytest.raises(InvalidSetting):
        await store.redeliver(redeliver(STATUSES, (200, 1)))
    assert (await store.pull(pull(STATUSES, 100, NOW_MS, key="2"))).repeated
    assert await store.pull(pull(STATUSES, 5)) == page(301, entries[300:305], 145)
    figures = await backlog_of(store, STATUSES)
    assert figures is not None
    assert (figures.accepted, figures.handed_out, figures.waiting) == (450, 305, 145)
    assert figures.purged == 200


async def test_a_journal_is_read_backwards_too(store: Store) -> None:
    await store.append(append(STATUSES, records(450)))
    await together(store, *[pull(STATUSES, 1) for _ in range(450)])
    rows = await journal_of(store, STATUSES)
    assert await journal_of(store, STATUSES, newest_first=True) == rows[::-1]
    assert await journal_of(store, STATUSES, 440, newest_first=True) == rows[:438:-1]


async def test_pulls_are_found_by_their_key(store: Store) -> None:
    for box in (STATUSES, OTHERS):
        await store.append(append(box, records(4)))
        await store.pull(pull(box, 2, key="k"))
        await store.pull(pull(box, 1, key="other"))
    found = [row for box in (STATUSES, OTHERS) for row in await store.keyed(box.sdkappid, "k")]
    assert {(row.mailbox, row.first_seq, row.count) for row in found} == {
        (STATUSES, 1, 2),
        (OTHERS, 1, 2),
    }
    for box in (STATUSES, OTHERS):
        assert {row.mailbox for row in await store.keyed(box.sdkappid, "k")} == {box}
    assert await store.keyed(STATUSES.sdkappid, "none") == []
    assert await store.keyed(1, "k") == []


async def test_entries_are_found_by_what_they_hold(store: Store) -> None:
    """All that hold the bytes, across many batches."""
    entries = [b'{"mobile":"138%05d"}' % number for number in range(300)]
    for start in range(0, 300, 60):
        await store.append(append(STATUSES, entries[start : start + 60]))
    wanted = [entry for entry in entries if b"0025" in entry]
    found = [entry.data async for entry in store.entries(STATUSES, containing=b"0025")]
    assert [data for data in found if b"0025" in data] == wanted
    assert wanted


async def test_records_of_very_many_hours_are_stored_once(store: Store) -> None:
    """A gateway sends what it has kept for weeks."""
    numbers = [3600 * number for number in range(1100)]
    sent = fingerprinted(STATUSES, records(1100), numbers)
    assert await store.append(sent) == 1100
    assert await store.append(sent) == 0
    beside = parked(sent, items := records(1100), 2000, 1_000_000)
    prints = fingerprinted(STATUSES, items, numbers, scope="aside").fingerprints
    aside = msgspec.structs.replace(beside, fingerprints=prints)
    assert await store.park(aside) == PutAside(0, 1100, 0)
    assert await store.park(aside) == PutAside(0, 0, 0)
    assert [entry.data async for entry in store.entries(STATUSES)] == sent.entries
    assert [entry.data async for entry in store.entries(PARKED)] == items


# --- forgetting -----------------------------------------------------------------------------------


async def test_only_what_is_old_is_forgotten(store: Store) -> None:
    """Younger batches and records are still known, mailboxes and journals stay as they are."""
    old_ms, young_ms = NOW_MS - 1, NOW_MS
    await store.append(append(STATUSES, records(1), old_ms, key=repeat_key("old")))
    await store.append(append(STATUSES, records(1), young_ms, key=repeat_key("young")))
    await store.append(fingerprinted(STATUSES, records(2), [101, 102], old_ms))
    await store.append(fingerprinted(STATUSES, records(2), [103, 104], young_ms))
    await store.pull(pull(STATUSES, 2, old_ms, key="k"))
    kept = [await data_of(store, STATUSES), await journal_of(store, STATUSES)]
    assert await forget(store, NOW_MS) == 3
    assert await forget(store, NOW_MS) == 0
    assert [await data_of(store, STATUSES), await journal_of(store, STATUSES)] == kept
    assert (await store.pull(pull(STATUSES, 2, young_ms, key="k"))).repeated
    await store.append(append(STATUSES, records(1), young_ms, key=repeat_key("young")))
    await store.append(fingerprinted(STATUSES, records(2), [103, 104], young_ms))
    assert len(await data_of(store, STATUSES)) == 6
    await store.append(append(STATUSES, records(1), young_ms, key=repeat_key("old")))
    await store.append(fingerprinted(STATUSES, records(2), [101, 102], young_ms))
    assert len(await data_of(store, STATUSES)) == 9


async def test_forgetting_lets_others_work_between_its_steps(store: Store) -> None:
    """A large number is dropped in steps, so that pulls need not wait for the end."""
    for start in range(0, 20_000, 1000):
        numbers = list(range(start, start + 1000))
        await store.append(fingerprinted(STATUSES, records(1000), numbers, NOW_MS - 1))
    forgetting = asyncio.create_task(forget(store, NOW_MS + 1))
    pulled = 0

    async def go_on() -> None:
        nonlocal pulled
        while not forgetting.done():
            pulled += (await store.pull(pull(STATUSES, 1))).count

    # Whenever the store looks up, somebody waits.
    await asyncio.gather(*[go_on() for _ in range(3)])
    assert await forgetting == 20_000
    assert pulled > 3 + 3  # who came before it, and who it let go first


# --- opening again --------------------------------------------------------------------------------


async def test_a_store_is_the_same_when_it_is_opened_again(url: str, opener: Opener) -> None:
    store = await opener()
    entries = records(250)
    await store.append(append(STATUSES, entries[:150], key=repeat_key("k")))
    await store.append(fingerprinted(REPLIES, records(2), [1, 2]))
    first = await store.pull(pull(STATUSES, 30, key="p"))
    await store.pull(once(REPLIES, "1"))
    await store.change(Change("a", b"1", None))
    before = [
        await store.backlog(),
        await entries_of(store, STATUSES),
        await entries_of(store, REPLIES),
        await journal_of(store, STATUSES),
        await settings_of(store),
        await oldest_of(store),
    ]
    await store.close()

    store = await opener()
    assert before == [
        await store.backlog(),
        await entries_of(store, STATUSES),
        await entries_of(store, REPLIES),
        await journal_of(store, STATUSES),
        await settings_of(store),
        await oldest_of(store),
    ]
    assert await waiting_in(store, STATUSES) == 120
    assert await store.append(append(STATUSES, entries[:150], key=repeat_key("k"))) == 0
    assert await store.append(fingerprinted(REPLIES, records(2), [1, 2])) == 0
    assert (await waiting_in(store, STATUSES), await waiting_in(store, REPLIES)) == (120, 1)
    assert await store.pull(pull(STATUSES, 30, key="p")) == page(
        1, entries[:30], 120, repeated=True
    )
    assert first.data == b",".join(entries[:30])
    with pytest.raises(ReplayRefused):
        await store.pull(once(REPLIES, "1"))
    assert not await store.change(Change("a", b"2", None))
    await store.append(append(STATUSES, entries[150:]))
    assert await store.pull(pull(STATUSES, 100)) == page(31, entries[30:130], 120)
    assert await store.pull(pull(STATUSES, 100)) == page(131, entries[130:230], 20)
    assert await store.pull(pull(STATUSES, 100)) == page(231, entries[230:], 0)


async def test_a_closed_store_says_so(opener: Opener) -> None:
    """Every verb is refused, none answers as if the mailbox were empty; closing again is fine."""
    store = await opener()
    await store.append(append(STATUSES, records(1)))
    await store.close()
    await store.close()
    for verb in (
        lambda: store.append(append(STATUSES, records(1))),
        lambda: store.pull(pull(STATUSES)),
        lambda: store.pull(pull(REPLIES)),
        lambda: store.change(Change("a", b"1", None)),
        lambda: forget(store, NOW_MS),
        lambda: store.setting("a"),
        lambda: store.mark({"a": Noted(1)}),
        store.marks,
        store.backlog,
        lambda: settings_of(store),
        lambda: again_of(store, STATUSES),
        store.engine,
        lambda: entries_of(store, STATUSES),
        lambda: journal_of(store, STATUSES),
        lambda: store.discard(Discard(STATUSES, Outcome.ERASED, NOW_MS)),
        lambda: purge(store, left_before_ms=NOW_MS),
        lambda: store.remove(STATUSES, 1),
        lambda: store.keyed(STATUSES.sdkappid, "k"),
        lambda: acts_of(store),
    ):
        with pytest.raises(StoreUnavailable):
            await verb()


async def test_closing_finishes_what_was_begun(url: str, opener: Opener) -> None:
    store = await opener()
    entries = records(3)
    tasks = [asyncio.create_task(store.append(append(STATUSES, [entry]))) for entry in entries]
    await asyncio.sleep(0)
    await store.close()
    assert await asyncio.gather(*tasks) == [1, 1, 1]
    again = await open_store(url)
    try:
        assert sorted(await data_of(again, STATUSES)) == sorted(entries)
    finally:
        await again.close()


async def test_counters_of_the_engine_grow(store: Store) -> None:
    before = await store.engine()
    await store.append(append(STATUSES, records(1)))
    await store.pull(pull(STATUSES))
    after = await store.engine()
    assert after.commits - before.commits == 2
    assert after.operations - before.operations == 2
    assert after.commit_s > before.commit_s
    assert after.bytes > 0


# --- what could not be read -----------------------------------------------------------------------


async def test_what_is_parked_is_stored_with_the_records_it_came_with(store: Store) -> None:
    """In a mailbox of its own that nobody pulls, with numbers, figures and order like any other."""
    entries, items = records(3), [b"bad", b"worse"]
    assert await store.park(parked(append(STATUSES, entries), items)) == PutAside(3, 2, 0)
    assert await data_of(store, STATUSES) == entries
    assert [(entry.seq, entry.data) for entry in await entries_of(store, PARKED)] == [
        (1, b"bad"),
        (2, b"worse"),
    ]
    assert [(row.mailbox, row.waiting) for row in await store.backlog()] == [
        (STATUSES, 3),
        (PARKED, 2),
    ]
    assert await store.pull(pull(STATUSES)) == page(1, entries, 0)
    assert await store.pull(pull(REPLIES)) == EMPTY


async def test_parked_alone_makes_no_mailbox_of_records(store: Store) -> None:
    assert await store.park(parked(append(STATUSES, [], NOW_MS), [b"bad"])) == PutAside(0, 1, 0)
    assert [row.mailbox for row in await store.backlog()] == [PARKED]
    [entry] = await entries_of(store, PARKED)
    assert entry.accepted_ms == NOW_MS


async def test_the_same_push_again_parks_nothing_again(store: Store) -> None:
    """As long as its records are known; then it is a new one. How much of it is new is told."""
    for at_ms, count, new in (
        (NOW_MS, 1, 1),
        (NOW_MS + REPEAT_MS, 1, 0),
        (NOW_MS + REPEAT_MS + 1, 2, 1),
    ):
        push = fingerprinted(STATUSES, [b"good"], [1], at_ms)
        assert await store.park(parked(push, [b"bad", b"bad"])) == PutAside(new, new, 0)
        assert await data_of(store, STATUSES) == [b"good"] * count
        assert await data_of(store, PARKED) == [b"bad"] * count


async def test_what_is_refused_parks_nothing(store: Store) -> None:
    await store.append(append(STATUSES, records(1), key=repeat_key("k")))
    before = await store.backlog()
    reused = append(STATUSES, records(1), key=repeat_key("k", b"other"))
    with pytest.raises(KeyReused):
        await store.park(parked(reused, [b"bad"]))
    stale = Append(STATUSES, records(1), NOW_MS, while_set=While(RESTED, 1))
    with pytest.raises(SettingChanged):
        await store.park(parked(stale, [b"bad"]))
    assert await store.backlog() == before


@pytest.mark.parametrize(("items_max", "bytes_max"), [(3, 10_000), (100, 14), (3, 14)])
async def test_of_more_than_may_be_parked_the_oldest_leave(
    opener: Opener, items_max: int, bytes_max: int
) -> None:
    """Whichever bound is reached, through whichever door, and told each time."""
    items = [b"%04d" % number for number in range(9)]
    doors = [await opener(), await opener()]
    for count, item in enumerate(items, start=1):
        door = doors[count % 3 // 2]
        done = await door.park(parked(append(STATUSES, []), [item], items_max, bytes_max))
        assert done == PutAside(0, 1, count > 3)
        row = await backlog_of(door, PARKED)
        assert row is not None
        assert (row.waiting, row.expired) == (min(count, 3), max(0, count - 3))
    rows = await journal_of(doors[0], PARKED)
    assert [(row.first_seq, row.outcome) for row in rows] == [
        (seq, Outcome.EXPIRED) for seq in range(1, 7)
    ]


async def test_bytes_are_counted_of_what_waits_alone(opener: Opener) -> None:
    """After some have left, by hand or for room, in the middle of a batch, and after a restart."""
    store = await opener()
    await store.park(parked(append(STATUSES, []), [b"a" * 40, b"b" * 40, b"c" * 40]))
    assert await store.park(parked(append(STATUSES, []), [b"d" * 40], bytes_max=120)) == PutAside(
        0, 1, 1
    )
    await store.close()
    store = await opener()
    assert await store.park(parked(append(STATUSES, []), [b"e" * 40], bytes_max=160)) == PutAside(
        0, 1, 0
    )
    assert await store.discard(Discard(PARKED, Outcome.ERASED, NOW_MS)) == 4
    assert await store.park(parked(append(STATUSES, []), [b"f" * 40], bytes_max=40)) == PutAside(
        0, 1, 0
    )


async def test_newest_item_stays_however_large(store: Store) -> None:
    for size, gone in ((50, 0), (60, 1), (70, 1)):
        item = b"%02d" % size + b"x" * (size - 2)
        assert await store.park(parked(append(STATUSES, []), [item], 5, 40)) == PutAside(0, 1, gone)
        waiting = await backlog_of(store, PARKED)
        assert waiting is not None
        assert waiting.waiting == 1


async def test_parked_items_leave_unpulled_and_are_removed_like_records(store: Store) -> None:
    await store.park(parked(append(STATUSES, [], NOW_MS - 10), [b"old"]))
    await store.park(parked(append(STATUSES, []), [b"new"]))
    expired = Discard(PARKED, Outcome.EXPIRED, NOW_MS, accepted_before_ms=NOW_MS)
    assert await store.discard(expired) == 1
    assert await purge(store, left_before_ms=NOW_MS + 1) == 1
    assert await data_of(store, PARKED) == [b"new"]


async def test_at_once_with_others_each_push_is_one(store: Store) -> None:
    """Of what arrives together every push is stored as a whole."""
    pushes = [parked(append(STATUSES, records(2)), [b"bad%d" % n]) for n in range(30)]
    await asyncio.gather(
        *[store.park(push) for push in pushes],
        *[store.append(append(STATUSES, records(1))) for _ in range(30)],
    )
    assert len(await data_of(store, STATUSES)) == 90
    assert sorted(await data_of(store, PARKED)) == sorted(push.entries[0] for push in pushes)


def unpark(
    first_seq: int,
    outcomes: list[Outcome],
    records_of: list[Append] | None = None,
    back: list[bytes] | None = None,
) -> Unpark:
    act = new_act("parked retry")
    return Unpark(PARKED, first_seq, outcomes, records_of or [], back or [], NOW_MS, act)


async def test_parked_items_leave_each_in_its_own_way(opener: Opener) -> None:
    """What was read is a record, what stands before it is at the tail, and all is accounted for."""
    store, other = await opener(), await opener()
    await store.park(parked(append(STATUSES, [b"good"]), [b"a", b"b", b"c", b"d", b"e"]))
    operation = unpark(
        1,
        [Outcome.PUT_BACK, Outcome.PULLED, Outcome.ERASED, Outcome.PUT_BACK],
        [append(STATUSES, [b"read"]), append(REPLIES, [b"reply"])],
        [b"a again", b"d again"],
    )
    assert await other.unpark(operation) == 2
    assert await data_of(store, STATUSES) == [b"good", b"read"]
    assert await data_of(store, REPLIES) == [b"reply"]
    waiting = [(entry.seq, entry.data) for entry in await entries_of(store, PARKED, 5)]
    assert waiting == [(5, b"e"), (6, b"a again"), (7, b"d again")]
    row = await backlog_of(store, PARKED)
    assert row is not None
    assert (row.accepted, row.waiting, row.handed_out, row.erased, row.put_back) == (7, 3, 1, 1, 2)
    assert [(again.first_seq, again.source_seq) async for again in store.again(PARKED)] == [
        (6, 1),
        (7, 4),
    ]
    assert [act.act for act in await acts_of(store)] == [operation.act]


async def test_pending_items_leave_unasked_and_are_found_where_they_are(opener: Opener) -> None:
    """Nobody's act is on record, and what goes to the tail is no copy of anybody's doing."""
    store, other = await opener(), await opener()
    await store.append(append(OTHERS, records(1)))
    await store.park(parked(append(OTHERS, []), [b"unread"]))
    assert await store.pending(9) == []
    kind = Aside.PENDING
    await store.park(parked(append(STATUSES, [b"good"]), [b"a", b"b", b"c"], kind=kind))
    await store.park(parked(append(STATUSES, []), [b"a"], kind=kind))  # it has come before
    [row] = await store.pending(9)
    assert (row.mailbox, row.accepted, row.waiting) == (PENDING, 3, 3)
    outcomes = [Outcome.PUT_BACK, Outcome.PULLED]
    read, back = append(STATUSES, [b"read"]), [b"a again"]
    operation = Unpark(PENDING, 1, outcomes, [read], back, NOW_MS, None)
    assert await other.unpark(operation) == 1
    with pytest.raises(SettingChanged):
        await store.unpark(operation)
    assert await data_of(store, STATUSES) == [b"good", b"read"]
    waiting = [(entry.seq, entry.data) for entry in await entries_of(store, PENDING, 3)]
    assert waiting == [(3, b"c"), (4, b"a again")]
    assert await acts_of(store) == []
    assert [again async for again in store.again(PENDING)] == []
    outcomes, read = [Outcome.PULLED] * 2, append(STATUSES, [b"c and a"])
    await store.unpark(Unpark(PENDING, 3, outcomes, [read], [], NOW_MS, None))
    assert await store.pending(9) == []
    assert (await store.totals()).of[Aside.PENDING].waiting == 0


async def test_routed_items_leave_with_what_another_application_gets(opener: Opener) -> None:
    """In one commit: as records or as items of its own, within its bounds, and accounted for."""
    store, other = await opener(), await opener()
    await store.park(parked(append(STATUSES, []), [b"a", b"b", b"c", b"d"]))
    theirs = Mailbox(OTHERS.sdkappid, PARKED.kind)
    await store.park(parked(append(OTHERS, []), [b"e"]))
    aside = Park(append(OTHERS, []), theirs, [b"a", b"c"], None, 2, 1000)
    operation = unpark(1, [Outcome.ROUTED] * 3, [append(OTHERS, [b"read"])])
    operation = msgspec.structs.replace(operation, aside=[aside])
    assert await other.unpark(operation) == 1
    assert await data_of(store, OTHERS) == [b"read"]
    assert [entry.data for entry in await entries_of(store, theirs, 2)] == [b"a", b"c"]
    found = [await backlog_of(store, mailbox) for mailbox in (PARKED, theirs)]
    assert [(row.accepted, row.waiting, row.routed, row.expired) for row in found if row] == [
        (4, 1, 3, 0),
        (3, 2, 0, 1),
    ]
    assert [row.outcome for row in await journal_of(store, PARKED)] == [Outcome.ROUTED]
    with pytest.raises(SettingChanged):
        await store.unpark(operation)
    assert await data_of(store, OTHERS) == [b"read"]


@pytest.mark.parametrize("whose", ["source", "records", "aside"])
async def test_route_rests_on_both_applications(store: Store, whose: str) -> None:
    """One that was changed since refuses all of it, whatever it was that should have changed."""
    await store.park(parked(append(STATUSES, []), [b"a", b"b"]))
    before = await store.backlog()
    owner = STATUSES if whose == "source" else OTHERS
    stale, theirs = While(f"a/{owner.sdkappid}", 7), Mailbox(OTHERS.sdkappid, PARKED.kind)
    records = append(OTHERS, [b"read"])
    aside = append(OTHERS, [])
    if whose == "records":
        records = msgspec.structs.replace(records, while_set=stale)
    if whose == "aside":
        aside = msgspec.structs.replace(aside, while_set=stale)
    operation = msgspec.structs.replace(
        unpark(1, [Outcome.ROUTED] * 2, [records]),
        aside=[Park(aside, theirs, [b"b"], None, 10, 1000)],
        while_set=stale if whose == "source" else None,
    )
    with pytest.raises(SettingChanged):
        await store.unpark(operation)
    assert await store.backlog() == before
    assert await acts_of(store) == []


async def test_unparking_what_has_left_changes_nothing(store: Store) -> None:
    """Somebody else was faster, or one who did not get the answer comes again."""
    await store.park(parked(append(STATUSES, []), [b"a", b"b"]))
    operation = unpark(1, [Outcome.PULLED], [append(STATUSES, [b"read"])])
    assert await store.unpark(operation) == 1
    before = await store.backlog()
    for late in (operation, unpark(2, [Outcome.ERASED] * 2), unpark(3, [Outcome.ERASED])):
        with pytest.raises(SettingChanged):
            await store.unpark(late)
        with pytest.raises(SettingChanged):
            await store.unpark(msgspec.structs.replace(late, while_set=While(RESTED, 7)))
    assert await store.backlog() == before
    assert len(await acts_of(store)) == 1


async def test_unparked_record_that_is_known_is_not_stored_again(store: Store) -> None:
    push = fingerprinted(STATUSES, [b"read"], [1])
    await store.append(push)
    await store.park(parked(append(STATUSES, []), [b"a"]))
    assert await store.unpark(unpark(1, [Outcome.PULLED], [push])) == 0
    assert await data_of(store, STATUSES) == [b"read"]
    assert (await backlog_of(store, PARKED)).waiting == 0  # type: ignore[union-attr]


async def test_audit_accounts_for_what_was_put_back(url: str, opener: Opener) -> None:
    store = await opener()
    for turn in range(3):
        await store.park(parked(append(STATUSES, []), [b"%d" % turn, b"x%d" % turn]))
        row = await backlog_of(store, PARKED)
        assert row is not None
        first = row.accepted - row.waiting + 1
        await store.unpark(unpark(first, [Outcome.PUT_BACK], [], [b"back %d" % turn]))
        await store.unpark(unpark(first + 1, [Outcome.ERASED]))
    await purge(store, left_before_ms=NOW_MS + 1)
    await store.park(parked(append(STATUSES, []), [b"y"]))
    report = await audit_store(url, lambda _done, _total: None)
    assert report.findings == []


# --- arrivals -------------------------------------------------------------------------------------


async def test_a_watcher_is_told_of_what_comes_through_its_own_door(opener: Opener) -> None:
    """By the time it is acknowledged, and of its mailbox only; until it watches no more."""
    server = await opener(server=True)
    told: list[Mailbox] = []
    unwatch = server.watch(STATUSES, lambda: told.append(STATUSES))
    server.watch(REPLIES, lambda: told.append(REPLIES))
    await server.append(append(STATUSES, records(1)))
    assert STATUSES in told  # and perhaps for nothing, what nobody has used yet
    told.clear()
    await server.append(append(OTHERS, records(1)))
    await server.append(append(REPLIES, records(1)))
    assert set(told) == {REPLIES}
    unwatch()
    told.clear()
    await server.append(append(STATUSES, records(1)))
    assert told == []
    server.watch(STATUSES, lambda: told.append(STATUSES))
    await server.append(append(STATUSES, records(1)))
    assert set(told) == {STATUSES}


async def test_a_watcher_is_told_of_what_comes_through_another_door(opener: Opener) -> None:
    """Records, and copies of what has left."""
    server, command = await opener(server=True), await opener()
    arrived = asyncio.Event()
    server.watch(STATUSES, arrived.set)
    await command.append(append(STATUSES, records(1)))
    await asyncio.wait_for(arrived.wait(), 60)
    first = await server.pull(pull(STATUSES))
    assert first.count == 1
    arrived.clear()
    await command.redeliver(redeliver(STATUSES, (first.first_seq, 1)))
    await asyncio.wait_for(arrived.wait(), 60)
    assert (await server.pull(pull(STATUSES))).count == 1


async def test_an_arrival_is_told_before_the_next_look_could_miss_it(opener: Opener) -> None:
    """Whoever looks, finds nothing and then waits to be told, has missed nothing."""
    server = await opener(server=True)
    for _ in range(20):
        arrived = asyncio.Event()
        unwatch = server.watch(STATUSES, arrived.set)
        adding = asyncio.ensure_future(server.append(append(STATUSES, records(1))))
        while not (await server.pull(pull(STATUSES))).count:  # it may be told for nothing, too
            await asyncio.wait_for(arrived.wait(), 60)
            arrived.clear()
        await adding
        unwatch()
