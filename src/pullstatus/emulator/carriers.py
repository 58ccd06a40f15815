"""What carriers report: the documented receipt codes, and made-up records that carry them.

Pure: chance and clock are passed in. The made-up numbers are the placeholder of the documented
examples (13800000...) and those that the United States and the United Kingdom keep for films.

The codes are opaque and new ones appear at any time, so any text may stand for one; the documented
ones (`records/outcomes.py`) are only a choice to draw from.
"""

from __future__ import annotations

import random
import string
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec

from pullstatus.records import UTC8, DeliveryStatus, Reply
from pullstatus.records.outcomes import DELIVERED, REASONS

__all__ = [
    "DELIVERED",
    "GROUPS",
    "Receipt",
    "description_of",
    "group_codes",
    "made_up_number",
    "make_reply",
    "make_sid",
    "make_status",
    "receipt_of",
]

GROUPS: Final = tuple(REASONS)
"""Why an SMS may fail: the names that a scenario uses for whole groups of codes."""

_DESCRIPTIONS: Final = {DELIVERED: "delivered"} | {
    code: reason.meaning for reason in REASONS.values() for code in reason.codes
}


class Receipt(msgspec.Struct, frozen=True):
    """What a carrier says of one SMS; `code` is the wire's `errmsg`."""

    code: str
    description: str

    @property
    def delivered(self) -> bool:
        """Whether it arrived: only one code says so."""
        return self.code == DELIVERED


def group_codes(group: str) -> Sequence[str]:
    """The codes of a group; the first one is its commonest."""
    return REASONS[group].codes


def description_of(code: str) -> str:
    """What a code means, for people; "" if it is none of ours."""
    return _DESCRIPTIONS.get(code, "")


def receipt_of(code: str, description: str | None = None) -> Receipt:
    """What a carrier says with a code; None: beside it stands what it means."""
    return Receipt(code, description_of(code) if description is None else description)


def make_sid(chance: random.Random, now_s: int) -> str:
    """A `sid` in the documented shape: "8:", 19 characters of base 62, the day in UTC+8."""
    unique = "".join(chance.choices(string.ascii_letters + string.digits, k=19))
    return f"8:{unique}{datetime.fromtimestamp(now_s, UTC8):%Y%m%d}"


def make_status(
    receipt: Receipt, nationcode: str, mobile: str, sid: str, now_s: int, ext: str = ""
) -> DeliveryStatus:
    """The delivery status of an SMS whose receipt came now."""
    return DeliveryStatus(
        user_receive_time=datetime.fromtimestamp(now_s, UTC8).strftime("%Y-%m-%d %H:%M:%S"),
        nationcode=nationcode,
        mobile=mobile,
        report_status="SUCCESS" if receipt.delivered else "FAIL",
        errmsg=receipt.code,
        description=receipt.description,
        sid=sid,
        ext=ext,
    )


def make_reply(
    text: str, nationcode: str, mobile: str, sign: str, now_s: int, extend: str = ""
) -> Reply:
    """A reply that was written now."""
    return Reply(nationcode, mobile, text, sign, now_s, extend)


def made_up_number(chance: random.Random) -> tuple[str, str]:
    """Nationcode and mobile of nobody."""
    country = chance.random()
    if country < 0.6:
        return "86", f"13800000{chance.randrange(1000):03}"
    if country < 0.8:
        return "1", f"20255501{chance.randrange(100):02}"
    return "44", f"7700900{chance.randrange(1000):03}"
