"""The number of a record, however it is written: what is said of many is what is said of each."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from pullstatus.records.numbers import ENDING_DIGITS, ending, endings


@dataclass
class Number:
    nationcode: str
    mobile: str


mobiles = st.from_regex(r"\+?[0-9]{1,12}", fullmatch=True)


@given(st.lists(st.builds(Number, st.sampled_from(["1", "86", "852"]), mobiles)))
def test_the_endings_of_many_are_those_of_each(numbers: list[Number]) -> None:
    assert endings(numbers) == [ending(number.nationcode, number.mobile) for number in numbers]


def test_a_plus_is_no_digit_of_an_ending() -> None:
    """Nor where no digit of the calling code is one."""
    short = "1" * (ENDING_DIGITS - 1)
    assert endings([Number("86", f"+{short}"), Number("86", f"+{short}2")]) == [
        f"6{short}",
        f"{short}2",
    ]
