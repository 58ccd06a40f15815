"""Names of sends, on every engine: kept once with counts, found by any door, forgotten in time."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pullstatus import limits
from pullstatus.apps import Application, LiveApplication
from pullstatus.errors import KeyReused, SettingChanged
from pullstatus.mailbox.names import Told, names_of, namings
from pullstatus.mailbox.statistics import count_sends
from pullstatus.receipts.sends import Registered, Sends
from pullstatus.store import NO_TICKET, Change, Count, Naming, Store, While
from tests.store.build import NOW_MS, STATUSES, by_application, repeat_key
from tests.store.engines import Opener

pytestmark = pytest.mark.anyio

APP = STATUSES.sdkappid
OTHER = APP + 1
LOWEST, HIGHEST = -(1 << 31), (1 << 31) - 1


def named(*slots: int, body: bytes = b"body", at_ms: int = NOW_MS, sdkappid: int = APP) -> Count:
    return Count(sdkappid, [], at_ms, names=[Naming(sorted(slots), body)])


async def bodies(store: Store, slots: Sequence[int], sdkappid: int | None = None) -> list[bytes]:
    return [block.body for block in by_application(await store.named(slots, sdkappid))]


async def test_blocks_are_found_by_any_of_their_hashes_through_any_door(opener: Opener) -> None:
    store, door = await opener(), await opener()
    await store.count(named(1, 2, HIGHEST, body=b"one"))
    await store.count(named(2, 0, LOWEST, body=b"two", sdkappid=OTHER))
    await store.count(named(2, 4, body=b"three"))
    for each in (store, door):
        assert await bodies(each, [1]) == [b"one"]
        assert await bodies(each, [2]) == [b"three", b"one", b"two"]
        assert await bodies(each, [2], OTHER) == [b"two"]
        assert await bodies(each, [LOWEST, HIGHEST, 77]) == [b"one", b"two"]
        assert await bodies(each, [1, 2, 4, 0]) == [b"three", b"one", b"two"]
        assert await bodies(each, [5, -1]) == []
    assert sorted(block.sdkappid for block in await door.named([2])) == [APP, APP, OTHER]


async def test_names_are_kept_once_under_a_key_and_with_their_condition(store: Store) -> None:
    sends = Count(APP, [], NOW_MS, repeat_key("k"), names=[Naming([1], b"one")])
    assert await store.count(sends)
    assert await store.count(sends) is False
    two = [Naming([1], b"two")]
    with pytest.raises(KeyReused):
        await store.count(Count(APP, [], NOW_MS, repeat_key("k", b"x"), names=two))
    name = f"application/{APP}"
    await store.change(Change(name, b"{}", None))
    with pytest.raises(SettingChanged):
        await store.count(Count(APP, [], NOW_MS, None, While(name, 0), names=two))
    assert await bodies(store, [1]) == [b"one"]


async def test_names_are_forgotten_in_order_of_acceptance(store: Store) -> None:
    """Whatever the order in which they came: a clock may have been set back between them."""
    await store.count(named(1, 2, 3, body=b"late", at_ms=NOW_MS + 5))
    await store.count(named(1, body=b"early", at_ms=NOW_MS))
    await store.count(named(1, body=b"between", at_ms=NOW_MS + 2))
    for before_ms, left in (
        (NOW_MS, [b"between", b"early", b"late"]),
        (NOW_MS + 1, [b"between", b"late"]),
        (NOW_MS + 5, [b"late"]),
        (NOW_MS + 6, []),
    ):
        await store.forget(accepted_before_ms=before_ms, now_ms=0)
        assert await bodies(store, [1, 3]) == left
    assert await bodies(store, [2]) == []
    await store.count(named(1, body=b"again"))
    assert await bodies(store, [1]) == [b"again"]
    assert await bodies(store, [2, 3]) == []  # nothing is left that leads to its place


async def test_what_is_registered_over_and_over_is_read_up_to_a_bound(store: Store) -> None:
    beyond = limits.NAMES_FOUND_MAX + 2
    names = [Naming([7], b"%d" % number) for number in range(beyond)]
    await store.count(Count(APP, [], NOW_MS, names=names))
    newest = [b"%d" % number for number in reversed(range(2, beyond))]
    assert await bodies(store, [7]) == newest


async def test_what_lies_in_many_blocks_hides_nothing_else(store: Store) -> None:
    many = limits.NAMES_FOUND_MAX // 2 + 6
    names = [Naming([7, 8], b"%d" % number) for number in range(many)]
    await store.count(Count(APP, [], NOW_MS, names=[*names, Naming([9], b"other")]))
    found = await bodies(store, [7, 8, 9])
    assert found == [b"other", *(b"%d" % number for number in reversed(range(many)))]


async def test_what_others_register_over_and_over_hides_nothing(store: Store) -> None:
    await store.count(named(7, 9, body=b"ours"))
    names = [Naming([7], b"theirs %d" % number) for number in range(limits.NAMES_FOUND_MAX + 2)]
    await store.count(Count(OTHER, [], NOW_MS, names=names))
    assert await bodies(store, [7], APP) == [b"ours"]
    assert await bodies(store, [7, 9], APP) == [b"ours"]
    newest = [block.body for block in reversed(names[2:])]
    assert await bodies(store, [7], OTHER) == newest
    theirs = [block.body for block in await store.named([7]) if block.sdkappid == OTHER]
    assert theirs[: len(newest)] == newest


async def test_what_is_registered_over_and_over_hides_no_older_one(store: Store) -> None:
    await store.count(named(9, 8, body=b"before"))
    await store.count(named(9, body=b"older"))
    names = [Naming([7], b"%d" % number) for number in range(limits.NAMES_FOUND_MAX * 3 + 2)]
    await store.count(Count(APP, [], NOW_MS, names=names))
    newest = [block.body for block in reversed(names[-limits.NAMES_FOUND_MAX :])]
    for whose in (APP, None):
        found = await bodies(store, [7, 8, 9], whose)
        assert found[-2:] == [b"older", b"before"]
        assert found[: len(newest)] == newest


async def test_what_is_registered_too_often_is_nobodys_but_for_who_asks_for_its_own(
    store: Store,
) -> None:
    await store.count(Count(APP, [], NOW_MS, names=[*namings([Registered("ours", ("4711",))], "")]))
    theirs = [*namings([Registered("theirs", ("4711",))], "")] * limits.NAMES_FOUND_MAX
    await store.count(Count(OTHER, [], NOW_MS, names=theirs))
    assert await names_of(store, [Told("4711")]) == [None]
    [name] = await names_of(store, [Told("4711")], sdkappid=APP)
    assert name is not None
    assert name.sid == "ours"


async def test_ones_own_names_are_looked_for_among_so_many_of_others(
    store: Store, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else each question of an application would go through all that another has registered."""
    monkeypatch.setattr(limits, "NAMES_RUN_MAX", 3 * limits.NAMES_FOUND_MAX)
    await store.count(named(7, 8, body=b"own"))
    theirs = [Naming([7], b"")] * (limits.NAMES_FOUND_MAX * 2)
    await store.count(Count(OTHER, [], NOW_MS, names=theirs))
    assert await bodies(store, [7, 8], APP) == [b"own"]
    await store.count(Count(OTHER, [], NOW_MS, names=theirs))
    bounded = "sqlite" in request.node.callspec.id
    assert await bodies(store, [7], APP) == ([] if bounded else [b"own"])
    assert await bodies(store, [7, 8], APP) == [b"own"]  # which leads there by another hash
    await store.count(named(7, body=b"newer"))
    assert await bodies(store, [7], APP) == [b"newer"] + [b"own"] * (not bounded)


async def test_a_receipt_finds_its_name_in_the_store(store: Store) -> None:
    sent = [Registered(f"s{number}", (f"{number:X}",)) for number in range(0xA000, 0xA100)]
    await store.count(Count(APP, [], NOW_MS, names=[*namings(sent, "owner")]))
    told = [Told(f"{number:08x}") for number in range(0xA000, 0xA064)]
    found = await names_of(store, [*told, Told(str(0xA0FF)), Told("b000")], sdkappid=APP)
    sids = [f"s{number}" for number in range(0xA000, 0xA064)]
    assert [one and one.sid for one in found] == [*sids, f"s{0xA0FF}", None]


async def test_a_report_registers_for_who_has_the_application_now(store: Store) -> None:
    """And counts nothing if it has only names."""
    sends = Sends(1, {}, (Registered("ours", ("id",)),))
    live = LiveApplication(Application(APP, (), 0, owner="we"), 0)
    assert await count_sends(store, live, sends, sender="s", now_ms=NOW_MS, ticket=NO_TICKET)
    for owner, found in (("we", "ours"), ("they", None)):
        [name] = await names_of(store, [Told("id")], sdkappid=APP, owner=owner)
        assert (name and name.sid) == found
    assert await store.tallies(APP, 0, 1 << 40) == []
