"""A store on the nodes that all tests share, whose streams are made once."""

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Iterator

import pytest

from pullstatus.store.jetstream import api, links, reading, writing
from pullstatus.store.jetstream.bus import Bus
from pullstatus.store.jetstream.location import Login, parse_url
from tests.store.engines import cluster
from tools.nats import PATIENCE_S, Node

STORE = "bus"
STREAM = "bus_0"
ANSWER_S = 60.0  # for one answer; of a stream that nobody leads there is none
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def made() -> str:
    """Its URL."""
    url = cluster().url(STORE)
    with pytest.MonkeyPatch.context() as patch:
        _never_give_up(patch)
        with Bus(parse_url(url), Login()) as bus:
            bus.init(1)
    cluster().settle()
    return url


@pytest.fixture
def bus(made: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bus]:
    """Its streams are proven at every new connection, too."""
    _never_give_up(monkeypatch)
    with Bus(parse_url(made), Login()) as bus:
        assert bus.open().partitions == 1
        yield bus


@pytest.fixture
def unhurried(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bus asks and writes once, and waits for what is said, however busy the machine is."""
    monkeypatch.setattr(writing, "TRY_S", ANSWER_S)
    monkeypatch.setattr(api, "REQUEST_S", ANSWER_S)
    monkeypatch.setattr(links, "PONG_S", ANSWER_S)


def _never_give_up(patch: pytest.MonkeyPatch) -> None:
    """Ask again for as long as a test waits."""
    patch.setattr(writing, "RESOLVE_S", PATIENCE_S)
    for module in (reading, api):
        patch.setattr(module, "GIVE_UP_S", PATIENCE_S)


@pytest.fixture
def app() -> str:
    """The begin of subjects that nobody else has."""
    return f"{STORE}.0.{next(_numbers)}"


def copied(sequence: int) -> None:
    """Wait until every node has what the stream holds up to a sequence."""
    until(lambda: all(_state(node)[0] >= sequence for node in cluster().nodes))


def alike() -> None:
    """Wait until every node has removed what the leader of the stream has."""
    until(lambda: len({_state(node) for node in cluster().nodes}) == 1)


def until(happened: Callable[[], bool]) -> None:
    """Ask again and again until it is so; a node may say nothing meanwhile."""
    due_s = time.monotonic() + PATIENCE_S
    while True:
        with contextlib.suppress(OSError):
            if happened():
                return
        assert time.monotonic() < due_s, f"still not so after {PATIENCE_S} s"
        time.sleep(0.01)


def _state(node: Node) -> tuple[int, int]:
    """The newest message that a node has, and how many."""
    [account] = node.look("/jsz?accounts=true&streams=true")["account_details"]
    [found] = [each for each in account["stream_detail"] if each["name"] == STREAM]
    return int(found["state"]["last_seq"]), int(found["state"]["messages"])


def op() -> bytes:
    """One that no other write has."""
    return os.urandom(16)
