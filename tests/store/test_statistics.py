"""Statistics over every engine: what is counted, once, and in which hour."""

import msgspec
import pytest

from pullstatus.apps import AppKey, Application, Operator
from pullstatus.apps.values import application_setting
from pullstatus.json import ascii_json
from pullstatus.mailbox import reindexing
from pullstatus.mailbox.erasing import Number, erase_number
from pullstatus.mailbox.following import Follower
from pullstatus.mailbox.standing import standing_now
from pullstatus.mailbox.statistics import Statistics, counted, statistics
from pullstatus.store import Change, Count, Discard, Mailbox, Outcome, Run, Store, Tally
from pullstatus.store.gathering.operations import Erase
from tests.harness import reply, status
from tests.store.build import NOW_MS, OTHERS, REPLIES, STATUSES, append, pull, redeliver
from tests.store.places import damage

pytestmark = pytest.mark.anyio

SDKAPPID = STATUSES.sdkappid
HOUR = 2027011516  # of NOW_MS, 08:00 in Greenwich
HOUR_MS = 3_600_000
CODES = ("MB:1", "MK:0001", "UNDELIV", "MX:0012", "TE:0003")  # one of each class


def encoded(*records: dict[str, object]) -> list[bytes]:
    return [ascii_json(msgspec.json.encode(record)) for record in records]


def failed(*codes: str) -> list[bytes]:
    return encoded(*(status(7, report_status="FAIL", errmsg=code) for code in codes))


async def count(store: Store, first: int = HOUR, last: int = HOUR) -> Statistics:
    return await statistics(store, SDKAPPID, first, last)


async def test_each_class_is_counted_apart(store: Store) -> None:
    entries = encoded(status(1), status(2)) + failed(*CODES, "UNDELIV")
    await store.append(append(STATUSES, entries))
    await store.append(append(REPLIES, encoded(reply(7))))
    await store.append(append(OTHERS, encoded(status(1))))
    assert await count(store) == Statistics(2, (1, 1, 2, 1, 1), 1, 0)
    assert (await count(store)).receipts == 8


async def test_hours_are_those_of_acceptance_and_inclusive(store: Store) -> None:
    """Not those of the record's own time, and one is told from the next to the millisecond."""
    for hour, at_ms in enumerate((NOW_MS - 1, NOW_MS, NOW_MS + HOUR_MS - 1, NOW_MS + HOUR_MS)):
        await store.append(append(STATUSES, encoded(*[status(1)] * (10**hour)), at_ms))
    found = await counted(store, SDKAPPID, HOUR - 1, HOUR + 1)
    assert {hour: each.success for hour, each in found.hourly().items()} == {
        HOUR - 1: 1,
        HOUR: 110,
        HOUR + 1: 1000,
    }
    assert {day: each.success for day, each in found.daily().items()} == {20270115: 1111}
    assert (await count(store)).success == 110
    assert (await count(store, HOUR, HOUR + 1)).success == 1110
    assert (await count(store, HOUR + 2, HOUR + 9)).receipts == 0


async def test_an_hour_in_which_nothing_came_is_left_out(store: Store) -> None:
    """As one of a day that was counted anew."""
    tallies = [Tally(STATUSES.holds, hour, (0,)) for hour in (HOUR, HOUR + 1)]
    await store.count(Count(SDKAPPID, tallies, NOW_MS))
    await store.append(append(STATUSES, encoded(status(1))))
    assert list((await counted(store, SDKAPPID, HOUR - 1, HOUR + 1)).hourly()) == [HOUR]


async def test_copies_are_not_counted_again(store: Store) -> None:
    await store.append(append(STATUSES, encoded(status(1), status(1))))
    await store.pull(pull(STATUSES))
    await store.redeliver(redeliver(STATUSES, (1, 2)))
    await store.append(append(STATUSES, failed("MK:0001")))
    await store.pull(pull(STATUSES))
    await store.redeliver(redeliver(STATUSES, (5, 1), (1, 1)))
    assert await count(store) == Statistics(2, (0, 1, 0, 0, 0), 0, 0)


async def test_what_has_left_is_counted(store: Store) -> None:
    await store.append(append(STATUSES, encoded(status(1), status(2), status(3))))
    await store.pull(pull(STATUSES, 1))
    await store.discard(Discard(STATUSES, Outcome.EXPIRED, NOW_MS))
    assert (await count(store)).success == 3


async def test_what_is_no_record_is_counted_as_unreadable(store: Store) -> None:
    await store.append(append(STATUSES, [b"[]", *encoded(status(1))]))
    assert await count(store) == Statistics(1, (1, 0, 0, 0, 0), 0, 1)


async def test_what_is_erased_while_it_is_counted_is_counted_as_it_was(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By then its tally tells of it, and who has found its place empty asks again."""
    await store.append(append(STATUSES, encoded(status(1), status(2))))
    runs = store.runs

    async def overtaken(mailbox: Mailbox, first_seq: int, count_max: int) -> list[Run]:
        monkeypatch.setattr(store, "runs", runs)
        act = Operator("me", NOW_MS, lambda size: "5a" * size)
        await erase_number(store, Number("8613800000001", 2), by=act, progress=lambda *_: None)
        return await runs(mailbox, first_seq, count_max)

    monkeypatch.setattr(store, "runs", overtaken)
    assert await count(store) == Statistics(2, (0, 0, 0, 0, 0), 0, 0)


@pytest.mark.parametrize("steps", [0, 1])
async def test_what_is_erased_while_all_is_counted_anew_is_counted_as_it_was(
    store: Store, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    """What was dropped, as `reindex` does, is counted before anything of it is erased."""
    monkeypatch.setattr("pullstatus.store.gathering.store.STEP_CHUNKS", 1)
    for number, at_ms in ((1, NOW_MS - HOUR_MS), (1, NOW_MS), (2, NOW_MS)):
        await store.append(append(STATUSES, encoded(status(number)), at_ms))
    assert await count(store, HOUR - 1) == Statistics(3, (0, 0, 0, 0, 0), 0, 0)
    await Follower(store, lambda size: "5a" * size).follow(SDKAPPID)
    act = Operator("me", NOW_MS, lambda size: "5a" * size)
    submit = store._writer.submit  # type: ignore[attr-defined]
    begun = 0

    async def overtaken(operation: object) -> object:
        nonlocal begun
        if isinstance(operation, Erase):
            begun += 1
            if begun == 1 + steps:
                await reindexing._drop(store, await standing_now(store, STATUSES), act)
        return await submit(operation)

    monkeypatch.setattr(store._writer, "submit", overtaken)  # type: ignore[attr-defined]
    act = Operator("me", NOW_MS, lambda size: "5a" * size)
    erased = await erase_number(store, Number("8613800000001", 2), by=act, progress=lambda *_: None)
    assert (erased.waiting, begun > 1) == (2, True)
    await Follower(store, lambda size: "5a" * size).follow(SDKAPPID)
    assert await count(store, HOUR - 1) == Statistics(3, (0, 0, 0, 0, 0), 0, 0)


async def test_what_was_a_former_owners_is_not_counted(store: Store) -> None:
    await store.append(append(STATUSES, encoded(status(1), status(2))))
    key = AppKey("5" * 32)
    owned = msgspec.json.encode(Application(SDKAPPID, (key,), NOW_MS, owner="next", former=(1, 0)))
    await store.change(Change(application_setting(SDKAPPID), owned, None))
    assert (await count(store)).success == 1


async def test_what_is_damaged_in_the_hour_of_a_change_counts_whoever_has_followed(
    store: Store, url: str
) -> None:
    """As in any other hour; so does what was erased meanwhile."""
    follower = Follower(store, lambda size: "5a" * size)
    await store.append(append(STATUSES, encoded(status(1))))
    await follower.follow(SDKAPPID)
    owned = Application(SDKAPPID, (AppKey("5" * 32),), NOW_MS, owner="next", former=(1, 0))
    await store.change(Change(application_setting(SDKAPPID), msgspec.json.encode(owned), None))
    await store.append(append(STATUSES, encoded(*[status(1)] * 2), NOW_MS + 1))
    await store.append(append(STATUSES, encoded(status(1)), NOW_MS + 2))
    damage(url, STATUSES)
    await store.append(append(STATUSES, encoded(status(1)), NOW_MS + HOUR_MS))
    assert await count(store) == Statistics(2, (1, 0, 0, 0, 0), 0, 1)
    await follower.follow(SDKAPPID)
    assert await count(store) == Statistics(2, (1, 0, 0, 0, 0), 0, 1)
    await store.erase(STATUSES, at_ms=NOW_MS + 3, seqs=[2])
    assert (await count(store)).receipts == 3


async def test_an_hour_in_which_a_number_changed_hands_is_counted_for_its_owner(
    store: Store,
) -> None:
    """Its tally, and those before it, tell of the former one's, too."""
    follower = Follower(store, lambda size: "5a" * size)
    await store.append(append(STATUSES, encoded(*[status(1)] * 2), NOW_MS - HOUR_MS))
    await store.append(append(STATUSES, encoded(status(1))))
    await follower.follow(SDKAPPID)
    owned = Application(SDKAPPID, (AppKey("5" * 32),), NOW_MS, owner="next", former=(3, 0))
    change = Change(application_setting(SDKAPPID), msgspec.json.encode(owned), None)
    await store.change(change)
    await store.append(append(STATUSES, encoded(status(1)), NOW_MS + 1))
    await store.append(append(STATUSES, encoded(*[status(1)] * 2), NOW_MS + HOUR_MS))
    for _ in range(2):
        found = await counted(store, SDKAPPID, HOUR - 1, HOUR + 1)
        assert {hour: each.success for hour, each in found.hourly().items()} == {
            HOUR: 1,
            HOUR + 1: 2,
        }
        await follower.follow(SDKAPPID)


async def test_a_clock_that_was_ahead_hides_nothing_of_the_hour_of_a_change(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was accepted behind entries of later hours, in the hour in which it is, is counted."""
    monkeypatch.setattr("pullstatus.mailbox.statistics.READ_COUNT", 2)
    await store.append(append(STATUSES, encoded(status(1))))
    owned = Application(SDKAPPID, (AppKey("5" * 32),), NOW_MS, owner="next", former=(1, 0))
    await store.change(Change(application_setting(SDKAPPID), msgspec.json.encode(owned), None))
    for hours in (0, 5, 5, 7, 0, 1, 0):
        await store.append(append(STATUSES, encoded(status(1)), NOW_MS + hours * HOUR_MS))
        assert (await count(store)).success > 0
    before = await counted(store, SDKAPPID, HOUR, HOUR + 9)
    await Follower(store, lambda size: "5a" * size).follow(SDKAPPID)
    assert (await count(store)).success == 3
    after = await counted(store, SDKAPPID, HOUR, HOUR + 9)
    assert after.hourly() == before.hourly()
