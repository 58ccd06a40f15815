"""The HTTP service of a peer: posts of records into a queue, pulls of pages out of it.

    POST /ingest/{queue}            an array of records -> {"accepted": n}
    POST /pull/{queue}              {"type": 0, "max": 100} -> what the product answers
    POST /fill/{queue}?count=N      lays N records ready, for the bench

Run in the peers' own venv:  python -m bench.peers.front fastapi|lean BACKEND ADDRESS
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence
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
from bench.peers.sqs import Sqs
from bench.records import record

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

BACKENDS: dict[str, type[Backend]] = {
    "jetstream": JetStream,
    "postgresql": PostgreSql,
    "rabbitmq": RabbitMq,
    "redis": RedisLists,
    "sqs": Sqs,
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


def answer(kind: int, entries: Sequence[bytes]) -> bytes:
    """The answer to a pull, of records as they were stored."""
    return b'{"result":0,"errmsg":"ok","type":%d,"count":%d,"data":[%b]}' % (
        kind,
        len(entries),
        b",".join(entries),
    )


def with_fastapi(backend: Backend, address: str) -> Any:  # noqa: ANN401 - of a library unseen here
    """The service as most would write it."""
    fastapi = import_module("fastapi")
    to_json = import_module("pydantic_core").to_json

    async def ingest(queue: str, records: list[Record]) -> Any:  # noqa: ANN401 - as above
        await backend.append(queue, [to_json(each) for each in records])
        return {"accepted": len(records)}

    async def pull(queue: str, page: Page) -> Any:  # noqa: ANN401 - as above
        entries = await backend.take(queue, page["max"])
        return fastapi.Response(answer(page["type"], entries), media_type="application/json")

    async def fill(queue: str, count: int) -> Any:  # noqa: ANN401 - as above
        await _fill(backend, queue, count)
        return {"accepted": count}

    app = fastapi.FastAPI(lifespan=_opening(backend, address))
    app.add_api_route("/ingest/{queue}", ingest, methods=["POST"], response_model=None)
    app.add_api_route("/pull/{queue}", pull, methods=["POST"], response_model=None)
    app.add_api_route("/fill/{queue}", fill, methods=["POST"], response_model=None)
    return app


def lean(backend: Backend, address: str) -> Any:  # noqa: ANN401 - of a library unseen here
    """The service by somebody who counts microseconds: Starlette and msgspec."""
    routing, responses = import_module("starlette.routing"), import_module("starlette.responses")
    applications = import_module("starlette.applications")
    records_of = msgspec.json.Decoder(list[LeanRecord]).decode
    page_of = msgspec.json.Decoder(LeanPage).decode
    to_json = msgspec.json.Encoder().encode

    async def ingest(request: Any) -> Any:  # noqa: ANN401 - as above
        records = records_of(await request.body())
        await backend.append(request.path_params["queue"], [to_json(each) for each in records])
        return responses.Response(b'{"accepted":%d}' % len(records), media_type="application/json")

    async def pull(request: Any) -> Any:  # noqa: ANN401 - as above
        page = page_of(await request.body())
        entries = await backend.take(request.path_params["queue"], page.max)
        return responses.Response(answer(page.type, entries), media_type="application/json")

    async def fill(request: Any) -> Any:  # noqa: ANN401 - as above
        count = int(request.query_params["count"])
        await _fill(backend, request.path_params["queue"], count)
        return responses.Response(b'{"accepted":%d}' % count, media_type="application/json")

    return applications.Starlette(
        routes=[
            routing.Route("/ingest/{queue}", ingest, methods=["POST"]),
            routing.Route("/pull/{queue}", pull, methods=["POST"]),
            routing.Route("/fill/{queue}", fill, methods=["POST"]),
        ],
        lifespan=_opening(backend, address),
    )


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
    """uvicorn, saying where it listens once the backend is open."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            assert sockets is not None
            print(f"http://127.0.0.1:{sockets[0].getsockname()[1]}", flush=True)


def main(front: str, backend: str, address: str) -> None:
    """Serve until told to stop."""
    make = {"fastapi": with_fastapi, "lean": lean}[front]
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(2048)
    listener.settimeout(0)
    config = uvicorn.Config(
        make(BACKENDS[backend](), address),
        http="httptools",
        ws="none",
        access_log=False,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
    )
    uvloop.run(_Server(config).serve(sockets=[listener]))


if __name__ == "__main__":
    main(*sys.argv[1:])
