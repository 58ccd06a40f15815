"""A new store: made as a whole, by one of those who come at once, and served from then on."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from pullstatus.errors import StoreRefused
from pullstatus.server import serve
from pullstatus.server.serve import ServeOptions, Server
from pullstatus.store import open_store
from pullstatus.store.sqlite import place, schema
from pullstatus.store.sqlite.connection import open_writer
from pullstatus.store.sqlite.place import begins
from pullstatus.store.sqlite.stamp import lock_file
from tests.harness import PATIENCE_S


def test_a_new_file_is_made_in_one_commit(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two formats a command took it for an old store, or for another program's."""
    steps = (*schema.MIGRATIONS[:-1], f"{schema.MIGRATIONS[-1]}; SELECT no_such_function();")
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", steps)
        with pytest.raises(StoreRefused):
            open_writer(file)
    with contextlib.closing(apsw.Connection(str(file))) as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_schema").get == 0
        assert connection.pragma("application_id") == 0
    open_writer(file).close()
    with contextlib.closing(apsw.Connection(str(file))) as connection:
        assert schema.version(connection) == schema.VERSION


@pytest.mark.parametrize("suffix", ["-journal", "-wal"])
def test_a_store_in_the_making_is_waited_for(file: Path, suffix: str) -> None:
    """Its log is there before anything is in its file."""
    file.touch()
    log = file.with_name(file.name + suffix)
    log.write_text("of the one that makes it")

    def finish() -> None:
        file.write_text("made")

    timer = threading.Timer(0.3, finish)
    timer.start()
    try:
        assert begins(file) is False
        assert file.read_text() == "made"
    finally:
        timer.join()


def test_what_another_store_has_left_is_refused_at_once(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, "MAKING_S", 2 * PATIENCE_S)
    file.with_name(f"{file.name}-wal").write_text("commits")
    started = time.monotonic()
    with pytest.raises(StoreRefused, match="may hold records"):
        begins(file)
    assert time.monotonic() - started < PATIENCE_S


def test_what_a_killed_one_left_half_made_is_refused_in_the_end(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, "MAKING_S", 0.1)
    file.touch()
    file.with_name(f"{file.name}-wal").write_text("commits")
    with pytest.raises(StoreRefused, match="may hold records"):
        begins(file)


def test_a_lock_that_appears_between_two_looks_is_no_lost_store(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one makes first the file, then its lock's: seen in the other order, both are."""
    looked: list[str] = []
    exists: Callable[[Path], bool] = Path.exists

    def look(path: Path) -> bool:
        looked.append(path.name)
        return exists(path)

    def holds_nothing(path: Path) -> bool:
        looked.append(path.name)
        return path.name != lock_file(file).name

    monkeypatch.setattr(place, "holds_nothing", holds_nothing)
    monkeypatch.setattr(Path, "exists", look)
    with contextlib.suppress(StoreRefused):
        place.check_begins(file)
    assert looked.index(lock_file(file).name) < looked.index(file.name)


def test_nobody_can_connect_before_there_is_a_store(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever takes an open port for a server that is ready finds one."""
    opened: list[bool] = []

    def probe(port: int) -> bool:
        with contextlib.closing(socket.socket()) as end:
            return end.connect_ex(("127.0.0.1", port)) == 0

    bound: list[socket.socket] = []
    bind = serve._bind

    def remember(host: str, port: int) -> socket.socket:
        bound.append(bind(host, port))
        return bound[0]

    async def look_before(*args: Any, **options: Any) -> Any:  # noqa: ANN401
        opened.append(probe(bound[0].getsockname()[1]))
        return await open_store(*args, **options)

    monkeypatch.setattr(serve, "_bind", remember)
    monkeypatch.setattr(serve, "open_store", look_before)
    server = Server(ServeOptions(f"sqlite:///{file}?commits=thread", port=0))

    def ready(address: str) -> None:
        opened.append(probe(int(address.rpartition(":")[2])))
        asyncio.get_running_loop().call_later(0.1, server.stop)

    asyncio.run(server.run(on_ready=ready))
    assert opened == [False, True]
