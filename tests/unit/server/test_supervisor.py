"""What whoever supervises the process is told."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pullstatus.server.supervisor import Supervisor


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """The address of a service manager, as a process is told it, and its end."""
    path = request.param == "path"
    address = str(tmp_path / "notify") if path else f"@pullstatus{tmp_path.name}{id(request)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(address if path else f"\0{address[1:]}")
        listening.settimeout(60)
        yield address, listening


def test_it_is_told_in_datagrams(manager: tuple[str, socket.socket]) -> None:
    address, listening = manager
    environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}
    supervisor = Supervisor.of(environment, 7)
    assert environment == {}
    assert supervisor.alive_every_s == 15
    supervisor.ready("serving")
    supervisor.alive()
    supervisor.stopping()
    told = [listening.recv(1000).split(b"\n")[0] for _ in range(3)]
    assert told == [b"READY=1", b"WATCHDOG=1", b"STOPPING=1"]


def test_what_is_told_once_waits_until_what_is_told_again_is_read(
    manager: tuple[str, socket.socket],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pullstatus.server.supervisor.PATIENCE_S", 60.0)
    address, listening = manager
    supervisor = Supervisor(address)
    for _ in range(5_000):  # more than the kernel keeps
        supervisor.alive()
    heard: list[bytes] = []
    reading = threading.Thread(
        target=lambda: heard.extend(iter(lambda: listening.recv(1000), b"READY=1\nSTATUS=serving"))
    )
    with ThreadPoolExecutor() as pool:
        telling = pool.submit(supervisor.ready, "serving")
        reading.start()
        telling.result()
    reading.join()
    assert 0 < len(heard) < 5_000


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"WATCHDOG_USEC": "1000"},
        {"NOTIFY_SOCKET": "/nowhere/notify"},
        {"NOTIFY_SOCKET": "/" + 200 * "x", "WATCHDOG_USEC": "0"},
        {"NOTIFY_SOCKET": "vsock:2:1234", "WATCHDOG_USEC": "1000"},
        {"NOTIFY_SOCKET": "/nowhere/notify", "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "8"},
        {"NOTIFY_SOCKET": "/nowhere/notify", "WATCHDOG_USEC": "often"},
        {"NOTIFY_SOCKET": "/nowhere/notify", "WATCHDOG_USEC": "9" * 5000},
    ],
)
def test_nobody_is_told_and_nothing_fails(environment: dict[str, str]) -> None:
    supervisor = Supervisor.of(environment, 7)
    assert environment == {}
    assert supervisor.alive_every_s is None
    supervisor.ready("serving")
    supervisor.stopping()
