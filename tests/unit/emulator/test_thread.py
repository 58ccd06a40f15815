"""The emulator beside a test, and what it leaves behind."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
import structlog

from pullstatus.emulator import thread
from pullstatus.emulator.thread import EmulatorThread
from pullstatus.errors import StoreRefused
from tests.harness import PATIENCE_S


@pytest.fixture(autouse=True)
def _log_of_this_process() -> Iterator[None]:
    before, was_configured = structlog.get_config(), structlog.is_configured()
    structlog.reset_defaults()
    yield
    if was_configured:
        structlog.configure(**before)
    else:
        structlog.reset_defaults()


def test_a_log_that_the_application_has_set_up_meanwhile_stays() -> None:
    with EmulatorThread():
        theirs = [structlog.processors.JSONRenderer()]
        structlog.configure(processors=theirs)
    assert structlog.get_config()["processors"] is theirs


def test_a_log_that_nobody_had_set_up_is_as_before() -> None:
    with EmulatorThread():
        assert structlog.is_configured()
    assert not structlog.is_configured()


def test_a_log_that_nobody_had_set_up_stays_silent_until_the_last_emulator_stops(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Whichever was started first."""
    first, second = EmulatorThread().start(), EmulatorThread().start()
    first.stop()
    assert structlog.is_configured()
    httpx.get(second.base_url, trust_env=False, timeout=PATIENCE_S)
    second.stop()
    second.stop()
    assert not structlog.is_configured()
    assert capfd.readouterr() == ("", "")


def test_an_emulator_that_does_not_start_leaves_the_log_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_args: object, **_named: object) -> None:
        raise StoreRefused("no place")

    monkeypatch.setattr(thread, "emulate", fail)
    with pytest.raises(StoreRefused, match="no place"):
        EmulatorThread().start()
    assert not structlog.is_configured()


def test_an_emulator_that_does_not_run_says_what_to_do() -> None:
    emulator = EmulatorThread()
    emulator.stop()  # there is nothing to stop
    with pytest.raises(RuntimeError, match="does not run: use it within its with block"):
        emulator.feed()
    with emulator:
        assert emulator.waiting() == 0
    for use in (emulator.feed, emulator.reset, emulator.faults.clear, lambda: emulator.sent):
        with pytest.raises(RuntimeError, match="does not run: use it within its with block"):
            use()
    with pytest.raises(RuntimeError, match="make another EmulatorThread"):
        emulator.start()
