"""A store becomes another: all of it, whatever ends a run, and only one of them is ever in use."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import apsw
import msgspec
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pullstatus.errors import (
    KeyReused,
    OutcomeUnknown,
    ReplayRefused,
    StoreMovedOn,
    StoreRefused,
    StoreSealed,
    StoreUnavailable,
)
from pullstatus.store import (
    Act,
    AuditReport,
    Change,
    Count,
    Discard,
    Follow,
    Followed,
    Index,
    Mailbox,
    Naming,
    Noted,
    Outcome,
    Pull,
    Reader,
    Tally,
    audit_store,
    backup_store,
    gate,
    init_store,
    open_store,
    restore_store,
)
from pullstatus.store import migration as moving
from pullstatus.store.engines import moving_engine_of
from pullstatus.store.migration import (
    Ends,
    Moved,
    Step,
    move_store,
    next_step,
)
from pullstatus.store.segments import build, word
from pullstatus.store.transfer import (
    OF_MAILBOXES,
    OF_THE_STORE,
    REMEMBERED,
    End,
    Mark,
    Migration,
    Role,
    Row,
    Stage,
    Standing,
    Transfer,
    key_of,
)
from pullstatus.store.values import Progress, accept_any, any_setting
from tests.store.build import (
    EMPTY,
    NOW_MS,
    OTHERS,
    PARKED,
    REPLIES,
    STATUSES,
    acts_of,
    append,
    backlog_of,
    data_of,
    drain,
    fingerprinted,
    new_act,
    once,
    parked,
    pull,
    purge,
    records,
    redeliver,
    remove,
    repeat_key,
    settings_of,
    ticket,
    until,
)
from tests.store.engines import joining_always, sqlite_url
from tests.store.places import Places, damage, file_of, forge_acts, is_file, lose

Found = TypeVar("Found")

PARTS = (*OF_THE_STORE, *OF_MAILBOXES, *REMEMBERED)


ENGINES = ("sqlite", "postgresql")
PAIRS = [f"{source} to {target}" for source in ENGINES for target in ENGINES]
PAIRS += ["sqlite to jetstream", "jetstream to sqlite", "jetstream to jetstream"]
EACH = ["sqlite to postgresql", "postgresql to sqlite", "jetstream to jetstream"]
"""Each engine once as either end: the rules of a migration do not know which engines they move."""
FROM_FILES = [pair for pair in PAIRS if pair.startswith("sqlite")]
TO_FILES = [pair for pair in PAIRS if pair.endswith("sqlite")]
TO_DATABASES = [pair for pair in PAIRS if pair.endswith("postgresql")]


class Pair(NamedTuple):
    """From which engine a store is moved, and to which."""

    source: Places
    target: Places


@pytest.fixture(params=EACH)
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pair]:
    source, _, target = request.param.partition(" to ")
    found = Pair(Places(source, tmp_path), Places(target, tmp_path))
    yield found
    for places in found:
        places.close()


@pytest.fixture
def source(pair: Pair) -> str:
    return pair.source.none("source")


@pytest.fixture
def target(pair: Pair) -> str:
    return pair.target.new("target")


def quiet(_what: str) -> contextlib.AbstractContextManager[Callable[[int, int], None]]:
    return contextlib.nullcontext(lambda _done, _total: None)


async def move(source: str, target: str, act: Act | None = None, **how: Any) -> Moved:  # noqa: ANN401
    known: dict[str, Any] = {
        "act": act or new_act("migrate"),
        "phase": quiet,
        "prove_setting": any_setting,
        "accept": accept_any,
    }
    return await move_store(source, target, **(known | how))


async def abandon_move(
    source: str, target: str, *, act: Act, say: Callable[[str], None] = lambda _text: None
) -> tuple[str, str]:
    return await moving.abandon_move(source, target, act=act, say=say)


async def rows_of(url: str) -> dict[type, list[Row]]:
    """All that a store holds, by part."""
    end = await moving_engine_of(url).open_end(url, target=False)
    try:
        found: dict[type, list[Row]] = {}
        mailboxes: list[Mailbox] = []
        for part in PARTS:
            rows: list[Row] = []
            while step := await end.rows(part, key_of(rows[-1]) if rows else None, mailboxes):
                rows += step
            found[part] = rows
            if part is Standing:
                mailboxes = [row.mailbox for row in rows if isinstance(row, Standing)]
        return found
    finally:
        await end.close()


async def state_of(url: str) -> Migration | None:
    end = await moving_engine_of(url).open_end(url, target=False)
    assert isinstance(end, Transfer)
    try:
        return await end.migration()
    finally:
        await end.close()


async def fill(url: str) -> None:
    """Have something of every kind in a store, also what is there seldom."""
    store = await open_store(url)
    act = new_act("do")
    await store.change(Change("x", b"1", None), Change("y", b"2", None), act=act, ticket=ticket())
    await store.change(Change("x", None, b"1"))
    await store.change(Change("y", b"3", b"2"))
    await store.mark({"used/a": Noted(7, "here"), "used/b": Noted(8)})
    await store.append(append(OTHERS, [b"soon damaged, " + bytes(50)]))
    await store.append(append(STATUSES, records(250), key=repeat_key("k")))
    await store.append(fingerprinted(REPLIES, records(3), [1, 2, 3]))
    await store.park(parked(append(REPLIES, records(1)), records(3)))
    await store.pull(pull(STATUSES, 100, key="page"))
    await store.pull(once(STATUSES, "nonce", NOW_MS + 1000))
    for name, mailbox in (("r1", STATUSES), ("r1", REPLIES), ("r2", STATUSES)):
        await store.pull(Pull(mailbox, 2, NOW_MS, reader=Reader(name), ticket=ticket()))
    await store.pull(Pull(REPLIES, 0, NOW_MS + 1, reader=Reader("r1", 1), ticket=ticket()))
    await store.redeliver(redeliver(STATUSES, (1, 30)))
    await store.erase(STATUSES, at_ms=NOW_MS, seqs=[5, 200])
    await store.discard(Discard(PARKED, Outcome.EXPIRED, NOW_MS, ticket=ticket()))
    for row in await store.backlog(STATUSES.sdkappid):
        await remove(store, row.mailbox, row.accepted)  # keeps what is held
    await store.count(Count(STATUSES.sdkappid, [Tally(3, 7, (1, 2))], NOW_MS))
    await store.count(Count(STATUSES.sdkappid + 7, [Tally(3, 9, (3,))], NOW_MS))  # it has nothing
    for sdkappid, names in ((7, [SOME_NAMES]), (STATUSES.sdkappid, [SOME_NAMES, *MANY_NAMES])):
        await store.count(Count(sdkappid, [], NOW_MS, names=names))
    await store.append(append(STATUSES, records(120), NOW_MS + 5))
    [row] = [row for row in await store.behind(9) if row.mailbox == STATUSES]
    through = row.accepted - 20
    segment = build(row.followed.through + 1, through - row.followed.through, [word(7, 0)], [])
    tallies = [Tally(0, 7, (3, 4)), Tally(0, 8, (5,)), Tally(0, 107, (6,))]
    assert await store.follow(Follow(STATUSES, row.followed, through, segment, tallies))
    taken = await store.pull(pull(STATUSES, 7, NOW_MS + 6))
    await store.close()
    damage(url, OTHERS)
    store = await open_store(url)
    assert await store.pull(pull(OTHERS)) == EMPTY  # it is set aside
    await store.append(append(OTHERS, records(1)))
    await store.redeliver(redeliver(STATUSES, (taken.first_seq, 5)))
    await store.close()


@pytest.mark.anyio
@pytest.mark.parametrize("pair", PAIRS, indirect=True)
async def test_all_that_a_store_holds_becomes_another(source: str, target: str) -> None:
    await fill(source)
    before = await rows_of(source)
    assert [part for part in PARTS if not before[part]] == []
    act = new_act("migrate")
    moved = await move(source, target, act)
    after = await rows_of(target)
    assert await rows_of(source) == after
    [*others, last] = after.pop(moving_part("ActRow"))
    assert others == before.pop(moving_part("ActRow"))
    assert after == before
    told = msgspec.json.encode({"source": moved.source, "target": moved.target}).decode()
    assert last.act == msgspec.structs.replace(act, detail=told)  # type: ignore[union-attr]
    assert (moved.mailboxes, moved.switched) == (4, True)
    for url in (source, target):
        found = await audit_store(url, lambda _done, _total: None)
        assert not found.findings


SOME_NAMES = Naming([-(1 << 31), -1, 0, 1, (1 << 31) - 1, 0], b"some")
MANY_NAMES = [
    Naming(slots, body) for slots in ([], [-1], [-1, 4], [5]) for body in (b"", b"\xff", b"one")
]


def moving_part(name: str) -> type:
    return next(part for part in PARTS if part.__name__ == name)


@pytest.mark.anyio
@pytest.mark.parametrize("pair", PAIRS, indirect=True)
async def test_what_was_counted_goes_along_and_what_finds_entries_is_made_anew(
    source: str, target: str
) -> None:
    """So what is behind the mark then is not counted again."""
    await fill(source)
    store = await open_store(source)
    tallies = await store.tallies(STATUSES.sdkappid, 0, 1 << 40)
    [before] = [row for row in await store.backlog() if row.mailbox == STATUSES]
    assert await store.sought(STATUSES, Index.NUMBER, 7) != []
    await store.close()
    await move(source, target)

    store = await open_store(target)
    assert len(tallies) == 4
    assert await store.tallies(STATUSES.sdkappid, 0, 1 << 40) == tallies
    [row] = [row for row in await store.behind(9) if row.mailbox == STATUSES]
    assert row.followed == Followed(row.purged, before.followed.tallied, 0)
    assert await store.spans(STATUSES) == []
    segment = build(row.purged + 1, row.accepted - row.purged, [word(7, 0)], [])
    assert await store.follow(Follow(STATUSES, row.followed, row.accepted, segment, []))
    assert await store.sought(STATUSES, Index.NUMBER, 7) == [row.purged + 1]
    await store.close()


@pytest.mark.anyio
@pytest.mark.parametrize("pair", PAIRS, indirect=True)
async def test_what_came_before_is_known_at_the_target(source: str, target: str) -> None:
    store = await open_store(source)
    await store.append(append(STATUSES, records(10), key=repeat_key("batch")))
    await store.append(fingerprinted(REPLIES, records(2), [1, 2], NOW_MS))
    keyed = await store.pull(pull(STATUSES, 3, key="page"))
    used = once(STATUSES, "nonce", NOW_MS + 1000)
    await store.pull(used)
    read = Pull(STATUSES, 2, NOW_MS, reader=Reader("r"), ticket=ticket())
    held = await store.pull(read)
    changed = await store.change(Change("x", b"0", None), Change("z", b"1", None))
    changed = changed and await store.change(Change("x", b"1", b"0"))
    await store.close()
    await move(source, target)

    store = await open_store(target)
    assert changed
    assert await store.append(append(STATUSES, records(10), key=repeat_key("batch"))) == 0
    with pytest.raises(KeyReused):
        await store.append(append(STATUSES, records(1), key=repeat_key("batch", b"other")))
    assert await store.append(fingerprinted(REPLIES, records(3), [1, 2, 3], NOW_MS)) == 1
    rows = {row.mailbox: row for row in await store.backlog()}
    assert (rows[STATUSES].accepted, rows[REPLIES].accepted) == (10, 3)
    again = await store.pull(pull(STATUSES, 3, key="page"))
    assert (again.data, again.first_seq, again.repeated) == (keyed.data, 1, True)
    with pytest.raises(ReplayRefused):
        await store.pull(used)
    again = await store.pull(msgspec.structs.replace(read, ticket=ticket()))
    assert (again.data, again.given) == (held.data, 2)
    assert (await store.setting("x")).revision == 3  # type: ignore[union-attr]
    assert [row.name for row in await settings_of(store)] == ["z", "x"]
    assert [page.first_seq for page in await drain(store, STATUSES)] == [7]
    await store.forget(accepted_before_ms=NOW_MS + 1, now_ms=NOW_MS + 1)  # by order of acceptance
    await store.append(fingerprinted(REPLIES, records(1), [1], NOW_MS))
    assert (await backlog_of(store, REPLIES)).accepted == 4  # type: ignore[union-attr]
    await store.close()
    assert not (await audit_store(target, lambda _done, _total: None)).findings


@pytest.mark.anyio
@pytest.mark.parametrize("pair", PAIRS, indirect=True)
async def test_repeats_of_one_hour_are_known_at_the_target_however_many_and_by_which_pass(
    source: str, target: str
) -> None:
    """The hour is that of the records, as senders tell it."""
    store = await open_store(source, server=True)
    sent = range(1300)
    for step in range(2):
        await move(source, target, switch=False)
        appends = [
            store.append(fingerprinted(REPLIES, records(1), [number], NOW_MS + number))
            for number in sent[step::2]
        ]
        assert sum(await asyncio.gather(*appends)) == 650
        await store.append(fingerprinted(REPLIES, records(1), [-1 - step], NOW_MS + 3000))
    await store.close()
    await move(source, target)

    store = await open_store(target)
    for number in (*sent[:4], *sent[600:604], *sent[-4:], -1, -2):
        again = fingerprinted(REPLIES, records(1), [number], NOW_MS + 4000)
        assert await store.append(again) == 0
    assert await store.append(fingerprinted(REPLIES, records(3), [7, 1298, -3])) == 1
    await store.close()


@pytest.mark.anyio
@pytest.mark.parametrize("pair", PAIRS, indirect=True)
async def test_what_changes_while_it_is_copied_is_there(source: str, target: str) -> None:
    """The server of the source goes on: entries, hands, settings, names, erasing, removal."""
    await fill(source)
    store = await open_store(source, server=True)
    for step in range(4):
        moved = await move(source, target, switch=False)
        assert not moved.switched
        await store.append(append(STATUSES, records(30), NOW_MS + 10 + step))
        await store.append(fingerprinted(REPLIES, records(2), [50 + step, 60 + step]))
        await store.pull(pull(STATUSES, 40, NOW_MS + 10 + step))
        hand = Pull(STATUSES, 2, NOW_MS + 20, reader=Reader("r2"), ticket=ticket())
        await store.pull(hand)  # given once more
        await store.change(Change(f"new/{step}", b"", None))
        await store.mark({"used/a": Noted(0 if step == 2 else 100 + step)})
        await store.erase(STATUSES, at_ms=NOW_MS, seqs=[295 + step])
        names = [Naming([step], b"a"), Naming([step], b"b")]
        await store.count(Count(STATUSES.sdkappid, [], NOW_MS - 4 + step, names=names))
        await store.forget(accepted_before_ms=NOW_MS - 4 + step, now_ms=NOW_MS + 2000)
        if step == 2:
            await purge(store, left_before_ms=NOW_MS + 100)
            await store.append(append(Mailbox(7, 1), records(3), key=repeat_key("k")))
    await store.close()
    await move(source, target)
    assert await rows_of(source) == await rows_of(target)


@pytest.mark.anyio
@pytest.mark.parametrize("pair", ["sqlite to postgresql", "sqlite to jetstream"], indirect=True)
async def test_entries_that_a_file_has_joined_stay_as_old_as_they_are(
    source: str, target: str
) -> None:
    with joining_always():
        store = await open_store(source, server=True)
        for number in range(10):
            await store.append(append(STATUSES, records(1), NOW_MS + number))
        with contextlib.closing(apsw.Connection(str(file_of(source)))) as file:
            await until(lambda: file.execute("SELECT count(*) FROM chunk").get < 5)
        await store.close()
    await move(source, target)
    store = await open_store(target)
    for taken in range(3):
        row = await backlog_of(store, STATUSES)
        assert row is not None
        assert row.oldest_ms == NOW_MS + taken
        assert (await store.totals()).of[STATUSES.kind].oldest_ms == NOW_MS + taken
        await store.pull(pull(STATUSES, 1))
    old = Discard(STATUSES, Outcome.EXPIRED, NOW_MS + 99, NOW_MS + 6, ticket=ticket())
    assert await store.discard(old) == 3
    assert await store.discard(old) == 0
    await store.append(append(STATUSES, records(1), NOW_MS + 20))
    later = Discard(STATUSES, Outcome.EXPIRED, NOW_MS + 99, NOW_MS + 15, ticket=ticket())
    assert await store.discard(later) == 4
    await store.close()


@pytest.mark.anyio
@pytest.mark.parametrize("pair", FROM_FILES, indirect=True)
async def test_chunks_that_are_others_by_the_next_pass_are_so_at_the_target(
    source: str, target: str
) -> None:
    store = await open_store(source, server=True)
    sent = records(12)
    for number, record in enumerate(sent[:10]):
        await store.append(append(STATUSES, [record], NOW_MS + number))
    await store.pull(pull(STATUSES, 2))
    await move(source, target, switch=False)
    with joining_always():
        await store.append(append(STATUSES, sent[10:11], NOW_MS + 10))
        with contextlib.closing(apsw.Connection(str(file_of(source)))) as file:
            await until(lambda: file.execute("SELECT count(*) FROM chunk").get < 8)
        await purge(store, left_before_ms=NOW_MS + 100)
        await store.close()
    await move(source, target)
    assert await rows_of(source) == await rows_of(target)
    store = await open_store(target)
    await store.append(append(STATUSES, sent[11:], NOW_MS + 11))
    pages = [await store.pull(pull(STATUSES, 4)) for _ in range(3)]
    assert [page.first_seq for page in pages] == [3, 7, 11]
    assert b",".join(page.data for page in pages) == b",".join(sent[2:])
    await purge(store, left_before_ms=NOW_MS + 100)
    await store.close()
    assert not (await audit_store(target, lambda _done, _total: None)).findings


@settings(max_examples=50)
@given(
    before=st.dictionaries(st.integers(0, 20), st.integers(0, 2)),
    after=st.dictionaries(st.integers(0, 20), st.integers(0, 2)),
    steps=st.lists(st.integers(1, 5), min_size=1),
)
def test_differences_make_one_the_other(
    before: Mapping[int, int], after: Mapping[int, int], steps: list[int]
) -> None:
    """Whatever the steps in which both are read, and with nothing touched that is the same."""

    class Table:
        """A part of a store, in memory; a step reads what is there then."""

        def __init__(self, rows: Mapping[int, int]) -> None:
            self.rows: dict[str, Row] = {
                f"{name:02}": Mark(f"{name:02}", at_ms, "") for name, at_ms in rows.items()
            }
            self.touched: list[str] = []

        async def rows_behind(self, after: object, count: int) -> list[Row]:
            last = after[0] if isinstance(after, tuple) else ""
            return [self.rows[name] for name in sorted(self.rows) if name > last][:count]

    class End:
        def __init__(self, rows: Mapping[int, int]) -> None:
            self.table = Table(rows)
            self.calls = 0

        async def rows(self, _part: object, after: object, _mailboxes: object) -> list[Row]:
            self.calls += 1
            return await self.table.rows_behind(after, steps[self.calls % len(steps)])

        async def replace(self, _part: object, drop: list[Mark], put: list[Mark]) -> None:
            for row in drop:
                del self.table.rows[row.name]
            self.table.rows |= {row.name: row for row in put}
            self.table.touched += [row.name for row in (*drop, *put)]

    theirs, ours = End(after), End(before)
    copy = moving.Copy(theirs, ours)  # type: ignore[arg-type]
    changed = asyncio.run(copy._level(Mark, (), lambda _rows: None))
    assert ours.table.rows == theirs.table.rows
    different = {f"{n:02}" for n in before.keys() | after.keys() if before.get(n) != after.get(n)}
    assert sorted(ours.table.touched) == sorted(different)
    assert changed == len(different)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("found", "passes"),
    [
        ([10**6, 10**5, 3000, 900], 4),  # little is left
        ([10**6, 10**5, 10**5], 3),  # it grows as fast as it is copied
        ([10**6 - number for number in range(20)], moving.PASSES_MAX),
        ([0], 1),
    ],
)
async def test_it_is_copied_as_long_as_that_gains_anything(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, found: list[int], passes: int
) -> None:
    source = sqlite_url(tmp_path / "source.db")
    await made(source)
    left = iter(found)

    async def once(_copy: moving.Copy, _progress: Progress) -> int:
        return next(left)

    monkeypatch.setattr(moving.Copy, "once", once)
    moved = await move(source, sqlite_url(tmp_path / "target.db"), switch=False)
    assert moved.passes == passes


# -- only one is in use ----------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_sealed_store_does_nothing_through_any_door(source: str, target: str) -> None:
    store = await open_store(source)
    await store.append(append(STATUSES, records(2)))
    await store.close()
    failures: list[BaseException] = []
    server = await open_store(source, server=True, on_failure=failures.append)
    command = await open_store(source)
    await server.pull(pull(REPLIES))
    assert server.surely_empty(REPLIES) is is_file(source)
    refused: list[BaseException] = []

    async def try_everything() -> None:
        for verb in (
            lambda: command.append(append(STATUSES, records(1))),
            lambda: server.append(append(STATUSES, records(1))),
            lambda: server.park(parked(append(STATUSES, []), [b"bad"])),
            lambda: server.pull(pull(STATUSES)),
            lambda: server.pull(pull(REPLIES)),  # of which nothing is told from memory
            lambda: command.change(Change("x", b"", None)),
            lambda: server.mark({"a": Noted(1)}),
            lambda: server.forget(accepted_before_ms=1, now_ms=1),
            lambda: remove(server, STATUSES, 1),
            lambda: server.redeliver(redeliver(STATUSES, (1, 1))),
            lambda: server.erase(STATUSES, at_ms=1, seqs=[1]),
        ):
            with pytest.raises(StoreSealed) as error:
                await verb()
            refused.append(error.value)
        assert not server.surely_empty(REPLIES)
        assert not failures

    await sealed_meanwhile(source, target, try_everything)
    assert len(refused) == 11
    await until(lambda: bool(failures))  # the server is told, though nothing is asked of it
    assert isinstance(failures[0], StoreMovedOn)
    for door in (server, command):
        with pytest.raises(StoreUnavailable):
            await door.append(append(STATUSES, records(1)))
    assert len(await data_of(command, STATUSES)) == 2  # to read it is harmless
    with pytest.raises(StoreRefused, match="was moved to"):
        await command.check_served()
    await server.close()
    await command.close()
    with pytest.raises(StoreRefused, match="was moved to"):
        await open_store(source, server=True)
    with pytest.raises(StoreRefused):
        await open_store(source, server=True, create=False)


@pytest.mark.anyio
@pytest.mark.parametrize("planted", [False, True])
async def test_nothing_is_accepted_behind_the_last_pass(
    source: str, target: str, monkeypatch: pytest.MonkeyPatch, planted: bool
) -> None:
    """A server goes on trying. Where the seal shuts nothing, what it takes then is lost."""
    await fill(source)
    if planted:
        monkeypatch.delitem(gate.SHUT, (Role.SOURCE, Stage.SEALED))
    server = await open_store(source, server=True)
    accepted = 0

    async def audit(progress: Progress) -> AuditReport:
        """The last thing that is done before the switch."""
        nonlocal accepted
        with contextlib.suppress(StoreSealed):
            accepted += await server.append(append(STATUSES, records(1)))
        return await audit_store(target, progress)

    before = len(await data_of(server, STATUSES))
    mine = await moving_engine_of(source).open_end(source, target=False)
    theirs = await moving_engine_of(target).open_end(target, target=True)
    await moving.move(
        Ends(mine, theirs, lambda progress: audit_store(source, progress), audit),
        act=new_act("migrate"),
        phase=quiet,
        accept=accept_any,
    )
    await server.close()
    await mine.close()
    await theirs.close()
    store = await open_store(target)
    lost = before + accepted - len(await data_of(store, STATUSES))
    assert lost == accepted == planted
    await store.close()


async def sealed_meanwhile(
    source: str,
    target: str,
    work: Callable[[], Awaitable[object]],
    **how: Any,  # noqa: ANN401
) -> Moved:
    """Move a store, and do something between seal and switch."""
    real = moving._Move._finish

    async def finish(self: moving._Move) -> None:
        await work()
        await real(self)

    moving._Move._finish = finish  # type: ignore[method-assign]
    try:
        return await move(source, target, **how)
    finally:
        moving._Move._finish = real  # type: ignore[method-assign]


@pytest.mark.anyio
async def test_an_unfinished_target_is_used_by_nobody(source: str, target: str) -> None:
    """Nor by a door that was opened before."""
    early = await open_store(target)
    await made(source)
    await move(source, target, switch=False)
    for server in (True, False):
        with pytest.raises(StoreRefused, match="being filled from"):
            await open_store(target, server=server)
    with pytest.raises(StoreSealed, match="being filled"):
        await early.append(append(STATUSES, records(1)))
    await move(source, target)
    with pytest.raises(StoreSealed, match="open it anew"):
        await early.append(append(STATUSES, records(1)))
    await early.close()
    store = await open_store(target)
    await store.append(append(STATUSES, records(1)))
    await store.close()


async def made(url: str) -> None:
    await (await open_store(url)).close()


@pytest.mark.anyio
@pytest.mark.parametrize("pair", TO_FILES, indirect=True)
async def test_a_target_that_is_served_is_refused(source: str, target: str) -> None:
    await made(source)
    server = await open_store(target, server=True)
    with pytest.raises(StoreRefused, match="already serves"):
        await move(source, target)
    await server.close()
    await move(source, target)


@pytest.mark.anyio
@pytest.mark.parametrize("pair", TO_FILES, indirect=True)
async def test_two_runs_at_once_are_refused(source: str, target: str) -> None:
    await made(source)
    first = await moving_engine_of(target).open_end(target, target=True)
    with pytest.raises(StoreRefused, match="already serves"):
        await move(source, target)
    await first.close()


@pytest.mark.anyio
@pytest.mark.parametrize("what", ["entries", "setting", "mark"])
async def test_a_target_that_is_not_empty_is_refused(source: str, target: str, what: str) -> None:
    await made(source)
    store = await open_store(target)
    if what == "entries":
        await store.append(append(STATUSES, records(1)))
    elif what == "setting":
        await store.change(Change("x", b"", None))
    else:
        await store.mark({"a": Noted(1)})
    await store.close()
    with pytest.raises(StoreRefused, match="is not empty"):
        await move(source, target)
    assert await state_of(source) is None  # as ever
    store = await open_store(target)  # and so is this
    await store.close()


@pytest.mark.anyio
@pytest.mark.parametrize("pair", PAIRS[:1], indirect=True)
async def test_a_store_is_not_moved_to_itself(source: str, tmp_path: Path) -> None:
    await made(source)
    link = tmp_path / "link.db"
    link.symlink_to(tmp_path / "source.db")
    for other in (source, sqlite_url(tmp_path / "x" / ".." / "source.db"), sqlite_url(link)):
        (tmp_path / "x").mkdir(exist_ok=True)
        with pytest.raises(StoreRefused, match="the same store"):
            await move(source, other)


@pytest.mark.anyio
async def test_a_missing_source_is_refused_and_nothing_made(source: str, target: str) -> None:
    with pytest.raises(StoreRefused, match="there is no store"):
        await move(source, target)
    assert not file_of(target).exists()


@pytest.mark.anyio
async def test_an_unsound_source_is_refused_unless_it_is_named(source: str, target: str) -> None:
    store = await open_store(source)
    for mailbox in (STATUSES, OTHERS):
        await store.append(append(mailbox, records(3)))
    await store.close()
    damage(source, OTHERS)
    with pytest.raises(StoreRefused, match=f"{OTHERS}: 1 stored entries are damaged"):
        await move(source, target)
    assert await state_of(source) is None
    with pytest.raises(StoreRefused, match="damaged"):
        await move(source, target, damaged=[STATUSES])
    moved = await move(source, target, damaged=[OTHERS])
    assert moved.switched
    both = [await audit_store(url, lambda _done, _total: None) for url in (source, target)]
    assert both[0].findings == both[1].findings != []
    store = await open_store(target)
    assert [taken.count for taken in await drain(store, OTHERS)] == [2]  # what is whole leaves
    assert (await backlog_of(store, OTHERS)).quarantined == 1  # type: ignore[union-attr]
    await store.close()


@pytest.mark.anyio
async def test_what_cannot_be_told_of_the_whole_store_is_not_moved(
    source: str, target: str
) -> None:
    store = await open_store(source)
    await store.change(act=new_act())
    await store.close()
    forge_acts(source)
    with pytest.raises(StoreRefused, match="the store: act 1 is not what was recorded"):
        await move(source, target, damaged=[STATUSES])


# -- what fails, and what is undone ----------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize("how", ["fails", "is cut off"])
async def test_a_failure_opens_the_source_again(source: str, target: str, how: str) -> None:
    await fill(source)
    server = await open_store(source, server=True)

    async def end() -> None:
        with pytest.raises(StoreSealed):
            await server.append(append(STATUSES, records(1)))
        raise StoreUnavailable("no") if how == "fails" else asyncio.CancelledError

    with pytest.raises(StoreUnavailable if how == "fails" else asyncio.CancelledError):
        await sealed_meanwhile(source, target, end)
    await server.append(append(STATUSES, records(1)))
    await server.close()
    await move(source, target)  # the same one
    store = await open_store(target)
    assert [row.act.action for row in await acts_of(store)].count("migrate") == 1
    await store.close()


@pytest.mark.anyio
@pytest.mark.parametrize("killed", [False, True])
async def test_what_a_target_takes_just_before_it_is_filled_stays(
    source: str, target: str, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    """It was looked at before; also if the run that would look again is killed by then."""
    await made(source)
    server = await open_store(target, server=not is_file(target))
    check, looks = moving.check_empty, 0

    async def overtaken(*how: Any) -> None:  # noqa: ANN401
        nonlocal looks
        looks += 1
        if looks == 1:
            await check(*how)
            assert await server.append(append(STATUSES, [b"accepted"])) == 1
        elif killed:
            raise Killed
        else:
            await check(*how)

    monkeypatch.setattr(moving, "check_empty", overtaken)
    with pytest.raises(Killed if killed else StoreRefused):
        await move(source, target)
    monkeypatch.undo()
    for _ in range(2):
        with pytest.raises(StoreRefused, match="is not empty"):
            await move(source, target)
    assert await data_of(server, STATUSES) == [b"accepted"]
    assert await server.append(append(STATUSES, records(1))) == 1
    await server.close()


class Killed(BaseException):
    """The process is gone: nothing that it would do at its end is done."""


class Life:
    """Of a process: it ends with a call to an end of a migration, before or behind its effect."""

    def __init__(self, until: int | None) -> None:
        """`until`: which of these it ends at, counted from 1; None: it lives on."""
        self.calls = 0
        self._until = until

    async def call(self, work: Coroutine[Any, Any, Found]) -> Found:
        self._go_on(work)
        found = await work
        self._go_on()
        return found

    def _go_on(self, work: Coroutine[Any, Any, object] | None = None) -> None:
        self.calls += 1
        if self._until is not None and self.calls >= self._until:
            if work is not None:
                work.close()
            raise Killed


class Mortal:
    """One end of a migration in a process that is killed.

    Attributes:
        entering: the calls in which it said how it takes part.
    """

    def __init__(self, end: End, life: Life) -> None:
        self._end = end
        self._life = life
        self.name = end.name
        self.entering: list[int] = []

    async def migration(self) -> Migration | None:
        return await self._life.call(self._end.migration())

    async def enter(self, *how: Any, **more: Any) -> bool:  # noqa: ANN401 - as the end takes them
        self.entering += [self._life.calls + 1, self._life.calls + 2]
        return await self._life.call(self._end.enter(*how, **more))

    async def rows(self, *how: Any) -> Sequence[Row]:  # noqa: ANN401
        return await self._life.call(self._end.rows(*how))

    async def replace(self, *how: Any) -> None:  # noqa: ANN401
        await self._life.call(self._end.replace(*how))


class Sealing(Mortal):
    """A source that seals, and something happens before, meanwhile, or behind that."""

    def __init__(self, end: End, how: str) -> None:
        super().__init__(end, Life(None))
        self._how = how
        self.reached = asyncio.Event()
        self.goes_on = asyncio.Event()

    async def enter(self, now: Migration | None, **more: Any) -> bool:  # noqa: ANN401
        stage = None if now is None else now.stage
        if stage is Stage.SEALED:
            if self._how == "nothing is known, and nothing happened":
                raise OutcomeUnknown("no answer")
            found = await super().enter(now, **more)
            if self._how == "it fails behind its effect":
                raise StoreUnavailable("a partition is away")
        elif stage is not Stage.COPYING or "while it opens" not in self._how:
            return await super().enter(now, **more)
        else:
            found = True
        self.reached.set()
        await self.goes_on.wait()
        return found if stage is Stage.SEALED else await super().enter(now, **more)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "how",
    [
        "it fails behind its effect",
        "nothing is known, and nothing happened",
        "cancelled",
        "cancelled again while it opens",
    ],
)
async def test_whatever_ends_the_seal_the_source_is_open(
    source: str, target: str, how: str
) -> None:
    await fill(source)
    await move(source, target, switch=False)
    server = await open_store(source, server=True)
    mine = Sealing(await moving_engine_of(source).open_end(source, target=False), how)
    theirs = await moving_engine_of(target).open_end(target, target=True)
    ends: tuple[Any, Any] = mine, theirs

    def audit_of(url: str) -> Callable[[Progress], Awaitable[AuditReport]]:
        return lambda progress: audit_store(url, progress)

    moved = asyncio.ensure_future(
        moving.move(
            Ends(*ends, audit_of(source), audit_of(target)),
            act=new_act("migrate"),
            phase=quiet,
            accept=accept_any,
        )
    )
    if "cancelled" not in how:
        with pytest.raises((OutcomeUnknown, StoreUnavailable), match=r"no answer|is away"):
            await moved
    else:
        await mine.reached.wait()
        moved.cancel()
        if "again" in how:
            mine.reached.clear()
            mine.goes_on.set()
            mine.goes_on = asyncio.Event()
            await mine.reached.wait()
            moved.cancel()
            await asyncio.sleep(0)
            moved.cancel()
        mine.goes_on.set()
        with pytest.raises(asyncio.CancelledError):
            await moved
    await mine._end.close()
    await theirs.close()
    await server.append(append(STATUSES, records(1)))
    await server.close()
    assert (await move(source, target)).switched


@pytest.mark.anyio
async def test_who_cannot_open_the_source_again_says_what_to_do(source: str, target: str) -> None:
    await fill(source)

    async def lost() -> None:
        end = await moving_engine_of(source).open_end(source, target=False)
        now = await end.migration()
        assert now is not None
        away = msgspec.structs.replace(now, ticket=bytes(16))
        assert await end.enter(away, expected=now)
        await end.close()
        raise asyncio.CancelledError

    with pytest.raises(StoreUnavailable, match=r"^interrupted; .* may be sealed .* --abandon"):
        await sealed_meanwhile(source, target, lost)


@pytest.mark.anyio
async def test_a_source_that_a_kill_left_sealed_is_gone_on_with(source: str, target: str) -> None:
    await fill(source)
    await move(source, target, switch=False)
    await enter(source, Stage.SEALED)  # as the run that is gone did
    with pytest.raises(StoreRefused, match="it is sealed"):
        await open_store(source, server=True)
    assert (await move(source, target)).switched


@pytest.mark.anyio
async def test_a_sealed_source_without_its_target_is_opened_for_the_copy(
    source: str, target: str
) -> None:
    """The target is gone, and all is to be copied anew: not behind closed doors."""
    await fill(source)
    await move(source, target, switch=False)
    await enter(source, Stage.SEALED)
    await lost(target)
    moved = await move(source, target, switch=False)
    assert not moved.switched
    server = await open_store(source, server=True)
    await server.append(append(STATUSES, records(1)))
    await server.close()


@pytest.mark.anyio
async def test_a_run_that_ended_between_both_switches_is_gone_on_with(
    source: str, target: str
) -> None:
    await fill(source)
    await move(source, target, switch=False)
    await enter(source, Stage.SEALED)
    await enter(source, Stage.MOVED)
    for url in (source, target):
        with pytest.raises(StoreRefused):
            await open_store(url, server=True)
    assert (await move(source, target)).switched
    await (await open_store(target, server=True)).close()
    done = await move(source, target)
    assert (done.switched, done.passes) == (True, 0)


async def lost(url: str) -> None:
    """Have an empty store where there was another one."""
    with contextlib.suppress(psycopg.errors.InvalidSchemaName):
        lose(url)
    if not is_file(url):
        await init_store(url)


async def enter(url: str, stage: Stage) -> None:
    """Say what a run would have said."""
    end = await moving_engine_of(url).open_end(url, target=False)
    now = await end.migration()
    assert now is not None
    assert await end.enter(msgspec.structs.replace(now, stage=stage), expected=now)
    await end.close()


@pytest.mark.anyio
async def test_two_that_never_become_the_same_are_told(
    source: str, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A target that does not take what it is given; the source is as ever then."""
    await fill(source)

    async def forgetful(*_rows: object) -> None:
        """Puts nothing."""

    for engine in ("sqlite.SqliteStore", "postgresql.PostgresStore", "jetstream.JetStreamStore"):
        monkeypatch.setattr(f"pullstatus.store.{engine}.replace", forgetful)
    monkeypatch.setattr(moving, "LITTLE", 1 << 30)
    with pytest.raises(StoreRefused, match="does not become what"):
        await move(source, target)
    monkeypatch.undo()
    await (await open_store(source, server=True)).close()


@pytest.mark.anyio
@pytest.mark.parametrize("stage", [Stage.COPYING, Stage.SEALED, Stage.MOVED, Stage.READY])
async def test_a_migration_is_abandoned_until_the_target_is_in_use(
    source: str, target: str, stage: Stage
) -> None:
    await fill(source)
    if stage is Stage.READY:
        await move(source, target)
    else:
        await move(source, target, switch=False)
        if stage is not Stage.COPYING:
            await enter(source, stage)
    act = new_act("migrate abandon")
    await abandon_move(source, target, act=act)
    assert await state_of(source) is None
    server = await open_store(source, server=True)
    await server.append(append(STATUSES, records(1)))
    assert [row.act.ticket for row in await acts_of(server)][-1] == act.ticket
    await server.close()
    with pytest.raises(StoreRefused, match="abandoned migration"):
        await open_store(target)
    with pytest.raises(StoreRefused, match="abandoned migration"):
        await move(source, target)
    with pytest.raises(StoreRefused, match="not being moved"):
        await abandon_move(source, target, act=act)


@pytest.mark.anyio
async def test_what_is_in_use_is_not_abandoned(source: str, target: str) -> None:
    await fill(source)
    await move(source, target)
    store = await open_store(target)
    await store.append(append(STATUSES, records(1)))
    await store.close()
    with pytest.raises(StoreRefused, match="has been in use since"):
        await abandon_move(source, target, act=new_act())
    with pytest.raises(StoreRefused):
        await open_store(source, server=True)


@pytest.mark.anyio
@pytest.mark.parametrize("stage", [Stage.COPYING, Stage.MOVED])
async def test_a_target_that_is_lost(source: str, target: str, stage: Stage) -> None:
    """It was in use by nobody as long as the source was not handed over."""
    await fill(source)
    await move(source, target, switch=False)
    if stage is Stage.MOVED:
        await enter(source, Stage.MOVED)
    lose(target)
    if stage is Stage.MOVED:
        with pytest.raises(StoreRefused, match="may be in use"):
            await abandon_move(source, target, act=new_act())
        await lost(target)
        with pytest.raises(StoreRefused, match="bring back the store"):
            await move(source, target)
    else:
        await abandon_move(source, target, act=new_act())
        assert not await moving_engine_of(target).holds_store(target)
        await (await open_store(source, server=True)).close()


GONE = [
    "postgresql://me@127.0.0.1:1/gone?sslmode=disable",
    "jetstream://127.0.0.1:1/gone?monitor=127.0.0.1:1",
]


@pytest.mark.anyio
@pytest.mark.parametrize("stage", [Stage.COPYING, Stage.SEALED, Stage.MOVED])
@pytest.mark.parametrize("pair", ["sqlite to jetstream", "postgresql to sqlite"], indirect=True)
@pytest.mark.parametrize("gone", GONE)
async def test_what_cannot_be_reached_is_abandoned_before_the_source_is_handed_over(
    source: str, target: str, stage: Stage, gone: str
) -> None:
    await fill(source)
    await move(source, target, switch=False)
    if stage is not Stage.COPYING:
        await enter(source, stage)
    said: list[str] = []
    if stage is Stage.MOVED:
        with pytest.raises(StoreRefused, match=r"cannot be used|does not answer"):
            await abandon_move(source, gone, act=new_act(), say=said.append)
        assert said == []
        return
    await abandon_move(source, gone, act=new_act(), say=said.append)
    assert len(said) == 1
    assert "nobody can have used" in said[0]
    server = await open_store(source, server=True)
    await server.append(append(STATUSES, records(1)))
    await server.close()
    with pytest.raises(StoreRefused, match="being filled"):
        await open_store(target, server=True)
    with pytest.raises(StoreRefused, match="name a new store"):
        await move(source, target)


async def another(places: Places) -> str:
    """One more store to be filled."""
    return await asyncio.to_thread(places.new, "another")


@pytest.mark.anyio
async def test_another_target_is_refused_while_one_is_filled(
    source: str, target: str, pair: Pair
) -> None:
    await fill(source)
    await move(source, target, switch=False)
    other = await another(pair.source)
    with pytest.raises(StoreRefused, match="is being moved to"):
        await move(source, other)
    await abandon_move(source, target, act=new_act())
    assert (await move(source, other)).switched


@pytest.mark.anyio
@pytest.mark.parametrize("pair", TO_FILES[:1], indirect=True)
@pytest.mark.parametrize("switch", [False, True])
async def test_no_file_is_made_for_another_target(
    source: str, target: str, pair: Pair, switch: bool
) -> None:
    """It would pass for a store. The target itself may be made anew, if it may be filled anew."""
    await fill(source)
    await move(source, target, switch=switch)
    other = await another(pair.target)
    with pytest.raises(StoreRefused, match="is being moved to"):
        await move(source, other)
    assert not file_of(other).exists()
    for file in file_of(target).parent.glob(f"{file_of(target).name}*"):
        file.unlink()
    if switch:
        with pytest.raises(StoreRefused, match="was handed over to"):
            await move(source, target)
        assert not file_of(target).exists()
    else:
        assert (await move(source, target)).switched


@pytest.mark.anyio
@pytest.mark.parametrize("pair", PAIRS, indirect=True)
async def test_back_again(source: str, target: str, pair: Pair) -> None:
    """What was moved is moved on, to a new store; the first one is never filled again."""
    await fill(source)
    await move(source, target)
    with pytest.raises(StoreRefused):
        await move(target, source)
    home = await another(pair.source)
    await move(target, home)
    assert await rows_of(home) == await rows_of(target)
    with pytest.raises(StoreRefused):  # which has been moved on
        await abandon_move(source, target, act=new_act())
    store = await open_store(home)
    assert [row.act.action for row in await acts_of(store)].count("migrate") == 2
    await store.close()


@pytest.mark.anyio
@pytest.mark.parametrize("pair", PAIRS[:1], indirect=True)
async def test_a_backup_of_a_store_that_is_moved_is_restored_as_any(
    source: str, target: str, tmp_path: Path
) -> None:
    await fill(source)
    await move(source, target, switch=False)
    await enter(source, Stage.SEALED)
    await backup_store(source, tmp_path / "backup.db", lambda _done, _total: None)
    home = sqlite_url(tmp_path / "home.db")
    await restore_store(
        home, tmp_path / "backup.db", act=new_act("restore"), progress=lambda _done, _total: None
    )
    store = await open_store(home, server=True)
    await store.append(append(STATUSES, records(1)))
    await store.close()
    with pytest.raises(StoreRefused, match="being filled"):
        await backup_store(target, tmp_path / "half.db", lambda _done, _total: None)
    half = tmp_path / "target.db"  # as somebody else's copy of it
    with pytest.raises(StoreRefused, match="not filled to its end"):
        await restore_store(
            sqlite_url(tmp_path / "x.db"),
            half,
            act=new_act("restore"),
            progress=lambda _done, _total: None,
        )


async def live_until(source: str, target: str, call: int | None = None) -> list[int]:
    """Move a store until a call; returns the calls in which an end said how it takes part."""
    life = Life(call)
    mine = await moving_engine_of(source).open_end(source, target=False)
    theirs = await moving_engine_of(target).open_end(target, target=True)
    ends = Mortal(mine, life), Mortal(theirs, life)

    def audit_of(url: str) -> Callable[[Progress], Awaitable[AuditReport]]:
        return lambda progress: audit_store(url, progress)

    with contextlib.suppress(Killed):
        await moving.move(
            Ends(*ends, audit_of(source), audit_of(target)),
            act=new_act("migrate"),
            phase=quiet,
            accept=accept_any,
        )
    await mine.close()
    await theirs.close()
    return [call for end in ends for call in end.entering]


async def in_use(*urls: str) -> list[str]:
    """Which of these a server takes that find what was moved there."""
    found = []
    for url in urls:
        with contextlib.suppress(StoreRefused):
            store = await open_store(url, server=True, create=False)
            if await store.backlog():
                found.append(url)
            await store.close()
    return found


@pytest.mark.anyio
@pytest.mark.parametrize("pair", PAIRS, indirect=True)
async def test_killed_at_any_call_it_is_gone_on_with(pair: Pair) -> None:
    """Whatever was said by then, at most one of both is ever in use."""
    source = await asyncio.to_thread(pair.source.new, "source")
    target = await asyncio.to_thread(pair.target.new, "target")
    await fill(source)
    telling = await live_until(source, target)
    assert len(telling) == 2 * 6  # the target says twice that it is filled: it is looked at between
    seen = set()
    for number, call in enumerate(sorted(telling)):
        one = await asyncio.to_thread(pair.source.new, f"source-{number}")
        other = await asyncio.to_thread(pair.target.new, f"target-{number}")
        await fill(one)
        await live_until(one, other, call)
        used = await in_use(one, other)
        seen.add((one in used, other in used))
        assert len(used) < 2
        if number % 3 == 1 and used != [other]:
            await abandon_move(one, other, act=new_act("migrate abandon"))
            assert await in_use(one, other) == [one]
        else:
            assert (await move(one, other)).switched
            assert await in_use(one, other) == [other]
            assert await rows_of(one) == await rows_of(other)
    assert seen == {(True, False), (False, False), (False, True)}


# -- where it stands -------------------------------------------------------------------------------


def says(role: Role, stage: Stage, peer: str, number: int = 1) -> Migration:
    return Migration(bytes([number] * 16), role, stage, peer)


S, T = Role.SOURCE, Role.TARGET


@pytest.mark.parametrize(
    ("mine", "theirs", "expected"),
    [
        (None, None, Step.BEGIN),
        (says(T, Stage.TAKEN, "z"), None, Step.BEGIN),
        (says(T, Stage.READY, "z"), None, Step.BEGIN),
        (says(S, Stage.COPYING, "b"), None, Step.FILL),
        (says(S, Stage.SEALED, "b"), None, Step.FILL),
        (says(S, Stage.COPYING, "b"), says(T, Stage.COPYING, "a"), Step.GO_ON),
        (says(S, Stage.SEALED, "b"), says(T, Stage.COPYING, "a"), Step.GO_ON),
        (says(S, Stage.MOVED, "b"), says(T, Stage.COPYING, "a"), Step.GO_ON),
        (says(S, Stage.MOVED, "b"), says(T, Stage.READY, "a"), Step.DONE),
        (says(S, Stage.MOVED, "b"), says(T, Stage.TAKEN, "a"), Step.DONE),
        # The store at the target's address was moved there from another name of the same.
        (says(S, Stage.COPYING, "elsewhere"), says(T, Stage.COPYING, "a"), Step.GO_ON),
        (says(S, Stage.COPYING, "c"), None, "being moved to c"),
        (says(S, Stage.MOVED, "b"), None, "bring back"),
        (says(S, Stage.COPYING, "b"), says(T, Stage.COPYING, "a", 2), "is or was filled from a"),
        (says(S, Stage.COPYING, "b"), says(S, Stage.COPYING, "a"), "is being moved to a"),
        (says(S, Stage.COPYING, "b"), says(T, Stage.ABANDONED, "a"), "abandoned"),
        (None, says(T, Stage.ABANDONED, "a"), "abandoned"),
        (None, says(T, Stage.COPYING, "a"), "is or was filled from a"),
        (None, says(T, Stage.TAKEN, "a"), "is or was filled from a"),
        (None, says(S, Stage.MOVED, "c"), "is being moved to c, or was"),
        (says(T, Stage.COPYING, "z"), None, "not filled to its end"),
        (says(T, Stage.ABANDONED, "z"), None, "not filled to its end"),
    ],
)
def test_next_step(mine: Migration | None, theirs: Migration | None, expected: Step | str) -> None:
    if isinstance(expected, Step):
        assert next_step(mine, theirs, "a", "b") is expected
    else:
        with pytest.raises(StoreRefused, match=expected):
            next_step(mine, theirs, "a", "b")
