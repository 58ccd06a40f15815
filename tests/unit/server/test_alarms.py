"""Of each alarm a few lines, whatever it does."""

from __future__ import annotations

import socket

import msgspec
import pytest
import structlog

from pullstatus.server.alarms import QUIET_S, Alarms
from pullstatus.server.workers.worker import Worker
from pullstatus.store import Alarm

AWAY = Alarm("copies are away", {"stream": "s_0", "nodes": "n1"}, "start it")
MORE = Alarm("copies are away", {"stream": "s_0", "nodes": "n1, n2"}, "start them")
FULL = Alarm("nearly full", {"percent": 80}, "add room")


class Told:
    """What the log is told, as time goes on."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.alarms = Alarms(lambda: self.now_s)

    def then(self, *alarms: Alarm, after_s: float = 0.5) -> list[str]:
        """The lines once these are all that there are."""
        self.now_s += after_s
        with structlog.testing.capture_logs() as lines:
            self.alarms.tell(alarms)
        return [f"{line['log_level']}: {line['event']}" for line in lines]


def test_a_worker_tells_what_it_alone_has_met() -> None:
    with socket.socket() as end:
        worker = Worker(end)
        assert not worker.is_to_tell(AWAY)
        assert worker.is_to_tell(msgspec.structs.replace(AWAY, own=True))


@pytest.fixture
def told() -> Told:
    return Told()


def test_an_alarm_is_told_with_all_it_says_and_when_it_is_over(told: Told) -> None:
    with structlog.testing.capture_logs() as lines:
        told.alarms.tell([AWAY])
    assert lines == [
        {
            "event": "copies are away",
            "log_level": "error",
            "stream": "s_0",
            "nodes": "n1",
            "reason": "start it",
        }
    ]
    assert told.then(AWAY) == []
    assert told.then(FULL) == ["error: nearly full"]
    assert told.then(FULL, after_s=QUIET_S - 1) == []
    with structlog.testing.capture_logs() as lines:
        told.now_s += 1
        told.alarms.tell([FULL])
    assert lines == [
        {"event": "no more alarm", "log_level": "warning", "of": "copies are away", "after_s": 0}
    ]
    assert told.then(FULL, after_s=1000) == []


def test_what_comes_and_goes_or_changes_is_told_once_a_minute_at_most(told: Told) -> None:
    said: list[str] = []
    for step in range(600):
        said += told.then(*[[AWAY], [MORE], []][step % 3])
    assert len(said) <= 300 / QUIET_S + 1
    assert len(said) > 2
    assert told.then(after_s=QUIET_S) == ["warning: no more alarm"]
