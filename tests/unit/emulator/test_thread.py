"""The emulator beside a test, and what it leaves behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog

from pullstatus.emulator.thread import EmulatorThread


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
