"""What every engine must do when single entries are erased."""

import asyncio
import contextlib
import secrets
from typing import Any

import msgspec
import pytest

from pullstatus.apps import Application, LiveApplication, Operator
from pullstatus.apps.values import NOBODY, application_setting
from pullstatus.json import ascii_json
from pullstatus.mailbox import finding, parking
from pullstatus.mailbox.erasing import ErasedNumber, count_number, erase_number, parse_number
from pullstatus.store import (
    Again,
    Change,
    Erased,
    Mailbox,
    Outcome,
    Page,
    Pull,
    Reader,
    Store,
    audit_store,
    chunk,
)
from pullstatus.store.gathering import store as steps
from pullstatus.store.transfer import SetAside
from tests.harness import status
from tests.store.build import (
    EMPTY,
    NOW_MS,
    REPLIES,
    STATUSES,
    acts_of,
    again_of,
    append,
    backlog_of,
    data_of,
    drain,
    fingerprinted,
    incompressible,
    journal_of,
    new_act,
    packed_chunk,
    page,
    pull,
    purge,
    records,
    redeliver,
)
from tests.store.engines import Opener
from tests.store.places import damage
from tests.store.test_migration import rows_of

pytestmark = pytest.mark.anyio

BY = Operator("me", NOW_MS, secrets.token_hex)

HER = b'"mobile":"138"'
HIS = b'"mobile":"139"'


def entries(count: int, *hers: int) -> list[bytes]:
    """So many, of which those at these places, from 0, are hers."""
    return [b'{"n":%d,%b}' % (number, HER if number in hers else HIS) for number in range(count)]


def without(given: list[bytes]) -> list[bytes]:
    return [entry for entry in given if HER not in entry]


async def erase(store: Store, mailbox: Mailbox = STATUSES) -> Erased:
    return await store.erase(mailbox, at_ms=NOW_MS + 5, holding=[[HER], [b"other", b"both"]])


def record(mobile: str) -> bytes:
    return ascii_json(msgspec.json.encode(status(1, mobile=mobile)))


def sources(again: Again) -> range:
    """The numbers of what it has copies of."""
    return range(again.source_seq, again.source_seq + again.count)


def read(ack: int | None = None, count_max: int = 100) -> Pull:
    return Pull(STATUSES, count_max, NOW_MS, reader=Reader("r", ack))


async def sound(url: str) -> None:
    report = await audit_store(url, lambda _done, _total: None)
    assert report.findings == []


async def test_pages_are_as_full_as_if_what_was_erased_had_never_been(store: Store) -> None:
    """And a short one still says that all is taken."""
    given = entries(250, 0, 1, 2, 50, 99, 100, 101, 150, 249)
    await store.append(append(STATUSES, given))
    assert await erase(store) == Erased(waiting=9, left=0)
    assert await erase(store) == Erased(0, 0)
    pages = await drain(store, STATUSES, 60)
    rest = without(given)
    assert [taken.data for taken in pages] == [
        b",".join(rest[start : start + 60]) for start in range(0, len(rest), 60)
    ]
    assert [taken.count for taken in pages] == [60, 60, 60, 60, 1]
    assert pages[-1].waiting == 0
    assert await data_of(store, STATUSES) == rest


async def test_counts_tell_handed_out_from_erased(store: Store, url: str) -> None:
    given = entries(10, 0, 1, 4, 9)
    await store.append(append(STATUSES, given))
    await erase(store)
    row = await backlog_of(store, STATUSES)
    assert row is not None
    assert (row.accepted, row.waiting, row.erased) == (10, 8, 2)
    assert len(await drain(store, STATUSES, 5)) == 2
    row = await backlog_of(store, STATUSES)
    assert row is not None
    assert (row.accepted, row.waiting, row.erased, row.handed_out) == (10, 0, 4, 6)
    await sound(url)


async def test_all_that_waits_erased_leaves_at_once(store: Store, url: str) -> None:
    await store.append(append(STATUSES, entries(130, *range(130))))
    assert await erase(store) == Erased(130, 0)
    row = await backlog_of(store, STATUSES)
    assert row is not None
    assert (row.waiting, row.erased) == (0, 130)
    assert await store.pull(pull(STATUSES)) == EMPTY
    assert [each.outcome for each in await journal_of(store, STATUSES)] == [Outcome.ERASED]
    await sound(url)


async def test_what_was_handed_out_is_counted_so_and_comes_nowhere(store: Store, url: str) -> None:
    given = entries(6, 1, 3)
    await store.append(append(STATUSES, given))
    await store.pull(pull(STATUSES, 4, key="k"))
    assert await erase(store) == Erased(0, 2)
    row = await backlog_of(store, STATUSES)
    assert row is not None
    assert (row.handed_out, row.waiting, row.erased) == (4, 2, 0)
    assert await data_of(store, STATUSES) == without(given)
    kept = [given[0], given[2]]
    again = await store.pull(pull(STATUSES, 4, key="k"))
    assert again == page(1, kept, 2, repeated=True)
    await store.redeliver(redeliver(STATUSES, (1, 4)))
    assert b",".join(taken.data for taken in await drain(store, STATUSES)) == b",".join(
        [*given[4:], *kept]
    )
    await sound(url)


@pytest.mark.parametrize("hers", [(50,), (0, 1, 99), tuple(range(0, 100, 2)), tuple(range(100))])
async def test_a_full_page_is_redelivered_without_what_was_erased(
    store: Store, url: str, hers: tuple[int, ...]
) -> None:
    """Of as many as are packed; by a key it comes again as it came."""
    given = entries(100, *hers)
    await store.append(append(STATUSES, given))
    await store.pull(pull(STATUSES))
    await erase(store)
    kept = without(given)
    act = new_act()
    assert await store.redeliver(redeliver(STATUSES, (1, 100), act=act)) == len(kept)
    assert await store.redeliver(redeliver(STATUSES, (1, 100), act=act)) == 0
    row = await backlog_of(store, STATUSES)
    assert row is not None
    assert (row.waiting, row.erased) == (len(kept), 0)
    assert len(await acts_of(store)) == bool(kept)
    if kept:
        assert await store.pull(pull(STATUSES, key="k")) == page(101, kept, 0)
        assert await store.pull(pull(STATUSES, key="k")) == page(101, kept, 0, repeated=True)
    copies = [seq for again in await again_of(store, STATUSES) for seq in sources(again)]
    assert copies == [place + 1 for place in range(100) if place not in hers]
    await sound(url)


async def test_empty_places_of_a_packed_chunk_are_passed_over(
    store: Store, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As redeliveries once wrote them; nothing is missing."""
    given = entries(100)
    hers = {0, 40, 41, 99}
    with monkeypatch.context() as patch:
        patch.setattr(chunk, "pack", packed_chunk)
        places = [b"" if place in hers else entry for place, entry in enumerate(given)]
        await store.append(append(STATUSES, places))
    kept = [entry for place, entry in enumerate(given) if place not in hers]
    assert (await store.pull(pull(STATUSES, 60, key="k"))).data == b",".join(kept[:60])
    assert await store.pull(pull(STATUSES, 60, key="k")) == page(2, kept[:60], 37, repeated=True)
    assert (await store.pull(pull(STATUSES))).data == b",".join(kept[60:])
    await sound(url)


async def test_empty_places_of_a_packed_chunk_that_were_handed_out_are_counted_so(
    store: Store, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As pulls once did; those of now pass over the others of the same chunk."""
    hers = {0, 40, 41, 99}
    with monkeypatch.context() as patch:
        patch.setattr(chunk, "pack", packed_chunk)
        patch.setattr(chunk, "empty_places", lambda _bounds, **_waiting: [])
        given = [b"" if place in hers else entry for place, entry in enumerate(entries(100))]
        await store.append(append(STATUSES, given))
        assert (await store.pull(pull(STATUSES, 60))).count == 60
    await sound(url)
    left = (await store.pull(pull(STATUSES))).count
    assert left in (39, 36)  # the latter where another process pulls, which knows of such places
    await sound(url)


async def test_a_key_whose_page_is_erased_takes_the_next_one(store: Store, url: str) -> None:
    """A client keeps its key until it has brought something."""
    given = entries(3, 0, 1)
    await store.append(append(STATUSES, given))
    await store.pull(pull(STATUSES, 2, key="k"))
    await erase(store)
    assert await store.pull(pull(STATUSES, 2, key="k")) == page(3, given[2:], 0)
    assert await store.pull(pull(STATUSES, 2, key="k")) == page(3, given[2:], 0, repeated=True)
    await sound(url)


async def test_page_in_hand_comes_without_what_was_erased(store: Store, url: str) -> None:
    given = entries(5, 1)
    await store.append(append(STATUSES, given))
    await store.pull(read(count_max=3))
    await erase(store)
    kept = b",".join([given[0], given[2]])
    assert await store.pull(read()) == Page(1, 2, kept, 2, repeated=True, given=2)
    assert (await store.pull(read(ack=1))).data == b",".join(given[3:])
    await sound(url)


async def test_page_in_hand_of_which_nothing_is_left_is_taken_from_it(
    store: Store, url: str
) -> None:
    """And a reader that acknowledges it late is told no error."""
    given = entries(4, 0, 1)
    await store.append(append(STATUSES, given))
    await store.pull(read(count_max=2))
    await erase(store)
    [state] = [state async for state in store.readers()]
    assert (state.first_seq, state.acked_seq) == (0, 1)
    assert (await journal_of(store, STATUSES))[0].released_ms == NOW_MS + 5
    assert (await store.pull(read(ack=1))).data == b",".join(given[2:])
    await sound(url)


@pytest.mark.parametrize("hers", [(1,), (0, 1)])
async def test_page_that_outlived_retention_comes_without_what_was_erased(
    store: Store, url: str, hers: tuple[int, ...]
) -> None:
    given = entries(2, *hers)
    await store.append(append(STATUSES, given))
    await store.pull(read())
    await purge(store, left_before_ms=NOW_MS + 1)
    assert await erase(store) == Erased(0, len(hers))
    assert await erase(store) == Erased(0, 0)
    again = await store.pull(read())
    assert again.data == b",".join(without(given))
    await sound(url)


async def test_who_erases_at_the_same_time_erases_all_of_it(store: Store, url: str) -> None:
    """By text and by number, from the first on and from the last, of what is large."""
    given = [b'"%b"' % incompressible(300_000, number) for number in range(6)]
    for start in (0, 3):
        await store.append(append(STATUSES, given[start : start + 3]))
    by_text = [store.erase(STATUSES, at_ms=NOW_MS, holding=[[given[place]]]) for place in (5, 1)]
    by_number = [store.erase(STATUSES, at_ms=NOW_MS, seqs=[seq]) for seq in (4, 1)]
    assert sum(each.waiting for each in await asyncio.gather(*by_number, *by_text)) == 4
    kept = [given[2], given[4]]
    assert await data_of(store, STATUSES) == kept
    assert b",".join(taken.data for taken in await drain(store, STATUSES)) == b",".join(kept)
    await sound(url)


async def test_what_was_set_aside_loses_what_several_erase_at_once_and_nothing_else(
    opener: Opener, url: str
) -> None:
    """Also of what is large."""
    given = [b'"%b"' % incompressible(300_000, number) for number in range(6)]
    store = await opener()
    await store.append(append(STATUSES, given))
    damage(url, STATUSES)  # in the last of them
    taken = b",".join([page.data for page in await drain(await opener(), STATUSES)])
    assert taken == b",".join(given[:5])
    due = [store.erase(STATUSES, at_ms=NOW_MS, holding=[[given[place]]]) for place in (1, 3)]
    await asyncio.gather(*due)
    assert await data_of(store, STATUSES) == [given[0], given[2], given[4]]
    await store.close()
    aside = [row for row in (await rows_of(url))[SetAside] if isinstance(row, SetAside)]
    held = b"".join(chunk.readable(row.bounds, row.body) or b"" for row in aside)
    assert [entry for entry in given[:5] if entry in held] == [given[0], given[2], given[4]]


async def test_by_numbers_and_only_in_that_mailbox(store: Store, url: str) -> None:
    given = records(5)
    await store.append(append(STATUSES, given))
    await store.append(append(REPLIES, given))
    assert await store.erase(STATUSES, at_ms=NOW_MS, seqs=[2, 4]) == Erased(2, 0)
    assert await store.erase(STATUSES, at_ms=NOW_MS) == Erased(0, 0)
    assert await data_of(store, STATUSES) == given[0::2]
    assert await data_of(store, REPLIES) == given
    await sound(url)


async def test_erased_record_that_its_sender_repeats_is_not_stored_again(store: Store) -> None:
    given = entries(2, 0)
    await store.append(fingerprinted(STATUSES, given, [1, 2]))
    await erase(store)
    assert await store.append(fingerprinted(STATUSES, given, [1, 2])) == 0
    assert await data_of(store, STATUSES) == given[1:]


async def test_what_could_not_be_read_is_found_and_erased_however_it_is_escaped(
    store: Store,
) -> None:
    numbers = (
        b"%2B86%20138%200013%208000",
        b"+86+138+0013+8000",
        b"%208613800138000",
        b"013800138000",
    )
    hers = [b"sid=8%3Aa&to=" + number for number in numbers]
    hers.append(b'{"sid":"8\\u003aa","to":"\\u00208613800138000"}')
    his = b"sid=8%3Aab&to=%2B86%20138%200013%2080001"
    items = [
        parking.Item("any", "smsc", NOW_MS, "192.0.2.1", "why", raw, query=query)
        for raw, query in [*((b"", each) for each in hers), *((each, b"") for each in hers)]
    ]
    items.append(parking.Item("any", "smsc", NOW_MS, "192.0.2.1", "why", b"", query=his))
    await store.park(parking.aside_of(parking.NOBODYS, items, NOW_MS, BY.ticket()))
    of_hers = list(range(1, 2 * len(hers) + 1))
    for asked in ("+8613800138000", "8613800138000", "13800138000"):
        found = await finding.by_number(store, asked, by=BY)
        assert [item.number for _, item in found.parked] == of_hers
    found = await finding.by_sid(store, "8:a", by=BY)
    assert [item.number for _, item in found.parked] == of_hers
    number = parse_number("+8613800138000")
    erased = await erase_number(store, number, by=BY, progress=lambda *_: None)
    assert erased.parked == len(of_hers)
    [left] = await parking.parked(store, NOBODY)
    assert left.item
    assert left.item.query == his


@pytest.mark.parametrize("leaving", [False, True])
async def test_what_is_parked_of_an_application_that_is_gone_keeps_nothing_else(
    store: Store, leaving: bool
) -> None:
    """Or that was half removed; records of others are erased as well."""
    number, gone = parse_number("+8613800000001"), Application(1400000007, (), 0, leaving=True)
    name, revision = application_setting(gone.sdkappid), 0
    if leaving:
        await store.change(Change(name, msgspec.json.encode(gone), None))
        setting = await store.setting(name)
        assert setting
        revision = setting.revision
    live = LiveApplication(gone, revision)
    item = parking.Item("any", "smsc", NOW_MS, "192.0.2.1", "why", b"to=+8613800000001")
    kept = parking.Item("any", "smsc", NOW_MS, "192.0.2.1", "why", b"to=+8613800000002")
    await store.park(parking.aside_of(live, [kept, item], NOW_MS, BY.ticket()))
    await store.append(append(STATUSES, [record("13800000001"), record("13800000002")]))
    erased = await erase_number(store, number, by=BY, progress=lambda *_: None)
    assert erased == ErasedNumber(waiting=1, parked=1)
    assert [each.item for each in await parking.parked(store, gone.sdkappid)] == [
        msgspec.structs.replace(kept, number=1)
    ]
    assert await data_of(store, STATUSES) == [record("13800000002")]


@pytest.mark.parametrize("pulled", [False, True])
async def test_what_is_copied_meanwhile_is_erased_as_well(
    store: Store, url: str, monkeypatch: pytest.MonkeyPatch, pulled: bool
) -> None:
    """Copies of copies, too, which are made as those are erased; what came meanwhile stays."""
    number = parse_number("+8613800000001")
    hers, his = record("13800000001"), record("13800000002")
    await store.append(append(STATUSES, [his, hers, his]))
    await store.pull(pull(STATUSES))
    erase, due = store.erase, [(1, 3), (4, 3)]

    async def late(mailbox: Mailbox, **arguments: Any) -> Erased:  # noqa: ANN401
        if mailbox == STATUSES and due:
            if len(due) == 1 or pulled:
                await store.pull(pull(STATUSES))
            await store.redeliver(redeliver(STATUSES, due.pop(0)))
            await store.append(append(STATUSES, [hers]))
        return await erase(mailbox, **arguments)

    monkeypatch.setattr(store, "erase", late)
    await erase_number(store, number, by=BY, progress=lambda *_: None)
    assert due == []
    assert await data_of(store, STATUSES) == [his, his, his, his, hers, his, his, hers]
    assert await count_number(store, number) != ErasedNumber()
    await erase_number(store, number, by=BY, progress=lambda *_: None)
    assert await count_number(store, number) == ErasedNumber()
    assert await data_of(store, STATUSES) == [his] * 6
    await sound(url)


async def test_one_that_is_cut_off_is_finished_by_another(
    opener: Opener, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In many steps, with a pull behind each; what waits meanwhile comes without what is gone."""
    monkeypatch.setattr(steps, "STEP_CHUNKS", 1)
    store, other = await opener(), await opener()
    given = entries(400, *range(0, 400, 3))
    for start in range(0, 400, 40):
        await store.append(append(STATUSES, given[start : start + 40]))
    task = asyncio.create_task(erase(store))
    while (left := len(await data_of(other, STATUSES))) == 400:
        assert not task.done()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert left > len(without(given))
    taken = await other.pull(pull(STATUSES, 70))
    await erase(other)
    rest = [each for each in without(given) if each not in taken.data]
    assert b",".join(each.data for each in await drain(store, STATUSES)) == b",".join(rest)
    await sound(url)
