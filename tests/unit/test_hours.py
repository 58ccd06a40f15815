"""Hours as the wire writes them."""

from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullstatus.records import UTC8
from pullstatus.records.hours import HOUR_MS, hour_of, nearest_hour, unix_hours, written


@given(st.integers(0, 250_000_000_000_000))
def test_hour_is_that_of_the_clock_in_utc8(at_ms: int) -> None:
    hour = hour_of(at_ms)
    assert str(hour) == f"{datetime.fromtimestamp(at_ms // 1000, UTC8):%Y%m%d%H}"
    assert unix_hours(hour) == at_ms // HOUR_MS
    assert written(at_ms // HOUR_MS) == hour


@pytest.mark.parametrize(
    "hour",
    [0, -1, -2026112812, 20261128, 2026022900, 2026112824, 2026130100, 10**12, 99999999999, 2**63],
)
def test_what_is_no_hour_of_the_calendar(hour: int) -> None:
    assert unix_hours(hour) is None


@pytest.mark.parametrize(
    ("at_ms", "hour"),
    [
        (-1, 1970010108),
        (0, 1970010108),
        (1_795_906_800_000, 2026112907),
        (253_402_271_999_999, 9999123123),
        (253_402_300_799_999, 9999123123),
        (1 << 62, 9999123123),
    ],
)
def test_every_moment_is_nearest_to_an_hour_that_can_be_written(at_ms: int, hour: int) -> None:
    assert nearest_hour(at_ms) == hour


def test_hours_go_on_over_the_end_of_a_year() -> None:
    new_year = unix_hours(2024010100)
    assert new_year is not None
    assert unix_hours(2023123123) == new_year - 1
    assert unix_hours(2024022923) == new_year + (31 + 29) * 24 - 1
