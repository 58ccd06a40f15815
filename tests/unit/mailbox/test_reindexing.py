"""Which hours can be counted again, told by runs of entries of one hour."""

from __future__ import annotations

import pytest

from pullstatus.mailbox.reindexing import Run, Told, last_told


def run(last_seq: int, hour: int) -> Run:
    return Run(last_seq, hour, broken=False)


def broken(last_seq: int, hour: int) -> Run:
    return Run(last_seq, hour, broken=True)


@pytest.mark.parametrize(
    ("runs", "purged", "told"),
    [
        ([], 0, Told(0, 0)),
        ([run(5, 10), run(9, 11)], 0, Told(0, 0)),
        # What was removed before may have been of the same hour.
        ([broken(5, 10), run(9, 11)], 2, Told(5, 10)),
        # So may have been what is missing between.
        ([run(5, 10), broken(9, 11)], 0, Told(9, 11)),
        ([run(5, 10), broken(7, 10), run(9, 11)], 0, Told(7, 10)),
        # A clock was set back: entries of an hour lie on both sides of others.
        ([broken(5, 10), run(6, 12), run(7, 10), run(9, 13)], 1, Told(7, 12)),
        ([broken(5, 12), run(6, 11), run(7, 13)], 1, Told(6, 12)),
    ],
)
def test_hours_behind_a_gap_can_be_counted_again(runs: list[Run], purged: int, told: Told) -> None:
    assert last_told(runs, purged, 0) == told


def test_an_hour_that_a_clock_was_set_back_from_may_be_removed_before_an_earlier_one() -> None:
    runs = [broken(5, 10), run(6, 12), run(7, 13)]
    assert last_told(runs, 1, 12) == Told(6, 12)
    whole = [run(5, 10), run(6, 12), run(7, 13)]
    assert last_told(whole, 0, 12) == Told(0, 0)  # nothing was removed
