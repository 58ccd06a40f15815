"""Figures of all workers: asked for by any number, at any of them, and told once at a time."""

from __future__ import annotations

import asyncio
import re
from types import SimpleNamespace
from typing import Any, cast

from pullstatus.server.routes import Routes
from pullstatus.server.workers import parent, worker
from pullstatus.store import Health, Store, UnderWay
from tests.unit.server.asgi import Served


def routes(kind: type[Routes]) -> Any:  # noqa: ANN401 - with what each kind has besides
    served = Served()
    return kind(cast("Store", served.store), served.registry)


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_a_worker_asks_for_them_once_at_a_time() -> None:
    async def play() -> None:
        made = routes(worker._Routes)
        asked: list[asyncio.Future[bytes]] = []

        async def ask() -> bytes:
            asked.append(asyncio.get_running_loop().create_future())
            return await asked[-1]

        made.ask = ask
        first = [asyncio.create_task(made.metrics()) for _ in range(100)]
        await settled()
        second = [asyncio.create_task(made.metrics()) for _ in range(100)]
        await settled()
        assert len(asked) == 1
        asked[0].set_result(b"1")
        assert await asyncio.gather(*first) == [b"1"] * 100
        await settled()
        asked[1].set_result(b"2")
        assert await asyncio.gather(*second) == [b"2"] * 100

    asyncio.run(play())


def test_the_server_has_its_workers_tell_once_at_a_time() -> None:
    async def play() -> None:
        made = routes(parent._Routes)
        looks: list[asyncio.Future[None]] = []

        async def look() -> None:
            looks.append(asyncio.get_running_loop().create_future())
            await looks[-1]

        made.fleet = SimpleNamespace(look=look, members=[], serving=2, ended=0, processes=[])
        asked = [asyncio.create_task(made.metrics()) for _ in range(100)]
        await settled()
        assert len(looks) == 1
        looks[0].set_result(None)
        assert len(set(await asyncio.gather(*asked))) == 1
        assert b"pullstatus_workers 2.0" in await asked[0]

    asyncio.run(play())


def test_the_server_tells_of_writes_that_nodes_do_not_answer_its_workers() -> None:
    """It writes next to nothing itself."""

    async def told(*of_workers: int) -> bytes:
        made = routes(parent._Routes)
        members = []
        for streams in of_workers:
            one = worker.Worker.__new__(worker.Worker)
            one.routes = routes(worker._Routes)
            one.store = cast(
                "Store",
                SimpleNamespace(
                    health=lambda streams=streams: Health(without_writes=streams),
                    under_way=UnderWay,
                ),
            )
            members.append(SimpleNamespace(newest=one._snapshot()))

        async def look() -> None:
            """They have told."""

        made.fleet = SimpleNamespace(look=look, members=members, serving=2, ended=0, processes=[])
        page = await made.metrics()
        line: bytes
        [line] = re.findall(rb"(?m)^pullstatus_cluster_streams_without_writes .*$", page)
        return line.split()[1]

    assert asyncio.run(told()) == b"0.0"
    assert asyncio.run(told(0, 0)) == b"0.0"
    assert asyncio.run(told(1, 3)) == b"3.0"
