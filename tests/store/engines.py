"""The engines that the tests of this folder run over. To add one, add one entry to `ENGINES`."""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

# From an empty folder to the URL of a new, empty store, which lives as long as the context.
Place = Callable[[Path], AbstractContextManager[str]]


@contextlib.contextmanager
def sqlite(folder: Path) -> Iterator[str]:
    yield f"sqlite:///{folder}/store.db"


ENGINES: dict[str, Place] = {
    "sqlite": sqlite,
}
