"""What of an answer has not arrived, as the kernel tells it."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from functools import partial

import pytest
import uvloop

from pullstatus.server.arrival import Arrival
from tests.harness import PATIENCE_S

ANSWER = bytes(1_000_000)


def connected() -> tuple[socket.socket, socket.socket]:
    """Both ends; what is written to the first is taken little by little by the second."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        reader = socket.socket()
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.connect(server.getsockname())
        writer, _ = server.accept()
    for end in (writer, reader):
        end.settimeout(PATIENCE_S)
    return writer, reader


def read(end: socket.socket, size: int) -> None:
    while size:
        size -= len(end.recv(min(size, 1 << 16)))


def until(asked: Callable[[], int], *, within: range) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while asked() not in within:
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_of_a_connection_that_is_closed_nothing_is_known(run: Callable[..., None]) -> None:
    """It is still swept between its end and the moment in which the loop tells of that."""

    async def play() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            _, writer = await asyncio.open_connection(*server.getsockname())
            arrival = Arrival(writer.get_extra_info("socket"))
            writer.transport.abort()
            while arrival._end.fileno() >= 0:  # noqa: ASYNC110 - the loop tells nobody
                await asyncio.sleep(0)
            arrival.begin(0)
            assert arrival.unread(1000) == 0

    run(play())


def test_what_the_peer_has_not_taken_is_unread_though_it_was_sent() -> None:
    """From one answer to the next, with more bytes on the wire than are counted."""
    writer, reader = connected()
    with writer, reader:
        arrival = Arrival(writer)
        written = 0
        for _ in range(2):
            writer.sendall(b"of a handshake")
            read(reader, len(b"of a handshake"))
            until(arrival._acknowledged, within=range(1, 1 << 31))
            arrival.begin(written)
            written += len(ANSWER)
            sending = threading.Thread(target=writer.sendall, args=(ANSWER,))
            sending.start()
            until(partial(arrival.unread, written), within=range(1, len(ANSWER)))
            read(reader, len(ANSWER) // 2)
            assert 0 < arrival.unread(written) <= len(ANSWER) // 2
            arrival.begin(written)  # does nothing while some lies unread
            assert arrival.unread(written) > 0
            read(reader, len(ANSWER) - len(ANSWER) // 2)
            sending.join()
            until(partial(arrival.unread, written), within=range(1))


def test_where_the_kernel_does_not_say_nothing_is_unread() -> None:
    ours, theirs = socket.socketpair()  # of no TCP
    with ours, theirs:
        arrival = Arrival(ours)
        arrival.begin(0)
        ours.sendall(b"x")
        assert arrival.unread(1) == 0
