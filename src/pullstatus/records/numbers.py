"""The telephone number of a record, which senders write in more than one way.

A number is `nationcode` and `mobile` together: E.164 without its plus. Some senders put the code in
front of `mobile`, too, behind a plus, behind 00 or behind nothing, and some write `nationcode`
itself behind zeros: these are the same number.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

ENDING_DIGITS: Final = 8
"""By how many digits at its end a number is looked for, however it is written. Those of large
countries have more, so few share them."""


_ONE_DIGIT: Final = frozenset("17")
# The calling codes of two digits; all that begin otherwise have three (ITU-T E.164).
_TWO_DIGITS: Final = frozenset(
    f"{tens}{unit}"
    for tens, units in {
        2: "07",
        3: "0123469",
        4: "013456789",
        5: "12345678",
        6: "0123456",
        8: "1246",
        9: "0123458",
    }.items()
    for unit in units
)


def split(number: str, nationcode: str | None) -> tuple[str, str]:
    """Calling code and the rest of a number as a gateway writes it.

    Args:
        nationcode: of one that does not begin with a plus or 00; None: it begins with its own.
    """
    written = number.strip()
    digits = bare(written)
    if digits == written and nationcode is not None:
        return nationcode, digits
    length = _code_length(digits[:2])
    return digits[:length], digits[length:]


def _code_length(begin: str) -> int:
    """How many digits the calling code has of a number whose first two these are."""
    return 1 if begin[:1] in _ONE_DIGIT else 2 if begin in _TWO_DIGITS else 3


def split_all(
    numbers: Sequence[str], nationcode: str | None
) -> tuple[Sequence[str], Sequence[str]]:
    """The same of numbers without blanks around them: calling codes, and the rest of each."""
    lines = "\n".join(["", *numbers])
    if nationcode is not None and "\n+" not in lines and "\n00" not in lines:
        return [nationcode] * len(numbers), numbers
    if lines.count("\n+") == len(numbers) == lines.count("\n"):  # each has its plus
        lengths = {_code_length(begin) for begin in {number[1:3] for number in numbers}}
        if len(lengths) == 1:
            end = 1 + lengths.pop()
            return [number[1:end] for number in numbers], [number[end:] for number in numbers]
    pairs = [split(number, nationcode) for number in numbers]
    return [code for code, _ in pairs], [rest for _, rest in pairs]


_GROUPED: Final = re.compile(r"\+?[0-9]+(?:[ -][0-9]+)+")


def ungrouped(number: str) -> str:
    """A number without the blanks and hyphens between its groups of digits, one between two.

    One that is written in any other way stays as it is: who knows whether a "(0)" is dialled?
    """
    return number.replace(" ", "").replace("-", "") if _GROUPED.fullmatch(number) else number


def bare(number: str) -> str:
    """A number without the plus or 00 that says that its calling code follows."""
    if number.startswith("+"):
        return number[1:]
    return number.removeprefix("00")


def calling_code(nationcode: str) -> str:
    """A calling code without the plus and zeros in front of it; one that is nothing else stays.

    No calling code begins with a zero (ITU-T E.164).
    """
    return nationcode.removeprefix("+").lstrip("0") or nationcode


def is_number(digits: str, nationcode: str, mobile: str) -> bool:
    """Whether a record is of a number.

    Args:
        digits: of the number, its calling code in front.
    """
    code, rest = calling_code(nationcode), bare(mobile)
    return code + rest == digits or (rest == digits and digits.startswith(code))


def spellings(digits: str, nationcode: str) -> list[str]:
    """What `mobile` may be in a record of a number, of which the record has this calling code."""
    rest = digits.removeprefix(nationcode)
    return [sign + number for number in (rest, digits) for sign in ("", "+", "00")]


def may_be(digits: str, nationcode: str, mobile: str) -> bool:
    """Whether a record is of a number, of which nobody knows if its calling code is in front."""
    code, rest = calling_code(nationcode), bare(mobile)
    return digits in (rest, rest.removeprefix(code), code + rest)


def e164(nationcode: str, mobile: str) -> str:
    """A record's number as a whole, behind a plus: a number that it is found by.

    What stands behind a plus or 00 is whole already if it begins with the calling code.
    """
    # Both are rare, and this is asked for every record of a page: no call for the others.
    code = calling_code(nationcode) if nationcode[:1] in _SIGNS else nationcode
    if mobile[:1] in _SIGNS:
        rest = bare(mobile)
        if rest != mobile and rest.startswith(code):
            return f"+{rest}"
        return f"+{code}{rest}"
    return f"+{code}{mobile}"


_SIGNS: Final = frozenset("+0")


def ending(nationcode: str, mobile: str) -> str:
    """The last `ENDING_DIGITS` of a record's number: equal for all ways to write it.

    Those of a shorter one are as they are written; nobody looks for it by them. So whatever stands
    in front of `nationcode` is in none that is looked for.
    """
    return (nationcode + bare(mobile))[-ENDING_DIGITS:]


_SIGN_CHARS: Final = 2  # of 00, behind which a number may stand that is short


class Numbered(Protocol):
    """Whatever has a number as a record has it."""

    nationcode: str
    mobile: str


def endings(records: Iterable[Numbered]) -> list[str]:
    """`ending` of the numbers of many: most have it at the end of `mobile`."""
    return [
        mobile[-ENDING_DIGITS:]
        if len(mobile := record.mobile) >= ENDING_DIGITS + _SIGN_CHARS
        else ending(record.nationcode, mobile)
        for record in records
    ]
