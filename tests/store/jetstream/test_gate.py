"""Whoever shuts a store shuts it for everybody: for lanes that know nothing of it, too."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from pullstatus.errors import OutcomeUnknown, StoreRefused, StoreSealed, StoreUnavailable
from pullstatus.store import Change
from pullstatus.store.gathering.operations import Changes, Enter, Operation, Replace
from pullstatus.store.transfer import Mark, Migration, Role, Stage, Standing
from tests.store.build import OTHERS, STATUSES, append, pull, records
from tests.store.jetstream import scheme
from tests.store.jetstream.lanes import LAYOUT, Process, cluster
from tests.store.jetstream.memory import MemoryBus

SEALED = Migration(bytes(16), Role.SOURCE, Stage.SEALED, "peer")
STANDING = Standing(STATUSES, *(0,) * 9)
COPYING = Migration(bytes(16), Role.TARGET, Stage.COPYING, "peer")


@pytest.fixture
def bus() -> MemoryBus:
    return cluster()


@pytest.fixture
def one(bus: MemoryBus) -> Process:
    return Process(bus)


@pytest.fixture
def other(bus: MemoryBus) -> Process:
    return Process(bus)


def enter(process: Process, now: Migration | None, before: Migration | None = None) -> bool:
    [answer] = process.settings.commit([Enter(now, before)])
    assert isinstance(answer, bool)
    return answer


def said(process: Process, operation: Operation) -> object:
    """What is answered, or raised."""
    try:
        return process.do(operation)
    except StoreSealed as error:
        return error


WRITES: list[Callable[[], Operation]] = [
    lambda: append(STATUSES, records(1)),
    lambda: append(OTHERS, records(1)),  # the first of its application
    lambda: pull(STATUSES),
    lambda: pull(OTHERS),
]


@pytest.mark.parametrize("write", WRITES)
def test_who_has_heard_of_nothing_is_refused(
    one: Process, other: Process, write: Callable[[], Operation]
) -> None:
    other.do(append(STATUSES, records(1)))
    assert enter(one, SEALED)
    assert isinstance(said(other, write()), StoreSealed)
    assert enter(one, None, SEALED)
    assert other.do(append(STATUSES, records(1))) == 1


def test_what_is_said_by_half_is_no_refusal(
    bus: MemoryBus, one: Process, other: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    other.do(append(STATUSES, records(1)))

    def fails(_number: int) -> None:
        raise StoreUnavailable("no node leads the stream")

    monkeypatch.setattr(one.gate, "_fence", fails)
    with pytest.raises(OutcomeUnknown, match="no node leads"):
        enter(one, SEALED)
    other.gate.settle()
    assert other.gate.found == SEALED
    assert isinstance(said(other, append(STATUSES, records(1))), StoreSealed)


def test_an_answer_that_was_overtaken_opens_nothing(
    bus: MemoryBus, one: Process, other: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another lane has learned meanwhile that it is shut."""
    before = other.gate._told()
    assert enter(one, SEALED)
    other.gate.look()
    monkeypatch.setattr(other.gate, "_told", lambda: before)
    assert isinstance(other.gate.admit(0), StoreSealed)


def test_settings_are_refused_and_make_no_way_for_anybody(one: Process, other: Process) -> None:
    """A setting's fence may be the first commit of its application."""
    name = f"application/{OTHERS.sdkappid}"
    assert enter(one, SEALED)
    [answer] = other.settings.commit([Changes((Change(name, b"1", None),))])
    assert isinstance(answer, StoreSealed)
    assert isinstance(said(other, append(OTHERS, records(1))), StoreSealed)


def test_a_fence_that_is_overtaken_by_a_seal_is_no_way_past_it(
    bus: MemoryBus, one: Process, other: Process
) -> None:
    """It was found open, and the first commit of its application comes behind the seal."""
    name = f"application/{OTHERS.sdkappid}"
    seals = iter([lambda: enter(one, SEALED)])

    def overtake(stream: str) -> None:
        if stream == LAYOUT.stream(0):
            bus.overtake = lambda _stream: None
            next(seals, lambda: True)()

    bus.overtake = overtake
    [answer] = other.settings.commit([Changes((Change(name, b"1", None),))])
    assert isinstance(answer, StoreSealed)
    third = Process(bus)
    assert isinstance(said(third, append(OTHERS, records(1))), StoreSealed)


@pytest.mark.parametrize("place", range(6))
def test_killed_while_it_shuts_it_is_shut_by_who_looks_next(
    bus: MemoryBus, one: Process, other: Process, place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    other.do(append(STATUSES, records(1)))
    writes = 0

    def killed(_stream: str) -> None:
        nonlocal writes
        writes += 1
        if writes > place:
            raise KeyboardInterrupt

    bus.overtake = killed
    with contextlib.suppress(KeyboardInterrupt):
        enter(one, SEALED)
    bus.overtake = lambda _stream: None
    third = Process(bus)
    third.gate.settle()
    if third.gate.found is None:
        assert other.do(append(STATUSES, records(1))) == 1
    else:
        assert isinstance(said(other, append(STATUSES, records(1))), StoreSealed)


def test_the_first_commit_says_that_the_store_is_in_use(one: Process, other: Process) -> None:
    ready = msgspec.structs.replace(COPYING, stage=Stage.READY)
    assert enter(one, COPYING)
    assert isinstance(said(other, append(STATUSES, records(1))), StoreSealed)
    assert not enter(other, ready, COPYING)  # which it has not filled
    assert enter(one, ready, COPYING)
    assert isinstance(said(other, append(STATUSES, records(1))), StoreSealed)  # opened before
    third = Process(one.bus)
    assert third.do(append(STATUSES, records(1))) == 1
    one.gate.look()
    assert one.gate.found == msgspec.structs.replace(COPYING, stage=Stage.TAKEN)
    assert not enter(one, msgspec.structs.replace(COPYING, stage=Stage.ABANDONED), ready)


@pytest.mark.anyio
async def test_a_store_is_filled_by_who_has_said_so_last(tmp_path: Path) -> None:
    with scheme.cluster(tmp_path) as url:
        await scheme.init(url, partitions=None)
        one, other = [await scheme.open_end(url, target=True) for _ in range(2)]
        with pytest.raises(StoreRefused, match="not being filled"):
            await one.replace(Mark, [], [Mark("a", 1, "")])
        assert await one.enter(COPYING, expected=None)
        await one.replace(Mark, [], [Mark("a", 1, "")])
        assert await other.enter(COPYING, expected=COPYING)
        with pytest.raises(StoreSealed, match="another run"):  # even if it has not looked
            one._filling.replace(Replace(Mark, [], [Mark("b", 1, "")]))
        with pytest.raises(StoreSealed, match="another run"):
            one._filling.replace(Replace(Standing, [], [STANDING]))
        with pytest.raises(StoreRefused, match="another run"):
            await one.replace(Mark, [], [Mark("b", 1, "")])
        await other.replace(Mark, [], [Mark("c", 1, "")])
        assert [row.name for row in await other.rows(Mark)] == ["a", "c"]  # type: ignore[union-attr]
        for end in (one, other):
            await end.close()
