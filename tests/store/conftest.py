"""A new, empty store of each engine, and doors to it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from pullstatus.store import Store
from tests.store.engines import ENGINES, Opener, Tested


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Tested:
    """Each in turn."""
    return ENGINES[request.param]


@pytest.fixture
def url(engine: Tested, tmp_path: Path) -> Iterator[str]:
    """Where a new, empty store is."""
    with engine.place(tmp_path) as url:
        yield url


@pytest.fixture
async def opener(engine: Tested, url: str) -> AsyncIterator[Opener]:
    """Opens the store at `url`, as often as it is called; what is open at the end is closed."""
    async with engine.doors(url) as open_one:
        yield open_one


@pytest.fixture
async def store(opener: Opener) -> Store:
    return await opener()
