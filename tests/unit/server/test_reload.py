"""Which options a reload changes, and when."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import structlog

from pullstatus.apps import GivenFile
from pullstatus.errors import InvalidSetting
from pullstatus.server.serve import FOLLOWED, FOLLOWED_OF_TLS, ServeOptions, Server
from pullstatus.server.workers.control import Reload
from pullstatus.server.workers.parent import Parent

BEFORE = ServeOptions("sqlite:////nonexistent/a.db", workers=2, log_level="info")
OTHERS: dict[str, Any] = {
    "store": "postgresql://nowhere/b",
    "host": "::1",
    "port": 9,
    "trusted_proxies": "192.0.2.0/24",
    "tls_certificate": Path("other.pem"),
    "tls_key": Path("other-key.pem"),
    "retention_days": 1.5,
    "reserve_bytes": 7,
    "upkeep_every_s": 3.0,
    "admin": ("127.0.0.1", 7),
    "masters": GivenFile(Path("keys")),
    "workers": 4,
    "worst": 3,
    "public_url": "https://new.example",
    "log_level": "warning",
}


@pytest.fixture(autouse=True)
def _log_level() -> Iterator[None]:
    before = logging.getLogger().level
    yield
    logging.getLogger().setLevel(before)


def begun(server: Server) -> Server:
    """As if it served."""
    inbound = SimpleNamespace(public_url=server.options.public_url)
    server.routes = SimpleNamespace(worst=server.options.worst, inbound=inbound)  # type: ignore[assignment]
    server.started.set()
    return server


def made(source: Callable[[], ServeOptions]) -> Server:
    return begun(Server(BEFORE, source=source))


def test_every_option_is_tried() -> None:
    assert set(OTHERS) == set(ServeOptions.__struct_fields__)
    assert all(getattr(BEFORE, name) != value for name, value in OTHERS.items())


@pytest.mark.parametrize("name", OTHERS)
def test_an_option_is_followed_or_stays_until_a_restart(name: str) -> None:
    """In the server and in what its workers are told, also those that are started later."""
    again = msgspec.structs.replace(BEFORE, **{name: OTHERS[name]})
    told: list[Reload] = []
    parent = Parent(BEFORE, command=(), source=lambda: again)
    parent._fleet = SimpleNamespace(tell=told.append)  # type: ignore[assignment]
    with structlog.testing.capture_logs() as logged:
        begun(parent).reload()
        parent.reload()
    after = again if name in FOLLOWED else BEFORE
    assert parent.options == after
    assert [one.options for one in told] == [after, after]
    [changed, *more] = [(line["event"], line["changed"]) for line in logged]
    if name in FOLLOWED:
        assert (changed, more) == (("reloaded", [name]), [("reloaded", [])])
    else:
        assert changed == ("reloaded", [])
        assert more == [("restart needed", [name]), ("reloaded", [])]


def test_an_option_that_is_put_back_needs_no_restart() -> None:
    read = iter([msgspec.structs.replace(BEFORE, store=OTHERS["store"]), BEFORE])
    server = made(lambda: next(read))
    with structlog.testing.capture_logs() as logged:
        server.reload()
        server.reload()
    assert [line["event"] for line in logged] == ["reloaded", "restart needed", "reloaded"]


@pytest.mark.parametrize("name", sorted(FOLLOWED_OF_TLS))
def test_files_of_tls_are_followed_where_there_is_a_certificate(name: str) -> None:
    before = msgspec.structs.replace(
        BEFORE, tls_certificate=Path("a.pem"), tls_key=Path("a-key.pem")
    )
    again = msgspec.structs.replace(before, **{name: OTHERS[name]})
    server = begun(Server(before, source=lambda: again))
    renewed: list[tuple[Path, Path]] = []
    server._certificate = SimpleNamespace(renew=lambda *files: renewed.append(files))  # type: ignore[assignment]
    server.reload()
    assert renewed == [(again.tls_certificate, again.tls_key)]
    assert server.options == again


def test_a_reload_that_is_refused_changes_nothing() -> None:
    logging.getLogger().setLevel("INFO")
    all_of_them = msgspec.structs.replace(BEFORE, **OTHERS)

    def refuse(*_: object) -> None:
        raise InvalidSetting("no certificate")

    server = made(lambda: all_of_them)
    server._certificate = SimpleNamespace(renew=refuse)  # type: ignore[assignment]
    with structlog.testing.capture_logs() as logged:
        server.reload()
    assert [line["event"] for line in logged] == ["reload failed"]
    assert server.options == BEFORE
    assert logging.getLogger().level == logging.INFO


def test_signals_wait_until_the_server_has_started() -> None:
    done: list[str] = []

    def read() -> ServeOptions:
        done.append("read")
        return msgspec.structs.replace(BEFORE, worst=9)

    server = Server(BEFORE, source=read)
    for _ in range(3):
        server.when_started(server.reload)
    assert (done, server.options) == ([], BEFORE)
    begun(server)
    for work in server._once_started:
        work()
    assert done == ["read"]
    assert server.options.worst == 9
