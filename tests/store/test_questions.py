"""Questions by number and by sid, over every engine: what is found, in which order, what never."""

import secrets
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from pullstatus import limits
from pullstatus.apps import AppKey, Application, Operator
from pullstatus.apps.tokens import create_token
from pullstatus.apps.values import INDEX_KEY, application_setting
from pullstatus.errors import InvalidSetting
from pullstatus.json import ascii_json
from pullstatus.mailbox import finding, proving, questions, search
from pullstatus.mailbox.erasing import erase_number, parse_number
from pullstatus.mailbox.following import Follower
from pullstatus.mailbox.senders import marked
from pullstatus.records import MEMBERS, Kind, decode, encode_all
from pullstatus.store import (
    Change,
    Entry,
    Follow,
    Followed,
    Mailbox,
    Store,
    Unfollow,
    segments,
)
from tests.harness import reply, status
from tests.store.build import (
    NOW_MS,
    OTHERS,
    REPLIES,
    STATUSES,
    append,
    journal_of,
    pull,
    purge,
    redeliver,
)

pytestmark = pytest.mark.anyio

DIGITS = "8613800000007"

follows_first = False


@pytest.fixture(autouse=True, params=["scanned", "followed"])
def _mode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is asked is the same before a follower has come by, and after it."""
    monkeypatch.setitem(globals(), "follows_first", request.param == "followed")


async def records_of(
    store: Store,
    mailbox: Mailbox,
    digits: str | None,
    **asked: Any,  # noqa: ANN401
) -> list[bytes]:
    """As `questions.records_of`."""
    if follows_first:
        await Follower(store, secrets.token_hex).work()
    return await questions.records_of(store, mailbox, digits, **asked)


def encoded(*records: dict[str, object]) -> list[bytes]:
    return [ascii_json(msgspec.json.encode(record)) for record in records]


def at(second: int, number: int = 7, **changes: object) -> dict[str, object]:
    """A delivery status of this number, of this second of a minute."""
    return status(number, user_receive_time=f"2026-01-02 03:04:{second:02d}", **changes)


START_S = 1_767_294_240  # 2026-01-02 03:04:00, eight hours ahead of Greenwich


async def test_records_of_a_number_come_in_order_of_their_own_times(store: Store) -> None:
    """Then as they lie in the log; waiting and handed out, and nothing is taken."""
    mine = encoded(at(5), at(3, sid="8:1"), at(9), at(3, sid="8:2"))
    others = encoded(at(1, 17), at(4, 8))
    await store.append(append(STATUSES, [mine[0], *others, *mine[1:3]]))
    await store.pull(pull(STATUSES, 2))
    await store.append(append(STATUSES, mine[3:]))
    await store.append(append(OTHERS, mine))
    found = await records_of(store, STATUSES, DIGITS)
    before = await store.backlog()
    assert found == [mine[1], mine[3], mine[0], mine[2]]
    assert await records_of(store, STATUSES, DIGITS, offset=1, count_max=2) == found[1:3]
    assert await records_of(store, STATUSES, DIGITS, offset=4) == []
    assert await records_of(store, REPLIES, DIGITS) == []
    assert await store.backlog() == before
    assert len(await journal_of(store, STATUSES)) == 1


async def test_times_are_inclusive(store: Store) -> None:
    entries = encoded(*(at(second) for second in range(10)))
    await store.append(append(STATUSES, entries))
    from_s, to_s = START_S + 3, START_S + 5
    assert await records_of(store, STATUSES, DIGITS, from_s=from_s, to_s=to_s) == entries[3:6]
    assert await records_of(store, STATUSES, DIGITS, from_s=START_S + 8) == entries[8:]
    assert await records_of(store, STATUSES, DIGITS, to_s=START_S) == entries[:1]


async def test_replies_have_their_time_as_a_number(store: Store) -> None:
    entries = encoded(reply(7, time=1_767_000_009), reply(7, time=1_767_000_003))
    await store.append(append(REPLIES, entries))
    assert await records_of(store, REPLIES, "8613900000007") == entries[::-1]
    assert await records_of(store, REPLIES, "8613900000007", to_s=1_767_000_003) == entries[1:]


WAYS = [
    ("86", "13800000007"),
    ("86", "+8613800000007"),
    ("86", "008613800000007"),
    ("86", "8613800000007"),
    ("86", "+13800000007"),
    ("086", "13800000007"),
    ("0086", "13800000007"),
    ("0086", "8613800000007"),
    ("0086", "+8613800000007"),
    ("0086", "008613800000007"),
]


@pytest.mark.parametrize(("nationcode", "mobile"), [*WAYS, ("8613", "800000007")])
async def test_number_is_found_however_it_is_written(
    store: Store, nationcode: str, mobile: str
) -> None:
    entries = encoded(at(1, nationcode=nationcode, mobile=mobile))
    await store.append(append(STATUSES, [*entries, *encoded(at(1, 8))]))
    assert await records_of(store, STATUSES, DIGITS) == entries
    for other in ("13800000007", "113800000007", "868613800000008", "00000007", "7"):
        assert await records_of(store, STATUSES, other) == []


@pytest.mark.parametrize(("nationcode", "mobile"), WAYS)
async def test_operators_find_and_erase_a_number_however_it_is_written(
    store: Store, nationcode: str, mobile: str
) -> None:
    mine = encoded(at(1, nationcode=nationcode, mobile=mobile))
    await store.append(append(STATUSES, [*mine, *encoded(at(1, 8))]))
    if follows_first:
        await Follower(store, secrets.token_hex).work()
    for asked in ("13800000007", DIGITS, f"+{DIGITS}", f"00{DIGITS}"):
        found = await search.by_number(store, asked)
        assert [one.entry and one.entry.data for one in found] == mine, asked
    for other in ("3800000007", "0000007", "+13800000008", "8613800000009"):
        assert await search.by_number(store, other) == []
    by = Operator("me", NOW_MS, lambda size: "5a" * size)
    number = parse_number(f"00{DIGITS}")
    erased = await erase_number(store, number, by=by, progress=lambda _done, _all: None)
    assert erased.waiting == 1
    assert await search.by_number(store, DIGITS) == []
    assert len(await search.by_number(store, "13800000008")) == 1


FOREIGN = [
    (kind, member.name, value)
    for kind in Kind
    for member in MEMBERS[1 - kind]
    if member.name not in {own.name for own in MEMBERS[kind]}
    for value in ("2026-11-26", "", "8:7", 5, -1, 1.5, 1 << 70, True, None, [5], {"sid": 5})
]


async def test_member_that_another_kind_has_hides_no_record(store: Store) -> None:
    """A record keeps what its sender knows more, whatever its name and type: it is found, too."""
    made = {
        kind: [
            encode_all([record], [extra])[0]
            for each, name, value in FOREIGN
            if each is kind
            for record, extra in [
                decode(msgspec.json.encode((at(1), reply(7, time=1))[kind] | {name: value}), kind)
            ]
        ]
        for kind in Kind
    }
    statuses, replies = made[Kind.DELIVERY_STATUS], made[Kind.REPLY]
    await store.append(append(STATUSES, statuses))
    await store.append(append(REPLIES, replies))
    assert await records_of(store, STATUSES, DIGITS) == statuses
    assert await records_of(store, STATUSES, None, sid="8:7") == statuses
    assert await records_of(store, REPLIES, "8613900000007") == replies
    assert await records_of(store, REPLIES, None, sid="8:7") == []
    assert len(await search.by_number(store, DIGITS)) == len(statuses)
    assert len(await search.by_number(store, "8613900000007")) == len(replies)
    assert len(await search.by_sid(store, "8:7")) == len(statuses)
    assert await proving.problems(store) == []


async def test_short_numbers_are_found(store: Store) -> None:
    entries = encoded(
        at(1, nationcode="683", mobile="4567"), at(2, nationcode="6834", mobile="567")
    )
    await store.append(append(STATUSES, entries))
    assert await records_of(store, STATUSES, "6834567") == entries
    assert await records_of(store, STATUSES, "4567") == []


async def test_message_is_found_by_its_sid(store: Store) -> None:
    """Any text is one; with a number, both must fit."""
    entries = encoded(at(1, sid='8:é"1'), at(2, 8, sid='8:é"1'), at(3, sid='8:é"12'))
    await store.append(append(STATUSES, entries))
    assert await records_of(store, STATUSES, None, sid='8:é"1') == entries[:2]
    assert await records_of(store, STATUSES, DIGITS, sid='8:é"1') == entries[:1]
    assert await records_of(store, STATUSES, None, sid="8:") == []


async def test_copies_are_not_found_beside_their_original(store: Store) -> None:
    """But equal records that came twice are both."""
    twice = encoded(at(5), at(5))
    await store.append(append(STATUSES, twice))
    await store.pull(pull(STATUSES))
    await store.redeliver(redeliver(STATUSES, (1, 2)))
    await store.redeliver(redeliver(STATUSES, (2, 1)))
    assert await records_of(store, STATUSES, DIGITS) == twice


async def test_copy_of_a_copy_is_not_found_beside_any_of_them(store: Store) -> None:
    """And whoever looks is told of which record it is a copy, and by which token that came."""
    by = Operator("me", NOW_MS, lambda size: "5a" * size)
    await create_token(store, "gateway", by=by)
    entries = encoded(at(5), at(6))
    appended = append(STATUSES, entries)
    ticket = marked(appended.ticket, "gateway")
    await store.append(msgspec.structs.replace(appended, ticket=ticket))
    await store.pull(pull(STATUSES))
    for again in (1, 3, 5):  # each a copy of the last; then another of the first
        await store.redeliver(redeliver(STATUSES, (again, 2)))
        await store.pull(pull(STATUSES))
    await store.redeliver(redeliver(STATUSES, (1, 1)))
    assert await records_of(store, STATUSES, DIGITS) == entries
    found = await search.by_number(store, f"+{DIGITS}")
    assert [one.copy_of for one in found] == [None, None, 1, 2, 1, 2, 1, 2, 1]
    traced = await finding.trace(store, found, await store.backlog())
    assert [one.copies for one in found] == [[3, 5, 7, 9], [4, 6, 8], *7 * [()]]
    assert [one.tokens for one in traced] == 9 * [["gateway"]]


async def test_a_period_hides_neither_copies_nor_whose_they_are(store: Store) -> None:
    """An original tells of copies that came later, a copy of the token of its original."""
    by = Operator("me", NOW_MS, lambda size: "5a" * size)
    await create_token(store, "gateway", by=by)
    appended = append(STATUSES, encoded(at(5), at(6, 8), at(7)), NOW_MS - 5)
    ticket = marked(appended.ticket, "gateway")
    await store.append(msgspec.structs.replace(appended, ticket=ticket))
    await store.pull(pull(STATUSES))
    await store.redeliver(redeliver(STATUSES, (1, 3)))
    await store.pull(pull(STATUSES))
    await store.redeliver(redeliver(STATUSES, (4, 1)))
    before, after = search.Period(to_ms=NOW_MS), search.Period(from_ms=NOW_MS)
    if follows_first:
        await Follower(store, secrets.token_hex).work()

    async def found(**how: Any) -> list[tuple[int, int | None, list[int], list[str]]]:  # noqa: ANN401
        told = await finding.by_number(store, f"+{DIGITS}", by=by, **how)
        return [
            (one.found.first_seq, one.found.copy_of, [*one.found.copies], [*one.tokens])
            for one in told.records
        ]

    tokens, none = ["gateway"], list[int]()
    originals = [(1, None, [4, 7], tokens), (3, None, [6], tokens)]
    copies = [(seq, of, none, tokens) for seq, of in ((4, 1), (6, 3), (7, 1))]
    assert await found() == originals + copies
    assert await found(accepted=before, count_max=2) == originals
    assert await found(accepted=after) == copies
    for count_max, how in ((2, after), (4, search.EVER)):
        with pytest.raises(InvalidSetting, match="narrow the range"):
            await found(accepted=how, count_max=count_max)
    early = search.Period(to_ms=NOW_MS - 5)
    for sid, elsewhere in (("8:7", True), ("8:9", False)):
        told = await finding.by_sid(store, sid, by=by, accepted=early)
        assert (told.count, told.elsewhere) == (0, elsewhere)
    assert [one.first_seq for one in await search.by_sid(store, "8:7", count_max=3)] == [1, 3, 4]


async def test_copy_is_found_when_its_original_is_gone(store: Store) -> None:
    await store.append(append(STATUSES, encoded(at(5))))
    await store.pull(pull(STATUSES, at_ms=NOW_MS))
    await store.redeliver(redeliver(STATUSES, (1, 1)))
    await store.redeliver(redeliver(STATUSES, (1, 1)))
    assert await purge(store, left_before_ms=NOW_MS + 1) == 1
    assert await records_of(store, STATUSES, DIGITS) == encoded(at(5))


async def test_what_is_erased_or_removed_is_not_found(store: Store) -> None:
    entries = encoded(at(1), at(2, 8), at(3), at(4, 8))
    await store.append(append(STATUSES, entries))
    await store.pull(pull(STATUSES, 1))
    await purge(store, left_before_ms=NOW_MS + 1)  # part of what was stored together
    assert await records_of(store, STATUSES, DIGITS) == entries[2:3]
    by = Operator("me", NOW_MS, lambda size: "5a" * size)
    number = parse_number("+8613800000008")
    erased = await erase_number(store, number, by=by, progress=lambda _done, _all: None)
    assert erased.waiting == 2
    assert await records_of(store, STATUSES, "8613800000008") == []
    assert await records_of(store, STATUSES, DIGITS) == entries[2:3]


async def test_nobody_finds_what_was_a_former_owners(store: Store) -> None:
    entries = encoded(at(1), at(2))
    await store.append(append(STATUSES, entries))
    name = application_setting(STATUSES.sdkappid)
    key = AppKey("5" * 32)
    owned = msgspec.json.encode(
        Application(STATUSES.sdkappid, (key,), NOW_MS, owner="next", former=(1, 0))
    )
    await store.change(Change(name, owned, None))
    assert await records_of(store, STATUSES, DIGITS) == entries[1:]
    await store.change(Change(name, None, owned))
    assert await records_of(store, STATUSES, DIGITS) == []


async def test_what_is_no_record_is_passed_over(store: Store) -> None:
    entries = [b"[]", b'{"mobile":"13800000007"}', b'{"mobile":7}', *encoded(at(1)), b"13800000007"]
    await store.append(append(STATUSES, entries))
    assert await records_of(store, STATUSES, DIGITS) == entries[3:4]
    assert await records_of(store, Mailbox(1, 0), DIGITS) == []


async def test_of_too_many_those_are_found_that_came_first(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ASKED_COUNT_MAX", 3)
    entries = encoded(*(at(9 - second) for second in range(5)))
    await store.append(append(STATUSES, entries))
    assert await records_of(store, STATUSES, DIGITS) == entries[2::-1]


async def test_what_came_since_is_found_beside_what_is_followed(store: Store) -> None:
    entries = encoded(*(at(second) for second in range(6)))
    await store.append(append(STATUSES, entries[:2]))
    assert await records_of(store, STATUSES, DIGITS) == entries[:2]
    await store.append(append(STATUSES, [*encoded(at(1, 8)), *entries[2:4]]))
    assert await questions.records_of(store, STATUSES, DIGITS) == entries[:4]
    assert await records_of(store, STATUSES, DIGITS) == entries[:4]
    await store.append(append(STATUSES, entries[4:]))
    assert await questions.records_of(store, STATUSES, None, sid="8:7") == entries


async def test_only_numbers_that_end_alike_are_read(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And of them only those that are meant are found."""
    alike = encoded(at(1), at(2, nationcode="1", mobile="5513800000007"), at(3))
    await store.append(append(STATUSES, [*encoded(at(1, 8)), *alike]))
    assert await records_of(store, STATUSES, DIGITS) == alike[::2]
    if not follows_first:
        return
    asked: list[int] = []
    entries_at = store.entries_at

    async def noted(mailbox: Mailbox, seqs: Sequence[int]) -> list[Entry]:
        asked.extend(seqs)
        return await entries_at(mailbox, seqs)

    monkeypatch.setattr(store, "entries_at", noted)
    assert await questions.records_of(store, STATUSES, DIGITS) == alike[::2]
    assert asked == [2, 3, 4]


async def test_segments_that_are_dropped_meanwhile_hide_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = encoded(at(1), at(2))
    await store.append(append(STATUSES, entries))
    assert await records_of(store, STATUSES, DIGITS) == entries
    if not follows_first:
        return
    sought = store.sought

    async def dropped_before(*asked: Any) -> list[int]:  # noqa: ANN401
        [row] = await store.backlog()
        await store.unfollow(Unfollow(STATUSES, row.followed, 2, None))
        return await sought(*asked)

    monkeypatch.setattr(store, "sought", dropped_before)
    assert await questions.records_of(store, STATUSES, DIGITS) == entries


async def test_damaged_segments_hide_nothing(store: Store) -> None:
    entries = encoded(at(1), at(2))
    await store.append(append(STATUSES, entries))
    await store.change(Change(INDEX_KEY, bytes(segments.KEY_BYTES), None))
    damaged = segments.Segment(1, 2, b"damaged", b"")
    await store.follow(Follow(STATUSES, Followed(), 2, damaged, []))
    assert await records_of(store, STATUSES, DIGITS) == entries
