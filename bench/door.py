"""A process with a door of its own to a store, which does as told: `python -m bench.door URL`.

Each line that it reads is a `Work`, and is answered with a `Done`, both as JSON.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Literal

import msgspec

from bench.records import record
from pullstatus.records import Kind
from pullstatus.store import Append, Mailbox, Pull, Store, open_store

FIRST = 1_400_000_001
Verb = Literal["append", "pull"]


class Work(msgspec.Struct, frozen=True):
    """What callers do, each again and again.

    Attributes:
        mailboxes: so many, one after the other, the first one first.
        share, shares: of these every so many-th, from which on; as a load balancer does that
            chooses a server by application.
        count: entries of an append, or at most of a page.
        callers: how many do it at once.
        most: how often it is done at most, by all of them.
    """

    verb: Verb
    mailboxes: int
    count: int
    callers: int
    seconds: float
    share: int = 0
    shares: int = 1
    most: int = sys.maxsize


class Done(msgspec.Struct, frozen=True):
    """What came of it.

    Attributes:
        times_s: of each that was answered.
        empty: pages without an entry among them.
    """

    seconds: float
    times_s: list[float]
    empty: int


async def do(store: Store, work: Work) -> Done:
    """Do it for as long as it says, and end what was begun then."""
    entries = [record(number) for number in range(work.count)]
    times_s: list[float] = []
    empty = 0
    began_s = time.perf_counter()
    due_s = began_s + work.seconds

    async def append(mailbox: Mailbox) -> bool:
        await store.append(Append(mailbox, entries, time.time_ns() // 1_000_000))
        return True

    async def pull(mailbox: Mailbox) -> bool:
        page = await store.pull(Pull(mailbox, work.count, time.time_ns() // 1_000_000, "192.0.2.1"))
        return page.count > 0

    verbs: dict[Verb, Callable[[Mailbox], Awaitable[bool]]] = {"append": append, "pull": pull}
    verb = verbs[work.verb]
    own = range(work.share, work.mailboxes, work.shares)
    turns = itertools.islice(itertools.cycle(own), work.most)

    async def call() -> None:
        nonlocal empty
        while (now_s := time.perf_counter()) < due_s:
            if (number := next(turns, None)) is None:
                return
            # Before it is counted: others count meanwhile.
            found = await verb(Mailbox(FIRST + number, Kind.DELIVERY_STATUS))
            empty += not found
            times_s.append(time.perf_counter() - now_s)

    await asyncio.gather(*(call() for _ in range(work.callers)))
    return Done(time.perf_counter() - began_s, times_s, empty)


async def serve(url: str) -> None:
    """Do what is read, line by line, until there is no more."""
    store = await open_store(url)
    try:
        while line := await asyncio.to_thread(sys.stdin.buffer.readline):
            done = await do(store, msgspec.json.decode(line, type=Work))
            sys.stdout.buffer.write(msgspec.json.encode(done) + b"\n")
            sys.stdout.buffer.flush()
    finally:
        await store.close()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
