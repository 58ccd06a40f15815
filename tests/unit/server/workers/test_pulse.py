"""When a worker counts as one that hangs."""

from __future__ import annotations

from pullstatus import limits
from pullstatus.server.workers.pulse import BEAT_S, Pulse

LOOKS = int(limits.WORKER_SILENT_S / BEAT_S)


def test_a_worker_hangs_when_so_many_looks_find_nothing_new() -> None:
    pulse = Pulse()
    found = [pulse.stands_still(7) for _ in range(LOOKS + 2)]
    assert found == [False] * LOOKS + [True] * 2


def test_one_beat_is_enough_to_live_on() -> None:
    pulse = Pulse()
    for beats in range(3):
        assert not any(pulse.stands_still(beats) for _ in range(LOOKS))


def test_one_that_was_started_anew_begins_anew() -> None:
    """Its row of the ledger begins at 0 again, whatever the one before had counted."""
    pulse = Pulse()
    assert not any(pulse.stands_still(9) for _ in range(LOOKS))
    assert not any(pulse.stands_still(0) for _ in range(LOOKS))
