"""What the code of a delivery status means: delivered, or which class of failure counts it.

The table has the documented codes, a row for each reason. They are opaque and new ones appear at
any time, so nothing is checked against it, and each code that is not there has a class, too.

What decides is `report_status`, which is what the record's receiver goes by. The code only tells
why: a failure with the code of success is one whose reason nobody knows.

Source: Tencent Cloud SMS, "SMS status codes"; protocol.md sections 9.2 and 15.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

__all__ = ["CLASSES", "DELIVERED", "REASONS", "Reason", "class_of"]

DELIVERED: Final = "DELIVRD"
"""The only code that says of an SMS that it arrived."""

CARRIER, NUMBER, HANDSET, BLACKLIST, FREQUENCY = CLASSES = range(5)
"""The classes of failure, as the wire numbers them (`status_fail_0` to `status_fail_4`): of the
carrier, and whatever is unknown; nobody's number; suspended, off or out of reach; unsubscribed or
on a blacklist; too many to one number."""


class Reason(NamedTuple):
    """Why an SMS did not arrive.

    failure  the class that counts it
    meaning  for people
    codes    the documented ones, the commonest first
    """

    failure: int
    meaning: str
    codes: tuple[str, ...]


def _reason(failure: int, meaning: str, *codes: str) -> Reason:
    """Codes are joined by commas, as some have a blank; what is before a star is before each."""
    return Reason(failure, meaning, tuple(code for some in codes for code in _codes(some)))


def _codes(joined: str) -> list[str]:
    prefix, star, rest = joined.rpartition("*")
    return [f"{prefix}{code}" for code in (rest if star else joined).split(",")]


# Two pages contradict each other about MN:0029: nobody's, suspended or off on one, an error inside
# the carrier on the other. It is counted as the first says: that is the page of statuses, and all
# codes of that form that are not in the table are of the handset's side. MI0020 and MI00020, MN0013
# and MN00013, MI:0098 and MN:0098 are one entry of which the pages have two spellings: both stand
# here, in one class.
REASONS: Final[Mapping[str, Reason]] = {
    "number": _reason(
        NUMBER,
        "number does not exist",
        "MK:0001,MK:0000,MK:0012,MK:0013,MK00001,MI:0010,XL:169,TA:169,ERR_NUM,ERR_NUM_006",
        "1,61,67,72,101",
    ),
    "off": _reason(
        HANDSET,
        "suspended or switched off",
        "UNDELIV,UNDELIVRD,002",
        "MN:*0001,0012,0022,0029,0041,0050,0054",
        "MI:*0000,0004,0005,0011,0013,0017,0020,0024,0029,0054,0055,0059,0084",
        "MK:*0004,0011,0024,0075,0090",
        "MC:0151,IC:0001,IC:0151,IB:0064,MN0013,MN00013",
        "5,20,36,45,50,56,98,99,182,4,51,53,54,-37,10,12,105,124,213,219",
        "UNDELIV_*001,601,602,613,614,619,620,627,634,636,640,660,680,701,702,705,711,718,726,771",
        "UNDELIV_*801,802,814,815,869,880",
        "EXPIRED_*601,602,640,660,702,760",
    ),
    "unreachable": _reason(
        HANDSET,
        "out of reach",
        "MK:0010,MK:0008,MK:0009,MK:0029,MN:0059,MC:0055,MC:0055_000,MC:0055_006",
        "15,55,64,70,86,88,89",
    ),
    "expired": _reason(
        HANDSET,
        "no answer in time",
        "EXPIRED,MI00000,MI:0056,MK:0065,IA:0054,DA:0054,EXPIRED_010,EXPIRED_619,EXPIRED_999",
    ),
    "handset": _reason(
        HANDSET,
        "handset full, faulty or without SMS",
        "MB:1031,MK:0005,MK:0015,MK:0017,MK:0019,MK00011,MI:0012,MI0020,MI00020,MI00022",
        "27,31,43,-43,44,52,79,118",
    ),
    "blacklist": _reason(
        BLACKLIST,
        "on a blacklist, or unsubscribed",
        "MOBILE BLACK,MX:0012,TD:0001,TD:19,BWLIST,BWLIST _006,HD:19,MB:1077,DB:0141,DB:0144",
        "DB00144,DB:0164,TUIDING,HIGRISK,TC:0001,W-BLACK,69",
    ),
    "frequency": _reason(FREQUENCY, "too many to this number", "MX:0003,TE:0003,MB:1026,MB:1042"),
    "rejected": _reason(
        CARRIER,
        "refused for its content",
        "REJECTD,-106,TE:0014,TD:0004,MN:0017,MI:0052,MK:0003,TC:0007,LT:0002,75",
        "REJECTD_006,REJECTD_706,EXPIRED_615",
    ),
    "billing": _reason(
        CARRIER,
        "subscription or billing at the carrier",
        "ID:0012,DB:0106,13,18,19,24,29,93,95,106",
    ),
    "routing": _reason(CARRIER, "could not be routed", "NOROUTE,TE:0002,TD:18,MX:0002"),
    "unknown": _reason(
        CARRIER,
        "unknown error at the carrier",
        "UNKNOWN,MC:0001,MK:0036,MK:0084,MK:0088,MI:0090,MI:0099,EXPIRED_001",
        "UNDELIV_*612,615,713,714,765,899,999",
    ),
    "carrier": _reason(
        CARRIER,
        "internal error at the carrier",
        "MI:*0002,0008,0022,0023,0030,0036,0038,0041,0045,0048,0057,0063,0064,0081,0089,0098",
        "MN:*0009,0019,0020,0052,0053,0055,0075,0098",
        "MK:*0006,0020,0021,0022,0023,0041,0045,0048,0051,0053,0055,0056,0057,0063,0066,0068",
        "MI00036,MN00001,MC00151,MB:0088,MB:1078,MA:0001,MA:0022,MA:0051,MA:0054,MA:0073,IC:0015",
        "IC:0055,IA:0051,IA:0073,IB:0008,IB:0009,IB:0013,IB:0255,ID:0013,ID:0070,DB:0010,DB:0107",
        "DB:0505,CA:0054,BEYONDN",
        "-1,-74,2,3,8,9,11,14,17,21,22,23,32,40,46,48,57,59,63,73,90,92,100,103,104,110,116,117",
        "148,164,255",
        "UNDELIV_870,EXPIRED_612,EXPIRED_613,EXPIRED_614,EXPIRED_617,EXPIRED_618",
    ),
}
"""Name of a reason -> what it is. Beside the emulator's scenarios nothing goes by the names."""

_NOT_IN_THE_TABLE: Final = re.compile(r"M[NKI]:")
"""Of China Mobile's message centre, about its try to reach the handset: all but some errors of its
own, which are in the table."""

# Pages write a code with a blank in it and without: BWLIST _006, TD: 0004.
_CLASS_OF: Final = {
    code.replace(" ", ""): reason.failure for reason in REASONS.values() for code in reason.codes
}


def class_of(code: str, report_status: str) -> int | None:
    """The class of failure that counts a delivery status; None: it was delivered.

    Args:
        code: the record's `errmsg`, any text.
        report_status: the record's, which decides whether it was delivered.
    """
    if report_status == "SUCCESS":
        return None
    code = code.replace(" ", "")
    known = _CLASS_OF.get(code)
    if known is not None:
        return known
    return HANDSET if _NOT_IN_THE_TABLE.match(code) else CARRIER
