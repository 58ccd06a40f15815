"""The network between clients and server fails in the middle of things.

Every exchange of the load goes through a proxy that knows how long the request and the answer are,
and may do one thing to them, at a byte drawn at random:

    cut     both sides are closed after k bytes of the request, or of the answer
    reset   the same, by a reset
    half    the client says no more after k bytes of its request, and listens on
    late    the answer is taken from the server, whole, and the client gets none of it
    held    the client is cut off, and its request arrives when others have been answered
    after   the client gets its whole answer, and a reset behind it

`PULLSTATUS_CUTS=20000 PULLSTATUS_SEED=7` asks for a longer run, or for another one.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from random import Random

import msgspec
import pytest

from tests.faults import planted
from tests.faults.load import Client, Link, Load, Mix, Request, UnreachableError
from tests.harness import STATUS, Program, http_request, statuses
from tests.sim.checker import Seen, Verb

CUTS = int(os.environ.get("PULLSTATUS_CUTS", "1200"))
SEED = os.environ.get("PULLSTATUS_SEED", "1")
SHARDS = 4
ACTS = ("cut", "reset", "half", "late", "after", "held")
HELD_FOR = 60  # exchanges of others at most that a held request is late by
HARMLESS = 0.2  # of all exchanges nothing is done to so many


class Proxy:
    """A way to the server that fails.

    Attributes:
        address: where it listens.
        done: how often what was done, by act and direction.
    """

    def __init__(
        self,
        server: Callable[[], tuple[str, int]],
        rng: Random,
        acts: Sequence[str] = ACTS,
    ) -> None:
        self._server = server
        self._rng = rng
        self._acts = acts
        self.address = ("", 0)
        self.done: Counter[str] = Counter()
        self._exchanges = 0
        self._held: list[tuple[int, bytes]] = []  # and the exchange behind which it arrives
        self._meetings: set[asyncio.Task[None] | None] = set()

    async def run(self, use: Callable[[], Awaitable[None]]) -> None:
        """Listen as long as `use` takes."""
        listening = await asyncio.start_server(self._meet, "127.0.0.1", limit=1 << 22)
        host, port = listening.sockets[0].getsockname()[:2]
        self.address = host, port
        async with listening:
            await use()
            await asyncio.gather(*filter(None, self._meetings))  # nobody calls any more
            self._exchanges += HELD_FOR
            await self._arrive()

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._meetings.add(asyncio.current_task())
        far_reader, far_writer = await asyncio.open_connection(*self._server(), limit=1 << 22)
        try:
            while await self._exchange(reader, writer, far_reader, far_writer):
                await self._arrive()
        except (OSError, asyncio.IncompleteReadError):
            pass  # one side was quicker to leave
        finally:
            writer.close()
            far_writer.close()
            self._meetings.discard(asyncio.current_task())

    async def _exchange(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        far_reader: asyncio.StreamReader,
        far_writer: asyncio.StreamWriter,
    ) -> bool:
        """Carry a request there and its answer back; returns whether another may follow."""
        rng = self._rng
        request = await message(reader)
        act = "none" if rng.random() < HARMLESS else rng.choice(self._acts)
        forth = act in {"half", "held"} or (act in {"cut", "reset"} and rng.random() < 0.5)
        if act != "none":
            self.done[f"{act} {'request' if forth else 'answer'}"] += 1
        if act == "held":
            self._held.append((self._exchanges + rng.randrange(HELD_FOR), request))
            return False
        far_writer.write(request[: self._place(request)] if forth else request)
        if forth and act != "half":
            end(act, writer, far_writer)
            return False
        if forth:
            far_writer.write_eof()
        answer = await message(far_reader)
        self._exchanges += 1
        if act == "late":
            return False
        writer.write(answer[: self._place(answer)] if act in {"cut", "reset"} else answer)
        await writer.drain()
        end("reset" if act == "after" else act, writer, far_writer)
        return act == "none"

    async def _arrive(self) -> None:
        """Let those be carried out that have been held up for long enough."""
        due = [held for held in self._held if held[0] <= self._exchanges]
        for held in due:
            self._held.remove(held)
        for _, request in due:
            reader, writer = await asyncio.open_connection(*self._server(), limit=1 << 22)
            writer.write(request)
            await message(reader)
            writer.close()

    def _place(self, content: bytes) -> int:
        """Where to cut: anywhere, and often just before or behind the last byte."""
        size = len(content)
        return self._rng.choice((self._rng.randrange(size), size - 1, size))


def end(act: str, *sides: asyncio.StreamWriter) -> None:
    """Leave by a reset, if that is the act; by closing otherwise, once what is written is sent."""
    if act == "reset":
        for writer in sides:
            own = writer.get_extra_info("socket")
            own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()


async def message(reader: asyncio.StreamReader) -> bytes:
    """A whole request or answer."""
    head = await reader.readuntil(b"\r\n\r\n")
    size = head.lower().partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0]
    return head + await reader.readexactly(int(size or 0))


class Twins(Client):
    """A client that sends each request twice at once, by two connections."""

    async def run(self) -> None:
        """Work until the load stops."""
        links = [Link(self.load.address) for _ in range(2)]
        try:
            while not self.load.stopping:
                for link in links:
                    await link.connect()
                await self._step_both(links)
        except UnreachableError:
            return
        finally:
            for link in links:
                link.close()

    async def _step_both(self, links: list[Link]) -> None:
        request = self.pending or self._repeatable()
        operations = await asyncio.gather(
            *(self.load.attempt(link, request, self.name) for link in links)
        )
        done = any(request.done(operation) for operation in operations)
        dropped = self.load.drops_keys and any(one.outcome is Seen.OK for one in operations)
        self.pending = None if done or dropped else request

    def _repeatable(self) -> Request:
        """Something that may come twice; half of the time as the same bytes, else signed anew."""
        while not (request := self._invent(self)).repeatable:
            pass
        if self.rng.random() < 0.5:
            built = request.build()
            request.build = lambda: built
        return request


@pytest.mark.parametrize("shard", range(SHARDS))
def test_cut_anywhere_under_load(tmp_path: Path, shard: int) -> None:
    """Whatever is cut wherever: nothing lost, doubled or torn, and a key brings its page again."""
    cuts = CUTS // SHARDS + (shard < CUTS % SHARDS)
    program, rng = Program(tmp_path), Random(f"{SEED}/{shard}")
    proxy = Proxy(partial(place_of, program), rng)
    load = Load(program, rng, Mix(feeders=4, pullers=4))
    load.clients += [
        Twins(load, f"twins {number}", Random(rng.random()), invent)
        for number, invent in enumerate((load.batch, load.pull, load.pull))
    ]
    fail_and_settle(program, load, proxy, cuts)
    assert {name.split()[0] for name in proxy.done} == set(ACTS)
    outcomes = Counter((operation.verb, operation.outcome) for operation in load.history)
    assert outcomes[Verb.PULL, Seen.UNKNOWN]
    assert outcomes[Verb.INGEST, Seen.UNKNOWN]


def test_clients_that_drop_their_keys_are_caught(tmp_path: Path) -> None:
    """A bug is planted: after an empty page a puller takes a new key."""
    rng, found = Random(SEED), ""
    for life in range(planted.LIVES):
        folder = tmp_path / str(life)
        folder.mkdir()
        program = Program(folder)
        proxy = Proxy(partial(place_of, program), rng, ("held", "cut"))
        load = Load(program, rng, Mix(feeders=2, pullers=6, keyed=1.0), drops_keys=True)
        try:
            fail_and_settle(program, load, proxy, CUTS // SHARDS)
        except AssertionError as error:
            found = str(error)
            break
    assert "stranded: " in found


def place_of(program: Program) -> tuple[str, int]:
    return program.host, program.port


def fail_and_settle(program: Program, load: Load, proxy: Proxy, cuts: int) -> None:
    """Work until so many exchanges have failed; then nothing may be missing, nothing come twice."""

    async def fault() -> None:
        while proxy.done.total() < cuts:
            await load.answered(1)

    with program:
        load.through = lambda: proxy.address
        asyncio.run(proxy.run(lambda: load.live(fault)))
    with program:  # whatever was late has been carried out, or never will be
        load.settle()


# --- byte by byte ---------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["close", "reset", "half"])
def test_part_of_a_batch_is_no_batch(tmp_path: Path, way: str) -> None:
    """A request that ends at any byte before its last leaves nothing behind."""
    with Program(tmp_path) as program:
        app = program.create_app()
        headers = [f"Authorization: Bearer {program.token}", "Content-Type: application/x-ndjson"]
        # Lines: every line but the last would be good by itself.
        body = b"\n".join(msgspec.json.encode(record) for record in statuses(3))
        request = http_request("POST", f"/ingest/{app.sdkappid}/{STATUS.path}", body, headers)
        for size in range(len(request)):
            with program.connect() as wire:
                wire.send(request[:size])
                if way == "half":
                    wire.socket.shutdown(socket.SHUT_WR)
                    assert wire.ended()
                elif way == "reset":
                    linger = struct.pack("ii", 1, 0)
                    wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        with program.connect() as wire:
            wire.send(request)
            wire.socket.shutdown(socket.SHUT_WR)  # all is said: the answer is owed
            assert wire.read().json == {"accepted": 3}
        assert program.drain(app) == statuses(3)


def test_key_brings_the_page_again_whatever_was_lost(tmp_path: Path) -> None:
    """However much of an answer arrived, its key gets the same bytes; without, the next page."""
    with Program(tmp_path) as program:
        app = program.create_app()
        count = 3
        places = [*range(0, 700, 29), None]
        program.feed(app, statuses(count * len(places)))
        for number, place in enumerate(places):
            key = f"page-{number}"
            target, body = app.request(STATUS, count)
            request = http_request("POST", target, body, [f"Idempotency-Key: {key}"])
            with program.connect() as wire:
                wire.send(request)
                if place is None:
                    got = wire.read().content
                else:
                    got = wire.socket.recv(place, socket.MSG_WAITALL) if place else b""
                    got = got.partition(b"\r\n\r\n")[2]
            again = program.pull(app, max=count, key=key)
            assert again.data == statuses(count, first=1 + count * number)
            assert again.content.startswith(got)
        assert program.pull(app).data == []
