"""The number of a record, however it is written: what is said of many is what is said of each."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pullstatus.records.numbers import (
    ENDING_DIGITS,
    bare,
    calling_code,
    e164,
    ending,
    endings,
    is_number,
    may_be,
)


@dataclass
class Number:
    nationcode: str
    mobile: str


mobiles = st.from_regex(r"\+?[0-9]{1,12}", fullmatch=True)


@given(st.lists(st.builds(Number, st.sampled_from(["1", "86", "852"]), mobiles)))
def test_the_endings_of_many_are_those_of_each(numbers: list[Number]) -> None:
    assert endings(numbers) == [ending(number.nationcode, number.mobile) for number in numbers]


@given(
    st.builds(
        Number,
        st.text("01", min_size=1, max_size=3),
        st.builds(str.__add__, st.sampled_from(["", "+", "00"]), st.text("01", min_size=1)),
    ),
    st.sampled_from(["with its code", "as it is", "without its code"]),
)
@example(Number("86", "00123456"), "with its code")
@example(Number("1", "001234567"), "with its code")
@example(Number("001", "1234567"), "with its code")
@example(Number("0086", "123456"), "with its code")
def test_whatever_is_the_number_ends_as_it_does(number: Number, how: str) -> None:
    """So the index finds what a look at each record does."""
    code, rest = calling_code(number.nationcode), bare(number.mobile)
    digits = {
        "with its code": code + rest,
        "as it is": rest,
        "without its code": rest.removeprefix(code),
    }[how]
    meant = is_number(digits, number.nationcode, number.mobile)
    meant = meant or may_be(digits, number.nationcode, number.mobile)
    if meant and len(digits) >= ENDING_DIGITS:
        assert endings([number]) == [digits[-ENDING_DIGITS:]]


@given(
    st.text("018", max_size=4),
    st.one_of(
        st.builds(str.__add__, st.sampled_from(["", "+", "00"]), st.text("018")), st.text("+0 x")
    ),
)
@example("86", "+13800000007")
@example("86", "0013800000007")
@example("86", "00")
@example("0086", "13800000007")
@example("0086", "8613800000007")
@example("0086", "008613800000007")
def test_a_number_that_is_told_finds_its_record(nationcode: str, mobile: str) -> None:
    """It begins with the record's calling code, and with that only once behind a plus or 00."""
    told, code = e164(nationcode, mobile), calling_code(nationcode)
    assert told.startswith(f"+{code}")
    assert is_number(told[1:], code, mobile)
    assert is_number(told[1:], nationcode, mobile)
    if bare(mobile) != mobile and bare(mobile).startswith(code):
        assert told == f"+{bare(mobile)}"


@pytest.mark.parametrize(
    ("nationcode", "code"),
    [("86", "86"), ("+86", "86"), ("0086", "86"), ("+0086", "86"), ("00852", "852"), ("086", "86")],
)
def test_a_calling_code_is_without_what_stands_in_front_of_it(nationcode: str, code: str) -> None:
    assert calling_code(nationcode) == code


@pytest.mark.parametrize("nationcode", ["", "0", "00", "+"])
def test_what_has_no_calling_code_behind_it_stays(nationcode: str) -> None:
    assert calling_code(nationcode) == nationcode


def test_a_number_without_a_sign_may_begin_like_its_calling_code() -> None:
    """As many do in India and in Kazakhstan."""
    assert e164("91", "9123456789") == "+919123456789"
    assert e164("7", "7012345678") == "+77012345678"


def test_a_plus_is_no_digit_of_an_ending() -> None:
    """Nor where no digit of the calling code is one."""
    short = "1" * (ENDING_DIGITS - 1)
    assert endings([Number("86", f"+{short}"), Number("86", f"+{short}2")]) == [
        f"6{short}",
        f"{short}2",
    ]
