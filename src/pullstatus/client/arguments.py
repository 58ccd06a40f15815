"""What a caller may give a client: refused here, before anything is sent.

Arguments are `object`s: not every caller has a type checker.
"""

from __future__ import annotations

import math
from typing import Final
from urllib.parse import SplitResult, urlsplit

from pullstatus import limits
from pullstatus.client.errors import InvalidArgument
from pullstatus.records import Kind
from pullstatus.wire.repeats import KEY

PAUSE_S_MIN: Final = 0.01
"""Seconds of a pause at least: without one a client would do nothing but ask."""

PAUSE_S_MAX: Final = 3600.0
"""Seconds of a pause at most; a follower that looks up more seldom is a job for a timer."""


def check_base_url(base_url: object) -> str:
    """The address without a slash at its end.

    Raises:
        InvalidArgument: it is no http or https address.
    """
    wrong = "base_url must be like https://yun.tim.qq.com or http://127.0.0.1:8080"
    if not isinstance(base_url, str):
        raise InvalidArgument(wrong)
    try:
        parts = split_address(base_url)
    except ValueError as error:
        raise InvalidArgument(f"{wrong}; this one has {error}") from error
    if parts.scheme not in ("http", "https"):
        raise InvalidArgument(wrong)
    if not {"?", "#"}.isdisjoint(base_url):  # an empty query counts: our paths would be in it
        raise InvalidArgument(f"{wrong}; this one has a query, or a fragment")
    if "@" in parts.netloc:
        raise InvalidArgument(
            "base_url has a user or password in it, which would come to stand in logs and state"
            " files; the service asks for neither"
        )
    return base_url.rstrip("/")


def split_address(address: str) -> SplitResult:
    """The parts of an address that has a host.

    Raises:
        ValueError: a bracket is not closed, a port is none, a blank is in it: what `urlsplit`
            refuses, and what it would let pass or drop. It says what the address has, and nothing
            of a password in it.
    """
    odd = next((c for c in address if c.isspace() or not c.isprintable()), None)
    if odd is not None:
        raise ValueError(f"a character that no address has, U+{ord(odd):04X}")
    try:
        parts = urlsplit(address)
    except ValueError:
        raise ValueError("a host that is none") from None
    if not parts.hostname:
        raise ValueError("no host")
    try:
        _ = parts.port
    except ValueError:
        raise ValueError("a port that is no number up to 65535") from None
    return parts


def check_appkey(appkey: object, name: str = "appkey") -> None:
    """Refuse a key that was copied with something around it (InvalidArgument)."""
    if not isinstance(appkey, str):
        raise InvalidArgument(f"{name} must be a str")
    if not appkey or appkey.strip() != appkey:
        raise InvalidArgument(
            f"{name} has a blank or line end around it" if appkey else f"{name} is empty"
        )
    if not appkey.isprintable():
        raise InvalidArgument(f"{name} has control characters in it")


def check_kind(kind: object) -> Kind:
    """The kind itself, of 0 or 1 too (InvalidArgument)."""
    try:
        return Kind(kind)  # type: ignore[arg-type]  # it says so if it is none
    except ValueError as error:
        raise InvalidArgument("kind must be Kind.DELIVERY_STATUS or Kind.REPLY") from error


def check_sdkappid(sdkappid: object) -> int:
    """The number of an application, of a text of digits too: an environment has no other.

    Raises:
        InvalidArgument: it is none.
    """
    if isinstance(sdkappid, str):
        digits = sdkappid.strip()
        if not (digits.isascii() and digits.isdigit()) or len(digits) > limits.INTEGER_DIGITS_MAX:
            raise InvalidArgument("sdkappid must be an int, or its digits")
        sdkappid = int(digits)
    return check_integer("sdkappid", sdkappid, limits.SDKAPPID_MAX)


def check_seconds(name: str, value: object, value_min: float, value_max: float | None) -> None:
    """Refuse what is no number of seconds within bounds; None: there is no upper one."""
    upper = math.inf if value_max is None else value_max
    # Written so that NaN is refused, too.
    if (
        not isinstance(value, int | float)
        or isinstance(value, bool)
        or not (value_min <= value <= upper)
    ):
        bounds = f"{value_min:g} or more" if value_max is None else f"{value_min:g} to {upper:g}"
        raise InvalidArgument(f"{name} must be a number of seconds, {bounds}")


def check_pauses(name: str, pauses_s: object) -> tuple[float, float]:
    """The first pause and the longest, in seconds (InvalidArgument)."""
    if not isinstance(pauses_s, tuple | list) or len(pauses_s) != 2:
        raise InvalidArgument(
            f"{name} must be two numbers of seconds: the first pause, the longest"
        )
    for pause_s in pauses_s:
        check_seconds(name, pause_s, PAUSE_S_MIN, PAUSE_S_MAX)
    first_s, max_s = pauses_s
    if first_s > max_s:
        raise InvalidArgument(f"{name}: the first pause is longer than the longest")
    return first_s, max_s


def check_integer(
    name: str, value: object, value_max: int | None = None, *, value_min: int = 1
) -> int:
    """An integer within bounds itself (InvalidArgument); None: there is no upper one."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidArgument(f"{name} must be an int, not a {type(value).__name__}")
    if value < value_min or (value_max is not None and value > value_max):
        bounds = f"{value_min} or more" if value_max is None else f"from {value_min} to {value_max}"
        raise InvalidArgument(f"{name} must be {bounds}")
    return value


def check_max(count_max: object) -> None:
    """Refuse what the service would refuse, before anything is sent (InvalidArgument)."""
    check_integer("max", count_max, limits.PULL_COUNT_MAX)


def check_long_poll(long_poll_s: object) -> None:
    """Refuse seconds for which no service would hold a pull (InvalidArgument)."""
    check_integer("long_poll_s", long_poll_s, limits.PULL_WAIT_S_MAX, value_min=0)


def check_key(key: object) -> str:
    """A key itself, if it is one (InvalidArgument)."""
    if not isinstance(key, str) or KEY.fullmatch(key) is None:
        raise InvalidArgument(
            f"key must be 1 to {limits.IDEMPOTENCY_KEY_CHARS_MAX} visible ASCII characters"
        )
    return key
