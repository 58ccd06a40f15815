"""A store becomes another: all of it, whatever ends a run, and only one of them is ever in use."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pullstatus.errors import (
    KeyReused,
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
    Discard,
    Mailbox,
    Noted,
    Outcome,
    Pull,
    Reader,
    audit_store,
    backup_store,
    open_store,
    restore_store,
)
from pullstatus.store import migration as moving
from pullstatus.store.engines import moving_engine_of
from pullstatus.store.migration import (
    Ends,
    Moved,
    Step,
    abandon_move,
    move_store,
    next_step,
)
from pullstatus.store.sqlite import gate
from pullstatus.store.transfer import (
    OF_MAILBOXES,
    OF_THE_STORE,
    REMEMBERED,
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
    records,
    redeliver,
    repeat_key,
    ticket,
    until,
)
from tests.store.engines import sqlite_url

PARTS = (*OF_THE_STORE, *OF_MAILBOXES, *REMEMBERED)


@pytest.fixture
def source(tmp_path: Path) -> str:
    return sqlite_url(tmp_path / "source.db")


@pytest.fixture
def target(tmp_path: Path) -> str:
    return sqlite_url(tmp_path / "target.db")


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


def damage(url: str, mailbox: Mailbox) -> None:
    """Change the last byte of the newest chunk of a mailbox, behind the store's back."""
    path = url.removeprefix("sqlite:///").partition("?")[0]
    with contextlib.closing(apsw.Connection(path)) as connection:
        [(key, body)] = connection.execute(
            "SELECT key, body FROM chunk JOIN mailbox ON key >> 40 = id"
            " WHERE (sdkappid, kind) = (?, ?) ORDER BY key DESC LIMIT 1",
            (mailbox.sdkappid, int(mailbox.kind)),
        )
        connection.execute("UPDATE chunk SET body = ? WHERE key = ?", (body[:-1] + b"?", key))


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
    await store.purge(left_before_ms=NOW_MS + 1, sdkappid=STATUSES.sdkappid)  # keeps what is held
    await store.append(append(STATUSES, records(120), NOW_MS + 5))
    taken = await store.pull(pull(STATUSES, 7, NOW_MS + 6))
    await store.close()
    damage(url, OTHERS)
    store = await open_store(url)
    assert await store.pull(pull(OTHERS)) == EMPTY  # it is set aside
    await store.append(append(OTHERS, records(1)))
    await store.redeliver(redeliver(STATUSES, (taken.first_seq, 5)))
    await store.close()


@pytest.mark.anyio
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


def moving_part(name: str) -> type:
    return next(part for part in PARTS if part.__name__ == name)


@pytest.mark.anyio
async def test_what_came_before_is_known_at_the_target(source: str, target: str) -> None:
    store = await open_store(source)
    await store.append(append(STATUSES, records(10), key=repeat_key("batch")))
    await store.append(fingerprinted(REPLIES, records(2), [1, 2], NOW_MS))
    keyed = await store.pull(pull(STATUSES, 3, key="page"))
    used = once(STATUSES, "nonce", NOW_MS + 1000)
    await store.pull(used)
    read = Pull(STATUSES, 2, NOW_MS, reader=Reader("r"), ticket=ticket())
    held = await store.pull(read)
    changed = await store.change(Change("x", b"1", None))
    await store.close()
    await move(source, target)

    store = await open_store(target)
    assert changed
    assert await store.append(append(STATUSES, records(10), key=repeat_key("batch"))) == 10
    with pytest.raises(KeyReused):
        await store.append(append(STATUSES, records(1), key=repeat_key("batch", b"other")))
    assert await store.append(fingerprinted(REPLIES, records(3), [1, 2, 3], NOW_MS)) == 3
    rows = {row.mailbox: row for row in await store.backlog()}
    assert (rows[STATUSES].accepted, rows[REPLIES].accepted) == (10, 3)
    again = await store.pull(pull(STATUSES, 3, key="page"))
    assert (again.data, again.first_seq, again.repeated) == (keyed.data, 1, True)
    with pytest.raises(ReplayRefused):
        await store.pull(used)
    again = await store.pull(msgspec.structs.replace(read, ticket=ticket()))
    assert (again.data, again.given) == (held.data, 2)
    assert (await store.setting("x")).revision == 1  # type: ignore[union-attr]
    assert [page.first_seq for page in await drain(store, STATUSES)] == [7]
    await store.forget(accepted_before_ms=NOW_MS + 1, now_ms=NOW_MS + 1)  # by order of acceptance
    await store.append(fingerprinted(REPLIES, records(1), [1], NOW_MS))
    assert (await backlog_of(store, REPLIES)).accepted == 4  # type: ignore[union-attr]
    await store.close()
    assert not (await audit_store(target, lambda _done, _total: None)).findings


@pytest.mark.anyio
async def test_what_changes_while_it_is_copied_is_there(source: str, target: str) -> None:
    """The server of the source goes on: entries, hands, settings, erasing, removal."""
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
        await store.forget(accepted_before_ms=NOW_MS, now_ms=NOW_MS + 2000)
        if step == 2:
            await store.purge(left_before_ms=NOW_MS + 100)
            await store.append(append(Mailbox(7, 1), records(3), key=repeat_key("k")))
    await store.close()
    await move(source, target)
    assert await rows_of(source) == await rows_of(target)


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
    assert server.surely_empty(REPLIES)
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
            lambda: server.redeliver(redeliver(STATUSES, (1, 1))),
            lambda: server.erase(STATUSES, at_ms=1, seqs=[1]),
        ):
            with pytest.raises(StoreSealed) as error:
                await verb()
            refused.append(error.value)
        assert not server.surely_empty(REPLIES)
        assert not failures

    await sealed_meanwhile(source, target, try_everything)
    assert len(refused) == 10
    await until(lambda: bool(failures))  # the server is told, though nothing is asked of it
    assert isinstance(failures[0], StoreMovedOn)
    for door in (server, command):
        with pytest.raises(StoreUnavailable):
            await door.append(append(STATUSES, records(1)))
    assert len(await data_of(command, STATUSES)) == 2  # to read it is harmless
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
        monkeypatch.delitem(gate._SHUT, (Role.SOURCE, Stage.SEALED))
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
async def test_a_target_that_is_served_is_refused(source: str, target: str) -> None:
    await made(source)
    server = await open_store(target, server=True)
    with pytest.raises(StoreRefused, match="already serves"):
        await move(source, target)
    await server.close()
    await move(source, target)


@pytest.mark.anyio
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
async def test_a_store_is_not_moved_to_itself(source: str, tmp_path: Path) -> None:
    await made(source)
    link = tmp_path / "link.db"
    link.symlink_to(tmp_path / "source.db")
    for other in (source, sqlite_url(tmp_path / "x" / ".." / "source.db"), sqlite_url(link)):
        (tmp_path / "x").mkdir(exist_ok=True)
        with pytest.raises(StoreRefused, match="the same store"):
            await move(source, other)


@pytest.mark.anyio
async def test_a_missing_source_is_refused_and_nothing_made(
    source: str, target: str, tmp_path: Path
) -> None:
    with pytest.raises(StoreRefused, match="there is no store"):
        await move(source, target)
    assert not (tmp_path / "target.db").exists()


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
    path = source.removeprefix("sqlite:///").partition("?")[0]
    with contextlib.closing(apsw.Connection(path)) as connection:
        connection.execute("UPDATE act SET actor = 'somebody else'")
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
async def test_a_source_that_a_kill_left_sealed_is_gone_on_with(source: str, target: str) -> None:
    await fill(source)
    await move(source, target, switch=False)
    await enter(source, Stage.SEALED)  # as the run that is gone did
    with pytest.raises(StoreRefused, match="it is sealed"):
        await open_store(source, server=True)
    assert (await move(source, target)).switched


@pytest.mark.anyio
async def test_a_sealed_source_without_its_target_is_opened_for_the_copy(
    source: str, target: str, tmp_path: Path
) -> None:
    """The target is gone, and all is to be copied anew: not behind closed doors."""
    await fill(source)
    await move(source, target, switch=False)
    await enter(source, Stage.SEALED)
    lose(tmp_path)
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


def lose(folder: Path) -> None:
    """Remove the target."""
    for file in folder.glob("target.db*"):
        file.unlink()


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

    monkeypatch.setattr("pullstatus.store.sqlite.SqliteStore.replace", forgetful)
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
async def test_a_target_that_is_lost(
    source: str, target: str, stage: Stage, tmp_path: Path
) -> None:
    """It was in use by nobody as long as the source was not handed over."""
    await fill(source)
    await move(source, target, switch=False)
    if stage is Stage.MOVED:
        await enter(source, Stage.MOVED)
    lose(tmp_path)
    if stage is Stage.MOVED:
        with pytest.raises(StoreRefused, match="may be in use"):
            await abandon_move(source, target, act=new_act())
        with pytest.raises(StoreRefused, match="bring back the store"):
            await move(source, target)
    else:
        await abandon_move(source, target, act=new_act())
        assert not (tmp_path / "target.db").exists()
        await (await open_store(source, server=True)).close()


@pytest.mark.anyio
async def test_another_target_is_refused_while_one_is_filled(
    source: str, target: str, tmp_path: Path
) -> None:
    await fill(source)
    await move(source, target, switch=False)
    other = sqlite_url(tmp_path / "other.db")
    with pytest.raises(StoreRefused, match="is being moved to"):
        await move(source, other)
    await abandon_move(source, target, act=new_act())
    assert (await move(source, other)).switched


@pytest.mark.anyio
async def test_back_again(source: str, target: str, tmp_path: Path) -> None:
    """What was moved is moved on, to a new store; the first one is never filled again."""
    await fill(source)
    await move(source, target)
    with pytest.raises(StoreRefused):
        await move(target, source)
    home = sqlite_url(tmp_path / "home.db")
    await move(target, home)
    assert await rows_of(home) == await rows_of(target)
    with pytest.raises(StoreRefused):  # which has been moved on
        await abandon_move(source, target, act=new_act())
    store = await open_store(home)
    assert [row.act.action for row in await acts_of(store)].count("migrate") == 2
    await store.close()


@pytest.mark.anyio
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
