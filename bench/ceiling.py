"""The ceiling: uvicorn and the smallest ASGI application, giving one answer from memory.

It reads the request's body, as any server must, and sends the bytes that the product answered to
the same request. Options are those of the product; the protocol is uvicorn's own, without the
bounds and deadlines the product adds, so that these count as work of the product.

    python -m bench.ceiling ANSWER      ANSWER: a file with the answer, as `load.Answer` in JSON
"""

from __future__ import annotations

import gc
import socket
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

import msgspec
import uvicorn
import uvloop

from bench.process import Running
from pullstatus.cli.load import Answer

CHECKOUT = Path(__file__).parents[1]
OWN_HEADERS = ("date", "connection")  # uvicorn sends these by itself

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


def start(answer: Answer, folder: Path) -> Running:
    """Start a server that always gives `answer`."""
    file = folder / "answer.json"
    file.write_bytes(msgspec.json.encode(answer))
    command = [sys.executable, "-m", "bench.ceiling", str(file.resolve())]
    return Running(command, folder / "ceiling.log", cwd=CHECKOUT)


def application(answer: Answer) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """The application itself."""
    headers = [
        (name.encode(), value.encode())
        for name, value in answer.headers
        if name.lower() not in OWN_HEADERS
    ]
    head = {"type": "http.response.start", "status": answer.status, "headers": headers}
    body = {"type": "http.response.body", "body": answer.body}

    async def answer_all(_scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        await send(head)
        await send(body)

    return answer_all


async def _serve(answer: Answer) -> None:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(2048)
    listener.settimeout(0)
    gc.collect()
    gc.freeze()  # as the product does
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    config = uvicorn.Config(
        application(answer),
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
    )
    await uvicorn.Server(config).serve(sockets=[listener])


if __name__ == "__main__":
    uvloop.run(_serve(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Answer)))
