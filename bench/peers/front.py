"""The HTTP service of a peer: posts of records into a queue, pulls of pages out of it.

    POST /ingest/{queue}            an array of records -> {"accepted": n}
    POST /pull/{queue}              {"type": 0, "max": 100} -> what the product answers
    POST /fill/{queue}?count=N      lays N records ready, for the bench

Run in the peers' own venv:  python -m bench.peers.front fastapi|lean BACKEND ADDRESS WORKERS
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
from contextlib import asynccontextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

import msgspec
import uvicorn
import uvloop
from typing_extensions import TypedDict

from bench.peers.backend import Backend
from bench.peers.jetstream import JetStream
from bench.peers.postgresql import PostgreSql
from bench.peers.rabbitmq import RabbitMq
from bench.peers.redis_lists import RedisLists
from bench.records import record

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

BACKENDS: dict[str, type[Backend]] = {
    "jetstream": JetStream,
    "postgresql": PostgreSql,
    "rabbitmq": RabbitMq,
    "redis": RedisLists,
}
AT_ONCE = 1000  # records that are laid ready in one step


class Record(TypedDict):
    """A delivery status, for FastAPI to validate."""

    user_receive_time: str
    nationcode: str
    mobile: str
    report_status: str
    errmsg: str
    description: str
    sid: str


class Page(TypedDict):
    """What a pull asks for, for FastAPI to validate."""

    type: int
    max: int


class LeanRecord(msgspec.Struct, gc=False):
    """The same for msgspec."""

    user_receive_time: str
    nationcode: str
    mobile: str
    report_status: str
    errmsg: str
    description: str
    sid: str


class LeanPage(msgspec.Struct):
    """The same for msgspec."""

    type: int
    max: int


def answer(kind: int, count: int, entries: bytes) -> bytes:
    """The answer to a pull, of records as they were stored, joined by commas."""
    return b'{"result":0,"errmsg":"ok","type":%d,"count":%d,"data":[%b]}' % (kind, count, entries)


def with_fastapi(backend: Backend, address: str) -> Any:  # noqa: ANN401 - of a library unseen here
    """The service as most would write it."""
    fastapi = import_module("fastapi")
    to_json = import_module("pydantic_core").to_json

    async def ingest(queue: str, records: list[Record]) -> Any:  # noqa: ANN401 - as above
        await backend.append(queue, [to_json(each) for each in records])
        return {"accepted": len(records)}

    async def pull(queue: str, page: Page) -> Any:  # noqa: ANN401 - as above
        found = await backend.take(queue, page["max"])
        return fastapi.Response(answer(page["type"], *found), media_type="application/json")

    async def fill(queue: str, count: int) -> Any:  # noqa: ANN401 - as above
        await _fill(backend, queue, count)
        return {"accepted": count}

    app = fastapi.FastAPI(lifespan=_opening(backend, address))
    app.add_api_route("/ingest/{queue}", ingest, methods=["POST"], response_model=None)
    app.add_api_route("/pull/{queue}", pull, methods=["POST"], response_model=None)
    app.add_api_route("/fill/{queue}", fill, methods=["POST"], response_model=None)
    return app


def lean(backend: Backend, address: str) -> Any:  # noqa: ANN401 - as ASGI wants it
    """The service by somebody who counts microseconds: no framework, and msgspec."""
    records_of = msgspec.json.Decoder(list[LeanRecord]).decode
    page_of = msgspec.json.Decoder(LeanPage).decode
    to_json = msgspec.json.Encoder().encode

    async def ingest(queue: str, body: bytes, _query: bytes) -> bytes:
        entries = [to_json(each) for each in records_of(body)]
        await backend.append(queue, entries)
        return b'{"accepted":%d}' % len(entries)

    async def pull(queue: str, body: bytes, _query: bytes) -> bytes:
        page = page_of(body)
        return answer(page.type, *await backend.take(queue, page.max))

    async def fill(queue: str, _body: bytes, query: bytes) -> bytes:
        count = int(query.removeprefix(b"count="))
        await _fill(backend, queue, count)
        return b'{"accepted":%d}' % count

    actions = {"ingest": ingest, "pull": pull, "fill": fill}

    async def application(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - as above
        if scope["type"] == "lifespan":
            await receive()
            await backend.open(address)
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        message = await receive()
        body = message["body"]
        while message.get("more_body"):
            message = await receive()
            body += message["body"]
        _, action, queue = scope["path"].split("/")
        try:
            status, said = 200, await actions[action](queue, body, scope["query_string"])
        except (msgspec.DecodeError, KeyError) as error:
            status, said = 400, str(error).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(said))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": said})

    return application


def _opening(backend: Backend, address: str) -> Any:  # noqa: ANN401 - as the frameworks want it
    @asynccontextmanager
    async def opening(_app: object) -> AsyncIterator[None]:
        await backend.open(address)
        yield

    return opening


async def _fill(backend: Backend, queue: str, count: int) -> None:
    for begin in range(0, count, AT_ONCE):
        await backend.append(
            queue, [record(number) for number in range(begin, min(begin + AT_ONCE, count))]
        )


class _Server(uvicorn.Server):
    """uvicorn, telling its parent once the backend is open."""

    def __init__(self, config: uvicorn.Config, ready: int) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            gc.collect()
            gc.freeze()  # a full collection would go over all that the imports have made
            os.write(self._ready, b"1")


def serve(front: str, backend: str, address: str, listener: socket.socket, ready: int) -> None:
    """Serve until told to stop; writes a byte to `ready` once it does."""
    make = {"fastapi": with_fastapi, "lean": lean}[front]
    config = uvicorn.Config(
        make(BACKENDS[backend](), address),
        http="httptools",
        ws="none",
        lifespan="on",
        access_log=False,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
    )
    uvloop.run(_Server(config, ready).serve(sockets=[listener]))


def main(front: str, backend: str, address: str, workers: str) -> None:
    """Serve by so many processes until told to stop."""
    port, children, started = 0, [], []
    for _ in range(int(workers)):
        listener = socket.socket()
        # Each has a queue of its own: the kernel shares connections out evenly.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(("127.0.0.1", port))
        port = listener.getsockname()[1]
        listener.listen(2048)
        listener.settimeout(0)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            serve(front, backend, address, listener, writing)
            os._exit(0)
        os.close(writing)
        listener.close()
        children.append(child)
        started.append(reading)

    def stop(number: int, _frame: object) -> None:
        for each in children:
            os.kill(each, number)

    signal.signal(signal.SIGTERM, stop)
    ready = [os.read(reading, 1) for reading in started]
    if all(ready):  # nothing comes of one that ended
        print(f"http://127.0.0.1:{port}", flush=True)
    else:
        for each in children:
            os.kill(each, signal.SIGTERM)
    for child in children:
        os.waitpid(child, 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
