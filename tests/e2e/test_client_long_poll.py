"""Clients that follow an empty mailbox, held by a running server until a record comes."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pullstatus import AsyncClient, Batch, Client, DeliveryStatus, InvalidArgument, Kind
from tests.foreign import Foreign
from tests.harness import PATIENCE_S, App, Program, statuses
from tools.postgresql import free_port

HELD = "pullstatus_pulls_held"
PULLS = 'pullstatus_pulls_total{result="0"}'

Options = dict[str, Any]
Follow = Callable[[str, App, int, Options], list[str]]


def address(program: Program) -> str:
    return f"http://{program.host}:{program.port}"


def sids(count: int) -> list[str]:
    return [record["sid"] for record in statuses(count)]


def no_pause(_s: float) -> None:
    raise AssertionError("a pause")


async def no_pause_async(_s: float) -> None:
    raise AssertionError("a pause")


def follow(address: str, app: App, count: int, options: Options) -> list[str]:
    """So many records, without a single pause."""
    seen: list[str] = []
    with Client(address, app.sdkappid, app.appkey, sleep=no_pause, **options) as client:
        for batch in client.delivery_statuses(max=1, long_poll_s=50):
            with batch:
                seen += [status.sid for status in batch]
            if len(seen) == count:
                break
    return seen


def follow_async(address: str, app: App, count: int, options: Options) -> list[str]:
    async def run() -> list[str]:
        seen: list[str] = []
        async with AsyncClient(
            address, app.sdkappid, app.appkey, sleep=no_pause_async, **options
        ) as client:
            async for batch in client.delivery_statuses(max=1, long_poll_s=50):
                with batch:
                    seen += [status.sid for status in batch]
                if len(seen) == count:
                    break
        return seen

    return asyncio.run(run())


@pytest.fixture
def background() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as threads:
        yield threads


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    """A server that nobody else's pulls are held by."""
    made = Program(tmp_path)
    made.set_aside(1)
    with made:
        yield made


def is_held(program: Program) -> Callable[[], bool]:
    return lambda: program.metrics()[HELD] == 1


def is_free(program: Program) -> Callable[[], bool]:
    return lambda: program.metrics()[HELD] == 0


@pytest.mark.parametrize("options", [{}, {"reader": "billing"}], ids=["keys", "reader"])
@pytest.mark.parametrize("followed", [follow, follow_async])
def test_a_record_comes_to_the_pull_that_is_held_for_it(
    program: Program, background: ThreadPoolExecutor, followed: Follow, options: Options
) -> None:
    """Each of three: none is asked for in vain, and nobody makes a pause."""
    app = program.spare_app()
    following = background.submit(followed, address(program), app, 3, options)
    for number in range(1, 4):
        program.until(lambda: is_held(program)() or following.done())
        program.feed(app, statuses(1, number))
    assert following.result(PATIENCE_S) == sids(3)
    assert program.waiting(app) == 0
    assert program.metrics()[PULLS] <= 5  # each page, the last acknowledgement, and ours


def test_a_server_that_stops_lets_its_followers_go_on_at_the_next(
    tmp_path: Path, background: ThreadPoolExecutor
) -> None:
    program = Program(tmp_path, "--port", str(free_port()))
    app = program.create_app()
    pauses: list[float] = []

    def pause(s: float) -> None:
        pauses.append(s)
        time.sleep(min(s, 0.05))

    def run(where: str) -> list[str]:
        with Client(where, app.sdkappid, app.appkey, reader="billing", sleep=pause) as client:
            for batch in client.delivery_statuses(long_poll_s=50):
                with batch:
                    return [status.sid for status in batch]
        return []

    with program:
        following: Future[list[str]] = background.submit(run, address(program))
        program.until(is_held(program))
        assert not pauses
        assert program.stop() == 0
        program.until(lambda: pauses)  # behind the empty page that came early
        program.start()
        program.until(lambda: is_held(program)() or following.done())
        program.feed(app, statuses(1))
        assert following.result(PATIENCE_S) == sids(1)


@pytest.mark.parametrize("options", [{}, {"reader": "billing"}], ids=["keys", "reader"])
def test_a_cancelled_task_ends_what_is_held_and_loses_nothing(
    program: Program, options: Options
) -> None:
    app = program.spare_app()
    program.feed(app, statuses(1))

    async def run() -> None:
        async with AsyncClient(
            address(program), app.sdkappid, app.appkey, sleep=no_pause_async, **options
        ) as client:
            follower = client.delivery_statuses(long_poll_s=50)
            (await anext(follower)).ack()
            task: asyncio.Task[Batch[DeliveryStatus]] = asyncio.create_task(follower.__anext__())
            await asyncio.to_thread(program.until, is_held(program))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.to_thread(program.until, is_free(program))
            program.feed(app, statuses(2, 2))
            assert await asyncio.to_thread(program.waiting, app) == 2
            assert [status.sid for status in await anext(follower)] == sids(3)[1:]

    asyncio.run(run())


def test_a_client_closed_by_another_thread_loses_nothing(program: Program) -> None:
    """What is held goes on to its end, at the latest when its answer is overdue."""
    app = program.spare_app()
    program.feed(app, statuses(1))
    client = Client(address(program), app.sdkappid, app.appkey, reader="billing", timeout_s=2)
    follower = client.delivery_statuses(long_poll_s=3)
    next(follower).ack()
    seen: list[Any] = []

    def go_on() -> None:
        try:
            seen.append(next(follower))
        except Exception as error:  # noqa: BLE001 - whatever closing makes of it
            seen.append(error)

    thread = threading.Thread(target=go_on)
    thread.start()
    program.until(is_held(program))
    client.close()
    program.feed(app, statuses(1, 2))
    assert follow(address(program), app, 1, {"reader": "billing"}) == sids(2)[1:]
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    [error] = seen
    assert isinstance(error, InvalidArgument)


@pytest.mark.parametrize(
    "options", [{}, {"reader": "billing"}, {"keyed": True}], ids=["keys", "reader", "told"]
)
def test_what_an_operator_has_set_holds_no_client_of_ours(tmp_path: Path, options: Options) -> None:
    """A drain would be late without need; and an answer later than its patience, an error."""
    program = Program(tmp_path)
    app = program.create_app()
    program.cli("app", "set", str(app.sdkappid), "--wait", "50")
    with (
        program,
        Client(
            address(program), app.sdkappid, app.appkey, timeout_s=20, attempts_max=1, **options
        ) as client,
    ):
        assert not client.pull(Kind.DELIVERY_STATUS)
        assert list(client.delivery_statuses(follow=False)) == []


def test_another_service_is_looked_into_with_pauses() -> None:
    empty = b'{"result":0,"errmsg":"ok","type":0,"count":0,"data":[]}'
    full = b'{"result":0,"errmsg":"ok","type":0,"count":1,"data":[{"sid":"8:1"}]}'
    pauses: list[float] = []
    with (
        Foreign("html", [empty, empty, full]) as service,
        Client(service.address, 1400006666, "key", sleep=pauses.append) as client,
    ):
        assert [status.sid for status in next(client.delivery_statuses())] == ["8:1"]
    assert len(pauses) == 2


def test_as_many_follow_at_the_same_time_as_there_are_tasks(tmp_path: Path) -> None:
    """More than the HTTP library has connections for by itself."""
    followers = 110
    program = Program(tmp_path)
    app = program.create_app()

    async def run() -> None:
        async with AsyncClient(
            address(program), app.sdkappid, app.appkey, timeout_s=PATIENCE_S, attempts_max=1
        ) as client:
            pulls = [
                asyncio.create_task(client.pull(Kind.REPLY, long_poll_s=50))
                for _ in range(followers)
            ]
            await asyncio.to_thread(
                program.until,
                lambda: any(pull.done() for pull in pulls) or program.metrics()[HELD] == followers,
            )
            assert not any(pull.done() for pull in pulls)
            for pull in pulls:
                pull.cancel()
            await asyncio.wait(pulls)

    with program:
        asyncio.run(run())
