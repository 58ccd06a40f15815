"""Who asks a database that hangs is answered in time: over another connection, or by a refusal."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable, Iterator

import pytest

from pullstatus import limits
from pullstatus.errors import StoreUnavailable
from pullstatus.store import Store
from pullstatus.store.postgresql import PostgresStore, reads, refusals, schema
from tests.harness import PATIENCE_S
from tests.store.build import STATUSES, append, backlog_of, records
from tests.store.engines import Opener, server

pytestmark = pytest.mark.anyio

Question = Callable[[Store], Awaitable[object]]

HANGS = "SELECT pg_sleep(3600)"


async def a_moment(store: Store) -> object:
    return await store.totals()


async def one_question(store: Store) -> object:
    return await backlog_of(store, STATUSES)


@contextlib.contextmanager
def impatient(store: PostgresStore) -> Iterator[None]:
    """Nobody who asks waits for long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "STORE_WAIT_S", 2)
        patch.setattr(store._reads, "_answer_s", 0.5)
        yield


@pytest.fixture
async def asked(store: Store) -> PostgresStore:
    """A store whose connection for lists has been used."""
    assert isinstance(store, PostgresStore)
    await store.append(append(STATUSES, records(1)))
    await store.totals()
    return store


@pytest.fixture
def stopped() -> Iterator[Callable[[], None]]:
    """Stops the server."""
    try:
        yield server().pause
    finally:
        server().resume()


async def in_time(answer: Awaitable[object]) -> object:
    return await asyncio.wait_for(answer, PATIENCE_S)


@pytest.mark.parametrize("question", [a_moment, one_question])
async def test_a_list_over_a_connection_that_hangs_is_looked_at_over_another(
    asked: PostgresStore, monkeypatch: pytest.MonkeyPatch, question: Question
) -> None:
    """However long its answer may take; and nobody behind it waits for long."""
    expected = await question(asked)
    [(pid,)] = await asked._reads.ask("SELECT pg_backend_pid()")
    monkeypatch.setattr(reads, "CONNECT_S", 0.5)
    os.kill(pid, signal.SIGSTOP)
    try:
        looking = asyncio.create_task(in_time(question(asked)))
        await asyncio.sleep(0)
        assert await in_time(one_question(asked)) is not None
        assert await looking == expected
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("question", [a_moment, one_question])
async def test_a_server_that_hangs_is_told_in_time(
    asked: PostgresStore, stopped: Callable[[], None], question: Question
) -> None:
    """To all who ask, over a connection there is, one that is made, and in the middle."""
    stopped()
    with impatient(asked):
        asking = [asyncio.create_task(in_time(each(asked))) for each in (question, one_question)]
        for answer in await asyncio.gather(*asking, return_exceptions=True):
            assert isinstance(answer, StoreUnavailable)
        with pytest.raises(StoreUnavailable):
            await in_time(question(asked))  # there is no connection any more
    server().resume()
    assert await in_time(question(asked)) is not None


async def test_a_question_in_the_middle_of_a_moment_that_hangs_is_told_in_time(
    asked: PostgresStore,
) -> None:
    async def look() -> None:
        async with asked._reads.moment() as ask:
            await ask(HANGS)

    with impatient(asked), pytest.raises(StoreUnavailable):
        await in_time(look())
    assert await in_time(a_moment(asked)) is not None


@pytest.mark.parametrize("question", [a_moment, one_question])
@pytest.mark.parametrize(("module", "name"), [(refusals, "QUESTION"), (schema, "FORMATS")])
async def test_a_server_that_hangs_when_it_is_to_prove_itself_is_told_in_time(
    asked: PostgresStore,
    monkeypatch: pytest.MonkeyPatch,
    question: Question,
    module: object,
    name: str,
) -> None:
    await asked._reads._drop()
    with impatient(asked), monkeypatch.context() as patch:
        takes = ", %s::text[]" if name == "QUESTION" else ""
        patch.setattr(module, name, HANGS + takes)
        with pytest.raises(StoreUnavailable):
            await in_time(question(asked))
    assert await in_time(question(asked)) is not None


async def test_a_turn_is_over_before_its_connection_is(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that is busy may take a while to notice that one was closed."""
    one, other = [await opener() for _ in range(2)]
    assert isinstance(one, PostgresStore)
    assert isinstance(other, PostgresStore)

    async def unnoticed() -> None:
        pass

    with monkeypatch.context() as patch:
        patch.setattr(one._upkeep._reads, "_drop", unnoticed)
        async with one._removing() as ours:
            assert ours
        async with other._removing() as theirs:
            assert theirs
