"""The engines that the tests of this folder run over. To add one, add one entry to `ENGINES`.

`PULLSTATUS_NODES=1` has all of them run over real JetStream nodes, too, and not over a cluster in
memory alone: `make test-nodes`. A few always do: see `test_real_nodes.py`.
"""

import atexit
import contextlib
import functools
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from pullstatus.store import Store, join_store, open_store, share_store
from pullstatus.store.sqlite import joining, log
from tests.store.jetstream import scheme
from tools.nats import Cluster
from tools.postgresql import PostgreSQL

# From an empty folder to the URL of a new, empty store, which lives as long as the context.
Place = Callable[[Path], AbstractContextManager[str]]

# Opens a store, as often as it is called; its arguments are those of `open_store`.
Opener = Callable[..., Coroutine[Any, Any, Store]]

# From the URL of a store to an opener; what is open at the end of the context is closed.
Doors = Callable[[str], AbstractAsyncContextManager[Opener]]


def sqlite_url(file: Path, commits: str = "thread") -> str:
    """Of the embedded engine, with commits in a thread, where a test can reach inside."""
    return f"sqlite:///{file}?commits={commits}"


@contextlib.contextmanager
def sqlite(folder: Path, commits: str) -> Iterator[str]:
    yield sqlite_url(folder / "store.db", commits)


@contextlib.contextmanager
def joining_always() -> Iterator[None]:
    """Have small chunks of a file joined between any two commits, however few there are."""
    with (
        mock.patch.object(joining, "DUE_ROWS", 2),
        mock.patch.object(joining, "LEAST_ROWS", 2),
        mock.patch.object(log, "JOIN_PAUSE_S", 0),
        mock.patch.object(log, "JOIN_PAUSES", 0),
        mock.patch.object(log, "JOIN_PAUSES_IDLE", 0),
    ):
        yield


@contextlib.contextmanager
def sqlite_joining(folder: Path) -> Iterator[str]:
    """With small chunks joined."""
    with joining_always(), sqlite(folder, "thread") as url:
        yield url


@functools.cache
def server() -> PostgreSQL:
    """One for all tests of a run; it ends with them."""
    found = PostgreSQL().__enter__()
    atexit.register(found.__exit__)
    return found


@functools.cache
def cluster() -> Cluster:
    """The same of NATS: three nodes, each of which a test may end if it heals them."""
    found = Cluster().__enter__()
    atexit.register(found.__exit__)
    return found


@contextlib.contextmanager
def postgresql(_folder: Path) -> Iterator[str]:
    """With commits in a thread: what goes to a process and back is the same for every engine."""
    with server().database() as url:
        yield f"{url}&commits=thread"


@contextlib.contextmanager
def jetstream(folder: Path) -> Iterator[str]:
    """Over real nodes."""
    from tests.store.jetstream import real

    with real.place(folder) as url:
        yield url


@contextlib.asynccontextmanager
async def alone(url: str) -> AsyncIterator[Opener]:
    """Each door opens the store."""
    async with contextlib.AsyncExitStack() as stack:

        async def open_one(**options: object) -> Store:
            store = await open_store(url, **options)  # type: ignore[arg-type]
            stack.push_async_callback(store.close)
            return store

        yield open_one


@contextlib.asynccontextmanager
async def workers(url: str) -> AsyncIterator[Opener]:
    """A server has opened the store, and each door is that of one of its workers."""
    async with contextlib.AsyncExitStack() as stack:
        owner = await open_store(url, server=True, shared=True)
        stack.push_async_callback(owner.close)

        async def open_one(**_options: object) -> Store:
            store = await join_store(url, share_store(owner, url, 2))
            stack.push_async_callback(store.close)
            return store

        yield open_one


class Tested(NamedTuple):
    """An engine.

    Attributes:
        place: makes a store of it.
        doors: opens it.
        share: of the model's examples that it is run with; less where opening takes long.
    """

    place: Place
    doors: Doors = alone
    share: float = 1.0


ENGINES: dict[str, Tested] = {
    "sqlite-thread": Tested(sqlite_joining),
    "sqlite-process": Tested(functools.partial(sqlite, commits="process"), share=0.06),
    "sqlite-workers": Tested(
        functools.partial(sqlite, commits="process"), doors=workers, share=0.06
    ),
    "postgresql": Tested(postgresql, share=0.2),
    "jetstream-memory": Tested(scheme.cluster, share=0.3),
}
NODES = Tested(jetstream, share=0.05)
if "PULLSTATUS_NODES" in os.environ:  # they take ten times as long as a cluster in memory
    ENGINES["jetstream-nodes"] = NODES
