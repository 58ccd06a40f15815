"""Writes that hold conditions, sent again until it is known what came of them.

A write names the messages that it rests on, so of all its copies one can be stored at most: storing
it makes its conditions false for the others, one that is still on its way included. So an unknown
outcome is resolved, not guessed:

    stored                                    done
    a condition does not hold                 whose message made it so? ours: done; another's: Stale
                                              nobody's: look again a little later, then Lacking
    any other error, or no answer             nothing is decided: again

"Not found" alone would prove nothing, as a copy may yet arrive; only a condition that has become
false proves it. Nor does a refusal: for a while two nodes may believe that they lead, both are
told, and the one that was left behind refuses what the other stores. Or a node stops leading, and
says of what it has passed on that the cluster is not there; the next leader may store it.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
from collections.abc import Sequence
from functools import partial
from typing import Final

import msgspec

from pullstatus.errors import OutcomeUnknown, StoreFull, StoreUnavailable
from pullstatus.store.jetstream.api import Api, Fault
from pullstatus.store.jetstream.links import Links, NoAnswer, NobodyThere
from pullstatus.store.jetstream.nodes import PAYLOAD_MIN
from pullstatus.store.jetstream.reading import Reading
from pullstatus.store.jetstream.wire import BYTES_MAX, OP_BYTES, PUTS_MAX, Lacking, Put, Stale

TRY_S: Final = 2.0  # for the first send of a write; later ones have more
TRY_S_MAX: Final = 8.0
RESOLVE_S: Final = 20.0  # longer than an election takes
BOTH_LEAD_S: Final = 3.0  # who was left behind hears of it within two heartbeats of a second
PAUSE_S: Final = 0.05
PAUSE_S_MAX: Final = 0.5
WRITES_MAX: Final = 512
MESSAGE_BYTES_MAX: Final = PAYLOAD_MIN - 1024  # with its headers, it is to fit what nodes take

EXPECTED: Final = "Nats-Expected-Last-Subject-Sequence"
BATCH: Final = "Nats-Batch-Id"
NUMBER: Final = "Nats-Batch-Sequence"
COMMIT: Final = "Nats-Batch-Commit"

WRONG_LAST: Final = 10071
STORE_FAILED: Final = 10077
NO_ROOM: Final = frozenset({10023, 10047})


class _Outcome(msgspec.Struct):
    stream: str = ""
    seq: int = 0
    error: Fault | None = None


_OUTCOME: Final = msgspec.json.Decoder(_Outcome)  # see `nodes`


class Writing:
    """Writes over the connections of a process, in their event loop."""

    def __init__(self, links: Links, reading: Reading, api: Api) -> None:
        self._links = links
        self._reading = reading
        self._api = api
        self._room = _Room()
        self._process = os.urandom(8).hex()
        self._batches = itertools.count(1)
        self._turns = itertools.count()

    async def write(self, stream: str, puts: Sequence[Put], op: bytes) -> int:
        """See `Bus.write`."""
        size = sum(len(put.data) for put in puts)
        _check(puts, op, size)
        async with self._room.taken(size):
            return await self._decided(stream, puts, op)

    async def _decided(self, stream: str, puts: Sequence[Put], op: bytes) -> int:
        loop = asyncio.get_running_loop()
        due_s = loop.time() + RESOLVE_S
        told = False  # somebody took it, so it may come to be stored
        try_s, pause_s = TRY_S, PAUSE_S
        why = ""
        while (left_s := due_s - loop.time()) > 0:
            fault: Fault | None = None
            try:
                outcome = await self._send(puts, min(try_s, left_s))
            except NoAnswer as error:
                told, why = True, str(error)
            except NobodyThere:
                why = "no node leads what is written to"
            else:
                fault = outcome.error
                if fault is None:
                    return outcome.seq
                why = fault.description
            if fault is not None:
                if _no_room(fault) and not told:
                    raise StoreFull(f"the cluster has no room ({why}); free some and try again")
                if fault.err_code == WRONG_LAST or _no_room(fault):
                    sequence = await self._resolved(stream, puts, op, told=told)
                    if sequence:
                        return sequence
                told = True
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))  # noqa: S311
            try_s, pause_s = min(2 * try_s, TRY_S_MAX), min(2 * pause_s, PAUSE_S_MAX)
        if told:
            raise OutcomeUnknown(f"the cluster does not say what came of a write ({why})")
        raise StoreUnavailable(f"the cluster takes no writes now ({why})")

    async def _send(self, puts: Sequence[Put], patience_s: float) -> _Outcome:
        """Send all of it once, and say what the cluster answers.

        Raises:
            NoAnswer: it may come to be stored, or not.
            NobodyThere: it will not be.
        """
        link = await self._links.link(next(self._turns), patience_s)
        *before, last = puts
        headers = _condition(last)
        if before:
            # A name of its own for each send, so that no two of them are taken for one batch.
            name = f"{self._process}.{next(self._batches)}"
            for number, put in enumerate(before, 1):
                # Nobody waits for what comes of one: then the commit is refused, too.
                await link.send(
                    put.subject, put.data, _condition(put) | {BATCH: name, NUMBER: str(number)}
                )
            headers |= {BATCH: name, NUMBER: str(len(puts)), COMMIT: "1"}
        answer = await link.ask(last.subject, last.data, headers, patience_s=patience_s)
        try:
            return _OUTCOME.decode(answer.data)
        except msgspec.DecodeError:
            raise NoAnswer("it is no answer") from None

    async def _resolved(self, stream: str, puts: Sequence[Put], op: bytes, *, told: bool) -> int:
        """The sequence of the last if a copy was stored; 0: nothing is known yet.

        Args:
            told: whether a copy may be under way beside the one that was refused.

        Raises:
            Stale: it never will be stored.
        """
        try:
            if sequence := await self._stored(stream, puts, op):
                return sequence
            # Nothing has made it false: who refused it lacks what it rests on.
            if told or not await self._leads(stream):
                return 0
            # He may have been left behind, and who leads is only about to store it. By then it is
            # there, and he knows that he does not lead.
            await asyncio.sleep(BOTH_LEAD_S)
            if sequence := await self._stored(stream, puts, op):
                return sequence
        except StoreUnavailable:
            return 0
        if await self._leads(stream):
            raise Lacking
        return 0

    async def _stored(self, stream: str, puts: Sequence[Put], op: bytes) -> int:
        """The sequence of the last if a copy was stored; 0: nothing has made a condition false.

        The first message behind what a condition names is what made it false.

        Raises:
            Stale: another's message did.
        """
        numbers = [number for number, put in enumerate(puts) if put.last is not None]
        subjects = [puts[number].subject for number in numbers]
        for ask in (self._newest, self._newest_of_leader):
            newest = await ask(stream, subjects)
            for number, last in reversed(list(zip(numbers, newest, strict=True))):
                subject, _, expected = puts[number]
                assert expected is not None
                if last <= expected:
                    continue
                found = await self._reading.following(
                    stream, subject, expected + 1, count=1, leader=True
                )
                if found and found[0].data[:OP_BYTES] != op:
                    raise Stale
                if found:  # nothing lies between messages of a write
                    return found[0].sequence + len(puts) - 1 - number
        return 0

    async def _leads(self, stream: str) -> bool:
        """Whether who says that it leads hears of most of the others: then nobody else does.

        An election takes longer than it takes to be away.
        """
        led = await self._api.led(stream)
        return led is not None and led.works

    async def _newest(self, stream: str, subjects: Sequence[str]) -> list[int]:
        """Sequences of the last messages of these, 0 of none, as one node tells that is not behind.

        Raises:
            StoreUnavailable: none is.
        """
        newest = await self._reading.last(stream, ">", leader=True)
        at_least = 0 if newest is None else newest.sequence
        found = await self._reading.lasts(stream, subjects, at_least=at_least)
        return [found[name].sequence if name in found else 0 for name in subjects]

    async def _newest_of_leader(self, stream: str, subjects: Sequence[str]) -> list[int]:
        """The same, as who leads finds each for itself: by that it has judged.

        One that was damaged may find so what it tells nobody of who asks for several.
        """
        last = partial(self._reading.last, stream, leader=True)
        found = await asyncio.gather(*[last(subject) for subject in subjects])
        return [0 if message is None else message.sequence for message in found]


class _Room:
    """How much is under way at once; who comes when there is no more waits for the others."""

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._bytes = self._writes = 0

    def taken(self, size: int) -> _Taken:
        """So much of it, for as long as a block takes."""
        return _Taken(self, size)

    async def take(self, size: int) -> None:
        async with self._changed:
            await self._changed.wait_for(
                lambda: self._writes < WRITES_MAX and self._bytes + size <= BYTES_MAX
            )
            self._writes += 1
            self._bytes += size

    async def give(self, size: int) -> None:
        async with self._changed:
            self._writes -= 1
            self._bytes -= size
            self._changed.notify_all()


class _Taken:
    def __init__(self, room: _Room, size: int) -> None:
        self._room = room
        self._size = size

    async def __aenter__(self) -> None:
        await self._room.take(self._size)

    async def __aexit__(self, *_error: object) -> None:
        await self._room.give(self._size)


def _condition(put: Put) -> dict[str, str]:
    return {} if put.last is None else {EXPECTED: str(put.last)}


def _no_room(fault: Fault) -> bool:
    """Whether it is refused for good for want of room.

    The one code of a store that failed is that of a full stream, too, and of one that was closed
    behind a commit.
    """
    full = fault.err_code == STORE_FAILED and "maximum" in fault.description
    return full or fault.err_code in NO_ROOM


def _check(puts: Sequence[Put], op: bytes, size: int) -> None:
    """Refuse what nodes would, or what could not be told from another's."""
    if not 0 < len(puts) <= PUTS_MAX or size > BYTES_MAX:
        raise ValueError("a write is 1 to 1,000 messages, of 64 MiB in all")
    if max(len(put.data) for put in puts) > MESSAGE_BYTES_MAX:
        raise ValueError("a message is larger than nodes take")
    if len(op) != OP_BYTES or any(put.data[:OP_BYTES] != op for put in puts):
        raise ValueError("each message of a write begins with its op")
    if puts[-1].last is None:
        raise ValueError("the last message of a write has a condition")
    seen: set[str] = set()
    for put in puts:
        if put.last is not None and put.subject in seen:
            raise ValueError("a condition comes with the first message of its subject")
        seen.add(put.subject)
