"""What a long request comes to is made bit by bit: between two of them others have their turn."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import cast

import pytest

from pullstatus.apps import Application, LiveApplication
from pullstatus.mailbox import parking
from pullstatus.mailbox.statistics import count_sends
from pullstatus.receipts import Receipts, Unread
from pullstatus.receipts.request import Request
from pullstatus.receipts.sends import Registered, Sends
from pullstatus.records import Kind
from pullstatus.store import NO_TICKET, Store

NOW_MS = 1_800_000_000_000
LIVE = LiveApplication(Application(7, (), 0), 1)


class Reached(Exception):
    """The store is asked: all is made."""


class Nothing:
    """A store that is only asked."""

    async def park(self, *_: object) -> None:
        raise Reached

    async def count(self, *_: object) -> None:
        raise Reached


STORE = cast("Store", Nothing())


def parks() -> Awaitable[object]:
    return parking.park(
        STORE,
        LIVE,
        Receipts(Kind.REPLY, [], unread=tuple(Unread(b"%d" % at, "no") for at in range(5000))),
        form="native",
        request=Request("POST", b"", "", b"", NOW_MS // 1000),
        address="192.0.2.1",
        sender="token",
        now_ms=NOW_MS,
        ticket=NO_TICKET,
    )


def counts() -> Awaitable[object]:
    names = [Registered("s", (str(at),)) for at in range(5000)]
    sends = Sends(len(names), {}, names)
    return count_sends(STORE, LIVE, sends, sender="s", now_ms=NOW_MS, ticket=NO_TICKET)


@pytest.mark.parametrize("begin", [parks, counts])
def test_others_have_their_turn_while_a_long_request_is_made_ready(
    begin: Callable[[], Awaitable[object]],
) -> None:
    async def play() -> int:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        beside = asyncio.create_task(other())
        with contextlib.suppress(Reached):
            await begin()
        beside.cancel()
        return turns

    assert asyncio.run(play()) >= 8
