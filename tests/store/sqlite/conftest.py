"""The embedded engine alone: its file, and doors to what is inside."""

from pathlib import Path

import pytest

from tests.store.engines import sqlite_url


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def url(file: Path) -> str:
    """Takes the place of the fixture that goes over all engines.

    These look inside, where the engine shares our process; `test_process` is for the other way.
    """
    return sqlite_url(file)
