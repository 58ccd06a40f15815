"""The engine in a process of its own: whatever ends either process, nothing false is said."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from pullstatus.errors import OutcomeUnknown, StoreCorrupt, StoreFailed, StoreUnavailable
from pullstatus.store import Store, open_store
from pullstatus.store.gathering.process import ProcessChannel
from pullstatus.store.sqlite import SqliteStore
from pullstatus.store.sqlite.opening import open_guarded
from pullstatus.store.verbs.state import slot
from tests.store.build import STATUSES, append, data_of, pull, records, together, until, writer_of
from tests.store.engines import Opener, sqlite_url

anyio = pytest.mark.anyio


@pytest.fixture
def url(file: Path) -> str:
    """Takes the place of the one that all the others use."""
    return sqlite_url(file, "process")


def child_of(store: Store) -> subprocess.Popen[bytes]:
    assert isinstance(store, SqliteStore)
    channel = store._writer._channel
    assert isinstance(channel, ProcessChannel)
    return channel._process


def gone(number: int) -> bool:
    """Whether a process is no more, or only waits for its parent to notice."""
    try:
        state = Path(f"/proc/{number}/stat").read_text(encoding="ascii")
    except FileNotFoundError:
        return True
    return state.rpartition(")")[2].split()[0] == "Z"


async def channel_of(file: Path) -> ProcessChannel:
    """A store process that says what it has to say to nobody."""
    file.with_name(f"{file.name}-server").touch()
    return await ProcessChannel.open(
        partial(open_guarded, file, file, server=True, reserve_bytes=0)
    )


def spoil(file: Path) -> None:
    file.write_bytes(b"no database, but long enough to be looked at" * 100)
    file.chmod(0o600)


def started(url: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", SERVER, url], stdout=subprocess.PIPE, text=True)


@anyio
async def test_killed_store_process_leaves_outcomes_unknown_and_takes_no_more(
    opener: Opener,
) -> None:
    failures: list[BaseException] = []
    store = await opener(server=True, on_failure=failures.append)
    entries = records(2)
    await store.append(append(STATUSES, entries))
    child = child_of(store)
    child.send_signal(signal.SIGSTOP)
    asked = asyncio.gather(
        store.append(append(STATUSES, records(1))),
        store.pull(pull(STATUSES)),
        return_exceptions=True,
    )
    await until(lambda: store.under_way().handed_over == 2)
    child.kill()
    assert [type(answer) for answer in await asked] == [OutcomeUnknown, OutcomeUnknown]
    assert [type(failure) for failure in failures] == [StoreFailed]
    for verb in (store.append(append(STATUSES, records(1))), store.pull(pull(STATUSES))):
        with pytest.raises(StoreUnavailable):
            await verb
    await store.close()
    assert len(failures) == 1
    again = await opener(server=True)
    assert (await data_of(again, STATUSES))[:2] == entries


@anyio
async def test_what_is_gathered_while_the_store_process_dies_is_answered(opener: Opener) -> None:
    """Before it was sent, after the end was seen: it can't have happened."""
    store = await opener()
    asked = asyncio.ensure_future(store.append(append(STATUSES, records(1))))
    await asyncio.sleep(0)  # gathered
    assert isinstance(store, SqliteStore)
    channel = store._writer._channel
    assert isinstance(channel, ProcessChannel)
    channel._process.kill()
    channel._transport.abort()
    channel.connection_lost(None)
    channel.connection_lost = lambda _error: None  # type: ignore[method-assign]
    with pytest.raises(StoreUnavailable):
        await asyncio.wait_for(asked, 60)


@anyio
async def test_idle_store_process_that_ends_is_a_failure(opener: Opener) -> None:
    failures: list[BaseException] = []
    store = await opener(on_failure=failures.append)
    child_of(store).kill()
    await until(lambda: bool(failures))
    assert [type(failure) for failure in failures] == [StoreFailed]
    with pytest.raises(StoreUnavailable):
        await store.pull(pull(STATUSES))


@anyio
async def test_store_process_ends_only_with_its_server(opener: Opener) -> None:
    """What a terminal or a service manager sends to the whole group is not meant for it."""
    store = await opener()
    child = child_of(store)
    for number in (signal.SIGINT, signal.SIGTERM):
        child.send_signal(number)
    assert await store.append(append(STATUSES, records(1))) == 1
    await store.close()
    assert child.returncode == 0


@anyio
async def test_closing_folds_the_log(opener: Opener, file: Path) -> None:
    store = await opener()
    entries = records(300)
    asked = together(store, *[append(STATUSES, [entry]) for entry in entries])
    assert await asked == [1] * 300
    await store.close()
    assert not file.with_name(file.name + "-wal").exists()
    assert await data_of(await opener(), STATUSES) == entries


@anyio
async def test_refusal_to_open_is_told_and_leaves_nobody(url: str, file: Path) -> None:
    spoil(file)
    for _ in range(2):  # the lock is free again
        with pytest.raises(StoreCorrupt, match="damaged or no database"):
            await open_store(url, server=True)


@anyio
async def test_end_before_anybody_listens_is_heard(url: str, file: Path) -> None:
    await (await open_store(url)).close()
    channel = await channel_of(file)
    channel._process.kill()
    await until(channel._ended.done)
    heard: list[BaseException | None] = []
    channel.start(lambda report: heard.append(report.failure))
    assert [type(failure) for failure in heard] == [type(None), StoreFailed]
    await channel.close()


@anyio
async def test_changes_of_others_are_noticed(opener: Opener, file: Path) -> None:
    """Also while nothing is asked: the store process says so of its own accord."""
    store = await opener(server=True)
    other = await open_store(sqlite_url(file))
    await other.append(append(STATUSES, records(3)))
    await until(lambda: writer_of(store).waiting.get(slot(STATUSES)) == 3)
    assert (await store.pull(pull(STATUSES))).count == 3
    await other.close()


@anyio
async def test_what_is_said_before_anybody_listens_is_heard(url: str, file: Path) -> None:
    """Between the first word and the first use, somebody else may change the store."""
    async with asyncio.timeout(60):
        await (await open_store(url)).close()
        channel = await channel_of(file)
        other = await open_store(url)
        await other.append(append(STATUSES, records(3)))
        await other.close()
        await until(lambda: len(channel._early) == 2)
        heard: list[dict[int, int]] = []
        channel.start(lambda report: heard.append(report.waiting))
        assert [sum(waiting.values()) for waiting in heard] == [0, 3]
        await channel.close()


SERVER = """
import asyncio, sys
from pullstatus.store import open_store
from tests.store.sqlite.test_process import child_of

async def main():
    store = await open_store(sys.argv[1], server=True)
    print(child_of(store).pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


@anyio
async def test_store_process_dies_with_its_server(url: str, opener: Opener) -> None:
    """At once, so that the next server finds the store free."""
    with started(url) as server:
        assert server.stdout is not None
        child = int(server.stdout.readline())
        assert not gone(child)
        os.kill(child, signal.SIGSTOP)  # not even busy with something else
        server.kill()
    await until(lambda: gone(child))
    store = await opener(server=True)
    assert await store.append(append(STATUSES, records(1))) == 1


def test_every_error_a_store_may_answer_with_can_travel() -> None:
    for error in (OutcomeUnknown("a"), StoreUnavailable("b"), TypeError("c")):
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is type(error)
        assert copy.args == error.args
