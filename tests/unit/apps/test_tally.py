"""Failed tries on record: all are counted, nobody is named, and there are few rows."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullstatus import limits
from pullstatus.apps import Operator
from pullstatus.apps.tally import Tally
from pullstatus.records.hours import HOUR_MS

NOW_MS = 1_800_000_000_000  # 08:00 UTC
SINCE = "2027-01-15T08:00:00+00:00"


def taken(tally: Tally, now_ms: int = NOW_MS + 1) -> list[dict[str, Any]]:
    acts = tally.take(Operator("server", now_ms, lambda size: "ab" * size))
    assert {(act.actor, act.action, act.reason, act.at_ms) for act in acts} <= {
        ("server", "failed tries", "", now_ms)
    }
    return [json.loads(act.detail) for act in acts]


def test_a_row_for_each_application_and_fault() -> None:
    tally = Tally(NOW_MS)
    for number in range(3):
        tally.count("signature", 7, f"192.0.2.{number}")
        tally.count("signature", 7, "192.0.2.1")
    tally.count("signature", 8, "2001:db8::1")
    tally.count("signature", 8, "2001:db8::2")
    tally.count("token", 7, "192.0.2.1")
    tally.count("application", None, "192.0.2.1")
    assert taken(tally) == [
        {"what": "application", "sdkappid": None, "tries": 1, "addresses": 1, "since": SINCE},
        {"what": "signature", "sdkappid": 7, "tries": 6, "addresses": 3, "since": SINCE},
        {"what": "signature", "sdkappid": 8, "tries": 2, "addresses": 1, "since": SINCE},
        {"what": "token", "sdkappid": 7, "tries": 1, "addresses": 1, "since": SINCE},
    ]
    assert taken(tally) == []


def test_each_time_counts_anew_and_says_since_when() -> None:
    tally = Tally(NOW_MS)
    tally.count("token", None, "192.0.2.1")
    taken(tally, NOW_MS + HOUR_MS)
    tally.count("token", None, "192.0.2.1")
    [row] = taken(tally, NOW_MS + 2 * HOUR_MS)
    assert (row["tries"], row["addresses"], row["since"]) == (1, 1, SINCE.replace("08:", "09:"))


def test_an_hour_is_over_when_the_clock_shows_another() -> None:
    tally = Tally(NOW_MS + 1)
    assert not tally.hour_over(NOW_MS + 1)
    assert not tally.hour_over(NOW_MS + HOUR_MS - 1)
    assert tally.hour_over(NOW_MS + HOUR_MS)
    assert tally.hour_over(NOW_MS - 1), "a clock that was put back ends it, too"


@pytest.mark.parametrize("more", [0, 1, 1000])
def test_rows_have_a_bound_and_the_last_sums_the_rest(more: int) -> None:
    tally = Tally(NOW_MS)
    applications = limits.FAILED_TRIES_ROWS_MAX - 1 + more
    for number in range(applications):
        for _ in range(1 if number % 100 else 2):
            tally.count("signature", 1 + number, f"192.0.2.{number % 3}")
    tally.count("application", None, "192.0.2.1")
    rows = taken(tally)
    assert len(rows) == limits.FAILED_TRIES_ROWS_MAX
    assert sum(row["tries"] for row in rows) == 1 + applications + (applications + 99) // 100
    assert rows[0]["what"] == "application", "however few there were"
    assert rows[1]["tries"] == 2
    if more:
        assert rows[-1] == {
            "applications": more + 1,
            "tries": more + 1,
            "addresses": min(3, more + 1),
            "since": SINCE,
        }


def test_addresses_have_a_bound_and_a_row_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FAILED_TRIES_ADDRESSES_MAX", 10)
    tally = Tally(NOW_MS)
    for number in range(9):
        tally.count("signature", 7, f"192.0.2.{number}")
    for number in range(3):
        tally.count("signature", 8, f"192.0.2.{number}")
    for _ in range(2):
        tally.count("signature", 7, "192.0.2.0")
    one, two = taken(tally)
    assert (one["tries"], one["addresses"], "or_more" in one) == (11, 9, False)
    assert (two["tries"], two["addresses"], two["or_more"]) == (3, 1, True)
    tally.count("signature", 7, "192.0.2.200")
    [row] = taken(tally)
    assert (row["addresses"], "or_more" in row) == (1, False), "there is room again"


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["signature", "application", "token"]),
            st.none() | st.integers(1, 40),
            st.integers(0, 20),
        ),
        max_size=200,
    )
)
def test_none_is_lost_and_no_address_is_told(tries: list[tuple[str, int | None, int]]) -> None:
    tally = Tally(NOW_MS)
    for what, sdkappid, host in tries:
        tally.count(what, sdkappid, f"192.0.2.{host}")
    rows = taken(tally)
    assert len(rows) <= limits.FAILED_TRIES_ROWS_MAX
    assert sum(row["tries"] for row in rows) == len(tries)
    expected = Counter((what, sdkappid) for what, sdkappid, _ in tries)
    for row in rows:
        if "what" in row:
            assert row["tries"] == expected[row["what"], row["sdkappid"]]
    assert "192.0.2" not in str(rows)
