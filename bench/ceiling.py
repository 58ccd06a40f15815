"""The ceiling: a bare asyncio protocol on uvloop that gives one answer from memory.

It looks for the end of each request and sends the bytes that the product answered to the same one.
It parses nothing else, checks nothing, keeps nothing: what is left is the kernel's part, the event
loop's, and one call of Python for each read. No server in Python on this loop can do better.

    python -m bench.ceiling ANSWER      ANSWER: a file with the answer, as `load.Answer` in JSON
"""

from __future__ import annotations

import asyncio
import gc
import http.client
import sys
from pathlib import Path
from typing import cast

import msgspec
import uvloop

from bench.process import Running
from pullstatus.cli.load import Answer

CHECKOUT = Path(__file__).parents[1]

_END = b"\r\n\r\n"
_LENGTH = b"\r\nContent-Length: "  # as load.Request writes it


def start(answer: Answer, folder: Path) -> Running:
    """Start a server that always gives `answer`."""
    file = folder / "answer.json"
    file.write_bytes(msgspec.json.encode(answer))
    command = [sys.executable, "-m", "bench.ceiling", str(file.resolve())]
    return Running(command, folder / "ceiling.log", cwd=CHECKOUT)


def head_of(answer: Answer) -> bytes:
    """The status line and the headers, as they came."""
    lines = [f"HTTP/1.1 {answer.status} {http.client.responses[answer.status]}"]
    lines += [f"{name}: {value}" for name, value in answer.headers]
    return "\r\n".join([*lines, "", ""]).encode()


class Raw(asyncio.Protocol):
    """One connection. A request that comes in pieces is counted, not kept."""

    def __init__(self, answer: Answer) -> None:
        """Give `answer` to each request."""
        self._parts = (head_of(answer), answer.body)
        self._closes = ("connection", "close") in (
            (name.lower(), value.lower()) for name, value in answer.headers
        )
        self._head = b""  # of a request whose head has not come whole
        self._due = 0  # bytes of its body
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is there."""
        # uvloop's is one, but not by inheritance.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer once the last byte of a request is there."""
        if self._due:
            self._due -= len(data)
        else:
            if self._head:
                data = self._head + data
            end = data.find(_END)
            if end < 0:
                self._head = data
                return
            self._head = b""
            found = data.find(_LENGTH, 0, end)
            self._due = end + len(_END) - len(data)
            if found >= 0:
                begin = found + len(_LENGTH)
                self._due += int(data[begin : data.index(b"\r", begin)])
        if self._due <= 0:
            self._due = 0
            self._transport.writelines(self._parts)
            if self._closes:
                self._transport.close()


async def _serve(answer: Answer) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Raw(answer), "127.0.0.1", 0, backlog=2048)
    gc.collect()
    gc.freeze()  # as the product does
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Answer)))
