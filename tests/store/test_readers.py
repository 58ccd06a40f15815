"""What every engine must do for readers: a page stays in hand until it is acknowledged."""

import asyncio
import contextlib
from random import Random

import pytest

from pullstatus import limits
from pullstatus.errors import (
    AcknowledgementRefused,
    KeyReused,
    ReplayRefused,
    SettingChanged,
    TooManyReaders,
)
from pullstatus.store import (
    Change,
    InHand,
    Mailbox,
    Once,
    Page,
    Pull,
    Reader,
    ReaderState,
    Release,
    Store,
    While,
    audit_store,
    open_store,
)
from tests.store.build import (
    EMPTY,
    NOW_MS,
    OTHERS,
    REPLIES,
    RESTED,
    STATUSES,
    acts_of,
    append,
    drain,
    journal_of,
    new_act,
    page,
    pull,
    purge,
    records,
    together,
)
from tests.store.engines import Opener

pytestmark = pytest.mark.anyio


def read(
    ack: int | None = None,
    count_max: int = 100,
    at_ms: int = NOW_MS,
    *,
    name: str = "r",
    mailbox: Mailbox = STATUSES,
    once: Once | None = None,
    while_set: While | None = None,
    former: tuple[int, ...] = (),
) -> Pull:
    return Pull(
        mailbox,
        count_max,
        at_ms,
        once=once,
        while_set=while_set,
        keyed_after=former,
        reader=Reader(name, ack),
    )


def again(taken: Page, waiting: int, given: int) -> Page:
    return Page(taken.first_seq, taken.count, taken.data, waiting, repeated=True, given=given)


async def states(store: Store, sdkappid: int | None = None) -> list[ReaderState]:
    return [state async for state in store.readers(sdkappid)]


async def sound(url: str) -> None:
    assert (await audit_store(url, lambda _done, _total: None)).findings == []


async def test_a_page_in_hand_comes_again_until_it_is_acknowledged(store: Store, url: str) -> None:
    """Whatever `max` says, and however much time has passed."""
    entries = records(5)
    await store.append(append(STATUSES, entries))
    first = await store.pull(read(count_max=2))
    assert first == page(1, entries[:2], 3)
    assert await store.pull(read(count_max=100)) == again(first, 3, 2)
    assert await store.pull(read(count_max=1, at_ms=NOW_MS + 10**10)) == again(first, 3, 3)
    second = await store.pull(read(1, 2))
    assert second == page(3, entries[2:4], 1)
    assert await store.pull(read()) == again(second, 1, 2)
    await sound(url)


async def test_an_acknowledgement_again_gets_the_page_that_followed(store: Store) -> None:
    await store.append(append(STATUSES, entries := records(3)))
    await store.pull(read(count_max=1))
    second = await store.pull(read(1, 1))
    assert second == page(2, entries[1:2], 1)
    assert await store.pull(read(1, 1)) == again(second, 1, 2)
    assert await store.pull(read(2, 1)) == page(3, entries[2:], 0)


async def test_an_acknowledgement_that_found_nothing_behind_it_may_come_again(
    store: Store, url: str
) -> None:
    await store.append(append(STATUSES, records(1)))
    await store.pull(read())
    assert await store.pull(read(1)) == EMPTY
    assert await store.pull(read(1)) == EMPTY
    assert await store.pull(read()) == EMPTY
    await store.append(append(STATUSES, more := records(1)))
    assert await store.pull(read(1)) == page(2, more, 0)
    await sound(url)


async def test_an_acknowledgement_of_anything_else_is_refused_and_changes_nothing(
    store: Store, url: str
) -> None:
    await store.append(append(STATUSES, records(4)))
    with pytest.raises(AcknowledgementRefused):
        await store.pull(read(1))
    await store.pull(read(count_max=1))
    await store.pull(read(1, 1))
    third = await store.pull(read(2, 1))
    before = await states(store), await journal_of(store, STATUSES)
    for seq in (1, 4, 5, 10**12):
        for count_max in (0, 1):
            with pytest.raises(AcknowledgementRefused):
                await store.pull(read(seq, count_max))
    assert (await states(store), await journal_of(store, STATUSES)) == before
    assert await store.pull(read()) == again(third, 1, 2)
    await sound(url)


async def test_who_takes_nothing_only_acknowledges(store: Store, url: str) -> None:
    await store.append(append(STATUSES, records(3)))
    await store.pull(read(count_max=2))
    for _ in range(2):  # its answer may be lost, too
        assert await store.pull(read(1, 0)) == Page(0, 0, b"", 1)
    third = await store.pull(read(1, 2))
    assert third.first_seq == 3
    assert await store.pull(read(1, 0)) == EMPTY
    assert await store.pull(read()) == again(third, 0, 2)
    await sound(url)


async def test_the_journal_tells_reader_times_and_when(store: Store) -> None:
    await store.append(append(STATUSES, records(3)))
    await store.pull(pull(STATUSES, 1))
    await store.pull(read(count_max=1))
    await store.pull(read(at_ms=NOW_MS + 1))
    await store.pull(read(2, at_ms=NOW_MS + 2))
    rows = await journal_of(store, STATUSES)
    assert [(row.reader, row.given, row.acked_ms, row.in_hand) for row in rows] == [
        (None, 1, None, False),
        ("r", 2, NOW_MS + 2, False),
        ("r", 1, None, True),
    ]


async def test_readers_and_others_share_a_mailbox_and_no_entry(store: Store, url: str) -> None:
    await store.append(append(STATUSES, records(40)))
    await store.append(append(REPLIES, records(2)))
    first = await store.pull(read(count_max=3, name="a"))
    second = await store.pull(read(count_max=3, name="b"))
    keyed = await store.pull(pull(STATUSES, 3, key="k"))
    plain = await store.pull(pull(STATUSES, 3))
    pages = [first, second, keyed, plain]
    assert [taken.first_seq for taken in pages] == [1, 4, 7, 10]
    assert await store.pull(read(name="a")) == again(first, 28, 2)
    assert (await store.pull(read(4, 1, name="b"))).first_seq == 13
    assert (await store.pull(read(mailbox=REPLIES, name="a"))).count == 2
    for seq, name in ((4, "a"), (1, "b"), (7, "a"), (10, "b")):
        with pytest.raises(AcknowledgementRefused):
            await store.pull(read(seq, name=name))
    await sound(url)


async def test_twins_get_one_page_and_it_is_counted(store: Store) -> None:
    await store.append(append(STATUSES, records(9)))
    answers = await together(store, *[read(count_max=2) for _ in range(4)])
    assert {taken.first_seq for taken in answers} == {1}  # type: ignore[attr-defined]
    assert sorted(taken.given for taken in answers) == [1, 2, 3, 4]  # type: ignore[attr-defined]
    acks = await together(store, *[read(1, 2) for _ in range(3)])
    assert {taken.first_seq for taken in acks} == {3}  # type: ignore[attr-defined]


async def test_an_acknowledgement_and_a_late_pull_at_once(store: Store, url: str) -> None:
    """In one group or two, in whichever order: one page is acknowledged and one is in hand."""
    await store.append(append(STATUSES, records(9)))
    await store.pull(read(count_max=2))
    await together(store, read(count_max=2), read(1, 2), read(count_max=2), read(1, 2))
    [state] = await states(store)
    assert (state.first_seq, state.acked_seq) == (3, 1)
    await sound(url)


async def test_a_signature_that_is_good_once_is_good_for_one_pull_of_a_reader(
    store: Store,
) -> None:
    """A page in hand is no way around it, and a refusal does not spend it."""
    await store.append(append(STATUSES, records(3)))
    first = Once("1", NOW_MS + 1000)
    await store.pull(read(count_max=1, once=first))
    with pytest.raises(ReplayRefused):
        await store.pull(read(count_max=1, once=first))
    with pytest.raises(ReplayRefused):
        await store.pull(read(1, 1, once=first))
    second = Once("2", NOW_MS + 1000)
    with pytest.raises(AcknowledgementRefused):
        await store.pull(read(3, once=second))
    assert (await store.pull(read(1, 1, once=second))).first_seq == 2


async def test_a_condition_that_does_not_hold_leaves_the_page_in_hand(store: Store) -> None:
    await store.append(append(STATUSES, records(2)))
    await store.pull(read(count_max=1))
    await store.change(Change(RESTED, b"1", None))
    for operation in (read(while_set=While(RESTED, 0)), read(1, while_set=While(RESTED, 0))):
        with pytest.raises(SettingChanged):
            await store.pull(operation)
    [state] = await states(store)
    assert (state.first_seq, state.given) == (1, 1)


async def test_a_page_in_hand_outlives_retention_and_holds_up_nobody(
    store: Store, url: str, opener: Opener
) -> None:
    """It is there byte for byte when everything around it is gone, also after a restart."""
    entries = records(250)
    await store.append(append(STATUSES, entries))
    await store.pull(pull(STATUSES, 30))
    held = await store.pull(read(count_max=100))
    await store.pull(pull(STATUSES, 100))
    assert await purge(store, left_before_ms=NOW_MS + 1) == 230
    [state] = await states(store)
    assert state.kept
    assert await journal_of(store, STATUSES) == []
    await sound(url)
    assert await store.pull(read()) == again(held, 20, 2)
    await store.close()
    store = await opener()
    assert await store.pull(read(at_ms=NOW_MS + 10**11)) == again(held, 20, 3)
    assert await store.pull(read(31, 5, NOW_MS + 10**11)) == page(231, entries[230:235], 15)
    await sound(url)
    [state] = await states(store)
    assert not state.kept


async def test_a_kept_page_can_be_acknowledged_and_released(store: Store, url: str) -> None:
    await store.append(append(STATUSES, records(2)))
    await store.pull(read(count_max=1, name="a"))
    await store.pull(read(count_max=1, name="b"))
    await purge(store, left_before_ms=NOW_MS + 1)
    assert await store.pull(read(1, 0, name="a")) == EMPTY
    assert await store.release(Release(STATUSES, "b", 2, NOW_MS, new_act("readers release"))) == 1
    assert (await store.totals()).in_hand == InHand(0, None)
    await sound(url)


async def test_what_is_in_hand_is_told(store: Store) -> None:
    assert (await store.totals()).in_hand == InHand(0, None)
    await store.append(append(STATUSES, records(9)))
    await store.append(append(OTHERS, records(9)))
    await store.pull(read(count_max=2, at_ms=NOW_MS + 5))
    await store.pull(read(count_max=2, at_ms=NOW_MS + 3, name="other"))
    await store.pull(read(count_max=3, at_ms=NOW_MS + 4, mailbox=OTHERS))
    await store.pull(read(count_max=3, at_ms=NOW_MS + 9, mailbox=OTHERS))
    assert (await store.totals()).in_hand == InHand(3, NOW_MS + 3)
    told = ReaderState(
        OTHERS, "r", first_seq=1, count=3, taken_ms=NOW_MS + 4, given=2, at_ms=NOW_MS + 9
    )
    assert await states(store, OTHERS.sdkappid) == [told]
    assert told.pull_id == f"{OTHERS.sdkappid}-0-1"
    assert [state.name for state in await states(store)] == ["other", "r", "r"]


async def test_a_page_can_be_taken_from_a_hand_on_record(store: Store, url: str) -> None:
    """As if it was acknowledged: whoever had it goes on behind it."""
    await store.append(append(STATUSES, entries := records(3)))
    await store.pull(read(count_max=2))

    async def release(mailbox: Mailbox, name: str, at_ms: int) -> int:
        return await store.release(Release(mailbox, name, 1, at_ms, new_act("readers release")))

    assert await release(STATUSES, "r", NOW_MS + 7) == 2
    assert await release(STATUSES, "r", NOW_MS + 8) == 0
    assert await release(STATUSES, "nobody", NOW_MS + 8) == 0
    assert await release(OTHERS, "r", NOW_MS + 8) == 0
    [row] = await journal_of(store, STATUSES)
    assert (row.acked_ms, row.released_ms, row.in_hand) == (None, NOW_MS + 7, False)
    [recorded] = await acts_of(store)
    assert recorded.act.action == "readers release"
    assert await store.pull(read(1)) == page(3, entries[2:], 0)
    await sound(url)


async def test_a_reader_that_has_moved_on_keeps_the_page_in_its_hand(
    store: Store, url: str
) -> None:
    """It acknowledges and takes the next one while an operator still looks at the one before."""
    await store.append(append(STATUSES, records(4)))
    await store.pull(read(count_max=1))
    taken = await store.pull(read(1, 2))
    for first_seq in (0, 1, 3, 4):
        late = Release(STATUSES, "r", first_seq, NOW_MS, new_act("readers release"))
        assert await store.release(late) == 0
    assert await acts_of(store) == []
    assert [row.released_ms for row in await journal_of(store, STATUSES)] == [None, None]
    assert await store.pull(read()) == again(taken, 1, 2)
    await sound(url)


async def test_a_new_owner_of_the_number_gets_nothing_out_of_the_hand_of_the_former(
    store: Store, url: str
) -> None:
    await store.append(append(STATUSES, records(3)))
    await store.pull(read(count_max=1))
    await store.pull(read(1, 1))
    await drain(store, STATUSES)
    mine = {"former": (3, 0)}
    assert await store.pull(read(**mine)) == EMPTY  # type: ignore[arg-type]
    for seq in (1, 2):
        with pytest.raises(AcknowledgementRefused):
            await store.pull(read(seq, **mine))  # type: ignore[arg-type]
    await store.append(append(STATUSES, entries := records(1)))
    assert await store.pull(read(**mine)) == page(4, entries, 0)  # type: ignore[arg-type]
    rows = {row.first_seq: row for row in await journal_of(store, STATUSES)}
    assert rows[2].released_ms == NOW_MS
    assert rows[4].in_hand
    with pytest.raises(AcknowledgementRefused):
        await store.pull(read(1, **mine))  # type: ignore[arg-type]
    await sound(url)


async def test_there_are_so_many_readers_and_no_more(store: Store, url: str) -> None:
    """Who holds nothing makes room, first who came longest ago; who holds a page never does."""
    count = limits.READERS_MAX
    await store.append(append(STATUSES, records(count + 3)))
    for number in range(count):
        await store.pull(read(count_max=1, at_ms=NOW_MS + number, name=f"r{number}"))
    with pytest.raises(TooManyReaders, match="readers release"):
        await store.pull(read(count_max=1, name="new"))
    assert len(await states(store)) == count
    assert (await store.pull(read(name="r5"))).repeated
    await store.pull(read(9, 0, NOW_MS + 1, name="r8"))
    await store.pull(read(4, 0, NOW_MS + 2, name="r3"))
    assert (await store.pull(read(count_max=1, name="new"))).count == 1
    names = {state.name for state in await states(store)}
    assert len(names) == count
    assert "new" in names
    assert "r3" in names
    assert "r8" not in names
    await sound(url)


async def test_who_made_room_and_comes_back_at_once_keeps_its_page(
    store: Store, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "READERS_MAX", 2)
    await store.append(append(STATUSES, records(9)))
    for name in ("a", "b"):
        first = await store.pull(read(count_max=1, name=name))
        await store.pull(read(first.first_seq, 0, name=name))
    names = ("new", "a")
    pages = await together(store, *[read(count_max=1, name=name) for name in names])
    for name, taken in zip(names, pages, strict=True):
        assert isinstance(taken, Page)
        assert await store.pull(read(name=name)) == again(taken, 5, 2)
    await sound(url)


async def test_beyond_the_readers_there_may_be_others_elsewhere(store: Store) -> None:
    await store.append(append(STATUSES, records(limits.READERS_MAX)))
    await store.append(append(OTHERS, records(1)))
    for number in range(limits.READERS_MAX):
        await store.pull(read(count_max=1, name=f"r{number}"))
    assert await store.pull(read(name="new")) == EMPTY  # nothing waits, so nothing is kept
    assert (await store.pull(read(name="new", mailbox=OTHERS))).count == 1


async def test_a_reader_is_the_same_through_two_doors_and_after_a_restart(
    url: str, opener: Opener
) -> None:
    one, other = await opener(), await open_store(url)
    await one.append(append(STATUSES, entries := records(4)))
    first = await one.pull(read(count_max=2))
    assert await other.pull(read()) == again(first, 2, 2)
    assert await other.pull(read(1, 1)) == page(3, entries[2:3], 1)
    assert (await one.pull(read(1, 1))).first_seq == 3
    await one.close()
    assert (await other.pull(read(3, 1))).first_seq == 4
    await other.close()
    await sound(url)


async def test_every_record_is_acknowledged_once_or_taken_once(store: Store, url: str) -> None:
    """Consumers of every kind at once, each request sent twice and late, some cut off.

    What a reader has seen it may acknowledge, at any time; what it has not, it does not. In the end
    each record was in a page that one reader acknowledged, or in one other pull.
    """
    rng = Random(7)
    owner: dict[int, str] = {}
    accepted = 0

    async def consume(name: str) -> None:
        nonlocal accepted
        sent: list[Pull] = []
        knows: int | None = None
        for step in range(60):
            if rng.random() < 0.4:
                accepted += (count := rng.randrange(1, 9))
                await store.append(append(STATUSES, records(count)))
            if name == "plain":
                key = f"k{step}" if rng.random() < 0.5 else None
                taken = await store.pull(pull(STATUSES, 3, key=key))
            else:
                if rng.random() < 0.1:
                    knows = None  # it was killed, and starts without knowing what it had
                operation = read(knows, rng.choice([1, 2, 5]), name=name)
                sent.append(operation)
                for late in rng.choices(sent, k=2):
                    with contextlib.suppress(AcknowledgementRefused):
                        await store.pull(late)
                try:
                    taken = await store.pull(operation)
                except AcknowledgementRefused:
                    knows = None
                    continue
                knows = taken.first_seq or knows
            for seq in range(taken.first_seq, taken.first_seq + taken.count):
                assert owner.setdefault(seq, name) == name
            await asyncio.sleep(0)

    await asyncio.gather(*(consume(name) for name in ("a", "b", "c", "plain")))
    for name in ("a", "b", "c"):
        taken = await store.pull(read(name=name))
        while taken.count:
            for seq in range(taken.first_seq, taken.first_seq + taken.count):
                assert owner.setdefault(seq, name) == name
            taken = await store.pull(read(taken.first_seq, name=name))
    assert sorted(owner) == list(range(1, accepted + 1))
    for row in await journal_of(store, STATUSES):
        assert not row.in_hand
        assert owner[row.first_seq] == (row.reader or "plain")
        assert (row.acked_ms is not None) == (row.reader is not None)
    await sound(url)


async def test_keys_and_readers_do_not_meet(store: Store) -> None:
    await store.append(append(STATUSES, records(2)))
    await store.pull(pull(STATUSES, 1, key="k"))
    assert (await store.pull(read(count_max=1))).first_seq == 2
    with pytest.raises(KeyReused):
        await store.pull(pull(STATUSES, 2, key="k"))
