"""What was changed of settings, and parts of them: what is read for that. No node is asked.

Each of these tests was seen to fail with the rule broken that it is about.
"""

from __future__ import annotations

import asyncio
from itertools import islice

import pytest

from pullstatus.store.gathering.operations import Changes
from pullstatus.store.jetstream.lists import Lists
from pullstatus.store.jetstream.wire import Message
from pullstatus.store.values import Change
from tests.store.build import new_act
from tests.store.jetstream.lanes import COMMON, LAYOUT, Process, cluster
from tests.store.jetstream.memory import MemoryBus

COUNT = 300


@pytest.fixture
def bus() -> MemoryBus:
    return cluster()


@pytest.fixture
def one(bus: MemoryBus) -> Process:
    """Has made settings."""
    process = Process(bus)
    changes = tuple(Change(f"token/{number}", b"0", None) for number in range(COUNT))
    assert process.settings.commit([Changes(changes)]) == [True]
    return process


@pytest.fixture
def lists(bus: MemoryBus) -> Lists:
    return Lists(bus, LAYOUT)


def read(bus: MemoryBus) -> list[str]:
    """Will have the subjects of settings that are told from now on."""
    found: list[str] = []

    def has(stream: str, message: Message, _leader: bool) -> Message:
        if stream == COMMON and message.subject.startswith(LAYOUT.common.setting("")):
            found.append(message.subject)
        return message

    bus.has = has
    return found


def named(lists: Lists, prefix: str) -> list[str]:
    async def names() -> list[str]:
        return [setting.name async for setting in lists.named(prefix, 0)]

    return asyncio.run(names())


@pytest.mark.parametrize("looked", [True, False])
def test_the_first_change_alone_is_read(
    bus: MemoryBus, one: Process, lists: Lists, looked: bool
) -> None:
    """However many settings there are: behind what a store was opened with, or was looked at."""
    if looked:
        assert not list(lists.setting_rows(COUNT))
    else:
        assert lists.revision() == COUNT
    for revision in (COUNT + 1, COUNT + 2):
        one.change("token/7", b"%d" % revision)
        told = read(bus)
        assert [row.revision for row in lists.setting_rows(revision - 1)] == [revision]
        assert told == [LAYOUT.common.setting("token/7")]


def test_no_change_is_passed_over(bus: MemoryBus, one: Process, lists: Lists) -> None:
    """Whoever stops in between gets the rest, whatever else is asked meanwhile, and by whom."""
    assert lists.revision() == COUNT
    for number in (1, 2, 3):
        one.change(f"token/{number}", b"1")
    [first] = islice(lists.setting_rows(COUNT), 1)
    assert not list(lists.setting_rows(COUNT + 3))
    assert one.settings.commit([Changes((), new_act("x"))]) == [True]
    assert len(list(lists.act_rows())) == 1
    assert [row.name for row in lists.setting_rows(first.revision)] == ["token/2", "token/3"]
    assert len(list(lists.setting_rows())) == COUNT


def test_all_settings_are_listed_once_for_all_their_parts(
    bus: MemoryBus, one: Process, lists: Lists
) -> None:
    """No node lists a part. What was made since is found, and no list is kept for long."""
    one.change("source/a", b"1")
    bus.asked.clear()
    assert named(lists, "source/") == ["source/a"]
    assert len(named(lists, "token/")) == COUNT
    assert named(lists, "routing") == []
    assert bus.asked.count("subjects") == 1
    one.change("source/b", b"1")
    assert named(lists, "source/") == ["source/a", "source/b"]
    assert not list(lists.setting_rows(COUNT + 2))
    assert lists._names is None
