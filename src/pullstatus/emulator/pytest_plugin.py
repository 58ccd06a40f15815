"""Fixtures for testing what sends SMS and pulls their statuses; pytest finds them by itself.

    def test_nothing_is_lost(pullstatus_emulator):
        fed = pullstatus_emulator.feed(3)
        pullstatus_emulator.faults.add("cut", call="pullstatus")
        assert my_application(pullstatus_emulator.base_url).pull_all() == fed

Every run of pytest in an environment with pullstatus imports this file, so it imports nothing
else until a fixture is used. The fixtures need the extra `server`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pullstatus.emulator.thread import EmulatorThread

__all__ = ["pullstatus_emulator", "pullstatus_emulator_session", "pullstatus_scenario"]


@pytest.fixture(scope="session")
def pullstatus_scenario() -> Path | str | Mapping[str, object] | None:
    """The emulator's scenario: override it to return a path or a scenario's members.

    By default there is no traffic, and what is sent is delivered before the send is answered.
    """
    return None


@pytest.fixture
def pullstatus_emulator(
    pullstatus_scenario: Path | str | Mapping[str, object] | None,
) -> Iterator[EmulatorThread]:
    """A running emulator for one test: base_url, sdkappid, appkey, feed(), faults, sent."""
    with _emulator(pullstatus_scenario) as emulator:
        yield emulator


@pytest.fixture(scope="session")
def pullstatus_emulator_session(
    pullstatus_scenario: Path | str | Mapping[str, object] | None,
) -> Iterator[EmulatorThread]:
    """A running emulator for all tests, which must `reset()` it where that matters."""
    with _emulator(pullstatus_scenario) as emulator:
        yield emulator


def _emulator(scenario: Path | str | Mapping[str, object] | None) -> EmulatorThread:
    try:
        from pullstatus.emulator.thread import EmulatorThread  # noqa: PLC0415 - see above
    except ModuleNotFoundError as error:
        from pullstatus.errors import extra_missing  # noqa: PLC0415 - see above

        raise pytest.UsageError(extra_missing(error)) from error
    return EmulatorThread(scenario)
