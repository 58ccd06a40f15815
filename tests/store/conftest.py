"""A new, empty store of each engine, and doors to it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from pullstatus.store import Store, open_store
from tests.store.engines import ENGINES

Opener = Callable[..., Awaitable[Store]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=ENGINES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where a new, empty store is."""
    with ENGINES[request.param].place(tmp_path) as url:
        yield url


@pytest.fixture
async def opener(url: str) -> AsyncIterator[Opener]:
    """Opens the store at `url`, as often as it is called; what is open at the end is closed."""
    stores = []

    async def open_one(**options: object) -> Store:
        stores.append(await open_store(url, **options))  # type: ignore[arg-type]
        return stores[-1]

    yield open_one
    for store in stores:
        await store.close()


@pytest.fixture
async def store(opener: Opener) -> Store:
    return await opener()
