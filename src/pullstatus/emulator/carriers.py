"""What carriers report: the documented receipt codes, and made-up records that carry them.

Pure: chance and clock are passed in. The made-up numbers are the placeholder of the documented
examples (13800000...) and those that the United States and the United Kingdom keep for films.

Source of the codes: Tencent Cloud SMS, "SMS status codes"; protocol.md section 15. They are opaque
and new ones appear at any time, so any text may stand for one; this is only a choice to draw from.
"""

from __future__ import annotations

import random
import string
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec

from pullstatus.records import UTC8, DeliveryStatus, Reply

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
]

DELIVERED: Final = "DELIVRD"

# Group -> what it means, and its codes. One code has a blank, so they are split at commas.
_CATALOGUE: Final = {
    "number": (
        "number does not exist",
        (
            "MK:0001,MK:0000,MK:0012,MK:0013,MK00001,MI:0010,XL:169,TA:169,ERR_NUM,ERR_NUM_006"
            ",1,61,67,72,101"
        ),
    ),
    "off": (
        "suspended or switched off",
        (
            "UNDELIV,UNDELIVRD,MI:0013,MI:0024,MI:0029,IC:0001,MK:0004,MK:0011,MK:0024,MK:0090"
            ",MN:0041,IB:0064,5,20,36,45,50,56,98,99,182,4,51,53,54,-37,UNDELIV_001,UNDELIV_601"
            ",UNDELIV_602,UNDELIV_640,EXPIRED_601,EXPIRED_640"
        ),
    ),
    "unreachable": (
        "out of reach",
        "MK:0010,MK:0008,MK:0009,MK:0029,MN:0059,MC:0055,15,55,64,70,86,88,89",
    ),
    "expired": (
        "no answer in time",
        "EXPIRED,MI00000,MI:0056,MK:0065,IA:0054,DA:0054,EXPIRED_010,EXPIRED_619,EXPIRED_999",
    ),
    "handset": (
        "handset full, faulty or without SMS",
        "MB:1031,MK:0005,MK:0015,MK:0017,MK:0019,MI:0012,27,31,43,-43,44,52,79,118",
    ),
    "blacklist": (
        "on a blacklist, or unsubscribed",
        (
            "MOBILE BLACK,MX:0012,TD:0001,TD:19,BWLIST,HD:19,MB:1077,DB:0141,DB:0144,DB:0164"
            ",TUIDING,HIGRISK,TC:0001,W-BLACK,69"
        ),
    ),
    "frequency": ("too many to this number", "MX:0003,TE:0003,MB:1026,MB:1042"),
    "rejected": (
        "refused for its content",
        (
            "REJECTD,-106,TE:0014,TD:0004,MN:0017,MI:0052,MK:0003,TC:0007,LT:0002,75,REJECTD_006"
            ",REJECTD_706,EXPIRED_615"
        ),
    ),
    "billing": (
        "subscription or billing at the carrier",
        "ID:0012,DB:0106,13,18,19,24,29,93,95,106",
    ),
    "routing": ("could not be routed", "NOROUTE,TE:0002,TD:18,MX:0002"),
    "unknown": (
        "unknown error at the carrier",
        "UNKNOWN,MC:0001,MK:0036,MK:0084,MK:0088,MI:0090,MI:0099",
    ),
    "carrier": (
        "internal error at the carrier",
        (
            "MI:0002,MI:0008,MI:0022,MI:0030,MI:0045,MI:0081,MN:0009,MN:0019,MN:0053,MK:0006"
            ",MK:0020,MK:0045,MB:0088,MB:1078,MA:0001,MA:0054,IC:0015,IA:0051,IB:0008,IB:0255"
            ",ID:0013,ID:0070,DB:0010,DB:0505,CA:0054,BEYONDN,-1,-74,2,3,8,9,11,14,17,255"
            ",UNDELIV_870,EXPIRED_612,EXPIRED_614"
        ),
    ),
}

GROUPS: Final = tuple(_CATALOGUE)
"""Why an SMS may fail: the names that a scenario uses for whole groups of codes."""

_CODES: Final = {group: tuple(codes.split(",")) for group, (_, codes) in _CATALOGUE.items()}
_DESCRIPTIONS: Final = {DELIVERED: "delivered"} | {
    code: _CATALOGUE[group][0] for group, codes in _CODES.items() for code in codes
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
    return _CODES[group]


def description_of(code: str) -> str:
    """What a code means, for people; "" if it is none of ours."""
    return _DESCRIPTIONS.get(code, "")


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
